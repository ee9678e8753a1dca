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
    /// Counts the segments that were begun since the start, so that readers notice.
    begun: AtomicU64,
    durable_sequence: AtomicU64,
    committed_index: AtomicU64,
    committed_sequence: AtomicU64,
    failed: AtomicBool,
    full: AtomicBool,
    stopping: AtomicBool,
}

/// What each of these segments holds of the log ends where this says: where a later one begins, which is before its own end
/// if that drops a part of it. None for the last one.
fn ends(segments: &VecDeque<Segment>) -> impl Iterator<Item = (Segment, Option<Place>)> {
    let mut end: Option<Place> = None;
    let from_the_last = segments.iter().rev().map(|segment| {
        let found = (*segment, end);
        if end.is_none_or(|end| segment.previous.index < end.index) {
            end = Some(segment.previous);
        }
        found
    });
    from_the_last.collect::<Vec<_>>().into_iter().rev()
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
            begun: AtomicU64::new(0),
            durable_sequence: AtomicU64::new(0),
            committed_index: AtomicU64::new(0),
            committed_sequence: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            full: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn segments(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A segment was begun. What stands in it, and what that makes void, counts before any of it can be committed.
    pub(super) fn begin(&self, segment: Segment) {
        self.segments().push_back(segment);
        self.begun.fetch_add(1, Ordering::Release);
    }

    /// A segment was begun with which the log begins anew. Answers with the ones that nobody needs any more.
    pub(super) fn begin_anew(&self, segment: Segment) -> VecDeque<Segment> {
        let old = std::mem::replace(&mut *self.segments(), VecDeque::from([segment]));
        self.begun.fetch_add(1, Ordering::Release);
        old
    }

    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    pub(super) fn set_durable(&self, place: Place) {
        self.durable_sequence.store(place.sequence.0, Ordering::Release);
    }

    /// What is committed stays so: it never goes back.
    pub(super) fn set_committed(&self, index: LogIndex, sequence: Sequence) {
        self.committed_index.fetch_max(index.0, Ordering::Release);
        self.committed_sequence.fetch_max(sequence.0, Ordering::Release);
    }

    pub(super) fn committed_index(&self) -> LogIndex {
        LogIndex(self.committed_index.load(Ordering::Acquire))
    }

    pub(super) fn committed_sequence(&self) -> Sequence {
        Sequence(self.committed_sequence.load(Ordering::Acquire))
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

    /// The last sequence that is known to be committed (0: none). Nobody but consensus reads beyond it.
    pub fn committed_sequence(&self) -> Sequence {
        self.shared.committed_sequence()
    }

    /// Entries up to this index are committed, and with them the commands up to this sequence.
    pub fn set_committed(&self, index: LogIndex, sequence: Sequence) {
        self.shared.set_committed(index, sequence);
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
        let first = segments.iter().map(|segment| segment.previous.sequence.next()).min();
        first.unwrap_or(Sequence(1))
    }

    /// The last committed sequence in segments that are written no more (0: none).
    pub fn closed_through(&self) -> Sequence {
        let segments = self.shared.segments();
        let closed = segments.back().map(|segment| segment.previous.sequence);
        closed.unwrap_or_default().min(self.committed_sequence())
    }

    /// Bytes of the closed segments that hold anything behind `after`, and nothing that is not committed.
    pub fn closed_bytes_behind(&self, after: Sequence) -> u64 {
        let committed = self.committed_sequence();
        let segments = self.shared.segments();
        let closed = ends(&segments)
            .filter_map(|(_, end)| end)
            .filter(|end| end.sequence > after && end.sequence <= committed)
            .count();
        closed as u64 * self.shared.segment_bytes
    }

    /// Lets go of the segments that hold nothing behind `through`, and no entry behind `index` either: that of a term's
    /// beginning has no sequence, and who goes on from `index` needs it. A reader that is still in one of them gets an
    /// error.
    pub fn retire(&self, through: Sequence, index: LogIndex) {
        let mut segments = self.shared.segments();
        let is_covered = |end: Option<Place>| end.is_some_and(|end| end.sequence <= through && end.index <= index);
        let covered = ends(&segments).take_while(|(_, end)| is_covered(*end)).count();
        for retired in segments.drain(..covered) {
            self.recycler.recycle(retired.number);
        }
    }

    /// Reads entry by entry, as far as they are committed, from a place at or before the end of this sequence. Answers with
    /// that place too; none if the sequence behind it was retired.
    pub fn reader_before(&self, sequence: Sequence) -> Result<Option<(JournalReader, Place)>, JournalError> {
        let segments = self.shared.segments();
        let mut begins = segments.iter().rev().map(|segment| segment.previous);
        let place = begins.find(|place| place.sequence <= sequence);
        drop(segments);
        let Some(place) = place else { return Ok(None) };
        Ok(Some((self.reader(place.index)?, place)))
    }

    /// Reads what is behind `after`, entry by entry, as far as it is committed. What was retired is refused, also while its
    /// file still stands there.
    pub fn reader(&self, after: LogIndex) -> Result<JournalReader, JournalError> {
        JournalReader::live(Arc::clone(&self.shared), after)
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
        while let Some(read) = reader.next(through).map_err(failed)? {
            if !each(&read.entry)? {
                break;
            }
        }
        Ok(())
    }

    fn read_committed(
        &self,
        after: LogIndex,
        each: &mut dyn FnMut(&replica::LogEntry) -> Result<bool, ReplayError>,
    ) -> Result<(), ReplayError> {
        let failed = |error: JournalError| ReplayError::Journal(error.to_string());
        let mut reader = self.reader(after).map_err(failed)?;
        while let Some(read) = reader.next_committed().map_err(failed)? {
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
