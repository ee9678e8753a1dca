//! A new cluster: its folder, its sealing key and its journal. Everything but `cluster.toml`, which makes it one.

use std::path::Path;

use client::Secret;
use gateway::sealing::{SEALING_KEY_BYTES, SealingKey};
use secrecy::ExposeSecret as _;
use types::{AccountId, Action, ClusterId, Event, GroupId, Incarnation, KeyId, KeyMaterial, NewKey, Scopes};
use wire::journal::{Identity, NodeId};
use wire::membership::FOUNDER;

use crate::assembly::{Node, SEALING_KEY, StartError};
use crate::config::Config;
use crate::data_folder::{DataFolder, DataFolderError};
use crate::execute::{ExecuteError, execute};
use crate::journal::{self, JournalError};
use crate::recovery::journal_settings;
use crate::rejoin;
use crate::sites::store::{self, LEASE, StoreError};

/// The request that makes the first admin key.
pub const FIRST_KEY_REQUEST: &str = "init";

/// Why a new cluster could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NewClusterError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    /// The sealing key.
    #[error(transparent)]
    Sealing(#[from] gateway::sealing::SealingError),
    /// It is none.
    #[error(
        "make a further node: the sealing key has {0} bytes, not {SEALING_KEY_BYTES}; copy the file of another node"
    )]
    SealingKeyLength(usize),
    /// The folder of its voter.
    #[error(transparent)]
    Lease(#[from] StoreError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The node.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The first key.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// A name for a cluster that nobody named.
pub fn random_cluster_id(prefix: &str) -> ClusterId {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    let name = format!("{prefix}-{:08x}", u32::from_le_bytes(bytes));
    name.parse().expect("it is a short name of letters and digits")
}

/// Makes the folder of a new cluster, which is none until [`DataFolder::finish`].
pub fn create(path: &Path, cluster: ClusterId, config: &Config) -> Result<(DataFolder, Identity), NewClusterError> {
    create_node(path, cluster, FOUNDER, SealingKey::generate()?.expose_secret(), config)
}

/// Makes the folder of a further node of a cluster, with the sealing key of the others. It holds nothing until the cluster
/// takes the node in.
pub fn create_further(
    path: &Path,
    cluster: ClusterId,
    node: NodeId,
    founder: NodeId,
    snapshot: Option<&Path>,
    sealing_key: &[u8],
    config: &Config,
) -> Result<(), NewClusterError> {
    if sealing_key.len() != SEALING_KEY_BYTES {
        return Err(NewClusterError::SealingKeyLength(sealing_key.len()));
    }
    let (folder, identity) = create_node(path, cluster, node, sealing_key, config)?;
    if let Some(snapshot) = snapshot {
        rejoin::seed(&folder, identity, snapshot, config)?;
    }
    folder.finish_founded(&identity, founder)?;
    Ok(())
}

/// Takes away all that a gateway had of the log: it begins with nothing, and is sent what it needs.
pub fn forget(folder: &DataFolder, identity: Identity, config: &Config) -> Result<(), NewClusterError> {
    for path in [folder.journal(), folder.snapshots(), folder.events()] {
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DataFolderError::Io { path, error }.into());
            }
            _ => {}
        }
    }
    journal::create(&journal_settings(folder, identity, config))?;
    Ok(())
}

fn create_node(
    path: &Path,
    cluster: ClusterId,
    node: NodeId,
    sealing_key: &[u8],
    config: &Config,
) -> Result<(DataFolder, Identity), NewClusterError> {
    let folder = DataFolder::create(path)?;
    let identity = Identity {
        cluster,
        group: GroupId(0),
        incarnation: Incarnation(1),
        node,
    };
    folder.write(SEALING_KEY, sealing_key, 0o600)?;
    // Should it come to vote on the lease: it never has.
    store::found(&folder.file(LEASE))?;
    journal::create(&journal_settings(&folder, identity, config))?;
    Ok((folder, identity))
}

/// Has the cluster's first admin key sequenced, by a node that answers nobody yet.
pub fn first_admin_key(node: &Node, secret: &Secret) -> Result<KeyId, NewClusterError> {
    let action = Action::CreateKey(NewKey {
        account: AccountId::OPERATOR,
        scopes: Scopes::ADMIN.with(Scopes::READ),
        material: KeyMaterial::Ed25519(secret.public_key().expect("it is an Ed25519 key")),
    });
    let event = execute(&*node.core(), &*node.events(), KeyId::SYSTEM, FIRST_KEY_REQUEST, action)?;
    let Event::KeyChanged(key) = event else {
        unreachable!("a key that was made is told of");
    };
    Ok(key.id)
}
