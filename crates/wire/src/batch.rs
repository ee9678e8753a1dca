//! A batch as bytes: the opaque payload of one log entry.
//!
//! ```text
//!  header (72 bytes, little endian) | length u16, command (postcard) | length u16, command | ...
//! ```
//!
//! The header's layout has a version. A reader refuses a version that it doesn't know, so a new layout ships dormant and
//! is written only once every node reads it. Commands are appended enums of `types`: an old reader refuses a command that
//! it doesn't know and never skips one.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use types::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, COMMAND_BYTES_MAX};
use types::{BatchHeader, Epoch, GroupId, Incarnation, Sequence, Timestamp};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The layout that this code writes, and the only one that it reads.
pub const BATCH_VERSION: u16 = 1;
/// Bytes of a batch's header.
pub const BATCH_HEADER_BYTES: usize = size_of::<HeaderLayout>();
/// The most bytes that a whole batch takes.
pub const BATCH_PAYLOAD_BYTES_MAX: usize = BATCH_HEADER_BYTES + BATCH_BYTES_MAX;

const _: () = assert!(COMMAND_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(BATCH_COMMANDS_MAX <= u32::MAX as usize);
const _: () = assert!(BATCH_BYTES_MAX >= COMMAND_BYTES_MAX + LENGTH_BYTES);

const LENGTH_BYTES: usize = size_of::<u16>();

/// `BatchHeader` as it is written.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeaderLayout {
    version: U16,
    group: U16,
    incarnation: U32,
    epoch: U32,
    count: U32,
    first_sequence: U64,
    sequenced_at: U64,
    clock_error_bound_ns: U64,
    committed_through: U64,
    committed_at: U64,
    hashed_through: U64,
    state_hash: U64,
}

/// Why a command can't be put into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The batch has no room left for it: start another one.
    BatchFull,
    /// It takes more than `COMMAND_BYTES_MAX`: no batch can carry it.
    CommandTooLarge,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BatchFull => write!(f, "encode a command: the batch has no room left"),
            Self::CommandTooLarge => write!(f, "encode a command: it takes more than {COMMAND_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They are shorter than a header.
    HeaderCut,
    /// They were written in another layout.
    Version(u16),
    /// The count is 0 or above `BATCH_COMMANDS_MAX`.
    Count(u32),
    /// Its sequences would run over.
    Sequence(u64),
    /// They are more than a batch may have.
    TooLong(usize),
    /// They end within a command.
    CommandCut {
        /// The command's index in the batch.
        index: u32,
    },
    /// A command is not one.
    Command {
        /// The command's index in the batch.
        index: u32,
    },
    /// Bytes follow the last command.
    TrailingBytes(usize),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "decode a batch: ")?;
        match self {
            Self::HeaderCut => write!(f, "it is shorter than its header"),
            Self::Version(version) => write!(f, "its layout is version {version}, this program reads {BATCH_VERSION}"),
            Self::Count(count) => write!(f, "it says {count} commands; 1 to {BATCH_COMMANDS_MAX} can be"),
            Self::Sequence(first) => write!(f, "its first sequence {first} can't be"),
            Self::TooLong(bytes) => write!(f, "it has {bytes} bytes; at most {BATCH_PAYLOAD_BYTES_MAX} can be"),
            Self::CommandCut { index } => write!(f, "it ends within its command {index}"),
            Self::Command { index } => write!(f, "its command {index} is not one that this program knows"),
            Self::TrailingBytes(bytes) => write!(f, "{bytes} bytes follow its last command"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Collects commands and turns them into a batch's bytes.
#[derive(Debug)]
pub struct BatchEncoder {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for BatchEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchEncoder {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; BATCH_HEADER_BYTES],
            count: 0,
        }
    }

    /// How many commands it holds.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// True if it holds none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends a command, or leaves everything as it was.
    pub fn push<C: Serialize>(&mut self, command: &C) -> Result<(), EncodeError> {
        if self.count as usize == BATCH_COMMANDS_MAX {
            return Err(EncodeError::BatchFull);
        }
        let mut scratch = [0; COMMAND_BYTES_MAX];
        let encoded = postcard::to_slice(command, &mut scratch).map_err(|_| EncodeError::CommandTooLarge)?;
        if self.bytes.len() + LENGTH_BYTES + encoded.len() > BATCH_PAYLOAD_BYTES_MAX {
            return Err(EncodeError::BatchFull);
        }
        let length = u16::try_from(encoded.len()).expect("COMMAND_BYTES_MAX fits");
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(encoded);
        self.count += 1;
        Ok(())
    }

    /// The batch's bytes. The header's `count` is set to that of the commands pushed, which must be at least one.
    pub fn finish(mut self, mut header: BatchHeader) -> (BatchHeader, Vec<u8>) {
        assert!(self.count > 0, "a batch has at least one command");
        header.count = self.count;
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(layout_of(&header).as_bytes());
        (header, self.bytes)
    }
}

/// A command as it stands in a batch, without its length.
pub fn encode_command<C: Serialize>(command: &C) -> Result<Vec<u8>, EncodeError> {
    let mut scratch = [0; COMMAND_BYTES_MAX];
    let encoded = postcard::to_slice(command, &mut scratch).map_err(|_| EncodeError::CommandTooLarge)?;
    Ok(encoded.to_vec())
}

/// A command that [`encode_command`] wrote; none if the bytes are not one that this program knows.
pub fn decode_command<C: DeserializeOwned>(bytes: &[u8]) -> Option<C> {
    let (command, rest) = postcard::take_from_bytes(bytes).ok()?;
    (rest.is_empty() && bytes.len() <= COMMAND_BYTES_MAX).then_some(command)
}

fn layout_of(header: &BatchHeader) -> HeaderLayout {
    HeaderLayout {
        version: BATCH_VERSION.into(),
        group: header.group.0.into(),
        incarnation: header.incarnation.0.into(),
        epoch: header.epoch.0.into(),
        count: header.count.into(),
        first_sequence: header.first_sequence.0.into(),
        sequenced_at: header.sequenced_at.0.into(),
        clock_error_bound_ns: header.clock_error_bound_ns.into(),
        committed_through: header.committed_through.0.into(),
        committed_at: header.committed_at.0.into(),
        hashed_through: header.hashed_through.0.into(),
        state_hash: header.state_hash.into(),
    }
}

/// The header of a batch, without looking at its commands.
pub fn decode_header(bytes: &[u8]) -> Result<BatchHeader, DecodeError> {
    let (layout, _) = HeaderLayout::ref_from_prefix(bytes).map_err(|_| DecodeError::HeaderCut)?;
    if layout.version.get() != BATCH_VERSION {
        return Err(DecodeError::Version(layout.version.get()));
    }
    let count = layout.count.get();
    if count == 0 || count as usize > BATCH_COMMANDS_MAX {
        return Err(DecodeError::Count(count));
    }
    let first = layout.first_sequence.get();
    if first == 0 || first.checked_add(u64::from(count)).is_none() {
        return Err(DecodeError::Sequence(first));
    }
    Ok(BatchHeader {
        group: GroupId(layout.group.get()),
        incarnation: Incarnation(layout.incarnation.get()),
        epoch: Epoch(layout.epoch.get()),
        first_sequence: Sequence(first),
        count,
        sequenced_at: Timestamp(layout.sequenced_at.get()),
        clock_error_bound_ns: layout.clock_error_bound_ns.get(),
        committed_through: Sequence(layout.committed_through.get()),
        committed_at: Timestamp(layout.committed_at.get()),
        hashed_through: Sequence(layout.hashed_through.get()),
        state_hash: layout.state_hash.get(),
    })
}

/// A whole batch. Total: whatever the bytes are, it answers with a batch or with what is wrong with them.
pub fn decode<C: DeserializeOwned>(bytes: &[u8]) -> Result<(BatchHeader, Vec<C>), DecodeError> {
    let header = decode_header(bytes)?;
    if bytes.len() > BATCH_PAYLOAD_BYTES_MAX {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let mut rest = &bytes[BATCH_HEADER_BYTES..];
    let mut commands = Vec::with_capacity((header.count as usize).min(rest.len() / LENGTH_BYTES));
    for index in 0..header.count {
        let cut = DecodeError::CommandCut { index };
        let (length, behind) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(cut)?;
        let (encoded, behind) = behind
            .split_at_checked(usize::from(u16::from_le_bytes(*length)))
            .ok_or(cut)?;
        let wrong = DecodeError::Command { index };
        let (command, left) = postcard::take_from_bytes(encoded).map_err(|_| wrong)?;
        if !left.is_empty() {
            return Err(wrong);
        }
        commands.push(command);
        rest = behind;
    }
    if !rest.is_empty() {
        return Err(DecodeError::TrailingBytes(rest.len()));
    }
    Ok((header, commands))
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Command;

    fn header() -> BatchHeader {
        BatchHeader {
            group: GroupId(1),
            incarnation: Incarnation(2),
            epoch: Epoch(3),
            first_sequence: Sequence(4),
            count: 0,
            sequenced_at: Timestamp(5),
            clock_error_bound_ns: 6,
            committed_through: Sequence(2),
            committed_at: Timestamp(4),
            hashed_through: Sequence(3),
            state_hash: 7,
        }
    }

    fn batch() -> (BatchHeader, Vec<Command>, Vec<u8>) {
        let commands: Vec<_> = (0..3).map(|at| Command::clock(Timestamp(at * 1_000))).collect();
        let mut encoder = BatchEncoder::new();
        for command in &commands {
            encoder.push(command).unwrap();
        }
        let (header, bytes) = encoder.finish(header());
        (header, commands, bytes)
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let (header, commands, bytes) = batch();
        assert_eq!(header.count, 3);
        assert_eq!(decode_header(&bytes), Ok(header));
        assert_eq!(decode::<Command>(&bytes), Ok((header, commands)));
        assert_eq!(BATCH_HEADER_BYTES, 72);
    }

    #[test]
    fn cut_or_lengthened_bytes_are_refused() {
        let (_, _, mut bytes) = batch();
        for length in 0..bytes.len() {
            assert!(decode::<Command>(&bytes[..length]).is_err(), "{length}");
        }
        bytes.push(0);
        assert_eq!(decode::<Command>(&bytes), Err(DecodeError::TrailingBytes(1)));
    }

    #[test]
    fn headers_that_can_not_be_are_refused() {
        let (_, _, good) = batch();
        let with = |at: usize, value: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + value.len()].copy_from_slice(value);
            decode_header(&bytes)
        };
        assert_eq!(with(0, &[9, 0]), Err(DecodeError::Version(9)));
        assert_eq!(with(12, &[0; 4]), Err(DecodeError::Count(0)));
        assert_eq!(with(12, &4_097u32.to_le_bytes()), Err(DecodeError::Count(4_097)));
        assert_eq!(with(16, &[0; 8]), Err(DecodeError::Sequence(0)));
        assert_eq!(with(16, &[255; 8]), Err(DecodeError::Sequence(u64::MAX)));
    }

    #[test]
    fn a_batch_is_bounded_in_commands_and_bytes() {
        let mut encoder = BatchEncoder::new();
        let command = Command::clock(Timestamp(1));
        for _ in 0..BATCH_COMMANDS_MAX {
            encoder.push(&command).unwrap();
        }
        assert_eq!(encoder.push(&command), Err(EncodeError::BatchFull));

        let mut encoder = BatchEncoder::new();
        assert_eq!(
            encoder.push(&vec![1u8; COMMAND_BYTES_MAX]),
            Err(EncodeError::CommandTooLarge)
        );
        let large = vec![1u8; COMMAND_BYTES_MAX - 2];
        let fitting = BATCH_BYTES_MAX / (COMMAND_BYTES_MAX + LENGTH_BYTES);
        for _ in 0..fitting {
            encoder.push(&large).unwrap();
        }
        assert_eq!(encoder.push(&large), Err(EncodeError::BatchFull));
        let (header, bytes) = encoder.finish(header());
        assert_eq!(decode::<Vec<u8>>(&bytes).unwrap().1.len(), header.count as usize);
    }
}
