//! Reading the journal while it is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use replica::LogEntry;
use replica::recovery::{Damage, Location, Place};
use types::{BatchHeader, Sequence};
use wire::batch;
use wire::journal::{
    Identity, LogIndex, RECORD_BYTES_MAX, RecordKind, RecordView, SEGMENT_HEADER_BYTES, decode_record,
    decode_segment_header,
};

use super::files::Folder;
use super::open::{log_entry, read_header};
use super::{DiskError, JournalError};

/// Bytes that are read at once, when a record does not need more.
const WINDOW_BYTES: usize = 256 << 10;

/// An entry of the log, as it was read.
#[derive(Clone, Debug)]
pub struct ReadEntry {
    /// The entry: its index, term, chain, and the batch's bytes.
    pub entry: LogEntry,
    /// What its batch says of itself, if it holds one.
    pub header: Option<BatchHeader>,
    /// Where its record stands.
    pub at: Location,
}

/// Reads entries in order, up to what the caller knows to be durable. Checks each record, and that each follows on the
/// one before it.
#[derive(Debug)]
pub struct JournalReader {
    folder: Folder,
    identity: Identity,
    after: LogIndex,
    place: Place,
    number: u64,
    file: File,
    path: PathBuf,
    offset: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl JournalReader {
    /// Reads what is behind `after` in the journal in `path`.
    pub fn new(path: &Path, identity: Identity, after: LogIndex) -> Result<Self, JournalError> {
        let folder = Folder::new(path);
        let mut start = None;
        let mut first = LogIndex(1);
        for number in folder.list()?.segments {
            let Ok(header) = decode_segment_header(&read_header(&folder.segment(number))?) else {
                continue;
            };
            if header.previous_index > after {
                if start.is_none() {
                    first = header.previous_index.next();
                }
                break;
            }
            start = Some((number, header));
        }
        let Some((number, header)) = start else {
            let wanted = after.next();
            return Err(JournalError::Retired { wanted, first });
        };
        let path = folder.segment(number);
        let file = File::open(&path).map_err(|error| DiskError::new("open", &path, error))?;
        let place = Place {
            index: header.previous_index,
            term: header.previous_term,
            sequence: header.previous_sequence,
            epoch: header.previous_epoch,
            chain: header.previous_chain,
        };
        Ok(Self {
            folder,
            identity,
            after,
            place,
            number,
            file,
            path,
            offset: SEGMENT_HEADER_BYTES as u64,
            window: Vec::new(),
            window_at: 0,
        })
    }

    /// The next entry, up to the batch that holds `through`, which must be durable. None behind that.
    pub fn next(&mut self, through: Sequence) -> Result<Option<ReadEntry>, JournalError> {
        while self.place.sequence < through {
            let Some(read) = self.next_record()? else {
                continue;
            };
            if self.place.index > self.after {
                return Ok(Some(read));
            }
        }
        Ok(None)
    }

    /// The same for a journal whose durable end is not known: ends where no further record stands. Only for tools; what
    /// is damaged at the end looks like the end.
    pub fn next_to_end(&mut self, through: Sequence) -> Result<Option<ReadEntry>, JournalError> {
        match self.next(through) {
            Err(JournalError::NoRecord { error, .. }) if error.is_unwritten() => Ok(None),
            other => other,
        }
    }

    /// One record further. None if it holds no entry, or if the next segment was entered.
    fn next_record(&mut self) -> Result<Option<ReadEntry>, JournalError> {
        let at = Location {
            segment: self.number,
            offset: self.offset,
        };
        let mut found = self.decode_window();
        if found.is_err() {
            // What was read before may be older than what is there now.
            self.fill(WINDOW_BYTES)?;
            found = self.decode_window();
        }
        if found.is_err() {
            self.fill(RECORD_BYTES_MAX)?;
            found = self.decode_window();
        }
        let record = match found {
            Ok(record) => record,
            Err(error) => {
                let error = JournalError::NoRecord {
                    at,
                    index: self.place.index.next(),
                    sequence: self.place.sequence.next(),
                    error,
                };
                return self.next_segment(error).map(|()| None);
            }
        };
        let (bytes, fields) = (record.bytes, record.fields);
        let entry = fields.kind.is_entry().then(|| log_entry(&record));
        self.offset += bytes as u64;
        let Some(entry) = entry else {
            return Ok(None);
        };
        if entry.index != self.place.index.next() {
            return Err(self.damaged(Damage::RecordOutOfPlace {
                at,
                expected: self.place.index.next(),
                found: entry.index,
            }));
        }
        self.place.index = entry.index;
        self.place.term = entry.term;
        if entry.kind != RecordKind::Batch {
            let header = None;
            return Ok(Some(ReadEntry { entry, header, at }));
        }
        let broken = Damage::ChainBroken { at, index: entry.index };
        let header = batch::decode_header(&entry.payload).map_err(|_| self.damaged(broken.clone()))?;
        let chain = self
            .place
            .chain
            .behind(fields.epoch, fields.first_sequence, &entry.payload);
        if chain != entry.chain {
            return Err(self.damaged(broken));
        }
        self.place.chain = chain;
        self.place.epoch = header.epoch;
        self.place.sequence = header.last_sequence();
        let header = Some(header);
        Ok(Some(ReadEntry { entry, header, at }))
    }

    /// The segment is at its end: goes over to the next one if that follows, otherwise it is damaged.
    fn next_segment(&mut self, otherwise: JournalError) -> Result<(), JournalError> {
        let number = self.number + 1;
        let path = self.folder.segment(number);
        let header = match read_header(&path) {
            Ok(page) => decode_segment_header(&page).ok(),
            Err(error) if error.error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let follows = header.is_some_and(|header| {
            header.identity == self.identity
                && header.number == number
                && header.previous_index == self.place.index
                && header.previous_chain == self.place.chain
        });
        if !follows {
            return Err(otherwise);
        }
        self.file = File::open(&path).map_err(|error| DiskError::new("open", &path, error))?;
        self.path = path;
        self.number = number;
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.window.clear();
        Ok(())
    }

    fn decode_window(&self) -> Result<RecordView<'_>, wire::journal::RecordError> {
        let from = self.offset.saturating_sub(self.window_at);
        let rest = usize::try_from(from)
            .ok()
            .and_then(|from| self.window.get(from..))
            .unwrap_or_default();
        decode_record(rest, self.number)
    }

    /// Reads this many bytes from where the next record starts; fewer at the end of the file.
    fn fill(&mut self, bytes: usize) -> Result<(), DiskError> {
        self.window.resize(bytes, 0);
        self.window_at = self.offset;
        let mut filled = 0;
        while filled < bytes {
            match self
                .file
                .read_at(&mut self.window[filled..], self.offset + filled as u64)
            {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DiskError::new("read", &self.path, error)),
            }
        }
        self.window.truncate(filled);
        Ok(())
    }

    fn damaged(&self, damage: Damage) -> JournalError {
        JournalError::Damaged {
            folder: self.folder.path().to_owned(),
            damage,
        }
    }
}
