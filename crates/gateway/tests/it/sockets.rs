//! The accept loop, over real connections.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway::GatewayConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::{Node, START, cluster, limit, node, node_with};

struct Served {
    address: std::net::SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

async fn serve(node: &Node) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let gateway = node.gateway.clone();
    let serving = tokio::spawn(async move { gateway.serve_public(listener, stopped).await });
    Served { address, stop, serving }
}

/// Reads one answer: its head and as much of the body as `content-length` says.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
}

fn order_request(node: &Node, key: &crate::support::TestKey, id: &str) -> String {
    let mut draft = node.draft("POST", "/v1/orders", &limit(id, "buy", "100", "1").to_string());
    draft.signed_id = Some(id.to_owned());
    let request = node.signed(key, &draft);
    let mut text = format!(
        "POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n",
        draft.body.len()
    );
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    text + "\r\n" + &draft.body
}

#[tokio::test]
async fn received_at_is_when_the_first_byte_was_read() {
    let node = node();
    let [key, _] = node.with_market().await;
    let served = serve(&node).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = order_request(&node, &key, "s-1");
    let (first, rest) = request.split_at(10);
    node.core.stamped_reads.store(0, Ordering::SeqCst);
    stream.write_all(first.as_bytes()).await.unwrap();
    // The first bytes have been stamped once the node has read them; only then does its clock go on.
    while node.core.stamped_reads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    node.core.advance_ms(700);
    stream.write_all(rest.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let start = START.0;
    assert!(answer.contains(&format!("\"received_at\":\"{start}\"")), "{answer}");
    assert!(
        answer.contains(&format!("\"sequenced_at\":\"{}\"", start + 700_000_000)),
        "{answer}"
    );

    // The next request on the same connection has a stamp of its own.
    node.core.advance_ms(300);
    stream
        .write_all(order_request(&node, &key, "s-2").as_bytes())
        .await
        .unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(
        answer.contains(&format!("\"received_at\":\"{}\"", start + 1_000_000_000)),
        "{answer}"
    );
    served.stop.send(true).unwrap();
    drop(stream);
    served.serving.await.unwrap();
}

#[tokio::test]
async fn too_many_connections_are_told_so() {
    let mut config = GatewayConfig::new(cluster());
    config.connections_max = 1;
    let node = node_with(config);
    let served = serve(&node).await;
    let mut first = TcpStream::connect(served.address).await.unwrap();
    first
        .write_all(b"GET /v1/time HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(read_answer(&mut first).await.starts_with("HTTP/1.1 200"));
    let mut second = TcpStream::connect(served.address).await.unwrap();
    let answer = read_answer(&mut second).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("connections_limit"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_no_http_or_comes_too_slowly_ends_the_connection() {
    let mut config = GatewayConfig::new(cluster());
    config.head_timeout = Duration::from_millis(20);
    config.body_timeout = Duration::from_millis(20);
    let node = node_with(config);
    let served = serve(&node).await;
    for (sent, expected) in [
        ("nonsense\r\n\r\n", "HTTP/1.1 400"),
        ("GET /v1/time HTTP/1.1\r\nhost", ""),
        ("GET /v1/time HTTP/1.1\r\nx: ", ""),
        (
            "POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
            "HTTP/1.1 400",
        ),
        (
            "POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\ncontent-length: 8\r\n\r\n{",
            "HTTP/1.1 400",
        ),
        (
            "POST /v1/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\nconnection: close\r\n\r\n{",
            "HTTP/1.1 413",
        ),
        (
            "GET http://elsewhere/v1/limits HTTP/1.1\r\nhost: x\r\nmeridian-key: 1\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 401",
        ),
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with(expected), "{sent:?}: {answer}");
    }
    let large = format!("GET /v1/time HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let _ = stream.write_all(large.as_bytes()).await;
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn pipelined_requests_are_all_answered() {
    let node = node();
    let [key, _] = node.with_market().await;
    let served = serve(&node).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let requests = order_request(&node, &key, "p-1") + &order_request(&node, &key, "p-2");
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while String::from_utf8_lossy(&bytes)
        .matches("\"outcome\":\"executed\"")
        .count()
        < 2
    {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
    assert_eq!(
        String::from_utf8_lossy(&bytes)
            .matches(&format!("\"received_at\":\"{}\"", START.0))
            .count(),
        2
    );
}

#[tokio::test]
async fn whoever_does_not_read_the_answers_is_cut() {
    let mut config = GatewayConfig::new(cluster());
    config.connections_max = 1;
    config.write_timeout = Duration::from_millis(20);
    let node = node_with(config);
    let served = serve(&node).await;
    let mut deaf = TcpStream::connect(served.address).await.unwrap();
    // More than the system buffers on the way.
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(400);
    deaf.write_all(requests.as_bytes()).await.unwrap();
    // The only place for a connection becomes free once the deaf one is cut.
    loop {
        let mut other = TcpStream::connect(served.address).await.unwrap();
        other
            .write_all(b"GET /v1/time HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = vec![0; 12];
        if other.read_exact(&mut answer).await.is_ok() && answer == b"HTTP/1.1 200" {
            break;
        }
    }
}
