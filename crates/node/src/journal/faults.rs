//! Faults of the disk that tests ask for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use replica::Applied;

use super::files::Folder;
use super::open::open;
use super::{Journal, JournalSettings, Voters};

/// Which operations fail from now on.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    write: Mutex<Option<io::ErrorKind>>,
    sync: AtomicBool,
    power: Mutex<Power>,
}

/// When the power goes, and what was written since each file's last sync.
#[derive(Debug, Default)]
struct Power {
    /// Whose operations are counted, and how many are left.
    left: Option<(ThreadId, u64)>,
    gone: bool,
    unsynced: Vec<Unsynced>,
}

#[derive(Debug)]
struct Unsynced {
    path: PathBuf,
    offset: u64,
    before: Vec<u8>,
}

/// What of the writes that were not synced is lost with the power.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// Nothing: only the process died.
    Nothing,
    /// Everything.
    Everything,
    /// Every second write.
    EverySecond,
    /// The second half of each.
    Halves,
}

/// Opens a new journal whose disk does as the test says from then on.
pub(crate) fn open_with_faults(settings: &JournalSettings, from_the_start: fn(&Faults)) -> (Journal, Arc<Faults>) {
    let folder = Folder::new(&settings.folder);
    let faults = Arc::clone(&folder.faults);
    from_the_start(&faults);
    let opened = open(settings, folder, Voters::One, Applied::default(), &mut |_| Ok(()));
    (opened.unwrap().journal, faults)
}

impl Faults {
    pub(crate) fn fail_writes(&self, kind: Option<io::ErrorKind>) {
        *self.write.lock().unwrap() = kind;
    }

    pub(crate) fn fail_syncs(&self, fail: bool) {
        self.sync.store(fail, Ordering::SeqCst);
    }

    /// The power goes before this thread's operation behind so many more. Nothing is done from then on, by any thread.
    pub(crate) fn power_goes_after(&self, operations: u64) {
        self.power.lock().unwrap().left = Some((thread::current().id(), operations));
    }

    pub(crate) fn power_is_gone(&self) -> bool {
        self.power.lock().unwrap().gone
    }

    /// What the disk holds after the power went.
    pub(crate) fn lose(&self, loss: Loss) {
        let unsynced = std::mem::take(&mut self.power.lock().unwrap().unsynced);
        for (at, write) in unsynced.iter().enumerate().rev() {
            let from = match loss {
                Loss::Nothing => continue,
                Loss::Everything => 0,
                Loss::EverySecond if at % 2 == 0 => continue,
                Loss::EverySecond => 0,
                Loss::Halves => write.before.len() / 2,
            };
            let file = OpenOptions::new().write(true).open(&write.path).unwrap();
            file.write_all_at(&write.before[from..], write.offset + from as u64)
                .unwrap();
        }
    }

    /// Something is about to be done.
    pub(super) fn operation(&self) -> io::Result<()> {
        self.power.lock().unwrap().operation()
    }

    /// A file is about to be renamed.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut power = self.power.lock().unwrap();
        power.operation()?;
        for write in power.unsynced.iter_mut().filter(|write| write.path == from) {
            write.path = to.to_owned();
        }
        Ok(())
    }

    /// What is about to be overwritten is remembered until it is synced.
    pub(super) fn overwrite(&self, file: &File, path: &Path, offset: u64, bytes: usize) -> io::Result<()> {
        let mut power = self.power.lock().unwrap();
        power.operation()?;
        if power.left.is_some() && path.extension().is_none_or(|extension| extension != "tmp") {
            let mut before = vec![0; bytes];
            file.read_exact_at(&mut before, offset)?;
            let path = path.to_owned();
            power.unsynced.push(Unsynced { path, offset, before });
        }
        Ok(())
    }

    /// A file was synced.
    pub(super) fn synced(&self, path: &Path) {
        self.power.lock().unwrap().unsynced.retain(|write| write.path != path);
    }

    /// Only a file that grows can fill the disk.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        if path.extension().is_none_or(|extension| extension != "tmp") {
            return Ok(());
        }
        self.write.lock().unwrap().map_or(Ok(()), |kind| Err(kind.into()))
    }

    pub(super) fn sync(&self, path: &Path) -> io::Result<()> {
        if path.extension().is_some_and(|extension| extension == "journal") && self.sync.load(Ordering::SeqCst) {
            return Err(io::Error::other("input/output error"));
        }
        Ok(())
    }
}

impl Power {
    fn operation(&mut self) -> io::Result<()> {
        if let Some((thread, left)) = &mut self.left
            && *thread == thread::current().id()
        {
            self.gone |= *left == 0;
            *left = left.saturating_sub(1);
        }
        if self.gone {
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }
}
