//! The edge's metrics. Each edge has a recorder of its own, so that several in one process don't mix.

use metrics::{Counter, Gauge, counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::config::Config;
use crate::follow::{Decision, RegionIndex};

/// Why a client's connection was closed before it reached a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many as may be are open.
    Full,
    /// As many as one source may have are open.
    SourceFull,
    /// No region is active, or none of its nodes can be reached.
    NoNode,
    /// The nodes that could be tried took no connection in time.
    Dial,
}

/// Why an open connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both sides said that they send no more.
    Finished,
    /// One side broke it off.
    Broken,
    /// Nothing was passed on for too long.
    Idle,
    /// Its node is lost.
    NodeLost,
    /// Its node's region is superseded.
    Superseded,
    /// The edge stops.
    Stopped,
}

/// What a DNS question came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsOutcome {
    /// Records.
    Answer,
    /// The name is there, but has none of that type.
    NoData,
    /// There is no such name.
    NoName,
    /// It is of another zone, or of a kind that isn't answered.
    Refused,
    /// It is no question.
    Malformed,
    /// No region was ever active, so there is nothing to say.
    Failed,
}

/// The edge's metrics.
#[derive(Debug)]
pub struct Figures {
    recorder: PrometheusHandle,
    epoch: Gauge,
    conflict: Gauge,
    switches: Counter,
    region_active: Vec<Gauge>,
    /// For each node: it answers; it takes new connections; connections in vain.
    pub node_up: Vec<Gauge>,
    node_open: Vec<Gauge>,
    pub dials_failed: Vec<Counter>,
    pub probes_failed: Vec<Counter>,
    pub connections: Gauge,
    /// Connections by region.
    pub passed: Vec<Counter>,
    refused: [Counter; 4],
    ended: [Counter; 6],
    /// Bytes from clients and from nodes.
    pub bytes_from_clients: Counter,
    pub bytes_from_nodes: Counter,
    dns: [Counter; 6],
    dns_static: Gauge,
    pub dns_dropped: Counter,
    pub dns_truncated: Counter,
    pub dns_connections_refused: Counter,
}

impl Figures {
    /// All of them at 0.
    pub fn new(config: &Config) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || Self::within(handle, config))
    }

    fn within(recorder: PrometheusHandle, config: &Config) -> Self {
        let nodes = || {
            let regions = config.regions.iter();
            regions.flat_map(|region| {
                region
                    .nodes
                    .iter()
                    .map(|node| (region.name.clone(), node.address.to_string()))
            })
        };
        let regions = || config.regions.iter().map(|region| region.name.clone());
        let node_gauges = |name: &'static str| -> Vec<Gauge> {
            nodes()
                .map(|(region, node)| gauge!(name, "region" => region, "node" => node))
                .collect()
        };
        let node_counters = |name: &'static str| -> Vec<Counter> {
            nodes()
                .map(|(region, node)| counter!(name, "region" => region, "node" => node))
                .collect()
        };
        let refused = |reason: &'static str| counter!("meridian_edge_refused_total", "reason" => reason);
        let ended = |reason: &'static str| counter!("meridian_edge_ended_total", "reason" => reason);
        let dns = |outcome: &'static str| counter!("meridian_edge_dns_answers_total", "outcome" => outcome);
        let bytes = |from: &'static str| counter!("meridian_edge_bytes_total", "from" => from);
        Self {
            recorder,
            epoch: gauge!("meridian_edge_epoch"),
            conflict: gauge!("meridian_edge_epoch_conflict"),
            switches: counter!("meridian_edge_switches_total"),
            region_active: regions()
                .map(|region| gauge!("meridian_edge_region_active", "region" => region))
                .collect(),
            node_up: node_gauges("meridian_edge_node_up"),
            node_open: node_gauges("meridian_edge_node_open"),
            dials_failed: node_counters("meridian_edge_dials_failed_total"),
            probes_failed: node_counters("meridian_edge_health_failed_total"),
            connections: gauge!("meridian_edge_connections"),
            passed: regions()
                .map(|region| counter!("meridian_edge_connections_total", "region" => region))
                .collect(),
            refused: ["full", "source_full", "no_node", "dial"].map(refused),
            ended: ["finished", "broken", "idle", "node_lost", "superseded", "stopped"].map(ended),
            bytes_from_clients: bytes("client"),
            bytes_from_nodes: bytes("node"),
            dns: ["answer", "no_data", "no_name", "refused", "malformed", "failed"].map(dns),
            dns_static: gauge!("meridian_edge_dns_fail_static"),
            dns_dropped: counter!("meridian_edge_dns_limited_total", "how" => "dropped"),
            dns_truncated: counter!("meridian_edge_dns_limited_total", "how" => "truncated"),
            dns_connections_refused: counter!("meridian_edge_dns_connections_refused_total"),
        }
    }

    /// A connection was closed before it reached a node.
    pub fn refused(&self, why: Refused) {
        self.refused[why as usize].increment(1);
    }

    /// An open connection ended.
    pub fn ended(&self, why: Ended) {
        self.ended[why as usize].increment(1);
    }

    /// A DNS question was answered.
    pub fn dns(&self, outcome: DnsOutcome) {
        self.dns[outcome as usize].increment(1);
    }

    /// Whether DNS answers with a region that nobody says is active.
    pub fn dns_static(&self, is: bool) {
        self.dns_static.set(u8::from(is));
    }

    /// What was decided, and before.
    pub fn decided(&self, before: &Decision, decision: &Decision) {
        self.epoch.set(decision.epoch.unwrap_or(0) as f64);
        self.conflict.set(u8::from(decision.conflict));
        if decision.region.is_some() && before.last_region.is_some() && before.last_region != decision.region {
            self.switches.increment(1);
        }
        for (index, gauge) in self.region_active.iter().enumerate() {
            gauge.set(u8::from(decision.region == Some(RegionIndex(index))));
        }
        for (index, gauge) in self.node_open.iter().enumerate() {
            gauge.set(u8::from(decision.open_to.iter().any(|node| node.0 == index)));
        }
    }

    /// All of them, as Prometheus text.
    pub fn render(&self) -> String {
        self.recorder.render()
    }
}
