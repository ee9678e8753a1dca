//! The design that people have today, as a peer: a small service with `axum` and pooled Postgres, one transaction an
//! order, tuned as a good engineer would. `TUNING.md` beside this file says what was tuned, what was tried and dropped, and
//! where the comparison favours the peer.
//!
//! ```text
//!   load ── HTTP/1.1 ──> service (axum) ── socket, pool ──> postgres ── fdatasync ──> the same disk as the node's
//!          same bodies, signatures and answers as Meridian's REST API
//! ```
//!
//! It runs as a process of its own, which has the database as its child, and both end with whoever started them.

mod audit;
mod market;
mod measure;
mod refused;
mod schema;
mod serve;
mod server;
mod service;
mod signature;
mod store;
#[cfg(test)]
mod tests;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use client::{Credentials, Secret};
use types::{AccountId, ClusterId, KeyId};
use wire::json::KeyType;

pub use audit::Audit;
pub use measure::{PeerArguments, measure, run};
pub use serve::ServeArguments;
pub use server::programs;

use schema::{Beginning, Key, Material};
use serve::{Ready, Setup};

/// Connections to the database: the best of those tried.
const CONNECTIONS: usize = 16;
/// Threads that serve: the best of those tried.
const WORKER_THREADS: usize = 2;
/// The cluster id that requests to the peer are signed for.
const CLUSTER: &str = "peer";
/// What each account gets of each asset, in smallest units: 10 million whole ones.
const DEPOSIT: i64 = 10_000_000 * 100_000_000;
/// How long its end may take, with the database's last checkpoint.
const STOP_WITHIN: Duration = Duration::from_secs(90);
/// How long to wait between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What was tuned, what was tried and dropped, and where the comparison favours the peer: a part of the report, in Markdown.
pub const TUNING: &str = include_str!("TUNING.md");

/// What the peer has before the first order, and how it runs.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// How many accounts, each with funds.
    pub accounts: u32,
    /// How many keys: one for each account, and then from the first account again.
    pub keys: u32,
    /// The instruments' names; all have the rules of `harness::Operator::new_instrument`.
    pub symbols: Vec<String>,
    /// How the accounts' requests are signed.
    pub key_type: KeyType,
    /// What each account has of each asset, in smallest units of eight decimals.
    pub deposit: i64,
    /// Connections to the database.
    pub connections: usize,
    /// Threads that serve.
    pub worker_threads: usize,
    /// Further settings of the database, `name=value`.
    pub settings: Vec<String>,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            accounts: 256,
            keys: 256,
            symbols: vec![harness::SYMBOL.to_owned()],
            key_type: KeyType::HmacSha256,
            deposit: DEPOSIT,
            connections: CONNECTIONS,
            worker_threads: WORKER_THREADS,
            settings: Vec::new(),
        }
    }
}

/// An account of the peer and the key that trades for it.
#[derive(Clone, Debug)]
pub struct PeerTrader {
    /// Its number.
    pub account: AccountId,
    /// The key.
    pub credentials: Credentials,
}

/// The running peer. It and its database end when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    ready: Ready,
    traders: Vec<PeerTrader>,
    /// Kept open: the service would fail to print after its end.
    _output: BufReader<ChildStdout>,
}

impl Peer {
    /// Makes a database in `folder`, which is not there yet, starts it and the service, and waits until it takes requests.
    /// `meridian` is the program.
    ///
    /// # Errors
    /// If there is no Postgres on the machine, with the command that installs it; and whatever kept it from starting.
    pub fn start(meridian: &Path, folder: &Path, settings: &PeerSettings) -> Result<Self> {
        server::programs()?;
        let (traders, keys) = traders(settings);
        let setup = Setup {
            cluster: CLUSTER.to_owned(),
            beginning: Beginning {
                symbols: settings.symbols.clone(),
                keys,
                deposit: settings.deposit,
            },
        };
        let path = folder.with_extension("setup.json");
        serve::write_setup(&path, &setup).with_context(|| format!("failed to write {}", path.display()))?;
        let mut command = Command::new(meridian);
        command
            .args(["bench", "peer-serve", "--setup"])
            .arg(&path)
            .arg("--folder")
            .arg(folder);
        command.arg(format!("--connections={}", settings.connections));
        command.arg(format!("--worker-threads={}", settings.worker_threads));
        command.args(settings.settings.iter().map(|setting| format!("--set={setting}")));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start the peer")?;
        let mut output = BufReader::new(child.stdout.take().context("the peer has no output")?);
        let mut line = String::new();
        let said = output.read_line(&mut line);
        let removed = std::fs::remove_file(&path);
        if said? == 0 {
            let status = child.wait()?;
            anyhow::bail!("the peer ended with {status} before it was ready");
        }
        removed?;
        let ready = serde_json::from_str(&line).with_context(|| format!("the peer said {line:?}"));
        let ready = ready.inspect_err(|_| {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        })?;
        Ok(Self {
            child,
            ready,
            traders,
            _output: output,
        })
    }

    /// Where it takes requests.
    pub fn address(&self) -> SocketAddr {
        self.ready.address
    }

    /// The cluster id that is part of every signature.
    pub fn cluster(&self) -> ClusterId {
        CLUSTER.parse().expect("it is a cluster id")
    }

    /// The accounts and their keys.
    pub fn traders(&self) -> &[PeerTrader] {
        &self.traders
    }

    /// The service's process, whose child the database is.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Checks what the peer promised: that each of these orders, whose placing was acknowledged, is in the table exactly
    /// once, that each open order holds what it must, and that no money came or went.
    ///
    /// # Errors
    /// What the database says.
    pub async fn audit<'a>(&self, acknowledged: impl IntoIterator<Item = (AccountId, &'a str)>) -> Result<Audit> {
        audit::run(&self.ready.socket, acknowledged).await
    }

    /// Stops the service and its database in good order.
    ///
    /// # Errors
    /// If they did not end in good order, or in time; then the service was killed.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let until = Instant::now() + STOP_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the peer ended with {status}");
                return Ok(());
            }
            if Instant::now() > until {
                self.child.kill()?;
                self.child.wait()?;
                anyhow::bail!("the peer did not end within {} s and was killed", STOP_WITHIN.as_secs());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `stop`.
        let _ = self.end();
    }
}

/// Serves the peer; see [`serve`].
///
/// # Errors
/// What kept it from serving.
pub fn serve(arguments: &ServeArguments) -> Result<()> {
    serve::run(arguments)
}

/// The keys and their accounts, for those who sign and for those who verify.
fn traders(settings: &PeerSettings) -> (Vec<PeerTrader>, Vec<Key>) {
    let pair = |number: u32| {
        let secret = match settings.key_type {
            KeyType::HmacSha256 => Secret::generate_hmac(),
            KeyType::Ed25519 => Secret::generate_ed25519(),
        };
        let material = match &secret {
            Secret::HmacSha256(secret) => Material::Hmac(secret.clone()),
            Secret::Ed25519(_) => Material::Ed25519(secret.public_key().unwrap_or_default().to_vec()),
        };
        let account = AccountId(1 + number % settings.accounts.max(1));
        let key = KeyId(1 + number);
        let trader = PeerTrader {
            account,
            credentials: Credentials { key, secret },
        };
        (trader, Key { key, account, material })
    };
    (0..settings.keys).map(pair).unzip()
}
