//! Everything but consensus and how a connection begins.

use bytes::Bytes;
use types::limits::{BATCH_COMMANDS_MAX, COMMAND_BYTES_MAX};
use types::{Epoch, Sequence, Timestamp};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::FrameError;
use super::cursor::{Cursor, length, whole};
use super::raft::RaftMessage;

/// Commands, or answers, in one frame.
pub const FORWARDS_MAX: usize = BATCH_COMMANDS_MAX;
/// Bytes of a snapshot in one frame.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 256 << 10;
/// Bytes of an operator's request, or of the answer to it.
pub const CONTROL_BYTES_MAX: usize = 2 << 20;

/// Bytes in front of a forwarded command.
pub(super) const FORWARD_HEADER_BYTES: usize = size_of::<ForwardLayout>();
/// Bytes of one answer.
pub(super) const ANSWER_BYTES: usize = size_of::<AnswerLayout>();
pub(super) const ANSWERS_PAYLOAD_BYTES_MAX: usize = size_of::<U32>() + FORWARDS_MAX * ANSWER_BYTES;
pub(super) const SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX: usize = size_of::<ChunkLayout>() + SNAPSHOT_CHUNK_BYTES_MAX;
pub(super) const SNAPSHOT_END_BYTES: usize = size_of::<EndLayout>();
pub(super) const PING_BYTES: usize = size_of::<PingLayout>();
pub(super) const PONG_BYTES: usize = size_of::<PongLayout>();
pub(super) const SMALL_PAYLOAD_BYTES_MAX: usize = 64;

const _: () = assert!(SNAPSHOT_END_BYTES <= SMALL_PAYLOAD_BYTES_MAX);
const _: () = assert!(PING_BYTES <= SMALL_PAYLOAD_BYTES_MAX && PONG_BYTES <= SMALL_PAYLOAD_BYTES_MAX);

/// A command for the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Names it in the answer. The sender's own.
    pub token: u64,
    /// The command as it stands in a batch.
    pub command: Bytes,
}

/// What became of a forwarded command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which.
    pub token: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a forwarded command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was given a place, and will be executed there if that place is committed.
    Sequenced {
        /// The place.
        sequence: Sequence,
        /// The epoch that it was sequenced in.
        epoch: Epoch,
    },
    /// It was not sequenced and never will be.
    Refused {
        /// Why; the meaning is `replica`'s.
        code: u8,
    },
}

/// A snapshot follows, in chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotBegin {
    /// Names the transfer. The sender's own; another one each time.
    pub transfer: u64,
    /// How many bytes follow in chunks.
    pub bytes: u64,
    /// The message of consensus that the snapshot belongs to.
    pub message: RaftMessage,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Of which transfer.
    pub transfer: u64,
    /// Where its first byte stands in the snapshot.
    pub offset: u64,
    /// At most [`SNAPSHOT_CHUNK_BYTES_MAX`].
    pub data: Bytes,
}

/// A snapshot is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEnd {
    /// Of which transfer.
    pub transfer: u64,
    /// BLAKE3 of all its bytes.
    pub hash: [u8; 32],
}

/// What is your time?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Names it in the answer.
    pub nonce: u64,
    /// The sender's clock, UTC.
    pub sent_at: Timestamp,
}

/// My time (RFC 5905, section 8: with the two stamps of who asked, these two give offset and delay).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// Of the ping.
    pub nonce: u64,
    /// When the ping was read.
    pub received_at: Timestamp,
    /// When this was written.
    pub sent_at: Timestamp,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ForwardLayout {
    token: U64,
    command_bytes: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct AnswerLayout {
    token: U64,
    kind: u8,
    code: u8,
    reserved: U16,
    epoch: U32,
    sequence: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct BeginLayout {
    transfer: U64,
    bytes: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ChunkLayout {
    transfer: U64,
    offset: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EndLayout {
    transfer: U64,
    hash: [u8; 32],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PingLayout {
    nonce: U64,
    sent_at: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct PongLayout {
    nonce: U64,
    received_at: U64,
    sent_at: U64,
}

const SEQUENCED: u8 = 1;
const REFUSED: u8 = 2;

pub(super) fn check_count(count: usize) -> Result<(), FrameError> {
    if count == 0 || count > FORWARDS_MAX {
        return Err(FrameError::Content("none or too many commands or answers in one frame"));
    }
    Ok(())
}

pub(super) fn forwards_bytes(forwards: &[Forward]) -> usize {
    let each = forwards
        .iter()
        .map(|forward| FORWARD_HEADER_BYTES + forward.command.len());
    size_of::<U32>() + each.sum::<usize>()
}

pub(super) fn check_forwards(forwards: &[Forward]) -> Result<(), FrameError> {
    if forwards.iter().any(|forward| forward.command.len() > COMMAND_BYTES_MAX) {
        return Err(FrameError::Content("a command that is too long"));
    }
    check_count(forwards.len())
}

pub(super) fn encode_forwards(forwards: &[Forward], out: &mut Vec<u8>) {
    out.extend_from_slice(&length(forwards.len()).to_le_bytes());
    for forward in forwards {
        let command_bytes = u16::try_from(forward.command.len()).expect("it was checked");
        let layout = ForwardLayout {
            token: forward.token.into(),
            command_bytes: command_bytes.into(),
        };
        out.extend_from_slice(layout.as_bytes());
        out.extend_from_slice(&forward.command);
    }
}

pub(super) fn decode_forwards(payload: Bytes) -> Result<Vec<Forward>, FrameError> {
    let mut cursor = Cursor::new(payload);
    let count = counted(&mut cursor, FORWARD_HEADER_BYTES)?;
    let mut forwards = Vec::with_capacity(count);
    for _ in 0..count {
        let layout: ForwardLayout = cursor.layout()?;
        forwards.push(Forward {
            token: layout.token.get(),
            command: cursor.bytes(usize::from(layout.command_bytes.get()))?,
        });
    }
    cursor.end()?;
    check_forwards(&forwards)?;
    Ok(forwards)
}

pub(super) fn answers_bytes(answers: &[Answer]) -> usize {
    size_of::<U32>() + answers.len() * ANSWER_BYTES
}

pub(super) fn encode_answers(answers: &[Answer], out: &mut Vec<u8>) {
    out.extend_from_slice(&length(answers.len()).to_le_bytes());
    for answer in answers {
        let (kind, code, epoch, sequence) = match answer.outcome {
            Outcome::Sequenced { sequence, epoch } => (SEQUENCED, 0, epoch.0, sequence.0),
            Outcome::Refused { code } => (REFUSED, code, 0, 0),
        };
        let layout = AnswerLayout {
            token: answer.token.into(),
            kind,
            code,
            reserved: 0.into(),
            epoch: epoch.into(),
            sequence: sequence.into(),
        };
        out.extend_from_slice(layout.as_bytes());
    }
}

pub(super) fn decode_answers(payload: Bytes) -> Result<Vec<Answer>, FrameError> {
    let mut cursor = Cursor::new(payload);
    let count = counted(&mut cursor, ANSWER_BYTES)?;
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        let layout: AnswerLayout = cursor.layout()?;
        if layout.reserved.get() != 0 {
            return Err(FrameError::Reserved);
        }
        let (code, epoch, sequence) = (layout.code, layout.epoch.get(), layout.sequence.get());
        let outcome = match (layout.kind, code, epoch, sequence) {
            (SEQUENCED, 0, _, _) => Outcome::Sequenced {
                sequence: Sequence(sequence),
                epoch: Epoch(epoch),
            },
            (REFUSED, code, 0, 0) => Outcome::Refused { code },
            _ => return Err(FrameError::Content("an answer that can't be")),
        };
        let token = layout.token.get();
        answers.push(Answer { token, outcome });
    }
    cursor.end()?;
    Ok(answers)
}

/// A count of items that each take at least `item_bytes`.
fn counted(cursor: &mut Cursor, item_bytes: usize) -> Result<usize, FrameError> {
    let count: U32 = cursor.layout()?;
    let count = count.get() as usize;
    check_count(count)?;
    if count > cursor.remaining() / item_bytes {
        return Err(FrameError::Cut);
    }
    Ok(count)
}

impl SnapshotBegin {
    pub(super) fn encoded_bytes(&self) -> usize {
        size_of::<BeginLayout>() + self.message.encoded_bytes()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let layout = BeginLayout {
            transfer: self.transfer.into(),
            bytes: self.bytes.into(),
        };
        out.extend_from_slice(layout.as_bytes());
        self.message.encode(out);
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, FrameError> {
        let mut cursor = Cursor::new(payload);
        let layout: BeginLayout = cursor.layout()?;
        Ok(Self {
            transfer: layout.transfer.get(),
            bytes: layout.bytes.get(),
            message: RaftMessage::decode(cursor.rest())?,
        })
    }
}

impl SnapshotChunk {
    pub(super) fn encoded_bytes(&self) -> usize {
        size_of::<ChunkLayout>() + self.data.len()
    }

    pub(super) fn check(&self) -> Result<(), FrameError> {
        if self.data.is_empty() || self.offset.checked_add(self.data.len() as u64).is_none() {
            return Err(FrameError::Content("a snapshot's chunk that can't be"));
        }
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let layout = ChunkLayout {
            transfer: self.transfer.into(),
            offset: self.offset.into(),
        };
        out.extend_from_slice(layout.as_bytes());
        out.extend_from_slice(&self.data);
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, FrameError> {
        let mut cursor = Cursor::new(payload);
        let layout: ChunkLayout = cursor.layout()?;
        let chunk = Self {
            transfer: layout.transfer.get(),
            offset: layout.offset.get(),
            data: cursor.rest(),
        };
        chunk.check()?;
        Ok(chunk)
    }
}

impl SnapshotEnd {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let layout = EndLayout {
            transfer: self.transfer.into(),
            hash: self.hash,
        };
        out.extend_from_slice(layout.as_bytes());
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, FrameError> {
        let layout: EndLayout = whole(payload)?;
        Ok(Self {
            transfer: layout.transfer.get(),
            hash: layout.hash,
        })
    }
}

impl Ping {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let layout = PingLayout {
            nonce: self.nonce.into(),
            sent_at: self.sent_at.0.into(),
        };
        out.extend_from_slice(layout.as_bytes());
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, FrameError> {
        let layout: PingLayout = whole(payload)?;
        Ok(Self {
            nonce: layout.nonce.get(),
            sent_at: Timestamp(layout.sent_at.get()),
        })
    }
}

impl Pong {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let layout = PongLayout {
            nonce: self.nonce.into(),
            received_at: self.received_at.0.into(),
            sent_at: self.sent_at.0.into(),
        };
        out.extend_from_slice(layout.as_bytes());
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, FrameError> {
        let layout: PongLayout = whole(payload)?;
        Ok(Self {
            nonce: layout.nonce.get(),
            received_at: Timestamp(layout.received_at.get()),
            sent_at: Timestamp(layout.sent_at.get()),
        })
    }
}
