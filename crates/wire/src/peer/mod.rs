//! What the nodes of a group say to each other: frames on a link.
//!
//! ```text
//!  frame:   length u32 | CRC-32C u32 | kind u8 | 0 u8 | 0 u16 | payload of `length` bytes
//!  covered by the CRC: everything but itself
//! ```
//!
//! Everything is little endian. The frame's header and the front of [`Hello`] stay as they are for good, so that two
//! programs of any versions can tell each other why they don't understand each other; the rest is of the protocol version
//! that both have agreed on. A new kind of frame is sent only to who speaks the version that brought it.
//!
//! Decoding is total. A length is bounded by what its kind may have before anything is allocated for it, and what decoding
//! allocates besides is at most four times the frame. Entries and commands are slices of the frame: nothing is copied.

mod cursor;
mod hello;
mod messages;
mod raft;

use std::fmt;

use bytes::Bytes;
use types::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, COMMAND_BYTES_MAX};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use hello::{
    HELLO_BYTES_MAX, Hello, PROGRAM_VERSION_BYTES_MAX, ProgramVersion, Quarantined, REFUSAL_TEXT_BYTES_MAX,
    ReadableVersions, Refusal, RefusalCode, Role, program_version,
};
pub use messages::{
    Answer, CONTROL_BYTES_MAX, FORWARDS_MAX, Forward, Outcome, Ping, Pong, SNAPSHOT_CHUNK_BYTES_MAX, SnapshotBegin,
    SnapshotChunk, SnapshotEnd,
};
pub use raft::{RaftEntry, RaftMessage, RaftSnapshot};

use crate::journal::{crc32c, crc32c_append};

/// The oldest protocol version that this program speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;
/// The newest one.
pub const PROTOCOL_VERSION_MAX: u16 = 1;
/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = size_of::<HeaderLayout>();
/// The most bytes of a payload: entries of four batches and of one more, with room for what surrounds them.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 6 << 20;
/// The most bytes of a whole frame.
pub const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + FRAME_PAYLOAD_BYTES_MAX;

/// What decoding may allocate, as a multiple of the payload.
const ALLOCATED_TIMES_MAX: usize = 4;

const _: () = assert!(PROTOCOL_VERSION_MIN <= PROTOCOL_VERSION_MAX);
const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX >= 5 * BATCH_BYTES_MAX + (512 << 10));
const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(FORWARDS_MAX == BATCH_COMMANDS_MAX);
const _: () =
    assert!(FRAME_PAYLOAD_BYTES_MAX >= 4 + FORWARDS_MAX * (messages::FORWARD_HEADER_BYTES + COMMAND_BYTES_MAX));
const _: () = assert!(size_of::<RaftEntry>() <= ALLOCATED_TIMES_MAX * raft::ENTRY_HEADER_BYTES);
const _: () = assert!(size_of::<Forward>() <= ALLOCATED_TIMES_MAX * messages::FORWARD_HEADER_BYTES);
const _: () = assert!(size_of::<Answer>() <= ALLOCATED_TIMES_MAX * messages::ANSWER_BYTES);

/// Something that one node says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Who I am. The first frame of a connection each way.
    Hello(Hello),
    /// We have nothing to say to each other, and why. The last frame of a connection.
    Refused(Refusal),
    /// Consensus.
    Raft(RaftMessage),
    /// Commands for the leader.
    Forward(Vec<Forward>),
    /// What became of forwarded commands.
    Answers(Vec<Answer>),
    /// A snapshot follows.
    SnapshotBegin(SnapshotBegin),
    /// A part of it.
    SnapshotChunk(SnapshotChunk),
    /// It is complete.
    SnapshotEnd(SnapshotEnd),
    /// What is your time?
    Ping(Ping),
    /// My time.
    Pong(Pong),
    /// An operator's request to a node, opaque here.
    ControlRequest(Bytes),
    /// The answer to it, opaque here.
    ControlAnswer(Bytes),
}

/// What a frame holds. Numbers are never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FrameKind {
    /// [`Frame::Hello`].
    Hello = 1,
    /// [`Frame::Refused`].
    Refused = 2,
    /// [`Frame::Raft`].
    Raft = 3,
    /// [`Frame::Forward`].
    Forward = 4,
    /// [`Frame::Answers`].
    Answers = 5,
    /// [`Frame::SnapshotBegin`].
    SnapshotBegin = 6,
    /// [`Frame::SnapshotChunk`].
    SnapshotChunk = 7,
    /// [`Frame::SnapshotEnd`].
    SnapshotEnd = 8,
    /// [`Frame::Ping`].
    Ping = 9,
    /// [`Frame::Pong`].
    Pong = 10,
    /// [`Frame::ControlRequest`].
    ControlRequest = 11,
    /// [`Frame::ControlAnswer`].
    ControlAnswer = 12,
}

impl FrameKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Hello,
        Self::Refused,
        Self::Raft,
        Self::Forward,
        Self::Answers,
        Self::SnapshotBegin,
        Self::SnapshotChunk,
        Self::SnapshotEnd,
        Self::Ping,
        Self::Pong,
        Self::ControlRequest,
        Self::ControlAnswer,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// The most bytes that the payload of such a frame has.
    pub fn payload_bytes_max(self) -> usize {
        match self {
            Self::Hello | Self::Refused => HELLO_BYTES_MAX,
            Self::Raft | Self::SnapshotBegin | Self::Forward => FRAME_PAYLOAD_BYTES_MAX,
            Self::Answers => messages::ANSWERS_PAYLOAD_BYTES_MAX,
            Self::SnapshotChunk => messages::SNAPSHOT_CHUNK_PAYLOAD_BYTES_MAX,
            Self::SnapshotEnd | Self::Ping | Self::Pong => messages::SMALL_PAYLOAD_BYTES_MAX,
            Self::ControlRequest | Self::ControlAnswer => CONTROL_BYTES_MAX,
        }
    }

    /// What it is called in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Refused => "refused",
            Self::Raft => "raft",
            Self::Forward => "forward",
            Self::Answers => "answers",
            Self::SnapshotBegin => "snapshot begin",
            Self::SnapshotChunk => "snapshot chunk",
            Self::SnapshotEnd => "snapshot end",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::ControlRequest => "control request",
            Self::ControlAnswer => "control answer",
        }
    }
}

/// A frame's header, as far as it is worth believing without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame holds.
    pub kind: FrameKind,
    /// How many bytes follow. Never more than such a frame may have.
    pub payload_bytes: usize,
    bytes: [u8; FRAME_HEADER_BYTES],
}

/// Why bytes are not a frame, or something can't be made a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// There is no such kind.
    Kind(u8),
    /// More bytes than such a frame may have.
    TooLong {
        /// Which frame.
        kind: FrameKind,
        /// How many.
        bytes: usize,
    },
    /// Bits are set that have no meaning.
    Reserved,
    /// The CRC does not agree.
    Checksum,
    /// It ends within what it says to hold.
    Cut,
    /// Bytes follow what it holds.
    TrailingBytes(usize),
    /// It says something that can't be.
    Content(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "there is no frame of kind {kind}"),
            Self::TooLong { kind, bytes } => write!(
                f,
                "a {} frame of {bytes} bytes; at most {} can be",
                kind.name(),
                kind.payload_bytes_max()
            ),
            Self::Reserved => write!(f, "bits are set that have no meaning"),
            Self::Checksum => write!(f, "its checksum does not agree"),
            Self::Cut => write!(f, "it ends within what it says to hold"),
            Self::TrailingBytes(bytes) => write!(f, "{bytes} bytes follow what it holds"),
            Self::Content(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for FrameError {}

/// A header as it is written.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeaderLayout {
    payload_bytes: U32,
    crc: U32,
    kind: u8,
    flags: u8,
    reserved: U16,
}

impl Frame {
    /// What it holds.
    pub fn kind(&self) -> FrameKind {
        match self {
            Self::Hello(_) => FrameKind::Hello,
            Self::Refused(_) => FrameKind::Refused,
            Self::Raft(_) => FrameKind::Raft,
            Self::Forward(_) => FrameKind::Forward,
            Self::Answers(_) => FrameKind::Answers,
            Self::SnapshotBegin(_) => FrameKind::SnapshotBegin,
            Self::SnapshotChunk(_) => FrameKind::SnapshotChunk,
            Self::SnapshotEnd(_) => FrameKind::SnapshotEnd,
            Self::Ping(_) => FrameKind::Ping,
            Self::Pong(_) => FrameKind::Pong,
            Self::ControlRequest(_) => FrameKind::ControlRequest,
            Self::ControlAnswer(_) => FrameKind::ControlAnswer,
        }
    }

    /// How many bytes it takes on the line, header included.
    pub fn encoded_bytes(&self) -> usize {
        FRAME_HEADER_BYTES
            + match self {
                Self::Hello(hello) => hello.encoded_bytes(),
                Self::Refused(refusal) => refusal.encoded_bytes(),
                Self::Raft(message) => message.encoded_bytes(),
                Self::Forward(forwards) => messages::forwards_bytes(forwards),
                Self::Answers(answers) => messages::answers_bytes(answers),
                Self::SnapshotBegin(begin) => begin.encoded_bytes(),
                Self::SnapshotChunk(chunk) => chunk.encoded_bytes(),
                Self::SnapshotEnd(_) => messages::SNAPSHOT_END_BYTES,
                Self::Ping(_) => messages::PING_BYTES,
                Self::Pong(_) => messages::PONG_BYTES,
                Self::ControlRequest(bytes) | Self::ControlAnswer(bytes) => bytes.len(),
            }
    }

    /// Says whether it can be sent: no part of it is longer than it may be.
    pub fn check(&self) -> Result<(), FrameError> {
        match self {
            Self::Refused(refusal) => refusal.check()?,
            Self::Forward(forwards) => messages::check_forwards(forwards)?,
            Self::Answers(answers) => messages::check_count(answers.len())?,
            Self::Raft(message) => message.check()?,
            Self::SnapshotBegin(begin) => begin.message.check()?,
            Self::SnapshotChunk(chunk) => chunk.check()?,
            _ => {}
        }
        let (kind, bytes) = (self.kind(), self.encoded_bytes() - FRAME_HEADER_BYTES);
        if bytes > kind.payload_bytes_max() {
            return Err(FrameError::TooLong { kind, bytes });
        }
        Ok(())
    }

    /// Appends it to `out`, or leaves that as it was.
    ///
    /// # Errors
    /// If [`Self::check`] has one.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.check()?;
        let start = out.len();
        out.reserve(self.encoded_bytes());
        out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        match self {
            Self::Hello(hello) => hello.encode(out),
            Self::Refused(refusal) => refusal.encode(out),
            Self::Raft(message) => message.encode(out),
            Self::Forward(forwards) => messages::encode_forwards(forwards, out),
            Self::Answers(answers) => messages::encode_answers(answers, out),
            Self::SnapshotBegin(begin) => begin.encode(out),
            Self::SnapshotChunk(chunk) => chunk.encode(out),
            Self::SnapshotEnd(end) => end.encode(out),
            Self::Ping(ping) => ping.encode(out),
            Self::Pong(pong) => pong.encode(out),
            Self::ControlRequest(bytes) | Self::ControlAnswer(bytes) => out.extend_from_slice(bytes),
        }
        let payload = out.len() - start - FRAME_HEADER_BYTES;
        let mut header = HeaderLayout {
            payload_bytes: u32::try_from(payload).expect("it was checked").into(),
            crc: 0.into(),
            kind: self.kind() as u8,
            flags: 0,
            reserved: 0.into(),
        };
        header.crc = crc_of(header.as_bytes(), &out[start + FRAME_HEADER_BYTES..]).into();
        out[start..start + FRAME_HEADER_BYTES].copy_from_slice(header.as_bytes());
        Ok(())
    }
}

/// The CRC over a header, the CRC in it left out, and a payload.
fn crc_of(header: &[u8], payload: &[u8]) -> u32 {
    let length = crc32c(&header[..4]);
    crc32c_append(crc32c_append(length, &header[8..]), payload)
}

/// A frame's header. What it says of the length is bounded, and not yet known to be undamaged.
pub fn decode_header(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, FrameError> {
    let layout = HeaderLayout::ref_from_bytes(bytes).expect("the sizes are the same");
    let kind = FrameKind::from_number(layout.kind).ok_or(FrameError::Kind(layout.kind))?;
    if layout.flags != 0 || layout.reserved.get() != 0 {
        return Err(FrameError::Reserved);
    }
    let payload_bytes = layout.payload_bytes.get() as usize;
    if payload_bytes > kind.payload_bytes_max() {
        let bytes = payload_bytes;
        return Err(FrameError::TooLong { kind, bytes });
    }
    Ok(FrameHeader {
        kind,
        payload_bytes,
        bytes: *bytes,
    })
}

/// A frame of its header and its payload. Total: whatever the bytes are, it answers with a frame or with what is wrong.
pub fn decode(header: &FrameHeader, payload: Bytes) -> Result<Frame, FrameError> {
    if payload.len() != header.payload_bytes {
        return Err(FrameError::Cut);
    }
    let layout = HeaderLayout::ref_from_bytes(&header.bytes).expect("the sizes are the same");
    if crc_of(&header.bytes, &payload) != layout.crc.get() {
        return Err(FrameError::Checksum);
    }
    Ok(match header.kind {
        FrameKind::Hello => Frame::Hello(Hello::decode(payload)?),
        FrameKind::Refused => Frame::Refused(Refusal::decode(payload)?),
        FrameKind::Raft => Frame::Raft(RaftMessage::decode(payload)?),
        FrameKind::Forward => Frame::Forward(messages::decode_forwards(payload)?),
        FrameKind::Answers => Frame::Answers(messages::decode_answers(payload)?),
        FrameKind::SnapshotBegin => Frame::SnapshotBegin(SnapshotBegin::decode(payload)?),
        FrameKind::SnapshotChunk => Frame::SnapshotChunk(SnapshotChunk::decode(payload)?),
        FrameKind::SnapshotEnd => Frame::SnapshotEnd(SnapshotEnd::decode(payload)?),
        FrameKind::Ping => Frame::Ping(Ping::decode(payload)?),
        FrameKind::Pong => Frame::Pong(Pong::decode(payload)?),
        FrameKind::ControlRequest => Frame::ControlRequest(payload),
        FrameKind::ControlAnswer => Frame::ControlAnswer(payload),
    })
}

/// A frame that stands alone in `bytes`.
pub fn decode_frame(mut bytes: Bytes) -> Result<Frame, FrameError> {
    let header = *bytes.first_chunk().ok_or(FrameError::Cut)?;
    let header = decode_header(&header)?;
    let payload = bytes.split_off(FRAME_HEADER_BYTES);
    if payload.len() > header.payload_bytes {
        return Err(FrameError::TrailingBytes(payload.len() - header.payload_bytes));
    }
    decode(&header, payload)
}

#[cfg(test)]
mod tests;
