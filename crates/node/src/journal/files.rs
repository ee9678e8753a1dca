//! The journal's files: names, and the few operations that are done to them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use replica::recovery::segment_file_name;

use super::{DiskError, JournalError};

/// Zeros are written in pieces of this many bytes, each made durable before the next, so that filling a segment does not
/// hold up the syncs of the core for long.
pub(super) const ZEROS_BYTES: usize = 1 << 20;

/// A file of the journal that is open for writing.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    path: PathBuf,
    #[cfg(test)]
    faults: std::sync::Arc<super::faults::Faults>,
}

/// The journal's folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    #[cfg(test)]
    pub(super) faults: std::sync::Arc<super::faults::Faults>,
}

/// What the folder holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The numbers of the segments, rising.
    pub(super) segments: Vec<u64>,
    /// Files of retired segments, to be used again.
    pub(super) spares: Vec<PathBuf>,
    /// Files whose making was cut short.
    pub(super) unfinished: Vec<PathBuf>,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            #[cfg(test)]
            faults: std::sync::Arc::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn segment(&self, number: u64) -> PathBuf {
        self.path.join(segment_file_name(number))
    }

    fn spare(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:012}.spare"))
    }

    /// A name for one more spare, of this number or a later one.
    pub(super) fn new_spare(&self, number: u64, spares: &[PathBuf]) -> PathBuf {
        let names = (number..).map(|number| self.spare(number));
        let free = names.into_iter().find(|name| !spares.contains(name));
        free.expect("spares are few")
    }

    pub(super) fn mark(&self) -> PathBuf {
        self.path.join("mark")
    }

    pub(super) fn list(&self) -> Result<Listing, JournalError> {
        let failed = |error| DiskError::new("list", &self.path, error);
        let mut listing = Listing::default();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            let number = || path.file_stem()?.to_str()?.parse().ok();
            match (extension, number()) {
                (Some("journal"), Some(number)) if self.segment(number) == path => listing.segments.push(number),
                (Some("spare"), _) => listing.spares.push(path),
                (Some("tmp"), _) => listing.unfinished.push(path),
                _ => {}
            }
        }
        listing.segments.sort_unstable();
        listing.spares.sort_unstable();
        Ok(listing)
    }

    pub(super) fn open(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        self.wrap(path, file.map_err(|error| DiskError::new("open", path, error))?)
    }

    pub(super) fn create(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options
            .open(path)
            .map_err(|error| DiskError::new("create", path, error))?;
        self.wrap(path, file)
    }

    #[cfg_attr(not(test), expect(clippy::unnecessary_wraps, reason = "tests make it fail"))]
    fn wrap(&self, path: &Path, file: File) -> Result<DiskFile, DiskError> {
        Ok(DiskFile {
            file,
            path: path.to_owned(),
            #[cfg(test)]
            faults: std::sync::Arc::clone(&self.faults),
        })
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        #[cfg(test)]
        self.faults
            .rename(from, to)
            .map_err(|error| DiskError::new("rename", from, error))?;
        std::fs::rename(from, to).map_err(|error| DiskError::new("rename", from, error))?;
        self.sync()
    }

    pub(super) fn remove(&self, path: &Path) -> Result<(), DiskError> {
        #[cfg(test)]
        self.faults
            .operation()
            .map_err(|error| DiskError::new("remove", path, error))?;
        std::fs::remove_file(path).map_err(|error| DiskError::new("remove", path, error))
    }

    /// Bytes that are free on its disk, for whoever may not use what is kept for root.
    pub(super) fn available_bytes(&self) -> Result<u64, DiskError> {
        let figures = rustix::fs::statvfs(&self.path);
        let figures = figures.map_err(|error| DiskError::new("look at the disk of", &self.path, error.into()))?;
        Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
    }

    /// Makes what was created, renamed and removed in the folder durable.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        let synced = File::open(&self.path).and_then(|folder| folder.sync_all());
        synced.map_err(|error| DiskError::new("sync the folder", &self.path, error))
    }
}

impl DiskFile {
    pub(super) fn bytes(&self) -> Result<u64, DiskError> {
        let metadata = self.file.metadata();
        metadata
            .map(|metadata| metadata.len())
            .map_err(|error| self.failed("look at", error))
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        #[cfg(test)]
        self.faults
            .write(&self.path)
            .and_then(|()| self.faults.overwrite(&self.file, &self.path, offset, bytes.len()))
            .map_err(|error| self.failed("write", error))?;
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|error| self.failed("write", error))
    }

    pub(super) fn sync_data(&self) -> Result<(), DiskError> {
        #[cfg(test)]
        self.faults
            .sync(&self.path)
            .and_then(|()| self.faults.operation())
            .map_err(|error| self.failed("sync", error))?;
        self.file.sync_data().map_err(|error| self.failed("sync", error))?;
        #[cfg(test)]
        self.faults.synced(&self.path);
        Ok(())
    }

    pub(super) fn sync_all(&self) -> Result<(), DiskError> {
        #[cfg(test)]
        self.faults.operation().map_err(|error| self.failed("sync", error))?;
        self.file.sync_all().map_err(|error| self.failed("sync", error))?;
        #[cfg(test)]
        self.faults.synced(&self.path);
        Ok(())
    }

    /// Overwrites `from..to` with zeros and makes them durable.
    pub(super) fn zero(&self, from: u64, to: u64) -> Result<(), DiskError> {
        let zeros = vec![0; ZEROS_BYTES];
        let mut offset = from;
        while offset < to {
            let bytes = zeros.len().min(usize::try_from(to - offset).unwrap_or(usize::MAX));
            self.write_at(&zeros[..bytes], offset)?;
            self.sync_data()?;
            offset += bytes as u64;
        }
        Ok(())
    }

    /// Reads the whole file into `into`, from the disk itself as far as the kernel allows.
    pub(super) fn read_all(&self, into: &mut Vec<u8>) -> Result<(), DiskError> {
        // What a sync could not write down may still be in memory. Advice only: what can't be dropped stays.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        let bytes = usize::try_from(self.bytes()?).unwrap_or(usize::MAX);
        into.clear();
        into.resize(bytes, 0);
        let read = self.file.read_exact_at(into, 0);
        read.map_err(|error| self.failed("read", error))
    }

    fn failed(&self, action: &'static str, error: io::Error) -> DiskError {
        DiskError::new(action, &self.path, error)
    }
}
