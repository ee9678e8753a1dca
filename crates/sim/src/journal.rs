//! The journal of a node on a virtual disk: the real bytes, by the same rules as `node` writes them, and the real scan.
//!
//! Records are appended to the current segment; a segment that is full is synced before the next one is begun; the end of
//! the log that another leader replaces is dropped by a segment that begins at an earlier place; a snapshot from a peer
//! makes it begin anew. The mark tells in another file what was durable, a little later; of a new term or vote it does
//! before anybody hears of it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use replica::recovery::{Damage, Place, Recovered, Scan, Seen, marked_hard_state};
use replica::{Applied, HardState, LogEntry, Record};
use wire::journal::{
    Begins, Identity, LogIndex, MARK_FILE_BYTES, MARK_SLOT_BYTES, Mark, NodeId, RecordFields, RecordKind, RecordView,
    Replaced, SEGMENT_HEADER_BYTES, SegmentHeader, decode_mark, decode_segment_header, encode_mark, encode_record,
    encode_segment_header, record_bytes,
};

use crate::disk::File;
use crate::mutation::{Mutated, Mutation};
use crate::random::Dice;

/// The files of a journal.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) segments: BTreeMap<u64, File>,
    pub(crate) mark: File,
    segment_bytes: usize,
    /// What retired segments held, for new ones to be made of.
    spares: Vec<Vec<u8>>,
    /// So many writes and syncs until the power goes.
    pub(crate) power_lasts: Option<u32>,
}

impl Files {
    pub(crate) fn new(segment_bytes: usize) -> Self {
        Self {
            segments: BTreeMap::new(),
            mark: File::new(vec![0; MARK_FILE_BYTES]),
            segment_bytes,
            spares: Vec::new(),
            power_lasts: None,
        }
    }

    /// One more write or sync. False once the power has gone.
    fn touch(&mut self) -> Result<(), PowerLost> {
        match &mut self.power_lasts {
            Some(0) => Err(PowerLost),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn sync_segment(&mut self, number: u64) -> Result<(), PowerLost> {
        self.touch()?;
        if let Some(file) = self.segments.get_mut(&number) {
            file.sync();
        }
        Ok(())
    }

    /// Makes the segment's file ready, if it is not there.
    fn prepare(&mut self, number: u64) {
        let (spares, bytes) = (&mut self.spares, self.segment_bytes);
        self.segments.entry(number).or_insert_with(|| {
            let mut content = spares.pop().unwrap_or_else(|| vec![0; bytes]);
            content[..SEGMENT_HEADER_BYTES].fill(0);
            File::new(content)
        });
    }

    fn retire(&mut self, number: u64) {
        if let Some(file) = self.segments.remove(&number)
            && self.spares.len() < 2
        {
            let mut file = file;
            file.sync();
            self.spares.push(file.content().to_vec());
        }
    }

    pub(crate) fn sync_all(&mut self) {
        self.segments.values_mut().for_each(File::sync);
        self.mark.sync();
    }

    /// True if something was torn.
    pub(crate) fn lose_power(&mut self, dice: &mut Dice) -> bool {
        self.power_lasts = None;
        let mut torn = self.mark.lose_power(dice);
        for file in self.segments.values_mut() {
            torn |= file.lose_power(dice);
        }
        torn
    }

    /// A bit of a segment that was begun changes: most often of the last one, and there near its end. False if there is none.
    pub(crate) fn rot(&mut self, how: u64) -> bool {
        let begun = |(_, file): &(&u64, &File)| decode_segment_header(file.content()).is_ok();
        let numbers: Vec<u64> = self.segments.iter().filter(begun).map(|(number, _)| *number).collect();
        let back = if how.is_multiple_of(4) { how as usize / 4 % 3 } else { 0 };
        let number = numbers.iter().rev().nth(back).or(numbers.last());
        let Some(file) = number.and_then(|number| self.segments.get_mut(number)) else {
            return false;
        };
        let last = file.content().iter().rposition(|byte| *byte != 0).unwrap_or(0);
        let from = if how.is_multiple_of(2) {
            last.saturating_sub(300)
        } else {
            0
        };
        let offset = from + (how / 12) as usize % (last + 1 - from);
        file.rot(offset, (how >> 32) as u8);
        true
    }

    fn newest_mark(&self) -> Mark {
        let slots = self.mark.content().chunks(MARK_SLOT_BYTES).filter_map(decode_mark);
        slots.max_by_key(|mark| mark.counter).unwrap_or_default()
    }
}

/// The power went in the middle of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PowerLost;

/// Why a journal could not be opened.
#[derive(Debug)]
pub(crate) enum NotOpened {
    Damaged(Damage),
    PowerLost,
}

impl From<PowerLost> for NotOpened {
    fn from(_: PowerLost) -> Self {
        Self::PowerLost
    }
}

/// What is durable, as the mark says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marked {
    place: Place,
    segment: u64,
    hard_state: HardState,
    jump: Replaced,
}

/// A sync that was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SyncJob {
    segment: u64,
    writes: u64,
    number: u64,
    makes_durable: Marked,
}

/// The journal, open for writing. What it knows is lost with its process.
#[derive(Debug)]
pub(crate) struct Journal {
    identity: Identity,
    mutation: Option<Mutation>,
    current: Option<u64>,
    offset: usize,
    next_number: u64,
    end: Place,
    hard_state: HardState,
    durable: Marked,
    marked: Marked,
    mark_counter: u64,
    dirty: bool,
    syncs_begun: u64,
    syncs_done: u64,
    places: VecDeque<Place>,
    committed: LogIndex,
    /// Each segment and where it begins.
    segments: Vec<(u64, Place)>,
}

/// What was found at the start.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    /// The entries behind the snapshot that are known to be committed.
    pub(crate) committed: Vec<LogEntry>,
    /// Those that may be.
    pub(crate) suffix: Vec<LogEntry>,
    pub(crate) hard_state: HardState,
    pub(crate) torn: bool,
    pub(crate) cuts: u32,
    /// True if it was given up for a snapshot.
    pub(crate) jumped: bool,
}

/// The entries that the scan comes past.
#[derive(Default)]
struct Entries {
    held_back: VecDeque<LogEntry>,
    committed: Vec<LogEntry>,
    places: VecDeque<Place>,
    cuts: u32,
    records: u32,
}

impl Entries {
    fn take(&mut self, seen: &Seen<'_>, snapshot: LogIndex, mutation: Option<Mutation>) {
        match seen {
            Seen::Record(_, record) => {
                self.records += 1;
                if !record.fields.kind.is_entry() {
                    return;
                }
                self.places.push_back(place_of(record, self.places.back()));
                if record.fields.index > snapshot {
                    self.held_back.push_back(log_entry(record));
                }
            }
            Seen::Cut { after, .. } => {
                self.cuts += 1;
                while self.held_back.back().is_some_and(|entry| entry.index > *after) {
                    self.held_back.pop_back();
                }
                while self.places.back().is_some_and(|place| place.index > *after) {
                    self.places.pop_back();
                }
            }
            Seen::Committed(through) => {
                while self.held_back.front().is_some_and(|entry| entry.index <= *through) {
                    self.committed.extend(self.held_back.pop_front());
                }
            }
        }
        if mutation.is(Mutation::WholeJournalCommitted) {
            self.committed.extend(self.held_back.drain(..));
        }
    }
}

fn place_of(record: &RecordView<'_>, before: Option<&Place>) -> Place {
    let fields = &record.fields;
    let sequence = match fields.kind {
        RecordKind::Batch => wire::batch::decode_header(record.payload)
            .map(|header| header.last_sequence())
            .unwrap_or_default(),
        _ => types::Sequence(fields.first_sequence.0 - 1),
    };
    let _ = before;
    Place {
        index: fields.index,
        term: fields.term,
        sequence,
        epoch: fields.epoch,
        chain: fields.chain,
    }
}

fn log_entry(record: &RecordView<'_>) -> LogEntry {
    LogEntry {
        kind: record.fields.kind,
        index: record.fields.index,
        term: record.fields.term,
        chain: record.fields.chain,
        payload: Bytes::copy_from_slice(record.payload),
    }
}

/// What the segments' headers say.
struct Kept {
    begun: Vec<(u64, Place)>,
    superseded: Vec<u64>,
    first_read: Option<u64>,
    ends_with_jump_to: Option<Replaced>,
}

fn kept_segments(files: &Files, snapshot: Applied) -> Kept {
    let mut kept = Kept {
        begun: Vec::new(),
        superseded: Vec::new(),
        first_read: files.segments.keys().next().copied(),
        ends_with_jump_to: None,
    };
    for (&number, file) in &files.segments {
        let Ok(header) = decode_segment_header(file.content()) else {
            continue;
        };
        let previous = Place::before(&header);
        if header.previous_index <= snapshot.index && header.number == number {
            kept.first_read = Some(number);
        }
        kept.ends_with_jump_to = None;
        if matches!(header.begins, Begins::Jump(_)) {
            kept.superseded = files.segments.range(..number).map(|(number, _)| *number).collect();
            kept.begun.clear();
            kept.ends_with_jump_to = Some(previous.replaced());
        }
        kept.begun.push((number, previous));
    }
    kept
}

impl Journal {
    /// The term and vote that the mark tells.
    pub(crate) fn marked_vote(files: &Files) -> HardState {
        marked_hard_state(&files.newest_mark())
    }

    /// Opens the journal for a state that was loaded from the snapshot at `snapshot`.
    pub(crate) fn open(
        files: &mut Files,
        identity: Identity,
        snapshot: Applied,
        mutation: Option<Mutation>,
    ) -> Result<Opened, NotOpened> {
        let mut mark = files.newest_mark();
        if mutation.is(Mutation::MarkNotChecked) {
            mark = Mark::default();
        }
        let kept = kept_segments(files, snapshot);
        let jump = Place::from(snapshot).replaced();
        let jumps = mark.jump == jump && jump.index > LogIndex(0);
        if jumps && kept.ends_with_jump_to == Some(jump) {
            mark = Mark {
                index: jump.index,
                chain: jump.chain,
                segment: 0,
                ..mark
            };
        }
        let mut scan = Scan::new(identity, mark, snapshot);
        let mut entries = Entries::default();
        let scanned = files
            .segments
            .range(kept.first_read.unwrap_or(0)..)
            .try_for_each(|(number, file)| {
                scan.segment(*number, file.content(), &mut |seen| {
                    entries.take(&seen, snapshot.index, mutation);
                })
            });
        let holds_snapshot = scan.holds_snapshot();
        match scanned.and_then(|()| scan.finish()) {
            Err(_) if jumps && !holds_snapshot => {
                let journal = Self::begin_anew(files, identity, snapshot, marked_hard_state(&mark), mutation)?;
                Ok(Opened {
                    hard_state: journal.hard_state,
                    journal,
                    committed: Vec::new(),
                    suffix: Vec::new(),
                    torn: false,
                    cuts: 0,
                    jumped: true,
                })
            }
            Err(damage) => Err(NotOpened::Damaged(damage)),
            Ok(recovered) => Ok(Self::go_on(files, identity, &recovered, entries, &kept, mutation)?),
        }
    }

    fn go_on(
        files: &mut Files,
        identity: Identity,
        recovered: &Recovered,
        entries: Entries,
        kept: &Kept,
        mutation: Option<Mutation>,
    ) -> Result<Opened, PowerLost> {
        let mut torn = false;
        if let Some(prepared) = recovered.prepared.filter(|prepared| prepared.wipe) {
            wipe(files, prepared.segment, 0);
            torn = true;
        }
        let current = recovered.tail.map(|tail| tail.at.segment);
        if let Some(tail) = recovered.tail.filter(|tail| tail.torn.is_some()) {
            wipe(files, tail.at.segment, tail.at.offset);
            torn = true;
        }
        let next_number = current.map_or(1, |current| current + 1);
        let durable = Marked {
            place: recovered.end,
            segment: current.unwrap_or(0),
            hard_state: recovered.hard_state,
            jump: Replaced::default(),
        };
        let mut journal = Self {
            identity,
            mutation,
            current,
            offset: recovered.tail.map_or(0, |tail| {
                usize::try_from(tail.at.offset).expect("it is an offset in memory")
            }),
            next_number,
            end: recovered.end,
            hard_state: recovered.hard_state,
            durable,
            marked: durable,
            mark_counter: files.newest_mark().counter,
            dirty: false,
            syncs_begun: 0,
            syncs_done: 0,
            places: entries.places,
            committed: recovered.committed.index,
            segments: kept.begun.clone(),
        };
        journal.segments.retain(|(number, _)| *number < next_number);
        if let Some((_, begins)) = journal
            .segments
            .iter()
            .find(|(number, _)| Some(*number) >= kept.first_read)
            && journal.places.front().is_none_or(|first| first.index > begins.index)
        {
            journal.places.push_front(*begins);
        }
        for number in &kept.superseded {
            files.retire(*number);
        }
        journal.write_mark_now(files)?;
        Ok(Opened {
            journal,
            committed: entries.committed,
            suffix: entries.held_back.into(),
            hard_state: recovered.hard_state,
            torn,
            cuts: entries.cuts,
            jumped: false,
        })
    }

    /// Gives up whatever is there and begins behind a snapshot; of a new node behind nothing.
    pub(crate) fn begin_anew(
        files: &mut Files,
        identity: Identity,
        snapshot: Applied,
        hard_state: HardState,
        mutation: Option<Mutation>,
    ) -> Result<Self, PowerLost> {
        let old: Vec<u64> = files.segments.keys().copied().collect();
        let mut journal = Self {
            identity,
            mutation,
            current: None,
            offset: 0,
            next_number: old.last().map_or(1, |last| last + 1),
            end: Place::default(),
            hard_state,
            durable: Marked::default(),
            marked: Marked::default(),
            mark_counter: files.newest_mark().counter,
            dirty: false,
            syncs_begun: 0,
            syncs_done: 0,
            places: VecDeque::from([Place::default()]),
            committed: LogIndex(0),
            segments: Vec::new(),
        };
        journal.durable.hard_state = hard_state;
        if snapshot.index > LogIndex(0) {
            journal.begin_at(files, snapshot.into(), hard_state)?;
        } else {
            journal.write_mark_now(files)?;
        }
        for number in old {
            files.retire(number);
        }
        Ok(journal)
    }

    pub(crate) fn append(&mut self, files: &mut Files, records: &[Record]) -> Result<(), PowerLost> {
        if self.durable.jump != Replaced::default() {
            self.durable.jump = Replaced::default();
            self.write_mark_now(files)?;
        }
        let mut buffer = Vec::new();
        for record in records {
            self.append_one(files, record, &mut buffer)?;
        }
        self.write_out(files, &mut buffer)
    }

    fn append_one(&mut self, files: &mut Files, record: &Record, buffer: &mut Vec<u8>) -> Result<(), PowerLost> {
        if self.mutation.is(Mutation::HardStateNotWritten) && record.kind == RecordKind::HardState {
            return Ok(());
        }
        let bytes = record_bytes(record.payload.len());
        let segment_bytes = files.segment_bytes;
        let fits = |offset: usize| offset + bytes <= segment_bytes;
        if self.current.is_none() || !fits(self.offset + buffer.len()) {
            self.write_out(files, buffer)?;
            self.begin_segment(files, self.end, Begins::AtTheEnd)?;
            assert!(fits(self.offset), "a record of {bytes} bytes is larger than a segment");
        }
        let fields = RecordFields {
            kind: record.kind,
            incarnation: self.identity.incarnation,
            segment: self.current.expect("it fits one"),
            epoch: record.epoch,
            term: record.term,
            index: record.index,
            first_sequence: record.first_sequence,
            durable_index: self.durable.place.index,
            chain: record.chain,
        };
        encode_record(&fields, &record.payload, buffer);
        if record.kind == RecordKind::HardState {
            let vote = record.payload.first_chunk().map_or(0, |vote| u64::from_le_bytes(*vote));
            self.hard_state = HardState {
                term: record.term,
                vote: NodeId(vote),
            };
            return Ok(());
        }
        if !self.mutation.is(Mutation::TruncateIgnored) {
            assert_eq!(record.index, self.end.index.next(), "the journal has no gaps");
        }
        self.end = Place {
            index: record.index,
            term: record.term,
            sequence: record.last_sequence,
            epoch: record.epoch,
            chain: record.chain,
        };
        self.places.push_back(self.end);
        Ok(())
    }

    fn write_out(&mut self, files: &mut Files, buffer: &mut Vec<u8>) -> Result<(), PowerLost> {
        let Some(current) = self.current.filter(|_| !buffer.is_empty()) else {
            return Ok(());
        };
        let file = files.segments.get_mut(&current).expect("it is written to");
        file.write_at(buffer, self.offset);
        self.offset += buffer.len();
        self.dirty = true;
        buffer.clear();
        // The write is under way when the power goes: it may be there or not.
        files.touch()
    }

    /// Begins to make all that was appended durable. None if there is nothing that is not covered by an earlier one.
    pub(crate) fn begin_sync(&mut self, files: &Files) -> Option<SyncJob> {
        let segment = self.current.filter(|_| self.dirty)?;
        self.dirty = false;
        self.syncs_begun += 1;
        Some(SyncJob {
            segment,
            writes: files.segments.get(&segment)?.written(),
            number: self.syncs_begun,
            makes_durable: self.appended(),
        })
    }

    /// A sync is done, in the order in which they were begun.
    pub(crate) fn finish_sync(&mut self, files: &mut Files, job: SyncJob) -> Result<(), PowerLost> {
        files.touch()?;
        if let Some(file) = files.segments.get_mut(&job.segment) {
            file.sync_up_to(job.writes);
        }
        if job.number <= self.syncs_done {
            return Ok(());
        }
        self.syncs_done = job.number;
        self.made_durable(files, job.makes_durable)
    }

    fn sync_current(&mut self, files: &mut Files) -> Result<(), PowerLost> {
        let unsynced = self.dirty || self.syncs_begun > self.syncs_done;
        let Some(current) = self.current.filter(|_| unsynced) else {
            return Ok(());
        };
        files.sync_segment(current)?;
        self.dirty = false;
        self.syncs_done = self.syncs_begun;
        self.made_durable(files, self.appended())
    }

    pub(crate) fn close(&mut self, files: &mut Files) -> Result<(), PowerLost> {
        self.sync_current(files)?;
        self.write_mark_now(files)
    }

    fn appended(&self) -> Marked {
        Marked {
            place: self.end,
            segment: self.current.unwrap_or(0),
            hard_state: self.hard_state,
            jump: Replaced::default(),
        }
    }

    fn made_durable(&mut self, files: &mut Files, marked: Marked) -> Result<(), PowerLost> {
        let has_voted = marked.hard_state != self.durable.hard_state;
        self.durable = marked;
        if has_voted {
            self.write_mark_now(files)?;
        }
        Ok(())
    }

    /// True if the mark says something else than what is durable.
    pub(crate) fn mark_is_stale(&self) -> bool {
        self.marked != self.durable
    }

    /// Writes one slot. Answers with what a sync has to cover.
    pub(crate) fn write_mark(&mut self, files: &mut Files) -> Result<u64, PowerLost> {
        files.touch()?;
        self.mark_counter += 1;
        let marked = &self.durable;
        let mark = Mark {
            counter: self.mark_counter,
            index: marked.place.index,
            term: marked.place.term,
            sequence: marked.place.sequence,
            epoch: marked.place.epoch,
            chain: marked.place.chain,
            segment: marked.segment,
            hard_term: marked.hard_state.term,
            vote: marked.hard_state.vote,
            jump: marked.jump,
        };
        let slot = usize::from(self.mark_counter % 2 == 1);
        files.mark.write_at(&encode_mark(&mark), slot * MARK_SLOT_BYTES);
        self.marked = *marked;
        Ok(files.mark.written())
    }

    fn write_mark_now(&mut self, files: &mut Files) -> Result<(), PowerLost> {
        for _ in 0..2 {
            let writes = self.write_mark(files)?;
            files.touch()?;
            files.mark.sync_up_to(writes);
        }
        Ok(())
    }

    /// Drops the entries behind `after`, durably.
    pub(crate) fn truncate(&mut self, files: &mut Files, after: LogIndex) -> Result<(), PowerLost> {
        if after >= self.end.index || self.mutation.is(Mutation::TruncateIgnored) {
            return Ok(());
        }
        assert!(
            after >= self.committed,
            "what was committed is never dropped: index {} was, and {after} would be the last",
            self.committed
        );
        self.sync_current(files)?;
        let first = self.places.front().expect("there is a first place").index;
        let at = usize::try_from(after.0 - first.0).expect("it is an index in memory");
        let place = self.places[at];
        assert_eq!(place.index, after);
        let from = self.end;
        self.write_mark_now(files)?;
        self.begin_elsewhere(files, place, Begins::Cut(from.replaced()))?;
        self.places.truncate(at + 1);
        Ok(())
    }

    /// Says that a snapshot of `place` from a peer is about to get its name.
    pub(crate) fn announce_jump(&mut self, files: &mut Files, place: Place) -> Result<(), PowerLost> {
        self.sync_current(files)?;
        self.durable.jump = place.replaced();
        self.write_mark_now(files)
    }

    /// Begins anew behind `place`, whose snapshot is there.
    pub(crate) fn begin_at(&mut self, files: &mut Files, place: Place, state: HardState) -> Result<(), PowerLost> {
        self.sync_current(files)?;
        self.hard_state = state;
        self.durable.jump = place.replaced();
        self.durable.hard_state = state;
        self.write_mark_now(files)?;
        let from = self.end;
        self.begin_elsewhere(files, place, Begins::Jump(from.replaced()))?;
        self.places = VecDeque::from([place]);
        self.committed = place.index;
        Ok(())
    }

    fn begin_elsewhere(&mut self, files: &mut Files, place: Place, begins: Begins) -> Result<(), PowerLost> {
        self.begin_segment(files, place, begins)?;
        self.end = place;
        files.sync_segment(self.current.expect("it was just begun"))?;
        self.dirty = false;
        self.durable = self.appended();
        self.write_mark_now(files)?;
        if matches!(begins, Begins::Jump(_)) {
            let last = self.segments.len() - 1;
            for (number, _) in self.segments.drain(..last) {
                files.retire(number);
            }
        }
        Ok(())
    }

    fn begin_segment(&mut self, files: &mut Files, previous: Place, begins: Begins) -> Result<(), PowerLost> {
        self.sync_current(files)?;
        let number = self.next_number;
        files.prepare(number);
        files.prepare(number + 1);
        let header = SegmentHeader {
            identity: self.identity,
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
        let file = files.segments.get_mut(&number).expect("it was made ready");
        file.write_at(&encode_segment_header(&header), 0);
        self.dirty = true;
        self.current = Some(number);
        self.offset = SEGMENT_HEADER_BYTES;
        self.next_number = number + 1;
        self.segments.push((number, previous));
        files.touch()
    }

    /// Entries up to this one are committed.
    pub(crate) fn set_committed(&mut self, index: LogIndex) {
        self.committed = self.committed.max(index);
    }

    /// Lets go of the segments that a snapshot of `index` covers. Answers with how many there were.
    pub(crate) fn retire(&mut self, files: &mut Files, index: LogIndex) -> usize {
        let covered = |at: usize| {
            let later = self.segments[at + 1..].iter().map(|(_, begins)| begins.index).min();
            later.is_some_and(|end| end <= index)
        };
        let count = (0..self.segments.len()).take_while(|at| covered(*at)).count();
        for (number, _) in self.segments.drain(..count) {
            files.retire(number);
        }
        count
    }
}

fn wipe(files: &mut Files, segment: u64, offset: u64) {
    if let Some(file) = files.segments.get_mut(&segment) {
        let offset = usize::try_from(offset).expect("it is an offset in memory");
        let zeros = vec![0; file.len() - offset];
        file.write_at(&zeros, offset);
        file.sync();
    }
}
