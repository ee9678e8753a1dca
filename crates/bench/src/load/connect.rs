//! Opens the sessions of a step, one after the other, before anything is measured.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result, bail, ensure};
use tungstenite::{Message, WebSocket};
use wire::ws::{ClientMessage, Hello, Reply, ServerMessage};

use super::market::{ANSWER_WITHIN, Market, Trader};
use crate::protocol::Protocol;

/// A connection for each session, logged in where the protocol has logins.
///
/// # Errors
/// What the exchange says.
pub fn connect_all(protocol: Protocol, market: &Market, sessions: usize) -> Result<Vec<TcpStream>> {
    let open = |session: usize| {
        let opened = connect_one(protocol, market, session);
        opened.with_context(|| format!("failed to open session {} of {sessions}", session + 1))
    };
    (0..sessions).map(open).collect()
}

/// A connection for this session, logged in where the protocol has logins.
///
/// # Errors
/// What the exchange says.
pub fn connect_one(protocol: Protocol, market: &Market, session: usize) -> Result<TcpStream> {
    match protocol {
        Protocol::WebSocket => log_in(market, market.trader(session)),
        Protocol::Rest => connect(market.address),
    }
}

/// A connection whose small messages are not held back.
///
/// # Errors
/// What the operating system says.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    Ok(stream)
}

fn log_in(market: &Market, trader: &Trader) -> Result<TcpStream> {
    let url = format!("ws://{}/v1/ws", market.host);
    let (mut socket, _) = tungstenite::client(url, connect(market.address)?).context("failed to open a WebSocket")?;
    let ServerMessage::Hello(Hello { nonce, cluster_id, .. }) = receive(&mut socket)? else {
        bail!("the session did not begin with a hello");
    };
    ensure!(
        cluster_id == market.cluster.as_str(),
        "the session is one of the cluster {cluster_id}"
    );
    let login = ClientMessage {
        id: 1,
        login: Some(trader.credentials.login(&market.cluster, &nonce)),
        ..ClientMessage::default()
    };
    socket.send(Message::text(serde_json::to_string(&login)?))?;
    match receive(&mut socket)? {
        // The reply is the last that the exchange says before it is asked, so nothing is left in the reader's buffer.
        ServerMessage::Reply(Reply { status: 200, .. }) => Ok(socket.into_inner()),
        other => bail!("the login was refused: {other:?}"),
    }
}

fn receive(socket: &mut WebSocket<TcpStream>) -> Result<ServerMessage> {
    loop {
        if let Message::Text(text) = socket.read()? {
            return Ok(serde_json::from_str(&text)?);
        }
    }
}
