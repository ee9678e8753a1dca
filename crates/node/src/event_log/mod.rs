//! The event log on disk: what `apply` yielded, in sequence, for streams and queries of the past.
//!
//! ```text
//!  publisher ── append ──> Writer ── recent batches (memory) ──┐
//!                            │                                 ├── EventLog::read <── gateway
//!                            └── segment files ────────────────┘
//! ```
//!
//! It is derived: made again from snapshot and journal where it is missing, short or damaged. Only when the journal lets go
//! of what it is made from is its sync waited for. One thread writes; any number reads while it does. It never holds
//! anything that was not applied, and so nothing that was not durable in the journal.

mod segment;
mod writeback;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use gateway::handle::{History, HistoryError};
use types::{AppliedBatch, Sequence};
use wire::journal::Identity;

use segment::{ReadError, Segment};
pub use writer::{Gap, Writer};

/// Tells of each batch behind a sequence in the files in `folder`, in sequence, as far as they are whole. Nobody may be
/// writing them.
///
/// # Errors
/// The disk, or a file that is none.
pub fn batches_behind(folder: &Path, after: Sequence, each: &mut dyn FnMut(AppliedBatch)) -> io::Result<()> {
    for path in segments_behind(folder, after)? {
        let mut header = [0; wire::event_log::SEGMENT_HEADER_BYTES];
        File::open(&path)?.read_exact(&mut header)?;
        let info = wire::event_log::decode_segment_header(&header).map_err(io::Error::other)?;
        let (segment, _) = Segment::scan(&path, &info).map_err(io::Error::other)?;
        let mut reader = segment.reader(after);
        while let Some(info) = reader.peek().map_err(io::Error::other)? {
            if info.last_sequence() > after {
                each(reader.take(&info).map_err(io::Error::other)?);
            } else {
                reader.skip(&info);
            }
        }
    }
    Ok(())
}

/// The files in `folder` that may hold something behind a sequence, in sequence.
///
/// # Errors
/// The disk. A folder that isn't there holds nothing.
pub fn segments_behind(folder: &Path, sequence: Sequence) -> io::Result<Vec<PathBuf>> {
    let paths = match segment::list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed?,
    };
    // The last one that begins at or before the next sequence, and all behind it.
    let next = segment::path_of(folder, sequence.next());
    let first = paths.partition_point(|path| *path <= next).saturating_sub(1);
    Ok(paths[first..].to_vec())
}

/// How the event log is kept.
#[derive(Clone, Debug)]
pub struct EventLogConfig {
    /// Its folder.
    pub folder: PathBuf,
    /// Whose events it holds.
    pub identity: Identity,
    /// After how many bytes a new segment is started.
    pub segment_bytes: u64,
    /// How many bytes all segments may take, unless they are younger than `keep_ns`.
    pub bytes_max: u64,
    /// For how long events are kept at least, in nanoseconds of the group's own time.
    pub keep_ns: u64,
    /// How many bytes of recent batches, as written, are kept in memory.
    pub recent_bytes_max: usize,
}

/// The event log as its readers see it.
#[derive(Debug)]
pub struct EventLog {
    state: RwLock<State>,
    synced: Mutex<Synced>,
}

/// How far the log would outlive a power loss.
#[derive(Debug, Default)]
struct Synced {
    /// The first sequence that isn't known to be synced.
    end: Sequence,
    /// True after a sync failed: the disk may have dropped what a later sync calls synced, so that no later one counts.
    failed: bool,
}

#[derive(Debug, Default)]
struct State {
    /// In sequence, without gaps once the log is in use.
    segments: Vec<Segment>,
    /// The newest batches and their bytes as written, without gaps, up to `end`.
    recent: VecDeque<(Arc<AppliedBatch>, usize)>,
    recent_bytes: usize,
    /// The oldest sequence that can be read.
    first: Sequence,
    /// The first sequence that can't be read yet.
    end: Sequence,
}

impl State {
    /// The first sequence that is not on disk, or not yet.
    fn disk_end(&self) -> Sequence {
        self.segments.last().map_or(self.first, |segment| segment.end)
    }

    fn recent_first(&self) -> Sequence {
        self.recent
            .front()
            .map_or(self.end, |(batch, _)| batch.header.first_sequence)
    }

    fn recent_index(&self, sequence: Sequence) -> usize {
        self.recent
            .partition_point(|(batch, _)| batch.header.last_sequence() < sequence)
    }

    fn segment_of(&self, sequence: Sequence) -> Option<&Segment> {
        let index = self.segments.partition_point(|segment| segment.end <= sequence);
        self.segments.get(index).filter(|segment| segment.first <= sequence)
    }
}

impl EventLog {
    /// What all segments take on disk, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.read_state().segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Brings what is in the files to the disk itself, unless everything up to `wanted` is there already, and gives the
    /// last sequence that is. Neither readers nor the writer wait for it.
    pub fn sync(&self, wanted: Sequence) -> io::Result<Sequence> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.end <= wanted && !synced.failed {
            let segments: Vec<_> = {
                let state = self.read_state();
                let unsynced = state.segments.iter().filter(|segment| segment.end > synced.end);
                unsynced.cloned().collect()
            };
            synced.failed = true;
            for segment in &segments {
                segment.file.sync_data()?;
            }
            if let Some(last) = segments.last() {
                if let Some(folder) = last.path.parent() {
                    File::open(folder)?.sync_all()?;
                }
                synced.end = last.end;
            }
            synced.failed = false;
        }
        Ok(Sequence(synced.end.0.saturating_sub(1)))
    }

    fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_from_disk(&self, from: Sequence, bytes_max: usize) -> Result<Vec<Arc<AppliedBatch>>, HistoryError> {
        let (mut reader, first) = {
            let state = self.read_state();
            match state.segment_of(from) {
                Some(segment) => (segment.reader(from), state.first),
                None => return Err(HistoryError::Rebuilding),
            }
        };
        let failed = |error: ReadError| HistoryError::Io(error.to_string());
        let mut batches = Vec::new();
        let mut bytes = 0;
        while let Some(info) = reader.peek().map_err(failed)? {
            if info.last_sequence() < from {
                reader.skip(&info);
                continue;
            }
            if !batches.is_empty() && bytes + info.bytes() > bytes_max {
                break;
            }
            bytes += info.bytes();
            batches.push(reader.take(&info).map_err(failed)?);
        }
        let Some(last) = batches.last() else {
            return Err(HistoryError::Retired { wanted: from, first });
        };
        let successor = last.header.last_sequence().next();
        let successor = self.header_of(successor, &mut reader).map_err(failed)?;
        fill_in_commits(&mut batches, successor);
        Ok(batches.into_iter().map(Arc::new).collect())
    }

    /// The header of the batch that starts at `sequence`: at the reader's hand, in memory, or in the next segment.
    fn header_of(
        &self,
        sequence: Sequence,
        reader: &mut segment::Reader,
    ) -> Result<Option<types::BatchHeader>, ReadError> {
        if let Some(info) = reader.peek()? {
            return reader.batch_header(&info).map(Some);
        }
        let mut reader = {
            let state = self.read_state();
            if sequence >= state.recent_first() {
                let batch = state.recent.get(state.recent_index(sequence));
                return Ok(batch.map(|(batch, _)| batch.header));
            }
            match state.segment_of(sequence) {
                Some(segment) => segment.reader(sequence),
                None => return Ok(None),
            }
        };
        match reader.peek()? {
            Some(info) => reader.batch_header(&info).map(Some),
            None => Ok(None),
        }
    }
}

/// A batch's commit stands in the header of a later one.
fn fill_in_commits(batches: &mut [AppliedBatch], successor: Option<types::BatchHeader>) {
    let headers: Vec<_> = batches
        .iter()
        .skip(1)
        .map(|batch| batch.header)
        .chain(successor)
        .collect();
    for (batch, later) in batches.iter_mut().zip(headers) {
        if later.committed_through == batch.header.last_sequence() && later.epoch == batch.header.epoch {
            batch.committed_at = Some(later.committed_at);
        }
    }
}

impl History for EventLog {
    fn first(&self) -> Sequence {
        self.read_state().first
    }

    fn last(&self) -> Sequence {
        Sequence(self.read_state().end.0 - 1)
    }

    fn read(&self, from: Sequence, bytes_max: usize) -> Result<Vec<Arc<AppliedBatch>>, HistoryError> {
        let state = self.read_state();
        if from < state.first {
            let first = state.first;
            return Err(HistoryError::Retired { wanted: from, first });
        }
        if from < state.recent_first() {
            drop(state);
            return self.read_from_disk(from, bytes_max);
        }
        let mut batches = Vec::new();
        let mut bytes = 0;
        for (batch, batch_bytes) in state.recent.range(state.recent_index(from)..) {
            if !batches.is_empty() && bytes + batch_bytes > bytes_max {
                break;
            }
            bytes += batch_bytes;
            batches.push(Arc::clone(batch));
        }
        Ok(batches)
    }

    fn is_recent(&self, from: Sequence) -> bool {
        from >= self.read_state().recent_first()
    }
}

/// Why the event log could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EventLogWriteError {
    /// The disk said no.
    #[error("write the event log in {}: {error}", folder.display())]
    Io {
        /// Its folder.
        folder: PathBuf,
        /// What the disk said.
        error: io::Error,
    },
    /// A batch was handed over that does not follow on the last one.
    #[error("write the event log: sequence {got} does not follow; {expected} would")]
    OutOfSequence {
        /// The batch's first sequence.
        got: Sequence,
        /// The one that would follow.
        expected: Sequence,
    },
}
