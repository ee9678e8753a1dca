//! Writing: append and sync, on the core thread.

use std::sync::Arc;
use std::time::Instant;

use replica::recovery::Place;
use replica::{HardState, Record};
use types::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, COMMAND_BYTES_MAX};
use wire::journal::{
    NodeId, RECORD_BYTES_MAX, RecordFields, RecordKind, SEGMENT_HEADER_BYTES, SegmentHeader, encode_record,
    encode_segment_header, record_bytes,
};

use super::files::DiskFile;
use super::handle::{Segment, Shared};
use super::mark::Marker;
use super::preparer::Preparer;
use super::{JournalError, JournalHandle, Room};

/// Bytes that are surely enough for all that one step appends: the commands of one gathering and a few small records.
const STEP_BYTES_MAX: u64 = 8 * RECORD_BYTES_MAX as u64;

const _: () = assert!(BATCH_COMMANDS_MAX * COMMAND_BYTES_MAX < 6 * BATCH_BYTES_MAX);

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) file: DiskFile,
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
    /// Where it ends, as far as it is durable.
    pub(super) durable: Place,
    pub(super) hard_state: HardState,
    /// True if something was appended and not yet synced.
    pub(super) dirty: bool,
    pub(super) buffer: Vec<u8>,
    pub(super) figures: SyncFigures,
}

impl Journal {
    /// Appends records. They are durable only after [`Self::sync`]. On a full disk it waits for room.
    ///
    /// After an error nothing further is written: what of it reached the disk is for the next start to find out.
    pub fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        self.guarded(|journal| {
            for record in records {
                journal.append_one(record)?;
            }
            journal.write_out()
        })
    }

    /// Makes all that was appended durable.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.guarded(Self::sync_current)
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
            self.begin_segment()?;
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
            durable_index: self.durable.index,
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
        let Some(current) = self.current.as_ref().filter(|_| self.dirty) else {
            return Ok(());
        };
        let started = Instant::now();
        current.file.sync_data()?;
        self.figures.syncs += 1;
        self.figures.sync_ns += elapsed_ns(started);
        self.dirty = false;
        self.durable = self.end;
        self.shared.set_durable(self.durable);
        self.marker.set(self.durable);
        Ok(())
    }

    /// Goes over to the next segment. What is in the old one is durable before anything is written to the new one: that
    /// is what a segment's header proves of the segment before it.
    fn begin_segment(&mut self) -> Result<(), JournalError> {
        let started = Instant::now();
        self.sync_current()?;
        let number = self.current.as_ref().map_or(1, |current| current.number + 1);
        let shared = Arc::clone(&self.shared);
        let file = self.preparer.take(number, || {
            shared.set_full(true);
            shared.is_stopping()
        })?;
        shared.set_full(false);
        let header = SegmentHeader {
            identity: shared.identity,
            number,
            previous_index: self.end.index,
            previous_term: self.end.term,
            previous_sequence: self.end.sequence,
            previous_epoch: self.end.epoch,
            previous_chain: self.end.chain,
            term: self.hard_state.term,
            vote: self.hard_state.vote,
        };
        file.write_at(&encode_segment_header(&header), 0)?;
        let bytes = file.bytes()?;
        self.dirty = true;
        if self.current.is_some() {
            self.preparer.filled();
        }
        self.current = Some(Current {
            number,
            file,
            offset: SEGMENT_HEADER_BYTES as u64,
            bytes,
        });
        let previous = self.end;
        shared.segments().push_back(Segment { number, previous });
        self.preparer.prepare(number + 1);
        self.figures.rolls += 1;
        self.figures.roll_ns += elapsed_ns(started);
        Ok(())
    }
}

fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
