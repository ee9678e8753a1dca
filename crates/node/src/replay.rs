//! Replays of the journal: to make snapshots, and to make again what the event log lacks.
//!
//! Each replay checks itself against the live engine: the headers of batches carry the live hash, and a replay that comes
//! to another one stops at once.

use std::collections::{BTreeSet, VecDeque};

use types::{
    AppliedBatch, AppliedCommand, BatchHeader, Command, Epoch, Event, Sequence, StateMachine, Timestamp,
    limits::BATCHES_IN_FLIGHT_MAX,
};
use wire::snapshot::SnapshotInfo;

use crate::snapshots::{SnapshotFileError, SnapshotFolder};

/// A state machine that a node can run.
pub trait Machine: StateMachine<Command = Command, Event = Event> + Default + Send + 'static {}

impl<M: StateMachine<Command = Command, Event = Event> + Default + Send + 'static> Machine for M {}

/// A committed batch as it stands in the journal.
#[derive(Clone, Debug)]
pub struct JournalBatch {
    /// What the leader said of it.
    pub header: BatchHeader,
    /// Its commands.
    pub commands: Vec<Command>,
    /// Its index in the replicated log.
    pub log_index: u64,
    /// The term of that index.
    pub term: u64,
    /// The journal's hash chain behind it.
    pub chain: [u8; 32],
}

/// The journal, read while it is written.
pub trait JournalSource: Send + Sync + 'static {
    /// Hands over the committed batches behind `after` up to `through`, in sequence, until `each` says false.
    fn read(
        &self,
        after: Sequence,
        through: Sequence,
        each: &mut dyn FnMut(JournalBatch) -> Result<bool, ReplayError>,
    ) -> Result<(), ReplayError>;

    /// The oldest sequence that it still holds; 1 if nothing was retired.
    fn first(&self) -> Sequence;

    /// The last sequence that lies in a segment that is written no more (0: none).
    fn closed_through(&self) -> Sequence;

    /// Bytes of the closed segments that hold anything behind `after`.
    fn closed_bytes_behind(&self, after: Sequence) -> u64;

    /// Lets go of the segments that hold nothing behind `through`.
    fn retire(&self, through: Sequence) -> Result<(), ReplayError>;

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
    /// A batch does not follow on the one before it.
    #[error("replay the journal: sequence {found} came where {expected} was due")]
    OutOfSequence {
        /// What was due.
        expected: Sequence,
        /// What came.
        found: Sequence,
    },
    /// The replayed state is not the live one.
    #[error(
        "replay the journal: the state after sequence {sequence} has hash {replayed:016x}, but the live one had {live:016x}"
    )]
    Diverged {
        /// After which command.
        sequence: Sequence,
        /// The hash that the batch header says.
        live: u64,
        /// The hash that the replay came to.
        replayed: u64,
    },
    /// What was made of a batch could not be stored.
    #[error("{0}")]
    Event(#[from] crate::event_log::EventLogWriteError),
}

/// A state machine on its way through the journal.
#[derive(Debug)]
pub struct Replay<M> {
    machine: M,
    last: Sequence,
    sequenced_at: Timestamp,
    epoch: Epoch,
    log_index: u64,
    term: u64,
    chain: [u8; 32],
    quarantined: BTreeSet<Sequence>,
    /// The hashes after the last batches, oldest first.
    hashes: VecDeque<(Sequence, u64)>,
}

impl<M: Machine> Replay<M> {
    /// From the newest usable snapshot that is no newer than `at_most`, or from nothing.
    pub fn start(
        snapshots: &SnapshotFolder,
        at_most: Sequence,
        quarantined: BTreeSet<Sequence>,
    ) -> Result<Self, SnapshotFileError> {
        Ok(match snapshots.load_newest::<M>(at_most)? {
            Some((info, machine)) => Self::from_snapshot(&info, machine, quarantined),
            None => Self::from_nothing(quarantined),
        })
    }

    /// From before the first batch.
    pub fn from_nothing(quarantined: BTreeSet<Sequence>) -> Self {
        let machine = M::default();
        Self {
            hashes: VecDeque::from([(Sequence(0), machine.state_hash())]),
            machine,
            last: Sequence(0),
            sequenced_at: Timestamp::default(),
            epoch: Epoch::default(),
            log_index: 0,
            term: 0,
            chain: [0; 32],
            quarantined,
        }
    }

    /// From a snapshot.
    pub fn from_snapshot(info: &SnapshotInfo, machine: M, quarantined: BTreeSet<Sequence>) -> Self {
        Self {
            hashes: VecDeque::from([(info.last_sequence, machine.state_hash())]),
            machine,
            last: info.last_sequence,
            sequenced_at: info.sequenced_at,
            epoch: info.epoch,
            log_index: info.log_index,
            term: info.term,
            chain: info.chain,
            quarantined,
        }
    }

    /// The last sequence that was applied (0: none).
    pub fn last(&self) -> Sequence {
        self.last
    }

    /// The state.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// What a snapshot of the present state says of itself.
    pub fn snapshot_info(&self, folder: &SnapshotFolder) -> SnapshotInfo {
        SnapshotInfo {
            cluster_id: folder.cluster_id,
            group: folder.group,
            incarnation: folder.incarnation,
            epoch: self.epoch,
            last_sequence: self.last,
            sequenced_at: self.sequenced_at,
            log_index: self.log_index,
            term: self.term,
            chain: self.chain,
            state_hash: self.machine.state_hash(),
            state_bytes: 0,
        }
    }

    /// Applies the next batch.
    pub fn apply(&mut self, batch: &JournalBatch) -> Result<AppliedBatch, ReplayError> {
        let header = batch.header;
        let expected = self.last.next();
        if header.first_sequence != expected {
            let found = header.first_sequence;
            return Err(ReplayError::OutOfSequence { expected, found });
        }
        self.check_hash(header.hashed_through, header.state_hash)?;
        let mut events = Vec::new();
        let mut commands = Vec::with_capacity(batch.commands.len());
        for (index, command) in (0..header.count).zip(&batch.commands) {
            let position = header.position(index);
            if self.quarantined.contains(&position.sequence) {
                self.machine
                    .apply_quarantined(position, header.sequenced_at, command, &mut events);
            } else {
                self.machine.apply(position, header.sequenced_at, command, &mut events);
            }
            commands.push(AppliedCommand {
                received_at: M::received_at(command),
                events_end: u32::try_from(events.len()).expect("a batch's events are bounded"),
            });
        }
        self.last = header.last_sequence();
        self.sequenced_at = header.sequenced_at;
        self.epoch = header.epoch;
        self.log_index = batch.log_index;
        self.term = batch.term;
        self.chain = batch.chain;
        self.hashes.push_back((self.last, self.machine.state_hash()));
        if self.hashes.len() > 2 * BATCHES_IN_FLIGHT_MAX {
            self.hashes.pop_front();
        }
        Ok(AppliedBatch {
            header,
            committed_at: None,
            commands,
            events,
        })
    }

    /// Compares the live hash after a sequence with that of this replay, if the sequence is among the last ones.
    fn check_hash(&self, sequence: Sequence, live: u64) -> Result<(), ReplayError> {
        let index = self.hashes.partition_point(|(last, _)| *last < sequence);
        match self.hashes.get(index) {
            Some((last, replayed)) if *last == sequence && *replayed != live => Err(ReplayError::Diverged {
                sequence,
                live,
                replayed: *replayed,
            }),
            _ => Ok(()),
        }
    }

    /// Compares the hash that each change kept up to date with that of the whole state.
    pub fn check_whole(&self) -> Result<(), ReplayError> {
        let (live, replayed) = (self.machine.state_hash(), self.machine.recompute_state_hash());
        if live == replayed {
            return Ok(());
        }
        Err(ReplayError::Diverged {
            sequence: self.last,
            live,
            replayed,
        })
    }
}
