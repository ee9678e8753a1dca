//! `meridian witness`: the third site's part in who is active. It votes on the lease, keeps that in one small file, and needs
//! next to nothing.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, bail, ensure};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::Args;
use metrics::{Gauge, gauge};
use serde_json::{Value, json};
use wire::journal::NodeId;
use wire::peer::{RaftMessage, Role};
use wire::site::{LeaseView, SiteMessage};

use super::signals;
use crate::config::Config;
use crate::listeners::{BusyPort, bind};
use crate::sites::voter::{SiteSender, Voter, VoterConfig, VoterStatus};
use crate::sites::{SiteInbox, SiteLinks, SiteLinksConfig, lease_identity, store};
use crate::threads::Threads;
use crate::{logging, operations};

/// Arguments of `witness`.
#[derive(Debug, Args)]
pub struct WitnessArguments {
    /// The configuration file: [cluster] id, [node] data, [peers] with its certificate of role witness, [listen]
    /// operations, and [sites] without a region.
    #[arg(long)]
    config: std::path::PathBuf,
    /// This witness has never run before, anywhere: it may vote at once. Without this, one whose folder is empty votes only
    /// once it has what both regions' voters have.
    #[arg(long)]
    new: bool,
}

/// Hands on what concerns the voter; there is nothing else here that other sites could speak to.
#[derive(Default)]
struct Inbox(OnceLock<Arc<Voter>>);

impl SiteInbox for Inbox {
    fn message(&self, from: NodeId, message: SiteMessage) {
        if let Some(voter) = self.0.get() {
            voter.message(from, message);
        }
    }

    fn raft(&self, from: NodeId, message: RaftMessage) {
        if let Some(voter) = self.0.get() {
            voter.raft(from, message);
        }
    }

    fn link(&self, peer: NodeId, is_up: bool) {
        if let Some(voter) = self.0.get() {
            voter.link(peer, is_up);
        }
    }
}

/// Runs the command.
pub fn run(arguments: &WitnessArguments) -> Result<()> {
    let config = Config::read(&arguments.config)?;
    logging::start(&config.logs);
    let threads = Arc::new(Threads::default());
    let (links_config, voter_config) = parts(&arguments.config, &config, &threads)?;
    if arguments.new {
        store::found(&voter_config.folder)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the thread that serves the operations port")?;
    let stop = runtime.block_on(async { signals::stop_on_signals() })?;
    // The first call installs them, before anything is counted.
    operations::metrics();
    let port = bind("health and metrics", config.listen.operations, BusyPort::Refuse)?;
    let inbox = Arc::new(Inbox::default());
    let links = SiteLinks::start(links_config, Arc::clone(&inbox) as Arc<dyn SiteInbox>)?;
    let sender: std::sync::Weak<SiteLinks> = Arc::downgrade(&links);
    let voter = Voter::start(voter_config, sender as std::sync::Weak<dyn SiteSender>);
    let voter = match voter {
        Ok(voter) => voter,
        Err(error) => {
            links.stop();
            return Err(error.into());
        }
    };
    // Nobody else sets it.
    let _ = inbox.0.set(Arc::clone(&voter));
    tracing::info!(
        sites = %config.sites.listen,
        operations = %port.local_addr()?,
        "the witness votes"
    );
    let served = runtime.block_on(async {
        let port = tokio::net::TcpListener::from_std(port)?;
        let mut stop = stop;
        let router = router(Operations {
            voter: Arc::clone(&voter),
            threads,
            figures: Arc::new(Figures::new()),
        });
        let serving = axum::serve(port, router);
        tokio::select! {
            served = serving => served,
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        }
    });
    voter.stop();
    links.stop();
    served.context("serve the operations port")?;
    match voter.status().failed {
        Some(why) => bail!("keep the lease: {why}"),
        None => Ok(()),
    }
}

/// What the witness is made of.
fn parts(path: &Path, config: &Config, threads: &Arc<Threads>) -> Result<(SiteLinksConfig, VoterConfig)> {
    let path = path.display();
    let sites = config.sites.sites();
    let sites = sites.with_context(|| format!("run a witness by {path}: it has no [sites]"))?;
    ensure!(
        sites.region.is_none(),
        "run a witness by {path}: sites.region is set, so it is a node's; leave it out"
    );
    let Some((node, _)) = sites.witness.clone() else {
        bail!("run a witness by {path}: sites.witness is missing");
    };
    let cluster = config.cluster_id();
    let cluster = cluster.with_context(|| format!("run a witness by {path}: cluster.id is missing"))?;
    let files = config.peers.files();
    let files =
        files.with_context(|| format!("run a witness by {path}: [peers] needs certificate, private_key and ca"))?;
    let voter = VoterConfig {
        folder: config.node.data.join("lease"),
        identity: lease_identity(cluster, node),
        voters: sites.lease_voters.clone(),
        witness: node,
        drift_ppm: config.sites.drift_ppm,
        region_of: sites.region_of(),
        threads: Arc::clone(threads),
    };
    let links = SiteLinksConfig {
        cluster,
        node,
        role: Role::Witness,
        listen: config.sites.listen,
        files,
        sites,
        threads: Arc::clone(threads),
    };
    Ok((links, voter))
}

/// What the operations port tells of.
#[derive(Clone)]
struct Operations {
    voter: Arc<Voter>,
    threads: Arc<Threads>,
    figures: Arc<Figures>,
}

fn router(operations: Operations) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/lease", get(lease))
        .route("/metrics", get(render_metrics))
        .with_state(operations)
}

async fn live() -> Response {
    Json(json!({"status": "live"})).into_response()
}

/// It has a vote, and the group has a leader.
async fn ready(State(operations): State<Operations>) -> Response {
    let status = operations.voter.status();
    let panicked = operations.threads.panicked().first().copied();
    let reason = match (&status.failed, panicked) {
        (Some(why), _) => Some(why.as_str()),
        (None, Some(role)) => Some(role.lost()),
        (None, None) if status.is_repairing => Some("It has no vote until it has what it lost."),
        (None, None) if status.view.leader.is_none() => Some("Nobody leads the lease group at the moment."),
        (None, None) => None,
    };
    match reason {
        None => Json(json!({"status": "ready"})).into_response(),
        Some(reason) => {
            let body = json!({"status": "not_ready", "reason": reason});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn lease(State(operations): State<Operations>) -> Response {
    Json(lease_json(&operations.voter.status())).into_response()
}

fn lease_json(status: &VoterStatus) -> Value {
    let LeaseView {
        state,
        leader,
        leads,
        remaining_ns,
    } = &status.view;
    let epochs = state.epochs.iter().map(|start| {
        json!({
            "epoch": start.epoch.0,
            "region": start.region.0,
            "after": start.after.map(|after| after.to_string()),
            "by": start.by.to_string(),
        })
    });
    json!({
        "active_region": state.active.map(|region| region.0),
        "epoch": state.epoch.0,
        "lease_ms": state.lease_ns / 1_000_000,
        "remaining_ms": leads.then_some(remaining_ns / 1_000_000),
        "renewals": state.renewals,
        "committed": state.committed.to_string(),
        "committed_at": state.committed_at.to_string(),
        "durability": state.durability.to_string(),
        "epochs": epochs.collect::<Vec<_>>(),
        "leader": leader.map(|leader| leader.0),
        "leads": leads,
        "has_vote": !status.is_repairing,
        "failed": status.failed,
    })
}

/// The lease as gauges.
struct Figures {
    epoch: Gauge,
    leads: Gauge,
    remaining_seconds: Gauge,
    active_region: Gauge,
    renewals: Gauge,
}

impl Figures {
    fn new() -> Self {
        Self {
            epoch: gauge!("meridian_lease_epoch"),
            leads: gauge!("meridian_lease_leads"),
            remaining_seconds: gauge!("meridian_lease_remaining_seconds"),
            active_region: gauge!("meridian_lease_active_region"),
            renewals: gauge!("meridian_lease_renewals"),
        }
    }

    /// What only the leader knows is not a number elsewhere.
    fn refresh(&self, view: &LeaseView) {
        self.epoch.set(f64::from(view.state.epoch.0));
        self.leads.set(if view.leads { 1.0 } else { 0.0 });
        let remaining = std::time::Duration::from_nanos(view.remaining_ns).as_secs_f64();
        self.remaining_seconds
            .set(if view.leads { remaining } else { f64::NAN });
        let active = view.state.active.map_or(0, |region| region.0);
        self.active_region.set(f64::from(active));
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        self.renewals.set(view.state.renewals as f64);
    }
}

async fn render_metrics(State(operations): State<Operations>) -> Response {
    operations.figures.refresh(&operations.voter.view());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], operations::metrics().render()).into_response()
}
