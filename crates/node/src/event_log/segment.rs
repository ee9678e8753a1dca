//! One segment file: made, scanned and read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::{AppliedBatch, BatchHeader, Sequence, Timestamp};
use wire::event_log::{
    EventLogError, RECORD_HEADER_BYTES, RecordInfo, SEGMENT_HEADER_BYTES, SegmentInfo, check_record_body,
    decode_record_body, decode_record_header, decode_segment_header, encode_segment_header,
};

/// How far apart the entries of a segment's index are, in bytes.
const INDEX_STEP_BYTES: u64 = 64 << 10;
/// How much is read at once.
const READ_BYTES: usize = 256 << 10;

/// A segment file and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// The first sequence that it holds, or will.
    pub first: Sequence,
    /// The first sequence that it does not hold.
    pub end: Sequence,
    /// Bytes of its header and its good records.
    pub bytes: u64,
    /// The stamp of its newest batch.
    pub newest_at: Timestamp,
    pub file: Arc<File>,
    pub path: PathBuf,
    /// Where some records start: first sequence and offset.
    index: Vec<(Sequence, u64)>,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the record at byte {offset}: {error}")]
    Damaged { offset: u64, error: EventLogError },
}

/// A segment's path in its folder.
pub(super) fn path_of(folder: &Path, first: Sequence) -> PathBuf {
    folder.join(format!("{:020}.events", first.0))
}

/// The paths of all segments, in sequence.
pub(super) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "events") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl Segment {
    /// Makes an empty segment, over whatever bears its name.
    pub fn create(folder: &Path, info: &SegmentInfo) -> io::Result<Self> {
        let path = path_of(folder, info.first_sequence);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        file.write_all_at(&encode_segment_header(info), 0)?;
        Ok(Self::new(info.first_sequence, file, path))
    }

    fn new(first: Sequence, file: File, path: PathBuf) -> Self {
        Self {
            first,
            end: first,
            bytes: SEGMENT_HEADER_BYTES as u64,
            newest_at: Timestamp::default(),
            file: Arc::new(file),
            path,
            index: Vec::new(),
        }
    }

    /// Reads a whole segment and keeps what is good of it: records that follow each other, up to the first one that is
    /// damaged, which comes second. `expected` is what the header must say, but for the first sequence.
    pub fn scan(path: &Path, expected: &SegmentInfo) -> Result<(Self, Option<ReadError>), ReadError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        let mut header = [0; SEGMENT_HEADER_BYTES];
        let damaged = |error| ReadError::Damaged { offset: 0, error };
        if length < SEGMENT_HEADER_BYTES as u64 {
            return Err(damaged(EventLogError::CutShort));
        }
        file.read_exact_at(&mut header, 0)?;
        let info = decode_segment_header(&header).map_err(damaged)?;
        let named_so = SegmentInfo {
            first_sequence: info.first_sequence,
            ..*expected
        };
        if info != named_so || path_of(path.parent().unwrap_or(Path::new("")), info.first_sequence) != path {
            return Err(damaged(EventLogError::Content));
        }
        let mut segment = Self::new(info.first_sequence, file, path.to_owned());
        let mut reader = Reader::new(Arc::clone(&segment.file), segment.bytes, length);
        loop {
            match reader.next_checked(segment.end) {
                Ok(Some((info, sequenced_at))) => segment.record_written(&info, sequenced_at),
                Ok(None) => return Ok((segment, None)),
                Err(error) => return Ok((segment, Some(error))),
            }
        }
    }

    /// Takes note of a record that now stands at the end.
    pub fn record_written(&mut self, info: &RecordInfo, sequenced_at: Timestamp) {
        let due = self
            .index
            .last()
            .is_none_or(|(_, offset)| self.bytes >= offset + INDEX_STEP_BYTES);
        if due {
            self.index.push((info.first_sequence, self.bytes));
        }
        self.bytes += info.bytes() as u64;
        self.end = info.last_sequence().next();
        self.newest_at = sequenced_at;
    }

    /// Takes over what was written since, from the writer's own picture of this segment.
    pub fn extend_to(&mut self, written: &Self) {
        let Self {
            first: _,
            end,
            bytes,
            newest_at,
            file: _,
            path: _,
            index,
        } = written;
        (self.end, self.bytes, self.newest_at) = (*end, *bytes, *newest_at);
        match index.get(self.index.len()..) {
            Some(new) => self.index.extend_from_slice(new),
            None => self.index.clone_from(index),
        }
    }

    /// Forgets the records from `end` on, and the one that `end` lies in.
    pub fn truncate(&mut self, end: Sequence) -> Result<(), ReadError> {
        let mut reader = self.reader(self.first);
        let mut kept = Self::new(self.first, self.file.try_clone()?, self.path.clone());
        while let Some((info, sequenced_at)) = reader.next_checked(kept.end)? {
            if info.last_sequence() >= end {
                break;
            }
            kept.record_written(&info, sequenced_at);
        }
        kept.file.set_len(kept.bytes)?;
        *self = kept;
        Ok(())
    }

    /// A reader that stands at or before the record of `from`.
    pub fn reader(&self, from: Sequence) -> Reader {
        let behind = self.index.partition_point(|(sequence, _)| *sequence <= from);
        let start = match behind.checked_sub(1) {
            Some(index) => self.index[index].1,
            None => SEGMENT_HEADER_BYTES as u64,
        };
        Reader::new(Arc::clone(&self.file), start, self.bytes)
    }
}

/// Reads records one after the other.
pub(super) struct Reader {
    file: Arc<File>,
    /// Where in the file `buffer` starts.
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
    /// How much of `buffer` was read already.
    consumed: usize,
}

impl Reader {
    fn new(file: Arc<File>, offset: u64, end: u64) -> Self {
        Self {
            file,
            offset,
            end,
            buffer: Vec::new(),
            consumed: 0,
        }
    }

    /// The header of the record at hand, if there is one.
    pub fn peek(&mut self) -> Result<Option<RecordInfo>, ReadError> {
        if self.position() == self.end {
            return Ok(None);
        }
        self.have(RECORD_HEADER_BYTES)?;
        let info = decode_record_header(&self.buffer[self.consumed..]).map_err(|error| self.damaged(error))?;
        Ok(Some(info))
    }

    /// Goes past the record at hand without reading it.
    pub fn skip(&mut self, info: &RecordInfo) {
        let behind = self.consumed + info.bytes();
        if behind <= self.buffer.len() {
            self.consumed = behind;
        } else {
            self.offset += behind as u64;
            self.buffer.clear();
            self.consumed = 0;
        }
    }

    /// The record at hand, which `peek` gave the header of. Goes past it.
    pub fn take(&mut self, info: &RecordInfo) -> Result<AppliedBatch, ReadError> {
        self.have(info.bytes())?;
        let body = &self.buffer[self.consumed + RECORD_HEADER_BYTES..self.consumed + info.bytes()];
        let batch = decode_record_body(info, body).map_err(|error| self.damaged(error))?;
        self.skip(info);
        Ok(batch)
    }

    /// Checks the record at hand and goes past it. It must start with `expected`. Gives its header and its stamp.
    fn next_checked(&mut self, expected: Sequence) -> Result<Option<(RecordInfo, Timestamp)>, ReadError> {
        let Some(info) = self.peek()? else {
            return Ok(None);
        };
        if info.first_sequence != expected {
            return Err(self.damaged(EventLogError::Content));
        }
        self.have(info.bytes())?;
        let body = &self.buffer[self.consumed + RECORD_HEADER_BYTES..self.consumed + info.bytes()];
        check_record_body(&info, body).map_err(|error| self.damaged(error))?;
        let header = wire::event_log::peek_batch_header(body).map_err(|error| self.damaged(error))?;
        self.skip(&info);
        Ok(Some((info, header.sequenced_at)))
    }

    /// What the record at hand says of its batch, without its events.
    pub fn batch_header(&mut self, info: &RecordInfo) -> Result<BatchHeader, ReadError> {
        self.have(info.bytes())?;
        let body = &self.buffer[self.consumed + RECORD_HEADER_BYTES..self.consumed + info.bytes()];
        wire::event_log::peek_batch_header(body).map_err(|error| self.damaged(error))
    }

    fn position(&self) -> u64 {
        self.offset + self.consumed as u64
    }

    fn damaged(&self, error: EventLogError) -> ReadError {
        ReadError::Damaged {
            offset: self.position(),
            error,
        }
    }

    /// Sees to it that this many bytes of the record at hand are in memory.
    fn have(&mut self, wanted: usize) -> Result<(), ReadError> {
        let position = self.position();
        let missing = wanted.saturating_sub(self.buffer.len() - self.consumed);
        if missing == 0 {
            return Ok(());
        }
        if position + wanted as u64 > self.end {
            return Err(self.damaged(EventLogError::CutShort));
        }
        self.buffer.drain(..self.consumed);
        self.offset = position;
        self.consumed = 0;
        let kept = self.buffer.len();
        let left = usize::try_from(self.end - position).unwrap_or(usize::MAX) - kept;
        self.buffer.resize(kept + missing.max(READ_BYTES).min(left), 0);
        self.file
            .read_exact_at(&mut self.buffer[kept..], position + kept as u64)?;
        Ok(())
    }
}
