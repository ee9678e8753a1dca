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
//!
//! A node that is one of several voters may have entries that another leader replaced. Nothing is overwritten for that: a
//! segment begins at an earlier place, and says what ended before it.
//!
//! ```text
//!  segment 1:  1 2 3 4 5 6        written, 5 and 6 never committed
//!  segment 2:          5' 6' 7'   "goes on from 4; what stood before ended at 6"
//!  the log:    1 2 3 4 5' 6' 7'
//! ```
//!
//! This module looks at bytes; it neither reads nor changes files.

use std::collections::VecDeque;
mod damage;

use std::fmt;

use types::Sequence;
use wire::journal::{
    Begins, Chain, Identity, LogIndex, Mark, RECORD_ALIGNMENT, RECORD_MAGIC, RecordError, RecordKind, RecordView,
    Replaced, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentHeaderError, Term, decode_record, decode_segment_header,
};

use crate::applier::Applied;
use crate::replica::HardState;
pub use damage::{Damage, Proof};

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

impl Place {
    /// Where the log stood before a segment.
    pub fn before(header: &SegmentHeader) -> Self {
        Self {
            index: header.previous_index,
            term: header.previous_term,
            sequence: header.previous_sequence,
            epoch: header.previous_epoch,
            chain: header.previous_chain,
        }
    }

    /// What a segment that begins elsewhere says of it, if it is the end of what stood before.
    pub fn replaced(&self) -> Replaced {
        Replaced {
            index: self.index,
            chain: self.chain,
        }
    }
}

impl From<Applied> for Place {
    fn from(applied: Applied) -> Self {
        Self {
            index: applied.index,
            term: applied.term,
            sequence: applied.sequence,
            epoch: applied.epoch,
            chain: applied.chain,
        }
    }
}

/// What a scan comes past.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A record that is whole and follows on what was seen before.
    Record(Location, &'a RecordView<'a>),
    /// The entries behind `after`, up to `from`, were never committed and are void.
    Cut {
        /// The segment that says so.
        segment: u64,
        /// The last index that stays.
        after: LogIndex,
        /// The last one that was there.
        from: LogIndex,
    },
    /// All entries up to this one are known to be committed.
    Committed(LogIndex),
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
    /// Up to where the log itself and the snapshot say that it is committed.
    pub committed: Place,
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
    /// What is known to be committed, and every place behind that.
    uncommitted: VecDeque<Place>,
    /// The last entry that changes the membership.
    last_change: Option<LogIndex>,
    /// True once a place was seen that is the mark's, in whatever was dropped later too; or if that lies before all that
    /// is looked at.
    mark_seen: bool,
    /// Whether the log's place at the snapshot's index is that of the snapshot.
    snapshot_agrees: Option<bool>,
    /// The last segment that was begun.
    begun: u64,
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
            uncommitted: VecDeque::new(),
            last_change: None,
            mark_seen: false,
            snapshot_agrees: None,
            begun: 0,
            hard_state: HardState::default(),
            tail: None,
            prepared: None,
            prepared_after: None,
            last_segment: None,
        }
    }

    /// Looks at the next segment; they come in the order of their numbers. The first one is segment 1, or one that begins
    /// at or before the snapshot. `each` is told of what it comes past.
    pub fn segment(&mut self, number: u64, bytes: &[u8], each: &mut dyn FnMut(Seen<'_>)) -> Result<(), Damage> {
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
            Ok(header) => self.begin(number, &header, each)?,
            Err(error) => return self.not_begun(number, bytes, error),
        }
        self.records(number, bytes, each)
    }

    /// Whether the snapshot's place was found in the log, as the snapshot tells it.
    pub fn holds_snapshot(&self) -> bool {
        self.snapshot_agrees == Some(true)
    }

    /// Whether the journal holds all that it must.
    pub fn finish(self) -> Result<Recovered, Damage> {
        let place = self.place.unwrap_or_default();
        let mark = &self.mark;
        let marked = self.mark_seen || mark.index == LogIndex(0);
        if !marked && mark.index > place.index {
            return Err(self.lost(place, Proof::Mark(mark.index)));
        }
        if mark.segment > self.begun {
            let proof = Proof::MarkedSegment(mark.segment);
            let index = place.index.next();
            return Err(match self.prepared {
                Some(prepared) => Damage::SegmentHeader {
                    segment: prepared.segment,
                    error: prepared.error,
                    index,
                    proof: Some(proof),
                },
                None => Damage::SegmentMissing {
                    segment: self.begun + 1,
                    index,
                },
            });
        }
        if !marked {
            let (index, source) = (mark.index, "the mark");
            return Err(Damage::OtherHistory { index, source });
        }
        let snapshot = self.snapshot.index;
        if snapshot > place.index {
            return Err(self.lost(place, Proof::Snapshot(snapshot)));
        }
        if self.snapshot_agrees == Some(false) {
            let (index, source) = (snapshot, "the snapshot");
            return Err(Damage::OtherHistory { index, source });
        }
        Ok(Recovered {
            end: place,
            committed: self.uncommitted.front().copied().unwrap_or_default(),
            hard_state: newer(self.hard_state, marked_hard_state(mark)),
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
    fn begin(&mut self, number: u64, header: &SegmentHeader, each: &mut dyn FnMut(Seen<'_>)) -> Result<(), Damage> {
        if header.identity != self.identity {
            return Err(Damage::SegmentForeign {
                segment: number,
                identity: Box::new(header.identity),
            });
        }
        let says = Place::before(header);
        let out_of_place = |expected| Damage::SegmentOutOfPlace {
            segment: number,
            says: header.number,
            expected,
            found: says.index,
        };
        let expected = self.place.unwrap_or_default().index;
        let is_jump = matches!(header.begins, Begins::Jump(_));
        if header.number != number || (number == 1 && !is_jump && says != Place::default()) {
            return Err(out_of_place(expected));
        }
        // What a snapshot from a peer replaced is not looked at: whoever scans starts behind that.
        if is_jump && (self.place.is_some() || says.index > self.snapshot.index) {
            return Err(Damage::SnapshotMissing {
                segment: number,
                index: says.index,
            });
        }
        match self.place {
            None if says.index > self.snapshot.index => {
                return Err(Damage::SegmentMissing {
                    segment: number.saturating_sub(1),
                    index: self.snapshot.index.next(),
                });
            }
            None => {
                self.uncommitted.push_back(says);
                let replaced = match header.begins {
                    Begins::Cut(replaced) => replaced,
                    Begins::AtTheEnd | Begins::Jump(_) => says.replaced(),
                };
                let mark = &self.mark;
                self.mark_seen =
                    mark.index < says.index || (mark.index, mark.chain) == (replaced.index, replaced.chain);
            }
            Some(place) => self.join(number, header.begins, says, place, each)?,
        }
        self.begun = number;
        self.place = Some(says);
        self.hard_state = hard_state(header);
        self.compare(says, each);
        Ok(())
    }

    /// Goes over to a segment that begins at `says`, from `place`.
    fn join(
        &mut self,
        segment: u64,
        begins: Begins,
        says: Place,
        place: Place,
        each: &mut dyn FnMut(Seen<'_>),
    ) -> Result<(), Damage> {
        let before = match begins {
            Begins::Cut(replaced) => replaced,
            Begins::AtTheEnd | Begins::Jump(_) => says.replaced(),
        };
        if before.index > place.index {
            let previous = before.index;
            return Err(self.lost(place, Proof::NextSegment { segment, previous }));
        }
        let out_of_place = Damage::SegmentOutOfPlace {
            segment,
            says: segment,
            expected: place.index,
            found: before.index,
        };
        if before != place.replaced() {
            return Err(out_of_place);
        }
        let committed = self.uncommitted.front().map(|place| place.index).unwrap_or_default();
        if says.index < committed {
            return Err(Damage::CommittedCut {
                segment,
                after: says.index,
                committed,
            });
        }
        let kept = usize::try_from(says.index.0 - committed.0).unwrap_or(usize::MAX);
        if self.uncommitted.get(kept) != Some(&says) {
            return Err(out_of_place);
        }
        self.uncommitted.truncate(kept + 1);
        self.last_change = self.last_change.filter(|change| *change <= says.index);
        if says.index < place.index {
            each(Seen::Cut {
                segment,
                after: says.index,
                from: place.index,
            });
        }
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

    fn records(&mut self, number: u64, bytes: &[u8], each: &mut dyn FnMut(Seen<'_>)) -> Result<(), Damage> {
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
                    let committed = self.follow(at, place, &record)?;
                    each(Seen::Record(at, &record));
                    if record.fields.kind.is_entry() {
                        self.compare(self.place.unwrap_or_default(), each);
                    }
                    if committed > Sequence(0) {
                        self.commit(committed, each);
                    }
                    self.commit_by_kind(&record, each);
                    offset += record.bytes;
                }
                Err(error) => return self.end_of_segment(at, place, rest, error),
            }
        }
    }

    /// Moves on by one record. Answers with the last sequence that it proves to be committed (0: none).
    fn follow(&mut self, at: Location, place: Place, record: &RecordView<'_>) -> Result<Sequence, Damage> {
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
        let mut committed = Sequence(0);
        let mut next = Place {
            index,
            epoch: fields.epoch,
            ..place
        };
        if fields.kind == RecordKind::Batch {
            next.chain = place.chain.behind(fields.epoch, fields.first_sequence, record.payload);
            let header = wire::batch::decode_header(record.payload).map_err(|_| Damage::ChainBroken { at, index })?;
            next.sequence = header.last_sequence();
            committed = header.committed_through;
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
            self.uncommitted.push_back(next);
        }
        Ok(committed)
    }

    /// Compares a place of the log with the mark and the snapshot, which tell the chain at theirs. Whether they must agree
    /// shows at the end: what was dropped later may differ from the snapshot.
    fn compare(&mut self, place: Place, each: &mut dyn FnMut(Seen<'_>)) {
        if self.mark.index == place.index && self.mark.chain == place.chain {
            self.mark_seen = true;
        }
        if self.snapshot.index == place.index && place.index.0 > 0 {
            let agrees = self.snapshot.chain == place.chain;
            self.snapshot_agrees = Some(agrees);
            if agrees {
                self.committed_up_to(place.index, each);
            }
        }
    }

    /// What other records say of what is committed. Who counts follows from what is, so a node that knew a change of the
    /// membership must not begin again as if it were not made.
    fn commit_by_kind(&mut self, record: &RecordView<'_>, each: &mut dyn FnMut(Seen<'_>)) {
        let index = record.fields.index;
        match record.fields.kind {
            // A leader proposes one only after the one before it was applied.
            RecordKind::ConfChange | RecordKind::ConfChangeV2 => {
                if let Some(before) = self.last_change.replace(index) {
                    self.committed_up_to(before, each);
                }
            }
            RecordKind::HardState => {
                let committed = record.payload.get(8..16).and_then(|bytes| bytes.first_chunk());
                let committed = LogIndex(committed.map_or(0, |bytes| u64::from_le_bytes(*bytes)));
                if committed > LogIndex(0) {
                    self.committed_up_to(committed.min(index), each);
                }
            }
            RecordKind::Batch | RecordKind::Empty => {}
        }
    }

    /// A batch says that everything up to this sequence was committed when it was sequenced. What it says stays true if the
    /// batch itself is dropped later.
    fn commit(&mut self, sequence: Sequence, each: &mut dyn FnMut(Seen<'_>)) {
        let mut through = None;
        let mut before = self.uncommitted.front().map(|place| place.sequence).unwrap_or_default();
        // Entries without a batch have the sequence of the one in front of them, and are not spoken of.
        for place in self
            .uncommitted
            .iter()
            .skip(1)
            .take_while(|place| place.sequence <= sequence)
        {
            if place.sequence > before {
                through = Some(place.index);
            }
            before = place.sequence;
        }
        if let Some(through) = through {
            self.committed_up_to(through, each);
        }
    }

    fn committed_up_to(&mut self, index: LogIndex, each: &mut dyn FnMut(Seen<'_>)) {
        while self.uncommitted.len() > 1 && self.uncommitted[0].index < index {
            self.uncommitted.pop_front();
        }
        // With a snapshot of another history nothing may be applied.
        if self.snapshot_agrees != Some(false) {
            each(Seen::Committed(index));
        }
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

/// The term and vote that the mark tells.
pub fn marked_hard_state(mark: &Mark) -> HardState {
    HardState {
        term: mark.hard_term,
        vote: mark.vote,
    }
}

/// The later one of what two places say of the same node. In a term it votes only once.
fn newer(one: HardState, other: HardState) -> HardState {
    let nobody = wire::journal::NodeId(0);
    if (other.term, other.vote != nobody) > (one.term, one.vote != nobody) {
        other
    } else {
        one
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
