//! The part of the log that is held in memory: what is not yet applied here, and what a peer may still have to be sent.

use std::cell::Cell;
use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use types::{Epoch, Sequence};
use wire::batch;
use wire::journal::{Chain, LogIndex, NodeId, RecordKind, Term};

use crate::applier::{Applied, LogEntry};
use crate::membership;
use crate::protocol::{Record, SnapshotPoint};

/// Where the log stands behind an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: u64,
    term: u64,
    epoch: Epoch,
    sequence: Sequence,
    chain: Chain,
}

#[derive(Debug)]
struct Stored {
    entry: Entry,
    place: Place,
}

/// The log's tail, with the chain behind each entry.
#[derive(Debug)]
pub(crate) struct Log {
    hard_state: HardState,
    conf_state: ConfState,
    base: Place,
    entries: VecDeque<Stored>,
    bytes: usize,
    snapshot: Option<SnapshotPoint>,
    /// True once consensus asked for a snapshot that there is not.
    snapshot_wanted: Cell<bool>,
}

impl Log {
    /// A log whose entries up to `applied` were trimmed.
    pub(crate) fn new(applied: Applied, hard_state: HardState, conf_state: ConfState) -> Self {
        Self {
            hard_state,
            conf_state,
            bytes: 0,
            snapshot: None,
            snapshot_wanted: Cell::new(false),
            base: Place {
                index: applied.index.0,
                term: applied.term.0,
                epoch: applied.epoch,
                sequence: applied.sequence,
                chain: applied.chain,
            },
            entries: VecDeque::new(),
        }
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(crate) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    pub(crate) fn entries_count(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the entries' payloads.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The index before the first entry.
    pub(crate) fn base_index(&self) -> u64 {
        self.base.index
    }

    /// The last entry's index.
    pub(crate) fn end_index(&self) -> u64 {
        self.last().index
    }

    /// True once after consensus asked for a snapshot that there was not.
    pub(crate) fn take_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.take()
    }

    /// The snapshot that peers are given, as long as the entries behind it are here too.
    pub(crate) fn snapshot_point(&self) -> Option<&SnapshotPoint> {
        self.snapshot
            .as_ref()
            .filter(|point| point.applied.index.0 >= self.base.index)
    }

    pub(crate) fn set_snapshot(&mut self, point: Option<SnapshotPoint>) {
        self.snapshot = point;
    }

    fn last(&self) -> &Place {
        self.entries.back().map_or(&self.base, |stored| &stored.place)
    }

    /// The place behind the entry of this index, if it is still known.
    fn place(&self, index: u64) -> Option<&Place> {
        if index == self.base.index {
            return Some(&self.base);
        }
        let at = index.checked_sub(self.base.index + 1)?;
        self.entries.get(usize::try_from(at).ok()?).map(|stored| &stored.place)
    }

    /// True if an entry of this index would replace one that is there.
    pub(crate) fn replaces(&self, index: u64) -> bool {
        index <= self.last().index
    }

    /// Drops the entries behind this one.
    pub(crate) fn truncate(&mut self, after: u64) {
        while self.last().index > after
            && let Some(stored) = self.entries.pop_back()
        {
            self.bytes -= stored.entry.data.len();
        }
    }

    /// Takes the next entry and answers with its record. None if its payload is no batch or it does not follow.
    pub(crate) fn append(&mut self, entry: Entry) -> Option<Record> {
        let last = *self.last();
        let kind = kind_of(&entry);
        if entry.index != last.index + 1 {
            return None;
        }
        let mut place = Place {
            index: entry.index,
            term: entry.term,
            ..last
        };
        let mut first_sequence = last.sequence.next();
        if kind == RecordKind::Batch {
            let header = batch::decode_header(&entry.data).ok()?;
            first_sequence = header.first_sequence;
            place.epoch = header.epoch;
            place.sequence = header.last_sequence();
            place.chain = last.chain.behind(header.epoch, header.first_sequence, &entry.data);
        }
        let record = Record {
            kind,
            epoch: place.epoch,
            term: Term(entry.term),
            index: LogIndex(entry.index),
            first_sequence,
            last_sequence: place.sequence,
            chain: place.chain,
            payload: entry.data.clone(),
        };
        self.bytes += entry.data.len();
        self.entries.push_back(Stored { entry, place });
        Some(record)
    }

    /// The record of a term and vote, and of what is known to be committed. It takes no index.
    pub(crate) fn hard_state_record(&self, hard_state: &HardState) -> Record {
        let last = self.last();
        let payload = [hard_state.vote.to_le_bytes(), hard_state.commit.to_le_bytes()];
        Record {
            kind: RecordKind::HardState,
            epoch: last.epoch,
            term: Term(hard_state.term),
            index: LogIndex(last.index),
            first_sequence: last.sequence.next(),
            last_sequence: last.sequence,
            chain: last.chain,
            payload: Bytes::from(payload.concat()),
        }
    }

    /// A committed entry with what the journal says of it.
    pub(crate) fn log_entry(&self, entry: &Entry) -> Option<LogEntry> {
        let place = self.place(entry.index)?;
        Some(LogEntry {
            kind: kind_of(entry),
            index: LogIndex(entry.index),
            term: Term(entry.term),
            chain: place.chain,
            payload: entry.data.clone(),
        })
    }

    /// Forgets the oldest entries up to this one, as long as there are more than these, or more bytes of them.
    pub(crate) fn trim_to(&mut self, through: u64, bytes_kept: usize, entries_kept: usize) {
        while self.bytes > bytes_kept || self.entries.len() > entries_kept {
            match self.entries.front() {
                Some(first) if first.place.index <= through => self.trim(first.place.index),
                _ => break,
            }
        }
    }

    /// Forgets the entries up to this one.
    pub(crate) fn trim(&mut self, through: u64) {
        while let Some(first) = self.entries.front() {
            if first.place.index > through {
                break;
            }
            self.base = first.place;
            self.bytes -= first.entry.data.len();
            self.entries.pop_front();
        }
    }
}

pub(crate) fn kind_of(entry: &Entry) -> RecordKind {
    match entry.get_entry_type() {
        EntryType::EntryNormal if entry.data.is_empty() => RecordKind::Empty,
        EntryType::EntryNormal => RecordKind::Batch,
        EntryType::EntryConfChange => RecordKind::ConfChange,
        EntryType::EntryConfChangeV2 => RecordKind::ConfChangeV2,
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last().index + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0u64;
        let mut taken = Vec::new();
        let from = usize::try_from(low - self.base.index - 1).map_err(|_| Error::Store(StorageError::Unavailable))?;
        let count = usize::try_from(high.saturating_sub(low)).map_err(|_| Error::Store(StorageError::Unavailable))?;
        for stored in self.entries.iter().skip(from).take(count) {
            bytes = bytes.saturating_add(stored.entry.data.len() as u64);
            if !taken.is_empty() && bytes > bytes_max {
                break;
            }
            taken.push(stored.entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.place(index) {
            Some(place) => Ok(place.term),
            None if index < self.base.index => Err(Error::Store(StorageError::Compacted)),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let usable = |point: &&SnapshotPoint| {
            point.applied.index.0 >= request_index && point.membership.get(NodeId(to)).is_some()
        };
        let Some(point) = self.snapshot_point().filter(usable) else {
            self.snapshot_wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        let mut snapshot = Snapshot {
            data: point.encode().into(),
            ..Snapshot::default()
        };
        let metadata = snapshot.mut_metadata();
        metadata.index = point.applied.index.0;
        metadata.term = point.applied.term.0;
        metadata.set_conf_state(membership::conf_state(&point.membership));
        Ok(snapshot)
    }
}
