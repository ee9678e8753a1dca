//! What is sent comes in order, and nobody waits for anybody.

use node::peers::Direction;
use types::Timestamp;
use wire::peer::RaftMessage;

use super::*;

#[test]
fn frames_of_three_nodes_come_in_order() {
    const FRAMES: u64 = 10_000;
    let world = World::new();
    let listeners = [listener(), listener(), listener()];
    let at: Vec<_> = (1..)
        .zip(listeners.iter().map(|listener| listener.local_addr().unwrap()))
        .collect();
    let mut nodes = Vec::new();
    for (node, listener) in (1..).zip(listeners) {
        nodes.push(world.start(&Plan::of(node), listener, &at));
    }
    for (own, node) in (1..).zip(&nodes) {
        for other in (1..=3).filter(|other| *other != own) {
            node.until_linked(other);
        }
    }
    std::thread::scope(|scope| {
        for (own, node) in (1..).zip(&nodes) {
            let links = Arc::clone(&node.links);
            scope.spawn(move || {
                for number in 0..FRAMES {
                    for other in (1..=3).filter(|other| *other != own) {
                        until("the queue stays full", || links.send(NodeId(other), numbered(number)));
                    }
                }
            });
        }
        for (own, node) in (1..).zip(nodes.iter()) {
            let mut next: BTreeMap<NodeId, u64> = BTreeMap::new();
            for _ in 0..2 * FRAMES {
                let (from, frame) = node.frames.recv_timeout(PATIENCE).unwrap();
                let next = next.entry(from).or_default();
                assert_eq!(frame, numbered(*next), "from {from} to {own}");
                *next += 1;
            }
        }
    });
    let status = nodes[0].status(2);
    assert_eq!((status.queued_frames, status.queued_bytes), (0, 0));
    assert!(status.outgoing.frames >= FRAMES && status.incoming.frames >= FRAMES);
    let hello = status.hello.unwrap();
    assert_eq!((hello.node, hello.role), (NodeId(2), Role::Node));
    assert_eq!(status.region.unwrap().as_str(), "uae");
    until("the clock was not compared", || nodes[0].status(2).clock.is_some());
    let clock = nodes[0].status(2).clock.unwrap();
    // It is the same clock, so the error is at most half of the way.
    assert!(
        clock.offset_ns.unsigned_abs() <= clock.round_trip_ns / 2 + 1_000_000,
        "{clock:?}"
    );
    assert!(!nodes[0].links.send(NodeId(9), numbered(1)), "there is no node 9");
    assert!(!nodes[0].links.send(NodeId(1), numbered(1)), "not to itself");
    let ping = wire::peer::Ping {
        nonce: 1,
        sent_at: Timestamp(1),
    };
    assert!(
        !nodes[0].links.send(NodeId(2), Frame::Ping(ping)),
        "pings are the links' own"
    );
}

#[test]
fn a_large_frame_passes_and_a_larger_one_does_not() {
    let world = World::new();
    let (one, two) = world.pair();
    let message = |bytes: usize| {
        Frame::Raft(RaftMessage {
            from: NodeId(1),
            to: NodeId(2),
            context: vec![7; bytes].into(),
            ..RaftMessage::default()
        })
    };
    let large = message(wire::peer::FRAME_PAYLOAD_BYTES_MAX - 200);
    assert!(one.links.send(NodeId(2), large.clone()));
    assert!(!one.links.send(NodeId(2), message(wire::peer::FRAME_PAYLOAD_BYTES_MAX)));
    let got = two.frames.recv_timeout(PATIENCE).unwrap();
    assert!(got == (NodeId(1), large));
}

#[test]
fn a_link_comes_back_after_the_peer_and_sends_nothing_stale() {
    let world = World::new();
    let (one, two) = world.pair();
    one.send(2, 1);
    two.expect(1, 1);
    let (at_one, at_two) = (one.address, two.address);
    drop(two);
    until("the link did not go down", || {
        let status = one.status(2);
        status.outgoing.connected_since.is_none() && status.incoming.connected_since.is_none()
    });
    until("a frame is taken though there is no link", || {
        !one.links.send(NodeId(2), numbered(2))
    });
    assert!(one.status(2).dropped_frames > 0);
    let again = TcpListener::bind(at_two).unwrap();
    let two = world.start(&Plan::of(2), again, &[(1, at_one)]);
    one.until_linked(2);
    two.until_linked(1);
    one.send(2, 3);
    two.expect(1, 3);
    two.send(1, 4);
    one.expect(2, 4);
    drop(two);
    until("the second end was not told", || {
        one.status(2).outgoing.connected_since.is_none()
    });
    one.links.stop();
    let changes: Vec<_> = one.changes.try_iter().collect();
    for direction in [Direction::Out, Direction::In] {
        let changes = changes.iter().filter(|change| change.direction == direction);
        let changes: Vec<_> = changes.map(|change| change.is_up).collect();
        assert_eq!(changes, [true, false, true, false], "{direction:?}");
    }
}

#[test]
fn a_peer_that_takes_nothing_makes_nobody_wait() {
    let world = World::new();
    let (one, two) = (listener(), listener());
    let (at_one, at_two) = (one.local_addr().unwrap(), two.local_addr().unwrap());
    let one = world.start(&Plan::of(1), one, &[(2, at_two)]);
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock().unwrap();
    let (sender, frames) = channel();
    let (sender, at_gate) = (Mutex::new(sender), Arc::clone(&gate));
    let two = world.start_with(&Plan::of(2), two, &[(1, at_one)], frames, move |from, frame| {
        drop(at_gate.lock().unwrap());
        let _ = sender.lock().unwrap().send((from, frame));
    });
    one.until_linked(2);
    let large = Frame::ControlRequest(vec![0; 1 << 20].into());
    // The sockets' buffers and the queue take some; then there is no more room, or no more link.
    let mut taken = 0;
    while one.links.send(NodeId(2), large.clone()) {
        taken += 1;
        assert!(taken < 1_000, "where does it all go?");
    }
    assert!(one.status(2).queued_bytes <= node::peers::limits::QUEUE_BYTES_MAX);
    assert!(one.status(2).dropped_frames > 0);
    drop(shut);
    let marked = |frame: &Frame| *frame == numbered(5);
    until("the link did not recover", || {
        one.links.send(NodeId(2), numbered(5));
        two.frames.try_iter().any(|(_, frame)| marked(&frame))
    });
}

#[test]
fn a_socket_that_never_answers_makes_nobody_wait() {
    let world = World::new();
    let mute = listener();
    let one = world.start(&Plan::of(1), listener(), &[(2, mute.local_addr().unwrap())]);
    assert!(!one.links.send(NodeId(2), numbered(1)));
    one.until_out_fails_with(2, "the handshake took longer than 2s");
    drop(mute);
    one.until_out_fails_with(2, "reach 127.0.0.1");
    one.links.stop();
}

#[test]
fn certificate_and_authority_are_replaced_under_way() {
    let world = World::new();
    let (one, two) = world.pair();
    let (next, next_ca) = Authority::generate(cluster(), Validity::days(1)).unwrap();
    let issue = |authority: &Authority, node| {
        let name = name(cluster(), node, Role::Node);
        authority.issue(&name, Validity::days(1)).unwrap()
    };
    let mut number = 0;
    // Both sides believe the new authority before anybody shows a certificate of it; then the old one goes.
    let steps: [(&Authority, &[&Pair]); 4] = [
        (&world.authority, &[&world.ca, &next_ca]),
        (&next, &[&world.ca, &next_ca]),
        (&next, &[&next_ca]),
        // Whatever is damaged stays without effect.
        (&world.authority, &[&next_ca]),
    ];
    for (step, (authority, bundle)) in steps.into_iter().enumerate() {
        for (own, node, other, to) in [(1, &one, &two, 2), (2, &two, &one, 1)] {
            let before = (
                node.status(to).outgoing.connections,
                node.status(to).incoming.connections,
            );
            let folder = node.files.certificate.parent().unwrap();
            write(folder, &issue(authority, own), bundle);
            let is_damaged = step == 3;
            until("the links were not made again", || {
                number += 1;
                node.send(to, number);
                other.expect(own, number);
                let status = node.status(to);
                is_damaged || (status.outgoing.connections > before.0 && status.incoming.connections > before.1)
            });
            assert_eq!(node.status(to).dropped_frames, 0, "step {step}");
        }
    }
    assert!(
        one.changes
            .try_iter()
            .filter(|change| change.direction == Direction::Out)
            .all(|change| change.is_up)
    );
}

#[test]
fn peers_come_and_go_at_run_time() {
    let world = World::new();
    let (one, two) = world.pair();
    one.links.set_peers(&map(&[(1, one.address)])).unwrap();
    assert_eq!(one.links.status(), []);
    two.until_out_fails_with(1, "node 2 is not a member of the group");
    assert!(!one.links.send(NodeId(2), numbered(1)));
    one.links.set_peers(&map(&[(2, two.address)])).unwrap();
    one.until_linked(2);
    two.until_linked(1);
    one.send(2, 2);
    two.expect(1, 2);
    // Another address is dialed, the old connection let go.
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 9));
    one.links.set_peers(&map(&[(2, elsewhere)])).unwrap();
    one.until_out_fails_with(2, "reach 127.0.0.1:9");
    let many: BTreeMap<_, _> = (10..100).map(|node| (NodeId(node), "127.0.0.1:9".to_owned())).collect();
    one.links.set_peers(&many).unwrap_err();
}
