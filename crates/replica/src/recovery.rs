//! What a journal holds after a crash: which records are whole, what may be cut as torn, and what proves a loss.
//!
//! A write that was under way when the power went may be there, missing, or there in parts. Such a torn tail was never
//! acknowledged and may be cut. What was acknowledged must be there. The two are told apart by what says that a place
//! was durable:
//!
//! - the mark, which lies in another file,
//! - each later record, which says up to which index the log was durable when it was written,
//! - the next segment, which was begun only after the one before it was durable,
//! - the snapshot that the state is loaded from.
//!
//! Only what lies behind all of these may be cut. Everything else that is not as it was written is [`Damage`].
//! This module looks at bytes; it neither reads nor changes files.

use std::fmt;

use types::Sequence;
use wire::journal::{
    Chain, Identity, LogIndex, Mark, RECORD_ALIGNMENT, RECORD_MAGIC, RecordError, RecordKind, RecordView,
    SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderError, Term, decode_record, decode_segment_header,
};

use crate::applier::Applied;
use crate::replica::HardState;

/// The name of a segment's file.
pub fn segment_file_name(number: u64) -> String {
    format!("{number:012}.journal")
}

/// A place in the journal's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The segment's number.
    pub segment: u64,
    /// The byte in its file.
    pub offset: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", segment_file_name(self.segment), self.offset)
    }
}

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
            Self::OtherHistory { index, source } => write!(
                f,
                "{source} is of another history: at index {index} its chain is not that of the record"
            ),
        }
    }
}

impl std::error::Error for Damage {}

/// Where the log stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The last index (0: none), and
    pub index: LogIndex,
    /// its term.
    pub term: Term,
    /// The last sequence (0: none), and
    pub sequence: Sequence,
    /// its epoch, and
    pub epoch: types::Epoch,
    /// the chain behind it.
    pub chain: Chain,
}

/// Where the next record goes, and what must be wiped first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Where the next record goes.
    pub at: Location,
    /// Something that is no whole record stands there or behind it, and was never acknowledged: what it is.
    pub torn: Option<RecordError>,
}

/// A journal that lost nothing that is known to have been acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Where the log ends.
    pub end: Place,
    /// The term and vote.
    pub hard_state: HardState,
    /// Where the next record goes; none if no segment was ever begun.
    pub tail: Option<Tail>,
    /// The segment behind the last one that was begun, if there is its file.
    pub prepared: Option<Prepared>,
    /// The one behind that, if there is its file: it is made ready while the one before it is begun, and what is begun
    /// may be lost.
    pub prepared_after: Option<u64>,
}

/// A segment that was made ready and not begun, as far as anything acknowledged goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Its number.
    pub segment: u64,
    /// What stands in place of a header.
    pub error: SegmentHeaderError,
    /// True if something stands in it that must be wiped before it is begun.
    pub wipe: bool,
}

/// Looks at a journal, segment by segment.
#[derive(Debug)]
pub struct Scan {
    identity: Identity,
    mark: Mark,
    snapshot: Applied,
    place: Option<Place>,
    hard_state: HardState,
    tail: Option<Tail>,
    prepared: Option<Prepared>,
    prepared_after: Option<u64>,
    last_segment: Option<u64>,
}

impl Scan {
    /// Of a journal with this mark, for a state that was loaded from a snapshot of `snapshot` (index 0: there is none).
    pub fn new(identity: Identity, mark: Mark, snapshot: Applied) -> Self {
        Self {
            identity,
            mark,
            snapshot,
            place: None,
            hard_state: HardState::default(),
            tail: None,
            prepared: None,
            prepared_after: None,
            last_segment: None,
        }
    }

    /// Looks at the next segment; they come in the order of their numbers. The first one is segment 1, or one that begins
    /// at or before the snapshot. `each` sees every record that is whole and follows on the one before it.
    pub fn segment(
        &mut self,
        number: u64,
        bytes: &[u8],
        each: &mut dyn FnMut(Location, &RecordView<'_>),
    ) -> Result<(), Damage> {
        let index = self.place.unwrap_or_default().index.next();
        if let Some(last) = self.last_segment
            && number != last + 1
        {
            return Err(Damage::SegmentMissing {
                segment: last + 1,
                index,
            });
        }
        if let Some(prepared) = self.prepared {
            if self.prepared_after.is_none() && untouched(number, bytes) {
                // It proves nothing of the one before it, which may have been lost as it was begun.
                self.last_segment = Some(number);
                self.prepared_after = Some(number);
                return Ok(());
            }
            // Only behind the last segment that was begun may there be any that were not.
            return Err(Damage::SegmentHeader {
                segment: prepared.segment,
                error: prepared.error,
                index,
                proof: None,
            });
        }
        self.last_segment = Some(number);
        match decode_segment_header(bytes) {
            Ok(header) => self.begin(number, &header)?,
            Err(error) => return self.not_begun(number, bytes, error),
        }
        self.records(number, bytes, each)
    }

    /// Whether the journal holds all that it must.
    pub fn finish(self) -> Result<Recovered, Damage> {
        let place = self.place.unwrap_or_default();
        let proof = if self.mark.index > place.index {
            Some(Proof::Mark(self.mark.index))
        } else if self.snapshot.index > place.index {
            Some(Proof::Snapshot(self.snapshot.index))
        } else {
            None
        };
        if let Some(proof) = proof {
            return Err(self.lost(place, proof));
        }
        Ok(Recovered {
            end: place,
            hard_state: self.hard_state,
            tail: self.tail,
            prepared: self.prepared,
            prepared_after: self.prepared_after,
        })
    }

    /// The damage of the log ending before what `proof` says.
    fn lost(&self, place: Place, proof: Proof) -> Damage {
        let index = place.index.next();
        match (self.tail, self.prepared) {
            // The segment that is not begun may be the one that holds it: its header may be what was lost.
            (Some(tail), Some(prepared)) if tail.torn.is_none() && prepared.wipe => Damage::SegmentHeader {
                segment: prepared.segment,
                error: prepared.error,
                index,
                proof: Some(proof),
            },
            (Some(tail), _) => Damage::Record {
                at: tail.at,
                index,
                sequence: place.sequence.next(),
                error: tail.torn.unwrap_or(RecordError::Nothing),
                proof,
            },
            (None, _) => Damage::SegmentMissing {
                segment: self.last_segment.unwrap_or(1),
                index,
            },
        }
    }

    /// A segment with a whole header.
    fn begin(&mut self, number: u64, header: &SegmentHeader) -> Result<(), Damage> {
        if header.identity != self.identity {
            return Err(Damage::SegmentForeign {
                segment: number,
                identity: Box::new(header.identity),
            });
        }
        let says = Place {
            index: header.previous_index,
            term: header.previous_term,
            sequence: header.previous_sequence,
            epoch: header.previous_epoch,
            chain: header.previous_chain,
        };
        let out_of_place = |expected| Damage::SegmentOutOfPlace {
            segment: number,
            says: header.number,
            expected,
            found: says.index,
        };
        let Some(place) = self.place else {
            if header.number != number || (number == 1 && says != Place::default()) {
                return Err(out_of_place(LogIndex(0)));
            }
            if says.index > self.snapshot.index {
                return Err(Damage::SegmentMissing {
                    segment: number.saturating_sub(1),
                    index: self.snapshot.index.next(),
                });
            }
            self.place = Some(says);
            self.hard_state = hard_state(header);
            return self.check_history(says);
        };
        if header.number != number {
            return Err(out_of_place(place.index));
        }
        if says.index > place.index {
            return Err(self.lost(
                place,
                Proof::NextSegment {
                    segment: number,
                    previous: says.index,
                },
            ));
        }
        if says != place {
            return Err(out_of_place(place.index));
        }
        self.hard_state = hard_state(header);
        Ok(())
    }

    /// A segment without a whole header: made ready and never begun, torn as it began, or damaged.
    fn not_begun(&mut self, number: u64, bytes: &[u8], error: SegmentHeaderError) -> Result<(), Damage> {
        let place = self.place.unwrap_or_default();
        let later = records_of_body(number, bytes);
        if let Some((at, durable)) = later
            && durable > place.index
        {
            return Err(Damage::SegmentHeader {
                segment: number,
                error,
                index: place.index.next(),
                proof: Some(Proof::LaterRecord { at, durable }),
            });
        }
        let clean = error == SegmentHeaderError::Nothing && later.is_none();
        self.prepared = Some(Prepared {
            segment: number,
            error,
            wipe: !clean,
        });
        Ok(())
    }

    fn records(
        &mut self,
        number: u64,
        bytes: &[u8],
        each: &mut dyn FnMut(Location, &RecordView<'_>),
    ) -> Result<(), Damage> {
        let mut offset = SEGMENT_HEADER_BYTES;
        loop {
            let at = Location {
                segment: number,
                offset: offset as u64,
            };
            let place = self.place.unwrap_or_default();
            let rest = bytes.get(offset..).unwrap_or_default();
            match decode_record(rest, number) {
                Ok(record) => {
                    self.follow(at, place, &record)?;
                    each(at, &record);
                    offset += record.bytes;
                }
                Err(error) => return self.end_of_segment(at, place, rest, error),
            }
        }
    }

    /// Moves on by one record.
    fn follow(&mut self, at: Location, place: Place, record: &RecordView<'_>) -> Result<(), Damage> {
        let fields = &record.fields;
        let index = if fields.kind.is_entry() {
            place.index.next()
        } else {
            place.index
        };
        let kin = fields.incarnation == self.identity.incarnation && fields.durable_index <= place.index;
        if fields.index != index || !kin {
            return Err(Damage::RecordOutOfPlace {
                at,
                expected: index,
                found: fields.index,
            });
        }
        let mut next = Place {
            index,
            epoch: fields.epoch,
            ..place
        };
        if fields.kind == RecordKind::Batch {
            next.chain = place.chain.behind(fields.epoch, fields.first_sequence, record.payload);
            let header = wire::batch::decode_header(record.payload).map_err(|_| Damage::ChainBroken { at, index })?;
            next.sequence = header.last_sequence();
        }
        if fields.chain != next.chain {
            return Err(Damage::ChainBroken { at, index });
        }
        if fields.kind == RecordKind::HardState {
            let vote = record.payload.first_chunk().map_or(0, |vote| u64::from_le_bytes(*vote));
            self.hard_state = HardState {
                term: fields.term,
                vote: wire::journal::NodeId(vote),
            };
        } else {
            next.term = fields.term;
        }
        self.place = Some(next);
        if fields.kind.is_entry() {
            self.check_history(next)
        } else {
            Ok(())
        }
    }

    /// The mark and the snapshot tell the chain at their place.
    fn check_history(&self, place: Place) -> Result<(), Damage> {
        let index = place.index;
        if self.mark.index == index && index.0 > 0 && self.mark.chain != place.chain {
            let source = "the mark";
            return Err(Damage::OtherHistory { index, source });
        }
        if self.snapshot.index == index && index.0 > 0 && self.snapshot.chain != place.chain {
            let source = "the snapshot";
            return Err(Damage::OtherHistory { index, source });
        }
        Ok(())
    }

    /// No record of this segment stands at `at`: the log ends there, goes on in the next segment, or is damaged.
    fn end_of_segment(&mut self, at: Location, place: Place, rest: &[u8], error: RecordError) -> Result<(), Damage> {
        let offset = usize::try_from(at.offset).expect("it is an offset in memory");
        let later = later_records(at.segment, rest, offset);
        if let Some((later_at, durable)) = later
            && durable > place.index
        {
            return Err(Damage::Record {
                at,
                index: place.index.next(),
                sequence: place.sequence.next(),
                error,
                proof: Proof::LaterRecord { at: later_at, durable },
            });
        }
        let clean = error.is_unwritten() && later.is_none();
        self.tail = Some(Tail {
            at,
            torn: (!clean).then_some(error),
        });
        Ok(())
    }
}

fn hard_state(header: &SegmentHeader) -> HardState {
    HardState {
        term: header.term,
        vote: header.vote,
    }
}

/// True if a segment was made ready and nothing was ever written to it.
fn untouched(number: u64, bytes: &[u8]) -> bool {
    decode_segment_header(bytes) == Err(SegmentHeaderError::Nothing) && records_of_body(number, bytes).is_none()
}

/// As [`later_records`], of all that is behind a segment's header.
fn records_of_body(number: u64, bytes: &[u8]) -> Option<(Location, LogIndex)> {
    let body = bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or_default();
    later_records(number, body, SEGMENT_HEADER_BYTES)
}

/// Of all whole records of the segment in `bytes`, which start at `offset` of its file: the one that says that the
/// highest index was durable. None if there is no such record.
fn later_records(segment: u64, bytes: &[u8], offset: usize) -> Option<(Location, LogIndex)> {
    let mut best: Option<(Location, LogIndex)> = None;
    let mut from = 0;
    while let Some(found) = bytes.get(from..).and_then(next_magic) {
        let start = from + found;
        from = start + RECORD_ALIGNMENT;
        let Ok(record) = decode_record(&bytes[start..], segment) else {
            continue;
        };
        from = start + record.bytes;
        let durable = record.fields.durable_index;
        if best.is_none_or(|(_, highest)| durable > highest) {
            let at = Location {
                segment,
                offset: (offset + start) as u64,
            };
            best = Some((at, durable));
        }
    }
    best
}

/// Where the next record may start.
fn next_magic(bytes: &[u8]) -> Option<usize> {
    let places = bytes.chunks_exact(RECORD_ALIGNMENT);
    places
        .enumerate()
        .find(|(_, place)| place[..4] == RECORD_MAGIC)
        .map(|(at, _)| at * RECORD_ALIGNMENT)
}
