//! The one that writes the event log: the publisher, and before it the repair at start.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, RwLock};

use types::{AppliedBatch, Sequence};
use wire::event_log::{SegmentInfo, decode_record_header, encode_record};

use super::segment::{self, ReadError, Segment};
use super::writeback::Writeback;
use super::{EventLog, EventLogConfig, EventLogWriteError, State};

/// How much is gathered before it goes to the file.
const BUFFER_BYTES: usize = 256 << 10;

/// Sequences that the log lacks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first one.
    pub first: Sequence,
    /// The last one.
    pub last: Sequence,
}

/// Writes the event log. There is one.
#[derive(Debug)]
pub struct Writer {
    config: EventLogConfig,
    log: Arc<EventLog>,
    /// Records that are in no file yet.
    buffer: Vec<u8>,
    /// Their batches' stamps, in sequence.
    buffered: Vec<types::Timestamp>,
    /// The segment that they go to; none before the first append and after one is full.
    active: Option<Segment>,
    /// For how long events are kept at least.
    keep_ns: u64,
    writeback: Writeback,
    /// True after a write failed: the disk part ends where it ended then, until a repair.
    broken: bool,
}

impl Writer {
    /// Opens the log of a folder, made if missing, and drops what is damaged in it. `settle` comes next.
    pub fn open(config: EventLogConfig) -> Result<Self, EventLogWriteError> {
        let scanned = std::fs::create_dir_all(&config.folder).and_then(|()| scan(&config));
        let segments = scanned.map_err(|error| failed(&config, error))?;
        let writeback = Writeback::start().map_err(|error| failed(&config, error))?;
        let first = segments.first().map_or(Sequence(1), |segment| segment.first);
        let end = segments.last().map_or(first, |segment| segment.end);
        let state = State {
            segments,
            first,
            end,
            ..State::default()
        };
        Ok(Self {
            keep_ns: config.keep_ns,
            config,
            log: Arc::new(EventLog {
                state: RwLock::new(state),
                synced: Mutex::default(),
            }),
            buffer: Vec::new(),
            buffered: Vec::new(),
            active: None,
            writeback,
            broken: false,
        })
    }

    /// The log as its readers see it.
    pub fn log(&self) -> Arc<EventLog> {
        Arc::clone(&self.log)
    }

    /// The sequence that would follow.
    pub fn next(&self) -> Sequence {
        self.log.read_state().end
    }

    /// Sees to it that events are kept for at least this long, in nanoseconds of the group's own time: for as long as a
    /// request may be repeated, its first answer must be there.
    pub fn keep_at_least(&mut self, nanoseconds: u64) {
        self.keep_ns = self.config.keep_ns.max(nanoseconds);
    }

    /// True if the disk lacks what the memory still has, because a write failed.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Makes the log fit a state of which `applied` is the last sequence, and which can be replayed from
    /// `replayable_from` on: drops what lies behind `applied`, and what lies before a gap that can't be filled. Returns
    /// the gaps to be filled with [`Self::fill`], in sequence.
    pub fn settle(&mut self, applied: Sequence, replayable_from: Sequence) -> Result<Vec<Gap>, EventLogWriteError> {
        let log = Arc::clone(&self.log);
        let mut state = log.write_state();
        self.drop_behind(&mut state, applied)?;
        let mut gaps = Vec::new();
        let mut behind = applied.next();
        let mut kept_from = state.segments.len();
        let mut first = behind;
        for (index, segment) in state.segments.iter().enumerate().rev() {
            if segment.end < behind {
                let gap_first = segment.end.max(replayable_from);
                gaps.push(Gap {
                    first: gap_first,
                    last: Sequence(behind.0 - 1),
                });
                first = gap_first.min(behind);
                if segment.end < replayable_from {
                    break;
                }
            }
            kept_from = index;
            behind = segment.first;
            first = segment.first;
        }
        if state.segments.is_empty() && replayable_from <= applied {
            first = replayable_from;
            gaps.push(Gap { first, last: applied });
        }
        for segment in state.segments.drain(..kept_from) {
            tracing::warn!(
                first = segment.first.0,
                end = segment.end.0,
                "event log: dropped, as what follows it is lost"
            );
            remove(&segment).map_err(|error| failed(&self.config, error))?;
        }
        gaps.retain(|gap| gap.first <= gap.last);
        gaps.reverse();
        state.first = first;
        state.end = applied.next();
        Ok(gaps)
    }

    fn drop_behind(&self, state: &mut State, applied: Sequence) -> Result<(), EventLogWriteError> {
        while let Some(segment) = state.segments.last_mut() {
            if segment.end <= applied.next() {
                break;
            }
            // Nothing is lost: the journal knows of fewer entries that they are committed than were told of, and tells of
            // them again.
            tracing::info!(
                end = segment.end.0,
                applied = applied.0,
                "event log: cut where the journal is known to be committed; what follows is written again"
            );
            let truncated = segment.truncate(applied.next());
            if truncated.is_err() || segment.end == segment.first {
                remove(segment).map_err(|error| failed(&self.config, error))?;
                state.segments.pop();
            }
        }
        Ok(())
    }

    /// Appends a batch before anybody reads: on disk alone. `done` follows on the last one.
    pub fn extend(&mut self, batch: &AppliedBatch) -> Result<(), EventLogWriteError> {
        let expected = self.next();
        if batch.header.first_sequence != expected {
            let got = batch.header.first_sequence;
            return Err(EventLogWriteError::OutOfSequence { got, expected });
        }
        self.write(batch)?;
        self.log.write_state().end = batch.header.last_sequence().next();
        Ok(())
    }

    /// Fills a gap with its batches, one after the other. `done` follows on the last one.
    pub fn fill(&mut self, batch: &AppliedBatch) -> Result<(), EventLogWriteError> {
        self.write(batch)
    }

    /// Ends the filling of a gap.
    pub fn done(&mut self) -> Result<(), EventLogWriteError> {
        self.flush()?;
        self.active = None;
        Ok(())
    }

    /// Appends a batch. It can be read at once, and it is on disk after the next `flush`, or earlier. A failed write
    /// leaves it readable for as long as it is recent.
    pub fn append(&mut self, batch: &Arc<AppliedBatch>) -> Result<(), EventLogWriteError> {
        let expected = self.next();
        if batch.header.first_sequence != expected {
            let got = batch.header.first_sequence;
            return Err(EventLogWriteError::OutOfSequence { got, expected });
        }
        let before = self.buffer.len();
        let written = if self.broken { Ok(()) } else { self.write(batch) };
        let bytes = self.buffer.len().saturating_sub(before).max(64);
        let log = Arc::clone(&self.log);
        let mut state = log.write_state();
        state.recent.push_back((Arc::clone(batch), bytes));
        state.recent_bytes += bytes;
        state.end = batch.header.last_sequence().next();
        self.forget_recent(&mut state);
        written
    }

    fn forget_recent(&self, state: &mut State) {
        while state.recent_bytes > self.config.recent_bytes_max && state.recent.len() > 1 {
            let (oldest, bytes) = state.recent.front().expect("there is more than one");
            if !self.broken && oldest.header.last_sequence() >= state.disk_end() {
                break;
            }
            state.recent_bytes -= bytes;
            state.recent.pop_front();
        }
    }

    fn write(&mut self, batch: &AppliedBatch) -> Result<(), EventLogWriteError> {
        let first = batch.header.first_sequence;
        let full = self
            .active
            .as_ref()
            .is_some_and(|active| active.bytes + self.buffer.len() as u64 >= self.config.segment_bytes);
        if full {
            self.done()?;
        }
        if self.active.is_none() {
            self.start_segment(first)?;
        }
        encode_record(batch, &mut self.buffer);
        self.buffered.push(batch.header.sequenced_at);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn start_segment(&mut self, first: Sequence) -> Result<(), EventLogWriteError> {
        let unfinished = {
            let state = self.log.read_state();
            let before = state.segments.iter().find(|segment| segment.end == first);
            before
                .filter(|segment| segment.bytes < self.config.segment_bytes)
                .cloned()
        };
        if unfinished.is_some() {
            self.active = unfinished;
            return Ok(());
        }
        let segment = Segment::create(&self.config.folder, &segment_info(&self.config, first))
            .map_err(|error| self.fail(error))?;
        self.active = Some(segment);
        self.retire(false)
    }

    /// Brings everything appended into its file, without waiting for the disk.
    pub fn flush(&mut self) -> Result<(), EventLogWriteError> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(error) = active.file.write_all_at(&self.buffer, active.bytes) {
            return Err(self.fail(error));
        }
        self.writeback.wrote(&active.file, self.buffer.len());
        let mut rest = &self.buffer[..];
        for sequenced_at in self.buffered.drain(..) {
            let info = decode_record_header(rest).expect("it was just encoded");
            active.record_written(&info, sequenced_at);
            rest = &rest[info.bytes()..];
        }
        self.buffer.clear();
        let mut state = self.log.write_state();
        let index = state.segments.partition_point(|segment| segment.first < active.first);
        match state.segments.get_mut(index) {
            Some(segment) if segment.first == active.first => segment.extend_to(active),
            _ => state.segments.insert(index, active.clone()),
        }
        self.forget_recent(&mut state);
        Ok(())
    }

    /// Deletes the oldest segments: while all take more than `bytes_max` and they are older than `keep_ns`; under
    /// pressure, whatever their age, until all take at most half of `bytes_max`. The newest one stays.
    pub fn retire(&mut self, pressure: bool) -> Result<(), EventLogWriteError> {
        let mut retired = Vec::new();
        {
            let mut state = self.log.write_state();
            let mut bytes: u64 = state.segments.iter().map(|segment| segment.bytes).sum();
            let now = state
                .segments
                .last()
                .map(|segment| segment.newest_at)
                .unwrap_or_default();
            let bytes_max = if pressure {
                self.config.bytes_max / 2
            } else {
                self.config.bytes_max
            };
            while bytes > bytes_max && state.segments.len() > 1 {
                let oldest = &state.segments[0];
                if !pressure && now.since_ns(oldest.newest_at) < self.keep_ns {
                    break;
                }
                bytes -= oldest.bytes;
                retired.push(state.segments.remove(0));
                state.first = state.segments[0].first;
            }
        }
        for segment in retired {
            remove(&segment).map_err(|error| failed(&self.config, error))?;
        }
        Ok(())
    }

    /// After a failed write: the sequences that the disk lacks, to be filled after this call. Readers notice nothing.
    pub fn begin_repair(&mut self) -> Option<Gap> {
        self.broken = false;
        self.active = None;
        self.buffer.clear();
        self.buffered.clear();
        let state = self.log.read_state();
        let (first, end) = (state.disk_end(), state.end);
        (first < end).then(|| Gap {
            first,
            last: Sequence(end.0 - 1),
        })
    }

    /// The repair came to no end: what was appended since the write failed is still missing on disk.
    pub fn give_up_repair(&mut self) {
        self.broken = true;
        self.active = None;
        self.buffer.clear();
        self.buffered.clear();
    }

    /// Gives up what was kept before `first`, because it can't be joined with what follows.
    pub fn restart_at(&mut self, first: Sequence) -> Result<(), EventLogWriteError> {
        self.active = None;
        self.buffer.clear();
        self.buffered.clear();
        self.broken = false;
        let log = Arc::clone(&self.log);
        let mut state = log.write_state();
        for segment in std::mem::take(&mut state.segments) {
            remove(&segment).map_err(|error| failed(&self.config, error))?;
        }
        state.recent.clear();
        state.recent_bytes = 0;
        state.first = first;
        state.end = first;
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> EventLogWriteError {
        self.give_up_repair();
        failed(&self.config, error)
    }
}

fn failed(config: &EventLogConfig, error: io::Error) -> EventLogWriteError {
    EventLogWriteError::Io {
        folder: config.folder.clone(),
        error,
    }
}

fn segment_info(config: &EventLogConfig, first: Sequence) -> SegmentInfo {
    SegmentInfo {
        cluster_id: config.identity.cluster,
        group: config.identity.group,
        incarnation: config.identity.incarnation,
        first_sequence: first,
    }
}

/// Reads all segments and keeps what is good of them.
fn scan(config: &EventLogConfig) -> io::Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    let expected = segment_info(config, Sequence(0));
    for path in segment::list(&config.folder)? {
        let segment = match Segment::scan(&path, &expected) {
            Ok((segment, None)) => segment,
            Ok((segment, Some(error))) => {
                tracing::warn!(path = %path.display(), %error, "event log: cut at its first damaged record");
                segment.file.set_len(segment.bytes)?;
                segment
            }
            Err(ReadError::Io(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "event log: segment dropped");
                std::fs::remove_file(&path)?;
                continue;
            }
        };
        let overlaps = segments.last().is_some_and(|previous| segment.first < previous.end);
        if overlaps || segment.end == segment.first {
            remove(&segment)?;
        } else {
            segments.push(segment);
        }
    }
    Ok(segments)
}

fn remove(segment: &Segment) -> io::Result<()> {
    match std::fs::remove_file(&segment.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
