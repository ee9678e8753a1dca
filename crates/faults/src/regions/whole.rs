//! When all is well: one region active, the other one following it, all nodes equal.

use std::io;
use std::time::{Duration, Instant};

use client::{ClientError, RestClient};
use wire::json::{ClusterStatus, MemberRole, RegionStatus};

use super::rounds::World;

/// How long that may take.
const WHOLE_WITHIN: Duration = Duration::from_secs(180);
/// How long to wait between two looks.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long ago the active region may have heard of a standby that follows, in milliseconds.
const HEARD_MS_MAX: u64 = 3_000;

/// How all is while it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// The active region.
    pub(super) active: usize,
    pub(super) epoch: u32,
    /// The node that leads it.
    pub(super) leader: usize,
    /// The last sequence, of both regions.
    pub(super) through: String,
    /// The life of each region's group.
    pub(super) lives: [u32; 2],
    /// Each epoch, and behind which sequence it began.
    pub(super) epochs: Vec<(u32, Option<u64>)>,
}

/// What a node says of itself.
type Said = (RegionStatus, ClusterStatus);

impl World {
    /// Waits until all is well and stays so. Gives how it is then, or why it isn't.
    pub(super) async fn wait_until_whole(&mut self) -> io::Result<Result<Whole, String>> {
        let until = Instant::now() + WHOLE_WITHIN;
        let mut before = None;
        loop {
            let why = match self.look().await {
                Ok(whole) if before.as_ref() == Some(&whole) => return Ok(Ok(whole)),
                Ok(whole) => {
                    before = Some(whole);
                    "it changes".to_owned()
                }
                Err(why) => {
                    before = None;
                    why
                }
            };
            for node in self.processes.nodes.iter_mut().flatten() {
                if let Err(error) = node.is_live() {
                    return Ok(Err(format!("a node has ended: {error}")));
                }
            }
            if Instant::now() > until {
                return Ok(Err(format!("not whole within {} s: {why}", WHOLE_WITHIN.as_secs())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> Result<Whole, String> {
        let mut said = Vec::new();
        for (node, rest) in self.admins.iter().enumerate() {
            let at = |error: ClientError| format!("node {}: {error}", self.regions.id_of(node));
            said.push(ask(rest).await.map_err(at)?);
        }
        self.judge(&said)
    }

    fn judge(&self, said: &[Said]) -> Result<Whole, String> {
        let (first, _) = &said[0];
        let active = first.active.as_deref().and_then(harness::Regions::region_named);
        let active = active.ok_or("nobody is active")?;
        let mut lives = [0; 2];
        for (node, (region, cluster)) in said.iter().enumerate() {
            let own = self.regions.region_of(node);
            let id = region.node;
            let wanted = if own == active { "active" } else { "standby" };
            if (region.epoch, &region.active) != (first.epoch, &first.active) || region.mode != wanted || region.void {
                return Err(format!("node {id}: {region:?}"));
            }
            let members = cluster
                .members
                .iter()
                .filter(|member| member.role == MemberRole::Voter)
                .count();
            let (of_first, first_cluster) = &said[self.regions.nodes_of(own).start];
            if members != self.regions.options.nodes
                || cluster.leader.is_none()
                || cluster.repairing
                || (cluster.leader, &cluster.applied) != (first_cluster.leader, &first_cluster.applied)
                || region.incarnation != of_first.incarnation
            {
                return Err(format!("node {id}: {cluster:?}, life {}", region.incarnation));
            }
            lives[own] = region.incarnation;
        }
        let leader_of = |region: usize| {
            let node = said[self.regions.nodes_of(region).start].1.leader?;
            self.regions.node_with_id(node)
        };
        let (Some(leader), Some(other)) = (leader_of(active), leader_of(1 - active)) else {
            return Err("a region has no leader".into());
        };
        let (leads, follows) = (&said[leader].0, &said[other].0);
        let (Some(standby), Some(behind)) = (&leads.standby, &follows.behind) else {
            return Err(format!("nobody knows how far behind: {leads:?}, {follows:?}"));
        };
        let is_heard = standby.heard_ms_ago.is_some_and(|ms| ms < HEARD_MS_MAX);
        let is_even = standby.sequences.0 == "0" && behind.sequences.0 == "0" && standby.through == behind.through;
        let waits = !self.regions.options.sync || (leads.answers_wait && leads.durability == "both");
        if !is_heard || !is_even || !waits {
            return Err(format!("the standby does not follow: {leads:?}, {follows:?}"));
        }
        Ok(Whole {
            active,
            epoch: first.epoch,
            leader,
            through: behind.through.0.clone(),
            lives,
            epochs: epochs_of(leads),
        })
    }
}

/// Each epoch that a region knows of, and behind which sequence it began.
pub(super) fn epochs_of(region: &RegionStatus) -> Vec<(u32, Option<u64>)> {
    let after = |after: &Option<wire::json::NumberText>| after.as_ref().and_then(|after| after.0.parse().ok());
    let epochs = region.epochs.iter();
    epochs.map(|epoch| (epoch.epoch, after(&epoch.after))).collect()
}

async fn ask(rest: &RestClient) -> Result<Said, ClientError> {
    Ok((
        rest.read("/v1/admin/region").await?,
        rest.read("/v1/admin/cluster").await?,
    ))
}
