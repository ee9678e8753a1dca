//! The thread that makes the next segment's file ready, so that going over to it costs the order path nothing.
//!
//! A file is zero-filled, or one of a retired segment used again: writing into blocks that are there already is what makes
//! `fdatasync` cheap. What a recycled file held names its old segment in each record, so it is never taken for new.
//!
//! A disk that is slow for some seconds must not stop the core at the end of a segment. So once a journal has filled one,
//! further files are made ahead and kept like those of retired segments, at a fraction of the disk's time.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use wire::journal::SEGMENT_HEADER_BYTES;

use super::files::{DiskFile, Folder, ZEROS_BYTES};
use super::{DiskError, JournalError, Room};

/// Files that are kept to be used: of retired segments, or made ahead.
const SPARES_MAX: usize = 2;
/// For each time that a piece of a file made ahead takes, the disk has so many times as long for others...
const RESTS: u32 = 4;
/// ... and at least so long.
const REST_MIN: Duration = Duration::from_millis(50);
/// How often it is tried again to make a file ahead.
const AHEAD_AGAIN: Duration = Duration::from_secs(5);
/// A file is made ahead only if so many more would find room on the disk.
const ROOM_SEGMENTS: u64 = 16;
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// A wait for the next segment that is worth a line in the log, in milliseconds.
const WORTH_SAYING_MS: u128 = 10;
/// Retired segments that may wait for the thread.
const REQUESTS_MAX: usize = 4_096;

/// The next segment's file.
#[derive(Debug)]
enum Next {
    /// Nobody asked for it yet, or it is being made.
    Coming,
    /// It is there.
    Ready(u64, DiskFile),
    /// It could not be made; it is tried again.
    Failed(DiskError),
}

enum Request {
    Prepare(u64),
    Recycle(u64),
    Stop,
}

#[derive(Debug)]
struct Slot {
    next: Mutex<Next>,
    changed: Condvar,
    /// True once a segment was filled since the start: then orders wait for the next one, and more are to be expected.
    has_filled: AtomicBool,
}

/// The thread, as the writer sees it.
#[derive(Debug)]
pub(super) struct Preparer {
    slot: Arc<Slot>,
    requests: Sender<Request>,
    thread: Option<JoinHandle<()>>,
}

/// Hands retired segments to the thread.
#[derive(Clone, Debug)]
pub(super) struct Recycler(Sender<Request>);

impl Recycler {
    /// The segment is no longer needed.
    pub(super) fn recycle(&self, number: u64) {
        // If the thread is gone or far behind, the file stays until the next start.
        if self.0.try_send(Request::Recycle(number)).is_err() {
            tracing::warn!(
                segment = number,
                "a retired segment waits for the next start to be let go"
            );
        }
    }
}

impl Preparer {
    pub(super) fn start(folder: Folder, segment_bytes: u64, spares: Vec<PathBuf>) -> std::io::Result<Self> {
        let (requests, received) = crossbeam_channel::bounded(REQUESTS_MAX);
        let slot = Arc::new(Slot {
            next: Mutex::new(Next::Coming),
            changed: Condvar::new(),
            has_filled: AtomicBool::new(false),
        });
        let worker = Worker {
            folder,
            segment_bytes,
            spares,
            slot: Arc::clone(&slot),
            filling: None,
            number: 0,
            rest: Duration::ZERO,
        };
        let thread = std::thread::Builder::new()
            .name("journal-next".into())
            .spawn(move || worker.run(&received))?;
        Ok(Self {
            slot,
            requests,
            thread: Some(thread),
        })
    }

    pub(super) fn recycler(&self) -> Recycler {
        Recycler(self.requests.clone())
    }

    /// Asks for the file of this segment.
    pub(super) fn prepare(&self, number: u64) {
        *lock(&self.slot.next) = Next::Coming;
        let sent = self.requests.send(Request::Prepare(number));
        assert!(sent.is_ok(), "the thread lives as long as its handle");
    }

    /// A segment was filled.
    pub(super) fn filled(&self) {
        self.slot.has_filled.store(true, Ordering::Relaxed);
    }

    /// Whether the file is there, and why not.
    pub(super) fn room(&self) -> Room {
        match &*lock(&self.slot.next) {
            Next::Ready(..) => Room::Enough,
            Next::Coming => Room::Coming,
            Next::Failed(error) if error.is_full() => Room::DiskFull,
            Next::Failed(_) => Room::DiskFailed,
        }
    }

    /// Waits while the file is being made, but not beyond `until`.
    pub(super) fn wait(&self, until: Instant) {
        let started = Instant::now();
        let timeout = until.saturating_duration_since(started);
        let next = lock(&self.slot.next);
        let coming = |next: &mut Next| matches!(next, Next::Coming);
        // Whoever waits looks again.
        drop(self.slot.changed.wait_timeout_while(next, timeout, coming));
        let waited_ms = started.elapsed().as_millis();
        // At the start there is nothing yet, and nobody who waits.
        if waited_ms >= WORTH_SAYING_MS && self.slot.has_filled.load(Ordering::Relaxed) {
            tracing::warn!(
                waited_ms,
                "the journal's next segment was not ready, and commands waited for it: the disk writes too slowly"
            );
        }
    }

    /// The file that was asked for. Waits for it, on a full disk until there is room; `give_up` ends that.
    pub(super) fn take(&self, number: u64, give_up: impl Fn() -> bool) -> Result<DiskFile, JournalError> {
        let mut next = lock(&self.slot.next);
        loop {
            match std::mem::replace(&mut *next, Next::Coming) {
                Next::Ready(of, file) if of == number => return Ok(file),
                Next::Ready(..) | Next::Coming => {}
                Next::Failed(error) if error.is_full() => {
                    if give_up() {
                        let path = error.path.parent().unwrap_or(&error.path).to_owned();
                        return Err(JournalError::Full(path));
                    }
                    *next = Next::Failed(error);
                }
                Next::Failed(error) => return Err(error.into()),
            }
            let waited = self.slot.changed.wait_timeout(next, RETRY);
            next = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        let stopped = self.requests.send(Request::Stop);
        if let Some(thread) = self.thread.take()
            && (stopped.is_err() || thread.join().is_err())
        {
            tracing::error!("the thread that prepares the journal's segments panicked");
        }
    }
}

fn lock(next: &Mutex<Next>) -> MutexGuard<'_, Next> {
    next.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker {
    folder: Folder,
    segment_bytes: u64,
    spares: Vec<PathBuf>,
    slot: Arc<Slot>,
    /// A file that is being filled.
    filling: Option<Filling>,
    /// The last segment that was asked for.
    number: u64,
    /// How long to rest before the next piece of a file is made ahead.
    rest: Duration,
}

/// A file of which a part is filled with zeros.
struct Filling {
    path: PathBuf,
    file: DiskFile,
    bytes: u64,
}

impl Worker {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut wanted = None;
        loop {
            let request = match wanted {
                Some(_) => requests.recv_timeout(RETRY),
                None if self.makes_ahead() => requests.recv_timeout(self.rest),
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match request {
                Ok(Request::Prepare(number)) => {
                    wanted = Some(number);
                    self.number = number;
                }
                Ok(Request::Recycle(number)) => self.recycle(number),
                Err(RecvTimeoutError::Timeout) if wanted.is_none() => self.make_ahead(),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return self.give_up(),
            }
            if let Some(number) = wanted
                && self.try_prepare(number)
            {
                wanted = None;
            }
        }
    }

    /// True once a segment was filled, while there are too few files: a journal that hardly grows needs no more than one.
    fn makes_ahead(&self) -> bool {
        self.slot.has_filled.load(Ordering::Relaxed) && self.spares.len() < SPARES_MAX
    }

    /// Goes on with a file that nobody asked for yet. Whatever fails, nobody waits for it.
    fn make_ahead(&mut self) {
        let started = Instant::now();
        self.rest = match self.fill_a_piece() {
            Ok(true) => REST_MIN.max(started.elapsed() * RESTS),
            Ok(false) => AHEAD_AGAIN,
            Err(error) => {
                tracing::warn!(%error, "a file for the journal could not be made ahead");
                self.give_up();
                AHEAD_AGAIN
            }
        };
    }

    /// False if there is no room.
    fn fill_a_piece(&mut self) -> Result<bool, DiskError> {
        if self.folder.available_bytes()? < ROOM_SEGMENTS * self.segment_bytes {
            self.give_up();
            return Ok(false);
        }
        let filling = match &mut self.filling {
            Some(filling) => filling,
            none => none.insert(begin(&self.folder, self.number + 1)?),
        };
        let until = self.segment_bytes.min(filling.bytes + ZEROS_BYTES as u64);
        filling.file.zero(filling.bytes, until)?;
        filling.bytes = until;
        if until == self.segment_bytes {
            filling.file.sync_all()?;
            let spare = self.folder.new_spare(self.number + 1, &self.spares);
            self.folder.rename(&filling.path, &spare)?;
            self.filling = None;
            self.spares.push(spare);
        }
        Ok(true)
    }

    /// What was written of a file must not take the room that somebody else may need.
    fn give_up(&mut self) {
        if let Some(filling) = self.filling.take() {
            let _ = self.folder.remove(&filling.path);
        }
    }

    fn try_prepare(&mut self, number: u64) -> bool {
        let made = self.make(number);
        let done = made.is_ok();
        let mut next = lock(&self.slot.next);
        *next = match made {
            Ok(file) => Next::Ready(number, file),
            Err(error) => {
                if !matches!(*next, Next::Failed(_)) {
                    tracing::error!(segment = number, %error, "the journal's next segment can't be made; it is tried again");
                }
                Next::Failed(error)
            }
        };
        drop(next);
        self.slot.changed.notify_one();
        done
    }

    fn make(&mut self, number: u64) -> Result<DiskFile, DiskError> {
        let path = self.folder.segment(number);
        while let Some(spare) = self.spares.pop() {
            match self.reuse(&spare, &path) {
                Ok(Some(file)) => return Ok(file),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a file that was kept for the journal can't be used"),
            }
        }
        let filling = match self.filling.take() {
            Some(filling) => filling,
            None => begin(&self.folder, number)?,
        };
        let filled = filling.file.zero(filling.bytes, self.segment_bytes);
        if let Err(error) = filled.and_then(|()| filling.file.sync_all()) {
            self.filling = Some(filling);
            self.give_up();
            return Err(error);
        }
        self.folder.rename(&filling.path, &path)?;
        self.folder.open(&path)
    }

    /// A retired segment's file under its new name and without its header; none if it is of another size.
    fn reuse(&self, spare: &Path, path: &Path) -> Result<Option<DiskFile>, DiskError> {
        let file = self.folder.open(spare)?;
        if file.bytes()? != self.segment_bytes {
            drop(file);
            self.folder.remove(spare)?;
            return Ok(None);
        }
        file.zero(0, SEGMENT_HEADER_BYTES as u64)?;
        self.folder.rename(spare, path)?;
        self.folder.open(path).map(Some)
    }

    fn recycle(&mut self, number: u64) {
        let path = self.folder.segment(number);
        let spare = self.folder.new_spare(number, &self.spares);
        let done = if self.spares.len() < SPARES_MAX {
            let kept = self.folder.rename(&path, &spare).map(|()| self.spares.push(spare));
            if self.spares.len() == SPARES_MAX {
                self.give_up();
            }
            kept
        } else {
            self.folder.remove(&path).and_then(|()| self.folder.sync())
        };
        if let Err(error) = done {
            tracing::warn!(segment = number, %error, "a retired segment could not be let go");
        }
    }
}

/// The empty file of a segment that is not finished.
fn begin(folder: &Folder, number: u64) -> Result<Filling, DiskError> {
    let path = folder.segment(number).with_extension("tmp");
    let file = folder.create(&path)?;
    Ok(Filling { path, file, bytes: 0 })
}
