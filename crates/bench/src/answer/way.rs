//! A client with one order in flight. It blocks on one socket, so that no runtime of its own is in the figure, and makes
//! each request before the clock starts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use client::SignedAt;
use types::Side;

use crate::load::{Market, connect_one, epoch_ms};
use crate::protocol::answer::{Message, Verdict};
use crate::protocol::http::{self, Signer};
use crate::protocol::request::{Kind, OrderRequest};
use crate::protocol::{Protocol, websocket};
use crate::random::Random;

/// For how long a signature holds, in milliseconds.
const WINDOW_MS: u64 = 5_000;

/// A client with one order in flight.
pub struct Way<'a> {
    /// As in tables.
    pub name: &'static str,
    protocol: Protocol,
    market: &'a Market,
    trader: usize,
    stream: TcpStream,
    random: Random,
    request: Vec<u8>,
    answer: Vec<u8>,
    /// Bytes of all requests and answers.
    bytes: (usize, usize),
    count: usize,
}

impl<'a> Way<'a> {
    /// Of the trader of this index.
    ///
    /// # Errors
    /// What the exchange says.
    pub fn open(name: &'static str, protocol: Protocol, market: &'a Market, trader: usize) -> Result<Self> {
        Ok(Self {
            name,
            protocol,
            market,
            trader,
            stream: connect_one(protocol, market, trader)?,
            random: Random(7),
            request: Vec::new(),
            answer: Vec::new(),
            bytes: (0, 0),
            count: 0,
        })
    }

    /// Sends an order that rests, and waits for its answer. Gives how long that took.
    ///
    /// # Errors
    /// If it was not executed.
    pub fn order(&mut self, number: u64) -> Result<Duration> {
        self.write_request(number);
        let start = Instant::now();
        self.stream.write_all(&self.request)?;
        self.answer.clear();
        let mut part = [0; 8 << 10];
        let verdict = loop {
            let read = self.stream.read(&mut part)?;
            ensure!(read > 0, "the node closed the connection");
            self.answer.extend_from_slice(&part[..read]);
            if let Some(verdict) = self.whole_answer()? {
                break verdict;
            }
        };
        let took = start.elapsed();
        let said = String::from_utf8_lossy(&self.answer);
        ensure!(verdict.status == 201, "{}: the order was refused: {said}", self.name);
        self.count += 1;
        self.bytes.0 += self.request.len();
        self.bytes.1 += self.answer.len();
        Ok(took)
    }

    fn whole_answer(&self) -> Result<Option<Verdict>> {
        match self.protocol {
            Protocol::WebSocket => {
                let Some(frame) = websocket::first_frame(&self.answer) else {
                    return Ok(None);
                };
                match Message::parse(frame.payload)? {
                    Message::One(_, verdict) => Ok(Some(verdict)),
                    other => anyhow::bail!("expected a reply, and got {other:?}"),
                }
            }
            Protocol::Rest => match http::first_response(&self.answer)? {
                Some(response) => Ok(Some(Verdict::of_body(response.status, response.body)?)),
                None => Ok(None),
            },
        }
    }

    /// Orders that rest: they never meet, and each is journaled, applied and answered in full.
    fn write_request(&mut self, number: u64) {
        let order = OrderRequest {
            number,
            kind: Kind::Place,
            instrument: 0,
            side: Side::Sell,
            price_ticks: 12_000 + number % 800,
            quantity_lots: 1,
        };
        self.request.clear();
        let names = &self.market.names;
        match self.protocol {
            Protocol::WebSocket => websocket::push_text(&mut self.request, &mut self.random, |out| {
                names.push_message(out, number, &[order], false);
            }),
            Protocol::Rest => {
                let signer = Signer {
                    credentials: &self.market.trader(self.trader).credentials,
                    cluster: &self.market.cluster,
                    host: &self.market.host,
                    at: SignedAt {
                        timestamp_ms: epoch_ms(),
                        window_ms: WINDOW_MS,
                    },
                };
                signer.push_request(&mut self.request, names, &[order], false);
            }
        }
    }

    /// The mean sizes of a request and an answer, in bytes.
    pub fn sizes(&self) -> (usize, usize) {
        let count = self.count.max(1);
        (self.bytes.0 / count, self.bytes.1 / count)
    }
}
