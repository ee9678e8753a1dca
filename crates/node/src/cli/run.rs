//! `meridian run`: a node by its configuration.

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Runtime;

use super::{RunArguments, signals};
use crate::assembly::Node;
use crate::config::{Config, NodeConfig, NodeRole};
use crate::data_folder::{DataFolder, DataFolderError};
use crate::listeners::{BusyPort, Listeners};
use crate::{group, logging, new_cluster, open_files, processors, rejoin};

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
    let runtime = runtime(&config.node)?;
    let stop = runtime.block_on(async { signals::stop_on_signals() })?;
    if arguments.until_input_ends {
        signals::stop_when_input_ends().context("watch standard input")?;
    }
    if config.node.role == NodeRole::Gateway {
        ensure!(
            identity.node != folder.founder(),
            "run a gateway in {}: its node founded the cluster, and what it has is not to be thrown away",
            config.node.data.display()
        );
        // A node's certificate is refused here, before anything of it is thrown away.
        group::check_certificate(&config.peers, config.node.role.into(), identity)?;
        new_cluster::forget(&folder, identity, &config)?;
    }
    let mut folder = folder;
    let mut identity = rejoin::go_on(&folder, identity, &config)?;
    loop {
        let node = Node::start(folder, identity, &config)?;
        let listeners = Listeners::bind(&config.listen, BusyPort::Refuse)?;
        tracing::info!(
            cluster = %identity.cluster,
            node = identity.node.0,
            public = %listeners.public.local_addr()?,
            admin = %listeners.admin.local_addr()?,
            operations = %listeners.operations.local_addr()?,
            sequence = node.core().status().last_applied.0,
            "serving"
        );
        let served = runtime.block_on(node.serve(listeners, stop.clone()));
        let stopped = node.stop();
        served.context("serve")?;
        if !stopped.begins_anew() || *stop.borrow() {
            return stopped.graceful();
        }
        (folder, identity) = stopped.begin_anew(identity, &config)?;
    }
}

/// The threads that serve connections. The core and the operations port have their own.
pub(super) fn runtime(config: &NodeConfig) -> Result<Runtime> {
    let worker_processors = config.worker_processors.clone();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads())
        .thread_name("serve")
        .on_thread_start(move || processors::pin_to(&worker_processors))
        .enable_all()
        .build()
        .context("start the threads that serve connections")
}
