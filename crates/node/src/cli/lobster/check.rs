//! Compares what the node did with what the record shows, row by row.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use client::{BookLevel, BookMirror, ClientError, PendingReply, StreamEvent, order_answer};
use serde::Serialize;
use tokio::sync::mpsc;
use types::Position;
use wire::json::OrderAnswer;

use super::queues::{Owner, Request};
use super::record::{Level, Message, Top};

/// How many differences are kept to be shown.
const DIFFERENCES_SHOWN_MAX: usize = 10;

/// A row whose requests were sent.
pub struct SentRow {
    /// Counted from 0.
    pub row: usize,
    /// What the record says.
    pub message: Message,
    /// The top of the book after it in the record, and
    pub record_top: Top,
    /// in the plain aggregation.
    pub plain_top: Top,
    /// The requests and their replies.
    pub requests: Vec<(Request, PendingReply)>,
}

/// Rows and executions, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows compared.
    pub rows: usize,
    /// Rows after which the node's top of the book is the record's.
    pub node_equals_record: usize,
    /// Rows after which the plain aggregation's top of the book is the record's.
    pub plain_equals_record: usize,
    /// Rows after which the node's top of the book is the plain aggregation's.
    pub node_equals_plain: usize,
    /// The first row, counted from 0, on which node and record differ, and
    pub record_differs_first: Option<usize>,
    /// the last one.
    pub record_differs_last: Option<usize>,
    /// Executions of visible orders in the record.
    pub executions: usize,
    /// Executions that hit the very order that the record names, and no other.
    pub hit_named_order: usize,
    /// Executions of an order that was in the book before the record began and is not known by its id, which hit the
    /// order that stands for it.
    pub hit_unnamed_order: usize,
    /// Executions that hit another order.
    pub hit_other_order: usize,
    /// Executions that the node filled with another quantity, or at another price, than the record.
    pub filled_otherwise: usize,
    /// Requests sent.
    pub requests: usize,
    /// Requests that the node refused.
    pub refused: usize,
}

impl Counts {
    /// True if the node did what a plain aggregation of the record says, on every row.
    pub fn agree(&self) -> bool {
        self.node_equals_plain == self.rows && self.filled_otherwise == 0 && self.refused == 0
    }
}

/// The comparison so far.
pub struct Check {
    pub counts: Counts,
    /// The first differences, as lines.
    pub differences: Vec<String>,
    /// The rows at which another order was hit, as lines.
    pub other_orders: Vec<String>,
    book: BookMirror,
    book_events: mpsc::Receiver<StreamEvent>,
    maker_events: mpsc::Receiver<StreamEvent>,
    /// Which order of the maker each fill hit, by the fill's id.
    makers: BTreeMap<String, String>,
}

impl Check {
    pub fn new(
        book: BookMirror,
        book_events: mpsc::Receiver<StreamEvent>,
        maker_events: mpsc::Receiver<StreamEvent>,
    ) -> Self {
        Self {
            counts: Counts::default(),
            differences: Vec::new(),
            other_orders: Vec::new(),
            book,
            book_events,
            maker_events,
            makers: BTreeMap::new(),
        }
    }

    /// Waits for what came of a row, and compares.
    pub async fn row(&mut self, sent: SentRow) -> Result<()> {
        self.settle(sent.requests, sent.row, Some(&sent.message)).await?;
        self.compare_tops(sent.row, &sent.record_top, &sent.plain_top);
        Ok(())
    }

    /// Waits until the requests are answered and the book shows their effects.
    pub async fn settle(
        &mut self,
        requests: Vec<(Request, PendingReply)>,
        row: usize,
        message: Option<&Message>,
    ) -> Result<()> {
        let mut last: Option<Position> = None;
        for (request, reply) in requests {
            self.counts.requests += 1;
            let answer = match reply.wait().await.and_then(order_answer) {
                Ok(answer) => answer,
                Err(ClientError::Refused(problem)) => {
                    self.counts.refused += 1;
                    self.differ(format!("row {row}: {request:?} was refused: {}", problem.code));
                    continue;
                }
                Err(error) => return Err(error).with_context(|| format!("row {row}: {request:?}")),
            };
            // A repeated request, after a cut line, did its work at its first position.
            last = last.max(answer.position.position());
            if let (Request::Take { .. }, Some(message)) = (request, message) {
                self.execution(row, message, request, &answer).await?;
            }
        }
        match last {
            Some(position) => self.follow_book(position).await,
            None => Ok(()),
        }
    }

    /// Every request changes the book, so its stream has a message for each of their positions.
    async fn follow_book(&mut self, position: Position) -> Result<()> {
        while self.book.position().is_none_or(|known| known < position) {
            match self.book_events.recv().await {
                Some(StreamEvent::Book(message)) => self.book.apply(&message)?,
                Some(StreamEvent::Connected | StreamEvent::Disconnected(_)) => {}
                other => bail!("the book's stream ended: {other:?}"),
            }
        }
        Ok(())
    }

    async fn execution(&mut self, row: usize, message: &Message, request: Request, answer: &OrderAnswer) -> Result<()> {
        let Request::Take { size, named, .. } = request else {
            return Ok(());
        };
        self.counts.executions += 1;
        let (mut filled, mut at_price) = (0, true);
        let mut hit = Vec::new();
        for fill in &answer.fills {
            filled += fill.quantity.in_steps(super::venue::LOT)?;
            at_price &= fill.price.in_steps(super::venue::TICK)? == message.price;
            hit.push(self.maker_of(&fill.fill_id).await?);
        }
        if filled != size || size != message.size || !at_price {
            self.counts.filled_otherwise += 1;
            self.differ(format!(
                "row {row}: the record executes {} at {}, the node filled {:?}",
                message.size, message.price, answer.fills
            ));
        }
        let wanted = match named {
            Owner::Named(order) => format!("{order}-"),
            Owner::Initial => "initial-".to_owned(),
        };
        let all_hit = !hit.is_empty() && hit.iter().all(|name| name.starts_with(&wanted));
        match (all_hit, named) {
            (true, Owner::Named(_)) => self.counts.hit_named_order += 1,
            (true, Owner::Initial) => self.counts.hit_unnamed_order += 1,
            (false, _) => {
                self.counts.hit_other_order += 1;
                let line = format!(
                    "row {row}: the record executes order {}, the node {hit:?}",
                    message.order
                );
                self.other_orders.push(line);
            }
        }
        Ok(())
    }

    /// Which order rested on the other side of a fill. The maker's own stream tells.
    async fn maker_of(&mut self, fill_id: &str) -> Result<String> {
        loop {
            if let Some(maker) = self.makers.remove(fill_id) {
                return Ok(maker);
            }
            match self.maker_events.recv().await {
                Some(StreamEvent::Fills(message)) => {
                    let fills = message.items.into_iter();
                    self.makers
                        .extend(fills.map(|fill| (fill.fill_id, fill.client_order_id)));
                }
                Some(StreamEvent::Connected | StreamEvent::Disconnected(_)) => {}
                other => bail!("the maker's fills ended: {other:?}"),
            }
        }
    }

    fn compare_tops(&mut self, row: usize, record: &Top, plain: &Top) {
        let level = |level: BookLevel| Level {
            price: level.price,
            size: level.quantity,
        };
        let node = Top {
            ask: self.book.best_ask().map(level),
            bid: self.book.best_bid().map(level),
        };
        let counts = &mut self.counts;
        counts.rows += 1;
        counts.plain_equals_record += usize::from(plain == record);
        counts.node_equals_record += usize::from(node == *record);
        counts.node_equals_plain += usize::from(node == *plain);
        if node != *record {
            counts.record_differs_first.get_or_insert(row);
            counts.record_differs_last = Some(row);
        }
        if node != *plain {
            self.differ(format!(
                "row {row}: the node's top is {node:?}, the plain aggregation's {plain:?}"
            ));
        }
    }

    fn differ(&mut self, line: String) {
        if self.differences.len() < DIFFERENCES_SHOWN_MAX {
            self.differences.push(line);
        }
    }
}
