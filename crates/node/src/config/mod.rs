//! The configuration file: typed, with defaults, and checked as a whole before anything is opened.

mod sites;
mod size;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use types::ClusterId;
use wire::journal::NodeId;
use wire::peer::Role;

pub use sites::{DurabilityConfig, LagConfig, PromotionConfig, Site, Sites, SitesConfig, StandbyLossConfig};
pub use size::Size;

use crate::peers::PeerFiles;
use crate::processors;

/// The default configuration with comments.
pub const DEFAULT: &str = include_str!("default.toml");

/// Proxies whose word for a client's address is taken.
const PROXIES_MAX: usize = 64;

/// A node's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What must be the same on every node of the cluster.
    pub cluster: ClusterConfig,
    /// The node.
    pub node: NodeConfig,
    /// Its core.
    pub core: CoreConfig,
    /// Where it listens.
    pub listen: ListenConfig,
    /// Its certificate.
    pub tls: TlsConfig,
    /// The other nodes of its group.
    pub peers: PeersConfig,
    /// The regions and the witness, if there is more than one region.
    pub sites: SitesConfig,
    /// Whom it lets in.
    pub gateway: GatewayLimits,
    /// Its logs.
    pub logs: LogsConfig,
    /// Its journal.
    pub journal: JournalConfig,
    /// Its snapshots.
    pub snapshots: SnapshotsConfig,
    /// Its event log.
    pub events: EventsConfig,
    /// Its disk.
    pub disk: DiskConfig,
}

/// What must be the same on every node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// The cluster's id; the data folder's must be the same.
    pub id: Option<String>,
}

/// The node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// The data folder.
    pub data: PathBuf,
    /// What it is for.
    pub role: NodeRole,
    /// Threads that serve connections; 0 means to choose by the number of processors.
    pub worker_threads: usize,
    /// The processors that these threads run on; empty: any.
    pub worker_processors: Vec<usize>,
}

/// What a node is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// It keeps the journal and may vote.
    #[default]
    Node,
    /// It takes clients' connections and hands their commands on. It keeps nothing.
    Gateway,
}

impl From<NodeRole> for Role {
    fn from(role: NodeRole) -> Self {
        match role {
            NodeRole::Node => Self::Node,
            NodeRole::Gateway => Self::Gateway,
        }
    }
}

impl NodeConfig {
    /// How many threads serve connections.
    pub fn worker_threads(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        match self.worker_threads {
            0 => processors.saturating_sub(1).max(2),
            threads => threads,
        }
    }
}

/// The core.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoreConfig {
    /// What its thread does while there is nothing to do.
    pub idle: Idle,
    /// The processor that its thread runs on, alone if the system was set up so.
    pub processor: Option<usize>,
    /// The longest sync, in microseconds, with which a thread that serves a connection runs a command that comes alone;
    /// 0: never.
    pub inline_sync_us_max: u64,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            idle: Idle::Park,
            processor: None,
            inline_sync_us_max: 2_000,
        }
    }
}

/// What the core's thread does while there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Idle {
    /// It sleeps, and is woken.
    Park,
    /// It looks for work without a pause, on a processor of its own.
    Spin,
}

/// Where the node listens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenConfig {
    /// Clients.
    pub public: SocketAddr,
    /// Operators.
    pub admin: SocketAddr,
    /// Health and metrics.
    pub operations: SocketAddr,
}

impl Default for ListenConfig {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            public: loopback(7411),
            admin: loopback(7412),
            operations: loopback(7413),
        }
    }
}

/// The certificate with which the node speaks TLS to clients and operators; plain HTTP without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// The chain, PEM, the node's own certificate first.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub private_key: Option<PathBuf>,
}

/// How the node speaks with the other nodes of its group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeersConfig {
    /// Where the others reach it.
    pub listen: SocketAddr,
    /// The chain, PEM, the node's own certificate first.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub private_key: Option<PathBuf>,
    /// The authorities whose certificates are believed, PEM.
    pub ca: Option<PathBuf>,
    /// Where the others reach it, if that is not `listen`.
    pub advertise: Option<String>,
    /// Where nodes are reached, by their ids, until the group itself says so.
    pub addresses: BTreeMap<String, String>,
    /// A clock that is further than this from those of most others, in milliseconds, is not to be trusted.
    pub clock_offset_ms_max: u64,
}

impl Default for PeersConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7414)),
            certificate: None,
            private_key: None,
            ca: None,
            advertise: None,
            addresses: BTreeMap::new(),
            clock_offset_ms_max: 250,
        }
    }
}

impl PeersConfig {
    /// Where the others reach it.
    pub fn advertised(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| self.listen.to_string())
    }

    /// The given addresses by node. What is no node's id is left out; `check` refuses it.
    pub fn addresses(&self) -> BTreeMap<NodeId, String> {
        let nodes = self.addresses.iter();
        let nodes = nodes.filter_map(|(node, address)| Some((NodeId(node.parse().ok()?), address.clone())));
        nodes.collect()
    }

    /// The files, if they are given.
    pub fn files(&self) -> Option<PeerFiles> {
        Some(PeerFiles {
            certificate: self.certificate.clone()?,
            private_key: self.private_key.clone()?,
            ca: self.ca.clone()?,
        })
    }
}

/// Whom the node lets in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayLimits {
    /// Connections of each listener.
    pub connections_max: usize,
    /// Requests of one key at once.
    pub requests_per_key_burst: u32,
    /// Requests of one key a second.
    pub requests_per_key_per_second: u32,
    /// Requests from one address at once that are not signed.
    pub requests_per_address_burst: u32,
    /// Requests from one address a second that are not signed.
    pub requests_per_address_per_second: u32,
    /// The proxies whose connections begin with who their client is. If there are any, clients come through them only.
    pub proxy_protocol_from: Vec<IpAddr>,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            requests_per_key_burst: 2_000,
            requests_per_key_per_second: 1_000,
            requests_per_address_burst: 500,
            requests_per_address_per_second: 100,
            proxy_protocol_from: Vec::new(),
        }
    }
}

/// The node's logs.
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

/// The node's journal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// The size of one segment file.
    pub segment_size: Size,
    /// Whether closed segments stay for good, also those that snapshots cover.
    pub keep_all: bool,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            segment_size: Size::mib(64),
            keep_all: false,
        }
    }
}

/// The node's snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotsConfig {
    /// After how much journal the next one is made.
    pub journal_size: Size,
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self {
            journal_size: Size::mib(256),
        }
    }
}

/// The node's event log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// The size of one segment file.
    pub segment_size: Size,
    /// How much it may take on disk.
    pub size_max: Size,
    /// What is kept even beyond that.
    pub keep_hours: u32,
    /// How much of it is also held in memory.
    pub memory_size_max: Size,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            segment_size: Size::mib(64),
            size_max: Size::mib(8 << 10),
            keep_hours: 24,
            memory_size_max: Size::mib(16),
        }
    }
}

/// The node's disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskConfig {
    /// Below this much free space there is an alarm.
    pub free_alarm: Size,
    /// Below this much free space nothing is taken.
    pub free_min: Size,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            free_alarm: Size::mib(2 << 10),
            free_min: Size::mib(512),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("read the configuration {}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not of the form that it should be, or has a key that there isn't.
    #[error("read the configuration {}: {error}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// Its values can't be.
    #[error("accept the configuration {}:\n  {}", path.display(), wrong.join("\n  "))]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// All that is wrong, one sentence each.
        wrong: Vec<String>,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
            path: path.to_owned(),
            error,
        })?;
        Self::parse(path, &text)
    }

    /// Reads and checks a text, which stands in `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            error: Box::new(error),
        })?;
        let wrong = config.wrong();
        if wrong.is_empty() {
            return Ok(config);
        }
        let path = path.to_owned();
        Err(ConfigError::Wrong { path, wrong })
    }

    /// The cluster's id, if it was given.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster.id.as_ref().and_then(|id| id.parse().ok())
    }

    /// All that can't be, one sentence each.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |holds: bool, sentence: String| {
            if !holds {
                wrong.push(sentence);
            }
        };
        if let Some(id) = &self.cluster.id {
            let parsed = id.parse::<ClusterId>();
            let reason = parsed.as_ref().err().map(ToString::to_string).unwrap_or_default();
            check(
                parsed.is_ok(),
                format!("cluster.id: {reason}; take 1 to 32 of [a-z0-9-]"),
            );
        }
        check(
            !self.node.data.as_os_str().is_empty(),
            "node.data: it is required: the data folder that `meridian init` made".to_owned(),
        );
        check(
            self.node.worker_threads <= 256,
            "node.worker_threads: more than 256 can't be".to_owned(),
        );
        check(
            self.core.inline_sync_us_max <= 1_000_000,
            "core.inline_sync_us_max: more than 1000000 can't be".to_owned(),
        );
        let chosen = self
            .core
            .processor
            .iter()
            .map(|processor| ("core.processor", *processor))
            .chain(
                self.node
                    .worker_processors
                    .iter()
                    .map(|processor| ("node.worker_processors", *processor)),
            );
        for (key, processor) in chosen {
            check(
                processors::may_be_used(processor),
                format!("{key}: there is no processor {processor} that this process may use"),
            );
        }
        check(
            self.tls.certificate.is_some() == self.tls.private_key.is_some(),
            "tls: certificate and private_key belong together; only one of them is given".to_owned(),
        );
        let peers = &self.peers;
        check(
            peers.files().is_some()
                || [&peers.certificate, &peers.private_key, &peers.ca]
                    .iter()
                    .all(|file| file.is_none()),
            "peers: certificate, private_key and ca belong together; only some of them are given".to_owned(),
        );
        for node in peers.addresses.keys() {
            check(
                node.parse::<u64>().is_ok_and(|node| node > 0),
                format!("peers.addresses: {node:?} is no node's id; it must be a whole number from 1"),
            );
        }
        check(
            peers.clock_offset_ms_max > 0,
            "peers.clock_offset_ms_max: must be more than 0".to_owned(),
        );
        for fault in self.sites.faults() {
            check(false, fault);
        }
        check(
            self.sites.region.is_none() || self.node.role == NodeRole::Node,
            "sites.region: a gateway can't be part of a cluster of two regions".to_owned(),
        );
        check(
            self.sites.region.is_none() || peers.files().is_some(),
            "sites.region: a region's nodes need [peers] certificate, private_key and ca".to_owned(),
        );
        let GatewayLimits {
            connections_max,
            requests_per_key_burst,
            requests_per_key_per_second,
            requests_per_address_burst,
            requests_per_address_per_second,
            ref proxy_protocol_from,
        } = self.gateway;
        check(
            proxy_protocol_from.len() <= PROXIES_MAX,
            format!("gateway.proxy_protocol_from: more than {PROXIES_MAX} can't be"),
        );
        for (key, number) in [
            ("connections_max", u32::try_from(connections_max).unwrap_or(u32::MAX)),
            ("requests_per_key_burst", requests_per_key_burst),
            ("requests_per_key_per_second", requests_per_key_per_second),
            ("requests_per_address_burst", requests_per_address_burst),
            ("requests_per_address_per_second", requests_per_address_per_second),
        ] {
            check(
                (1..=10_000_000).contains(&number),
                format!("gateway.{key}: {number} is not between 1 and 10000000"),
            );
        }
        let ListenConfig {
            public,
            admin,
            operations,
        } = self.listen;
        let mut listen = vec![
            ("listen.public", public),
            ("listen.admin", admin),
            ("listen.operations", operations),
            ("peers.listen", self.peers.listen),
        ];
        if self.sites.region.is_some() {
            listen.push(("sites.listen", self.sites.listen));
        }
        for (index, (name, one)) in listen.iter().enumerate() {
            for (other_name, other) in &listen[index + 1..] {
                check(
                    one != other || one.port() == 0,
                    format!("{name} and {other_name}: both are {one}"),
                );
            }
        }
        check(
            self.logs.level.parse::<tracing_subscriber::EnvFilter>().is_ok(),
            format!("logs.level: {:?} is neither a level nor a filter", self.logs.level),
        );
        let between = |size: Size, low: Size, high: Size| (low..=high).contains(&size);
        for (key, size, low, high) in [
            (
                "journal.segment_size",
                self.journal.segment_size,
                Size::mib(4),
                Size::mib(1 << 10),
            ),
            (
                "snapshots.journal_size",
                self.snapshots.journal_size,
                Size::mib(1),
                Size::mib(1 << 20),
            ),
            (
                "events.segment_size",
                self.events.segment_size,
                Size::mib(1),
                Size::mib(1 << 10),
            ),
            (
                "events.memory_size_max",
                self.events.memory_size_max,
                Size::mib(1),
                Size::mib(4 << 10),
            ),
        ] {
            check(
                between(size, low, high),
                format!("{key}: {size} is not between {low} and {high}"),
            );
        }
        check(
            self.events.size_max.0 >= 2 * self.events.segment_size.0,
            "events.size_max: it must be at least two segments".to_owned(),
        );
        check(
            self.disk.free_alarm > self.disk.free_min,
            "disk.free_alarm: it must be above disk.free_min".to_owned(),
        );
        wrong
    }
}

#[cfg(test)]
mod site_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("meridian.toml"), text)
    }

    #[test]
    fn the_default_file_says_the_defaults() {
        let text = DEFAULT.replace("# data =", "data =");
        let expected = Config {
            node: NodeConfig {
                role: NodeRole::Node,
                data: "/var/lib/meridian".into(),
                worker_threads: 0,
                worker_processors: Vec::new(),
            },
            ..Config::default()
        };
        assert_eq!(parse(&text).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_said_by_its_key() {
        let data = "[node]\ndata = \"d\"\n";
        for (text, said) in [
            ("", "node.data"),
            ("[node]\ndata = \"d\"\nthreads = 1", "unknown field `threads`"),
            ("[nodes]", "unknown field `nodes`"),
            ("[node", "unclosed table"),
            ("[listen]\npublic = \"localhost\"", "invalid socket address"),
            (
                &format!("{data}[listen]\npublic = \"127.0.0.1:7412\""),
                "listen.public and listen.admin: both are 127.0.0.1:7412",
            ),
            (
                &format!("{data}worker_processors = [0, 5000]"),
                "node.worker_processors: there is no processor 5000",
            ),
            (
                &format!("{data}[core]\nprocessor = 5000"),
                "core.processor: there is no processor 5000",
            ),
            (&format!("{data}[core]\nidle = \"sleep\""), "unknown variant `sleep`"),
            (
                &format!("{data}[core]\ninline_sync_us_max = 1000001"),
                "core.inline_sync_us_max: more than",
            ),
            (
                &format!("{data}[gateway]\nconnections_max = 0"),
                "gateway.connections_max: 0 is not",
            ),
            (&format!("{data}[logs]\nformat = \"xml\""), "unknown variant `xml`"),
            (&format!("{data}[logs]\nlevel = \"loud=very\""), "logs.level"),
            (
                &format!("{data}[tls]\ncertificate = \"c.pem\""),
                "certificate and private_key belong together",
            ),
            (
                &format!("{data}[peers]\ncertificate = \"c.pem\"\nca = \"ca.pem\""),
                "certificate, private_key and ca belong together",
            ),
            (
                &format!("{data}[peers]\nlisten = \"127.0.0.1:7412\""),
                "listen.admin and peers.listen: both are 127.0.0.1:7412",
            ),
            (&format!("{data}[cluster]\nid = \"My Exchange\""), "cluster.id"),
            (
                &format!("{data}[journal]\nsegment_size = \"1 KiB\""),
                "journal.segment_size: 1 KiB is not between",
            ),
            (&format!("{data}[journal]\nsegment_size = \"much\""), "a size such as"),
            (&format!("{data}[events]\nsize_max = \"1 MiB\""), "events.size_max"),
            (&format!("{data}[disk]\nfree_min = \"3 GiB\""), "disk.free_alarm"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(said), "{text:?} gave {message:?}");
            assert!(message.contains("meridian.toml"), "{message:?}");
        }
    }
}
