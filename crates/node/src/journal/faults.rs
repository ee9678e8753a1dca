//! Faults of the disk that tests ask for.

use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Which operations fail from now on.
#[derive(Debug, Default)]
pub(super) struct Faults {
    write: Mutex<Option<io::ErrorKind>>,
    sync: AtomicBool,
}

impl Faults {
    pub(super) fn fail_writes(&self, kind: Option<io::ErrorKind>) {
        *self.write.lock().unwrap() = kind;
    }

    pub(super) fn fail_syncs(&self, fail: bool) {
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
