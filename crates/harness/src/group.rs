//! A group of nodes, each a process of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::{ClientError, Credentials};
use wire::json::{ClusterStatus, MemberRole};

use crate::network::Network;
use crate::node::{CLUSTER_ID, Installation, Node};
use crate::operator::Operator;

/// The port of a node that has an address of its own, for its peers; the others' are before it.
const PEERS_PORT: u16 = 7414;
/// How long a node may take to become a voter, or the group to find a leader.
const WITHIN: Duration = Duration::from_secs(60);
/// How long to wait between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the nodes of a group are. A node's index is one less than its id.
#[derive(Debug)]
pub struct Group {
    /// Each node's folder, configuration and ports.
    pub nodes: Vec<Installation>,
    peers: Vec<SocketAddr>,
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
    ) -> io::Result<Self> {
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
            nodes.push(node);
        }
        let group = Self {
            nodes,
            peers,
            authority: work.join("authority"),
            operators: 0,
        };
        for (index, node) in group.nodes.iter().enumerate() {
            node.configure(&format!("{settings}{}", group.peers_section(index)))?;
        }
        Ok(group)
    }

    fn certificates(&self, index: usize) -> PathBuf {
        self.authority.with_file_name(format!("certificates-{}", index + 1))
    }

    fn peers_section(&self, index: usize) -> String {
        let folder = self.certificates(index);
        let addresses = self.peers.iter().zip(1..);
        let addresses: Vec<String> = addresses.map(|(peer, node)| format!("{node} = \"{peer}\"")).collect();
        format!(
            "\n[peers]\nlisten = \"{listen}\"\ncertificate = {certificate:?}\nprivate_key = {private_key:?}\nca = {ca:?}\n\
             addresses = {{ {addresses} }}\n",
            listen = self.peers[index],
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
            let place = ["--node", &number, "--region", "uae", "--out", &out];
            first.command(&[&["cluster", "issue", "--ca", &authority], &place[..]].concat())?;
            if index > 0 {
                installation.init_further(node, &first.data.join("sealing.key"))?;
            }
        }
        Ok(admin)
    }

    /// Starts all nodes and makes them one group of voters.
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
            let address = self.peers[index].to_string();
            operator.add_voter(node, address).await.map_err(io::Error::other)?;
            let until = Instant::now() + WITHIN;
            loop {
                let status = operator.cluster().await.map_err(io::Error::other)?;
                let mut members = status.members.iter();
                if members.any(|member| member.node == node && member.role == MemberRole::Voter) {
                    break;
                }
                if Instant::now() > until {
                    return Err(io::Error::other(format!(
                        "node {node} did not become a voter: {status:?}"
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
