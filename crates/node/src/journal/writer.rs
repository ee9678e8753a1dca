//! Writing: append and sync, on the core thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use replica::recovery::Place;
use replica::{HardState, Record};
use types::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, BATCHES_IN_FLIGHT_MAX, COMMAND_BYTES_MAX};
use wire::journal::{
    Begins, LogIndex, NodeId, RECORD_BYTES_MAX, RecordFields, RecordKind, Replaced, SEGMENT_HEADER_BYTES,
    SegmentHeader, encode_record, encode_segment_header, record_bytes,
};

use super::files::DiskFile;
use super::handle::{Segment, Shared};
use super::mark::{Marked, Marker};
use super::preparer::Preparer;
use super::{DiskError, JournalError, JournalHandle, JournalReader, Room};

/// Bytes that are surely enough for all that one step appends: the commands of one gathering and a few small records.
const STEP_BYTES_MAX: u64 = 8 * RECORD_BYTES_MAX as u64;
/// How many places are remembered, so that a cut does not have to look for its own in the files: more than a leader has in
/// flight.
const PLACES_MAX: usize = 4 * BATCHES_IN_FLIGHT_MAX;

const _: () = assert!(BATCH_COMMANDS_MAX * COMMAND_BYTES_MAX < 6 * BATCH_BYTES_MAX);

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) file: DiskFile,
    /// The same file, opened once more for syncs on another thread: a failed write is told once to each that opened it.
    pub(super) file_to_sync: Arc<DiskFile>,
    /// Where the next record goes.
    pub(super) offset: u64,
    /// Bytes of the file.
    pub(super) bytes: u64,
}

/// What the journal has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncFigures {
    /// Syncs.
    pub syncs: u64,
    /// Nanoseconds spent in them.
    pub sync_ns: u64,
    /// Bytes appended.
    pub bytes: u64,
    /// Times that a new segment was begun.
    pub rolls: u64,
    /// Nanoseconds that those took, waiting for the file included.
    pub roll_ns: u64,
}

/// The journal, open for writing. One thread owns it.
#[derive(Debug)]
pub struct Journal {
    pub(super) shared: Arc<Shared>,
    pub(super) preparer: Preparer,
    pub(super) marker: Marker,
    pub(super) current: Option<Current>,
    /// Where the log ends, as far as it was appended.
    pub(super) end: Place,
    /// The last places up to that, the end included.
    pub(super) places: VecDeque<Place>,
    /// The number of the segment that is begun next.
    pub(super) next_number: u64,
    pub(super) hard_state: HardState,
    /// What is durable, and the mark says or will say.
    pub(super) durable: Marked,
    /// True if something was appended and no sync of it was begun.
    pub(super) dirty: bool,
    pub(super) syncs: Syncs,
    pub(super) buffer: Vec<u8>,
    pub(super) figures: SyncFigures,
}

/// Syncs are numbered; what each makes durable includes what those before it do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Syncs {
    begun: u64,
    /// The highest one that was done.
    done: u64,
}

/// A sync to be run on another thread.
#[derive(Debug)]
#[must_use = "nothing is durable before it was run and its end told to the journal"]
pub struct SyncJob {
    file: Arc<DiskFile>,
    number: u64,
    makes_durable: Marked,
}

/// A sync that was run on another thread.
#[derive(Debug)]
#[must_use = "nothing is durable before the journal was told"]
pub struct SyncDone {
    number: u64,
    makes_durable: Marked,
    result: Result<(), DiskError>,
    ns: u64,
}

impl SyncJob {
    /// Runs it.
    pub fn run(self) -> SyncDone {
        let started = Instant::now();
        let result = self.file.sync_data();
        SyncDone {
            number: self.number,
            makes_durable: self.makes_durable,
            result,
            ns: elapsed_ns(started),
        }
    }
}

impl SyncDone {
    /// Nanoseconds that it took.
    pub fn ns(&self) -> u64 {
        self.ns
    }
}

impl Journal {
    /// Appends records. They are durable only after [`Self::sync`]. On a full disk it waits for room.
    ///
    /// After an error nothing further is written: what of it reached the disk is for the next start to find out.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        self.guarded(|journal| {
            if journal.durable.jump != Replaced::default() {
                // The log goes on, so it must not be given up at the next start.
                journal.mark_now(|marked| marked.jump = Replaced::default())?;
            }
            for record in records {
                journal.append_one(record)?;
            }
            journal.write_out()
        })
    }

    /// Makes all that was appended durable, a new term and vote in the mark as well.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.guarded(Self::sync_current)
    }

    /// Begins to make all that was appended durable, for another thread to go on with, while more is appended. None if
    /// there is nothing that is not durable or covered by a sync that was begun earlier.
    pub fn begin_sync(&mut self) -> Result<Option<SyncJob>, JournalError> {
        let mut job = None;
        self.guarded(|journal| {
            if let Some(current) = journal.current.as_ref().filter(|_| journal.dirty) {
                journal.dirty = false;
                journal.syncs.begun += 1;
                job = Some(SyncJob {
                    file: Arc::clone(&current.file_to_sync),
                    number: journal.syncs.begun,
                    makes_durable: journal.appended(),
                });
            }
            Ok(())
        })?;
        Ok(job)
    }

    /// A sync was run. What it made durable is so from now on; a late one changes nothing. Syncs may end in any order, but
    /// each must be told: one that failed ends the journal.
    pub fn finish_sync(&mut self, done: SyncDone) -> Result<(), JournalError> {
        self.guarded(|journal| {
            done.result?;
            journal.figures.syncs += 1;
            journal.figures.sync_ns += done.ns;
            if done.number <= journal.syncs.done {
                return Ok(());
            }
            journal.syncs.done = done.number;
            journal.made_durable(done.makes_durable)
        })
    }

    /// Drops the entries behind `after`, which were never committed. When this returns, that is durable, and so is all that
    /// stays.
    ///
    /// Nothing is overwritten: a segment is begun that says so. Panics if something committed would be dropped.
    pub fn truncate(&mut self, after: LogIndex) -> Result<(), JournalError> {
        self.guarded(|journal| journal.cut(after))
    }

    /// Says that a snapshot of `place` from a peer is about to get its name, with which the log will begin anew. Once the
    /// snapshot has its name, a start after a crash does that if [`Self::begin_at`] did not come to it; until then it goes
    /// on with what is here. Whatever is appended takes it back.
    pub fn announce_jump(&mut self, place: Place) -> Result<(), JournalError> {
        self.guarded(|journal| {
            journal.sync_current()?;
            journal.mark_now(|marked| marked.jump = place.replaced())
        })
    }

    /// Begins the log anew behind `place`, whose snapshot from a peer is durable and has its name. What was there before is
    /// let go once that is durable.
    pub fn begin_at(&mut self, place: Place, hard_state: HardState) -> Result<(), JournalError> {
        self.guarded(|journal| journal.jump(place, hard_state))
    }

    /// Entries up to this index are committed, and with them the commands up to this sequence: others may read them.
    pub fn set_committed(&self, index: LogIndex, sequence: types::Sequence) {
        self.shared.set_committed(index, sequence);
    }

    /// Whether there is room for all that one step may append. Commands should be taken only if there is: what was
    /// sequenced can't be refused any more.
    pub fn room(&self) -> Room {
        if self.shared.has_failed() {
            return Room::DiskFailed;
        }
        let left = self
            .current
            .as_ref()
            .map_or(0, |current| current.bytes - current.offset);
        let room = if left < STEP_BYTES_MAX {
            self.preparer.room()
        } else {
            Room::Enough
        };
        let full = room == Room::DiskFull;
        if full != self.shared.is_full() {
            self.shared.set_full(full);
        }
        room
    }

    /// Waits until [`Self::room`] may have changed, but not beyond `until`.
    pub fn wait_for_room(&self, until: Instant) {
        self.preparer.wait(until);
    }

    /// Where the log ends.
    pub fn end(&self) -> Place {
        self.end
    }

    /// The term and vote.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// What it has cost so far.
    pub fn figures(&self) -> SyncFigures {
        self.figures
    }

    /// For everybody but the thread that writes.
    pub fn handle(&self) -> JournalHandle {
        JournalHandle::new(Arc::clone(&self.shared), self.preparer.recycler())
    }

    /// Syncs what was appended and writes the mark.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.sync()?;
        // Dropping the marker writes it and waits for that.
        let shared = Arc::clone(&self.shared);
        drop(self);
        if shared.has_failed() {
            return Err(JournalError::FailedEarlier(shared.folder.path().to_owned()));
        }
        Ok(())
    }

    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<(), JournalError>) -> Result<(), JournalError> {
        if self.shared.has_failed() {
            return Err(JournalError::FailedEarlier(self.shared.folder.path().to_owned()));
        }
        let done = work(self);
        if done.is_err() {
            self.shared.fail();
        }
        done
    }

    fn append_one(&mut self, record: &Record) -> Result<(), JournalError> {
        let bytes = record_bytes(record.payload.len()) as u64;
        let fits = |current: &Current, written: u64| current.offset + written + bytes <= current.bytes;
        let fits_here = self
            .current
            .as_ref()
            .is_some_and(|current| fits(current, self.buffer.len() as u64));
        if !fits_here {
            self.write_out()?;
            self.begin_segment(self.end, Begins::AtTheEnd)?;
            let current = self.current.as_ref().expect("it was just begun");
            if !fits(current, 0) {
                let segment_bytes = current.bytes;
                return Err(JournalError::RecordTooLarge { bytes, segment_bytes });
            }
        }
        let fields = RecordFields {
            kind: record.kind,
            incarnation: self.shared.identity.incarnation,
            segment: self.current.as_ref().expect("it fits one").number,
            epoch: record.epoch,
            term: record.term,
            index: record.index,
            first_sequence: record.first_sequence,
            durable_index: self.durable.place.index,
            chain: record.chain,
        };
        encode_record(&fields, &record.payload, &mut self.buffer);
        if record.kind == RecordKind::HardState {
            let vote = record.payload.first_chunk().map_or(0, |vote| u64::from_le_bytes(*vote));
            self.hard_state = HardState {
                term: record.term,
                vote: NodeId(vote),
            };
            return Ok(());
        }
        assert_eq!(record.index, self.end.index.next(), "the journal has no gaps");
        self.end = Place {
            index: record.index,
            term: record.term,
            sequence: record.last_sequence,
            epoch: record.epoch,
            chain: record.chain,
        };
        if self.places.len() == PLACES_MAX {
            self.places.pop_front();
        }
        self.places.push_back(self.end);
        Ok(())
    }

    /// Writes what was encoded, in one piece.
    fn write_out(&mut self) -> Result<(), JournalError> {
        let Some(current) = self.current.as_mut().filter(|_| !self.buffer.is_empty()) else {
            return Ok(());
        };
        current.file.write_at(&self.buffer, current.offset)?;
        current.offset += self.buffer.len() as u64;
        self.figures.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        self.dirty = true;
        Ok(())
    }

    fn sync_current(&mut self) -> Result<(), JournalError> {
        let is_unsynced = self.dirty || self.syncs.begun > self.syncs.done;
        let Some(current) = self.current.as_ref().filter(|_| is_unsynced) else {
            return Ok(());
        };
        let started = Instant::now();
        current.file.sync_data()?;
        self.figures.syncs += 1;
        self.figures.sync_ns += elapsed_ns(started);
        self.dirty = false;
        self.syncs.done = self.syncs.begun;
        self.made_durable(self.appended())
    }

    /// What is durable once all that was appended is.
    fn appended(&self) -> Marked {
        Marked {
            place: self.end,
            segment: self.current.as_ref().map_or(0, |current| current.number),
            hard_state: self.hard_state,
            jump: Replaced::default(),
        }
    }

    /// It is in the segments. The mark says so soon; of a new term or vote it does at once, before anybody hears of it.
    fn made_durable(&mut self, marked: Marked) -> Result<(), JournalError> {
        let has_voted = marked.hard_state != self.durable.hard_state;
        self.durable = marked;
        if has_voted {
            self.marker.write_now(marked)?;
        } else {
            self.marker.set(marked);
        }
        self.shared.set_durable(marked.place);
        Ok(())
    }

    fn mark_now(&mut self, change: impl FnOnce(&mut Marked)) -> Result<(), JournalError> {
        change(&mut self.durable);
        Ok(self.marker.write_now(self.durable)?)
    }

    fn cut(&mut self, after: LogIndex) -> Result<(), JournalError> {
        if after >= self.end.index {
            return Ok(());
        }
        let committed = self.shared.committed_index();
        assert!(
            after >= committed,
            "what was committed is never dropped: index {committed} was, and {after} would be the last"
        );
        self.sync_current()?;
        let place = self.place_behind(after)?;
        let from = self.end;
        // A mark of a place in between would be of one that the next start may not look at.
        self.marker.write_now(self.durable)?;
        self.begin_elsewhere(place, Begins::Cut(from.replaced()))?;
        while self.places.back().is_some_and(|place| place.index > after) {
            self.places.pop_back();
        }
        tracing::warn!(
            after_index = after.0,
            from_index = from.index.0,
            after_sequence = place.sequence.0,
            from_sequence = from.sequence.0,
            "entries that were never committed are dropped from the journal"
        );
        Ok(())
    }

    /// Where the log stood behind the entry of this index.
    fn place_behind(&self, index: LogIndex) -> Result<Place, JournalError> {
        let from = self.places.front().map(|place| place.index).unwrap_or_default();
        let known = index.0.checked_sub(from.0).and_then(|at| usize::try_from(at).ok());
        if let Some(place) = known.and_then(|at| self.places.get(at)) {
            return Ok(*place);
        }
        JournalReader::place_behind(self.shared.folder.path(), self.shared.identity, index)
    }

    fn jump(&mut self, place: Place, hard_state: HardState) -> Result<(), JournalError> {
        assert!(hard_state.term >= self.hard_state.term, "terms never go back");
        self.sync_current()?;
        self.hard_state = hard_state;
        self.mark_now(|marked| {
            marked.jump = place.replaced();
            marked.hard_state = hard_state;
        })?;
        let from = self.end;
        self.begin_elsewhere(place, Begins::Jump(from.replaced()))?;
        self.places = VecDeque::from([place]);
        self.shared.set_committed(place.index, place.sequence);
        tracing::warn!(
            index = place.index.0,
            sequence = place.sequence.0,
            from_index = from.index.0,
            from_sequence = from.sequence.0,
            "the journal begins anew behind a snapshot"
        );
        Ok(())
    }

    /// Begins a segment elsewhere than at the end, and makes that durable: in the segment first, then in the mark. Nothing
    /// is appended in between.
    fn begin_elsewhere(&mut self, place: Place, begins: Begins) -> Result<(), JournalError> {
        let superseded = self.begin_segment(place, begins)?;
        self.end = place;
        let current = self.current.as_ref().expect("it was just begun");
        current.file.sync_data()?;
        self.dirty = false;
        let marked = self.appended();
        self.durable = marked;
        self.marker.write_now(marked)?;
        self.shared.set_durable(place);
        for segment in superseded {
            self.preparer.recycler().recycle(segment.number);
        }
        Ok(())
    }

    /// Goes over to the next segment. What is in the old one is durable before anything is written to the new one: that
    /// is what a segment's header proves of the segment before it.
    ///
    /// Answers with the segments that nobody needs any more, once this one is durable.
    fn begin_segment(&mut self, previous: Place, begins: Begins) -> Result<VecDeque<Segment>, JournalError> {
        let started = Instant::now();
        self.sync_current()?;
        let number = self.next_number;
        let shared = Arc::clone(&self.shared);
        let file = self.preparer.take(number, || {
            shared.set_full(true);
            shared.is_stopping()
        })?;
        shared.set_full(false);
        let header = SegmentHeader {
            identity: shared.identity,
            number,
            previous_index: previous.index,
            previous_term: previous.term,
            previous_sequence: previous.sequence,
            previous_epoch: previous.epoch,
            previous_chain: previous.chain,
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            begins,
        };
        file.write_at(&encode_segment_header(&header), 0)?;
        let bytes = file.bytes()?;
        self.dirty = true;
        if self.current.is_some() {
            self.preparer.filled();
        }
        let file_to_sync = Arc::new(shared.folder.open(&shared.folder.segment(number))?);
        self.current = Some(Current {
            number,
            file,
            file_to_sync,
            offset: SEGMENT_HEADER_BYTES as u64,
            bytes,
        });
        let segment = Segment { number, previous };
        let superseded = match begins {
            Begins::AtTheEnd | Begins::Cut(_) => {
                shared.begin(segment);
                VecDeque::new()
            }
            Begins::Jump(_) => shared.begin_anew(segment),
        };
        self.next_number = number + 1;
        self.preparer.prepare(self.next_number);
        self.figures.rolls += 1;
        self.figures.roll_ns += elapsed_ns(started);
        Ok(superseded)
    }
}

fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
