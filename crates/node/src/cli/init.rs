//! `meridian init`: the data folder of a new cluster, and its first admin key; or that of a further node.

use std::path::Path;

use anyhow::{Context as _, Result};
use client::Secret;
use types::ClusterId;
use wire::journal::NodeId;
use wire::membership::FOUNDER;

use super::InitArguments;
use crate::assembly::Node;
use crate::config::Config;
use crate::logging;
use crate::new_cluster;

/// Runs the command.
pub fn run(arguments: &InitArguments) -> Result<()> {
    let mut config = Config::default();
    config.logs.level = "warn".to_owned();
    logging::start(&config.logs);
    let cluster_id = match &arguments.cluster_id {
        Some(id) => id.parse().with_context(|| format!("take {id:?} as the cluster's id"))?,
        None => new_cluster::random_cluster_id("meridian"),
    };
    if let (Some(node), Some(sealing_key)) = (arguments.node, &arguments.sealing_key) {
        let node = NodeId(node);
        let founder = if arguments.first_of_region { node } else { FOUNDER };
        let sealing = std::fs::read(sealing_key).with_context(|| format!("read {}", sealing_key.display()))?;
        let snapshot = arguments.snapshot.as_deref();
        new_cluster::create_further(&arguments.data, cluster_id, node, founder, snapshot, &sealing, &config)?;
        tell_of_further_node(&arguments.data, cluster_id, node, founder);
        return Ok(());
    }
    let (folder, identity) = new_cluster::create(&arguments.data, cluster_id, &config)?;
    let secret = Secret::generate_ed25519();
    let node = Node::start(folder, identity, &config)?;
    let key = new_cluster::first_admin_key(&node, &secret);
    let stopped = node.stop();
    let key = key?;
    // First told, then finished: a folder that counts as ready is one whose secret was seen.
    println!(
        "Cluster {cluster_id} is ready in {path}.\n\n\
         Its first admin key. The secret is shown this once and stored nowhere:\n\n    \
         key     {key}\n    \
         secret  {secret}\n\n\
         Next: meridian config print-default > meridian.toml, set node.data to {path:?},\n\
         then meridian run --config meridian.toml",
        path = arguments.data.display(),
        secret = secret.reveal(),
    );
    stopped.folder.finish(&identity)?;
    Ok(())
}

/// Says what comes next for a node that is to join a cluster.
fn tell_of_further_node(data: &Path, cluster: ClusterId, node: NodeId, founder: NodeId) {
    if founder == node {
        println!(
            "Node {node}, the first of a further region of cluster {cluster}, is ready in {path}.\n\n\
             Next: give it a certificate (meridian cluster issue --node {node} --region REGION), fill in [sites] of its\n\
             configuration, meridian run --config meridian.toml. It follows the active region by itself.",
            path = data.display(),
        );
        return;
    }
    println!(
        "Node {node} of cluster {cluster} is ready in {path}.\n\n\
         Next: give it a certificate (meridian cluster issue --node {node}), name all of the others in [peers] of its\n\
         configuration, meridian run --config meridian.toml, then let it in from another node:\n\n    \
         meridian cluster add --node {node} --address HOST:PORT",
        path = data.display(),
    );
}
