//! `meridian run`: a node by its configuration.

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;

use super::{RunArguments, signals};
use crate::assembly::Node;
use crate::config::Config;
use crate::data_folder::{DataFolder, DataFolderError};
use crate::listeners::{BusyPort, Listeners};
use crate::{logging, open_files};

/// Runs the command.
pub fn run(arguments: &RunArguments) -> Result<()> {
    let mut config = Config::read(&arguments.config)?;
    logging::start(&config.logs);
    config.gateway.connections_max = open_files::make_room(config.gateway.connections_max);
    let (folder, identity) = DataFolder::open(&config.node.data)?;
    if folder.is_demo() {
        return Err(DataFolderError::IsDemo(config.node.data).into());
    }
    if let Some(expected) = config.cluster_id()
        && expected != identity.cluster
    {
        let found = identity.cluster;
        return Err(DataFolderError::OtherCluster { found, expected }.into());
    }
    let runtime = runtime(config.node.worker_threads)?;
    let stop = runtime.block_on(async { signals::stop_on_signals() })?;
    let node = Node::start(folder, identity, &config)?;
    let listeners = Listeners::bind(&config.listen, BusyPort::Refuse)?;
    tracing::info!(
        cluster = %identity.cluster,
        public = %listeners.public.local_addr()?,
        admin = %listeners.admin.local_addr()?,
        operations = %listeners.operations.local_addr()?,
        sequence = node.core().status().last_applied.0,
        "serving"
    );
    let served = runtime.block_on(node.serve(listeners, stop));
    let stopped = node.stop();
    served.context("serve")?;
    stopped.graceful()
}

/// The threads that serve connections. The core has one of its own.
pub(super) fn runtime(worker_threads: usize) -> Result<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match worker_threads {
        0 => processors.saturating_sub(1).max(1),
        threads => threads,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("serve")
        .enable_all()
        .build()
        .context("start the threads that serve connections")
}
