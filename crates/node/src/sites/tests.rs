//! Tests of the links between sites, over loopback with real certificates.

use std::sync::mpsc::{Receiver, Sender, channel};

use types::RegionId;

use super::*;
use crate::config::Site;
use crate::peers::authority::{Authority, Validity};
use crate::peers::name::PeerName;

const WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq)]
enum Heard {
    Message(NodeId, SiteMessage),
    Raft(NodeId, u64),
    Up(NodeId),
}

struct Inbox(Mutex<Sender<Heard>>);

impl Inbox {
    fn say(&self, heard: Heard) {
        let _ = self.0.lock().unwrap().send(heard);
    }
}

impl SiteInbox for Inbox {
    fn message(&self, from: NodeId, message: SiteMessage) {
        self.say(Heard::Message(from, message));
    }

    fn raft(&self, from: NodeId, message: RaftMessage) {
        self.say(Heard::Raft(from, message.term.0));
    }

    fn link(&self, peer: NodeId, is_up: bool) {
        if is_up {
            self.say(Heard::Up(peer));
        }
    }
}

/// A site's links, and what they hear.
type Running = (Arc<SiteLinks>, Receiver<Heard>);

/// Two sites, of which the first is node 1 of region `uae`, and the second the witness. What the first's certificate says
/// is up to whoever asks.
fn start(first: &str) -> (tempfile::TempDir, [Running; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let (authority, ca) = Authority::generate("test".parse().unwrap(), Validity::days(1)).unwrap();
    let listeners = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().to_string())
        .collect();
    let region = Site {
        name: "uae".to_owned(),
        url: String::new(),
        nodes: [(NodeId(1), addresses[0].clone())].into(),
    };
    let sites = Sites {
        region: None,
        regions: [(RegionId(1), region)].into(),
        witness: Some((NodeId(99), addresses[1].clone())),
        lease_voters: Vec::new(),
        first_active: RegionId(1),
    };
    let names = [first, "spiffe://meridian/test/elsewhere/99/witness"];
    let mut started = listeners.into_iter().zip(names).map(|(listener, name)| {
        let name: PeerName = name.parse().unwrap();
        let pair = authority.issue(&name, Validity::days(1)).unwrap();
        let file = |kind: &str, text: &str| {
            let path = folder.path().join(format!("{}.{kind}", name.node));
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = PeerFiles {
            certificate: file("pem", &pair.certificate),
            private_key: file("key", &pair.private_key),
            ca: file("ca", &ca.certificate),
        };
        let config = SiteLinksConfig {
            cluster: name.cluster,
            node: name.node,
            role: name.role,
            listen: listener.local_addr().unwrap(),
            files,
            sites: sites.clone(),
            threads: Arc::default(),
        };
        let (heard, hears) = channel();
        let links = SiteLinks::start_on(listener, config, Arc::new(Inbox(Mutex::new(heard)))).unwrap();
        (links, hears)
    });
    let both = [started.next().unwrap(), started.next().unwrap()];
    drop(started);
    (folder, both)
}

#[test]
fn sites_hear_each_other_and_themselves() {
    let (_folder, [(node, heard), (witness, heard_there)]) = start("spiffe://meridian/test/uae/1/node");
    assert_eq!(heard.recv_timeout(WITHIN).unwrap(), Heard::Up(NodeId(99)));
    assert_eq!(heard_there.recv_timeout(WITHIN).unwrap(), Heard::Up(NodeId(1)));
    let ask = SiteMessage::LeaseAsk { id: 7, command: None };
    assert!(node.send(NodeId(99), &ask));
    let from_node = Heard::Message(NodeId(1), ask.clone());
    assert_eq!(heard_there.recv_timeout(WITHIN).unwrap(), from_node);
    assert!(node.send(NodeId(1), &ask));
    assert_eq!(heard.recv_timeout(WITHIN).unwrap(), from_node);
    assert!(!node.send(NodeId(5), &ask), "there is no such node");
    // The witness votes here, so its consensus is heard as a node's is.
    for (links, heard, from, to) in [(&witness, &heard, 99, 1), (&node, &heard_there, 1, 99)] {
        let message = RaftMessage {
            kind: 5,
            from: NodeId(from),
            to: NodeId(to),
            term: wire::journal::Term(3),
            ..RaftMessage::default()
        };
        assert!(links.send_raft(NodeId(to), message));
        assert_eq!(heard.recv_timeout(WITHIN).unwrap(), Heard::Raft(NodeId(from), 3));
    }
    // What can't be read is passed over, and what follows it is heard.
    let unknown = Frame::ControlRequest(bytes::Bytes::from_static(&[255, 1, 2]));
    assert!(node.links.send(NodeId(99), unknown));
    assert!(node.send(NodeId(99), &ask));
    assert_eq!(heard_there.recv_timeout(WITHIN).unwrap(), from_node);
    assert_eq!(node.queued_bytes(NodeId(5)), 0);
    node.stop();
    witness.stop();
}

#[test]
fn a_node_of_another_region_than_the_sites_say_is_not_let_in() {
    for wrong in [
        "spiffe://meridian/test/singapore/1/node",
        "spiffe://meridian/test/uae/1/gateway",
    ] {
        let (_folder, [(node, _), (witness, heard_there)]) = start(wrong);
        let until = Instant::now() + WITHIN;
        let reason = loop {
            let refused = witness.refused().latest.into_iter().map(|(_, reason)| reason);
            if let Some(reason) = refused.into_iter().find(|reason| reason.contains("compare [sites]")) {
                break reason;
            }
            assert!(Instant::now() < until, "it was not refused");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(reason.contains("node 1 is the node of region uae here"), "{reason}");
        assert!(!node.send(NodeId(99), &SiteMessage::LeaseAsk { id: 1, command: None }));
        assert!(heard_there.try_recv().is_err(), "nothing came up");
        node.stop();
        witness.stop();
    }
}
