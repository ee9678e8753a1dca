//! Segments' headers.

use std::fmt;

use types::{ClusterId, Epoch, GroupId, Incarnation, Sequence};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Chain, Identity, JOURNAL_VERSION, LogIndex, NodeId, Term};

/// Bytes in front of a segment's first record. A whole page, so that no record shares one with the header.
pub const SEGMENT_HEADER_BYTES: usize = 4_096;

const MAGIC: [u8; 8] = *b"MeridSeg";
const LAYOUT_BYTES: usize = size_of::<Layout>();
const _: () = assert!(LAYOUT_BYTES <= SEGMENT_HEADER_BYTES);

/// The layout of a header that does not simply go on from where the segment before it ended. A program that knows only
/// [`JOURNAL_VERSION`] refuses it: it would take what was dropped for a part of the log.
const VERSION_REPLACING: u8 = 2;
const CUT: u8 = 1;
const JUMP: u8 = 2;

/// The end of what stood before a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// The last index, and
    pub index: LogIndex,
    /// the chain there.
    pub chain: Chain,
}

/// How a segment goes on from what stands before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// From its end.
    AtTheEnd,
    /// From an earlier place: the entries behind that were never committed and are void.
    Cut(Replaced),
    /// From the place of a snapshot that came from a peer: nothing before it is part of the log any more.
    Jump(Replaced),
}

/// What stands at the start of a segment: whose it is, and where the log stood when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose journal.
    pub identity: Identity,
    /// The segment's number. They start at 1 and have no gaps.
    pub number: u64,
    /// The last index before it (0: none), and
    pub previous_index: LogIndex,
    /// the term of that entry, and
    pub previous_term: Term,
    /// the last sequence before it (0: none), and
    pub previous_sequence: Sequence,
    /// the epoch of that, and
    pub previous_epoch: Epoch,
    /// the chain there.
    pub previous_chain: Chain,
    /// The node's term when the segment began, and
    pub term: Term,
    /// whom it voted for in that term (0: nobody).
    pub vote: NodeId,
    /// How it goes on from what stands before it.
    pub begins: Begins,
}

/// Why bytes are not a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentHeaderError {
    /// There are only zeros: the segment was made ready and never begun.
    Nothing,
    /// They don't start with a segment's magic.
    Magic,
    /// They are fewer than a header has.
    Cut,
    /// Its checksum does not match.
    Checksum,
    /// It was written in another layout.
    Version(u8),
    /// Its cluster id is not one.
    Cluster,
    /// It goes on from what stands before it in a way that is not known.
    Begins(u8),
}

impl fmt::Display for SegmentHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "there are only zeros"),
            Self::Magic => write!(f, "it does not start as a segment does"),
            Self::Cut => write!(f, "the file is shorter than a segment's header"),
            Self::Checksum => write!(f, "its checksum does not match its bytes"),
            Self::Version(version) => {
                write!(
                    f,
                    "its layout is version {version}, this program reads {JOURNAL_VERSION} and {VERSION_REPLACING}"
                )
            }
            Self::Cluster => write!(f, "its cluster id is not one"),
            Self::Begins(kind) => write!(f, "it follows on the segment before it in the unknown way {kind}"),
        }
    }
}

impl std::error::Error for SegmentHeaderError {}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 8],
    crc: U32,
    version: u8,
    cluster_length: u8,
    group: U16,
    incarnation: U32,
    previous_epoch: U32,
    cluster: [u8; 32],
    node: U64,
    number: U64,
    previous_index: U64,
    previous_term: U64,
    previous_sequence: U64,
    term: U64,
    vote: U64,
    previous_chain: [u8; 32],
    // From here on there are zeros in a header of the first version.
    replaced_index: U64,
    replaced_chain: [u8; 32],
    begins: u8,
}

/// Where what the CRC covers begins: behind the magic and the CRC itself. It goes to the end of the header's page.
const CRC_FROM: usize = 12;

/// The header's page.
pub fn encode_segment_header(header: &SegmentHeader) -> Vec<u8> {
    let name = header.identity.cluster.as_bytes();
    let mut cluster = [0; 32];
    cluster[..name.len()].copy_from_slice(name);
    let (begins, replaced) = match header.begins {
        Begins::AtTheEnd => (0, Replaced::default()),
        Begins::Cut(replaced) => (CUT, replaced),
        Begins::Jump(replaced) => (JUMP, replaced),
    };
    let layout = Layout {
        magic: MAGIC,
        crc: 0.into(),
        version: if begins == 0 {
            JOURNAL_VERSION
        } else {
            VERSION_REPLACING
        },
        cluster_length: u8::try_from(name.len()).expect("a cluster id has at most 32 bytes"),
        group: header.identity.group.0.into(),
        incarnation: header.identity.incarnation.0.into(),
        previous_epoch: header.previous_epoch.0.into(),
        cluster,
        node: header.identity.node.0.into(),
        number: header.number.into(),
        previous_index: header.previous_index.0.into(),
        previous_term: header.previous_term.0.into(),
        previous_sequence: header.previous_sequence.0.into(),
        term: header.term.0.into(),
        vote: header.vote.0.into(),
        previous_chain: header.previous_chain.0,
        replaced_index: replaced.index.0.into(),
        replaced_chain: replaced.chain.0,
        begins,
    };
    let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
    bytes[..LAYOUT_BYTES].copy_from_slice(layout.as_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[8..CRC_FROM].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The header at the start of a segment's bytes.
pub fn decode_segment_header(bytes: &[u8]) -> Result<SegmentHeader, SegmentHeaderError> {
    let page = bytes.get(..SEGMENT_HEADER_BYTES).ok_or(SegmentHeaderError::Cut)?;
    let (layout, _) = Layout::ref_from_prefix(page).map_err(|_| SegmentHeaderError::Cut)?;
    if layout.magic != MAGIC {
        let nothing = page.iter().all(|byte| *byte == 0);
        return Err(if nothing {
            SegmentHeaderError::Nothing
        } else {
            SegmentHeaderError::Magic
        });
    }
    if crc32c::crc32c(&page[CRC_FROM..]) != layout.crc.get() {
        return Err(SegmentHeaderError::Checksum);
    }
    let replaced = Replaced {
        index: LogIndex(layout.replaced_index.get()),
        chain: Chain(layout.replaced_chain),
    };
    let begins = match (layout.version, layout.begins) {
        (JOURNAL_VERSION, _) => Begins::AtTheEnd,
        (VERSION_REPLACING, CUT) => Begins::Cut(replaced),
        (VERSION_REPLACING, JUMP) => Begins::Jump(replaced),
        (VERSION_REPLACING, other) => return Err(SegmentHeaderError::Begins(other)),
        (other, _) => return Err(SegmentHeaderError::Version(other)),
    };
    let cluster: ClusterId = layout
        .cluster
        .get(..usize::from(layout.cluster_length))
        .and_then(|name| std::str::from_utf8(name).ok())
        .and_then(|name| name.parse().ok())
        .ok_or(SegmentHeaderError::Cluster)?;
    Ok(SegmentHeader {
        identity: Identity {
            cluster,
            group: GroupId(layout.group.get()),
            incarnation: Incarnation(layout.incarnation.get()),
            node: NodeId(layout.node.get()),
        },
        number: layout.number.get(),
        previous_index: LogIndex(layout.previous_index.get()),
        previous_term: Term(layout.previous_term.get()),
        previous_sequence: Sequence(layout.previous_sequence.get()),
        previous_epoch: Epoch(layout.previous_epoch.get()),
        previous_chain: Chain(layout.previous_chain),
        term: Term(layout.term.get()),
        vote: NodeId(layout.vote.get()),
        begins,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(begins: Begins) -> SegmentHeader {
        SegmentHeader {
            identity: Identity {
                cluster: "a-cluster".parse().unwrap(),
                group: GroupId(1),
                incarnation: Incarnation(2),
                node: NodeId(3),
            },
            number: 4,
            previous_index: LogIndex(5),
            previous_term: Term(6),
            previous_sequence: Sequence(7),
            previous_epoch: Epoch(8),
            previous_chain: Chain([9; 32]),
            term: Term(10),
            vote: NodeId(11),
            begins,
        }
    }

    const REPLACED: Replaced = Replaced {
        index: LogIndex(12),
        chain: Chain([13; 32]),
    };

    #[test]
    fn what_is_encoded_is_decoded_and_every_flipped_bit_is_noticed() {
        for begins in [Begins::AtTheEnd, Begins::Cut(REPLACED), Begins::Jump(REPLACED)] {
            let header = header(begins);
            let good = encode_segment_header(&header);
            assert_eq!(decode_segment_header(&good), Ok(header));
            for bit in 0..(LAYOUT_BYTES + 16) * 8 {
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let error = decode_segment_header(&bytes).expect_err("a flipped bit");
                assert_ne!(error, SegmentHeaderError::Nothing);
            }
            assert_eq!(decode_segment_header(&good[..4_095]), Err(SegmentHeaderError::Cut));
        }
        assert_eq!(decode_segment_header(&[0; 4_096]), Err(SegmentHeaderError::Nothing));
    }

    #[test]
    fn a_header_that_drops_nothing_is_as_the_first_version_wrote_it_and_another_one_is_refused_by_that() {
        // The first version's 144 bytes, then zeros.
        let mut page = vec![0; SEGMENT_HEADER_BYTES];
        page[..8].copy_from_slice(&MAGIC);
        page[12..16].copy_from_slice(&[1, 9, 1, 0]);
        (page[16], page[20]) = (2, 8);
        page[24..33].copy_from_slice(b"a-cluster");
        for (at, number) in [(56, 3), (64, 4), (72, 5), (80, 6), (88, 7), (96, 10), (104, 11)] {
            page[at] = number;
        }
        page[112..144].copy_from_slice(&[9; 32]);
        let crc = crc32c::crc32c(&page[CRC_FROM..]);
        page[8..CRC_FROM].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_segment_header(&page), Ok(header(Begins::AtTheEnd)));
        assert_eq!(encode_segment_header(&header(Begins::AtTheEnd)), page);
        for begins in [Begins::Cut(REPLACED), Begins::Jump(REPLACED)] {
            assert_eq!(encode_segment_header(&header(begins))[12], 2);
        }
    }
}
