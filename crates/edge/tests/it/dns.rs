//! DNS answers.

use std::net::SocketAddr;
use std::path::Path;

use edge::Config;
use edge::dns::{Answerer, DnsOutcome, Picture};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::{FRONT, TestEdge, TestNode, config, until};

const DNS: &str = r#"
[dns]
listen = ["127.0.0.1:0"]
answers_per_network_per_second = 1000
[[dns.zone]]
name = "trade.example"
hostmaster = "hostmaster.example.com"
name_servers = [{ name = "ns1.trade.example", addresses = ["203.0.113.53", "2001:db8::53"] }, { name = "ns2.example.com" }]
names = ["trade.example", "api.trade.example", "a.b.trade.example"]
"#;

const REGIONS: &str = r#"
[[region]]
name = "east"
nodes = [{ address = "127.0.0.1:1", health = "127.0.0.1:2" }]
public = ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
[[region]]
name = "west"
nodes = [{ address = "127.0.0.1:3", health = "127.0.0.1:4" }]
public = ["198.51.100.1"]
"#;

const EAST: Picture = Picture {
    region: Some(0),
    epoch: 7,
};

fn answerer() -> Answerer {
    let text = format!("{DNS}{REGIONS}");
    Answerer::new(&Config::parse(Path::new("edge.toml"), &text).unwrap())
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4_711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// An answer as one line: code, flags, and the sections.
fn told(bytes: &[u8]) -> String {
    let message = Message::from_vec(bytes).unwrap();
    assert_eq!(
        (message.metadata.id, message.metadata.message_type),
        (4_711, MessageType::Response)
    );
    assert!(!message.metadata.recursion_available);
    let mut text = format!("{:?}", message.metadata.response_code);
    for (flag, name) in [
        (message.metadata.authoritative, " aa"),
        (message.metadata.truncation, " tc"),
        (message.edns.is_some(), " edns"),
    ] {
        text += if flag { name } else { "" };
    }
    for (section, name) in [
        (&message.answers, "answer"),
        (&message.authorities, "authority"),
        (&message.additionals, "additional"),
    ] {
        for record in section {
            let data = match &record.data {
                RData::SOA(soa) => format!("serial {} minimum {}", soa.serial, soa.minimum),
                data => data.to_string(),
            };
            text += &format!(
                " | {name} {} {} {} {data}",
                record.name,
                record.ttl,
                record.record_type()
            );
        }
    }
    text
}

fn answer(name: &str, kind: RecordType, picture: Picture) -> String {
    let bytes = question(name, kind).to_vec().unwrap();
    told(&answerer().answer(&bytes, false, picture).unwrap().bytes)
}

#[test]
fn names_lead_to_the_active_region() {
    let west = Picture {
        region: Some(1),
        epoch: 8,
    };
    let nowhere = Picture { region: None, epoch: 0 };
    let soa = "authority trade.example. 5 SOA serial 7 minimum 5";
    for (name, kind, picture, wanted) in [
        (
            "api.trade.example.",
            RecordType::A,
            EAST,
            "NoError aa | answer api.trade.example. 5 A 192.0.2.1 | answer api.trade.example. 5 A 192.0.2.2".to_owned(),
        ),
        (
            "api.trade.example.",
            RecordType::AAAA,
            EAST,
            "NoError aa | answer api.trade.example. 5 AAAA 2001:db8::1".to_owned(),
        ),
        (
            "trade.example.",
            RecordType::A,
            west,
            "NoError aa | answer trade.example. 5 A 198.51.100.1".to_owned(),
        ),
        // Told as it was asked for.
        (
            "ApI.tRade.example.",
            RecordType::A,
            west,
            "NoError aa | answer ApI.tRade.example. 5 A 198.51.100.1".to_owned(),
        ),
        // There, but not of that type.
        ("api.trade.example.", RecordType::MX, EAST, format!("NoError aa | {soa}")),
        (
            "api.trade.example.",
            RecordType::AAAA,
            west,
            "NoError aa | authority trade.example. 5 SOA serial 8 minimum 5".to_owned(),
        ),
        ("b.trade.example.", RecordType::A, EAST, format!("NoError aa | {soa}")),
        // Not there.
        ("nope.trade.example.", RecordType::A, EAST, format!("NXDomain aa | {soa}")),
        ("x.api.trade.example.", RecordType::A, EAST, format!("NXDomain aa | {soa}")),
        // The zone's own.
        (
            "trade.example.",
            RecordType::SOA,
            EAST,
            "NoError aa | answer trade.example. 5 SOA serial 7 minimum 5".to_owned(),
        ),
        (
            "trade.example.",
            RecordType::NS,
            EAST,
            "NoError aa | answer trade.example. 3600 NS ns1.trade.example. | answer trade.example. 3600 NS ns2.example.com. \
             | additional ns1.trade.example. 3600 A 203.0.113.53 | additional ns1.trade.example. 3600 AAAA 2001:db8::53"
                .to_owned(),
        ),
        (
            "ns1.trade.example.",
            RecordType::A,
            nowhere,
            "NoError aa | answer ns1.trade.example. 3600 A 203.0.113.53".to_owned(),
        ),
        // Of all types, one.
        (
            "api.trade.example.",
            RecordType::ANY,
            EAST,
            "NoError aa | answer api.trade.example. 5 A 192.0.2.1 | answer api.trade.example. 5 A 192.0.2.2".to_owned(),
        ),
        // Somebody else's, and what is not given away.
        ("example.", RecordType::A, EAST, "Refused".to_owned()),
        ("example.com.", RecordType::A, EAST, "Refused".to_owned()),
        ("xtrade.example.", RecordType::A, EAST, "Refused".to_owned()),
        (".", RecordType::NS, EAST, "Refused".to_owned()),
        ("trade.example.", RecordType::AXFR, EAST, "Refused".to_owned()),
        // Nothing is known yet.
        ("api.trade.example.", RecordType::A, nowhere, "ServFail".to_owned()),
    ] {
        assert_eq!(answer(name, kind, picture), wanted, "{name} {kind}");
    }
}

#[test]
fn what_is_no_plain_question_is_told_so() {
    let answerer = answerer();
    let ask = |message: &Message| told(&answerer.answer(&message.to_vec().unwrap(), false, EAST).unwrap().bytes);
    let plain = question("api.trade.example.", RecordType::MX);
    let mut update = plain.clone();
    update.metadata.op_code = OpCode::Update;
    assert_eq!(ask(&update), "NotImp");
    let mut two = plain.clone();
    two.add_query(two.queries[0].clone());
    assert_eq!(ask(&two), "FormErr");
    let mut chaos = plain.clone();
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(ask(&chaos), "Refused");
    let mut edns = plain.clone();
    edns.set_edns(Edns::new());
    assert!(ask(&edns).starts_with("NoError aa edns |"), "{}", ask(&edns));
    let mut later = Edns::new();
    later.set_version(1);
    edns.set_edns(later);
    // BADVERS and BADSIG are one number, 16 (RFC 6891, section 9).
    assert_eq!(ask(&edns), "BADSIG edns");
    // An answer is not answered, nor is what is shorter than a header.
    let mut reply = plain.clone();
    reply.metadata.message_type = MessageType::Response;
    assert_eq!(answerer.answer(&reply.to_vec().unwrap(), false, EAST), None);
    assert_eq!(answerer.answer(&plain.to_vec().unwrap()[..11], false, EAST), None);
    // Cut off within the question.
    let cut = &plain.to_vec().unwrap()[..20];
    let cut = answerer.answer(cut, false, EAST).unwrap();
    assert_eq!((cut.outcome, &*told(&cut.bytes)), (DnsOutcome::Malformed, "FormErr"));
}

#[test]
fn an_answer_is_these_bytes() {
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    };
    let name = "03 617069 05 7472616465 07 6578616d706c65 00";
    let asked = hex(&format!("1267 0100 0001 0000 0000 0000 {name} 0001 0001"));
    let wanted = hex(&format!(
        "1267 8500 0001 0002 0000 0000 {name} 0001 0001 \
         c00c 0001 0001 00000005 0004 c0000201 c00c 0001 0001 00000005 0004 c0000202"
    ));
    assert_eq!(answerer().answer(&asked, false, EAST).unwrap().bytes, wanted);
}

#[test]
fn whatever_comes_nothing_panics() {
    let answerer = answerer();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut edns = question("api.trade.example.", RecordType::A);
    edns.set_edns(Edns::new());
    let seeds = [
        edns.to_vec().unwrap(),
        question("trade.example.", RecordType::NS).to_vec().unwrap(),
        Vec::new(),
    ];
    for round in 0..60_000usize {
        let mut bytes = seeds[round % seeds.len()].clone();
        if bytes.is_empty() {
            let length = (random() % 600) as usize;
            bytes.extend((0..length).map(|_| random() as u8));
        }
        for _ in 0..random() % 4 {
            let at = (random() % (bytes.len() as u64 + 1)) as usize;
            match random() % 3 {
                0 if at < bytes.len() => bytes[at] = random() as u8,
                1 => bytes.truncate(at),
                _ => bytes.insert(at, random() as u8),
            }
        }
        for over_tcp in [false, true] {
            if let Some(replied) = answerer.answer(&bytes, over_tcp, EAST) {
                let reply = Message::from_vec(&replied.bytes).unwrap();
                assert_eq!(reply.metadata.message_type, MessageType::Response);
                assert!(over_tcp || replied.bytes.len() <= 1_232);
            }
        }
        if let Some(truncated) = answerer.truncated(&bytes) {
            assert!(truncated.len() <= 512);
        }
    }
}

/// Asks over UDP; a datagram that is lost is sent again.
async fn over_udp(server: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    let mut buffer = [0; 4_096];
    loop {
        socket.send(bytes).await.unwrap();
        let received = tokio::time::timeout(std::time::Duration::from_secs(5), socket.recv(&mut buffer));
        if let Ok(Ok(count)) = received.await {
            return buffer[..count].to_vec();
        }
    }
}

async fn over_tcp(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    stream.write_u16(length).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn over_sockets_the_active_region_is_told_and_the_last_one_when_none_is() {
    let east = TestNode::start("east", Some((true, 1))).await;
    let west = TestNode::start("west", Some((false, 1))).await;
    let more = format!("{FRONT}{DNS}");
    let edge = TestEdge::start(config(&[("east", &[&east]), ("west", &[&west])], &more)).await;
    let server = edge.dns.unwrap();
    let bytes = question("api.trade.example.", RecordType::A).to_vec().unwrap();
    edge.follows("east", 1, 1).await;
    let told_east = "NoError aa | answer api.trade.example. 5 A 192.0.2.1";
    assert_eq!(told(&over_udp(server, &bytes).await), told_east);
    // Several questions over one connection.
    let mut stream = TcpStream::connect(server).await.unwrap();
    assert_eq!(told(&over_tcp(&mut stream, &bytes).await), told_east);
    west.say(true, 2);
    edge.follows("west", 2, 1).await;
    let told_west = "NoError aa | answer api.trade.example. 5 A 192.0.2.2";
    assert_eq!(told(&over_tcp(&mut stream, &bytes).await), told_west);
    assert_eq!(told(&over_udp(server, &bytes).await), told_west);
    assert_eq!(edge.figure("meridian_edge_dns_fail_static").await, 0.0);
    // Garbage is survived.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in [0, 1, 12, 13, 512, 4_000] {
        socket.send_to(&vec![0x3f; length], server).await.unwrap();
    }
    // Nobody is there any more.
    west.fall_silent();
    edge.follows("west", 2, 0).await;
    assert_eq!(told(&over_udp(server, &bytes).await), told_west);
    assert_eq!(edge.figure("meridian_edge_dns_fail_static").await, 1.0);
    assert!(edge.figure("meridian_edge_dns_answers_total{outcome=\"answer\"}").await >= 5.0);
}

#[tokio::test]
async fn a_network_that_asks_too_much_is_limited_and_can_use_tcp() {
    let node = TestNode::start("one", Some((true, 1))).await;
    let mut config = config(&[("east", &[&node])], &format!("{FRONT}{DNS}"));
    config.dns.answers_per_network_per_second = 1;
    config.dns.slip = 2;
    config.dns.connections_per_source_max = 1;
    let edge = TestEdge::start(config).await;
    edge.follows("east", 1, 1).await;
    let server = edge.dns.unwrap();
    let bytes = question("api.trade.example.", RecordType::A).to_vec().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    // However quickly the allowance grows, one of these questions is above it, and one of two above it is answered so.
    let mut buffer = [0; 4_096];
    let mut truncated = None;
    until("a truncated answer", async || {
        edge.figure("meridian_edge_dns_limited_total{how=\"truncated\"}").await >= 1.0 || {
            for _ in 0..4 {
                socket.send(&bytes).await.unwrap();
            }
            false
        }
    })
    .await;
    while truncated.is_none() {
        let count = socket.recv(&mut buffer).await.unwrap();
        let text = told(&buffer[..count]);
        truncated = (text == "NoError tc").then_some(text);
    }
    assert!(edge.figure("meridian_edge_dns_limited_total{how=\"dropped\"}").await >= 1.0);
    let mut stream = TcpStream::connect(server).await.unwrap();
    assert!(told(&over_tcp(&mut stream, &bytes).await).starts_with("NoError aa | answer"));
    // Connections over TCP are limited by themselves.
    let mut second = TcpStream::connect(server).await.unwrap();
    assert!(second.read_u16().await.is_err());
    assert_eq!(edge.figure("meridian_edge_dns_connections_refused_total").await, 1.0);
}
