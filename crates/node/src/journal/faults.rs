//! Faults of the disk that tests ask for.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use replica::Applied;

use super::files::Folder;
use super::open::open;
use super::{Journal, JournalSettings, Voters};

/// Which operations fail from now on.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    write: Mutex<Option<io::ErrorKind>>,
    sync: AtomicBool,
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
