//! The event log's bytes: what `apply` yielded, one record a batch, in segment files.
//!
//! A segment is a [`SegmentInfo`] header and then records without gaps. A record is a fixed header and a postcard body.
//! The log is derived: whoever finds it damaged throws it away from there and makes it again from the journal, so a
//! reader of another format version simply does that.

use std::fmt;

use serde::{Deserialize, Serialize};
use types::{AppliedBatch, AppliedCommand, BatchHeader, ClusterId, Event, GroupId, Incarnation, Sequence};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What every segment starts with.
pub const SEGMENT_MAGIC: [u8; 8] = *b"MRDNEVNT";
/// The version of this format; it changes whenever a record written by one build can't be read by another.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = size_of::<SegmentHeaderLayout>();
/// Bytes of a record's header.
pub const RECORD_HEADER_BYTES: usize = size_of::<RecordHeaderLayout>();
/// The longest body that a reader believes.
pub const RECORD_BODY_BYTES_MAX: usize = 1 << 30;

const RECORD_MAGIC: u32 = 0x5645_524D;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SegmentHeaderLayout {
    magic: [u8; 8],
    version: U32,
    incarnation: U32,
    first_sequence: U64,
    group: U16,
    cluster_id_length: u8,
    reserved: u8,
    cluster_id: [u8; 32],
    crc: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RecordHeaderLayout {
    magic: U32,
    body_length: U32,
    first_sequence: U64,
    count: U32,
    body_crc: U32,
    reserved: U32,
    header_crc: U32,
}

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The cluster that it belongs to.
    pub cluster_id: ClusterId,
    /// The group whose events it holds.
    pub group: GroupId,
    /// The life of that group.
    pub incarnation: Incarnation,
    /// The first sequence of its first record.
    pub first_sequence: Sequence,
}

/// What a record's header says, known to be undamaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordInfo {
    /// The sequence of its batch's first command.
    pub first_sequence: Sequence,
    /// How many commands the batch has, at least 1.
    pub count: u32,
    /// Bytes of the body that follows.
    pub body_bytes: usize,
    body_crc: u32,
}

impl RecordInfo {
    /// The sequence of its batch's last command.
    pub fn last_sequence(&self) -> Sequence {
        Sequence(self.first_sequence.0 + u64::from(self.count) - 1)
    }

    /// Header and body.
    pub fn bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.body_bytes
    }
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLogError {
    /// They end too early.
    CutShort,
    /// They don't start with the magic number.
    Magic,
    /// They are of another format version.
    Version(u32),
    /// A checksum doesn't agree.
    Checksum,
    /// The checksum agrees, but the content contradicts itself.
    Content,
}

impl fmt::Display for EventLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort => write!(f, "it is cut short"),
            Self::Magic => write!(f, "it does not start as it should"),
            Self::Version(version) => write!(f, "it has format version {version}, not {FORMAT_VERSION}"),
            Self::Checksum => write!(f, "its checksum does not agree"),
            Self::Content => write!(f, "its content contradicts itself"),
        }
    }
}

impl std::error::Error for EventLogError {}

/// A segment's header.
pub fn encode_segment_header(info: &SegmentInfo) -> [u8; SEGMENT_HEADER_BYTES] {
    let name = info.cluster_id.as_bytes();
    let mut cluster_id = [0; 32];
    cluster_id[..name.len()].copy_from_slice(name);
    let mut layout = SegmentHeaderLayout {
        magic: SEGMENT_MAGIC,
        version: FORMAT_VERSION.into(),
        incarnation: info.incarnation.0.into(),
        first_sequence: info.first_sequence.0.into(),
        group: info.group.0.into(),
        cluster_id_length: u8::try_from(name.len()).expect("a cluster id has at most 32 bytes"),
        reserved: 0,
        cluster_id,
        crc: 0.into(),
    };
    layout.crc = crc32c::crc32c(&layout.as_bytes()[..SEGMENT_HEADER_BYTES - 4]).into();
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes.copy_from_slice(layout.as_bytes());
    bytes
}

/// Reads a segment's header.
pub fn decode_segment_header(bytes: &[u8]) -> Result<SegmentInfo, EventLogError> {
    let (layout, _) = SegmentHeaderLayout::ref_from_prefix(bytes).map_err(|_| EventLogError::CutShort)?;
    if layout.magic != SEGMENT_MAGIC {
        return Err(EventLogError::Magic);
    }
    if layout.crc.get() != crc32c::crc32c(&layout.as_bytes()[..SEGMENT_HEADER_BYTES - 4]) {
        return Err(EventLogError::Checksum);
    }
    if layout.version.get() != FORMAT_VERSION {
        return Err(EventLogError::Version(layout.version.get()));
    }
    let name = layout.cluster_id.get(..usize::from(layout.cluster_id_length));
    let name = name.and_then(|name| std::str::from_utf8(name).ok());
    Ok(SegmentInfo {
        cluster_id: name.and_then(|name| name.parse().ok()).ok_or(EventLogError::Content)?,
        group: GroupId(layout.group.get()),
        incarnation: Incarnation(layout.incarnation.get()),
        first_sequence: Sequence(layout.first_sequence.get()),
    })
}

/// What of a batch is recorded. `committed_at` is not: a later batch's header carries it, and so a log that was made
/// again from the journal is equal to the first one.
#[derive(Serialize)]
struct BodyRef<'a> {
    header: &'a BatchHeader,
    commands: &'a [AppliedCommand],
    events: &'a [Event],
}

#[derive(Deserialize)]
struct Body {
    header: BatchHeader,
    commands: Vec<AppliedCommand>,
    events: Vec<Event>,
}

/// Appends a batch's record to `out`.
pub fn encode_record(batch: &AppliedBatch, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
    let body = BodyRef {
        header: &batch.header,
        commands: &batch.commands,
        events: &batch.events,
    };
    *out = postcard::to_extend(&body, std::mem::take(out)).expect("plain data encodes into memory");
    let (header, body) = out[start..].split_at_mut(RECORD_HEADER_BYTES);
    let mut layout = RecordHeaderLayout {
        magic: RECORD_MAGIC.into(),
        body_length: u32::try_from(body.len()).expect("a batch's events fit in 4 GiB").into(),
        first_sequence: batch.header.first_sequence.0.into(),
        count: batch.header.count.into(),
        body_crc: crc32c::crc32c(body).into(),
        reserved: 0.into(),
        header_crc: 0.into(),
    };
    layout.header_crc = crc32c::crc32c(&layout.as_bytes()[..RECORD_HEADER_BYTES - 4]).into();
    header.copy_from_slice(layout.as_bytes());
}

/// Reads a record's header.
pub fn decode_record_header(bytes: &[u8]) -> Result<RecordInfo, EventLogError> {
    let (layout, _) = RecordHeaderLayout::ref_from_prefix(bytes).map_err(|_| EventLogError::CutShort)?;
    if layout.magic.get() != RECORD_MAGIC {
        return Err(EventLogError::Magic);
    }
    if layout.header_crc.get() != crc32c::crc32c(&layout.as_bytes()[..RECORD_HEADER_BYTES - 4]) {
        return Err(EventLogError::Checksum);
    }
    let body_bytes = layout.body_length.get() as usize;
    if layout.count.get() == 0 || layout.first_sequence.get() == 0 || body_bytes > RECORD_BODY_BYTES_MAX {
        return Err(EventLogError::Content);
    }
    Ok(RecordInfo {
        first_sequence: Sequence(layout.first_sequence.get()),
        count: layout.count.get(),
        body_bytes,
        body_crc: layout.body_crc.get(),
    })
}

/// Checks a record's body against its header without reading it.
pub fn check_record_body(info: &RecordInfo, body: &[u8]) -> Result<(), EventLogError> {
    if body.len() != info.body_bytes {
        return Err(EventLogError::CutShort);
    }
    if crc32c::crc32c(body) != info.body_crc {
        return Err(EventLogError::Checksum);
    }
    Ok(())
}

/// The batch's header, which a record's body starts with. The body was checked before.
pub fn peek_batch_header(body: &[u8]) -> Result<BatchHeader, EventLogError> {
    let (header, _) = postcard::take_from_bytes(body).map_err(|_| EventLogError::Content)?;
    Ok(header)
}

/// Reads a record's body.
pub fn decode_record_body(info: &RecordInfo, body: &[u8]) -> Result<AppliedBatch, EventLogError> {
    check_record_body(info, body)?;
    let (body, rest) = postcard::take_from_bytes::<Body>(body).map_err(|_| EventLogError::Content)?;
    let mut end = 0;
    let in_order = body.commands.iter().all(|command| {
        let follows = command.events_end >= end;
        end = command.events_end;
        follows
    });
    let agrees = rest.is_empty()
        && in_order
        && end as usize == body.events.len()
        && body.header.first_sequence == info.first_sequence
        && body.header.count == info.count
        && body.commands.len() == info.count as usize;
    if !agrees {
        return Err(EventLogError::Content);
    }
    Ok(AppliedBatch {
        header: body.header,
        committed_at: None,
        commands: body.commands,
        events: body.events,
    })
}

#[cfg(test)]
mod tests {
    use types::{Epoch, Timestamp};

    use super::*;

    fn batch() -> AppliedBatch {
        AppliedBatch {
            header: BatchHeader {
                epoch: Epoch(1),
                first_sequence: Sequence(7),
                count: 2,
                sequenced_at: Timestamp(1_000),
                ..BatchHeader::default()
            },
            committed_at: None,
            commands: vec![
                AppliedCommand {
                    received_at: Timestamp(900),
                    events_end: 1,
                },
                AppliedCommand {
                    received_at: Timestamp(950),
                    events_end: 3,
                },
            ],
            events: vec![Event::ClockAdvanced, Event::ClockAdvanced, Event::ClockAdvanced],
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut bytes = vec![1, 2, 3];
        encode_record(&batch(), &mut bytes);
        let info = decode_record_header(&bytes[3..]).unwrap();
        assert_eq!((info.last_sequence(), info.bytes()), (Sequence(8), bytes.len() - 3));
        assert_eq!(
            decode_record_body(&info, &bytes[3 + RECORD_HEADER_BYTES..]),
            Ok(batch())
        );
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let mut bytes = Vec::new();
        encode_record(&batch(), &mut bytes);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let read = decode_record_header(&damaged)
                .and_then(|info| decode_record_body(&info, &damaged[RECORD_HEADER_BYTES..]));
            assert!(read.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_segment_header_comes_back_or_is_refused() {
        let info = SegmentInfo {
            cluster_id: "demo-1".parse().unwrap(),
            group: GroupId(0),
            incarnation: Incarnation(1),
            first_sequence: Sequence(42),
        };
        let bytes = encode_segment_header(&info);
        assert_eq!(decode_segment_header(&bytes), Ok(info));
        assert_eq!(decode_segment_header(&bytes[1..]), Err(EventLogError::CutShort));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_segment_header(&damaged).is_err(), "bit {bit}");
        }
    }
}
