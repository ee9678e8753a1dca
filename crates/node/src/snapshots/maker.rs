//! The thread that makes snapshots, and lets go of the journal that they cover.
//!
//! ```text
//!  last snapshot + closed segments ── replay, hashes compared ──> next snapshot ──> retirement
//! ```
//!
//! It runs at idle priority and holds a second state only while it works. It never touches the live engine. A hash that
//! differs ends it: nothing is deleted from then on, so that the evidence stays.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use gateway::handle::History;
use replica::SnapshotPoint;
use types::{Sequence, Timestamp};
use wire::journal::LogIndex;

use super::{SNAPSHOTS_KEPT, SnapshotFolder};
use crate::event_log::EventLog;
use crate::replay::{JournalSource, Machine, Replay, ReplayError};

/// How often it looks whether there is something to do.
const INTERVAL: Duration = Duration::from_secs(1);

/// What it is asked for.
pub enum MakerRequest {
    /// A snapshot, if one is due; it says when it is done.
    IfDue(Sender<()>),
    /// A snapshot of a state at or behind this entry, for a peer.
    ForPeer {
        /// At or behind it.
        at_least: LogIndex,
        /// Told of it; none if there could be none.
        made: Box<dyn FnOnce(Option<SnapshotPoint>) + Send>,
    },
}

/// What others can see of it.
#[derive(Debug, Default)]
pub struct MakerStatus {
    last_sequence: AtomicU64,
    sequenced_at: AtomicU64,
    stop: AtomicBool,
}

impl MakerStatus {
    /// The last sequence that the newest snapshot covers (0: none).
    pub fn last_sequence(&self) -> Sequence {
        Sequence(self.last_sequence.load(Ordering::Relaxed))
    }

    /// The stamp of the last batch that the newest snapshot covers.
    pub fn sequenced_at(&self) -> Timestamp {
        Timestamp(self.sequenced_at.load(Ordering::Relaxed))
    }

    /// Lets a replay that is under way end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Makes snapshots.
pub struct Maker<J> {
    /// Where they go.
    pub snapshots: SnapshotFolder,
    /// What they are made from.
    pub journal: Arc<J>,
    /// What must have passed a part of the journal before that is let go.
    pub events: Arc<EventLog>,
    /// After how much journal the next one is made.
    pub journal_bytes: u64,
    /// Whether it lets go of nothing.
    pub keeps_journal: bool,
    /// Whether the disk is short: then the journal goes, even if the event log can't be written.
    pub pressure: Box<dyn Fn() -> bool + Send>,
    /// The last sequence that the other region has for certain, of a region that is active: what follows on it may have
    /// to be given to that one, or taken back here.
    pub has_elsewhere: Box<dyn Fn() -> Option<Sequence> + Send>,
    /// Where it tells how far it is.
    pub status: Arc<MakerStatus>,
    /// Told of a state that differs, and of the file that says so.
    pub diverged: Box<dyn Fn(&ReplayError) + Send>,
}

impl<J: JournalSource> Maker<J> {
    /// Works until the sender of `requests` is dropped: now and then by itself, and at once if asked to, which it answers
    /// when it is done.
    pub fn run<M: Machine>(self, requests: &Receiver<MakerRequest>) {
        lower_priority();
        loop {
            let mut asked = None;
            let done = match requests.recv_timeout(INTERVAL) {
                Ok(MakerRequest::IfDue(tell)) => {
                    asked = Some(tell);
                    self.work::<M>()
                }
                Ok(MakerRequest::ForPeer { at_least, made }) => {
                    let point = self.make_for_peer::<M>(at_least);
                    made(point.as_ref().ok().cloned().flatten());
                    point.map(|_| ())
                }

                Err(RecvTimeoutError::Timeout) => self.work::<M>(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match done {
                Ok(()) => {}
                Err(error) if error.is_divergence() => {
                    tracing::error!(%error, "the live state differs from a replay of the journal; the node stops");
                    (self.diverged)(&error);
                    return;
                }
                Err(error) => tracing::error!(%error, "no snapshot could be made; the journal is kept"),
            }
            if let Some(asked) = asked {
                // Whoever asked may have stopped waiting.
                let _ = asked.send(());
            }
        }
    }

    /// Makes the next snapshot if it is due, and lets go of what is no longer needed.
    pub fn work<M: Machine>(&self) -> Result<(), ReplayError> {
        let newest = self.newest()?;
        if self.journal.closed_bytes_behind(newest) >= self.journal_bytes && self.events.last() >= newest {
            self.make::<M>()?;
        }
        self.retire()
    }

    fn newest(&self) -> Result<Sequence, ReplayError> {
        let paths = self.snapshots.list()?;
        let header = paths.last().map(|path| self.snapshots.header(path)).transpose();
        let info = header.unwrap_or_default();
        if let Some(info) = &info {
            self.status.last_sequence.store(info.last_sequence.0, Ordering::Relaxed);
            self.status.sequenced_at.store(info.sequenced_at.0, Ordering::Relaxed);
        }
        Ok(info.map(|info| info.last_sequence).unwrap_or_default())
    }

    /// Makes a snapshot of all that is committed by now, if that is at or behind `at_least`. None if it was stopped.
    fn make_for_peer<M: Machine>(&self, at_least: LogIndex) -> Result<Option<SnapshotPoint>, ReplayError> {
        let quarantined = self.journal.quarantined();
        let mut replay = Replay::<M>::start(&self.snapshots, Sequence(u64::MAX), quarantined)?;
        let from = replay.applied();
        self.journal.read_committed(from.index, &mut |entry| {
            replay.apply(entry)?;
            Ok(!self.status.stop.load(Ordering::Relaxed))
        })?;
        let point = SnapshotPoint {
            applied: replay.applied(),
            membership: replay.membership().clone(),
        };
        if point.applied.index < at_least {
            return Ok(None);
        }
        if point.applied.index > from.index {
            self.write(&replay)?;
        }
        Ok(Some(point))
    }

    /// Checks the state and writes it.
    fn write<M: Machine>(&self, replay: &Replay<M>) -> Result<(), ReplayError> {
        replay.check_whole()?;
        let info = replay.snapshot_info(&self.snapshots);
        let info = self
            .snapshots
            .write(info, &replay.machine().snapshot(), replay.membership())?;
        tracing::info!(
            last_sequence = info.last_sequence.0,
            bytes = info.state_bytes,
            "snapshot made"
        );
        self.snapshots.prune((self.has_elsewhere)())?;
        self.newest()?;
        Ok(())
    }

    /// Makes a snapshot of what the closed segments hold, if they hold more than the newest one. False if it was stopped.
    pub fn make<M: Machine>(&self) -> Result<bool, ReplayError> {
        let quarantined = self.journal.quarantined();
        let mut replay = Replay::<M>::start(&self.snapshots, Sequence(u64::MAX), quarantined)?;
        let (from, through) = (replay.applied(), self.journal.closed_through());
        if through <= from.sequence {
            return Ok(false);
        }
        self.journal.read(from.index, through, &mut |entry| {
            replay.apply(entry)?;
            Ok(!self.status.stop.load(Ordering::Relaxed))
        })?;
        if replay.applied().sequence < through {
            return Ok(false);
        }
        self.write(&replay)?;
        Ok(true)
    }

    fn retire(&self) -> Result<(), ReplayError> {
        let elsewhere = (self.has_elsewhere)();
        let kept = self.snapshots.prune(elsewhere)?;
        if self.keeps_journal || kept.len() < SNAPSHOTS_KEPT {
            return Ok(());
        }
        let covered = kept[0].last_sequence;
        if self.journal.first() > covered {
            return Ok(());
        }
        let passed = self.passed(covered).min(self.events.last());
        let passed = elsewhere.map_or(passed, |elsewhere| passed.min(elsewhere));
        self.journal.retire(covered.min(passed), LogIndex(kept[0].log_index))
    }

    /// Up to where the event log can do without the journal.
    fn passed(&self, covered: Sequence) -> Sequence {
        let synced = self.events.sync(covered).unwrap_or_else(|error| {
            tracing::error!(%error, "the event log could not be synced; the journal is kept while there is room");
            Sequence(0)
        });
        if synced < covered && (self.pressure)() {
            tracing::warn!(
                synced = synced.0,
                covered = covered.0,
                "the disk is short: the journal goes, although the event log on disk has not passed it"
            );
            return covered;
        }
        synced
    }
}

/// Keeps the evidence of a state that differs: `run` refuses to start over it.
pub fn keep_evidence(path: &Path, error: &ReplayError) {
    let text = format!(
        "The live state differed from a replay of the journal:\n{error}\n\n\
         The journal and the snapshots are the evidence: copy the whole data folder before anything else. The node does\n\
         not start while this file exists.\n"
    );
    if let Err(error) = write_synced(path, &text) {
        tracing::error!(path = %path.display(), %error, "the evidence could not be written down");
    }
}

/// The file and its name outlive a power loss.
fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The calling thread runs only when nothing else wants to.
fn lower_priority() {
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "the thread's priority could not be lowered");
    }
}
