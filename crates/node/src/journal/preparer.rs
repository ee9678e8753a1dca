//! The thread that makes the next segment's file ready, so that going over to it costs the order path nothing.
//!
//! A file is zero-filled, or one of a retired segment used again: writing into blocks that are there already is what makes
//! `fdatasync` cheap. What a recycled file held names its old segment in each record, so it is never taken for new.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use wire::journal::SEGMENT_HEADER_BYTES;

use super::files::{DiskFile, Folder};
use super::{DiskError, JournalError, Room};

/// Files of retired segments that are kept to be used again.
const SPARES_MAX: usize = 2;
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(250);
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
        });
        let worker = Worker {
            folder,
            segment_bytes,
            spares,
            slot: Arc::clone(&slot),
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
        let timeout = until.saturating_duration_since(Instant::now());
        let next = lock(&self.slot.next);
        let coming = |next: &mut Next| matches!(next, Next::Coming);
        // Whoever waits looks again.
        drop(self.slot.changed.wait_timeout_while(next, timeout, coming));
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
}

impl Worker {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut wanted = None;
        loop {
            let request = match wanted {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => requests.recv_timeout(RETRY),
            };
            match request {
                Ok(Request::Prepare(number)) => wanted = Some(number),
                Ok(Request::Recycle(number)) => self.recycle(number),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Request::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(number) = wanted
                && self.try_prepare(number)
            {
                wanted = None;
            }
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
            if let Some(file) = self.reuse(&spare, &path)? {
                return Ok(file);
            }
        }
        let unfinished = path.with_extension("tmp");
        let file = self.folder.create(&unfinished)?;
        if let Err(error) = file.zero(0, self.segment_bytes).and_then(|()| file.sync_all()) {
            // What was written of it must not take the room that somebody else may need.
            let _ = self.folder.remove(&unfinished);
            return Err(error);
        }
        self.folder.rename(&unfinished, &path)?;
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
        let (path, spare) = (self.folder.segment(number), self.folder.spare(number));
        let done = if self.spares.len() < SPARES_MAX {
            self.folder.rename(&path, &spare).map(|()| self.spares.push(spare))
        } else {
            self.folder.remove(&path).and_then(|()| self.folder.sync())
        };
        if let Err(error) = done {
            tracing::warn!(segment = number, %error, "a retired segment could not be let go");
        }
    }
}
