//! `meridian demo`, and `meridian` alone: a cluster of one node on this machine, with a simulated market.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use client::Endpoint;
use wire::journal::Identity;

use super::run::runtime;
use super::{DemoArguments, demo_nodes, signals};
use crate::assembly::Node;
use crate::config::Config;
use crate::data_folder::{DataFolder, DataFolderError};
use crate::demo::{self, DemoFile};
use crate::listeners::{BusyPort, Listeners};
use crate::{logging, new_cluster, open_files};

/// Runs the command.
pub fn run(arguments: &DemoArguments) -> Result<()> {
    if arguments.nodes != "1" {
        return demo_nodes::run(arguments);
    }
    if let Some(nodes) = demo::nodes::count_in(&arguments.data)? {
        bail!(
            "the demo in {} has {nodes} nodes; start it with --nodes {nodes}, or choose another folder with --data",
            arguments.data.display()
        );
    }
    let mut config = config(&arguments.data);
    logging::start(&config.logs);
    config.gateway.connections_max = open_files::make_room(config.gateway.connections_max);
    let (folder, identity, mut file) = open(&arguments.data, &config)?;
    let runtime = runtime(&config.node)?;
    let stop = runtime.block_on(async { signals::stop_on_signals() })?;
    let node = Node::start(folder, identity, &config)?;
    demo::complete(&*node.core(), &*node.events(), node.folder(), &mut file)?;
    let listeners = Listeners::bind(&config.listen, BusyPort::MoveOn)?;
    file.public = Some(url(listeners.public.local_addr())?);
    file.admin = Some(url(listeners.admin.local_addr())?);
    file.write(node.folder())?;
    print_greeting(&arguments.data, &identity, &file, &listeners)?;
    let endpoint = Endpoint::parse(&url(listeners.public.local_addr())?)?;
    let market = runtime.spawn(demo::market::run(endpoint.into(), file, stop.clone()));
    let served = runtime.block_on(node.serve(listeners, stop));
    market.abort();
    let stopped = node.stop();
    served.context("serve")?;
    stopped.graceful()
}

/// The demo's folder and keys, made if there is none yet.
fn open(path: &Path, config: &Config) -> Result<(DataFolder, Identity, DemoFile)> {
    match DataFolder::open(path) {
        Ok((folder, identity)) => {
            if !folder.is_demo() {
                return Err(DataFolderError::IsNoDemo(path.to_owned()).into());
            }
            let file = DemoFile::read(&folder)?;
            Ok((folder, identity, file))
        }
        Err(DataFolderError::NotInitialised(_)) => {
            let (folder, identity) = new_cluster::create(path, new_cluster::random_cluster_id("demo"), config)?;
            let file = DemoFile::generate(identity.cluster);
            file.write(&folder)?;
            folder.finish(&identity)?;
            Ok((folder, identity, file))
        }
        Err(error) => Err(error.into()),
    }
}

/// What a demo runs with: the defaults, but nobody waits for a limit, and only what matters is logged.
pub(super) fn config(data: &Path) -> Config {
    let mut config = Config::default();
    config.node.data = data.to_owned();
    config.logs.level = std::env::var("MERIDIAN_LOG").unwrap_or_else(|_| "warn".to_owned());
    config.gateway.requests_per_key_burst = 1_000_000;
    config.gateway.requests_per_key_per_second = 1_000_000;
    config.gateway.requests_per_address_burst = 1_000_000;
    config.gateway.requests_per_address_per_second = 1_000_000;
    config
}

fn url(address: std::io::Result<SocketAddr>) -> std::io::Result<String> {
    address.map(|address| format!("http://{address}"))
}

fn print_greeting(data: &Path, identity: &Identity, file: &DemoFile, listeners: &Listeners) -> Result<()> {
    let program = std::env::args().next().unwrap_or_else(|| "meridian".to_owned());
    let public = url(listeners.public.local_addr())?;
    let admin = url(listeners.admin.local_addr())?;
    let operations = url(listeners.operations.local_addr())?;
    let trader = file.participant("trader").expect("the file was checked");
    println!(
        "Meridian demo, cluster {cluster}, data in {data}\n\n  \
         clients     {public}   (reference: {public}/docs)\n  \
         operators   {admin}\n  \
         operations  {operations}/metrics   {operations}/health/ready\n\n\
         You trade as account {account} with key {key}; it has USD, BTC, ETH and AAPL. In another terminal, in this folder:\n\n  \
         {program} watch BTC-USD\n  \
         {program} order place BTC-USD buy 0.1 --price 48000\n  \
         {program} order list\n  \
         {program} sign --help      (the same with curl)\n\n\
         From elsewhere, the same after:\n\n  \
         export MERIDIAN_URL={public} MERIDIAN_CLUSTER={cluster}\n  \
         export MERIDIAN_KEY={key} MERIDIAN_SECRET={secret}\n\n\
         The other keys, the operator's too, are in {file}. Ctrl-C stops the demo; the data stays.",
        cluster = identity.cluster,
        data = data.display(),
        account = trader.account,
        key = trader.key,
        secret = trader.secret,
        file = data.join("demo.toml").display(),
    );
    Ok(())
}
