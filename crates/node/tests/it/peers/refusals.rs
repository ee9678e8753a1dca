//! Who is let in, and what he may say.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::SystemTime;

use node::peers::{Direction, PeerTlsError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use types::Timestamp;
use wire::peer::{
    FRAME_HEADER_BYTES, Forward, Hello, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, RaftMessage, program_version,
};

use super::*;

/// Nodes 1 and 2, of which the second one is not as it should be. What each says then.
#[track_caller]
fn refused(one: &Plan, two: &Plan, members_of_one: &[u64], at_one: &str, at_two: &str) {
    let world = World::new();
    let listener = listener();
    let address = listener.local_addr().unwrap();
    // Nobody listens at the discard port.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let members: Vec<_> = members_of_one.iter().map(|node| (*node, nowhere)).collect();
    let first = world.start(one, listener, &members);
    let second = world.start(two, self::listener(), &[(1, address)]);
    first.until_refused_with(at_one);
    second.until_out_fails_with(1, at_two);
    assert_eq!(second.status(1).outgoing.connections, 0);
    assert!(!second.links.send(NodeId(1), numbered(1)));
}

#[test]
fn who_is_not_as_he_should_be_is_refused_with_the_reason() {
    let (one, two) = (Plan::of(1), Plan::of(2));
    let unbelieved = "it does not believe this node's certificate";
    let other = Plan {
        cluster: "other".parse().unwrap(),
        ..two.clone()
    };
    refused(
        &one,
        &other,
        &[2],
        unbelieved,
        "its certificate is of cluster test, and this node is of other",
    );
    let group = Plan {
        group: 3,
        ..two.clone()
    };
    refused(
        &one,
        &group,
        &[2],
        "is of group 0, and you are of 3",
        "is of group 0, and you are of 3",
    );
    let incarnation = Plan {
        incarnation: 2,
        ..two.clone()
    };
    let text = "lives in incarnation 1 of the group, and you in 2";
    refused(&one, &incarnation, &[2], text, text);
    let posing = Plan {
        certified: Some(3),
        ..two.clone()
    };
    let text = "you say that you are node 2, and your certificate is of spiffe://meridian/test/uae/3/node";
    refused(&one, &posing, &[2, 3], text, text);
    let text = "node 2 is not a member of the group: add it first";
    refused(&one, &two, &[3], text, text);
    let called = Plan {
        certified: Some(5),
        ..one.clone()
    };
    refused(&called, &two, &[2], unbelieved, "5/node, and node 1 was called");
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    let expired = Validity {
        from: now - 2 * day,
        until: now - day,
    };
    let validity = |validity, plan: &Plan| Plan {
        validity,
        ..plan.clone()
    };
    refused(
        &one,
        &validity(expired, &two),
        &[2],
        "its certificate has expired: issue another one",
        "it says that this node's certificate has expired",
    );
    refused(
        &validity(expired, &one),
        &two,
        &[2],
        "it says that this node's certificate has expired",
        "its certificate has expired: issue another one",
    );
}

#[test]
fn a_stranger_s_authority_is_refused_on_both_sides() {
    let world = World::new();
    let (strange, strange_ca) = authority();
    let listener = listener();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let address = listener.local_addr().unwrap();
    let one = world.start(&Plan::of(1), listener, &[(2, nowhere)]);
    let pair = strange
        .issue(&name(cluster(), 2, Role::Node), Validity::days(1))
        .unwrap();
    for (ca, at_one, at_two) in [
        (
            vec![&strange_ca, &world.ca],
            "its certificate is not of an authority in peers.ca",
            "it does not know the authority of this node's certificate",
        ),
        (
            vec![&strange_ca],
            "it does not know the authority of this node's certificate",
            "its certificate is not of an authority in peers.ca",
        ),
    ] {
        let files = write(&world.folder.path().join("strange"), &pair, &ca);
        let plan = Plan::of(2);
        let two = start(&plan, self::listener(), &[(1, address)], files, channel().1, |_, _| {});
        one.until_refused_with(at_one);
        two.until_out_fails_with(1, at_two);
    }
}

#[test]
fn files_that_do_not_belong_together_are_refused_at_the_start() {
    let world = World::new();
    let (strange, strange_ca) = authority();
    let issue = |authority: &Authority, node| {
        let name = name(cluster(), node, Role::Node);
        authority.issue(&name, Validity::days(1)).unwrap()
    };
    let (own, other) = (issue(&world.authority, 1), issue(&world.authority, 2));
    let mixed = Pair {
        private_key: other.private_key.clone(),
        ..own.clone()
    };
    let load = |pair: &Pair, ca: &Pair| {
        let files = write(&world.folder.path().join("files"), pair, &[ca]);
        PeerTls::load(&files, cluster(), NodeId(1), Role::Node)
    };
    assert_eq!(load(&own, &world.ca).unwrap().name(), name(cluster(), 1, Role::Node));
    for (pair, ca, said) in [
        (
            &other,
            &world.ca,
            "is of spiffe://meridian/test/uae/2/node, and this node is node 1",
        ),
        (&mixed, &world.ca, "can't be used with its private key"),
        (&own, &strange_ca, "is not of an authority in"),
        (&issue(&strange, 1), &world.ca, "is not of an authority in"),
        (&world.ca, &world.ca, "is not of the form"),
    ] {
        let error: PeerTlsError = load(pair, ca).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let missing = PeerFiles {
        certificate: world.folder.path().join("nothing"),
        private_key: world.folder.path().join("nothing"),
        ca: world.folder.path().join("nothing"),
    };
    let error = PeerTls::load(&missing, cluster(), NodeId(1), Role::Node).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
}

/// Believes every server.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// A connection by hand, with a certificate or without one.
fn by_hand(address: SocketAddr, pair: Option<&Pair>) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous));
    let mut config = match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pair.private_key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"meridian-peer".to_vec()];
    let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(client, socket)
}

fn hello(node: u64, role: Role) -> Vec<u8> {
    let hello = Hello {
        protocol_min: PROTOCOL_VERSION_MIN,
        protocol_max: PROTOCOL_VERSION_MAX,
        reads: ReadableVersions::default(),
        cluster: cluster(),
        group: GroupId(0),
        incarnation: Incarnation(1),
        node: NodeId(node),
        role,
        program: program_version("by-hand").unwrap(),
        sent_at: Timestamp(1),
        quarantined: None,
    };
    encoded(&Frame::Hello(hello))
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_no_peer_harms_nobody() {
    let world = World::new();
    let (one, two) = world.pair();
    // Never a byte; more of them than are kept.
    let silent: Vec<_> = (0..40).map(|_| TcpStream::connect(one.address).unwrap()).collect();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 4096],
        &[255; 4096],
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut socket = TcpStream::connect(one.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = socket.write_all(garbage);
        let _ = socket.read_to_end(&mut Vec::new());
    }
    let mut nobody = by_hand(one.address, None);
    let _ = nobody.write_all(&hello(2, Role::Node));
    let refused = nobody.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
    one.until_refused_with("it showed no certificate");

    let pair = world
        .authority
        .issue(&name(cluster(), 3, Role::Node), Validity::days(1))
        .unwrap();
    let huge = [&[255; 4][..], &[0; FRAME_HEADER_BYTES - 4]].concat();
    let mut long = encoded(&Frame::ControlAnswer(vec![0; 100].into()));
    long[3] = 1;
    let early = encoded(&numbered(1));
    for (bytes, said) in [
        (&huge, "it sent what is no frame: there is no frame of kind 0"),
        (
            &long,
            "it sent what is no frame: a control answer frame of 16777316 bytes",
        ),
        (&early, "it sent a control request frame before it said who it is"),
    ] {
        let mut peer = by_hand(one.address, Some(&pair));
        peer.write_all(bytes).unwrap();
        assert_eq!(peer.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
        one.until_refused_with(said);
    }
    drop(silent);
    one.send(2, 7);
    two.expect(1, 7);
    two.send(1, 8);
    one.expect(2, 8);
    assert_eq!(one.status(2).incoming.connections, 1);
}

#[test]
fn a_known_peer_says_only_what_it_may() {
    let world = World::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let one = world.start(&Plan::of(1), listener(), &[(2, nowhere), (3, nowhere)]);
    let issue = |node, role| {
        let name = name(cluster(), node, role);
        world.authority.issue(&name, Validity::days(1)).unwrap()
    };
    let (node, gateway) = (issue(2, Role::Node), issue(3, Role::Gateway));
    let raft = |from, to| {
        Frame::Raft(RaftMessage {
            from: NodeId(from),
            to: NodeId(to),
            ..RaftMessage::default()
        })
    };
    let forward = Frame::Forward(vec![Forward {
        token: 1,
        command: vec![1].into(),
    }]);
    let mut damaged = encoded(&raft(2, 1));
    *damaged.last_mut().unwrap() ^= 1;
    for (id, role, pair, good, bad, said) in [
        (
            2,
            Role::Node,
            &node,
            raft(2, 1),
            encoded(&raft(3, 1)),
            "a message from node 3 to node 1",
        ),
        (
            2,
            Role::Node,
            &node,
            forward.clone(),
            encoded(&raft(2, 3)),
            "a message from node 2 to node 3",
        ),
        (2, Role::Node, &node, raft(2, 1), damaged, "its checksum does not agree"),
        (
            2,
            Role::Node,
            &node,
            raft(2, 1),
            hello(2, Role::Node),
            "a hello frame where none belongs",
        ),
        (
            3,
            Role::Gateway,
            &gateway,
            forward,
            encoded(&raft(3, 1)),
            "it is a gateway and sent a raft frame",
        ),
    ] {
        let mut peer = by_hand(one.address, Some(pair));
        peer.write_all(&hello(id, role)).unwrap();
        // How long it is depends on what a node tells of itself.
        let mut answer = vec![0; FRAME_HEADER_BYTES];
        peer.read_exact(&mut answer).unwrap();
        let rest = wire::peer::decode_header(answer.as_slice().try_into().unwrap())
            .unwrap()
            .payload_bytes;
        answer.resize(FRAME_HEADER_BYTES + rest, 0);
        peer.read_exact(&mut answer[FRAME_HEADER_BYTES..]).unwrap();
        assert!(matches!(wire::peer::decode_frame(answer.into()), Ok(Frame::Hello(_))));
        peer.write_all(&encoded(&good)).unwrap();
        assert_eq!(one.frames.recv_timeout(PATIENCE).unwrap(), (NodeId(id), good));
        peer.write_all(&bad).unwrap();
        until(said, || {
            let last = one.status(id).incoming.last_error;
            last.is_some_and(|(_, error)| error.contains(said))
        });
    }
    assert!(one.frames.try_recv().is_err());
}

#[test]
fn a_newer_connection_takes_the_place_of_the_older_one() {
    let world = World::new();
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let one = world.start(&Plan::of(1), listener(), &[(2, nowhere)]);
    let pair = world
        .authority
        .issue(&name(cluster(), 2, Role::Node), Validity::days(1))
        .unwrap();
    let connect = || {
        let mut peer = by_hand(one.address, Some(&pair));
        peer.write_all(&hello(2, Role::Node)).unwrap();
        let mut answer = vec![0; hello(2, Role::Node).len()];
        peer.read_exact(&mut answer).unwrap();
        peer
    };
    let mut older = connect();
    older.write_all(&encoded(&numbered(1))).unwrap();
    one.expect(2, 1);
    let mut newer = connect();
    newer.write_all(&encoded(&numbered(2))).unwrap();
    one.expect(2, 2);
    assert_eq!(older.read_to_end(&mut Vec::new()).unwrap_or(0), 0, "it was closed");
    let ups: Vec<_> = one
        .changes
        .try_iter()
        .map(|change| (change.direction, change.is_up))
        .collect();
    assert_eq!(
        ups,
        [(Direction::In, true), (Direction::In, false), (Direction::In, true)]
    );
    assert_eq!(one.status(2).incoming.connections, 2);
}
