//! The requests of a step, as bytes: all is made before the first is sent, so that the generator's cost beside the node
//! is that of handing bytes over.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use client::SignedAt;

use super::flow::Flow;
use super::market::{Market, epoch_ms};
use crate::protocol::http::Signer;
use crate::protocol::request::{Kind, OrderRequest};
use crate::protocol::{Protocol, websocket};
use crate::random::Random;

/// The requests of one step may take so many bytes.
const BYTES_MAX: usize = 6 << 30;
/// A message is larger than this only if it is a batch.
const MESSAGE_BYTES: usize = 256;
/// How many requests are written to see how long all will take.
const SAMPLE: usize = 200;
/// The widest window that an exchange grants: requests are signed for when they are due, and may be sent late.
const WINDOW_MS: u64 = 60_000;
/// Ids of messages below this are the sessions' own, for logging in.
pub const FIRST_ID: u64 = 100;

/// All requests of a step. A message carries one request, or a batch of `items`.
pub struct Requests {
    /// The messages of the first session in the order in which they are due, then those of the next.
    pub bytes: Vec<u8>,
    /// Where each message ends in `bytes`.
    pub ends: Vec<usize>,
    /// Which messages are a session's.
    pub sessions: Vec<Range<usize>>,
    /// When a message is due, in nanoseconds from the start, and whose the next one then is; in order.
    pub due: Vec<(u64, u32)>,
    /// When each message is due.
    pub intended: Vec<u64>,
    /// The number of each request: `items` for each message.
    pub numbers: Vec<u64>,
    /// Whether each request is a new order.
    pub places: Vec<bool>,
    /// Requests in a message.
    pub items: usize,
    /// True if messages are batches.
    pub batch: bool,
    /// How long making them took.
    pub took: Duration,
    /// When the step is to begin, in milliseconds since 1970: what the signatures say.
    pub start_ms: u64,
    orders: Vec<OrderRequest>,
}

impl Requests {
    /// Chooses what is asked at each of these times. Sessions take turns at random.
    ///
    /// # Errors
    /// If it would take too much memory.
    pub fn new(
        times: &[u64],
        flow: &mut Flow,
        sessions: usize,
        batch: Option<usize>,
        random: &mut Random,
    ) -> Result<Self> {
        let items = batch.unwrap_or(1);
        ensure!(
            times.len().saturating_mul(items).saturating_mul(MESSAGE_BYTES) < BYTES_MAX,
            "a step of {} messages is too long to be made before it is sent: lower the rate or the seconds",
            times.len()
        );
        let due: Vec<(u64, u32)> = times
            .iter()
            .map(|&at| (at, random.below(sessions as u64) as u32))
            .collect();
        let mut starts = vec![0; sessions + 1];
        for (_, session) in &due {
            starts[*session as usize + 1] += 1;
        }
        for session in 0..sessions {
            starts[session + 1] += starts[session];
        }
        let ranges = starts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        let mut places = starts;
        let mut intended = vec![0; due.len()];
        let mut orders: Vec<Option<OrderRequest>> = vec![None; due.len() * items];
        for (at, session) in &due {
            let place = &mut places[*session as usize];
            intended[*place] = *at;
            for item in 0..items {
                orders[*place * items + item] = Some(flow.next(*session));
            }
            *place += 1;
        }
        let orders: Vec<OrderRequest> = orders.into_iter().flatten().collect();
        Ok(Self {
            bytes: Vec::new(),
            ends: Vec::with_capacity(due.len()),
            sessions: ranges,
            due,
            intended,
            numbers: orders.iter().map(|order| order.number).collect(),
            places: orders
                .iter()
                .map(|order| matches!(order.kind, Kind::Place | Kind::Take))
                .collect(),
            items,
            batch: batch.is_some(),
            took: Duration::ZERO,
            start_ms: 0,
            orders,
        })
    }

    /// Writes and signs everything.
    pub fn encode(&mut self, protocol: Protocol, market: &Market, random: &mut Random) {
        let start = Instant::now();
        self.bytes.reserve(self.intended.len() * MESSAGE_BYTES);
        self.start_ms = epoch_ms();
        self.encode_first(SAMPLE, protocol, market, random);
        let each = start.elapsed() / u32::try_from(self.ends.len().max(1)).expect("a sample is small");
        // Signatures say when a request is to be sent, so it must be known when the sending begins.
        let all = each * u32::try_from(self.intended.len()).unwrap_or(u32::MAX);
        self.start_ms = epoch_ms() + u64::try_from(all.as_millis()).unwrap_or(0) * 11 / 10 + 200;
        self.bytes.clear();
        self.ends.clear();
        self.encode_first(usize::MAX, protocol, market, random);
        self.orders = Vec::new();
        self.took = start.elapsed();
    }

    fn encode_first(&mut self, count: usize, protocol: Protocol, market: &Market, random: &mut Random) {
        for (session, range) in self.sessions.iter().enumerate() {
            let trader = market.trader(session);
            for message in range.clone() {
                if self.ends.len() == count {
                    return;
                }
                let orders = &self.orders[message * self.items..(message + 1) * self.items];
                match protocol {
                    Protocol::WebSocket => websocket::push_text(&mut self.bytes, random, |out| {
                        let id = FIRST_ID + message as u64;
                        market.names.push_message(out, id, orders, self.batch);
                    }),
                    Protocol::Rest => {
                        let signer = Signer {
                            credentials: &trader.credentials,
                            cluster: &market.cluster,
                            host: &market.host,
                            at: SignedAt {
                                timestamp_ms: self.start_ms + self.intended[message] / 1_000_000,
                                window_ms: WINDOW_MS,
                            },
                        };
                        signer.push_request(&mut self.bytes, &market.names, orders, self.batch);
                    }
                }
                self.ends.push(self.bytes.len());
            }
        }
    }

    /// Waits until the time that the signatures speak of.
    pub fn wait_for_start(&self) {
        std::thread::sleep(Duration::from_millis(self.start_ms.saturating_sub(epoch_ms())));
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.intended.len()
    }

    /// The bytes of a message.
    pub fn message(&self, message: usize) -> &[u8] {
        &self.bytes[self.start_of(message)..self.ends[message]]
    }

    /// Where a message begins in `bytes`.
    pub fn start_of(&self, message: usize) -> usize {
        message.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}
