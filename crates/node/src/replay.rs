//! Replays of the journal: to make snapshots, and to make again what the event log lacks.
//!
//! Each replay checks itself against the live engine: the headers of batches carry the live hash, and a replay that comes
//! to another one stops at once.

use std::collections::BTreeSet;

use replica::{Applied, Applier, LogEntry, StopReason};
use types::{AppliedBatch, Command, Event, Sequence, StateMachine};
use wire::journal::{Chain, LogIndex, Term};
use wire::membership::Membership;
use wire::snapshot::SnapshotInfo;

use crate::snapshots::{SnapshotFileError, SnapshotFolder};

/// A state machine that a node can run.
pub trait Machine: StateMachine<Command = Command, Event = Event> + Default + Send + 'static {}

impl<M: StateMachine<Command = Command, Event = Event> + Default + Send + 'static> Machine for M {}

/// The journal, read while it is written.
pub trait JournalSource: Send + Sync + 'static {
    /// Hands over the committed entries behind `after` one by one, up to the batch that holds `through`, or until
    /// `each` says false.
    fn read(
        &self,
        after: LogIndex,
        through: Sequence,
        each: &mut dyn FnMut(&LogEntry) -> Result<bool, ReplayError>,
    ) -> Result<(), ReplayError>;

    /// Hands over all committed entries behind `after`, until `each` says false.
    fn read_committed(
        &self,
        after: LogIndex,
        each: &mut dyn FnMut(&LogEntry) -> Result<bool, ReplayError>,
    ) -> Result<(), ReplayError>;

    /// The oldest sequence that it still holds; 1 if nothing was retired.
    fn first(&self) -> Sequence;

    /// The last sequence that lies in a segment that is written no more (0: none).
    fn closed_through(&self) -> Sequence;

    /// Bytes of the closed segments that hold anything behind `after`.
    fn closed_bytes_behind(&self, after: Sequence) -> u64;

    /// Lets go of the segments that hold nothing behind `through`, and no entry behind `index` either: that of a term's
    /// beginning has no sequence.
    fn retire(&self, through: Sequence, index: LogIndex) -> Result<(), ReplayError>;

    /// The commands that the operator quarantined.
    fn quarantined(&self) -> BTreeSet<Sequence>;
}

/// Why a replay can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The journal could not be read.
    #[error("replay the journal: {0}")]
    Journal(String),
    /// The snapshot that it would start from can't be used.
    #[error("replay the journal: {0}")]
    Snapshot(#[from] SnapshotFileError),
    /// An entry can't be applied, or the replayed state is not the live one.
    #[error("replay the journal: {0}")]
    Stopped(StopReason),
    /// The hash that each change kept up to date is not that of the whole state.
    #[error(
        "replay the journal: the state after sequence {sequence} has hash {whole:016x}, but was kept as {kept:016x}"
    )]
    Diverged {
        /// After which command.
        sequence: Sequence,
        /// The hash that each change kept up to date.
        kept: u64,
        /// The hash computed from the whole state.
        whole: u64,
    },
    /// What was made of a batch could not be stored.
    #[error(transparent)]
    Event(#[from] crate::event_log::EventLogWriteError),
}

impl ReplayError {
    /// True if the live state is not what its journal gives.
    pub fn is_divergence(&self) -> bool {
        matches!(
            self,
            Self::Diverged { .. } | Self::Stopped(StopReason::StateDiverged { .. } | StopReason::HashPlace { .. })
        )
    }
}

/// A state machine on its way through the journal.
#[derive(Debug)]
pub struct Replay<M: Machine>(Applier<M>);

impl<M: Machine> Replay<M> {
    /// From the newest usable snapshot that is no newer than `at_most`, or from nothing.
    pub fn start(
        snapshots: &SnapshotFolder,
        at_most: Sequence,
        quarantined: BTreeSet<Sequence>,
    ) -> Result<Self, SnapshotFileError> {
        let (machine, applied, membership) = start_of(snapshots, at_most)?;
        let applier = Applier::new(&snapshots.identity, machine, applied, membership, quarantined);
        Ok(Self(applier))
    }

    /// Where it stands.
    pub fn applied(&self) -> Applied {
        self.0.applied()
    }

    /// Who belongs to the group there.
    pub fn membership(&self) -> &Membership {
        self.0.membership()
    }

    /// The state.
    pub fn machine(&self) -> &M {
        self.0.machine()
    }

    /// What a snapshot of the present state says of itself.
    pub fn snapshot_info(&self, folder: &SnapshotFolder) -> SnapshotInfo {
        let applied = self.0.applied();
        SnapshotInfo {
            cluster_id: folder.identity.cluster,
            group: folder.identity.group,
            incarnation: folder.identity.incarnation,
            epoch: applied.epoch,
            last_sequence: applied.sequence,
            sequenced_at: applied.sequenced_at,
            log_index: applied.index.0,
            term: applied.term.0,
            chain: applied.chain.0,
            state_hash: self.machine().state_hash(),
            state_bytes: 0,
            membership_bytes: 0,
            engine_version: self.machine().engine_version(),
        }
    }

    /// Applies the next entry, and gives what came of it if it holds a batch.
    pub fn apply(&mut self, entry: &LogEntry) -> Result<Option<AppliedBatch>, ReplayError> {
        self.0.apply(entry).map_err(ReplayError::Stopped)
    }

    /// Compares the hash that each change kept up to date with that of the whole state.
    pub fn check_whole(&self) -> Result<(), ReplayError> {
        let (kept, whole) = (self.machine().state_hash(), self.machine().recompute_state_hash());
        if kept == whole {
            return Ok(());
        }
        let sequence = self.applied().sequence;
        Err(ReplayError::Diverged { sequence, kept, whole })
    }
}

/// Where a replay begins: the newest usable snapshot that is no newer than `at_most`, or nothing.
pub fn start_of<M: Machine>(
    snapshots: &SnapshotFolder,
    at_most: Sequence,
) -> Result<(M, Applied, Membership), SnapshotFileError> {
    Ok(match snapshots.load_newest::<M>(at_most)? {
        Some(loaded) => (loaded.machine, applied_of(&loaded.info), loaded.membership),
        None => (M::default(), Applied::default(), snapshots.founding()),
    })
}

/// Where a snapshot's state stands.
pub fn applied_of(info: &SnapshotInfo) -> Applied {
    Applied {
        index: LogIndex(info.log_index),
        term: Term(info.term),
        epoch: info.epoch,
        sequence: info.last_sequence,
        sequenced_at: info.sequenced_at,
        chain: Chain(info.chain),
    }
}
