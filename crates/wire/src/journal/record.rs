//! Records.

use std::fmt;

use types::{Epoch, Incarnation, Sequence};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Chain, JOURNAL_VERSION, LogIndex, Term};
use crate::batch::BATCH_PAYLOAD_BYTES_MAX;

/// What every record starts with.
pub const RECORD_MAGIC: [u8; 4] = *b"MRec";
/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = size_of::<Layout>();
/// Records start at multiples of this.
pub const RECORD_ALIGNMENT: usize = 8;
/// The most bytes that a record takes.
pub const RECORD_BYTES_MAX: usize = record_bytes(BATCH_PAYLOAD_BYTES_MAX);

const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGNMENT));
const _: () = assert!(BATCH_PAYLOAD_BYTES_MAX <= u32::MAX as usize);

/// Where what the CRC covers begins: behind the magic and the CRC itself.
const CRC_FROM: usize = 8;

/// What a record holds. Numbers are never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum RecordKind {
    /// A log entry with a batch.
    Batch = 1,
    /// A log entry without anything: the first one of each term.
    Empty = 2,
    /// A log entry with a change of the voters, as `raft` encodes it (version 1).
    ConfChange = 3,
    /// A log entry with a change of the voters, as `raft` encodes it (version 2).
    ConfChangeV2 = 4,
    /// Not an entry: the term and the vote. The payload is the vote's node id and, where it has 16 bytes, the index up to
    /// which the log was known to be committed.
    HardState = 5,
}

impl RecordKind {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Batch),
            2 => Some(Self::Empty),
            3 => Some(Self::ConfChange),
            4 => Some(Self::ConfChangeV2),
            5 => Some(Self::HardState),
            _ => None,
        }
    }

    /// True if it takes an index of the log.
    pub fn is_entry(self) -> bool {
        self != Self::HardState
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batch => "batch",
            Self::Empty => "empty",
            Self::ConfChange | Self::ConfChangeV2 => "voters",
            Self::HardState => "term and vote",
        })
    }
}

/// What a record's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFields {
    /// What it holds.
    pub kind: RecordKind,
    /// Which life of the group.
    pub incarnation: Incarnation,
    /// The number of the segment that it was written to.
    pub segment: u64,
    /// Of a batch, the epoch that it was sequenced in; otherwise that of the last batch before it.
    pub epoch: Epoch,
    /// The entry's term, or the current one.
    pub term: Term,
    /// The entry's index; of something that is no entry, the last one's.
    pub index: LogIndex,
    /// Of a batch, its first sequence; otherwise that of the next batch.
    pub first_sequence: Sequence,
    /// The highest index that was durable on this node when it was written.
    pub durable_index: LogIndex,
    /// The chain behind the last batch up to and with this record.
    pub chain: Chain,
}

/// A record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// What its header says.
    pub fields: RecordFields,
    /// What it holds.
    pub payload: &'a [u8],
    /// Bytes that it takes, header and padding included.
    pub bytes: usize,
}

/// Why bytes are not a record of this segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// There is nothing: zeros from here to the end of the header.
    Nothing,
    /// They don't start with a record's magic.
    Magic,
    /// They end before the record does.
    Cut,
    /// Its length can't be.
    Length(u32),
    /// Its checksum does not match.
    Checksum,
    /// It was written in another layout.
    Version(u8),
    /// Its kind is not known.
    Kind(u8),
    /// It is whole and belongs to another segment: what the file held in its earlier life.
    OtherSegment(u64),
}

impl RecordError {
    /// True if it is what an unwritten place of a fresh or recycled segment looks like.
    pub fn is_unwritten(self) -> bool {
        matches!(self, Self::Nothing | Self::OtherSegment(_))
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "there are only zeros"),
            Self::Magic => write!(f, "no record starts there"),
            Self::Cut => write!(f, "the file ends within the record"),
            Self::Length(length) => write!(f, "its length of {length} bytes can't be"),
            Self::Checksum => write!(f, "its checksum does not match its bytes"),
            Self::Version(version) => {
                write!(
                    f,
                    "its layout is version {version}, this program reads {JOURNAL_VERSION}"
                )
            }
            Self::Kind(kind) => write!(f, "its kind {kind} is not known to this program"),
            Self::OtherSegment(segment) => write!(f, "a record of segment {segment} stands there"),
        }
    }
}

impl std::error::Error for RecordError {}

/// A record's header as it is written.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 4],
    crc: U32,
    payload_length: U32,
    version: u8,
    kind: u8,
    reserved: U16,
    incarnation: U32,
    epoch: U32,
    segment: U64,
    term: U64,
    index: U64,
    first_sequence: U64,
    durable_index: U64,
    chain: [u8; 32],
}

/// Bytes that a record with a payload of this length takes.
pub const fn record_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(RECORD_ALIGNMENT)
}

/// Appends a record. The payload is at most `BATCH_PAYLOAD_BYTES_MAX` long.
pub fn encode_record(fields: &RecordFields, payload: &[u8], out: &mut Vec<u8>) {
    assert!(
        payload.len() <= BATCH_PAYLOAD_BYTES_MAX,
        "a record's payload is bounded"
    );
    let start = out.len();
    let layout = Layout {
        magic: RECORD_MAGIC,
        crc: 0.into(),
        payload_length: u32::try_from(payload.len()).expect("it is bounded").into(),
        version: JOURNAL_VERSION,
        kind: fields.kind as u8,
        reserved: 0.into(),
        incarnation: fields.incarnation.0.into(),
        epoch: fields.epoch.0.into(),
        segment: fields.segment.into(),
        term: fields.term.0.into(),
        index: fields.index.0.into(),
        first_sequence: fields.first_sequence.0.into(),
        durable_index: fields.durable_index.0.into(),
        chain: fields.chain.0,
    };
    out.extend_from_slice(layout.as_bytes());
    out.extend_from_slice(payload);
    out.resize(start + record_bytes(payload.len()), 0);
    let crc = crc32c::crc32c(&out[start + CRC_FROM..]);
    out[start + 4..start + CRC_FROM].copy_from_slice(&crc.to_le_bytes());
}

/// The record of segment `segment` at the start of `bytes`. Total: it answers with a record or with why there is none.
pub fn decode_record(bytes: &[u8], segment: u64) -> Result<RecordView<'_>, RecordError> {
    let Ok((layout, _)) = Layout::ref_from_prefix(bytes) else {
        return Err(if bytes.iter().all(|byte| *byte == 0) {
            RecordError::Nothing
        } else {
            RecordError::Cut
        });
    };
    if layout.magic != RECORD_MAGIC {
        let nothing = layout.as_bytes().iter().all(|byte| *byte == 0);
        return Err(if nothing {
            RecordError::Nothing
        } else {
            RecordError::Magic
        });
    }
    let length = layout.payload_length.get();
    if length as usize > BATCH_PAYLOAD_BYTES_MAX {
        return Err(RecordError::Length(length));
    }
    let whole = record_bytes(length as usize);
    let Some(record) = bytes.get(..whole) else {
        return Err(RecordError::Cut);
    };
    if crc32c::crc32c(&record[CRC_FROM..]) != layout.crc.get() {
        return Err(RecordError::Checksum);
    }
    if layout.segment.get() != segment {
        return Err(RecordError::OtherSegment(layout.segment.get()));
    }
    if layout.version != JOURNAL_VERSION {
        return Err(RecordError::Version(layout.version));
    }
    let kind = RecordKind::from_number(layout.kind).ok_or(RecordError::Kind(layout.kind))?;
    let fields = RecordFields {
        kind,
        incarnation: Incarnation(layout.incarnation.get()),
        segment,
        epoch: Epoch(layout.epoch.get()),
        term: Term(layout.term.get()),
        index: LogIndex(layout.index.get()),
        first_sequence: Sequence(layout.first_sequence.get()),
        durable_index: LogIndex(layout.durable_index.get()),
        chain: Chain(layout.chain),
    };
    let payload = &record[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + length as usize];
    Ok(RecordView {
        fields,
        payload,
        bytes: whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> RecordFields {
        RecordFields {
            kind: RecordKind::Batch,
            incarnation: Incarnation(1),
            segment: 9,
            epoch: Epoch(2),
            term: Term(3),
            index: LogIndex(4),
            first_sequence: Sequence(5),
            durable_index: LogIndex(3),
            chain: Chain::START.behind(Epoch(2), Sequence(5), b"payload"),
        }
    }

    fn record() -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_record(&fields(), b"payload", &mut bytes);
        bytes
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let bytes = record();
        assert_eq!(bytes.len(), 104);
        let view = decode_record(&bytes, 9).unwrap();
        assert_eq!(view.fields, fields());
        assert_eq!(view.payload, b"payload");
        assert_eq!(view.bytes, bytes.len());
        assert_eq!(decode_record(&bytes, 8), Err(RecordError::OtherSegment(9)));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let good = record();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = decode_record(&bytes, 9).expect_err("a flipped bit");
            assert!(!error.is_unwritten(), "bit {bit}: {error}");
        }
        for length in 0..good.len() {
            assert!(decode_record(&good[..length], 9).is_err(), "{length}");
        }
    }

    #[test]
    fn zeros_are_nothing() {
        assert_eq!(decode_record(&[0; 200], 9), Err(RecordError::Nothing));
        assert_eq!(decode_record(&[], 9), Err(RecordError::Nothing));
    }
}
