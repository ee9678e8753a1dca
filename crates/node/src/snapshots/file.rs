//! Snapshot files: written so that a name never stands for half a file, and believed only after a check.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use types::{EngineVersion, Sequence, StateMachine};
use wire::journal::{Identity, NodeId};
use wire::membership::Membership;
use wire::snapshot::{
    CheckedSnapshot, SNAPSHOT_HEADER_BYTES, SnapshotError, SnapshotHasher, SnapshotInfo, check_snapshot,
    decode_snapshot_header, encode_snapshot_header,
};

/// How many snapshots are kept: the newest, and one to fall back to.
pub const SNAPSHOTS_KEPT: usize = 2;

/// The snapshots of one group in one folder.
#[derive(Clone, Debug)]
pub struct SnapshotFolder {
    /// Where.
    pub folder: PathBuf,
    /// Whose they must be; which node made them does not matter.
    pub identity: Identity,
    /// The node that the group begins with, where there is no snapshot yet.
    pub founder: NodeId,
}

/// A snapshot that was read and found whole.
#[derive(Debug)]
pub struct Loaded<M> {
    /// Its header.
    pub info: SnapshotInfo,
    /// Its state.
    pub machine: M,
    /// Who belonged to the group.
    pub membership: Membership,
}

/// Why a snapshot could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
    /// The disk said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the disk said.
        error: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of a later program.
    #[error(
        "{}: engine version {version} is in force in it, and this program knows versions up to {known}. Install the release \
         that the rest of the group runs and start again; nothing is lost", path.display()
    )]
    EngineVersion {
        /// Which file.
        path: PathBuf,
        /// What is in force in it.
        version: EngineVersion,
        /// The newest that this program knows.
        known: EngineVersion,
    },
}

impl SnapshotFolder {
    /// Makes the folder if it is missing, and clears what was never finished. For the start, before anyone writes.
    pub fn prepare(&self) -> Result<(), SnapshotFileError> {
        let prepared = || -> io::Result<()> {
            std::fs::create_dir_all(&self.folder)?;
            if let Some(parent) = self.folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                // What is synced into the folder must not go with the folder.
                File::open(parent)?.sync_all()?;
            }
            for entry in std::fs::read_dir(&self.folder)? {
                let path = entry?.path();
                if path
                    .extension()
                    .is_some_and(|extension| extension == "unfinished" || extension == "arrived")
                {
                    std::fs::remove_file(&path)?;
                }
            }
            Ok(())
        };
        prepared().map_err(|error| failed(&self.folder, error))
    }

    /// All snapshots by name, the oldest first.
    pub fn list(&self) -> Result<Vec<PathBuf>, SnapshotFileError> {
        let listed = || -> io::Result<Vec<PathBuf>> {
            let mut paths = Vec::new();
            for entry in std::fs::read_dir(&self.folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "snapshot") {
                    paths.push(path);
                }
            }
            paths.sort();
            Ok(paths)
        };
        match listed() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            result => result.map_err(|error| failed(&self.folder, error)),
        }
    }

    /// The path of the snapshot that ends with a sequence.
    pub fn path_of(&self, last: Sequence) -> PathBuf {
        self.folder.join(format!("{:020}.snapshot", last.0))
    }

    /// The newest snapshot that ends no later than `at_most` and is whole and of this group, as a state machine; none
    /// means to start from nothing. Damaged ones are told of and set aside, so that none of them counts as one that is
    /// kept. One of a later program stays and is an error. One that can't be read, now, is passed over and stays: it need not be damaged.
    pub fn load_newest<M: StateMachine>(&self, at_most: Sequence) -> Result<Option<Loaded<M>>, SnapshotFileError> {
        let behind = self.path_of(at_most);
        for path in self.list()?.into_iter().rev().filter(|path| *path <= behind) {
            match self.load(&path) {
                Ok(loaded) => return Ok(Some(loaded)),
                Err(error @ SnapshotFileError::Io { .. }) => {
                    tracing::error!(%error, "snapshot can't be read; falling back to an older one or to the journal");
                }
                // What is older was made before that version, and the journal goes on with what this program can't follow.
                Err(error @ SnapshotFileError::EngineVersion { .. }) => return Err(error),
                Err(error) => {
                    tracing::error!(%error, "snapshot can't be used; falling back to an older one or to the journal");
                    let aside = path.with_extension("damaged");
                    std::fs::rename(&path, aside).map_err(|error| failed(&path, error))?;
                }
            }
        }
        Ok(None)
    }

    /// Reads and checks a snapshot, its recomputed state hash too.
    pub fn load<M: StateMachine>(&self, path: &Path) -> Result<Loaded<M>, SnapshotFileError> {
        let bytes = std::fs::read(path).map_err(|error| failed(path, error))?;
        let CheckedSnapshot {
            info,
            state,
            membership,
        } = check_snapshot(&bytes).map_err(|error| damaged(path, error))?;
        self.check_identity(path, &info)?;
        let known = M::ENGINE_VERSION;
        if info.engine_version > known {
            return Err(SnapshotFileError::EngineVersion {
                path: path.to_owned(),
                version: info.engine_version,
                known,
            });
        }
        let state = postcard::from_bytes(state).map_err(|error| damaged(path, error))?;
        drop(bytes);
        let machine = M::restore(state, info.engine_version).map_err(|reason| damaged(path, reason))?;
        if machine.recompute_state_hash() != info.state_hash || machine.state_hash() != info.state_hash {
            return Err(damaged(path, "its state does not have the hash that its header says"));
        }
        let membership = membership.unwrap_or_else(|| self.founding());
        Ok(Loaded {
            info,
            machine,
            membership,
        })
    }

    /// Checks a snapshot's bytes without making a state of them.
    pub fn check(&self, path: &Path) -> Result<SnapshotInfo, SnapshotFileError> {
        let bytes = std::fs::read(path).map_err(|error| failed(path, error))?;
        let info = check_snapshot(&bytes).map_err(|error| damaged(path, error))?.info;
        self.check_identity(path, &info)?;
        Ok(info)
    }

    /// Reads a snapshot's header alone.
    pub fn header(&self, path: &Path) -> Result<SnapshotInfo, SnapshotFileError> {
        let mut header = [0; SNAPSHOT_HEADER_BYTES];
        let file = File::open(path).map_err(|error| failed(path, error))?;
        file.read_exact_at(&mut header, 0)
            .map_err(|_| damaged(path, SnapshotError::Length))?;
        let info = decode_snapshot_header(&header).map_err(|error| damaged(path, error))?;
        self.check_identity(path, &info)?;
        Ok(info)
    }

    fn check_identity(&self, path: &Path, info: &SnapshotInfo) -> Result<(), SnapshotFileError> {
        let own = info.cluster_id == self.identity.cluster
            && info.group == self.identity.group
            && info.incarnation == self.identity.incarnation
            && self.path_of(info.last_sequence).file_name() == path.file_name();
        if own {
            return Ok(());
        }
        Err(damaged(
            path,
            "it is of another cluster, group, incarnation or sequence",
        ))
    }

    /// Writes a snapshot: to another name, synced, renamed, and the folder synced. The bytes in `info` are filled in.
    pub fn write<S: Serialize>(
        &self,
        mut info: SnapshotInfo,
        state: &S,
        membership: &Membership,
    ) -> Result<SnapshotInfo, SnapshotFileError> {
        let path = self.path_of(info.last_sequence);
        let unfinished = path.with_extension("unfinished");
        std::fs::create_dir_all(&self.folder).map_err(|error| failed(&self.folder, error))?;
        let mut write = || -> io::Result<()> {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&unfinished)?;
            let mut out = Hashing {
                inner: BufWriter::with_capacity(1 << 20, &file),
                hasher: SnapshotHasher::default(),
                bytes: 0,
            };
            out.inner.write_all(&[0; SNAPSHOT_HEADER_BYTES])?;
            postcard::to_io(state, &mut out).map_err(io::Error::other)?;
            info.state_bytes = out.bytes;
            let membership = membership.encode();
            out.write_all(&membership)?;
            info.membership_bytes = u32::try_from(membership.len()).map_err(io::Error::other)?;
            let header = encode_snapshot_header(&info);
            out.inner.write_all(&out.hasher.finish(&header))?;
            out.inner.flush()?;
            drop(out.inner);
            file.write_all_at(&header, 0)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| failed(&path, error))?;
        Ok(info)
    }

    /// What the group begins as.
    pub fn founding(&self) -> Membership {
        Membership::of_voters([self.founder])
    }

    /// Deletes all but the newest [`SNAPSHOTS_KEPT`], and the newest that ends no later than `at_most` if that is given.
    /// Gives the headers of those that are kept, the oldest first.
    pub fn prune(&self, at_most: Option<Sequence>) -> Result<Vec<SnapshotInfo>, SnapshotFileError> {
        let paths = self.list()?;
        let (older, newest) = paths.split_at(paths.len().saturating_sub(SNAPSHOTS_KEPT));
        let behind = at_most.map(|at_most| self.path_of(at_most));
        let old_enough = |path: &&PathBuf| behind.as_ref().is_some_and(|behind| *path <= behind);
        let kept_too = match newest.first().filter(old_enough) {
            Some(_) => None,
            None => older.iter().rfind(old_enough),
        };
        for path in older.iter().filter(|path| Some(*path) != kept_too) {
            std::fs::remove_file(path).map_err(|error| failed(path, error))?;
        }
        kept_too
            .into_iter()
            .chain(newest)
            .map(|path| self.header(path))
            .collect()
    }
}

struct Hashing<W> {
    inner: W,
    hasher: SnapshotHasher,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn failed(path: &Path, error: io::Error) -> SnapshotFileError {
    let path = path.to_owned();
    SnapshotFileError::Io { path, error }
}

fn damaged(path: &Path, reason: impl ToString) -> SnapshotFileError {
    SnapshotFileError::Damaged {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
