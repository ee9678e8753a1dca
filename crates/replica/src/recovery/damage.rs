//! What is wrong with a journal that can't be used, and how that is known.

use std::fmt;

use types::Sequence;
use wire::journal::{Identity, LogIndex, RecordError, SegmentHeaderError};

use super::{Location, segment_file_name};

/// What says that something was durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The mark.
    Mark(LogIndex),
    /// A record that was written later.
    LaterRecord {
        /// Where it stands.
        at: Location,
        /// Up to where it says that the log was durable.
        durable: LogIndex,
    },
    /// The header of the next segment.
    NextSegment {
        /// Its number.
        segment: u64,
        /// The last index before it.
        previous: LogIndex,
    },
    /// The snapshot.
    Snapshot(LogIndex),
    /// The mark, of a segment that was begun.
    MarkedSegment(u64),
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(index) => write!(f, "the mark says that index {index} was acknowledged"),
            Self::LaterRecord { at, durable } => {
                write!(f, "a later record ({at}) says that index {durable} was durable")
            }
            Self::NextSegment { segment, previous } => {
                write!(f, "{} follows on index {previous}", segment_file_name(*segment))
            }
            Self::Snapshot(index) => write!(f, "a snapshot was made of index {index}"),
            Self::MarkedSegment(segment) => write!(f, "the mark says that {} was begun", segment_file_name(*segment)),
        }
    }
}

/// Why a journal can't be used. Each names the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A record that was durable is not as it was written.
    Record {
        /// Where it must stand.
        at: Location,
        /// Its index.
        index: LogIndex,
        /// The first sequence that may be lost.
        sequence: Sequence,
        /// What is there instead.
        error: RecordError,
        /// Why it must be there.
        proof: Proof,
    },
    /// A record is whole and is not the one that follows.
    RecordOutOfPlace {
        /// Where it stands.
        at: Location,
        /// What had to follow.
        expected: LogIndex,
        /// What stands there.
        found: LogIndex,
    },
    /// The chain does not link a record to what comes before it.
    ChainBroken {
        /// Where the record stands.
        at: Location,
        /// Its index.
        index: LogIndex,
    },
    /// A segment's header is damaged.
    SegmentHeader {
        /// Which segment.
        segment: u64,
        /// What is there instead.
        error: SegmentHeaderError,
        /// The index that had to follow.
        index: LogIndex,
        /// Why it must be there, where that is known.
        proof: Option<Proof>,
    },
    /// A segment's file is missing.
    SegmentMissing {
        /// Which segment.
        segment: u64,
        /// The index that had to be in it or before it.
        index: LogIndex,
    },
    /// A segment does not follow on the one before it: swapped, doubled, or from elsewhere.
    SegmentOutOfPlace {
        /// The file's number.
        segment: u64,
        /// The number that stands in it.
        says: u64,
        /// The last index before it, as the segments before say, and
        expected: LogIndex,
        /// as it says itself.
        found: LogIndex,
    },
    /// A segment belongs to another journal.
    SegmentForeign {
        /// Which segment.
        segment: u64,
        /// Whose it is.
        identity: Box<Identity>,
    },
    /// A segment drops entries that were committed.
    CommittedCut {
        /// Which segment.
        segment: u64,
        /// The last index that it keeps.
        after: LogIndex,
        /// The last index that the log proves to be committed.
        committed: LogIndex,
    },
    /// A segment begins with a snapshot that came from a peer, and that is not there.
    SnapshotMissing {
        /// Which segment.
        segment: u64,
        /// The snapshot's place.
        index: LogIndex,
    },
    /// The mark, or a snapshot, is of another history than the records.
    OtherHistory {
        /// At which index they differ.
        index: LogIndex,
        /// Which of the two.
        source: &'static str,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record {
                at,
                index,
                sequence,
                error,
                proof,
            } => write!(
                f,
                "the record of index {index} (sequence {sequence} and on; {at}) is damaged: {error}. It was durable: {proof}"
            ),
            Self::RecordOutOfPlace { at, expected, found } => write!(
                f,
                "the record of index {expected} had to stand in {at}, and that of index {found} stands there"
            ),
            Self::ChainBroken { at, index } => write!(
                f,
                "the record of index {index} ({at}) does not link to the records before it: its chain differs"
            ),
            Self::SegmentHeader {
                segment,
                error,
                index,
                proof,
            } => {
                let name = segment_file_name(*segment);
                write!(
                    f,
                    "the header of {name} (the record of index {index} had to follow) is damaged: {error}"
                )?;
                proof
                    .iter()
                    .try_for_each(|proof| write!(f, ". It was durable: {proof}"))
            }
            Self::SegmentMissing { segment, index } => write!(
                f,
                "{} is missing; the record of index {index} had to be in it or before it",
                segment_file_name(*segment)
            ),
            Self::SegmentOutOfPlace {
                segment,
                says,
                expected,
                found,
            } => write!(
                f,
                "{} does not follow on the segments before it: it says that it is segment {says} and follows on \
                 index {found}, where segment {segment} had to follow on index {expected}",
                segment_file_name(*segment)
            ),
            Self::SegmentForeign { segment, identity } => write!(
                f,
                "{} belongs to cluster {}, group {}, incarnation {}, node {}: to another journal",
                segment_file_name(*segment),
                identity.cluster,
                identity.group,
                identity.incarnation,
                identity.node
            ),
            Self::CommittedCut {
                segment,
                after,
                committed,
            } => write!(
                f,
                "{} drops what stands behind index {after}, and the log says that everything up to index {committed} was \
                 committed",
                segment_file_name(*segment)
            ),
            Self::SnapshotMissing { segment, index } => write!(
                f,
                "{} begins with the snapshot of index {index} that came from a peer, and there is no such snapshot",
                segment_file_name(*segment)
            ),
            Self::OtherHistory { index, source } => write!(
                f,
                "{source} is of another history: at index {index} its chain is not that of the record"
            ),
        }
    }
}

impl std::error::Error for Damage {}
