//! `meridian bench peer-serve`: the peer as a process of its own, with its database as a child of it. It ends when its
//! standard input does, so it never outlives whoever measures it.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::serve::ListenerExt as _;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use types::ClusterId;

use super::schema::{self, Beginning};
use super::server::Server;
use super::service::Service;

/// How long requests under way may take to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Arguments of `peer-serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArguments {
    /// What there is before the first order: a file that this program wrote.
    #[arg(long)]
    pub(super) setup: PathBuf,
    /// A folder that is not there yet, for the database.
    #[arg(long)]
    pub(super) folder: PathBuf,
    /// Connections to the database.
    #[arg(long, default_value_t = super::CONNECTIONS)]
    pub(super) connections: usize,
    /// Threads that serve.
    #[arg(long, default_value_t = super::WORKER_THREADS)]
    pub(super) worker_threads: usize,
    /// A further setting of the database, such as `commit_delay=50`.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(super) settings: Vec<String>,
}

/// What the file of `--setup` says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    /// The cluster id that requests are signed for.
    pub cluster: String,
    /// What there is before the first order.
    pub beginning: Beginning,
}

/// What the process says in its first line, once it takes requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    /// Where it takes requests.
    pub address: SocketAddr,
    /// The folder of the database's socket.
    pub socket: PathBuf,
}

/// Makes the database, starts both, serves until it is told to end, and stops both in good order.
pub(super) fn run(arguments: &ServeArguments) -> Result<()> {
    let text =
        std::fs::read(&arguments.setup).with_context(|| format!("failed to read {}", arguments.setup.display()))?;
    let setup: Setup = serde_json::from_slice(&text).context("failed to understand the setup")?;
    make_room_for_connections()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(arguments.worker_threads.max(1))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut server = Server::create(&arguments.folder, arguments.connections, &arguments.settings)?;
        server.start().await?;
        schema::create(server.socket(), &setup.beginning).await?;
        let cluster: ClusterId = setup.cluster.parse()?;
        let served = serve(&server, cluster, arguments.connections).await;
        server.stop()?;
        served
    })
}

async fn serve(server: &Server, cluster: ClusterId, connections: usize) -> Result<()> {
    let service = Service::open(server.socket(), cluster, connections).await?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let ready = Ready {
        address: listener.local_addr()?,
        socket: server.socket().to_owned(),
    };
    println!("{}", serde_json::to_string(&ready)?);
    std::io::stdout().flush()?;
    let listener = listener.tap_io(|stream| {
        // Answers are small and wanted at once; a connection that broke already shows when it is read.
        let _ = stream.set_nodelay(true);
    });
    let (drain, draining) = oneshot::channel::<()>();
    let serving = axum::serve(listener, service.router()).with_graceful_shutdown(async {
        // The sender's end means the same.
        let _ = draining.await;
    });
    let serving = tokio::spawn(serving.into_future());
    told_to_end().await?;
    drop(drain);
    match tokio::time::timeout(DRAIN_WITHIN, serving).await {
        Ok(served) => Ok(served??),
        // A client that keeps its connection busy is cut off.
        Err(_) => Ok(()),
    }
}

/// Waits for the end of standard input, or a signal to end.
async fn told_to_end() -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let (ended, input) = oneshot::channel::<()>();
    // Not awaited by anybody: the program may end while it still reads.
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while matches!(std::io::stdin().read(&mut bytes), Ok(count) if count > 0) {}
        drop(ended);
    });
    tokio::select! {
        _ = input => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}

/// As many open files as the system lets this program have: each session is one.
fn make_room_for_connections() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, most).context("failed to raise the limit of open files")
}

/// Writes the setup where only its owner can read it: it holds the keys' secrets.
pub(super) fn write_setup(path: &Path, setup: &Setup) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(setup)?)?;
    Ok(())
}
