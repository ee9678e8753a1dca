//! Reading the journal while it is written.
//!
//! What stands in a segment is not all a part of the log: a later segment may begin at an earlier place, and what is behind
//! that place in the ones before it is void. So the entry behind a place is always in the last segment that begins at or
//! before that place, and a reader goes there as soon as it has come to where another segment begins.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use replica::LogEntry;
use replica::recovery::{Damage, Location, Place};
use types::{BatchHeader, Sequence};
use wire::batch;
use wire::journal::{
    Begins, Identity, LogIndex, RECORD_BYTES_MAX, RecordKind, RecordView, SEGMENT_HEADER_BYTES, decode_record,
    decode_segment_header,
};

use super::files::Folder;
use super::handle::{Segment, Shared};
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

/// Reads the log's entries in order, of a running node up to what is committed. Checks each record, and that each follows
/// on the one before it.
#[derive(Debug)]
pub struct JournalReader {
    source: Source,
    folder: Folder,
    identity: Identity,
    after: LogIndex,
    place: Place,
    number: u64,
    /// The index at which a later segment begins, so that this one ends there for the log.
    bound: Option<LogIndex>,
    file: File,
    path: PathBuf,
    offset: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// From where a reader knows which segments there are.
#[derive(Debug)]
enum Source {
    /// From the writer, and as of how many that were begun.
    Live { shared: Arc<Shared>, begun: u64 },
    /// From the files.
    Files,
}

impl JournalReader {
    /// Reads what is behind `after` in the journal in `path`, which may be written meanwhile: then what is not committed
    /// may be read too.
    pub fn new(path: &Path, identity: Identity, after: LogIndex) -> Result<Self, JournalError> {
        Self::start(Source::Files, Folder::new(path), identity, after)
    }

    /// The same for a journal that is open for writing.
    pub(super) fn live(shared: Arc<Shared>, after: LogIndex) -> Result<Self, JournalError> {
        let (folder, identity) = (Folder::new(shared.folder.path()), shared.identity);
        let begun = shared.begun();
        Self::start(Source::Live { shared, begun }, folder, identity, after)
    }

    fn start(source: Source, folder: Folder, identity: Identity, after: LogIndex) -> Result<Self, JournalError> {
        let segments = match &source {
            Source::Live { shared, .. } => shared.segments().iter().copied().collect(),
            Source::Files => begun_segments(&folder, &identity)?,
        };
        let retired = || {
            let kept = segments.iter().map(|segment| segment.previous.index).min();
            JournalError::Retired {
                wanted: after.next(),
                first: kept.unwrap_or_default().next(),
            }
        };
        let begins_before = |segment: &&Segment| segment.previous.index <= after;
        let start = *segments.iter().rev().find(begins_before).ok_or_else(retired)?;
        let path = folder.segment(start.number);
        let file = File::open(&path).map_err(|error| DiskError::new("open", &path, error))?;
        let mut reader = Self {
            source,
            folder,
            identity,
            after,
            place: start.previous,
            number: start.number,
            bound: None,
            file,
            path,
            offset: SEGMENT_HEADER_BYTES as u64,
            window: Vec::new(),
            window_at: 0,
        };
        reader.bound = reader.bound(&segments);
        Ok(reader)
    }

    /// The next entry, up to the batch that holds `through`, which must be durable. None behind that, and of a running
    /// node's journal none that is not committed.
    pub fn next(&mut self, through: Sequence) -> Result<Option<ReadEntry>, JournalError> {
        let through = match &self.source {
            Source::Live { shared, .. } => through.min(shared.committed_sequence()),
            Source::Files => through,
        };
        self.next_while(|place| place.sequence < through)
    }

    /// The next committed entry of a running node's journal, those without a batch behind the last one included.
    pub fn next_committed(&mut self) -> Result<Option<ReadEntry>, JournalError> {
        let through = match &self.source {
            Source::Live { shared, .. } => shared.committed_index(),
            // Nothing here tells what is committed.
            Source::Files => LogIndex(0),
        };
        self.next_while(|place| place.index < through)
    }

    fn next_while(&mut self, goes_on: impl Fn(&Place) -> bool) -> Result<Option<ReadEntry>, JournalError> {
        // Whatever is void by now was made so before anything in its place was committed.
        if let Source::Live { shared, begun } = &mut self.source {
            let now = shared.begun();
            if std::mem::replace(begun, now) != now {
                let segments = shared.segments().iter().copied().collect::<Vec<_>>();
                self.bound = self.bound(&segments);
                if self.bound.is_none_or(|bound| bound > self.place.index) {
                    self.still_there(&segments)?;
                }
            }
        }
        while goes_on(&self.place) {
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

    /// The place behind the entry of this index, which the log holds, committed or not.
    pub(super) fn place_behind(folder: &Path, identity: Identity, index: LogIndex) -> Result<Place, JournalError> {
        let mut reader = Self::new(folder, identity, index)?;
        while reader.place.index < index {
            reader.next_record()?;
        }
        Ok(reader.place)
    }

    /// Where the first of the later segments begins, as far as the log goes.
    fn bound(&self, segments: &[Segment]) -> Option<LogIndex> {
        let later = segments.iter().filter(|segment| segment.number > self.number);
        later.map(|segment| segment.previous.index).min()
    }

    /// The segment was not retired.
    fn still_there(&self, segments: &[Segment]) -> Result<(), JournalError> {
        if segments.iter().any(|segment| segment.number == self.number) {
            return Ok(());
        }
        let first = segments.iter().map(|segment| segment.previous.index.next()).min();
        Err(JournalError::Retired {
            wanted: self.place.index.next(),
            first: first.unwrap_or_default(),
        })
    }

    /// One record further. None if it holds no entry, or if the next segment was entered.
    fn next_record(&mut self) -> Result<Option<ReadEntry>, JournalError> {
        if self.bound.is_some_and(|bound| bound <= self.place.index) {
            return self.next_segment().map(|()| None);
        }
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
                // A segment that was not there when it was last looked.
                let segments = self.segments()?;
                self.bound = self.bound(&segments);
                return match self.bound {
                    Some(bound) if bound <= self.place.index => Ok(None),
                    _ => Err(error),
                };
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

    fn segments(&self) -> Result<Vec<Segment>, JournalError> {
        match &self.source {
            Source::Live { shared, .. } => Ok(shared.segments().iter().copied().collect()),
            Source::Files => begun_segments(&self.folder, &self.identity),
        }
    }

    /// Goes over to the last segment that begins at or before the place that the reader has come to.
    fn next_segment(&mut self) -> Result<(), JournalError> {
        let segments = self.segments()?;
        let begins_before = |segment: &&Segment| segment.previous.index <= self.place.index;
        self.bound = self.bound(&segments);
        self.still_there(&segments)?;
        let Some(next) = segments.iter().rev().find(begins_before).copied() else {
            return Ok(());
        };
        if (next.previous.index, next.previous.chain) != (self.place.index, self.place.chain) {
            let damage = Damage::SegmentOutOfPlace {
                segment: next.number,
                says: next.number,
                expected: self.place.index,
                found: next.previous.index,
            };
            return Err(self.damaged(damage));
        }
        self.path = self.folder.segment(next.number);
        self.file = File::open(&self.path).map_err(|error| DiskError::new("open", &self.path, error))?;
        self.number = next.number;
        self.bound = self.bound(&segments);
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

/// The segments whose headers are whole, from the last one on with which the log begins anew.
fn begun_segments(folder: &Folder, identity: &Identity) -> Result<Vec<Segment>, JournalError> {
    let mut segments = Vec::new();
    for number in folder.list()?.segments {
        let page = match read_header(&folder.segment(number)) {
            Ok(page) => page,
            // It was retired meanwhile.
            Err(error) if error.error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let Ok(header) = decode_segment_header(&page) else {
            continue;
        };
        if (header.number, &header.identity) != (number, identity) {
            continue;
        }
        if matches!(header.begins, Begins::Jump(_)) {
            segments.clear();
        }
        segments.push(Segment {
            number,
            previous: Place::before(&header),
        });
    }
    Ok(segments)
}
