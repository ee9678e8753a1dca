//! The two clients that are timed. Both block on one socket, so that no runtime of the client's own is in the figure.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use client::{Credentials, RequestParts, SignedAt};
use tungstenite::{Message, WebSocket};
use types::ClusterId;
use wire::json::{DecimalText, NewOrder, OrderType, Side};
use wire::ws::{ClientMessage, ServerMessage};

use super::ANSWER_WITHIN;

/// Orders that rest: they never meet, and each is journaled, applied and answered in full.
fn order(id: String, count: u64) -> NewOrder {
    NewOrder {
        client_order_id: id,
        symbol: harness::SYMBOL.to_owned(),
        side: Side::Sell,
        order_type: OrderType::Limit,
        time_in_force: None,
        expires_at: None,
        price: Some(DecimalText(format!("12{}.{:02}", count % 8, count % 100))),
        quantity: DecimalText("0.1".to_owned()),
        post_only: false,
        self_trade_prevention: None,
        valid_until: None,
        validate_only: false,
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    Ok(stream)
}

/// A session that is logged in.
pub struct WebSocketPeer {
    socket: WebSocket<TcpStream>,
    cluster: ClusterId,
    count: u64,
}

impl WebSocketPeer {
    pub fn connect(address: SocketAddr, credentials: &Credentials) -> Result<Self> {
        let url = format!("ws://{address}/v1/ws");
        let (socket, _) = tungstenite::client(url, connect(address)?).context("failed to open a WebSocket")?;
        let mut peer = Self {
            socket,
            cluster: "unknown".parse()?,
            count: 0,
        };
        let ServerMessage::Hello(hello) = peer.receive()?.0 else {
            bail!("the session did not begin with a hello");
        };
        peer.cluster = hello.cluster_id.parse()?;
        let login = credentials.login(&peer.cluster, &hello.nonce);
        peer.send(&ClientMessage {
            login: Some(login),
            ..ClientMessage::default()
        })?;
        let ServerMessage::Reply(reply) = peer.receive()?.0 else {
            bail!("the login was not answered");
        };
        ensure!(reply.status == 200, "the login was refused: {:?}", reply.problem);
        Ok(peer)
    }

    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Sends one order and waits for its answer. Gives the bytes of both on the wire.
    pub fn order(&mut self) -> Result<(usize, usize)> {
        self.count += 1;
        let message = ClientMessage {
            id: self.count,
            place: Some(order(format!("ws-{}", self.count), self.count)),
            ..ClientMessage::default()
        };
        let sent = self.send(&message)?;
        let (answer, received) = self.receive()?;
        let ServerMessage::Reply(reply) = answer else {
            bail!("expected a reply");
        };
        ensure!(reply.status == 201, "the order was refused: {:?}", reply.problem);
        Ok((sent + CLIENT_FRAME_BYTES, received + SERVER_FRAME_BYTES))
    }

    fn send(&mut self, message: &ClientMessage) -> Result<usize> {
        let text = serde_json::to_string(message)?;
        let bytes = text.len();
        self.socket.send(Message::text(text))?;
        Ok(bytes)
    }

    fn receive(&mut self) -> Result<(ServerMessage, usize)> {
        loop {
            if let Message::Text(text) = self.socket.read()? {
                return Ok((serde_json::from_str(&text)?, text.len()));
            }
        }
    }
}

/// The header of a frame of 126 to 65,535 bytes (RFC 6455 section 5.2), a client's with its mask.
const CLIENT_FRAME_BYTES: usize = 8;
const SERVER_FRAME_BYTES: usize = 4;

/// A connection that is kept open; each request is signed.
pub struct RestPeer {
    stream: TcpStream,
    address: SocketAddr,
    cluster: ClusterId,
    credentials: Credentials,
    count: u64,
    answer: Vec<u8>,
}

impl RestPeer {
    pub fn connect(address: SocketAddr, cluster: ClusterId, credentials: Credentials) -> Result<Self> {
        Ok(Self {
            stream: connect(address)?,
            address,
            cluster,
            credentials,
            count: 0,
            answer: Vec::new(),
        })
    }

    /// Sends one order and waits for its answer.
    pub fn order(&mut self) -> Result<()> {
        self.count += 1;
        let id = format!("rest-{}", self.count);
        let body = serde_json::to_vec(&order(id.clone(), self.count))?;
        let parts = RequestParts {
            method: "POST",
            target: "/v1/orders",
            request_id: &id,
            body: &body,
        };
        let at = SignedAt {
            timestamp_ms: u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?,
            window_ms: 5_000,
        };
        let mut request = format!(
            "POST /v1/orders HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        for (name, value) in self.credentials.headers(&self.cluster, &parts, at) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(&body);
        self.stream.write_all(&request)?;
        let status = self.read_answer()?;
        ensure!(
            status == 201,
            "the order was refused: {}",
            String::from_utf8_lossy(&self.answer)
        );
        Ok(())
    }

    /// Reads one whole answer; gives its status.
    fn read_answer(&mut self) -> Result<u16> {
        self.answer.clear();
        let mut part = [0; 4096];
        loop {
            let read = self.stream.read(&mut part)?;
            ensure!(read > 0, "the node closed the connection");
            self.answer.extend_from_slice(&part[..read]);
            let Some(head) = self.answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                continue;
            };
            let text = std::str::from_utf8(&self.answer[..head])?.to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.context("the answer has no length")?.trim().parse()?;
            if self.answer.len() >= head + 4 + length {
                let status = text.split(' ').nth(1).context("the answer has no status")?;
                return Ok(status.parse()?);
            }
        }
    }
}
