//! Sends the requests of each row, many rows ahead of the comparison, in the order of the record.
//!
//! Resting orders and executions belong to two accounts and so to two sessions. Nothing orders two sessions, so before
//! the other one speaks everything that is under way must have been answered.

use std::time::Duration;

use anyhow::{Result, anyhow};
use client::{PendingReply, WsClient, new_request_id};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use types::Side;
use wire::json::{self, CancelItem, DecimalText, NewOrder, ReplaceItem};
use wire::ws;

use super::aggregation::Aggregation;
use super::check::SentRow;
use super::queues::{OrderName, Queues, Request};
use super::record::Record;
use super::venue::{LOT, TICK};

/// How much of the rate that the exchange grants is used.
const RATE_USED_PERCENT: u64 = 90;

/// Whose session a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    Maker,
    Taker,
}

/// Sends requests.
pub struct Driver {
    pub symbol: String,
    pub maker: WsClient,
    pub taker: WsClient,
    pub requests_per_second: u32,
    /// How many requests have been settled; the comparison says.
    pub settled: watch::Receiver<usize>,
    pub sent: usize,
    /// Who spoke last.
    speaker: Speaker,
    started_at: Instant,
}

impl Driver {
    pub fn new(
        symbol: String,
        (maker, taker): (WsClient, WsClient),
        requests_per_second: u32,
        settled: watch::Receiver<usize>,
    ) -> Self {
        Self {
            symbol,
            maker,
            taker,
            requests_per_second,
            settled,
            sent: 0,
            speaker: Speaker::Maker,
            started_at: Instant::now(),
        }
    }

    /// Sends all rows. `speed` is how many times as fast as they happened; none: as fast as it goes.
    pub async fn rows(
        mut self,
        record: &Record,
        mut queues: Queues,
        speed: Option<u32>,
        rows: mpsc::Sender<SentRow>,
    ) -> Result<()> {
        let mut plain = Aggregation::new(&record.initial);
        let started_at = Instant::now();
        let first_ns = record.messages[0].at_ns;
        let mut requests = Vec::new();
        for (row, message) in record.messages.iter().enumerate() {
            if let Some(speed) = speed {
                let after_ns = message.at_ns.saturating_sub(first_ns) / u64::from(speed.max(1));
                tokio::time::sleep_until(started_at + Duration::from_nanos(after_ns)).await;
            }
            if row > 0 {
                plain.apply(message);
                queues.apply(message, &mut requests);
            }
            let sent = SentRow {
                row,
                message: *message,
                record_top: record.tops[row],
                plain_top: plain.top(),
                requests: self.send_all(requests.drain(..)).await?,
            };
            let stopped = |_| anyhow!("the comparison stopped");
            rows.send(sent).await.map_err(stopped)?;
        }
        Ok(())
    }

    /// Sends requests, in order.
    pub async fn send_all(&mut self, requests: impl Iterator<Item = Request>) -> Result<Vec<(Request, PendingReply)>> {
        let mut sent = Vec::new();
        for request in requests {
            let speaker = match request {
                Request::Take { .. } => Speaker::Taker,
                Request::Place { .. } | Request::Reduce { .. } | Request::Cancel { .. } => Speaker::Maker,
            };
            // Replies of the row so far are not settled before the row is handed over, so a row never changes speaker.
            if speaker != self.speaker {
                assert!(sent.is_empty(), "a row has requests of one account");
                let wanted = self.sent;
                self.settled.wait_for(|settled| *settled >= wanted).await?;
                self.speaker = speaker;
            }
            self.keep_to_the_rate().await;
            let client = match speaker {
                Speaker::Maker => &self.maker,
                Speaker::Taker => &self.taker,
            };
            let reply = client.submit(self.wire_request(&request)).await?;
            self.sent += 1;
            sent.push((request, reply));
        }
        Ok(sent)
    }

    async fn keep_to_the_rate(&self) {
        let per_second = u64::from(self.requests_per_second) * RATE_USED_PERCENT / 100;
        let due_us = self.sent as u64 * 1_000_000 / per_second.max(1);
        let due = self.started_at + Duration::from_micros(due_us);
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
    }

    fn wire_request(&self, request: &Request) -> ws::Request {
        let lots = |size: i64| DecimalText::of_steps(LOT, size);
        match request {
            Request::Place { name, size } => ws::Request::Place(self.order(
                name.to_string(),
                name.side(),
                name.price(),
                *size,
                json::TimeInForce::Gtc,
            )),
            Request::Reduce { name, quantity } => ws::Request::Replace(ReplaceItem {
                request_id: new_request_id(),
                client_order_id: Some(name.to_string()),
                symbol: Some(self.symbol.clone()),
                quantity: Some(lots(*quantity)),
                ..ReplaceItem::default()
            }),
            Request::Cancel { name } => ws::Request::Cancel(cancel(name)),
            Request::Take { side, price, size, .. } => {
                ws::Request::Place(self.order(new_request_id(), side.opposite(), *price, *size, json::TimeInForce::Ioc))
            }
        }
    }

    fn order(&self, id: String, side: Side, price: i64, size: i64, time_in_force: json::TimeInForce) -> NewOrder {
        NewOrder {
            client_order_id: id,
            symbol: self.symbol.clone(),
            side: side.into(),
            order_type: json::OrderType::Limit,
            time_in_force: Some(time_in_force),
            expires_at: None,
            price: Some(DecimalText::of_steps(TICK, price)),
            quantity: DecimalText::of_steps(LOT, size),
            post_only: false,
            self_trade_prevention: None,
            valid_until: None,
            validate_only: false,
        }
    }
}

fn cancel(name: &OrderName) -> CancelItem {
    CancelItem {
        request_id: new_request_id(),
        client_order_id: Some(name.to_string()),
        ..CancelItem::default()
    }
}
