//! Files that whoever renews them may replace at any time, one after the other.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Files that belong together, and what they were when they were last taken over, and when they last could not be.
#[derive(Clone, Debug)]
pub struct WatchedFiles<const N: usize> {
    paths: [PathBuf; N],
    taken: Version<N>,
    refused: Option<Version<N>>,
}

/// What tells two versions of the files from each other. None where there is no file.
type Version<const N: usize> = [Option<FileVersion>; N];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    changed: SystemTime,
    bytes: u64,
    inode: u64,
}

impl<const N: usize> WatchedFiles<N> {
    /// Files that are about to be read for the first time.
    pub fn new(paths: [PathBuf; N]) -> Self {
        Self {
            taken: versions(&paths),
            refused: None,
            paths,
        }
    }

    /// Where they are.
    pub fn paths(&self) -> &[PathBuf; N] {
        &self.paths
    }

    /// Lets the files be taken over if they changed. What can't be used is tried again, since they may be replaced one
    /// after the other and be half written when they are read.
    ///
    /// Answers only if there is something to say: they were taken over, or, once for each version, could not be.
    pub fn look<E>(&mut self, take_over: impl FnOnce(&[PathBuf; N]) -> Result<(), E>) -> Option<Result<(), E>> {
        let version = versions(&self.paths);
        if version == self.taken {
            return None;
        }
        match take_over(&self.paths) {
            Ok(()) => {
                self.taken = version;
                self.refused = None;
                Some(Ok(()))
            }
            Err(error) if self.refused != Some(version) => {
                self.refused = Some(version);
                Some(Err(error))
            }
            Err(_) => None,
        }
    }
}

fn versions<const N: usize>(paths: &[PathBuf; N]) -> Version<N> {
    std::array::from_fn(|index| version(&paths[index]))
}

fn version(path: &Path) -> Option<FileVersion> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(FileVersion {
        changed: metadata.modified().ok()?,
        bytes: metadata.len(),
        inode: metadata.ino(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_is_spoken_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        std::fs::write(&paths[0], "1").unwrap();
        let mut files = WatchedFiles::new(paths.clone());
        assert_eq!(files.look(|_| Err("not asked")), None);
        std::fs::write(&paths[1], "22").unwrap();
        assert_eq!(files.look(|_| Err("half")), Some(Err("half")));
        assert_eq!(files.look(|_| Err("half")), None);
        assert_eq!(files.look(|_| Ok::<_, ()>(())), Some(Ok(())));
        assert_eq!(files.look(|_| Err("not asked")), None);
        std::fs::write(&paths[0], "333").unwrap();
        assert_eq!(files.look(|_| Err("other")), Some(Err("other")));
    }
}
