//! A group of nodes, each a process of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::{ClientError, Credentials};
use wire::json::{ClusterStatus, MemberRole, NewMemberRole};

use crate::network::Network;
use crate::node::{CLUSTER_ID, Installation, Node};
use crate::operator::Operator;
use crate::relay::{Delay, Relay};

/// The port of a node that has an address of its own, for its peers; the others' are before it.
const PEERS_PORT: u16 = 7414;
/// Where a relay takes what is for that port.
const RELAY_PORT: u16 = PEERS_PORT + 1;
/// How long a node may take to become a member, or the group to find a leader.
const WITHIN: Duration = Duration::from_secs(60);
/// How long to wait between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a group may have besides its voters.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupOptions {
    /// How many of its nodes, the last ones, are gateways: they take clients, and have no vote.
    pub gateways: usize,
    /// Whether what peers send each other goes through relays, which can delay it.
    pub relays: bool,
}

/// Where the nodes of a group are. A node's index is one less than its id.
#[derive(Debug)]
pub struct Group {
    /// Each node's folder, configuration and ports.
    pub nodes: Vec<Installation>,
    options: GroupOptions,
    peers: Vec<SocketAddr>,
    /// One before each node, if there are any. It stands where the node is: whatever happens to frames happens to those
    /// of the relay.
    relays: Vec<Relay>,
    authority: PathBuf,
    operators: u64,
}

impl Group {
    /// Chooses ports and writes the configurations of as many nodes as there are folders; `settings` are further sections.
    /// With a network each node is in a namespace of its own.
    ///
    /// # Errors
    /// What the disk or the network says.
    pub fn new(
        meridian: &Path,
        data: &[PathBuf],
        work: &Path,
        settings: &str,
        network: Option<&Network>,
        options: GroupOptions,
    ) -> io::Result<Self> {
        let mut relays = Vec::new();
        let mut nodes = Vec::new();
        let mut peers = Vec::new();
        for (index, data) in data.iter().enumerate() {
            let work = work.join(format!("node-{}", index + 1));
            std::fs::create_dir_all(&work)?;
            let mut node = Installation::new(meridian, data, &work, "")?;
            if let Some(network) = network {
                let address = network.address(index);
                node.namespace = Some(network.namespace(index));
                node.public = SocketAddr::new(address, PEERS_PORT - 3);
                node.admin = SocketAddr::new(address, PEERS_PORT - 2);
                node.operations = SocketAddr::new(address, PEERS_PORT - 1);
                peers.push(SocketAddr::new(address, PEERS_PORT));
            } else {
                peers.push(TcpListener::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0))?.local_addr()?);
            }
            if options.relays {
                let listen = match network {
                    Some(network) => SocketAddr::new(network.address(index), RELAY_PORT),
                    None => (Ipv4Addr::LOCALHOST, 0).into(),
                };
                relays.push(Relay::new(node.namespace.as_deref(), listen, peers[index])?);
            }
            nodes.push(node);
        }
        let group = Self {
            nodes,
            options,
            peers,
            relays,
            authority: work.join("authority"),
            operators: 0,
        };
        for (index, node) in group.nodes.iter().enumerate() {
            let role = if group.is_gateway(index) {
                "role = \"gateway\"\n"
            } else {
                ""
            };
            node.configure(&format!("{role}{settings}{}", group.peers_section(index)))?;
        }
        Ok(group)
    }

    /// True if the node has no vote.
    pub fn is_gateway(&self, index: usize) -> bool {
        index + self.options.gateways >= self.nodes.len()
    }

    /// How many voters it has, which are the first of its nodes.
    pub fn voters(&self) -> usize {
        self.nodes.len() - self.options.gateways
    }

    /// Sets how long what a node sends to its peers takes from now on, and what it receives from them. Without relays
    /// nothing can be delayed. Where all nodes have the same address, what it sends on connections that it made itself keeps
    /// its pace.
    pub fn delay_links(&self, index: usize, sends: Duration, receives: Duration) {
        for (other, relay) in self.relays.iter().enumerate() {
            if other == index {
                let delay = Delay {
                    there: receives,
                    back: sends,
                };
                relay.set_delay(None, delay);
            } else if !self.peers[index].ip().is_loopback() {
                let delay = Delay {
                    there: sends,
                    back: receives,
                };
                relay.set_delay(Some(self.peers[index].ip()), delay);
            }
        }
    }

    /// Where the others reach a node.
    fn advertised(&self, index: usize) -> SocketAddr {
        self.relays.get(index).map_or(self.peers[index], Relay::address)
    }

    fn certificates(&self, index: usize) -> PathBuf {
        self.authority.with_file_name(format!("certificates-{}", index + 1))
    }

    fn peers_section(&self, index: usize) -> String {
        let folder = self.certificates(index);
        let addresses = (0..self.nodes.len()).map(|node| format!("{} = \"{}\"", node + 1, self.advertised(node)));
        let addresses: Vec<String> = addresses.collect();
        format!(
            "\n[peers]\nlisten = \"{listen}\"\nadvertise = \"{advertise}\"\ncertificate = {certificate:?}\nprivate_key = {private_key:?}\nca = {ca:?}\n\
             addresses = {{ {addresses} }}\n",
            listen = self.peers[index],
            advertise = self.advertised(index),
            certificate = folder.join("node.pem"),
            private_key = folder.join("node.key"),
            ca = folder.join("ca.pem"),
            addresses = addresses.join(", "),
        )
    }

    /// Makes the authority, the certificates and the data folders; gives the operator's first key.
    ///
    /// # Errors
    /// What the program said.
    pub fn init(&self) -> io::Result<Credentials> {
        let first = &self.nodes[0];
        let authority = self.authority.to_string_lossy();
        first.command(&["cluster", "init-ca", "--out", &authority, "--cluster", CLUSTER_ID])?;
        let admin = first.init()?;
        for (index, installation) in self.nodes.iter().enumerate() {
            let (node, out) = (index as u64 + 1, self.certificates(index));
            let (number, out) = (node.to_string(), out.to_string_lossy());
            let role = if self.is_gateway(index) { "gateway" } else { "node" };
            let place = ["--node", &number, "--region", "uae", "--role", role, "--out", &out];
            first.command(&[&["cluster", "issue", "--ca", &authority], &place[..]].concat())?;
            if index > 0 {
                installation.init_further(node, &first.data.join("sealing.key"))?;
            }
        }
        Ok(admin)
    }

    /// Starts all nodes and makes them one group.
    ///
    /// # Errors
    /// If they don't become one in time.
    pub async fn start(&mut self, admin: &Credentials) -> io::Result<Vec<Node>> {
        let nodes: io::Result<Vec<Node>> = self.nodes.iter().map(Installation::start).collect();
        let mut nodes = nodes?;
        nodes[0].wait_until_ready()?;
        let mut operator = self.operator(0, admin).await?;
        for index in 1..self.nodes.len() {
            let node = index as u64 + 1;
            let address = self.advertised(index).to_string();
            let (new_role, role) = match self.is_gateway(index) {
                true => (NewMemberRole::Gateway, MemberRole::Gateway),
                false => (NewMemberRole::Voter, MemberRole::Voter),
            };
            let added = operator.add_member(node, address, new_role).await;
            added.map_err(io::Error::other)?;
            let until = Instant::now() + WITHIN;
            loop {
                let status = operator.cluster().await.map_err(io::Error::other)?;
                let mut members = status.members.iter();
                if members.any(|member| member.node == node && member.role == role) {
                    break;
                }
                if Instant::now() > until {
                    return Err(io::Error::other(format!(
                        "node {node} did not become a {role:?}: {status:?}"
                    )));
                }
                std::thread::sleep(LOOK_EVERY);
            }
            nodes[index].wait_until_ready()?;
        }
        Ok(nodes)
    }

    /// An operator at a node.
    ///
    /// # Errors
    /// What the client says.
    pub async fn operator(&mut self, index: usize, admin: &Credentials) -> io::Result<Operator> {
        self.operators += 1;
        let name = format!("operator-{}", self.operators);
        let operator = Operator::named(&name, self.nodes[index].admin, admin.clone()).await;
        operator.map_err(io::Error::other)
    }
}

/// The index of the node that leads, if the one that is asked knows one.
pub fn leader_of(status: &ClusterStatus) -> Option<usize> {
    status
        .leader
        .and_then(|leader| usize::try_from(leader).ok()?.checked_sub(1))
}

/// True if all know the same leader and have applied the same.
pub fn are_equal(statuses: &[Result<ClusterStatus, ClientError>]) -> bool {
    let known: Vec<_> = statuses.iter().flatten().collect();
    known.len() == statuses.len()
        && known.iter().all(|status| status.leader.is_some() && !status.repairing)
        && known
            .windows(2)
            .all(|two| two[0].leader == two[1].leader && two[0].applied == two[1].applied)
}
