//! A state machine small enough to be right by looking at it, for tests of what goes around one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use replica::{Applied, Applier, LogEntry};
use types::{
    AccountId, AppliedBatch, BatchHeader, Command, EngineVersion, Epoch, Event, GroupId, Incarnation, Position,
    RequestId, Sequence, StateMachine, Timestamp,
};
use wire::batch::BatchEncoder;
use wire::journal::{Identity, LogIndex, NodeId, RecordKind, Term};
use wire::membership::Membership;

use crate::replay::{JournalSource, ReplayError};

/// Remembers how many commands came and what their request ids and stamps add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub count: u64,
    pub sum: u64,
}

impl Tally {
    fn take(&mut self, sequenced_at: Timestamp, request_id: &RequestId) {
        self.count += 1;
        for byte in request_id.as_bytes() {
            self.sum = self.sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
        self.sum = self.sum.wrapping_mul(31).wrapping_add(sequenced_at.0);
    }
}

impl StateMachine for Tally {
    type Command = Command;
    type Event = Event;
    type Snapshot = (u64, u64, String);

    fn apply(&mut self, _: Position, sequenced_at: Timestamp, command: &Command, events: &mut Vec<Event>) {
        self.take(sequenced_at, &command.request_id);
        events.push(Event::ClientOrderIdBurnt {
            account: AccountId(2),
            client_order_id: command.request_id,
        });
    }

    fn apply_quarantined(&mut self, _: Position, _: Timestamp, _: &Command, events: &mut Vec<Event>) {
        events.push(Event::ClockAdvanced);
    }

    fn state_hash(&self) -> u64 {
        self.recompute_state_hash()
    }

    fn recompute_state_hash(&self) -> u64 {
        self.sum.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.count)
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    fn received_at(command: &Command) -> Timestamp {
        command.received_at
    }

    fn clock_command(now: Timestamp) -> Command {
        Command::clock(now)
    }

    fn snapshot(&self) -> Self::Snapshot {
        (self.count, self.sum, "x".repeat(1_000))
    }

    fn restore((count, sum, _): Self::Snapshot, _: EngineVersion) -> Result<Self, String> {
        Ok(Self { count, sum })
    }
}

/// A journal in memory, and the live state machine that it comes from.
#[derive(Debug)]
pub(crate) struct MemoryJournal {
    live: Mutex<Applier<Tally>>,
    entries: Mutex<Vec<LogEntry>>,
    retired: AtomicU64,
}

/// Whose everything in tests is.
pub(crate) fn identity() -> Identity {
    Identity {
        cluster: "test".parse().unwrap(),
        group: GroupId(0),
        incarnation: Incarnation(1),
        node: NodeId(1),
    }
}

impl MemoryJournal {
    pub fn new() -> Self {
        Self {
            live: Mutex::new(Applier::new(
                &identity(),
                Tally::default(),
                Applied::default(),
                Membership::founding(),
                BTreeSet::new(),
            )),
            entries: Mutex::default(),
            retired: AtomicU64::new(0),
        }
    }

    /// Sequences, journals and applies a batch of some commands. Every fifth entry is one without a batch.
    pub fn append(&self, commands: u32) -> Arc<AppliedBatch> {
        let mut live = self.live.lock().unwrap();
        let mut entries = self.entries.lock().unwrap();
        let applied = live.applied();
        if applied.index.0.is_multiple_of(5) {
            let empty = LogEntry {
                kind: RecordKind::Empty,
                index: applied.index.next(),
                term: Term(1),
                chain: applied.chain,
                payload: Bytes::new(),
            };
            live.apply(&empty).unwrap();
            entries.push(empty);
        }
        let mut encoder = BatchEncoder::new();
        for index in 0..commands {
            let mut command = Command::clock(Timestamp(7));
            let request_id = format!("r-{}-{index}", applied.sequence);
            command.request_id = request_id.parse().unwrap();
            encoder.push(&command).unwrap();
        }
        let first_sequence = applied.sequence.next();
        let (_, payload) = encoder.finish(BatchHeader {
            group: identity().group,
            incarnation: identity().incarnation,
            epoch: Epoch(1),
            first_sequence,
            count: commands,
            sequenced_at: Timestamp(first_sequence.0),
            committed_through: applied.sequence,
            committed_at: Timestamp(first_sequence.0),
            hashed_through: applied.sequence,
            state_hash: live.machine().state_hash(),
            ..BatchHeader::default()
        });
        let entry = LogEntry {
            kind: RecordKind::Batch,
            index: live.applied().index.next(),
            term: Term(1),
            chain: applied.chain.behind(Epoch(1), first_sequence, &payload),
            payload: payload.into(),
        };
        let batch = live.apply(&entry).unwrap().unwrap();
        entries.push(entry);
        Arc::new(batch)
    }

    /// The last sequence that was applied.
    pub fn applied(&self) -> Sequence {
        self.live.lock().unwrap().applied().sequence
    }

    /// The live state.
    pub fn machine(&self) -> Tally {
        *self.live.lock().unwrap().machine()
    }

    /// Changes the live state behind the journal's back.
    pub fn corrupt(&self) {
        let mut live = self.live.lock().unwrap();
        let applied = live.applied();
        let machine = Tally {
            sum: live.machine().sum ^ 1,
            ..*live.machine()
        };
        let membership = Membership::founding();
        *live = Applier::new(&identity(), machine, applied, membership, BTreeSet::new());
    }

    /// Up to where it was let go.
    pub fn retired(&self) -> u64 {
        self.retired.load(Ordering::Relaxed)
    }
}

impl JournalSource for MemoryJournal {
    fn read(
        &self,
        after: LogIndex,
        through: Sequence,
        each: &mut dyn FnMut(&LogEntry) -> Result<bool, ReplayError>,
    ) -> Result<(), ReplayError> {
        let entries = self.entries.lock().unwrap().clone();
        let is_retired = |entry: &&LogEntry| {
            let header = wire::batch::decode_header(&entry.payload);
            header.is_ok_and(|header| header.last_sequence() <= Sequence(self.retired()))
        };
        if entries.iter().filter(is_retired).any(|entry| entry.index > after) {
            return Err(ReplayError::Journal("what follows was retired".into()));
        }
        for entry in entries.iter().filter(|entry| entry.index > after) {
            let goes_on = each(entry)?;
            let header = wire::batch::decode_header(&entry.payload);
            if !goes_on || header.is_ok_and(|header| header.last_sequence() >= through) {
                break;
            }
        }
        Ok(())
    }

    fn read_committed(
        &self,
        after: LogIndex,
        each: &mut dyn FnMut(&LogEntry) -> Result<bool, ReplayError>,
    ) -> Result<(), ReplayError> {
        self.read(after, Sequence(u64::MAX), each)
    }

    fn first(&self) -> Sequence {
        Sequence(self.retired() + 1)
    }

    fn closed_through(&self) -> Sequence {
        self.applied()
    }

    fn closed_bytes_behind(&self, after: Sequence) -> u64 {
        self.applied().0 - after.0
    }

    fn retire(&self, through: Sequence, _: LogIndex) -> Result<(), ReplayError> {
        self.retired.store(through.0, Ordering::Relaxed);
        Ok(())
    }

    fn quarantined(&self) -> BTreeSet<Sequence> {
        BTreeSet::new()
    }
}
