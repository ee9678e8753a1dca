//! What a log's owner keeps on its disk: snapshots, and the records behind them in the order in which they were written.
//! What a loss of power leaves is what was synced and any number of the records behind. (Torn sectors, marks and bit rot are
//! simulated with the files of one group.)

use std::rc::Rc;

use bytes::Bytes;
use replica::{Applied, HardState, LogEntry, Record, SnapshotPoint};
use types::{Epoch, Sequence};
use wire::batch;
use wire::journal::{Chain, LogIndex, NodeId, RecordKind};

use crate::random::Dice;

/// A snapshot with its state.
#[derive(Debug)]
pub(super) struct Stored<S> {
    pub(super) point: SnapshotPoint,
    pub(super) state: S,
}

#[derive(Clone, Debug)]
enum Written {
    Record(Record),
    Truncated(LogIndex),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Store<S> {
    /// By their places, the newest last.
    pub(super) snapshots: Vec<Rc<Stored<S>>>,
    /// Where the records begin, and the vote there.
    begin: Applied,
    begin_state: HardState,
    written: Vec<Written>,
    durable: usize,
}

/// What a start finds.
pub(super) struct Found<S> {
    pub(super) snapshot: Option<Rc<Stored<S>>>,
    /// Entries behind the snapshot.
    pub(super) entries: Vec<LogEntry>,
    pub(super) hard_state: HardState,
    pub(super) committed: LogIndex,
}

/// A batch that is committed.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) epoch: Epoch,
    pub(super) first: Sequence,
    pub(super) last: Sequence,
    pub(super) chain: Chain,
    pub(super) payload: Bytes,
}

impl<S> Store<S> {
    pub(super) fn empty() -> Self {
        Self {
            snapshots: Vec::new(),
            begin: Applied::default(),
            begin_state: HardState::default(),
            written: Vec::new(),
            durable: 0,
        }
    }

    /// One that begins behind a snapshot.
    pub(super) fn behind(stored: Rc<Stored<S>>, hard_state: HardState) -> Self {
        Self {
            begin: stored.point.applied,
            begin_state: hard_state,
            snapshots: vec![stored],
            ..Self::empty()
        }
    }

    pub(super) fn append(&mut self, records: Vec<Record>) {
        self.written.extend(records.into_iter().map(Written::Record));
    }

    /// The end that was never committed is dropped, durably.
    pub(super) fn truncate(&mut self, after: LogIndex) {
        self.written.push(Written::Truncated(after));
        self.durable = self.written.len();
    }

    /// Puts a snapshot in the place of what is in front of it.
    pub(super) fn compact(&mut self, stored: Rc<Stored<S>>, hard_state: HardState) {
        let index = stored.point.applied.index;
        let behind: Vec<Record> = {
            let (records, ..) = self.records();
            records
                .into_iter()
                .filter(|record| record.index > index)
                .cloned()
                .collect()
        };
        *self = Self::behind(stored, hard_state);
        self.append(behind);
        self.sync_all();
    }

    /// What a sync that is begun now covers.
    pub(super) fn written(&self) -> usize {
        self.written.len()
    }

    pub(super) fn synced(&mut self, written: usize) {
        self.durable = self.durable.max(written);
    }

    /// A process that begins finds what the one before had written.
    pub(super) fn sync_all(&mut self) {
        self.durable = self.written.len();
    }

    /// True if something that was not synced is gone.
    pub(super) fn lose_power(&mut self, dice: &mut Dice) -> bool {
        let unsynced = (self.written.len() - self.durable) as u64;
        let kept = usize::try_from(dice.below(unsynced + 1)).expect("it is an index");
        self.written.truncate(self.durable + kept);
        self.durable = self.written.len();
        (kept as u64) < unsynced
    }

    fn records(&self) -> (Vec<&Record>, HardState, LogIndex) {
        let mut entries: Vec<&Record> = Vec::new();
        let mut hard_state = self.begin_state;
        let mut committed = self.begin.index;
        for written in &self.written {
            match written {
                Written::Truncated(after) => {
                    while entries.last().is_some_and(|last| last.index > *after) {
                        entries.pop();
                    }
                }
                Written::Record(record) if record.kind == RecordKind::HardState => {
                    let word = |at: usize| {
                        let bytes = record.payload.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
                        bytes.map_or(0, u64::from_le_bytes)
                    };
                    hard_state = HardState {
                        term: record.term,
                        vote: NodeId(word(0)),
                    };
                    committed = committed.max(LogIndex(word(8)));
                }
                Written::Record(record) => {
                    assert!(
                        entries.last().is_none_or(|last| last.index.next() == record.index),
                        "the journal has no gaps"
                    );
                    entries.push(record);
                }
            }
        }
        (entries, hard_state, committed)
    }

    /// What a start goes on from.
    pub(super) fn open(&self) -> Found<S> {
        let snapshot = self.snapshots.last().cloned();
        let place = snapshot.as_ref().map(|stored| stored.point.applied).unwrap_or_default();
        let (records, hard_state, committed) = self.records();
        let behind = records.into_iter().filter(|record| record.index > place.index);
        Found {
            snapshot,
            entries: behind.map(entry_of).collect(),
            hard_state,
            committed: committed.max(place.index),
        }
    }

    /// Where the records begin.
    pub(super) fn begin(&self) -> Applied {
        self.begin
    }

    /// All batches that there are up to an entry, without copies.
    pub(super) fn batches(&self, through: LogIndex) -> Vec<Batch> {
        let (records, ..) = self.records();
        let mut batches: Vec<Batch> = Vec::new();
        for record in records.into_iter().filter(|record| record.index <= through) {
            let last = batches.last().map_or(self.begin.sequence, |batch| batch.last);
            if record.kind == RecordKind::Batch && record.first_sequence == last.next() {
                batches.push(batch_of(record));
            }
        }
        batches
    }

    /// Every batch that was written and not dropped, committed or not.
    pub(super) fn all_batches(&self) -> Vec<Batch> {
        self.batches(LogIndex(u64::MAX))
    }

    /// Keeps the newest snapshots and the first.
    pub(super) fn keep_snapshot(&mut self, stored: Rc<Stored<S>>, most: usize) {
        self.snapshots.push(stored);
        if self.snapshots.len() > most {
            self.snapshots.remove(1);
        }
    }
}

fn entry_of(record: &Record) -> LogEntry {
    LogEntry {
        kind: record.kind,
        index: record.index,
        term: record.term,
        chain: record.chain,
        payload: record.payload.clone(),
    }
}

/// The batch of a record.
pub(super) fn batch_of(record: &Record) -> Batch {
    let header = batch::decode_header(&record.payload).expect("it was written as a batch");
    Batch {
        epoch: header.epoch,
        first: header.first_sequence,
        last: header.last_sequence(),
        chain: record.chain,
        payload: record.payload.clone(),
    }
}
