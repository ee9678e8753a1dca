//! What passes through a connection.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{FRONT, TestEdge, TestNode, config};

#[tokio::test]
async fn who_sends_no_more_still_hears_the_rest() {
    let node = TestNode::start("one", Some((true, 1))).await;
    let edge = TestEdge::start(config(&[("east", &[&node])], FRONT)).await;
    edge.follows("east", 1, 1).await;
    let (mut client, _) = edge.connect().await;
    assert!(client.echoes().await);
    client.0.shutdown().await.unwrap();
    assert_eq!(client.line().await, "that was all");
    client.ends().await;
    edge.figure_becomes("meridian_edge_ended_total{reason=\"finished\"}", 1.0)
        .await;
}

#[tokio::test]
async fn much_passes_unchanged_both_ways() {
    let node = TestNode::start("one", Some((true, 1))).await;
    let more = format!("{FRONT}[connections]\nbuffer_bytes = 1024\n");
    let edge = TestEdge::start(config(&[("east", &[&node])], &more)).await;
    edge.follows("east", 1, 1).await;
    let (client, _) = edge.connect().await;
    let sent: Vec<u8> = (0..3_000_000u32).map(|index| (index % 251) as u8).collect();
    let (mut reads, mut writes) = client.0.into_split();
    let to_send = sent.clone();
    let sending = tokio::spawn(async move {
        writes.write_all(&to_send).await.unwrap();
        writes
    });
    let mut received = vec![0; sent.len()];
    reads.read_exact(&mut received).await.unwrap();
    assert!(received == sent, "what came back is not what was sent");
    drop(sending.await.unwrap());
    let greeting = "one\n".len() + "that was all\n".len();
    edge.figure_becomes("meridian_edge_bytes_total{from=\"client\"}", sent.len() as f64)
        .await;
    let from_node = (sent.len() + greeting) as f64;
    edge.figure_becomes("meridian_edge_bytes_total{from=\"node\"}", from_node)
        .await;
}

/// Accepts one connection and reads so many bytes of it.
async fn first_bytes(listener: TcpListener, count: usize) -> Vec<u8> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_node_is_told_who_the_client_is() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(listen).await else {
            println!("SKIPPED a_node_is_told_who_the_client_is: this machine has no {listen}");
            continue;
        };
        let node_address = listener.local_addr().unwrap();
        let mut node = TestNode::at(node_address, Some((true, 1))).await;
        // The front stands for another port of the node, too.
        let mut other = node_address;
        other.set_port(9);
        node.address = other;
        let more = format!(
            "[[front]]\nlisten = \"{listen}\"\nproxy_protocol = true\nnode_port = {}\n",
            node_address.port()
        );
        let edge = TestEdge::start(config(&[("east", &[&node])], &more)).await;
        edge.follows("east", 1, 1).await;
        let mut client = TcpStream::connect(edge.front).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let (source, destination) = (client.local_addr().unwrap(), edge.front);
        let mut wanted = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
        match (source, destination) {
            (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
                wanted.extend_from_slice(&[0x11, 0, 12]);
                wanted.extend_from_slice(&source.ip().octets());
                wanted.extend_from_slice(&destination.ip().octets());
            }
            (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
                wanted.extend_from_slice(&[0x21, 0, 36]);
                wanted.extend_from_slice(&source.ip().octets());
                wanted.extend_from_slice(&destination.ip().octets());
            }
            _ => unreachable!("both ends are of one family"),
        }
        wanted.extend_from_slice(&source.port().to_be_bytes());
        wanted.extend_from_slice(&destination.port().to_be_bytes());
        wanted.extend_from_slice(b"hello");
        assert_eq!(first_bytes(listener, wanted.len()).await, wanted);
    }
}
