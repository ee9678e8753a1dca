//! Links between nodes over real sockets: in order, with back-pressure, made again after whatever happens, and closed to
//! everybody who can't show who he is.

mod flow;
mod refusals;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use node::peers::authority::{Authority, Pair, Validity};
use node::peers::name::PeerName;
use node::peers::{LinkChange, LinkStatus, PeerConfig, PeerFiles, PeerLinks, PeerTls};
use types::{ClusterId, EngineVersion, GroupId, Incarnation};
use wire::journal::{Identity, NodeId};
use wire::peer::{Frame, Quarantined, ReadableVersions, Role};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn cluster() -> ClusterId {
    "test".parse().unwrap()
}

fn name(cluster: ClusterId, node: u64, role: Role) -> PeerName {
    PeerName {
        cluster,
        region: "uae".parse().unwrap(),
        node: NodeId(node),
        role,
    }
}

fn authority() -> (Authority, Pair) {
    Authority::generate(cluster(), Validity::days(1)).unwrap()
}

fn write(folder: &Path, pair: &Pair, authorities: &[&Pair]) -> PeerFiles {
    std::fs::create_dir_all(folder).unwrap();
    let files = PeerFiles {
        certificate: folder.join("node.pem"),
        private_key: folder.join("node.key"),
        ca: folder.join("ca.pem"),
    };
    let bundle: Vec<_> = authorities.iter().map(|pair| pair.certificate.as_str()).collect();
    std::fs::write(&files.certificate, &pair.certificate).unwrap();
    std::fs::write(&files.private_key, &pair.private_key).unwrap();
    std::fs::write(&files.ca, bundle.concat()).unwrap();
    files
}

/// How a node of a test differs from a plain one.
#[derive(Clone)]
struct Plan {
    node: u64,
    cluster: ClusterId,
    group: u16,
    incarnation: u32,
    role: Role,
    /// The node that its certificate is of, if it isn't its own.
    certified: Option<u64>,
    validity: Validity,
}

impl Plan {
    fn of(node: u64) -> Self {
        Self {
            node,
            cluster: cluster(),
            group: 0,
            incarnation: 1,
            role: Role::Node,
            certified: None,
            validity: Validity::days(1),
        }
    }
}

/// A folder, an authority, and what nodes are made of.
struct World {
    folder: tempfile::TempDir,
    authority: Authority,
    ca: Pair,
}

struct TestNode {
    links: Arc<PeerLinks>,
    frames: Receiver<(NodeId, Frame)>,
    changes: Receiver<LinkChange>,
    address: SocketAddr,
    files: PeerFiles,
}

impl World {
    fn new() -> Self {
        let (authority, ca) = authority();
        Self {
            folder: tempfile::tempdir().unwrap(),
            authority,
            ca,
        }
    }

    fn start(&self, plan: &Plan, listener: TcpListener, peers: &[(u64, SocketAddr)]) -> TestNode {
        let (sender, frames) = channel();
        let sender = Mutex::new(sender);
        self.start_with(plan, listener, peers, frames, move |from, frame| {
            let _ = sender.lock().unwrap().send((from, frame));
        })
    }

    fn start_with(
        &self,
        plan: &Plan,
        listener: TcpListener,
        peers: &[(u64, SocketAddr)],
        frames: Receiver<(NodeId, Frame)>,
        on_frame: impl Fn(NodeId, Frame) + Send + Sync + 'static,
    ) -> TestNode {
        let certified = plan.certified.unwrap_or(plan.node);
        let pair = self
            .authority
            .issue(&name(plan.cluster, certified, plan.role), plan.validity);
        let files = write(
            &self.folder.path().join(plan.node.to_string()),
            &pair.unwrap(),
            &[&self.ca],
        );
        start(plan, listener, peers, files, frames, on_frame)
    }

    /// Two nodes, 1 and 2, with links both ways.
    fn pair(&self) -> (TestNode, TestNode) {
        let (one, two) = (listener(), listener());
        let (at_one, at_two) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        let one = self.start(&Plan::of(1), one, &[(1, at_one), (2, at_two)]);
        let two = self.start(&Plan::of(2), two, &[(1, at_one), (2, at_two)]);
        one.until_linked(2);
        two.until_linked(1);
        (one, two)
    }
}

fn start(
    plan: &Plan,
    listener: TcpListener,
    peers: &[(u64, SocketAddr)],
    files: PeerFiles,
    frames: Receiver<(NodeId, Frame)>,
    on_frame: impl Fn(NodeId, Frame) + Send + Sync + 'static,
) -> TestNode {
    let certified = NodeId(plan.certified.unwrap_or(plan.node));
    let tls = PeerTls::load(&files, plan.cluster, certified, plan.role).unwrap();
    let (changed, changes) = channel();
    let changed = Mutex::new(changed);
    let address = listener.local_addr().unwrap();
    let config = PeerConfig {
        identity: Identity {
            cluster: plan.cluster,
            group: GroupId(plan.group),
            incarnation: Incarnation(plan.incarnation),
            node: NodeId(plan.node),
        },
        role: plan.role,
        reads: ReadableVersions::default(),
        engine_version: EngineVersion(0),
        quarantined: Quarantined::of(&BTreeSet::new()),
        listener,
        tls,
        peers: map(peers),
        expected: BTreeMap::new(),
        threads: Arc::default(),
    };
    let on_change = move |change| {
        let _ = changed.lock().unwrap().send(change);
    };
    let links = PeerLinks::start(config, Arc::new(on_frame), Arc::new(on_change)).unwrap();
    TestNode {
        links,
        frames,
        changes,
        address,
        files,
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn map(peers: &[(u64, SocketAddr)]) -> BTreeMap<NodeId, String> {
    let peers = peers.iter();
    peers
        .map(|(node, address)| (NodeId(*node), address.to_string()))
        .collect()
}

impl TestNode {
    fn status(&self, peer: u64) -> LinkStatus {
        let status = self.links.status();
        status.into_iter().find(|status| status.peer == NodeId(peer)).unwrap()
    }

    #[track_caller]
    fn until_linked(&self, peer: u64) {
        until("the link did not come up", || {
            let status = self.status(peer);
            status.outgoing.connected_since.is_some() && status.incoming.connected_since.is_some()
        });
    }

    /// Sends a number, again and again if there is no room.
    fn send(&self, to: u64, number: u64) {
        until("the queue stays full", || self.links.send(NodeId(to), numbered(number)));
    }

    #[track_caller]
    fn expect(&self, from: u64, number: u64) {
        let got = self.frames.recv_timeout(PATIENCE).unwrap();
        assert_eq!(got, (NodeId(from), numbered(number)));
    }

    #[track_caller]
    fn until_out_fails_with(&self, peer: u64, said: &str) {
        let mut last = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last = self.status(peer).outgoing.last_error;
            if last.as_ref().is_some_and(|(_, error)| error.contains(said)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("expected {said:?}, got {last:?}");
    }

    #[track_caller]
    fn until_refused_with(&self, said: &str) {
        let mut refused = self.links.refused();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            refused = self.links.refused();
            if refused.latest.iter().any(|(_, error)| error.contains(said)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("expected {said:?}, got {refused:?}");
    }
}

fn numbered(number: u64) -> Frame {
    Frame::ControlRequest(number.to_le_bytes().to_vec().into())
}
