//! The folder of a demo of several nodes: everything that they need to find and to trust each other.
//!
//! ```text
//!  LOCK.nodes     held for as long as a demo uses the folder
//!  nodes.toml     how many nodes, and their ports; written last, so that half of a demo is none
//!  demo.toml      the demo's keys, and where the nodes listen; mode 0600
//!  ca/            the authority of the cluster
//!  node-1/        data/, node.pem, node.key, ca.pem, meridian.toml, log
//!  node-2/ ...    the same
//! ```

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use wire::journal::NodeId;
use wire::membership::FOUNDER;
use wire::peer::Role;

use super::{DemoFile, complete};
use crate::assembly::{Node, SEALING_KEY};
use crate::config::{Config, ListenConfig};
use crate::data_folder::DataFolder;
use crate::listeners::{BusyPort, Listeners, bind};
use crate::new_cluster;
use crate::peers::authority::{Authority, Validity};
use crate::peers::name::{PeerName, Region};

/// The file that says how many nodes there are, and where they listen.
const FILE: &str = "nodes.toml";
/// Where all of them are.
const REGION: &str = "demo";
/// How long the authority and the certificates hold: ten years.
const DAYS: u32 = 3_652;
/// From one node's first port to the next one's.
const PORTS_APART: u16 = 10;
/// For how long a port by which the other nodes know one may still be in use, by a node of an earlier demo that is stopping.
const PORT_WAIT: Duration = Duration::from_secs(10);

/// What `nodes.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    /// One a node, in the order of their ids, from 1 on.
    #[serde(rename = "node")]
    nodes: Vec<Addresses>,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// Clients.
    pub public: SocketAddr,
    /// Operators.
    pub admin: SocketAddr,
    /// Health and metrics.
    pub operations: SocketAddr,
    /// The other nodes, which know it by this.
    pub peers: SocketAddr,
}

/// The folder of a demo of several nodes, ready to be run.
pub struct Nodes {
    /// Held for as long as the demo runs.
    folder: DataFolder,
    /// The keys, and where the nodes listen.
    pub file: DemoFile,
    /// One a node, in the order of their ids, from 1 on.
    pub addresses: Vec<Addresses>,
}

/// How many nodes the demo in a folder has, if it is one of several.
pub fn count_in(path: &Path) -> Result<Option<usize>> {
    Ok(read(path)?.map(|description| description.nodes.len()))
}

fn read(folder: &Path) -> Result<Option<Description>> {
    let path = folder.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text)
            .with_context(|| format!("understand {}", path.display()))
            .map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

impl Nodes {
    /// Takes the demo that is in the folder, or makes one of so many nodes. `first_port` is the first that a new one tries.
    pub fn open(path: &Path, count: usize, first_port: u16, config: &Config) -> Result<Self> {
        if path.join("cluster.toml").exists() {
            bail!(
                "the folder {} belongs to a single node; choose another one with --data for {count}",
                path.display()
            );
        }
        // Seen from everywhere: the nodes' configurations name it.
        std::fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        let path = std::fs::canonicalize(path).with_context(|| format!("find {}", path.display()))?;
        let folder = DataFolder::of_nodes(&path)?;
        let mut nodes = match read(&path)? {
            Some(Description { nodes: addresses }) => {
                let found = addresses.len();
                ensure!(
                    found == count,
                    "the demo in {} has {found} nodes, not {count}; start it with --nodes {found}, or choose another \
                     folder with --data",
                    path.display()
                );
                let file = DemoFile::read(&folder)?;
                let addresses = choose(&addresses, BusyPort::Refuse)?;
                Self {
                    folder,
                    file,
                    addresses,
                }
            }
            None => Self::make(folder, count, first_port, config)?,
        };
        nodes.write()?;
        Ok(nodes)
    }

    fn make(folder: DataFolder, count: usize, first_port: u16, config: &Config) -> Result<Self> {
        let others = std::fs::read_dir(folder.path())?.count() - 1;
        ensure!(
            others == 0,
            "make a demo in {}: there is something in it already. If the making of a demo was cut off, remove the folder; \
             else choose another one with --data",
            folder.path().display()
        );
        let cluster = new_cluster::random_cluster_id("demo");
        let data = |index: usize| node_folder(&folder, index).join("data");
        let (first, identity) = new_cluster::create(&data(0), cluster, config)?;
        let sealing = std::fs::read(first.file(SEALING_KEY)).context("read the sealing key")?;
        let mut file = DemoFile::generate(cluster);
        let node = Node::start(first, identity, config)?;
        let completed = complete(&*node.core(), &*node.events(), &folder, &mut file);
        let stopped = node.stop();
        completed?;
        stopped.folder.finish(&identity)?;
        stopped.graceful()?;
        for index in 1..count {
            new_cluster::create_further(&data(index), cluster, id_of(index), FOUNDER, None, &sealing, config)?;
        }

        let (authority, ca) = Authority::generate(cluster, Validity::days(DAYS))?;
        std::fs::create_dir_all(folder.file("ca")).context("make the authority's folder")?;
        folder.write("ca/ca.key", ca.private_key.as_bytes(), 0o600)?;
        folder.write("ca/ca.pem", ca.certificate.as_bytes(), 0o644)?;
        let region: Region = REGION.parse().expect("it is a region's name");
        for index in 0..count {
            let name = PeerName {
                cluster,
                region,
                node: id_of(index),
                role: Role::Node,
            };
            let pair = authority.issue(&name, Validity::days(DAYS))?;
            let file = |name: &str| format!("{}/{name}", node_name(index));
            folder.write(&file("node.key"), pair.private_key.as_bytes(), 0o600)?;
            folder.write(&file("node.pem"), pair.certificate.as_bytes(), 0o644)?;
            folder.write(&file("ca.pem"), ca.certificate.as_bytes(), 0o644)?;
        }
        let addresses = choose(&wanted(count, first_port), BusyPort::MoveOn)?;
        Ok(Self {
            folder,
            file,
            addresses,
        })
    }

    /// Writes down what this start goes by.
    fn write(&mut self) -> Result<()> {
        let urls = |address: fn(&Addresses) -> SocketAddr| {
            let urls = self.addresses.iter().map(|node| format!("http://{}", address(node)));
            Some(urls.collect::<Vec<_>>().join(","))
        };
        (self.file.public, self.file.admin) = (urls(|node| node.public), urls(|node| node.admin));
        self.file.write(&self.folder)?;
        for index in 0..self.addresses.len() {
            let name = format!("{}/meridian.toml", node_name(index));
            self.folder.write(&name, self.config_of(index).as_bytes(), 0o644)?;
        }
        let mut text = "# The nodes of this folder's demo, and where they listen.\n".to_owned();
        for node in &self.addresses {
            let Addresses {
                public,
                admin,
                operations,
                peers,
            } = node;
            let _ = write!(
                text,
                "\n[[node]]\npublic = \"{public}\"\nadmin = \"{admin}\"\noperations = \"{operations}\"\npeers = \"{peers}\"\n"
            );
        }
        Ok(self.folder.write(FILE, text.as_bytes(), 0o644)?)
    }

    /// A node's configuration: nobody waits for a limit, and only what matters is logged.
    fn config_of(&self, index: usize) -> String {
        let folder = self.node_folder(index);
        let file = |name: &str| folder.join(name);
        let Addresses {
            public,
            admin,
            operations,
            peers,
        } = self.addresses[index];
        let all = self.addresses.iter().enumerate();
        let all: Vec<String> = all
            .map(|(index, node)| format!("{} = \"{}\"", id_of(index).0, node.peers))
            .collect();
        let level = std::env::var("MERIDIAN_LOG").unwrap_or_else(|_| "warn".to_owned());
        format!(
            "# Written by `meridian demo` at each of its starts.\n\
             [cluster]\nid = {cluster:?}\n\n[node]\ndata = {data:?}\n\n\
             [listen]\npublic = \"{public}\"\nadmin = \"{admin}\"\noperations = \"{operations}\"\n\n\
             [peers]\nlisten = \"{peers}\"\ncertificate = {certificate:?}\nprivate_key = {private_key:?}\nca = {ca:?}\n\
             addresses = {{ {all} }}\n\n\
             [gateway]\nrequests_per_key_burst = 1000000\nrequests_per_key_per_second = 1000000\n\
             requests_per_address_burst = 1000000\nrequests_per_address_per_second = 1000000\n\n\
             [logs]\nlevel = {level:?}\n",
            cluster = self.file.cluster_id,
            data = file("data"),
            certificate = file("node.pem"),
            private_key = file("node.key"),
            ca = file("ca.pem"),
            all = all.join(", "),
        )
    }

    /// The folder of a node, by its index.
    pub fn node_folder(&self, index: usize) -> PathBuf {
        node_folder(&self.folder, index)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// A node's id, by its index.
pub fn id_of(index: usize) -> NodeId {
    NodeId(FOUNDER.0 + index as u64)
}

fn node_name(index: usize) -> String {
    format!("node-{}", id_of(index).0)
}

fn node_folder(folder: &DataFolder, index: usize) -> PathBuf {
    folder.file(&node_name(index))
}

/// Where the nodes of a new demo would listen if nobody else did.
fn wanted(count: usize, first_port: u16) -> Vec<Addresses> {
    let mut port = first_port;
    let mut wanted = Vec::new();
    for _ in 0..count {
        let address = |offset: u16| SocketAddr::from(([127, 0, 0, 1], port.saturating_add(offset)));
        wanted.push(Addresses {
            public: address(0),
            admin: address(1),
            operations: address(2),
            peers: address(3),
        });
        port = port.saturating_add(PORTS_APART);
    }
    wanted
}

/// Ports that are free now, those that are wanted if possible. The nodes know each other by their peers' ports, which move on
/// only before they do. All are held until the last is found, so that none is found twice.
fn choose(wanted: &[Addresses], busy_peers: BusyPort) -> Result<Vec<Addresses>> {
    let mut peers = Vec::new();
    for node in wanted {
        peers.push(bind_patiently(node.peers, busy_peers)?);
    }
    let (mut held, mut chosen) = (Vec::new(), Vec::new());
    for (node, peers) in wanted.iter().zip(&peers) {
        let config = ListenConfig {
            public: node.public,
            admin: node.admin,
            operations: node.operations,
        };
        let listeners = Listeners::bind(&config, BusyPort::MoveOn)?;
        chosen.push(Addresses {
            public: listeners.public.local_addr()?,
            admin: listeners.admin.local_addr()?,
            operations: listeners.operations.local_addr()?,
            peers: peers.local_addr()?,
        });
        held.push(listeners);
    }
    Ok(chosen)
}

fn bind_patiently(address: SocketAddr, busy: BusyPort) -> Result<TcpListener> {
    let give_up_at = Instant::now() + PORT_WAIT;
    loop {
        match bind("the other nodes", address, busy) {
            Ok(listener) => return Ok(listener),
            Err(error) if busy == BusyPort::MoveOn => return Err(error.into()),
            Err(error) if Instant::now() >= give_up_at => {
                return Err(error).context("the other nodes know the node by this port, so another one will not do");
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_kept_where_they_are_free_and_are_all_different() {
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = busy.local_addr().unwrap().port();
        let chosen = choose(&wanted(3, first), BusyPort::MoveOn).unwrap();
        let of = |node: &Addresses| [node.public, node.admin, node.operations, node.peers];
        let mut ports: Vec<u16> = chosen.iter().flat_map(of).map(|address| address.port()).collect();
        assert!(!ports.contains(&first));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 12);
    }

    #[test]
    fn what_is_no_demo_of_so_many_nodes_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |count: usize| {
            let opened = Nodes::open(folder.path(), count, 7411, &Config::default());
            opened.err().unwrap().to_string()
        };
        let address = "\"127.0.0.1:1\"";
        let node =
            format!("[[node]]\npublic = {address}\nadmin = {address}\noperations = {address}\npeers = {address}\n");
        std::fs::write(folder.path().join(FILE), node.repeat(3)).unwrap();
        assert_eq!(count_in(folder.path()).unwrap(), Some(3));
        let message = refused(5);
        assert!(
            message.contains("has 3 nodes, not 5; start it with --nodes 3"),
            "{message}"
        );
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        std::fs::write(folder.path().join("x"), "x").unwrap();
        let message = refused(3);
        assert!(message.contains("there is something in it already"), "{message}");
        std::fs::write(folder.path().join("cluster.toml"), "x").unwrap();
        let message = refused(3);
        assert!(message.contains("belongs to a single node"), "{message}");
    }
}
