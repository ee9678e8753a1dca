//! Clients behind a proxy that says who they are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gateway::GatewayConfig;
use gateway::rate_limits::{BucketConfig, RateLimitsConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{cluster, node_with};

/// Serves a node that lets one unsigned request of an address through, and only `proxy` in.
async fn serve(proxy: IpAddr) -> (SocketAddr, watch::Sender<bool>) {
    let mut config = GatewayConfig::new(cluster());
    config.proxy_protocol_from = vec![proxy];
    let one = BucketConfig {
        burst: 1,
        per_second: 1,
    };
    config.rate_limits = RateLimitsConfig {
        per_key: one,
        per_address: one,
        buckets_max: 100,
    };
    let node = node_with(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move { node.gateway.serve_public(listener, stopped).await });
    (address, stop)
}

/// Sends what a proxy would, and a request; the status line of the answer, nothing if the connection is closed.
async fn ask(node: SocketAddr, header: &[u8]) -> String {
    let mut stream = TcpStream::connect(node).await.unwrap();
    let request = b"GET /v1/time HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    // It may be closed before all is sent.
    let _ = stream.write_all(&[header, request].concat()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}

fn header(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend_from_slice(&client);
    header.extend_from_slice(&[203, 0, 113, 10, 0xdc, 0x04, 0x01, 0xbb]);
    header
}

#[tokio::test]
async fn limits_go_by_the_client_that_the_proxy_names() {
    let (node, _stop) = serve(Ipv4Addr::LOCALHOST.into()).await;
    assert_eq!(ask(node, &header([192, 0, 2, 1])).await, "HTTP/1.1 200 OK");
    assert_eq!(
        ask(node, &header([192, 0, 2, 1])).await,
        "HTTP/1.1 429 Too Many Requests"
    );
    assert_eq!(ask(node, &header([192, 0, 2, 2])).await, "HTTP/1.1 200 OK");
    // The proxy's own connection counts as the proxy's.
    let own = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    assert_eq!(ask(node, own).await, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn who_says_nothing_or_is_no_proxy_is_not_let_in() {
    let (node, _stop) = serve(Ipv4Addr::LOCALHOST.into()).await;
    assert_eq!(ask(node, b"").await, "");
    assert_eq!(ask(node, b"PROXY TCP4 192.0.2.1 203.0.113.10 1 2\r\n").await, "");
    let (node, _stop) = serve(Ipv4Addr::new(192, 0, 2, 99).into()).await;
    assert_eq!(ask(node, &header([192, 0, 2, 1])).await, "");
}
