//! The mark: up to where this node has acknowledged, kept in a second place than the records themselves.

use types::{Epoch, Sequence};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Chain, JOURNAL_VERSION, LogIndex, NodeId, Replaced, Term};

/// Bytes of one of the two slots: a whole page, so that writing one never harms the other.
pub const MARK_SLOT_BYTES: usize = 4_096;
/// Bytes of the file.
pub const MARK_FILE_BYTES: usize = 2 * MARK_SLOT_BYTES;

const MAGIC: [u8; 8] = *b"MeridMrk";
const LAYOUT_BYTES: usize = size_of::<Layout>();
const CRC_FROM: usize = 12;

/// Up to where the log was durable, so that its loss would be the loss of something acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Counts the writes of the mark: the higher one of the two slots holds.
    pub counter: u64,
    /// The last durable index (0: none), and
    pub index: LogIndex,
    /// the term of that entry, and
    pub term: Term,
    /// the last sequence at or before it, and
    pub sequence: Sequence,
    /// the epoch of that, and
    pub epoch: Epoch,
    /// the chain there.
    pub chain: Chain,
    /// The last segment that was begun (0: not known; an earlier version did not say it).
    pub segment: u64,
    /// The node's term, and
    pub hard_term: Term,
    /// whom it voted for in that (0: nobody), so that a node whose journal is damaged does not vote twice.
    pub vote: NodeId,
    /// The place of a snapshot from a peer (index 0: none) with which the log is about to begin anew. Once the snapshot is
    /// there, what stood before is of no use.
    pub jump: Replaced,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 8],
    crc: U32,
    version: U32,
    counter: U64,
    index: U64,
    term: U64,
    sequence: U64,
    epoch: U32,
    reserved: U32,
    chain: [u8; 32],
    // From here on there are zeros in what earlier versions wrote, and they read no further.
    segment: U64,
    hard_term: U64,
    vote: U64,
    jump_index: U64,
    jump_chain: [u8; 32],
}

/// The slot's page.
pub fn encode_mark(mark: &Mark) -> Vec<u8> {
    let layout = Layout {
        magic: MAGIC,
        crc: 0.into(),
        version: u32::from(JOURNAL_VERSION).into(),
        counter: mark.counter.into(),
        index: mark.index.0.into(),
        term: mark.term.0.into(),
        sequence: mark.sequence.0.into(),
        epoch: mark.epoch.0.into(),
        reserved: 0.into(),
        chain: mark.chain.0,
        segment: mark.segment.into(),
        hard_term: mark.hard_term.0.into(),
        vote: mark.vote.0.into(),
        jump_index: mark.jump.index.0.into(),
        jump_chain: mark.jump.chain.0,
    };
    let mut bytes = vec![0; MARK_SLOT_BYTES];
    bytes[..LAYOUT_BYTES].copy_from_slice(layout.as_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[8..CRC_FROM].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The mark of one slot's page; none if it is damaged, torn or was never written.
pub fn decode_mark(bytes: &[u8]) -> Option<Mark> {
    let page = bytes.get(..MARK_SLOT_BYTES)?;
    let (layout, _) = Layout::ref_from_prefix(page).ok()?;
    let whole = layout.magic == MAGIC
        && crc32c::crc32c(&page[CRC_FROM..]) == layout.crc.get()
        && layout.version.get() == u32::from(JOURNAL_VERSION);
    whole.then(|| Mark {
        counter: layout.counter.get(),
        index: LogIndex(layout.index.get()),
        term: Term(layout.term.get()),
        sequence: Sequence(layout.sequence.get()),
        epoch: Epoch(layout.epoch.get()),
        chain: Chain(layout.chain),
        segment: layout.segment.get(),
        hard_term: Term(layout.hard_term.get()),
        vote: NodeId(layout.vote.get()),
        jump: Replaced {
            index: LogIndex(layout.jump_index.get()),
            chain: Chain(layout.jump_chain),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_every_flipped_bit_is_noticed() {
        let mark = Mark {
            counter: 1,
            index: LogIndex(2),
            term: Term(3),
            sequence: Sequence(4),
            epoch: Epoch(5),
            chain: Chain([6; 32]),
            segment: 7,
            hard_term: Term(8),
            vote: NodeId(9),
            jump: Replaced {
                index: LogIndex(10),
                chain: Chain([11; 32]),
            },
        };
        let good = encode_mark(&mark);
        assert_eq!(decode_mark(&good), Some(mark));
        for bit in 0..(LAYOUT_BYTES + 16) * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_mark(&bytes), None, "bit {bit}");
        }
        assert_eq!(decode_mark(&good[..4_095]), None);
        assert_eq!(decode_mark(&[0; 4_096]), None);
    }
    #[test]
    fn a_mark_of_the_first_version_is_read() {
        // As it was written: 88 bytes of layout, then zeros.
        let mut page = vec![0; MARK_SLOT_BYTES];
        page[..8].copy_from_slice(&MAGIC);
        page[12] = 1;
        for (at, number) in [(16, 1), (24, 2), (32, 3), (40, 4), (48, 5)] {
            page[at] = number;
        }
        page[56..88].copy_from_slice(&[6; 32]);
        let crc = crc32c::crc32c(&page[CRC_FROM..]);
        page[8..CRC_FROM].copy_from_slice(&crc.to_le_bytes());
        let mark = Mark {
            counter: 1,
            index: LogIndex(2),
            term: Term(3),
            sequence: Sequence(4),
            epoch: Epoch(5),
            chain: Chain([6; 32]),
            ..Mark::default()
        };
        assert_eq!(decode_mark(&page), Some(mark));
    }
}
