//! The node as one of a group: what its core and its links to the others say to each other.
//!
//! ```text
//!  core ── Peers ──> send ─────────────> links ──> other nodes
//!   ^                 snapshots for peers: maker ──> a thread that streams the file
//!   └── CoreEvent ─── frames that came <── links
//!                     clock offsets, addresses <── looked at once a second
//! ```
//!
//! Nothing here decides anything: the core does, and the replica in it.

mod snapshots;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use engine::{ENGINE_VERSION, Exchange};
use gateway::handle::CoreHandle as _;
use replica::{PeerMessage, SnapshotPoint};
use tokio::sync::oneshot;
use types::EngineVersion;
use wire::batch::{self, BATCH_VERSION};
use wire::journal::{Identity, JOURNAL_VERSION, LogIndex, NodeId};
use wire::membership::{Membership, MembershipChange, Role as MemberRole};
use wire::peer::{Frame, Quarantined, ReadableVersions, Role};
use wire::snapshot::SNAPSHOT_VERSION;

use crate::config::PeersConfig;
use crate::core::{CoreEvent, Peers, both_through_of};
use crate::peers::{LinkChange, PeerConfig, PeerFiles, PeerLinks, PeerTls, PeerTlsError};
use crate::replay::JournalSource as _;
use crate::snapshots::{MakerRequest, SnapshotFolder};
use crate::threads::Threads;
use snapshots::{Arrivals, send_snapshot};

/// The core that runs an exchange.
type Core = crate::core::Core<Exchange>;

/// How often clocks and addresses are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a node can't take its place in a group.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// It belongs to a group and was told of no peers.
    #[error(
        "take its place in the group: its group has other members, and the configuration has no [peers] certificate, \
         private_key and ca; `meridian cluster issue` makes them"
    )]
    NoCertificate,
    /// The certificates.
    #[error("take its place in the group: {0}")]
    Tls(#[from] PeerTlsError),
    /// The port, or the system.
    #[error("take its place in the group: listen for peers on {address}: {error}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The threads.
    #[error("take its place in the group: start the links: {0}")]
    Start(io::Error),
}

/// What the core's end of it, the links' end and the threads share.
pub(crate) struct Shared {
    identity: Identity,
    addresses: BTreeMap<NodeId, String>,
    snapshots: SnapshotFolder,
    /// The file that says that this voter gets back what it lost.
    repairing: PathBuf,
    /// Those that run belong to [`Group`], which outlives nothing of this.
    links: OnceLock<Weak<PeerLinks>>,
    core: OnceLock<Weak<Core>>,
    /// None on the way down, so that the thread that makes snapshots ends.
    maker: Mutex<Option<Sender<MakerRequest>>>,
    membership: Sender<Membership>,
    arrivals: Mutex<Arrivals>,
}

/// The core's end.
pub struct GroupPeers(Arc<Shared>);

/// The links of a running node, and the thread that looks after them.
pub struct Group {
    shared: Arc<Shared>,
    links: Arc<PeerLinks>,
    stop: Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

/// A group that is about to be: the core is started with its [`GroupPeers`] first.
pub struct Prepared {
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: PeerTls,
    changed: Receiver<Membership>,
    config: PeersConfig,
}

/// Whether the configured certificate is that of this node in this role.
pub fn check_certificate(config: &PeersConfig, role: Role, identity: Identity) -> Result<(), GroupError> {
    let files = config.files().ok_or(GroupError::NoCertificate)?;
    PeerTls::load(&files, identity.cluster, identity.node, role)?;
    Ok(())
}

/// Reads the certificates and binds the port. None if the node is to have no peers.
pub fn prepare(
    config: &PeersConfig,
    role: Role,
    identity: Identity,
    membership: &Membership,
    snapshots: &SnapshotFolder,
    repairing: PathBuf,
) -> Result<Option<Prepared>, GroupError> {
    let files: PeerFiles = match config.files() {
        Some(files) => files,
        None if membership.is_lone_voter(identity.node) && membership.len() == 1 => return Ok(None),
        None => return Err(GroupError::NoCertificate),
    };
    let tls = PeerTls::load(&files, identity.cluster, identity.node, role)?;
    let address = config.listen;
    let listener = TcpListener::bind(address).map_err(|error| GroupError::Listen { address, error })?;
    // Changes of a membership are few.
    let (membership, changed) = unbounded();
    let shared = Shared {
        identity,
        addresses: config.addresses(),
        snapshots: snapshots.clone(),
        repairing,
        links: OnceLock::new(),
        core: OnceLock::new(),
        maker: Mutex::default(),
        membership,
        arrivals: Mutex::default(),
    };
    Ok(Some(Prepared {
        shared: Arc::new(shared),
        listener,
        tls,
        changed,
        config: config.clone(),
    }))
}

impl Prepared {
    /// What the core is started with.
    pub fn peers(&self) -> GroupPeers {
        GroupPeers(Arc::clone(&self.shared))
    }

    /// Starts the links, for a core that runs.
    pub fn start(
        self,
        core: &Arc<Core>,
        membership: &Membership,
        engine_version: EngineVersion,
        maker: Sender<MakerRequest>,
        threads: Arc<Threads>,
    ) -> Result<Group, GroupError> {
        let Self {
            shared,
            listener,
            tls,
            changed,
            config,
        } = self;
        let quarantined = Quarantined::of(&core.journal().quarantined());
        // Nobody else sets them.
        let _ = shared.core.set(Arc::downgrade(core));
        *shared.maker() = Some(maker);
        let peers = PeerConfig {
            identity: shared.identity,
            role: tls.name().role,
            reads: ReadableVersions {
                journal: u16::from(JOURNAL_VERSION),
                batch: BATCH_VERSION,
                snapshot: u16::try_from(SNAPSHOT_VERSION).expect("it is a small number"),
                engine: ENGINE_VERSION.0,
            },
            engine_version,
            quarantined,
            listener,
            tls,
            peers: shared.addresses_of(membership),
            expected: BTreeMap::new(),
            threads,
        };
        let (hears, learns) = (Arc::clone(&shared), Arc::clone(&shared));
        let links = PeerLinks::start(
            peers,
            Arc::new(move |from, frame| hears.frame_came(from, frame)),
            Arc::new(move |change| learns.link_changed(change)),
        );
        let links = links.map_err(GroupError::Start)?;
        let _ = shared.links.set(Arc::downgrade(&links));
        let (stop, stopped) = bounded(0);
        let of_group = Arc::clone(&shared);
        let care = Care {
            links: Arc::clone(&links),
            shared,
            advertised: config.advertised(),
            clock_offset_ns_max: config.clock_offset_ms_max.saturating_mul(1_000_000),
            unsure: false,
            membership: membership.clone(),
        };
        let work = move || care.run(&changed, &stopped);
        let thread = std::thread::Builder::new().name("group".into()).spawn(work);
        let thread = thread.map_err(GroupError::Start)?;
        Ok(Group {
            shared: of_group,
            links,
            stop,
            thread,
        })
    }
}

impl Group {
    /// The links.
    pub fn links(&self) -> &Arc<PeerLinks> {
        &self.links
    }

    /// Ends all links.
    pub fn stop(self) {
        drop(self.stop);
        *self.shared.maker() = None;
        self.links.stop();
        if self.thread.join().is_err() {
            tracing::error!(thread = "group", "the thread panicked");
        }
    }
}

impl Peers for GroupPeers {
    fn send(&self, to: NodeId, frame: Frame) -> bool {
        let links = self.0.links();
        links.is_some_and(|links| links.send(to, frame))
    }

    fn send_snapshot(&self, message: PeerMessage, point: SnapshotPoint) {
        let shared = Arc::clone(&self.0);
        let to = message.to();
        let work = move || {
            let sent = send_snapshot(&shared, message, &point);
            if let Err(error) = &sent {
                tracing::warn!(to = to.0, %error, "a peer was not sent its snapshot; it will be sent another");
            }
            let arrived = sent.is_ok();
            shared.tell(CoreEvent::SnapshotSent { to, arrived });
        };
        if let Err(error) = std::thread::Builder::new().name("snapshot-out".into()).spawn(work) {
            tracing::error!(%error, "there is no thread to send a snapshot");
            let arrived = false;
            self.0.tell_at_once(CoreEvent::SnapshotSent { to, arrived });
        }
    }

    fn engine_version_of(&self, peer: NodeId) -> Option<EngineVersion> {
        self.0.links()?.reads_of(peer).map(|reads| EngineVersion(reads.engine))
    }

    fn make_snapshot(&self, at_least: LogIndex) -> bool {
        let shared = Arc::clone(&self.0);
        let made = Box::new(move |point| {
            shared.tell(CoreEvent::SnapshotMade(point));
        });
        let request = MakerRequest::ForPeer { at_least, made };
        let maker = self.0.maker().clone();
        let asked = maker.is_some_and(|maker| maker.try_send(request).is_ok());
        if !asked {
            tracing::warn!("a snapshot for a peer could not be asked for now");
        }
        asked
    }

    fn adopt_snapshot(&self, point: &SnapshotPoint) -> io::Result<()> {
        snapshots::adopt(&self.0.snapshots, point)
    }

    fn repaired(&self) {
        // A start that still finds it asks the leader once more, no harm done.
        if let Err(error) = std::fs::remove_file(&self.0.repairing)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.repairing.display(), %error, "what says that this node repairs itself stays");
        }
    }

    fn members_changed(&self, membership: &Membership) {
        // The thread may have ended, on the way down.
        let _ = self.0.membership.send(membership.clone());
    }
}

impl Shared {
    /// Tells the core, as long as there is one.
    fn tell(&self, event: CoreEvent) -> bool {
        let core = self.core.get().and_then(Weak::upgrade);
        core.is_some_and(|core| core.tell(event))
    }

    /// The same for the core's own thread, which must not wait for itself.
    fn tell_at_once(&self, event: CoreEvent) {
        if let Some(core) = self.core.get().and_then(Weak::upgrade) {
            core.tell_at_once(event);
        }
    }

    fn frame_came(&self, from: NodeId, frame: Frame) {
        match frame {
            Frame::Raft(message) => match PeerMessage::try_from(message) {
                Ok(message) => {
                    self.tell(CoreEvent::Message(message));
                }
                Err(error) => tracing::warn!(from = from.0, %error, "a peer's message is passed over"),
            },
            Frame::Forward(forwards) => {
                let commands = forwards.into_iter();
                let commands = commands.map(|forward| (forward.token, batch::decode_command(&forward.command)));
                let commands = commands.collect();
                self.tell(CoreEvent::Forwarded { from, commands });
            }
            Frame::Answers(answers) => {
                self.tell(CoreEvent::Answers { from, answers });
            }
            Frame::SnapshotBegin(begin) => self.arrivals().begin(&self.snapshots, from, begin),
            Frame::SnapshotChunk(chunk) => self.arrivals().chunk(from, &chunk),
            Frame::SnapshotEnd(end) => {
                let Some(arrived) = self.arrivals().end(from, &end) else {
                    return;
                };
                // To look at it takes longer than others should wait.
                let core = self.core.get().cloned();
                let snapshots = self.snapshots.clone();
                let work = move || match arrived.check(&snapshots) {
                    Ok(message) => {
                        if let Some(core) = core.and_then(|core| core.upgrade()) {
                            core.tell(CoreEvent::Message(message));
                        }
                    }
                    Err(error) => tracing::warn!(from = from.0, %error, "a snapshot from a peer can't be used"),
                };
                if let Err(error) = std::thread::Builder::new().name("snapshot-in".into()).spawn(work) {
                    tracing::error!(%error, "there is no thread to look at a snapshot");
                }
            }
            Frame::ControlRequest(bytes) => {
                if let Some(through) = both_through_of(&bytes) {
                    self.tell(CoreEvent::BothThrough(through));
                }
            }
            // The links' own, and what this version doesn't send.
            Frame::Hello(_) | Frame::Refused(_) | Frame::Ping(_) | Frame::Pong(_) | Frame::ControlAnswer(_) => {}
        }
    }

    fn link_changed(&self, change: LinkChange) {
        let LinkChange { peer, is_up, .. } = change;
        self.tell(CoreEvent::Link { peer, up: is_up });
    }

    fn links(&self) -> Option<Arc<PeerLinks>> {
        self.links.get().and_then(Weak::upgrade)
    }

    /// True on the way down.
    fn is_stopping(&self) -> bool {
        self.maker().is_none()
    }

    fn maker(&self) -> std::sync::MutexGuard<'_, Option<Sender<MakerRequest>>> {
        self.maker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrivals(&self) -> std::sync::MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the members are reached. A node that is not yet one of them lets in whom its configuration names.
    fn addresses_of(&self, membership: &Membership) -> BTreeMap<NodeId, String> {
        let mut addresses = if membership.get(self.identity.node).is_some() {
            BTreeMap::new()
        } else {
            self.addresses.clone()
        };
        for (node, member) in membership.iter() {
            let known = || self.addresses.get(&node).cloned();
            let address = Some(member.address.clone()).filter(|address| !address.is_empty());
            if let Some(address) = address.or_else(known) {
                addresses.insert(node, address);
            }
        }
        addresses
    }
}

/// Looks after the links.
struct Care {
    links: Arc<PeerLinks>,
    shared: Arc<Shared>,
    advertised: String,
    clock_offset_ns_max: u64,
    unsure: bool,
    membership: Membership,
}

impl Care {
    fn run(mut self, changed: &Receiver<Membership>, stopped: &Receiver<()>) {
        loop {
            match changed.recv_timeout(LOOK_EVERY) {
                Ok(membership) => {
                    self.membership = membership;
                    let addresses = self.shared.addresses_of(&self.membership);
                    if let Err(error) = self.links.set_peers(&addresses) {
                        tracing::error!(%error, "the links do not follow the group's members");
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected) {
                return;
            }
            self.compare_clocks();
            self.say_address();
            self.follow_engine_version();
        }
    }

    /// Whoever does not know what is in force is refused from now on.
    fn follow_engine_version(&self) {
        if let Some(core) = self.shared.core.get().and_then(Weak::upgrade) {
            self.links.set_engine_version(core.group().engine_version);
        }
    }

    /// Whether this node's clock is further from those of most other voters than it may be.
    fn compare_clocks(&mut self) {
        let own = self.shared.identity.node;
        let others: Vec<NodeId> = self.membership.voters().filter(|voter| *voter != own).collect();
        let status = self.links.status();
        let clocks = status.iter().filter(|link| others.contains(&link.peer));
        let far = clocks.filter(|link| {
            link.outgoing.connected_since.is_some()
                && link.clock.is_some_and(|clock| {
                    let surely = clock.offset_ns.unsigned_abs().saturating_sub(clock.round_trip_ns / 2);
                    surely > self.clock_offset_ns_max
                })
        });
        let unsure = far.count() * 2 > others.len();
        if unsure == self.unsure {
            return;
        }
        self.unsure = unsure;
        if unsure {
            tracing::error!(
                "this node's clock is out of its bound against most others; it does not lead. Look at its time service"
            );
        } else {
            tracing::info!("this node's clock agrees with most others again");
        }
        self.shared.tell(CoreEvent::ClockUnsure(unsure));
    }

    /// A leader whose address the group doesn't know, as of a node that was alone before, has it told.
    fn say_address(&self) {
        let own = self.shared.identity.node;
        let known = self.membership.get(own);
        let Some(core) = self.shared.core.get().and_then(Weak::upgrade) else {
            return;
        };
        let leads = core.group().leader == Some(own);
        if !leads || self.membership.len() < 2 || known.is_none_or(|member| member.address == self.advertised) {
            return;
        }
        let change = MembershipChange::Add {
            node: own,
            address: self.advertised.clone(),
            gateway: known.is_some_and(|member| member.role == MemberRole::Gateway),
        };
        let (tell, _) = oneshot::channel();
        self.shared.tell(CoreEvent::Change(change, tell));
    }
}
