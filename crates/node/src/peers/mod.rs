//! The links between the nodes of a group: mutually authenticated TLS, framed, pipelined, first in, first out.
//!
//! ```text
//!            send()                                                           on_frame()
//!              │  never waits                                                     ^
//!              v                                                                  │
//!            queue ──> a thread ═══ connection that this node dialed ═══> a thread of the peer
//!                      for the peer <─── pong, goodbye ───────────────    for the connection
//! ```
//!
//! Each node dials each other one and sends its frames over the connection that it dialed; what comes over a connection
//! that it accepted are the peer's frames. So there are two connections between two nodes, each used by one thread on
//! either side, and what is sent to a peer comes in that order or not at all. A frame that is lost stays lost: consensus
//! sends it again. What waits while a connection breaks is dropped, never sent late.
//!
//! Certificates say who a node is ([`name`]); the greeting says what it understands. Files that change are taken over,
//! and the connections made with the old ones are made again without losing what waits.
//!
//! Nothing here may make the core wait: a full queue, a peer that reads nothing and a connection that hangs all end in a
//! frame that is dropped.

mod accept;
pub mod authority;
mod clock;
mod connection;
mod dial;
mod greeting;
pub mod limits;
pub mod name;
mod queue;
mod status;
pub mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use arc_swap::ArcSwap;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use types::{EngineVersion, Timestamp};
use wire::journal::{Identity, NodeId};
use wire::peer::{
    Frame, FrameKind, Hello, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Quarantined, ReadableVersions, Role,
    program_version,
};

pub use clock::ClockEstimate;
pub use status::{Direction, DirectionStatus, LinkChange, LinkStatus, RefusedStatus};
pub use tls::{PeerFiles, PeerTls, PeerTlsError};

use crate::core::Clock;
use crate::threads::{self, Threads};
use crate::watched_files::LOOK_EVERY;
use connection::LinkError;
use limits::{COMPLAIN_EVERY, EXPIRES_SOON, PEERS_MAX, STOP_MAX, TAKING_OVER_MAX};
use queue::{Bell, Queue};
use status::{Counts, LogLimiter};

/// What a node's links are made of.
pub struct PeerConfig {
    /// Who this node is.
    pub identity: Identity,
    /// What it is for.
    pub role: Role,
    /// The newest versions that it reads. The others are told.
    pub reads: ReadableVersions,
    /// The version of the exchange's behaviour that is in force when it starts.
    pub engine_version: EngineVersion,
    /// Which commands it has quarantined.
    pub quarantined: Quarantined,
    /// Where the others reach it.
    pub listener: TcpListener,
    /// Its certificate, and whom it believes.
    pub tls: PeerTls,
    /// Where it reaches the others, as `host:port`. Itself among them is passed over.
    pub peers: BTreeMap<NodeId, String>,
    /// What the certificates of some peers must say, besides their number.
    pub expected: BTreeMap<NodeId, ExpectedPeer>,
    /// Where a panic of a thread shows.
    pub threads: Arc<Threads>,
}

/// What a peer's certificate must say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedPeer {
    /// Where it is; none: anywhere.
    pub region: Option<name::Region>,
    /// What it is for.
    pub role: Role,
}

/// Takes a frame of a peer. The frames of one peer come in order and one at a time. While it waits, that peer waits.
pub type OnFrame = Arc<dyn Fn(NodeId, Frame) + Send + Sync>;
/// Hears that a direction of a link came up or went down.
pub type OnChange = Arc<dyn Fn(LinkChange) + Send + Sync>;

/// The links of this node.
pub struct PeerLinks {
    shared: Arc<Shared>,
    /// Held while the peers are changed.
    changing: Mutex<()>,
}

impl fmt::Debug for PeerLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerLinks({})", self.shared.own.node)
    }
}

/// What the threads share.
struct Shared {
    own: Hello,
    tls: PeerTls,
    clock: Clock,
    peers: ArcSwap<BTreeMap<NodeId, Arc<Peer>>>,
    expected: BTreeMap<NodeId, ExpectedPeer>,
    on_frame: OnFrame,
    on_change: OnChange,
    is_stopping: AtomicBool,
    /// Which version of the exchange's behaviour is in force.
    engine_version: AtomicU16,
    /// Wakes the thread that accepts, and the one that looks at files.
    accept_bell: Bell,
    files_bell: Bell,
    threads: Arc<Threads>,
    running: Mutex<usize>,
    one_ended: Condvar,
    greetings: Mutex<Greetings>,
    refused: Mutex<RefusedStatus>,
    refused_log: LogLimiter,
}

/// Connections that were accepted and have not yet said who they are, oldest first.
#[derive(Default)]
struct Greetings {
    next: u64,
    sockets: VecDeque<(u64, TcpStream)>,
}

/// Another node.
struct Peer {
    node: NodeId,
    address: Mutex<String>,
    queue: Queue,
    counts: Counts,
    dial_log: LogLimiter,
    accept_log: LogLimiter,
    is_removed: AtomicBool,
    /// Rises when the connection that was dialed must be made again.
    made_again: AtomicU64,
    /// True while the system is asked for the addresses of its name.
    resolving: Arc<AtomicBool>,
    /// The connection that is on its way to being one.
    dialing: Mutex<Option<TcpStream>>,
    incoming: Mutex<Incoming>,
    incoming_freed: Condvar,
}

/// Whose turn it is to hand over the peer's frames.
#[derive(Default)]
struct Incoming {
    is_taken: bool,
    socket: Option<TcpStream>,
}

impl PeerLinks {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system has no room for them, or there are more than `PEERS_MAX` peers.
    pub fn start(config: PeerConfig, on_frame: OnFrame, on_change: OnChange) -> io::Result<Arc<Self>> {
        let PeerConfig {
            identity,
            role,
            reads,
            engine_version,
            quarantined,
            listener,
            tls,
            peers,
            expected,
            threads,
        } = config;
        listener.set_nonblocking(true)?;
        let own = Hello {
            protocol_min: PROTOCOL_VERSION_MIN,
            protocol_max: PROTOCOL_VERSION_MAX,
            reads,
            cluster: identity.cluster,
            group: identity.group,
            incarnation: identity.incarnation,
            node: identity.node,
            role,
            program: program_version(env!("CARGO_PKG_VERSION")).map_err(io::Error::other)?,
            sent_at: Timestamp(0),
            quarantined: Some(quarantined),
        };
        let shared = Arc::new(Shared {
            own,
            tls,
            clock: Clock::default(),
            peers: ArcSwap::from_pointee(BTreeMap::new()),
            expected,
            on_frame,
            on_change,
            is_stopping: AtomicBool::new(false),
            engine_version: AtomicU16::new(engine_version.0),
            accept_bell: Bell::new()?,
            files_bell: Bell::new()?,
            threads,
            running: Mutex::new(0),
            one_ended: Condvar::new(),
            greetings: Mutex::default(),
            refused: Mutex::default(),
            refused_log: LogLimiter::default(),
        });
        // From here on an error stops what was started.
        let changing = Mutex::new(());
        let links = Arc::new(Self { shared, changing });
        let shared = Arc::clone(&links.shared);
        links.shared.spawn(move || accept::run(&shared, &listener))?;
        let shared = Arc::clone(&links.shared);
        links.shared.spawn(move || follow_files(&shared))?;
        links.set_peers(&peers)?;
        Ok(links)
    }

    /// Sends a frame, or drops it. Never waits. False if it is certain that it does not come: there is no such peer, no
    /// connection to it, no room, or the frame is none that may be sent. True promises nothing: the connection may break.
    pub fn send(&self, to: NodeId, frame: Frame) -> bool {
        let own = [FrameKind::Hello, FrameKind::Refused, FrameKind::Ping, FrameKind::Pong];
        if own.contains(&frame.kind()) {
            return false;
        }
        if let Err(error) = frame.check() {
            if self.shared.refused_log.may_log() {
                tracing::error!(%to, kind = frame.kind().name(), "a frame was not sent: {error}");
            }
            return false;
        }
        match self.shared.peers.load().get(&to) {
            Some(peer) => peer.queue.push(frame),
            None => false,
        }
    }

    /// Frames and bytes that wait to be sent to a peer. Whoever sends a lot keeps this low, so that what others send does
    /// not wait behind it.
    pub fn queued(&self, to: NodeId) -> Option<(usize, usize)> {
        let peers = self.shared.peers.load();
        let (frames, bytes, _) = peers.get(&to)?.queue.figures();
        Some((frames, bytes))
    }

    /// Changes who the others are: dials new ones, lets those go that are no longer among them, and dials those again
    /// whose address changed.
    ///
    /// # Errors
    /// If the system has no room for another thread, or there are more than `PEERS_MAX` peers: then the peers that could
    /// not be added are missing, and it can be called again.
    pub fn set_peers(&self, wanted: &BTreeMap<NodeId, String>) -> io::Result<()> {
        let shared = &self.shared;
        let others = || wanted.iter().filter(|(node, _)| **node != shared.own.node);
        if others().count() > PEERS_MAX {
            return Err(io::Error::other(format!("more than {PEERS_MAX} peers")));
        }
        let _changing = lock(&self.changing);
        let mut peers = BTreeMap::clone(&shared.peers.load());
        peers.retain(|node, peer| {
            let stays = wanted.contains_key(node);
            if !stays {
                peer.remove();
            }
            stays
        });
        // Who is no longer a member is no longer let in, from before the first new one is dialed.
        shared.peers.store(Arc::new(peers.clone()));
        for (node, address) in others() {
            if let Some(peer) = peers.get(node) {
                peer.move_to(address);
                continue;
            }
            let peer = Arc::new(Peer::new(*node, address.clone())?);
            peers.insert(*node, Arc::clone(&peer));
            shared.peers.store(Arc::new(peers.clone()));
            let dialing = Arc::clone(shared);
            let spawned = shared.spawn(move || dial::run(&dialing, &peer));
            if let Err(error) = spawned {
                peers.remove(node);
                shared.peers.store(Arc::new(peers));
                return Err(error);
            }
        }
        Ok(())
    }

    /// The newest versions that a peer reads, as it said when it greeted; none while there is no connection to it.
    pub fn reads_of(&self, node: NodeId) -> Option<ReadableVersions> {
        let peers = self.shared.peers.load();
        let counts = peers.get(&node)?.counts.lock();
        counts.outgoing.connected_since?;
        counts.hello.map(|hello| hello.reads)
    }

    /// From now on this engine version is in force: who does not know it is refused.
    pub fn set_engine_version(&self, version: EngineVersion) {
        self.shared.engine_version.store(version.0, Ordering::Release);
    }

    /// How the links are, by peer.
    pub fn status(&self) -> Vec<LinkStatus> {
        let peers = self.shared.peers.load();
        peers.values().map(|peer| peer.status()).collect()
    }

    /// Connections that were accepted and let go before they counted as a peer's.
    pub fn refused(&self) -> RefusedStatus {
        lock(&self.shared.refused).clone()
    }

    /// The certificates of the links.
    pub fn tls(&self) -> &PeerTls {
        &self.shared.tls
    }

    /// Ends all links. Frames that wait are dropped; what a peer sent may be handed over until it returns.
    pub fn stop(&self) {
        let shared = &self.shared;
        shared.is_stopping.store(true, Ordering::SeqCst);
        shared.accept_bell.ring();
        shared.files_bell.ring();
        for (_, socket) in &lock(&shared.greetings).sockets {
            let _ = socket.shutdown(Shutdown::Both);
        }
        for peer in shared.peers.load().values() {
            peer.wake();
        }
        let running = lock(&shared.running);
        let waited = shared
            .one_ended
            .wait_timeout_while(running, STOP_MAX, |running| *running > 0);
        let (running, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            tracing::warn!(
                threads = *running,
                "the links did not end within {STOP_MAX:?}; they are left to themselves"
            );
        }
    }
}

impl Drop for PeerLinks {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes over certificates that change, and complains of one that expires soon.
fn follow_files(shared: &Shared) {
    let mut complained_at: Option<Instant> = None;
    while !shared.is_stopping() {
        let before = shared.tls.material().generation;
        shared.tls.look();
        if shared.tls.material().generation != before {
            shared.peers.load().values().for_each(|peer| peer.queue.bell().ring());
        }
        let left_ns = shared.tls.expires_at().0.saturating_sub(shared.clock.now().0);
        let is_due = complained_at.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY);
        if is_due && Duration::from_nanos(left_ns) < EXPIRES_SOON {
            complained_at = Some(Instant::now());
            let expires_at = shared.tls.expires_at();
            tracing::warn!(%expires_at, "the certificate of the links expires soon: issue another one");
        }
        wait(&[(shared.files_bell.fd(), PollFlags::IN)], Some(LOOK_EVERY));
    }
}

/// Sleeps until one of them is ready, or the time is over. Says which are.
fn wait<const N: usize>(on: &[(std::os::fd::BorrowedFd<'_>, PollFlags); N], limit: Option<Duration>) -> [bool; N] {
    let mut fds: [PollFd<'_>; N] = std::array::from_fn(|index| PollFd::from_borrowed_fd(on[index].0, on[index].1));
    let limit = limit.map(|limit| Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    match poll(&mut fds, limit.as_ref()) {
        Ok(_) => std::array::from_fn(|index| !fds[index].revents().is_empty()),
        // Interrupted: whoever waits looks again at what it waits for.
        Err(_) => [false; N],
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    /// The version of the exchange's behaviour that is in force.
    fn engine_version(&self) -> EngineVersion {
        EngineVersion(self.engine_version.load(Ordering::Acquire))
    }

    fn hello(&self) -> Hello {
        Hello {
            sent_at: self.clock.now(),
            ..self.own
        }
    }

    /// Starts a thread that [`PeerLinks::stop`] waits for.
    fn spawn(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        struct Running(Arc<Shared>);
        impl Drop for Running {
            fn drop(&mut self) {
                *lock(&self.0.running) -= 1;
                self.0.one_ended.notify_all();
            }
        }
        *lock(&self.running) += 1;
        // Dropped with the work, whether that runs to its end, panics or never starts.
        let running = Running(Arc::clone(self));
        let work = move || {
            let _running = running;
            work();
        };
        self.threads.spawn(threads::Role::Peers, work).map(drop)
    }

    /// A direction of a link came up.
    fn came_up(&self, peer: &Peer, direction: Direction) {
        let mut counts = peer.counts.lock();
        let status = counts.direction(direction);
        status.connected_since = Some(self.clock.now());
        status.connections += 1;
        drop(counts);
        tracing::info!(peer = %peer.node, direction = ?direction, "a link is up");
    }

    /// A connection ended, or did not come about.
    fn went_down(&self, peer: &Peer, direction: Direction, error: Option<&LinkError>) {
        let mut counts = peer.counts.lock();
        let status = counts.direction(direction);
        let was_up = status.connected_since.take().is_some();
        if let Some(error) = error {
            status.last_error = Some((self.clock.now(), error.to_string()));
        }
        drop(counts);
        if peer.is_over(self) {
            return;
        }
        let log = match direction {
            Direction::Out => &peer.dial_log,
            Direction::In => &peer.accept_log,
        };
        if was_up {
            log.reset();
        }
        if let Some(error) = error
            && log.may_log()
        {
            let node = peer.node;
            match direction {
                Direction::Out => tracing::warn!(peer = %node, "nothing can be sent to the peer: {error}"),
                Direction::In => tracing::warn!(peer = %node, "nothing comes from the peer: {error}"),
            }
        }
    }

    fn say_changed(&self, peer: &Peer, direction: Direction, is_up: bool) {
        (self.on_change)(LinkChange {
            peer: peer.node,
            direction,
            is_up,
        });
    }
}

impl Peer {
    fn new(node: NodeId, address: String) -> io::Result<Self> {
        Ok(Self {
            node,
            address: Mutex::new(address),
            queue: Queue::new()?,
            counts: Counts::default(),
            dial_log: LogLimiter::default(),
            accept_log: LogLimiter::default(),
            is_removed: AtomicBool::new(false),
            made_again: AtomicU64::new(0),
            resolving: Arc::default(),
            dialing: Mutex::new(None),
            incoming: Mutex::default(),
            incoming_freed: Condvar::new(),
        })
    }

    /// True if nothing is to be said to it any more.
    fn is_over(&self, shared: &Shared) -> bool {
        self.is_removed.load(Ordering::SeqCst) || shared.is_stopping()
    }

    fn remove(&self) {
        self.is_removed.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Has its threads look up.
    fn wake(&self) {
        self.queue.bell().ring();
        if let Some(socket) = &*lock(&self.dialing) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(socket) = &lock(&self.incoming).socket {
            let _ = socket.shutdown(Shutdown::Read);
        }
    }

    fn move_to(&self, address: &str) {
        let mut current = lock(&self.address);
        if *current != address {
            address.clone_into(&mut current);
            self.made_again.fetch_add(1, Ordering::SeqCst);
            self.queue.bell().ring();
        }
    }

    /// Waits until all was handed over that came by the connection before, which is told to end. False if that takes too
    /// long, or the peer is over.
    fn take_incoming(&self, shared: &Shared, socket: TcpStream) -> bool {
        let until = Instant::now() + TAKING_OVER_MAX;
        let mut incoming = lock(&self.incoming);
        while incoming.is_taken {
            if let Some(old) = incoming.socket.take() {
                // What is here already can still be read.
                let _ = old.shutdown(Shutdown::Read);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.incoming_freed.wait_timeout(incoming, left);
            incoming = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if self.is_over(shared) {
            return false;
        }
        *incoming = Incoming {
            is_taken: true,
            socket: Some(socket),
        };
        true
    }

    fn free_incoming(&self) {
        *lock(&self.incoming) = Incoming::default();
        self.incoming_freed.notify_one();
    }

    fn status(&self) -> LinkStatus {
        let (queued_frames, queued_bytes, dropped_frames) = self.queue.figures();
        let counts = self.counts.lock();
        LinkStatus {
            peer: self.node,
            address: lock(&self.address).clone(),
            outgoing: counts.outgoing.clone(),
            incoming: counts.incoming.clone(),
            queued_frames,
            queued_bytes,
            dropped_frames,
            clock: counts.clock,
            hello: counts.hello,
            region: counts.region,
        }
    }
}

impl Greetings {
    /// Another one. If there are too many, the oldest ends: who is a peer needs milliseconds, so it is hardly one.
    fn add(&mut self, socket: TcpStream) -> u64 {
        if self.sockets.len() >= limits::GREETINGS_MAX
            && let Some((_, oldest)) = self.sockets.pop_front()
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
        let id = self.next;
        self.next += 1;
        self.sockets.push_back((id, socket));
        id
    }

    fn end(&mut self, id: u64) {
        self.sockets.retain(|(other, _)| *other != id);
    }
}
