//! The mark's file and the thread that writes it.
//!
//! Two slots, written in turn, so that a torn write leaves the other one. When nothing is going on both slots come to
//! say the same, so that losing one of them loses nothing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use replica::HardState;
use replica::recovery::Place;
use wire::journal::{MARK_FILE_BYTES, MARK_SLOT_BYTES, Mark, Replaced, decode_mark, encode_mark};

use super::files::{DiskFile, Folder};
use super::handle::Shared;
use super::{DiskError, JournalError, MARK_WITHIN};

/// How long the thread gathers before it writes: the rest of [`MARK_WITHIN`] is for the write itself.
const GATHER: Duration = Duration::from_millis(MARK_WITHIN.as_millis() as u64 * 6 / 10);

/// What the mark says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marked {
    /// Up to where the log is durable.
    pub(super) place: Place,
    /// The last segment that was durably begun (0: none).
    pub(super) segment: u64,
    pub(super) hard_state: HardState,
    /// The snapshot with which the log is about to begin anew (index 0: none).
    pub(super) jump: Replaced,
}

impl Marked {
    fn with_counter(&self, counter: u64) -> Mark {
        let place = &self.place;
        Mark {
            counter,
            index: place.index,
            term: place.term,
            sequence: place.sequence,
            epoch: place.epoch,
            chain: place.chain,
            segment: self.segment,
            hard_term: self.hard_state.term,
            vote: self.hard_state.vote,
            jump: self.jump,
        }
    }
}

/// The mark's file.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: DiskFile,
    counter: u64,
    slots: [Option<Mark>; 2],
}

impl MarkFile {
    /// Makes the file, with a mark of nothing.
    pub(super) fn create(folder: &Folder) -> Result<Self, JournalError> {
        let unfinished = folder.mark().with_extension("tmp");
        let mut mark = Self {
            file: folder.create(&unfinished)?,
            counter: 0,
            slots: [None; 2],
        };
        mark.write_both(&Marked::default())?;
        mark.file.sync_all()?;
        folder.rename(&unfinished, &folder.mark())?;
        mark.file = folder.open(&folder.mark())?;
        Ok(mark)
    }

    /// Opens the file. Answers also with the mark that holds.
    pub(super) fn open(folder: &Folder) -> Result<(Self, Mark), JournalError> {
        let (slots, newest) = read_slots(folder)?;
        let file = folder.open(&folder.mark())?;
        let counter = newest.counter;
        Ok((Self { file, counter, slots }, newest))
    }

    /// True if a slot says something else.
    fn is_stale(&self, marked: &Marked) -> bool {
        let says = |slot: &Option<Mark>| slot.is_some_and(|mark| mark == marked.with_counter(mark.counter));
        !self.slots.iter().all(says)
    }

    /// Writes the slot that was not written last.
    fn write(&mut self, marked: &Marked) -> Result<(), DiskError> {
        let mark = marked.with_counter(self.counter + 1);
        let slot = usize::from(mark.counter % 2 == 1);
        self.file
            .write_at(&encode_mark(&mark), (slot * MARK_SLOT_BYTES) as u64)?;
        self.file.sync_data()?;
        self.counter = mark.counter;
        self.slots[slot] = Some(mark);
        Ok(())
    }

    pub(super) fn write_both(&mut self, marked: &Marked) -> Result<(), DiskError> {
        self.write(marked)?;
        self.write(marked)
    }
}

/// The mark that holds, without opening the file for writing.
pub(super) fn read_mark(folder: &Folder) -> Result<Mark, JournalError> {
    read_slots(folder).map(|(_, newest)| newest)
}

fn read_slots(folder: &Folder) -> Result<([Option<Mark>; 2], Mark), JournalError> {
    let path = folder.mark();
    let mut bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = "is missing";
            return Err(JournalError::Mark { path, what });
        }
        Err(error) => return Err(DiskError::new("read", &path, error).into()),
    };
    bytes.resize(MARK_FILE_BYTES, 0);
    let slots = [decode_mark(&bytes), decode_mark(&bytes[MARK_SLOT_BYTES..])];
    let Some(newest) = slots.into_iter().flatten().max_by_key(|mark| mark.counter) else {
        let what = "is damaged in both places";
        return Err(JournalError::Mark { path, what });
    };
    Ok((slots, newest))
}

#[derive(Debug)]
struct Wanted {
    marked: Marked,
    asleep: bool,
    stop: bool,
}

/// The thread that writes the mark, away from the order path; and for what can't wait, the way past it.
#[derive(Debug)]
pub(super) struct Marker {
    /// Locked for as long as it is written. Whoever locks both locks this one first.
    file: Arc<Mutex<MarkFile>>,
    wanted: Arc<(Mutex<Wanted>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Marker {
    /// Starts the thread. `file` says `marked` already.
    pub(super) fn start(file: MarkFile, marked: Marked, shared: Arc<Shared>) -> std::io::Result<Self> {
        let wanted = Wanted {
            marked,
            asleep: false,
            stop: false,
        };
        let file = Arc::new(Mutex::new(file));
        let wanted = Arc::new((Mutex::new(wanted), Condvar::new()));
        let of_thread = (Arc::clone(&file), Arc::clone(&wanted));
        let thread = std::thread::Builder::new()
            .name("journal-mark".into())
            .spawn(move || run(&of_thread.0, &of_thread.1, &shared))?;
        Ok(Self {
            file,
            wanted,
            thread: Some(thread),
        })
    }

    /// What is durable will stand in the mark within [`MARK_WITHIN`]. Takes some nanoseconds.
    pub(super) fn set(&self, marked: Marked) {
        let mut wanted = lock(&self.wanted.0);
        wanted.marked = marked;
        if std::mem::take(&mut wanted.asleep) {
            self.wanted.1.notify_one();
        }
    }

    /// It stands in both slots, durably, when this returns.
    pub(super) fn write_now(&self, marked: Marked) -> Result<(), DiskError> {
        // First, so that the thread can't write anything older behind it.
        lock(&self.wanted.0).marked = marked;
        lock(&self.file).write_both(&marked)
    }
}

impl Drop for Marker {
    /// Writes what is wanted, and ends the thread.
    fn drop(&mut self) {
        lock(&self.wanted.0).stop = true;
        self.wanted.1.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the journal's mark panicked");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(file: &Mutex<MarkFile>, wanted: &(Mutex<Wanted>, Condvar), shared: &Shared) {
    loop {
        let marked = lock(&wanted.0).marked;
        let stale = lock(file).is_stale(&marked);
        let mut guard = lock(&wanted.0);
        if !stale && !guard.stop {
            if guard.marked == marked {
                guard.asleep = true;
                guard = wanted.1.wait(guard).unwrap_or_else(PoisonError::into_inner);
                guard.asleep = false;
            }
            continue;
        }
        // Not woken by a new place: the wait is what gathers them.
        let gathered = wanted
            .1
            .wait_timeout_while(guard, GATHER, |wanted| !wanted.stop)
            .unwrap_or_else(PoisonError::into_inner);
        drop(gathered);
        let mut file = lock(file);
        let (marked, stop) = {
            let wanted = lock(&wanted.0);
            (wanted.marked, wanted.stop)
        };
        let written = match (file.is_stale(&marked), stop) {
            (false, _) => Ok(()),
            (true, false) => file.write(&marked),
            (true, true) => file.write_both(&marked),
        };
        if let Err(error) = written {
            tracing::error!(%error, "the journal's mark could not be written; the node takes no more commands");
            shared.fail();
            return;
        }
        if stop {
            return;
        }
    }
}
