//! The configuration file: typed, with defaults, and checked as a whole before anything is opened.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::rr::Name;
use serde::Deserialize;

/// An example with comments. Every value in it that isn't an address or a name is the default.
pub const EXAMPLE: &str = include_str!("edge.toml");

/// Fronts, that is addresses that clients connect to.
const FRONTS_MAX: usize = 16;
/// Regions.
const REGIONS_MAX: usize = 16;
/// Nodes of a region.
const NODES_MAX: usize = 64;
/// Addresses of a region that DNS answers with: all of them fit into 512 bytes without EDNS, of either kind.
const PUBLIC_ADDRESSES_MAX: usize = 8;
/// Zones that DNS answers for.
const ZONES_MAX: usize = 16;
/// Names of a zone, and its name servers.
const NAMES_MAX: usize = 64;

/// An edge's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The process.
    pub edge: ProcessConfig,
    /// Its logs.
    pub logs: LogsConfig,
    /// Where clients connect.
    #[serde(rename = "front")]
    pub fronts: Vec<FrontConfig>,
    /// What holds for clients' connections.
    pub connections: ConnectionsConfig,
    /// How nodes are asked for their health.
    pub health: HealthConfig,
    /// The regions.
    #[serde(rename = "region")]
    pub regions: Vec<RegionConfig>,
    /// The DNS answerer.
    pub dns: DnsConfig,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// Health, metrics and status of the edge itself.
    pub operations: SocketAddr,
    /// Threads; 0: as many as there are processors, at most four.
    pub worker_threads: usize,
    /// How long open connections may last once it was told to stop, in seconds.
    pub drain_seconds: u64,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            operations: SocketAddr::from(([127, 0, 0, 1], 7423)),
            worker_threads: 0,
            drain_seconds: 10,
        }
    }
}

impl ProcessConfig {
    /// How many threads there are.
    pub fn worker_threads(&self) -> usize {
        match self.worker_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(4),
            threads => threads,
        }
    }
}

/// The edge's logs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsConfig {
    /// How an entry is written.
    pub format: LogFormat,
    /// Which entries are written.
    pub level: String,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// How a log entry is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// An address that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrontConfig {
    /// Where the edge listens.
    pub listen: SocketAddr,
    /// The port of the nodes that it stands for, if that is not the one of their `address`.
    pub node_port: Option<u16>,
    /// Whether each connection to a node begins with a PROXY protocol header that names the client.
    #[serde(default)]
    pub proxy_protocol: bool,
}

/// What holds for clients' connections.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionsConfig {
    /// Open at the same time, all fronts together.
    pub connections_max: usize,
    /// Those of one source: an IPv4 address, or an IPv6 network of 64 bits.
    pub connections_per_source_max: usize,
    /// How long a connection to a node may take to be made, in milliseconds.
    pub dial_timeout_ms: u64,
    /// How long nothing may be passed on in either direction, in seconds.
    pub idle_timeout_seconds: u64,
    /// The same once one side has said that it sends no more, in seconds.
    pub half_close_timeout_seconds: u64,
    /// Bytes that are held for each direction of a connection.
    pub buffer_bytes: usize,
}

impl Default for ConnectionsConfig {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            connections_per_source_max: 256,
            dial_timeout_ms: 1_000,
            idle_timeout_seconds: 300,
            half_close_timeout_seconds: 30,
            buffer_bytes: 16_384,
        }
    }
}

/// How nodes are asked for their health.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// From one question to the next, in milliseconds.
    pub interval_ms: u64,
    /// How long an answer may take, connecting included, in milliseconds.
    pub timeout_ms: u64,
    /// After how many questions without an answer a node is lost.
    pub failures_max: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            interval_ms: 250,
            timeout_ms: 500,
            failures_max: 3,
        }
    }
}

impl HealthConfig {
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// Its name.
    pub name: String,
    /// Its nodes.
    pub nodes: Vec<NodeConfig>,
    /// What DNS answers with while this region is the active one.
    #[serde(default)]
    pub public: Vec<IpAddr>,
}

/// A node of a region. Addresses, not names: an edge must not depend on a resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Its public listener.
    pub address: SocketAddr,
    /// Its operations port.
    pub health: SocketAddr,
}

/// The DNS answerer; without an address to listen on there is none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// Where it listens, over UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// How long a resolver may keep an address, in seconds.
    pub ttl_seconds: u32,
    /// Answers over UDP to one network (24 bits of IPv4, 56 of IPv6), a second on average and at once.
    pub answers_per_network_per_second: u32,
    /// Each how many answers above that a truncated one is sent, so that the resolver asks over TCP; 0: never.
    pub slip: u32,
    /// Networks that are kept apart; beyond that some share an allowance.
    pub networks_max: usize,
    /// Connections over TCP.
    pub connections_max: usize,
    /// Those of one source: an IPv4 address, or an IPv6 network of 64 bits.
    pub connections_per_source_max: usize,
    /// The zones that it answers for.
    #[serde(rename = "zone")]
    pub zones: Vec<ZoneConfig>,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            ttl_seconds: 5,
            answers_per_network_per_second: 50,
            slip: 2,
            networks_max: 16_384,
            connections_max: 256,
            connections_per_source_max: 16,
            zones: Vec::new(),
        }
    }
}

/// A zone that the edge answers for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneConfig {
    /// Its name, such as `trade.example`.
    pub name: String,
    /// Whom to write to, as a name: `hostmaster.trade.example` is hostmaster@trade.example.
    pub hostmaster: String,
    /// Its name servers, as the parent zone names them.
    pub name_servers: Vec<NameServerConfig>,
    /// The names that lead to the active region; the zone's own may be one of them.
    pub names: Vec<String>,
}

/// A zone's name server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameServerConfig {
    /// Its name.
    pub name: String,
    /// Its addresses, required if its name is in the zone.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// A configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read.
    #[error("read {path}: {error}")]
    Read {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what a configuration looks like.
    #[error("{path}: {error}")]
    Parse {
        /// Its file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// Something in it can't be.
    #[error("{path}:\n  {}", wrong.join("\n  "))]
    Wrong {
        /// Its file.
        path: PathBuf,
        /// All that is wrong, one sentence each.
        wrong: Vec<String>,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// If it can't be read, or is wrong; all that is wrong is named.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(path, &text)
    }

    /// Reads and checks a text, which stands in `path`.
    ///
    /// # Errors
    /// If it is wrong; all that is wrong is named.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            error: Box::new(error),
        })?;
        let mut wrong = Vec::new();
        config.numbers(&mut wrong);
        config.sockets(&mut wrong);
        config.regions(&mut wrong);
        config.zones(&mut wrong);
        if wrong.is_empty() {
            return Ok(config);
        }
        let path = path.to_owned();
        Err(ConfigError::Wrong { path, wrong })
    }

    /// Numbers that are out of their range.
    fn numbers(&self, wrong: &mut Vec<String>) {
        let (edge, connections, health, dns) = (&self.edge, &self.connections, &self.health, &self.dns);
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        for (key, number, low, high) in [
            ("edge.worker_threads", count(edge.worker_threads), 0, 256),
            ("edge.drain_seconds", edge.drain_seconds, 0, 3_600),
            (
                "connections.connections_max",
                count(connections.connections_max),
                1,
                1_000_000,
            ),
            (
                "connections.connections_per_source_max",
                count(connections.connections_per_source_max),
                1,
                1_000_000,
            ),
            ("connections.dial_timeout_ms", connections.dial_timeout_ms, 10, 60_000),
            (
                "connections.idle_timeout_seconds",
                connections.idle_timeout_seconds,
                1,
                86_400,
            ),
            (
                "connections.half_close_timeout_seconds",
                connections.half_close_timeout_seconds,
                1,
                86_400,
            ),
            (
                "connections.buffer_bytes",
                count(connections.buffer_bytes),
                1_024,
                1 << 20,
            ),
            ("health.interval_ms", health.interval_ms, 10, 60_000),
            ("health.timeout_ms", health.timeout_ms, 10, 60_000),
            ("health.failures_max", health.failures_max.into(), 1, 100),
            ("dns.ttl_seconds", dns.ttl_seconds.into(), 0, 86_400),
            (
                "dns.answers_per_network_per_second",
                dns.answers_per_network_per_second.into(),
                1,
                1_000_000,
            ),
            ("dns.slip", dns.slip.into(), 0, 1_000),
            ("dns.networks_max", count(dns.networks_max), 1, 1 << 20),
            ("dns.connections_max", count(dns.connections_max), 1, 65_536),
            (
                "dns.connections_per_source_max",
                count(dns.connections_per_source_max),
                1,
                65_536,
            ),
        ] {
            if !(low..=high).contains(&number) {
                wrong.push(format!("{key}: {number} is not between {low} and {high}"));
            }
        }
    }

    /// Addresses to listen on that are missing, too many, or the same.
    fn sockets(&self, wrong: &mut Vec<String>) {
        if self.fronts.is_empty() && self.dns.listen.is_empty() {
            wrong.push("front: there is neither a front nor a DNS answerer, so nothing to do".to_owned());
        }
        if self.fronts.len() > FRONTS_MAX || self.dns.listen.len() > FRONTS_MAX {
            wrong.push(format!("front, dns.listen: more than {FRONTS_MAX} can't be"));
        }
        let fronts = self.fronts.iter().map(|front| ("front.listen", front.listen));
        let dns = self.dns.listen.iter().map(|address| ("dns.listen", *address));
        let mut taken: Vec<(&str, SocketAddr)> = vec![("edge.operations", self.edge.operations)];
        for (key, address) in fronts.chain(dns) {
            // Port 0 is whatever is free.
            if let Some((other, _)) = taken.iter().find(|(_, other)| *other == address && address.port() != 0) {
                wrong.push(format!("{other} and {key}: both are {address}"));
            }
            taken.push((key, address));
        }
        for front in &self.fronts {
            if front.node_port == Some(0) {
                wrong.push(format!("front.node_port: no node listens on port 0 ({})", front.listen));
            }
        }
    }

    /// Regions that can't be told apart, or have nothing to reach.
    fn regions(&self, wrong: &mut Vec<String>) {
        if !(1..=REGIONS_MAX).contains(&self.regions.len()) {
            wrong.push(format!("region: there must be 1 to {REGIONS_MAX} of them"));
        }
        let (mut names, mut healths) = (BTreeSet::new(), BTreeSet::new());
        for region in &self.regions {
            let name = &region.name;
            let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if !(1..=32).contains(&name.len()) || !name.chars().all(fine) {
                wrong.push(format!("region.name: {name:?} is not 1 to 32 of [a-z0-9-]"));
            }
            if !names.insert(name) {
                wrong.push(format!("region.name: there are two regions {name:?}"));
            }
            if !(1..=NODES_MAX).contains(&region.nodes.len()) {
                wrong.push(format!("region {name}: there must be 1 to {NODES_MAX} nodes"));
            }
            for node in &region.nodes {
                if node.address.port() == 0 || node.health.port() == 0 {
                    wrong.push(format!("region {name}: no node listens on port 0"));
                }
                if !healths.insert(node.health) {
                    wrong.push(format!("region {name}: {} is the health of two nodes", node.health));
                }
            }
            if region.public.len() > PUBLIC_ADDRESSES_MAX {
                wrong.push(format!(
                    "region {name}: more than {PUBLIC_ADDRESSES_MAX} public addresses can't be"
                ));
            }
            if !self.dns.listen.is_empty() && region.public.is_empty() {
                wrong.push(format!("region {name}: public is empty, and DNS would have no answer"));
            }
        }
    }

    /// Zones with names that aren't, or that lie elsewhere.
    fn zones(&self, wrong: &mut Vec<String>) {
        let zones = &self.dns.zones;
        if zones.is_empty() != self.dns.listen.is_empty() {
            wrong.push("dns: listen and zone belong together; only one of them is given".to_owned());
        }
        if zones.len() > ZONES_MAX {
            wrong.push(format!("dns.zone: more than {ZONES_MAX} can't be"));
        }
        let mut apexes = BTreeSet::new();
        for zone in zones {
            let key = &zone.name;
            let Some(apex) = name_of(key) else {
                wrong.push(format!("dns.zone.name: {key:?} is no domain name"));
                continue;
            };
            if !apexes.insert(apex.clone()) {
                wrong.push(format!("dns.zone.name: there are two zones {key}"));
            }
            if name_of(&zone.hostmaster).is_none() {
                wrong.push(format!(
                    "zone {key}: hostmaster {:?} is no domain name",
                    zone.hostmaster
                ));
            }
            for (what, count) in [("name_servers", zone.name_servers.len()), ("names", zone.names.len())] {
                if !(1..=NAMES_MAX).contains(&count) {
                    wrong.push(format!("zone {key}: there must be 1 to {NAMES_MAX} {what}"));
                }
            }
            for name in &zone.names {
                if !name_of(name).is_some_and(|name| apex.zone_of(&name)) {
                    wrong.push(format!("zone {key}: {name:?} is no name in it"));
                }
            }
            for server in &zone.name_servers {
                let name = &server.name;
                let Some(parsed) = name_of(name) else {
                    wrong.push(format!("zone {key}: name server {name:?} is no domain name"));
                    continue;
                };
                if apex.zone_of(&parsed) == server.addresses.is_empty() {
                    wrong.push(format!(
                        "zone {key}: name server {name} needs addresses if it is in the zone, and may have none otherwise"
                    ));
                }
                if zone.names.iter().any(|other| name_of(other).as_ref() == Some(&parsed)) {
                    wrong.push(format!(
                        "zone {key}: {name} can't be a name server and lead to the active region"
                    ));
                }
            }
        }
    }
}

/// A domain name, taken as absolute.
pub(crate) fn name_of(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    (!name.is_root()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("edge.toml"), text)
    }

    /// The example with its commented settings in force.
    fn example_in_full() -> String {
        let lines = EXAMPLE.lines().map(|line| match line.strip_prefix("#: ") {
            Some(setting) => setting,
            None => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_says_the_defaults() {
        for text in [EXAMPLE.to_owned(), example_in_full()] {
            let config = parse(&text).unwrap();
            let expected = Config {
                fronts: config.fronts.clone(),
                regions: config.regions.clone(),
                dns: DnsConfig {
                    listen: config.dns.listen.clone(),
                    zones: config.dns.zones.clone(),
                    ..DnsConfig::default()
                },
                ..Config::default()
            };
            assert_eq!(config, expected);
            assert!(!config.fronts.is_empty() && !config.regions.is_empty());
        }
        assert_eq!(parse(&example_in_full()).unwrap().dns.zones.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_by_its_key() {
        let full = example_in_full();
        for (from, to, said) in [
            (
                "failures_max = 3",
                "failures_max = 0",
                "health.failures_max: 0 is not between 1 and 100",
            ),
            ("failures_max = 3", "failure_max = 3", "unknown field `failure_max`"),
            (
                "name = \"east\"",
                "name = \"East\"",
                "region.name: \"East\" is not 1 to 32 of [a-z0-9-]",
            ),
            ("name = \"east\"", "name = \"west\"", "there are two regions \"west\""),
            (
                "127.0.0.1:7513",
                "127.0.0.1:7413",
                "127.0.0.1:7413 is the health of two nodes",
            ),
            (
                "listen = \"127.0.0.1:7421\"",
                "listen = \"127.0.0.1:7423\"",
                "edge.operations and front.listen: both are",
            ),
            (
                "listen = \"127.0.0.1:7421\"",
                "listen = \"localhost:1\"",
                "invalid socket address",
            ),
            (
                "public = [\"203.0.113.10\", \"2001:db8:1::10\"]",
                "",
                "DNS would have no answer",
            ),
            ("listen = [\"127.0.0.1:5353\"]", "", "listen and zone belong together"),
            (
                "names = [\"trade.example\"",
                "names = [\"other.example\"",
                "\"other.example\" is no name in it",
            ),
            (
                "addresses = [\"203.0.113.53\"]",
                "addresses = []",
                "needs addresses if it is in the zone",
            ),
            ("hostmaster = \"hostmaster.", "hostmaster = \"..", "is no domain name"),
        ] {
            assert!(full.contains(from), "{from}");
            let error = parse(&full.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(said), "{from} -> {to}: {error}");
        }
        let error = parse("").unwrap_err().to_string();
        assert!(
            error.contains("nothing to do") && error.contains("region: there must be"),
            "{error}"
        );
    }
}
