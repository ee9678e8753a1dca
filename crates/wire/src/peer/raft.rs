//! Consensus messages: all that `raft`'s own type holds, in plain types and a layout of ours.
//!
//! ```text
//!  fixed part | counts and lengths | context | entry header, data | ... | snapshot's fixed part, node ids, data
//! ```
//!
//! What `raft` marks as deprecated is not carried, and neither is the context of an entry, which the journal doesn't keep.

use bytes::Bytes;
use zerocopy::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::FrameError;
use super::cursor::{Cursor, length};
use crate::journal::{LogIndex, NodeId, RecordKind, Term};

/// Bytes in front of an entry's data.
pub(super) const ENTRY_HEADER_BYTES: usize = size_of::<EntryLayout>();

/// A message of consensus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftMessage {
    /// The number of the message's type.
    pub kind: u8,
    /// For whom it is.
    pub to: NodeId,
    /// Whose it is.
    pub from: NodeId,
    /// The sender's term.
    pub term: Term,
    /// The term of the entry at `index`.
    pub log_term: Term,
    /// The entry that `entries` follow, or what else the type means by it.
    pub index: LogIndex,
    /// Entries to append.
    pub entries: Vec<RaftEntry>,
    /// What is committed.
    pub commit: LogIndex,
    /// The term of the entry at `commit`.
    pub commit_term: Term,
    /// A snapshot in place of entries.
    pub snapshot: Option<Box<RaftSnapshot>>,
    /// From which index on a snapshot is asked for.
    pub request_snapshot: LogIndex,
    /// It says no.
    pub reject: bool,
    /// Where the entries may agree.
    pub reject_hint: LogIndex,
    /// Handed back unseen.
    pub context: Bytes,
    /// The sender's priority in elections.
    pub priority: i64,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftEntry {
    /// What it holds: anything but [`RecordKind::HardState`].
    pub kind: RecordKind,
    /// Its term.
    pub term: Term,
    /// Its place.
    pub index: LogIndex,
    /// What it holds.
    pub data: Bytes,
}

/// A snapshot as consensus sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftSnapshot {
    /// The last entry that it covers.
    pub index: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who follows without a vote.
    pub learners: Vec<NodeId>,
    /// During a change: who voted before it.
    pub voters_outgoing: Vec<NodeId>,
    /// During a change: who follows without a vote after it.
    pub learners_next: Vec<NodeId>,
    /// The change ends by itself.
    pub auto_leave: bool,
    /// Opaque here.
    pub data: Bytes,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct MessageLayout {
    kind: u8,
    reject: u8,
    has_snapshot: u8,
    reserved: u8,
    entries: U32,
    context_bytes: U32,
    to: U64,
    from: U64,
    term: U64,
    log_term: U64,
    index: U64,
    commit: U64,
    commit_term: U64,
    request_snapshot: U64,
    reject_hint: U64,
    priority: I64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EntryLayout {
    kind: u8,
    reserved: u8,
    reserved_too: U16,
    data_bytes: U32,
    term: U64,
    index: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SnapshotLayout {
    index: U64,
    term: U64,
    voters: U16,
    learners: U16,
    voters_outgoing: U16,
    learners_next: U16,
    auto_leave: u8,
    reserved: [u8; 3],
    data_bytes: U32,
}

impl RaftMessage {
    /// How many bytes it takes in a frame.
    pub fn encoded_bytes(&self) -> usize {
        let entries: usize = self
            .entries
            .iter()
            .map(|entry| ENTRY_HEADER_BYTES + entry.data.len())
            .sum();
        let snapshot = self.snapshot.as_deref().map_or(0, RaftSnapshot::encoded_bytes);
        size_of::<MessageLayout>() + self.context.len() + entries + snapshot
    }

    /// Whether it can be written, its length aside.
    pub(super) fn check(&self) -> Result<(), FrameError> {
        if self.entries.iter().any(|entry| !entry.kind.is_entry()) {
            return Err(FrameError::Content("an entry that is none"));
        }
        self.snapshot.as_deref().map_or(Ok(()), RaftSnapshot::check)
    }

    /// Appends it to `out`. Lengths must have been checked: see [`super::Frame::check`].
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let layout = MessageLayout {
            kind: self.kind,
            reject: u8::from(self.reject),
            has_snapshot: u8::from(self.snapshot.is_some()),
            reserved: 0,
            entries: length(self.entries.len()).into(),
            context_bytes: length(self.context.len()).into(),
            to: self.to.0.into(),
            from: self.from.0.into(),
            term: self.term.0.into(),
            log_term: self.log_term.0.into(),
            index: self.index.0.into(),
            commit: self.commit.0.into(),
            commit_term: self.commit_term.0.into(),
            request_snapshot: self.request_snapshot.0.into(),
            reject_hint: self.reject_hint.0.into(),
            priority: self.priority.into(),
        };
        out.extend_from_slice(layout.as_bytes());
        out.extend_from_slice(&self.context);
        for entry in &self.entries {
            let layout = EntryLayout {
                kind: entry.kind as u8,
                reserved: 0,
                reserved_too: 0.into(),
                data_bytes: length(entry.data.len()).into(),
                term: entry.term.0.into(),
                index: entry.index.0.into(),
            };
            out.extend_from_slice(layout.as_bytes());
            out.extend_from_slice(&entry.data);
        }
        if let Some(snapshot) = &self.snapshot {
            snapshot.encode(out);
        }
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, FrameError> {
        let mut cursor = Cursor::new(payload);
        let layout: MessageLayout = cursor.layout()?;
        if layout.reserved != 0 {
            return Err(FrameError::Reserved);
        }
        let context = cursor.bytes(layout.context_bytes.get() as usize)?;
        let count = layout.entries.get() as usize;
        if count > cursor.remaining() / ENTRY_HEADER_BYTES {
            return Err(FrameError::Cut);
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(decode_entry(&mut cursor)?);
        }
        let snapshot = match flag(layout.has_snapshot)? {
            true => Some(Box::new(RaftSnapshot::decode(&mut cursor)?)),
            false => None,
        };
        cursor.end()?;
        Ok(Self {
            kind: layout.kind,
            to: NodeId(layout.to.get()),
            from: NodeId(layout.from.get()),
            term: Term(layout.term.get()),
            log_term: Term(layout.log_term.get()),
            index: LogIndex(layout.index.get()),
            entries,
            commit: LogIndex(layout.commit.get()),
            commit_term: Term(layout.commit_term.get()),
            snapshot,
            request_snapshot: LogIndex(layout.request_snapshot.get()),
            reject: flag(layout.reject)?,
            reject_hint: LogIndex(layout.reject_hint.get()),
            context,
            priority: layout.priority.get(),
        })
    }
}

fn decode_entry(cursor: &mut Cursor) -> Result<RaftEntry, FrameError> {
    let layout: EntryLayout = cursor.layout()?;
    if layout.reserved != 0 || layout.reserved_too.get() != 0 {
        return Err(FrameError::Reserved);
    }
    let kind = RecordKind::from_number(layout.kind).filter(|kind| kind.is_entry());
    Ok(RaftEntry {
        kind: kind.ok_or(FrameError::Content("an entry of a kind that there isn't"))?,
        term: Term(layout.term.get()),
        index: LogIndex(layout.index.get()),
        data: cursor.bytes(layout.data_bytes.get() as usize)?,
    })
}

impl RaftSnapshot {
    fn lists(&self) -> [&[NodeId]; 4] {
        [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next]
    }

    fn encoded_bytes(&self) -> usize {
        let nodes: usize = self.lists().iter().map(|list| list.len()).sum();
        size_of::<SnapshotLayout>() + nodes * size_of::<u64>() + self.data.len()
    }

    /// Whether its lists can be written.
    fn check(&self) -> Result<(), FrameError> {
        let fit = self.lists().iter().all(|list| list.len() <= usize::from(u16::MAX));
        fit.then_some(())
            .ok_or(FrameError::Content("a snapshot with too many nodes"))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let count = |list: &[NodeId]| u16::try_from(list.len()).expect("it was checked").into();
        let layout = SnapshotLayout {
            index: self.index.0.into(),
            term: self.term.0.into(),
            voters: count(&self.voters),
            learners: count(&self.learners),
            voters_outgoing: count(&self.voters_outgoing),
            learners_next: count(&self.learners_next),
            auto_leave: u8::from(self.auto_leave),
            reserved: [0; 3],
            data_bytes: length(self.data.len()).into(),
        };
        out.extend_from_slice(layout.as_bytes());
        for node in self.lists().into_iter().flatten() {
            out.extend_from_slice(&node.0.to_le_bytes());
        }
        out.extend_from_slice(&self.data);
    }

    fn decode(cursor: &mut Cursor) -> Result<Self, FrameError> {
        let layout: SnapshotLayout = cursor.layout()?;
        if layout.reserved != [0; 3] {
            return Err(FrameError::Reserved);
        }
        let mut nodes = |count: U16| -> Result<Vec<NodeId>, FrameError> {
            let bytes = cursor.bytes(usize::from(count.get()) * size_of::<u64>())?;
            let (nodes, _) = bytes.as_chunks();
            Ok(nodes.iter().map(|node| NodeId(u64::from_le_bytes(*node))).collect())
        };
        Ok(Self {
            index: LogIndex(layout.index.get()),
            term: Term(layout.term.get()),
            voters: nodes(layout.voters)?,
            learners: nodes(layout.learners)?,
            voters_outgoing: nodes(layout.voters_outgoing)?,
            learners_next: nodes(layout.learners_next)?,
            auto_leave: flag(layout.auto_leave)?,
            data: cursor.bytes(layout.data_bytes.get() as usize)?,
        })
    }
}

fn flag(byte: u8) -> Result<bool, FrameError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(FrameError::Content("a yes or no that is neither")),
    }
}
