//! The journal's bytes: segments' headers, records, and the mark. Pure; `node` does the reading and writing.
//!
//! ```text
//!  segment file:  header (4,096 bytes) | record | record | ... | zeros, or records of the file's earlier life
//!  record:        header (96 bytes) | payload | zeros up to a multiple of 8
//!  mark file:     slot (4,096 bytes) | slot (4,096 bytes)
//! ```
//!
//! Everything is little endian, carries a version, and is covered by a CRC-32C. A record names its segment, so that what
//! a recycled file holds from its earlier life is never taken for a record. A batch's record carries a BLAKE3 chain over
//! (epoch, first sequence, payload) of all batches so far: the same chain on every node and in both regions.
//!
//! A reader refuses a version that it doesn't know. New layouts get a new version and ship dormant: they are written only
//! once every node reads them.

mod mark;
mod record;
mod segment;

use std::fmt;

use serde::{Deserialize, Serialize};
use types::{ClusterId, GroupId, Incarnation};

pub use mark::{MARK_FILE_BYTES, MARK_SLOT_BYTES, Mark, decode_mark, encode_mark};
pub use record::{
    RECORD_ALIGNMENT, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_MAGIC, RecordError, RecordFields, RecordKind,
    RecordView, decode_record, encode_record, record_bytes,
};
pub use segment::{
    Begins, Replaced, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderError, decode_segment_header,
    encode_segment_header,
};

/// The CRC-32C (Castagnoli) that records, headers and marks carry.
pub use crc32c::{crc32c, crc32c_append};

/// The layout of records and marks, and the only one that is read; that of segments' headers that drop nothing.
pub const JOURNAL_VERSION: u8 = 1;

/// The place of an entry in the log. Starts at 1 and has no gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The next place.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A term of leadership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A node of a group. A node with an empty disk is a new node with an id of its own. 0 is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Whose journal it is. Files of another one are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group whose log it holds.
    pub group: GroupId,
    /// Which life of the group.
    pub incarnation: Incarnation,
    /// The node.
    pub node: NodeId,
}

/// The BLAKE3 chain at some place in the log.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// The chain before the first batch.
    pub const START: Self = Self([0; 32]);

    /// The chain behind a batch.
    #[must_use]
    pub fn behind(self, epoch: types::Epoch, first_sequence: types::Sequence, payload: &[u8]) -> Self {
        let mut front = [0; 44];
        front[..32].copy_from_slice(&self.0);
        front[32..36].copy_from_slice(&epoch.0.to_le_bytes());
        front[36..].copy_from_slice(&first_sequence.0.to_le_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&front);
        hasher.update(payload);
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
