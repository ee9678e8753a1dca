//! The journal as everybody but the core thread sees it: what is durable, what can be read, what can be let go.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use replica::recovery::Place;
use types::Sequence;
use wire::journal::{Identity, LogIndex};

use super::JournalError;
use super::files::Folder;
use super::preparer::Recycler;
use super::reader::JournalReader;
use crate::replay::{JournalSource, ReplayError};

/// A segment that was begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Where the log stood when it began.
    pub(super) previous: Place,
}

/// What the core thread tells everybody else.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) folder: Folder,
    pub(super) identity: Identity,
    pub(super) segment_bytes: u64,
    /// The segments that are kept; the last one is written to.
    pub(super) segments: Mutex<VecDeque<Segment>>,
    /// The commands that the operator quarantined before the node started.
    pub(super) quarantined: BTreeSet<Sequence>,
    durable_index: AtomicU64,
    durable_sequence: AtomicU64,
    failed: AtomicBool,
    full: AtomicBool,
    stopping: AtomicBool,
}

/// Whether there is room for what would be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Enough,
    /// The next segment's file is being made, and what is left of this one may not be enough.
    Coming,
    /// The disk is full: nothing should be taken until there is room.
    DiskFull,
    /// A write or sync failed: nothing is ever written again.
    DiskFailed,
}

impl Shared {
    pub(super) fn new(folder: Folder, identity: Identity, segment_bytes: u64) -> Self {
        Self {
            folder,
            identity,
            segment_bytes,
            segments: Mutex::default(),
            quarantined: BTreeSet::new(),
            durable_index: AtomicU64::new(0),
            durable_sequence: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            full: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn segments(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_durable(&self, place: Place) {
        self.durable_index.store(place.index.0, Ordering::Release);
        self.durable_sequence.store(place.sequence.0, Ordering::Release);
    }

    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Release);
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Reads the journal while it is written, and lets go of what is no longer needed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JournalHandle {
    shared: Arc<Shared>,
    recycler: Recycler,
}

impl JournalHandle {
    pub(super) fn new(shared: Arc<Shared>, recycler: Recycler) -> Self {
        Self { shared, recycler }
    }

    /// Whose journal it is.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Bytes of its segments.
    pub fn disk_bytes(&self) -> u64 {
        self.shared.segments().len() as u64 * self.shared.segment_bytes
    }

    /// The last sequence that is durable (0: none).
    pub fn durable_sequence(&self) -> Sequence {
        Sequence(self.shared.durable_sequence.load(Ordering::Acquire))
    }

    /// Whether the journal can go on.
    pub fn room(&self) -> Room {
        if self.shared.has_failed() {
            Room::DiskFailed
        } else if self.shared.is_full() {
            Room::DiskFull
        } else {
            Room::Enough
        }
    }

    /// Ends the wait for room on a full disk, so that the node can stop.
    pub fn give_up_waiting(&self) {
        self.shared.stop();
    }

    /// The oldest sequence that is kept; 1 if nothing was retired.
    pub fn first(&self) -> Sequence {
        let segments = self.shared.segments();
        segments
            .front()
            .map_or(Sequence(1), |segment| segment.previous.sequence.next())
    }

    /// The last sequence in segments that are written no more (0: none).
    pub fn closed_through(&self) -> Sequence {
        let segments = self.shared.segments();
        segments
            .back()
            .map(|segment| segment.previous.sequence)
            .unwrap_or_default()
    }

    /// Bytes of the closed segments that hold anything behind `after`.
    pub fn closed_bytes_behind(&self, after: Sequence) -> u64 {
        let segments = self.shared.segments();
        // Where a segment ends is where the next one begins; the last one is not closed.
        let closed = segments
            .iter()
            .skip(1)
            .filter(|next| next.previous.sequence > after)
            .count();
        closed as u64 * self.shared.segment_bytes
    }

    /// Lets go of the segments that hold nothing behind `through`, and no entry behind `index` either: that of a term's
    /// beginning has no sequence, and who goes on from `index` needs it. A reader that is still in one of them gets an
    /// error.
    pub fn retire(&self, through: Sequence, index: LogIndex) {
        let mut segments = self.shared.segments();
        let covered = |next: &Segment| next.previous.sequence <= through && next.previous.index <= index;
        while segments.get(1).is_some_and(covered) {
            if let Some(retired) = segments.pop_front() {
                self.recycler.recycle(retired.number);
            }
        }
    }

    /// Reads what is behind `after`, entry by entry. What was retired is refused, also while its file still stands there.
    pub fn reader(&self, after: LogIndex) -> Result<JournalReader, JournalError> {
        let kept = self.shared.segments().front().map(|segment| segment.previous.index);
        if let Some(kept) = kept.filter(|kept| *kept > after) {
            return Err(JournalError::Retired {
                wanted: after.next(),
                first: kept.next(),
            });
        }
        JournalReader::new(self.shared.folder.path(), self.shared.identity, after)
    }
}

impl JournalSource for JournalHandle {
    fn read(
        &self,
        after: LogIndex,
        through: Sequence,
        each: &mut dyn FnMut(&replica::LogEntry) -> Result<bool, ReplayError>,
    ) -> Result<(), ReplayError> {
        let failed = |error: JournalError| ReplayError::Journal(error.to_string());
        let mut reader = self.reader(after).map_err(failed)?;
        let through = through.min(self.durable_sequence());
        while let Some(read) = reader.next(through).map_err(failed)? {
            if !each(&read.entry)? {
                break;
            }
        }
        Ok(())
    }

    fn first(&self) -> Sequence {
        Self::first(self)
    }

    fn closed_through(&self) -> Sequence {
        Self::closed_through(self)
    }

    fn closed_bytes_behind(&self, after: Sequence) -> u64 {
        Self::closed_bytes_behind(self, after)
    }

    fn retire(&self, through: Sequence, index: LogIndex) -> Result<(), ReplayError> {
        Self::retire(self, through, index);
        Ok(())
    }

    fn quarantined(&self) -> BTreeSet<Sequence> {
        // Read once at the start of the node; only a stopped node's can change.
        self.shared.quarantined.clone()
    }
}
