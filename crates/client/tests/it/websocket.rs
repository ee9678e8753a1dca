//! WebSocket: requests and streams over a socket that is cut.

use std::time::Duration;

use client::{ClientError, Credentials, Endpoint, Endpoints, RetryPolicy, Secret, StreamEvent, WsClient};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use types::KeyId;
use wire::errors::Refusal;
use wire::json::{CancelItem, Position, Problem};
use wire::ws::{Channel, ClientMessage, Hello, Reply, Request, ServerMessage, StreamMessage, Subscribe, Subscription};

fn at(sequence: u64) -> Position {
    Position {
        group: 0,
        epoch: 1,
        sequence: sequence.into(),
    }
}

/// The server's end of one connection.
struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    /// Accepts a connection and says hello.
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Self(tokio_tungstenite::accept_async(stream).await.unwrap());
        let hello = Hello {
            nonce: "00ff".into(),
            cluster_id: "demo-1".into(),
            now: types::Timestamp(1_700_000_000_000_000_000).into(),
            position: at(1),
        };
        peer.send(ServerMessage::Hello(hello)).await;
        peer
    }

    /// Accepts a connection that logs in.
    async fn accept_login(listener: &TcpListener) -> Self {
        let mut peer = Self::accept(listener).await;
        let login = peer.read().await;
        assert_eq!(login.login.as_ref().unwrap().key, "3");
        peer.reply(login.id, |_| {}).await;
        peer
    }

    async fn read(&mut self) -> ClientMessage {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?} is not a request"),
            }
        }
    }

    async fn send(&mut self, message: ServerMessage) {
        let text = serde_json::to_string(&message).unwrap();
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn reply(&mut self, id: u64, fill: impl Fn(&mut Reply)) {
        let mut reply = Reply {
            id,
            status: 200,
            ..Reply::default()
        };
        fill(&mut reply);
        self.send(ServerMessage::Reply(reply)).await;
    }

    async fn book(&mut self, sequence: u64, previous: Option<u64>, snapshot: bool) {
        let message = StreamMessage {
            symbol: Some("A".into()),
            snapshot,
            position: at(sequence),
            index: 0,
            more: false,
            previous: previous.map(at),
            sequenced_at: None,
            items: Vec::new(),
        };
        self.send(ServerMessage::Book(message)).await;
    }
}

async fn listen() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    (listener, endpoint)
}

fn policy() -> RetryPolicy {
    RetryPolicy {
        wait_first: Duration::from_millis(2),
        wait_longest: Duration::from_millis(8),
        ..RetryPolicy::default()
    }
}

fn credentials() -> Option<Credentials> {
    let secret = Secret::generate_ed25519();
    Some(Credentials { key: KeyId(3), secret })
}

fn cancel(request_id: &str) -> Request {
    Request::Cancel(CancelItem {
        request_id: request_id.into(),
        client_order_id: Some("c".into()),
        ..CancelItem::default()
    })
}

#[tokio::test]
async fn requests_under_way_when_the_line_is_cut_are_sent_again_in_order() {
    let (listener, endpoint) = listen().await;
    let server = tokio::spawn(async move {
        let mut first = Peer::accept_login(&listener).await;
        let before = [first.read().await, first.read().await, first.read().await];
        first.reply(before[0].id, |_| {}).await;
        drop(first);
        let mut second = Peer::accept_login(&listener).await;
        let after = [second.read().await, second.read().await];
        assert_eq!(after, before[1..], "the same requests, byte for byte");
        assert!(after[0].cancel.as_ref().unwrap().valid_until.is_some());
        for message in &after {
            second.reply(message.id, |_| {}).await;
        }
        // Stays until the client closes.
        while second.0.next().await.is_some_and(|message| message.is_ok()) {}
    });
    let (client, events) = WsClient::connect(endpoint, credentials(), policy()).await.unwrap();
    let mut replies = Vec::new();
    for request_id in ["r-1", "r-2", "r-3"] {
        replies.push(client.submit(cancel(request_id)).await.unwrap());
    }
    for reply in replies {
        assert_eq!(reply.wait().await.unwrap().status, 200);
    }
    drop((client, events));
    server.await.unwrap();
}

#[tokio::test]
async fn a_stream_is_resumed_from_its_last_position() {
    let (listener, endpoint) = listen().await;
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        let subscribe = peer.read().await;
        let confirmed = |position: u64| Subscription {
            channel: Channel::Book,
            symbol: Some("A".into()),
            position: at(position),
            previous: None,
        };
        let id = subscribe.id;
        peer.reply(id, |reply| reply.subscription = Some(confirmed(4))).await;
        peer.book(4, None, true).await;
        peer.book(6, Some(4), false).await;
        drop(peer);
        let mut peer = Peer::accept(&listener).await;
        let resumed = peer.read().await;
        assert_eq!(resumed.subscribe.as_ref().unwrap().from, Some(at(6)));
        let id = resumed.id;
        peer.reply(id, |reply| reply.subscription = Some(confirmed(6))).await;
        peer.book(7, Some(6), false).await;
        while peer.0.next().await.is_some_and(|message| message.is_ok()) {}
    });
    let (client, mut events) = WsClient::connect(endpoint, None, policy()).await.unwrap();
    let subscribe = Subscribe {
        channel: Channel::Book,
        symbol: Some("A".into()),
        depth: None,
        from: None,
        freshness: None,
    };
    client.subscribe(subscribe).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(match events.recv().await.unwrap() {
            StreamEvent::Book(message) => message.position.sequence.0,
            StreamEvent::Connected => "connected".into(),
            StreamEvent::Disconnected(_) => "disconnected".into(),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["4", "6", "disconnected", "connected", "7"]);
    drop((client, events));
    server.await.unwrap();
}

#[tokio::test]
async fn streams_and_requests_go_on_at_the_next_node() {
    let (first, first_endpoint) = listen().await;
    let (second, second_endpoint) = listen().await;
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept_login(&first).await;
        let subscribe = peer.read().await;
        peer.reply(subscribe.id, |reply| {
            reply.subscription = Some(Subscription {
                channel: Channel::Book,
                symbol: Some("A".into()),
                position: at(4),
                previous: None,
            });
        })
        .await;
        peer.book(4, None, true).await;
        let sent = peer.read().await;
        let mut problem = Problem::new(Refusal::NodeStopping.into());
        problem.retry_after_ms = Some(60_000);
        peer.send(ServerMessage::Reply(Reply::of_problem(sent.id, problem)))
            .await;
        let mut peer = Peer::accept_login(&second).await;
        let resumed = peer.read().await.subscribe.unwrap();
        assert_eq!(resumed.from, Some(at(4)));
        let again = peer.read().await;
        assert_eq!(again, sent, "the same request, byte for byte");
        peer.reply(again.id, |_| {}).await;
        while peer.0.next().await.is_some_and(|message| message.is_ok()) {}
    });
    let endpoints = Endpoints::parse(&format!("{},{}", first_endpoint.url(""), second_endpoint.url(""))).unwrap();
    let (client, mut events) = WsClient::connect(endpoints, credentials(), policy()).await.unwrap();
    let subscribe = Subscribe {
        channel: Channel::Book,
        symbol: Some("A".into()),
        depth: None,
        from: None,
        freshness: None,
    };
    client.subscribe(subscribe).await.unwrap();
    assert!(matches!(events.recv().await, Some(StreamEvent::Book(_))));
    assert_eq!(client.request(cancel("r-1")).await.unwrap().status, 200);
    drop((client, events));
    server.await.unwrap();
}

#[tokio::test]
async fn a_login_that_is_refused_is_not_tried_again() {
    let (listener, endpoint) = listen().await;
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        let login = peer.read().await;
        let problem = Problem::new(Refusal::SignatureWrong.into());
        peer.send(ServerMessage::Reply(Reply::of_problem(login.id, problem)))
            .await;
    });
    let error = WsClient::connect(endpoint, credentials(), policy()).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    server.await.unwrap();
}

#[tokio::test]
async fn a_request_that_was_never_sent_is_unavailable_and_one_that_was_is_unknown() {
    let (listener, endpoint) = listen().await;
    let server = tokio::spawn(async move {
        let mut peer = Peer::accept_login(&listener).await;
        // Reads the first request, and is never there again.
        peer.read().await;
    });
    let policy = RetryPolicy {
        give_up_after: Duration::from_millis(100),
        ..policy()
    };
    let (client, mut events) = WsClient::connect(endpoint, credentials(), policy).await.unwrap();
    let sent = client.submit(cancel("r-1")).await.unwrap();
    server.await.unwrap();
    assert!(matches!(events.recv().await, Some(StreamEvent::Disconnected(_))));
    let unsent = client.submit(cancel("r-2")).await.unwrap();
    let error = sent.wait().await.unwrap_err();
    assert!(matches!(error, ClientError::Unknown { request_id, .. } if request_id == "r-1"));
    let error = unsent.wait().await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable(_)), "{error}");
}
