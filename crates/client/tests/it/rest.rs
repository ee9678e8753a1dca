//! REST: what is sent after a cut, and what is made of the answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{ClientError, Credentials, Endpoint, Endpoints, RestClient, RetryPolicy, Secret, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use types::KeyId;
use wire::errors::Refusal;
use wire::json::{self, DecimalText, OrderAnswer, Problem};

/// What the server does with the next request.
#[derive(Clone, Debug)]
enum Act {
    /// Reads it and closes the connection.
    Cut,
    /// Reads it and answers nothing for as long as the client waits.
    Silence,
    /// Answers.
    Answer(u16, String),
}

/// A server that does one act a request, and what it read.
async fn server(acts: Vec<Act>) -> (Endpoint, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        let mut kept_open = Vec::new();
        for act in acts {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = read_request(&mut stream).await;
            shared.lock().unwrap().push(request);
            match act {
                Act::Cut => drop(stream),
                Act::Silence => kept_open.push(stream),
                Act::Answer(status, body) => {
                    let length = body.len();
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                }
            }
        }
    });
    (endpoint, seen)
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the client sent half a request");
        read.extend_from_slice(&buffer[..count]);
    }
}

fn time() -> Act {
    let time = json::ServerTime {
        now: types::Timestamp(1_700_000_000_000_000_000).into(),
        clock_error_bound_ns: 0.into(),
        cluster_id: "demo-1".into(),
        group: 0,
        epoch: 1,
        last_sequence: 0.into(),
    };
    Act::Answer(200, serde_json::to_string(&time).unwrap())
}

fn executed() -> Act {
    let position = json::Position {
        group: 0,
        epoch: 1,
        sequence: 9.into(),
    };
    let at: json::TimeText = types::Timestamp(1).into();
    let answer = OrderAnswer {
        outcome: json::Outcome::Executed,
        applies_to: json::AppliesTo::Order,
        repeat: true,
        request_id: "a-1".into(),
        order: None,
        fills: Vec::new(),
        cancelled_quantity: None,
        priority_kept: None,
        client_order_id_burnt: None,
        position,
        durable_in: json::DurableIn::Region,
        times: json::Times {
            received_at: at.clone(),
            sequenced_at: at,
            committed_at: None,
            clock_error_bound_ns: 0.into(),
        },
    };
    Act::Answer(201, serde_json::to_string(&answer).unwrap())
}

fn refused(refusal: Refusal, retry_after_ms: Option<u64>) -> Act {
    let mut problem = Problem::new(refusal.into());
    problem.retry_after_ms = retry_after_ms;
    Act::Answer(problem.status, serde_json::to_string(&problem).unwrap())
}

fn order() -> json::NewOrder {
    json::NewOrder {
        client_order_id: "a-1".into(),
        symbol: "A-B".into(),
        side: json::Side::Buy,
        order_type: json::OrderType::Limit,
        time_in_force: None,
        expires_at: None,
        price: Some(DecimalText("1".into())),
        quantity: DecimalText("2".into()),
        post_only: false,
        self_trade_prevention: None,
        valid_until: None,
        validate_only: false,
    }
}

async fn client(endpoints: impl Into<Endpoints>) -> RestClient {
    let policy = RetryPolicy {
        attempt_timeout: Duration::from_millis(300),
        give_up_after: Duration::from_secs(20),
        wait_first: Duration::from_millis(1),
        wait_longest: Duration::from_millis(4),
        ..RetryPolicy::default()
    };
    let credentials = Credentials {
        key: KeyId(3),
        secret: Secret::generate_ed25519(),
    };
    RestClient::connect(endpoints, Some(credentials), policy).await.unwrap()
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn several(nodes: &[&Endpoint]) -> Endpoints {
    let urls: Vec<String> = nodes.iter().map(|node| node.url("")).collect();
    Endpoints::parse(&urls.join(",")).unwrap()
}

#[tokio::test]
async fn a_node_that_is_gone_stops_or_does_not_lead_is_left_for_the_next_with_the_same_request() {
    let stopping = refused(Refusal::NodeStopping, Some(60_000));
    let not_leader = refused(Refusal::NotLeader, None);
    let (first, seen_by_first) = server(vec![time(), stopping, not_leader]).await;
    // What it made of the order before the line was cut nobody knows.
    let (second, seen_by_second) = server(vec![Act::Cut, executed()]).await;
    let gone = Endpoint::parse("http://127.0.0.1:1").unwrap();
    let client = client(several(&[&first, &second, &gone])).await;
    let answer = client.place(order()).await.unwrap();
    assert!(answer.repeat);
    let (first, second) = (seen_by_first.lock().unwrap(), seen_by_second.lock().unwrap());
    let orders: Vec<&String> = first[1..].iter().chain(second.iter()).collect();
    assert_eq!(orders.len(), 4);
    for request in &orders {
        assert_eq!(
            request.split_once("\r\n\r\n").unwrap().1,
            orders[0].split_once("\r\n\r\n").unwrap().1
        );
        assert_eq!(header(request, "meridian-request-id"), Some("a-1"));
    }
}

#[tokio::test]
async fn a_node_that_takes_too_many_requests_is_not_left() {
    let limited = refused(Refusal::RateLimited, Some(1));
    let (first, _) = server(vec![time(), limited, executed()]).await;
    let (second, seen_by_second) = server(vec![executed()]).await;
    client(several(&[&first, &second])).await.place(order()).await.unwrap();
    assert!(seen_by_second.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_unanswered_order_is_sent_again_byte_for_byte_under_its_id() {
    let proxy = Act::Answer(502, "<html>bad gateway</html>".into());
    let busy = refused(Refusal::RateLimited, Some(1));
    let acts = vec![
        Act::Cut,
        time(),
        Act::Cut,
        Act::Silence,
        proxy,
        busy,
        Act::Cut,
        executed(),
    ];
    let (endpoint, seen) = server(acts).await;
    let answer = client(endpoint).await.place(order()).await.unwrap();
    assert!(answer.repeat);
    let seen = seen.lock().unwrap();
    let orders = &seen[2..];
    assert_eq!(orders.len(), 6);
    let body = |request: &str| request.split_once("\r\n\r\n").unwrap().1.to_owned();
    for request in orders {
        assert!(request.starts_with("POST /v1/orders HTTP/1.1\r\n"));
        assert_eq!(body(request), body(&orders[0]));
        assert_eq!(header(request, "meridian-request-id"), Some("a-1"));
        assert_eq!(header(request, "meridian-key"), Some("3"));
    }
    let sent: json::NewOrder = serde_json::from_str(&body(&orders[0])).unwrap();
    let valid_until = sent.valid_until.unwrap().time().unwrap();
    assert!(
        valid_until.0 > 1_700_000_000_000_000_000,
        "it counts by the exchange's clock"
    );
}

#[tokio::test]
async fn a_refused_attempt_after_a_cut_is_unknown() {
    let refusal = || refused(Refusal::SignatureWrong, None);
    let (endpoint, _) = server(vec![time(), refusal(), Act::Cut, refusal()]).await;
    let client = client(endpoint).await;
    let error = client.place(order()).await.unwrap_err();
    assert_eq!(error.code(), Some("signature_wrong"));
    let error = client.place(order()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown { request_id, .. } if request_id == "a-1"));
}

#[tokio::test]
async fn a_final_refusal_is_final_whatever_came_before() {
    let mut problem = Problem::new(types::RejectReason::OrderClosed.into());
    problem.detail = Some("x".into());
    let last = Act::Answer(problem.status, serde_json::to_string(&problem).unwrap());
    let (endpoint, _) = server(vec![time(), Act::Cut, last]).await;
    let target = Target::ClientOrderId("c".into());
    let error = client(endpoint).await.cancel(&target, "r-1").await.unwrap_err();
    assert!(error.is_final(), "{error}");
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let policy = RetryPolicy {
        give_up_after: Duration::from_millis(20),
        wait_first: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    let error = RestClient::connect(endpoint, None, policy).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(_)), "{error}");
}
