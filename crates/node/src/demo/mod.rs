//! The demo: a cluster of one node, or of several on this machine, with a few instruments, accounts and keys, all in one folder.

pub mod market;
pub mod nodes;
pub mod processes;
mod setup;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use client::{Credentials, Secret};
use serde::{Deserialize, Serialize};
use types::{AccountId, ClusterId};

use crate::data_folder::{DataFolder, DataFolderError};

pub use setup::{INSTRUMENTS, complete};

/// The file in the data folder that holds the demo's keys.
const FILE: &str = "demo.toml";
/// The demo's participants, each with an account and a key of its own. `trader` is for the one who looks at the demo.
pub const PARTICIPANTS: [&str; 6] = ["trader", "maker-1", "maker-2", "maker-3", "taker-1", "taker-2"];

/// The demo's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoFile {
    /// The cluster's id.
    pub cluster_id: String,
    /// True once all of them exist in the exchange.
    pub complete: bool,
    /// Where it listened for clients when it last ran, as a URL; several nodes' with commas between them.
    #[serde(default)]
    pub public: Option<String>,
    /// Where it listened for operators when it last ran, likewise.
    #[serde(default)]
    pub admin: Option<String>,
    /// The operator's key first, then one for each participant.
    pub keys: Vec<DemoKey>,
}

/// A key of the demo.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoKey {
    /// Whose: `admin` or one of [`PARTICIPANTS`].
    pub name: String,
    /// The account.
    pub account: u32,
    /// The key, as in the `Meridian-Key` header.
    pub key: u32,
    /// What signs.
    pub secret: String,
}

impl std::fmt::Debug for DemoKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DemoKey({}, account {}, key {})", self.name, self.account, self.key)
    }
}

impl DemoFile {
    /// New random keys, which the exchange does not know yet.
    pub fn generate(cluster_id: ClusterId) -> Self {
        let names = std::iter::once("admin").chain(PARTICIPANTS);
        let keys = names.map(|name| DemoKey {
            name: name.to_owned(),
            account: 0,
            key: 0,
            secret: Secret::generate_ed25519().reveal(),
        });
        Self {
            cluster_id: cluster_id.to_string(),
            complete: false,
            public: None,
            admin: None,
            keys: keys.collect(),
        }
    }

    /// Reads the keys of a demo's folder.
    pub fn read(folder: &DataFolder) -> Result<Self, DataFolderError> {
        let damaged = |reason: String| DataFolderError::Damaged {
            path: folder.file(FILE),
            reason,
        };
        let text = folder.read(FILE)?.unwrap_or_default();
        let file: Self = toml::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let whole =
            file.keys.len() == 1 + PARTICIPANTS.len() && file.keys.iter().all(|key| key.credentials().is_some());
        if !whole {
            return Err(damaged("its keys are not those of a demo".to_owned()));
        }
        Ok(file)
    }

    /// Reads the keys of a demo's folder while a node may be using it; none if there is no such folder.
    pub fn peek(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .with_context(|| format!("understand {}", path.display()))
                .map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Writes the keys for their owner alone.
    pub fn write(&self, folder: &DataFolder) -> Result<(), DataFolderError> {
        let mut text = format!(
            "# The keys of this folder's demo. They are random and worth nothing elsewhere.\n\
             cluster_id = \"{}\"\ncomplete = {}\n",
            self.cluster_id, self.complete
        );
        for (name, url) in [("public", &self.public), ("admin", &self.admin)] {
            if let Some(url) = url {
                text += &format!("{name} = \"{url}\"\n");
            }
        }
        for key in &self.keys {
            let DemoKey {
                name,
                account,
                key,
                secret,
            } = key;
            text +=
                &format!("\n[[keys]]\nname = \"{name}\"\naccount = {account}\nkey = {key}\nsecret = \"{secret}\"\n");
        }
        folder.write(FILE, text.as_bytes(), 0o600)
    }

    /// The operator's key.
    pub fn admin(&self) -> &DemoKey {
        &self.keys[0]
    }

    /// A participant's key.
    pub fn participant(&self, name: &str) -> Option<&DemoKey> {
        self.keys[1..].iter().find(|key| key.name == name)
    }
}

impl DemoKey {
    /// The key and its secret; none if the secret is not one.
    pub fn credentials(&self) -> Option<Credentials> {
        Credentials::parse(&self.key.to_string(), &self.secret).ok()
    }

    /// The account.
    pub fn account_id(&self) -> AccountId {
        AccountId(self.account)
    }
}
