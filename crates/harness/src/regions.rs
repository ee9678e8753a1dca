//! Two regions and a witness, each node a process of its own in a network namespace of its own.
//!
//! ```text
//!  clients ─────────────────────────> nodes of the near region ── relay ──┐
//!     └── relay, as far away ──> nodes of the far one ── relay ──┬── witness, relay
//! ```
//!
//! What sites send each other goes through a relay before whoever is dialled, which delays it in both directions; what nodes
//! of one region say to each other does not. A relay takes a connection at once: of a dial only what follows on it is late.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use client::Credentials;
use wire::json::{MemberRole, NewMemberRole};

use crate::network::Network;
use crate::node::{CLUSTER_ID, Installation, Node};
use crate::operator::Operator;
use crate::relay::{Delay, Relay};

/// A node's port for its peers; the others' are before it.
const PEERS_PORT: u16 = 7414;
/// Its port for other sites.
const SITES_PORT: u16 = 7415;
/// Where a relay takes what is for that port.
const RELAY_PORT: u16 = 7416;
/// The regions' names.
const NAMES: [&str; 2] = ["uae", "singapore"];
/// By how much the ids of the second region's nodes, and of the witness, begin later.
const IDS_APART: u64 = 10;
/// How long a node may take to become a member, or a region to take its part.
const WITHIN: Duration = Duration::from_secs(60);
/// How long to wait between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How the regions are set up.
#[derive(Clone, Debug)]
pub struct RegionsOptions {
    /// Nodes of each region.
    pub nodes: usize,
    /// Whether answers wait for the standby.
    pub sync: bool,
    /// How long a renewal of the lease holds, in milliseconds.
    pub lease_ms: u64,
    /// How long bytes take from one site to another.
    pub each_way: Duration,
    /// Further sections of each node's configuration.
    pub settings: String,
}

/// Where everything is. The first region's nodes come first; the witness has the last place in the network.
#[derive(Debug)]
pub struct Regions {
    /// Each node's folder, configuration and ports.
    pub nodes: Vec<Installation>,
    /// The witness's.
    pub witness: Installation,
    /// How it is set up.
    pub options: RegionsOptions,
    sites: Vec<Relay>,
    /// How clients that are far away reach each node.
    fronts: Vec<Relay>,
    authority: PathBuf,
    operators: u64,
}

/// What runs; none: it doesn't.
#[derive(Debug)]
pub struct RegionsProcesses {
    /// The nodes.
    pub nodes: Vec<Option<Node>>,
    /// The witness.
    pub witness: Option<Node>,
}

impl Regions {
    /// How many places in the network so many nodes of a region take.
    pub const fn places(nodes: usize) -> usize {
        2 * nodes + 1
    }

    /// Writes the configurations.
    ///
    /// # Errors
    /// What the disk or the network says.
    pub fn new(meridian: &Path, work: &Path, network: &Network, options: RegionsOptions) -> io::Result<Self> {
        let mut all = Vec::new();
        let (mut sites, mut fronts) = (Vec::new(), Vec::new());
        let count = 2 * options.nodes;
        for place in 0..Self::places(options.nodes) {
            let work = work.join(format!("node-{}", id_of(place, options.nodes)));
            std::fs::create_dir_all(&work)?;
            let mut node = Installation::new(meridian, &work.join("data"), &work, "")?;
            let at = |port| SocketAddr::new(network.address(place), port);
            node.namespace = Some(network.namespace(place));
            (node.public, node.admin, node.operations) = (at(PEERS_PORT - 3), at(PEERS_PORT - 2), at(PEERS_PORT - 1));
            let relay = Relay::new(node.namespace.as_deref(), at(RELAY_PORT), at(SITES_PORT))?;
            relay.set_delay(None, Delay::each_way(options.each_way));
            let same_region =
                (0..count).filter(|other| place < count && other / options.nodes == place / options.nodes);
            for other in same_region {
                relay.set_delay(Some(network.address(other)), Delay::default());
            }
            sites.push(relay);
            if place < count {
                let front = Relay::new(None, (IpAddr::from(Ipv4Addr::LOCALHOST), 0).into(), node.public)?;
                front.set_delay(None, Delay::each_way(options.each_way));
                fronts.push(front);
            }
            all.push(node);
        }
        let witness = all.pop().ok_or_else(|| io::Error::other("there is no witness"))?;
        let regions = Self {
            nodes: all,
            witness,
            options,
            sites,
            fronts,
            authority: work.join("authority"),
            operators: 0,
        };
        for (place, node) in regions.nodes.iter().enumerate() {
            let region = regions.region_of(place);
            let settings = [
                regions.options.settings.clone(),
                regions.peers_section(place, network),
                regions.sites_section(place, network, &format!("region = \"{}\"\n", NAMES[region])),
            ];
            node.configure(&settings.concat())?;
        }
        let place = regions.nodes.len();
        let mut settings = vec![format!("\n[cluster]\nid = \"{CLUSTER_ID}\"\n")];
        settings.push(regions.peers_section(place, network));
        settings.push(regions.sites_section(place, network, ""));
        regions.witness.configure(&settings.concat())?;
        Ok(regions)
    }

    /// The index of the region of a node.
    pub fn region_of(&self, node: usize) -> usize {
        node / self.options.nodes
    }

    /// The nodes of a region.
    pub fn nodes_of(&self, region: usize) -> std::ops::Range<usize> {
        region * self.options.nodes..(region + 1) * self.options.nodes
    }

    /// The index of the region of this name.
    pub fn region_named(name: &str) -> Option<usize> {
        NAMES.iter().position(|other| *other == name)
    }

    /// The index of the node with this id.
    pub fn node_with_id(&self, id: u64) -> Option<usize> {
        (0..self.nodes.len()).find(|node| self.id_of(*node) == id)
    }

    /// A node's id.
    pub fn id_of(&self, node: usize) -> u64 {
        id_of(node, self.options.nodes)
    }

    /// Where a client that is far away from a node reaches it.
    pub fn from_afar(&self, node: usize) -> SocketAddr {
        self.fronts[node].address()
    }

    /// What this region and the other sites have on the way to each other is lost, and neither hears of it.
    pub fn swallow(&self, region: usize) {
        let own = self.nodes_of(region);
        for (place, relay) in self.sites.iter().enumerate() {
            for other in 0..self.nodes.len() + 1 {
                // Within a region nothing is lost.
                if own.contains(&place) != own.contains(&other) {
                    relay.swallow(Some(self.sites[other].address().ip()));
                }
            }
        }
    }

    fn certificates(&self, place: usize) -> PathBuf {
        self.authority
            .with_file_name(format!("certificates-{}", self.id_of(place)))
    }

    fn peers_section(&self, place: usize, network: &Network) -> String {
        let folder = self.certificates(place);
        let peers = match place < self.nodes.len() {
            true => self.nodes_of(self.region_of(place)),
            false => place..place,
        };
        let addresses = peers.map(|node| {
            let (id, address) = (self.id_of(node), network.address(node));
            format!("{id} = \"{address}:{PEERS_PORT}\"")
        });
        let addresses: Vec<String> = addresses.collect();
        format!(
            "\n[peers]\nlisten = \"{address}:{PEERS_PORT}\"\nadvertise = \"{address}:{PEERS_PORT}\"\ncertificate = {certificate:?}\n\
             private_key = {private_key:?}\nca = {ca:?}\naddresses = {{ {addresses} }}\n",
            address = network.address(place),
            certificate = folder.join("node.pem"),
            private_key = folder.join("node.key"),
            ca = folder.join("ca.pem"),
            addresses = addresses.join(", "),
        )
    }

    fn sites_section(&self, place: usize, network: &Network, region: &str) -> String {
        let RegionsOptions {
            nodes, sync, lease_ms, ..
        } = &self.options;
        let witness = self.nodes.len();
        let ids = [0, *nodes, witness].map(|place| self.id_of(place));
        let regions = [0, 1].map(|region| {
            let address = |node: usize| format!("{} = \"{}\"", self.id_of(node), self.sites[node].address());
            let nodes: Vec<String> = self.nodes_of(region).map(address).collect();
            let url = self.nodes[self.nodes_of(region).start].public;
            format!(
                "[[sites.regions]]\nid = {id}\nname = \"{name}\"\nurl = \"http://{url}\"\nnodes = {{ {nodes} }}\n",
                id = region + 1,
                name = NAMES[region],
                nodes = nodes.join(", "),
            )
        });
        format!(
            "\n[sites]\n{region}listen = \"{address}:{SITES_PORT}\"\nlease_voters = {ids:?}\nfirst_active = \"{first}\"\n\
             durability = \"{durability}\"\nlease_ms = {lease_ms}\n{regions}[sites.witness]\nnode = {id}\naddress = \"{at}\"\n",
            address = network.address(place),
            first = NAMES[0],
            durability = if *sync { "sync" } else { "async" },
            regions = regions.concat(),
            id = self.id_of(witness),
            at = self.sites[witness].address(),
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
        for place in 0..=self.nodes.len() {
            let (number, out) = (self.id_of(place).to_string(), self.certificates(place));
            let (region, role) = match place < self.nodes.len() {
                true => (NAMES[self.region_of(place)], "node"),
                false => ("witness", "witness"),
            };
            let out = out.to_string_lossy();
            let whose = ["--node", &number, "--region", region, "--role", role, "--out", &out];
            first.command(&[&["cluster", "issue", "--ca", &authority], &whose[..]].concat())?;
        }
        let admin = first.init()?;
        let key = first.data.join("sealing.key");
        for place in 1..self.nodes.len() {
            let (node, id) = (&self.nodes[place], self.id_of(place));
            match place == self.options.nodes {
                true => node.init_first_of_region(id, &key)?,
                false => node.init_further(id, &key)?,
            }
        }
        Ok(admin)
    }

    /// Starts everything and makes each region's nodes one group.
    ///
    /// # Errors
    /// If they don't become that in time.
    pub async fn start(&mut self, admin: &Credentials) -> io::Result<RegionsProcesses> {
        let witness = self.witness.start_as("witness", &["--new"])?;
        let nodes: io::Result<Vec<Node>> = self.nodes.iter().map(Installation::start).collect();
        let mut nodes = nodes?;
        nodes[0].wait_until_ready()?;
        for region in 0..2 {
            let members = self.nodes_of(region);
            let first = members.start;
            // The second region knows the operator's key once it has followed that far.
            let until = Instant::now() + WITHIN;
            while !nodes[first].is_live()? && Instant::now() < until {
                std::thread::sleep(LOOK_EVERY);
            }
            let mut operator = self.operator(first, admin).await?;
            for node in members.skip(1) {
                self.add_member(&mut operator, node).await?;
            }
        }
        Ok(RegionsProcesses {
            nodes: nodes.into_iter().map(Some).collect(),
            witness: Some(witness),
        })
    }

    async fn add_member(&self, operator: &mut Operator, node: usize) -> io::Result<()> {
        let id = self.id_of(node);
        let address = format!("{}:{PEERS_PORT}", self.nodes[node].public.ip());
        let until = Instant::now() + WITHIN;
        let mut last = String::new();
        while Instant::now() < until {
            // A region that only begins to follow refuses for a while.
            if let Err(error) = operator.add_member(id, address.clone(), NewMemberRole::Voter).await {
                last = error.to_string();
            }
            match operator.cluster().await {
                Ok(status) => {
                    let mut members = status.members.iter();
                    if members.any(|member| member.node == id && member.role == MemberRole::Voter) {
                        return Ok(());
                    }
                }
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(io::Error::other(format!("node {id} did not become a voter: {last}")))
    }

    /// An operator at a node.
    ///
    /// # Errors
    /// What the client says.
    pub async fn operator(&mut self, node: usize, admin: &Credentials) -> io::Result<Operator> {
        self.operators += 1;
        let name = format!("operator-{}", self.operators);
        let operator = Operator::named(&name, self.nodes[node].admin, admin.clone()).await;
        operator.map_err(io::Error::other)
    }
}

/// The id of whoever has this place: 1, 2, … of the first region, 11, 12, … of the second, then the witness.
fn id_of(place: usize, nodes: usize) -> u64 {
    let (block, within) = (place / nodes, place % nodes);
    block as u64 * IDS_APART + within as u64 + 1
}
