//! What sites are to each other: the links between the nodes of all regions and the witness, and the lease group's voter.
//!
//! ```text
//!  core, region ── send() ──> SiteLinks ══ TLS, wide area ══> SiteLinks ── SiteInbox ──> region, follow stream
//!                                │ one PeerLinks of group LEASE_GROUP          │
//!                              Voter <── raft, LeaseAsk, LeaseSnapshot ────────┘
//! ```
//!
//! The links here are apart from those of a region's own group (`peers`): another port, another group in the greeting, so
//! that neither is ever mistaken for the other. They carry [`SiteMessage`]s, and consensus of the lease group alone.

pub mod follow;
pub mod region;
pub mod store;
#[cfg(test)]
mod tests;
pub mod voter;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use engine::ENGINE_VERSION;
use types::{ClusterId, EngineVersion, Incarnation};
use wire::journal::{Identity, NodeId};
use wire::peer::{Frame, Quarantined, RaftMessage, ReadableVersions, Role};
use wire::site::{LEASE_GROUP, SiteMessage, decode, encode};

use crate::config::Sites;
use crate::peers::{
    Direction, ExpectedPeer, LinkStatus, PeerConfig, PeerFiles, PeerLinks, PeerTls, PeerTlsError, RefusedStatus,
};
use crate::threads::Threads;
use voter::SiteSender;

/// How often it is logged that a site says what this program does not know.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Takes what other sites say. What one node says comes in order and one at a time; what this node says to itself comes on
/// the thread that said it. Nothing here may wait.
pub trait SiteInbox: Send + Sync {
    /// A message.
    fn message(&self, from: NodeId, message: SiteMessage);
    /// The lease group's consensus.
    fn raft(&self, from: NodeId, message: RaftMessage);
    /// Messages to this peer get through from now on, or no longer.
    fn link(&self, peer: NodeId, is_up: bool);
}

/// What the links between sites are made of.
#[derive(Clone, Debug)]
pub struct SiteLinksConfig {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// What it is for.
    pub role: Role,
    /// Where other sites reach it.
    pub listen: SocketAddr,
    /// Its certificate, and whom it believes: the same as within its group.
    pub files: PeerFiles,
    /// The sites.
    pub sites: Sites,
    /// Where a panic of a thread shows.
    pub threads: Arc<Threads>,
}

/// Why there are no links between sites.
#[derive(Debug, thiserror::Error)]
pub enum SiteLinksError {
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] PeerTlsError),
    /// The port.
    #[error("listen for other sites on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The threads.
    #[error("start the links to other sites: {0}")]
    Start(#[from] io::Error),
}

/// Who this node is in the lease group.
pub fn lease_identity(cluster: ClusterId, node: NodeId) -> Identity {
    Identity {
        cluster,
        group: LEASE_GROUP,
        incarnation: Incarnation(1),
        node,
    }
}

/// The links of this node to those of all sites.
pub struct SiteLinks {
    own: NodeId,
    inbox: Arc<dyn SiteInbox>,
    links: Arc<PeerLinks>,
}

impl fmt::Debug for SiteLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SiteLinks({})", self.own)
    }
}

impl SiteLinks {
    /// Loads the certificates, binds the port and starts the threads.
    ///
    /// # Errors
    /// If one of these can't be.
    pub fn start(config: SiteLinksConfig, inbox: Arc<dyn SiteInbox>) -> Result<Arc<Self>, SiteLinksError> {
        let address = config.listen;
        let listener = TcpListener::bind(address).map_err(|error| SiteLinksError::Listen { address, error })?;
        Self::start_on(listener, config, inbox)
    }

    /// The same with a port that is bound.
    pub fn start_on(
        listener: TcpListener,
        config: SiteLinksConfig,
        inbox: Arc<dyn SiteInbox>,
    ) -> Result<Arc<Self>, SiteLinksError> {
        let SiteLinksConfig {
            cluster,
            node,
            role,
            files,
            sites,
            threads,
            ..
        } = config;
        let config = PeerConfig {
            identity: lease_identity(cluster, node),
            role,
            // What sites say to each other has no versions of its own but the protocol's; the exchange's is told, so that newer
            // behaviour is switched on once the other region has it.
            reads: ReadableVersions {
                engine: ENGINE_VERSION.0,
                ..ReadableVersions::default()
            },
            engine_version: EngineVersion::FIRST,
            quarantined: Quarantined::of(&BTreeSet::new()),
            listener,
            tls: PeerTls::load(&files, cluster, node, role)?,
            peers: sites.addresses(),
            expected: expected(&sites),
            threads,
        };
        let (hears, learns) = (Arc::clone(&inbox), Arc::clone(&inbox));
        let log = LogLimiter::default();
        let links = PeerLinks::start(
            config,
            Arc::new(move |from, frame| take(&*hears, &log, from, frame)),
            Arc::new(move |change| {
                if change.direction == Direction::Out {
                    learns.link(change.peer, change.is_up);
                }
            }),
        )?;
        Ok(Arc::new(Self {
            own: node,
            inbox,
            links,
        }))
    }

    /// Sends a message, or drops it. Never waits. One to this node itself goes straight to its inbox. False if it is certain
    /// that it does not come; true promises nothing.
    pub fn send(&self, to: NodeId, message: &SiteMessage) -> bool {
        if to == self.own {
            self.inbox.message(to, message.clone());
            return true;
        }
        self.links.send(to, Frame::ControlRequest(encode(message).into()))
    }

    /// The same for the lease group's consensus.
    pub fn send_raft(&self, to: NodeId, message: RaftMessage) -> bool {
        self.links.send(to, Frame::Raft(message))
    }

    /// Bytes that wait to be sent to a node. Whoever sends a lot keeps this low.
    pub fn queued_bytes(&self, to: NodeId) -> usize {
        self.links.queued(to).map_or(0, |(_, bytes)| bytes)
    }

    /// How the links are, by node.
    pub fn status(&self) -> Vec<LinkStatus> {
        self.links.status()
    }

    /// Connections that were let go before they counted as a site's.
    pub fn refused(&self) -> RefusedStatus {
        self.links.refused()
    }

    /// Ends all links.
    pub fn stop(&self) {
        self.links.stop();
    }
}

impl SiteSender for SiteLinks {
    fn send(&self, to: NodeId, message: &SiteMessage) -> bool {
        Self::send(self, to, message)
    }

    fn send_raft(&self, to: NodeId, message: RaftMessage) -> bool {
        Self::send_raft(self, to, message)
    }
}

/// What each node's certificate must say. Names of regions were checked with the configuration.
fn expected(sites: &Sites) -> BTreeMap<NodeId, ExpectedPeer> {
    let of_region = sites.regions.values().flat_map(|site| {
        let (region, role) = (site.name.parse().ok(), Role::Node);
        let nodes = site.nodes.keys();
        nodes.map(move |node| (*node, ExpectedPeer { region, role }))
    });
    let witness = sites.witness.iter().map(|(node, _)| {
        let (region, role) = (None, Role::Witness);
        (*node, ExpectedPeer { region, role })
    });
    of_region.chain(witness).collect()
}

fn take(inbox: &dyn SiteInbox, log: &LogLimiter, from: NodeId, frame: Frame) {
    match frame {
        Frame::Raft(message) => inbox.raft(from, message),
        Frame::ControlRequest(bytes) => match decode(&bytes) {
            Some(message) => inbox.message(from, message),
            None => log.say(from, "a message that this program does not know"),
        },
        other => log.say(from, other.kind().name()),
    }
}

/// Lets a line into the log at most once every [`LOG_EVERY`].
#[derive(Debug, Default)]
struct LogLimiter(Mutex<Option<Instant>>);

impl LogLimiter {
    fn say(&self, from: NodeId, what: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= LOG_EVERY) {
            *last = Some(Instant::now());
            tracing::warn!(%from, what, "passed over what another site said");
        }
    }
}
