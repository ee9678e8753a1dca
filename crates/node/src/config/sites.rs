//! The sites of a cluster: its regions and the witness.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;
use types::RegionId;
use wire::journal::NodeId;

use crate::peers::name::Region;

/// Regions and the witness, and how a region takes part. Without `region` the cluster has one region and no lease.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SitesConfig {
    /// The region of this node; none: the cluster has one region.
    pub region: Option<String>,
    /// Where nodes of other sites reach this one.
    pub listen: SocketAddr,
    /// The two regions.
    pub regions: Vec<RegionConfig>,
    /// The witness.
    pub witness: Option<WitnessConfig>,
    /// The voters of the lease group: a node of each region, and the witness.
    pub lease_voters: Vec<u64>,
    /// The region that is active first of all.
    pub first_active: String,
    /// Whether answers wait for the standby.
    pub durability: DurabilityConfig,
    /// Who makes a standby active.
    pub promotion: PromotionConfig,
    /// How many commands a standby may lack when it becomes active by itself.
    pub promotion_lag_max: u64,
    /// How long a renewal of the lease holds, in milliseconds.
    pub lease_ms: u64,
    /// By how much clocks that count elapsed time may differ, in parts per million.
    pub drift_ppm: u32,
    /// What happens to answers that wait for a standby that is away.
    pub on_standby_loss: StandbyLossConfig,
    /// For how long answers wait for a standby that gets no further, in milliseconds.
    pub degrade_after_ms: u64,
    /// What happens when the standby lags by more than a bound.
    pub lag: LagConfig,
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// Its number, from 1.
    pub id: u16,
    /// Its name, as in its nodes' certificates.
    pub name: String,
    /// Where clients reach it; told to clients of a standby.
    #[serde(default)]
    pub url: String,
    /// Where its nodes are reached by other sites, by their ids.
    pub nodes: BTreeMap<String, String>,
}

/// The witness.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// Its node id.
    pub node: u64,
    /// Where it is reached.
    pub address: String,
}

/// Whether answers wait for the standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DurabilityConfig {
    /// They don't.
    #[default]
    Async,
    /// They do.
    Sync,
}

/// Who makes a standby active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromotionConfig {
    /// The standby itself, once the lease has lapsed.
    #[default]
    Automatic,
    /// An operator.
    Manual,
}

/// What happens to answers that wait for a standby that is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandbyLossConfig {
    /// They go out without it, which is on record first.
    #[default]
    Degrade,
    /// They wait.
    Stop,
}

/// What happens when the standby lags by more than a bound. An alarm tells of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LagConfig {
    /// Commands behind from which on intake is slowed; 0: never.
    pub slow_from: u64,
    /// Commands behind from which on new orders are refused; 0: never.
    pub refuse_from: u64,
}

impl Default for SitesConfig {
    fn default() -> Self {
        Self {
            region: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 7415)),
            regions: Vec::new(),
            witness: None,
            lease_voters: Vec::new(),
            first_active: String::new(),
            durability: DurabilityConfig::default(),
            promotion: PromotionConfig::default(),
            promotion_lag_max: 10_000,
            lease_ms: 4_000,
            drift_ppm: 1_000,
            on_standby_loss: StandbyLossConfig::default(),
            degrade_after_ms: 1_000,
            lag: LagConfig::default(),
        }
    }
}

/// What a node of a region needs of it, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sites {
    /// Its region; none of a witness.
    pub region: Option<RegionId>,
    /// The regions by their numbers.
    pub regions: BTreeMap<RegionId, Site>,
    /// The witness, and where it is reached.
    pub witness: Option<(NodeId, String)>,
    /// The voters of the lease group.
    pub lease_voters: Vec<NodeId>,
    /// The region that is active first of all.
    pub first_active: RegionId,
}

/// A region, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub url: String,
    /// Where its nodes are reached by other sites.
    pub nodes: BTreeMap<NodeId, String>,
}

impl Sites {
    /// Where each node of all sites is reached.
    pub fn addresses(&self) -> BTreeMap<NodeId, String> {
        let nodes = self.regions.values().flat_map(|site| site.nodes.clone());
        nodes.chain(self.witness.clone()).collect()
    }

    /// Which region each node is of.
    pub fn region_of(&self) -> BTreeMap<NodeId, RegionId> {
        let of_region = |(id, site): (&RegionId, &Site)| site.nodes.keys().map(|node| (*node, *id)).collect::<Vec<_>>();
        self.regions.iter().flat_map(of_region).collect()
    }

    /// The region that is not this one, with its number.
    pub fn other(&self, own: RegionId) -> Option<(RegionId, &Site)> {
        let mut others = self.regions.iter().filter(|(id, _)| **id != own);
        others.next().map(|(id, site)| (*id, site))
    }
}

impl SitesConfig {
    /// What is wrong with it, a sentence each. Nothing of a cluster with one region.
    pub fn faults(&self) -> Vec<String> {
        if self.region.is_none() && self.regions.is_empty() {
            return Vec::new();
        }
        let mut faults = Vec::new();
        let mut check = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("sites.{what}"));
            }
        };
        check(self.regions.len() == 2, "regions: there must be two");
        let names: Vec<&str> = self.regions.iter().map(|region| region.name.as_str()).collect();
        let own_is_named = self.region.as_deref().is_none_or(|own| names.contains(&own));
        check(own_is_named, "region: it is none of sites.regions");
        check(
            names.contains(&self.first_active.as_str()),
            "first_active: it is none of sites.regions",
        );
        let ids: Vec<u16> = self.regions.iter().map(|region| region.id).collect();
        check(
            ids.iter().all(|id| *id > 0) && ids.first() != ids.get(1),
            "regions: ids must differ and be more than 0",
        );
        check(names.first() != names.get(1), "regions: names must differ");
        check(
            names.iter().all(|name| name.parse::<Region>().is_ok()),
            "regions: a name must be 1 to 32 of [a-z0-9-], as in certificates",
        );
        let nodes = || self.regions.iter().flat_map(|region| region.nodes.keys());
        check(
            nodes().all(|node| node.parse::<u64>().is_ok_and(|node| node > 0)),
            "regions.nodes: a node's id must be a whole number from 1",
        );
        let mut all: Vec<u64> = nodes().filter_map(|node| node.parse().ok()).collect();
        all.extend(self.witness.as_ref().map(|witness| witness.node));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        check(
            all.len() == count,
            "regions and sites.witness: node ids must differ over all sites",
        );
        check(self.witness.is_some(), "witness: it is required");
        let is_voter = |node: &u64| self.lease_voters.contains(node);
        let one_each = self.regions.iter().all(|region| {
            let nodes = region.nodes.keys().filter_map(|node| node.parse().ok());
            nodes.filter(is_voter).count() == 1
        });
        let witness_votes = self.witness.as_ref().is_some_and(|witness| is_voter(&witness.node));
        check(
            self.lease_voters.len() == 3 && one_each && witness_votes,
            "lease_voters: they must be a node of each region and the witness",
        );
        check(
            (500..=120_000).contains(&self.lease_ms),
            "lease_ms: it must be between 500 and 120000",
        );
        check(self.drift_ppm <= 100_000, "drift_ppm: more than 100000 can't be");
        check(
            (10..=60_000).contains(&self.degrade_after_ms),
            "degrade_after_ms: it must be between 10 and 60000",
        );
        check(
            self.lag.refuse_from == 0 || self.lag.slow_from <= self.lag.refuse_from,
            "lag: slow_from must not be more than refuse_from",
        );
        faults
    }

    /// The sites, of a configuration without faults; none of a cluster with one region.
    pub fn sites(&self) -> Option<Sites> {
        if self.regions.is_empty() {
            return None;
        }
        let id_of = |name: &str| {
            let region = self.regions.iter().find(|region| region.name == name);
            region.map(|region| RegionId(region.id))
        };
        let site = |region: &RegionConfig| {
            let nodes = region.nodes.iter();
            let nodes = nodes.filter_map(|(node, address)| Some((NodeId(node.parse().ok()?), address.clone())));
            Site {
                name: region.name.clone(),
                url: region.url.clone(),
                nodes: nodes.collect(),
            }
        };
        let regions = self.regions.iter().map(|region| (RegionId(region.id), site(region)));
        let witness = self.witness.as_ref();
        Some(Sites {
            region: self.region.as_deref().and_then(id_of),
            regions: regions.collect(),
            witness: witness.map(|witness| (NodeId(witness.node), witness.address.clone())),
            lease_voters: self.lease_voters.iter().copied().map(NodeId).collect(),
            first_active: id_of(&self.first_active)?,
        })
    }
}
