//! A node's data folder: whose it is, and that only one process uses it.
//!
//! ```text
//!  LOCK           held for as long as a process uses the folder
//!  cluster.toml   whose folder it is; written last, so that half an `init` is no folder
//!  sealing.key    seals the secrets of HMAC keys; mode 0600
//!  demo.toml      the demo's keys; only in a demo's folder; mode 0600
//!  journal/       the only thing that nothing else can replace
//!  snapshots/     made from the journal
//!  events/        made from the journal
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use types::{ClusterId, GroupId, Incarnation};
use wire::journal::{Identity, NodeId};
use wire::membership::FOUNDER;

/// The layout of a data folder.
const FORMAT: u32 = 1;
/// The file that is locked while a process uses the folder.
const LOCK: &str = "LOCK";

/// The file that is locked while a demo of several nodes uses the folder that holds those of its nodes.
const LOCK_OF_NODES: &str = "LOCK.nodes";

/// A data folder that this process alone uses.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Unlocked when it is closed, by the kernel if need be.
    _lock: File,
}

/// Why a data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    /// The disk said no.
    #[error("open the data folder: {}: {error}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the disk said.
        error: io::Error,
    },
    /// Another process uses it.
    #[error("open the data folder {}: another process uses it", .0.display())]
    InUse(PathBuf),
    /// It was not made by `init`.
    #[error("open the data folder {}: it is not one yet; make it with `meridian init`", .0.display())]
    NotInitialised(PathBuf),
    /// `init` was asked to make it, but there is something in it.
    #[error("make the data folder {}: there is something in it already; nothing was changed", .0.display())]
    NotEmpty(PathBuf),
    /// The making of it was cut off.
    #[error(
        "use the data folder {}: it was locked once, but has no cluster.toml. If its making was cut off, so that nobody was \
         shown a key of it, remove it and make it again; if it was in use, restore cluster.toml from a copy",
        .0.display()
    )]
    HalfMade(PathBuf),
    /// It belongs to a demo.
    #[error(
        "open the data folder {}: it belongs to a demo, whose keys lie about in it; make another one with `meridian init`",
        .0.display()
    )]
    IsDemo(PathBuf),
    /// It does not belong to a demo.
    #[error(
        "run the demo in the data folder {}: it belongs to a cluster that is no demo; choose another one with --data",
        .0.display()
    )]
    IsNoDemo(PathBuf),
    /// A file in it is not what it should be.
    #[error("open the data folder: {}: {reason}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of another cluster than the configuration says.
    #[error("open the data folder: it belongs to cluster {found}, but the configuration says {expected}")]
    OtherCluster {
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterFile {
    format: u32,
    cluster_id: String,
    group: u16,
    incarnation: u32,
    node: u64,
    /// The node that the group begins with; left out: node 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    founder: Option<u64>,
}

/// The node that the group of the data folder at `path` begins with.
pub fn founder_of(path: &Path) -> NodeId {
    let text = std::fs::read_to_string(path.join("cluster.toml")).unwrap_or_default();
    let file = toml::from_str::<ClusterFile>(&text);
    file.map_or(FOUNDER, |file| file.founder.map_or(FOUNDER, NodeId))
}

impl DataFolder {
    /// Opens a folder that `init` or a demo made, and locks it.
    pub fn open(path: &Path) -> Result<(Self, Identity), DataFolderError> {
        if !path.join("cluster.toml").is_file() {
            if path.join(LOCK).exists() {
                return Err(DataFolderError::HalfMade(path.to_owned()));
            }
            return Err(DataFolderError::NotInitialised(path.to_owned()));
        }
        let folder = Self::lock(path, LOCK)?;
        let identity = folder.read_identity()?;
        Ok((folder, identity))
    }

    /// Makes and locks a new folder; it counts as one only after [`Self::finish`].
    pub fn create(path: &Path) -> Result<Self, DataFolderError> {
        let failed = |error| DataFolderError::Io {
            path: path.to_owned(),
            error,
        };
        // For its owner alone: what is in it tells of every account.
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).map_err(failed)?;
        if std::fs::read_dir(path).map_err(failed)?.next().is_some() {
            if path.join(LOCK).exists() && !path.join("cluster.toml").exists() {
                return Err(DataFolderError::HalfMade(path.to_owned()));
            }
            return Err(DataFolderError::NotEmpty(path.to_owned()));
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent).map_err(failed)?;
        }
        Self::lock(path, LOCK)
    }

    /// Locks a folder that is no node's, but holds those of several; it is made if it isn't there.
    pub fn of_nodes(path: &Path) -> Result<Self, DataFolderError> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(path);
        made.map_err(|error| DataFolderError::Io {
            path: path.to_owned(),
            error,
        })?;
        Self::lock(path, LOCK_OF_NODES)
    }

    fn lock(path: &Path, name: &str) -> Result<Self, DataFolderError> {
        let lock_path = path.join(name);
        let failed = |error| DataFolderError::Io {
            path: lock_path.clone(),
            error,
        };
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataFolderError::InUse(path.to_owned())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Makes it a data folder of this cluster, whose group begins with node 1.
    pub fn finish(&self, identity: &Identity) -> Result<(), DataFolderError> {
        self.finish_founded(identity, FOUNDER)
    }

    /// Makes it a data folder of this cluster, in this life of its group, which begins with `founder`.
    pub fn finish_founded(&self, identity: &Identity, founder: NodeId) -> Result<(), DataFolderError> {
        let file = ClusterFile {
            format: FORMAT,
            cluster_id: identity.cluster.to_string(),
            group: identity.group.0,
            incarnation: identity.incarnation.0,
            node: identity.node.0,
            founder: (founder != FOUNDER).then_some(founder.0),
        };
        let mut text = format!(
            "# Written by `meridian init`. Never change it: the journal is refused if it does not agree.\n\
             format = {}\ncluster_id = \"{}\"\ngroup = {}\nincarnation = {}\nnode = {}\n",
            file.format, file.cluster_id, file.group, file.incarnation, file.node
        );
        if let Some(founder) = file.founder {
            text.push_str(&format!("founder = {founder}\n"));
        }
        self.write("cluster.toml", text.as_bytes(), 0o644)
    }

    /// The node that the group begins with.
    pub fn founder(&self) -> NodeId {
        founder_of(&self.path)
    }

    /// Who the folder says that it belongs to.
    pub fn read_identity(&self) -> Result<Identity, DataFolderError> {
        let path = self.file("cluster.toml");
        let damaged = |reason: String| DataFolderError::Damaged {
            path: path.clone(),
            reason,
        };
        let file = self.read_cluster()?;
        if file.format != FORMAT {
            return Err(damaged(format!(
                "its format is {}, this program reads {FORMAT}",
                file.format
            )));
        }
        let cluster_id = file.cluster_id.parse();
        Ok(Identity {
            cluster: cluster_id.map_err(|error| damaged(format!("cluster_id: {error}")))?,
            group: GroupId(file.group),
            incarnation: Incarnation(file.incarnation),
            node: NodeId(file.node),
        })
    }

    fn read_cluster(&self) -> Result<ClusterFile, DataFolderError> {
        let text = self.read("cluster.toml")?.unwrap_or_default();
        toml::from_str(&text).map_err(|error| DataFolderError::Damaged {
            path: self.file("cluster.toml"),
            reason: error.to_string(),
        })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if it belongs to a demo.
    pub fn is_demo(&self) -> bool {
        self.file("demo.toml").exists()
    }

    /// The journal's folder.
    pub fn journal(&self) -> PathBuf {
        self.file("journal")
    }

    /// The snapshots' folder.
    pub fn snapshots(&self) -> PathBuf {
        self.file("snapshots")
    }

    /// The event log's folder.
    pub fn events(&self) -> PathBuf {
        self.file("events")
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file's text, if there is one.
    pub fn read(&self, name: &str) -> Result<Option<String>, DataFolderError> {
        let path = self.file(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DataFolderError::Io { path, error }),
        }
    }

    /// Writes a whole file, so that it is durable and never half there.
    pub fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), DataFolderError> {
        let path = self.file(name);
        let unfinished = self.file(&format!("{name}.unfinished"));
        let write = || -> io::Result<()> {
            let _ = std::fs::remove_file(&unfinished);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            sync_folder(&self.path)
        };
        write().map_err(|error| DataFolderError::Io {
            path: path.clone(),
            error,
        })
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster: "test-1".parse().unwrap(),
            group: GroupId(0),
            incarnation: Incarnation(1),
            node: NodeId(1),
        }
    }

    #[test]
    fn it_is_made_once_and_used_by_one() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        assert!(matches!(
            DataFolder::open(&path),
            Err(DataFolderError::NotInitialised(_))
        ));
        let folder = DataFolder::create(&path).unwrap();
        assert!(matches!(DataFolder::open(&path), Err(DataFolderError::HalfMade(_))));
        assert!(matches!(DataFolder::create(&path), Err(DataFolderError::HalfMade(_))));
        folder.finish(&identity()).unwrap();
        assert!(matches!(DataFolder::open(&path), Err(DataFolderError::InUse(_))));
        drop(folder);
        let (folder, read) = DataFolder::open(&path).unwrap();
        assert_eq!((read, folder.is_demo()), (identity(), false));
        drop(folder);
        assert!(matches!(DataFolder::create(&path), Err(DataFolderError::NotEmpty(_))));
    }

    #[test]
    fn the_folder_and_its_secrets_are_for_their_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::create(&parent.path().join("data")).unwrap();
        folder.write("demo.toml", b"x", 0o600).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.file("demo.toml")), 0o600);
        assert_eq!(mode(folder.path()), 0o700);
        assert!(folder.is_demo());
    }

    #[test]
    fn a_damaged_description_is_refused_by_name() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let folder = DataFolder::create(&path).unwrap();
        folder.finish(&identity()).unwrap();
        let good = folder.read("cluster.toml").unwrap().unwrap();
        drop(folder);
        for (text, said) in [
            ("", "missing field"),
            (&good.replace("format = 1", "format = 2"), "its format is 2"),
            (&good.replace("test-1", "Test 1"), "cluster_id"),
            (&good.replace("node", "nodes"), "unknown field"),
        ] {
            std::fs::write(path.join("cluster.toml"), text).unwrap();
            let message = DataFolder::open(&path).unwrap_err().to_string();
            assert!(message.contains(said) && message.contains("cluster.toml"), "{message}");
        }
    }
}
