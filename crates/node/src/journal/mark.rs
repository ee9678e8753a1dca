//! The mark's file and the thread that writes it.
//!
//! Two slots, written in turn, so that a torn write leaves the other one. When nothing is going on both slots come to
//! say the same, so that losing one of them loses nothing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use replica::recovery::Place;
use wire::journal::{MARK_FILE_BYTES, MARK_SLOT_BYTES, Mark, decode_mark, encode_mark};

use super::files::{DiskFile, Folder};
use super::handle::Shared;
use super::{DiskError, JournalError, MARK_WITHIN};

/// How long the thread gathers before it writes: the rest of [`MARK_WITHIN`] is for the write itself.
const GATHER: Duration = Duration::from_millis(MARK_WITHIN.as_millis() as u64 * 6 / 10);

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
        mark.write_both(Place::default())?;
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

    /// True if a slot says something else than `place`.
    fn is_stale(&self, place: Place) -> bool {
        let says = |slot: &Option<Mark>| slot.is_some_and(|mark| mark.index == place.index);
        !self.slots.iter().all(says)
    }

    /// Writes the slot that was not written last.
    fn write(&mut self, place: Place) -> Result<(), DiskError> {
        let mark = Mark {
            counter: self.counter + 1,
            index: place.index,
            term: place.term,
            sequence: place.sequence,
            epoch: place.epoch,
            chain: place.chain,
        };
        let slot = usize::from(mark.counter % 2 == 1);
        self.file
            .write_at(&encode_mark(&mark), (slot * MARK_SLOT_BYTES) as u64)?;
        self.file.sync_data()?;
        self.counter = mark.counter;
        self.slots[slot] = Some(mark);
        Ok(())
    }

    pub(super) fn write_both(&mut self, place: Place) -> Result<(), DiskError> {
        self.write(place)?;
        self.write(place)
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
    place: Place,
    asleep: bool,
    stop: bool,
}

/// The thread that writes the mark, away from the order path.
#[derive(Debug)]
pub(super) struct Marker {
    wanted: Arc<(Mutex<Wanted>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Marker {
    /// Starts the thread. `file` says `place` already.
    pub(super) fn start(file: MarkFile, place: Place, shared: Arc<Shared>) -> std::io::Result<Self> {
        let wanted = Wanted {
            place,
            asleep: false,
            stop: false,
        };
        let wanted = Arc::new((Mutex::new(wanted), Condvar::new()));
        let of_thread = Arc::clone(&wanted);
        let thread = std::thread::Builder::new()
            .name("journal-mark".into())
            .spawn(move || run(file, &of_thread, &shared))?;
        Ok(Self {
            wanted,
            thread: Some(thread),
        })
    }

    /// What is durable up to `place` will stand in the mark within [`MARK_WITHIN`]. Takes some nanoseconds.
    pub(super) fn set(&self, place: Place) {
        let mut wanted = lock(&self.wanted.0);
        wanted.place = place;
        if std::mem::take(&mut wanted.asleep) {
            self.wanted.1.notify_one();
        }
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

fn lock(wanted: &Mutex<Wanted>) -> MutexGuard<'_, Wanted> {
    wanted.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(mut file: MarkFile, wanted: &(Mutex<Wanted>, Condvar), shared: &Shared) {
    loop {
        let mut guard = lock(&wanted.0);
        while !guard.stop && !file.is_stale(guard.place) {
            guard.asleep = true;
            guard = wanted.1.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        guard.asleep = false;
        // Not woken by a new place: the wait is what gathers them.
        let gathered = wanted
            .1
            .wait_timeout_while(guard, GATHER, |wanted| !wanted.stop)
            .unwrap_or_else(PoisonError::into_inner);
        let (place, stop) = (gathered.0.place, gathered.0.stop);
        drop(gathered);
        let written = match (file.is_stale(place), stop) {
            (false, _) => Ok(()),
            (true, false) => file.write(place),
            (true, true) => file.write_both(place),
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
