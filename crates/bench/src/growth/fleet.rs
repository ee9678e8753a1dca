//! Many requests as fast as they are answered: several connections, and on each a few requests under way.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result, bail, ensure};
use client::{Credentials, SignedAt};
use types::ClusterId;
use types::limits::BATCH_REQUEST_ITEMS_MAX;

use crate::load::{FIRST_ID, Market, connect, connect_one, epoch_ms};
use crate::protocol::Protocol;
use crate::protocol::answer::Message;
use crate::protocol::http::{Signer, first_response};
use crate::protocol::request::{Names, OrderRequest};
use crate::protocol::websocket::{self, Opcode};
use crate::random::Random;

/// Batches that a session has under way: enough that the exchange never waits, few enough that it never refuses.
const BATCHES_UNDER_WAY: usize = 4;
/// An operator's connections, and the requests that each has under way.
const OPERATOR_CONNECTIONS: usize = 32;
const OPERATOR_REQUESTS_UNDER_WAY: usize = 16;
/// The window that an operator's requests are signed for.
const WINDOW_MS: u64 = 60_000;

/// What became of the items of batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Executed.
    pub executed: u64,
    /// Turned down by a rule of the exchange, after they were sequenced.
    pub rejected: u64,
}

/// A session that sends orders in batches.
pub struct BatchSession<'a> {
    stream: TcpStream,
    names: &'a Names,
    random: Random,
    input: Vec<u8>,
    output: Vec<u8>,
    next_id: u64,
    under_way: usize,
    tally: Tally,
}

impl<'a> BatchSession<'a> {
    /// Logs in as one of the market's traders.
    pub fn open(market: &Market, trader: usize, names: &'a Names) -> Result<Self> {
        Ok(Self {
            stream: connect_one(Protocol::WebSocket, market, trader)?,
            names,
            random: Random(trader as u64),
            input: Vec::new(),
            output: Vec::new(),
            next_id: FIRST_ID,
            under_way: 0,
            tally: Tally::default(),
        })
    }

    /// Sends a batch; waits for an earlier one first if many are under way.
    pub fn send(&mut self, orders: &[OrderRequest]) -> Result<()> {
        ensure!(
            orders.len() <= BATCH_REQUEST_ITEMS_MAX,
            "a batch holds {BATCH_REQUEST_ITEMS_MAX} items"
        );
        while self.under_way >= BATCHES_UNDER_WAY {
            self.take_answer()?;
        }
        self.output.clear();
        let (names, id) = (self.names, self.next_id);
        websocket::push_text(&mut self.output, &mut self.random, |out| {
            names.push_message(out, id, orders, true);
        });
        self.stream.write_all(&self.output)?;
        self.next_id += 1;
        self.under_way += 1;
        Ok(())
    }

    /// Waits for all that is under way, and tells what became of everything.
    pub fn finish(mut self) -> Result<Tally> {
        while self.under_way > 0 {
            self.take_answer()?;
        }
        Ok(self.tally)
    }

    fn take_answer(&mut self) -> Result<()> {
        loop {
            let Some(frame) = websocket::first_frame(&self.input) else {
                read_more(&mut self.stream, &mut self.input)?;
                continue;
            };
            let bytes = frame.bytes;
            match frame.opcode {
                Opcode::Text => {
                    let message = Message::parse(frame.payload)?;
                    self.input.drain(..bytes);
                    self.under_way -= 1;
                    return self.count(message);
                }
                Opcode::Ping => {
                    self.output.clear();
                    websocket::push_pong(&mut self.output, &mut self.random, frame.payload);
                    self.stream.write_all(&self.output)?;
                    self.input.drain(..bytes);
                }
                other => bail!("the exchange sent {other:?}"),
            }
        }
    }

    fn count(&mut self, message: Message) -> Result<()> {
        let Message::Batch(_, _, verdicts) = message else {
            bail!("a batch was answered by {message:?}");
        };
        for verdict in verdicts {
            match verdict.status {
                200..300 => self.tally.executed += 1,
                400..500 if verdict.sequence > 0 => self.tally.rejected += 1,
                status => bail!("an item of a batch was answered by {status}"),
            }
        }
        Ok(())
    }
}

fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 64 << 10];
    let read = stream.read(&mut buffer).context("no answer")?;
    ensure!(read > 0, "the exchange closed the connection");
    input.extend_from_slice(&buffer[..read]);
    Ok(())
}

/// What an operator asks.
pub struct OperatorRequest {
    /// The request id's number, one in the whole run.
    pub number: u64,
    /// The path; the method is `POST`.
    pub path: &'static str,
    /// The body; empty if it has none.
    pub body: String,
}

/// An operator with many connections.
pub struct Operators<'a> {
    /// The operators' port.
    pub address: SocketAddr,
    /// Whose key.
    pub credentials: &'a Credentials,
    /// What signatures are made for.
    pub cluster: ClusterId,
}

impl Operators<'_> {
    /// Asks for `count` things, the number of each made by `request`, and takes what `read` makes of each answer. The
    /// order is lost.
    pub fn ask_all<T: Send>(
        &self,
        count: u64,
        request: impl Fn(u64) -> OperatorRequest + Sync,
        read: impl Fn(&[u8]) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let connections = OPERATOR_CONNECTIONS as u64;
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..connections)
                .map(|worker| {
                    let (request, read) = (&request, &read);
                    scope.spawn(move || {
                        let own = (worker..count).step_by(OPERATOR_CONNECTIONS);
                        self.ask_in_turn(own.map(request), read)
                    })
                })
                .collect();
            let mut all = Vec::new();
            for worker in workers {
                let Ok(answers) = worker.join() else {
                    bail!("a thread that sends panicked");
                };
                all.extend(answers?);
            }
            Ok(all)
        })
    }

    fn ask_in_turn<T>(
        &self,
        mut requests: impl Iterator<Item = OperatorRequest>,
        read: &impl Fn(&[u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut stream = connect(self.address)?;
        let host = self.address.to_string();
        let (mut input, mut output, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let signer = Signer {
                credentials: self.credentials,
                cluster: &self.cluster,
                host: &host,
                at: SignedAt {
                    timestamp_ms: epoch_ms(),
                    window_ms: WINDOW_MS,
                },
            };
            output.clear();
            let mut under_way = 0;
            for request in requests.by_ref().take(OPERATOR_REQUESTS_UNDER_WAY) {
                let id = format!("fill-{}", request.number);
                signer.push(&mut output, "POST", request.path, &id, request.body.as_bytes());
                under_way += 1;
            }
            if under_way == 0 {
                return Ok(answers);
            }
            stream.write_all(&output)?;
            for _ in 0..under_way {
                let (body, bytes) = loop {
                    if let Some(response) = first_response(&input)? {
                        let text = || String::from_utf8_lossy(response.body).into_owned();
                        ensure!(
                            response.status == 200,
                            "an operator was answered {}: {}",
                            response.status,
                            text()
                        );
                        break (read(response.body)?, response.bytes);
                    }
                    read_more(&mut stream, &mut input)?;
                };
                answers.push(body);
                input.drain(..bytes);
            }
        }
    }
}
