//! `meridian watch`: what happens in a market, and to the account's own orders, line by line until Ctrl-C.

use anyhow::{Context as _, Result};
use clap::Args;
use client::{BookLevel, BookMirror, StreamEvent, WsClient};
use serde::Serialize;
use tokio::sync::mpsc;
use types::Timestamp;
use wire::json::{Fill, Trade};
use wire::ws::{Channel, OrderItem, StreamMessage, Subscribe};

use super::connection::{ConnectionArguments, policy};
use super::names::name_of;
use super::say::say_line;
use super::when;

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArguments {
    /// The instrument, as in BTC-USD.
    symbol: String,
    /// Only what everybody may see: no credentials are needed.
    #[arg(long)]
    public: bool,
    /// Stop after this many lines.
    #[arg(long)]
    lines: Option<u64>,
}

/// A line of `--json`: one of the messages as the exchange sent it.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Book(&'a StreamMessage<wire::ws::BookItem>),
    Trades(&'a StreamMessage<Trade>),
    Orders(&'a StreamMessage<OrderItem>),
    Fills(&'a StreamMessage<Fill>),
}

/// Runs the command.
pub async fn run(connection: &ConnectionArguments, arguments: &WatchArguments) -> Result<()> {
    let credentials = if arguments.public {
        None
    } else {
        Some(connection.credentials()?)
    };
    let instrument = connection.public_client().await?.instrument(&arguments.symbol).await?;
    let mut watch = Watch {
        book: BookMirror::new(&instrument.rules)?,
        shown: None,
        json: connection.json,
        lines_left: arguments.lines.unwrap_or(u64::MAX),
    };
    let signed_in = credentials.is_some();
    let (client, events) = WsClient::connect(connection.endpoint()?, credentials, policy()).await?;
    let mut channels = vec![Channel::Book, Channel::Trades];
    if signed_in {
        channels.push(Channel::Orders);
    }
    let subscribing = async {
        for channel in channels {
            let symbol = channel.is_public().then(|| arguments.symbol.clone());
            let subscribe = Subscribe {
                channel,
                symbol,
                depth: None,
                from: None,
                freshness: None,
            };
            client.subscribe(subscribe).await.context("follow a stream")?;
        }
        // The client lives as long as the watch.
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        result = subscribing => result,
        result = watch.follow(events) => result,
        stopped = tokio::signal::ctrl_c() => stopped.context("wait for Ctrl-C"),
    }
}

struct Watch {
    book: BookMirror,
    shown: Option<(Option<BookLevel>, Option<BookLevel>)>,
    json: bool,
    lines_left: u64,
}

impl Watch {
    async fn follow(&mut self, mut events: mpsc::Receiver<StreamEvent>) -> Result<()> {
        while self.lines_left > 0 {
            match events.recv().await {
                None => break,
                Some(StreamEvent::Stopped(error)) => return Err(error.into()),
                Some(event) => self.show(event)?,
            }
        }
        Ok(())
    }

    fn show(&mut self, event: StreamEvent) -> Result<()> {
        match event {
            StreamEvent::Book(message) => {
                self.book.apply(&message)?;
                if self.json {
                    return self.json(&Line::Book(&message));
                }
                let top = (self.book.best_bid(), self.book.best_ask());
                if !message.more && self.shown.replace(top) != Some(top) {
                    self.line(&format!("{}  book   {}", clock(&message), self.top_text(top)))?;
                }
            }
            StreamEvent::Trades(message) => {
                if self.json {
                    return self.json(&Line::Trades(&message));
                }
                for trade in &message.items {
                    let Trade {
                        taker_side,
                        price,
                        quantity,
                        ..
                    } = trade;
                    let side = name_of(taker_side);
                    self.line(&format!(
                        "{}  trade  {quantity} at {price}, taker {side}s",
                        clock(&message)
                    ))?;
                }
            }
            StreamEvent::Orders(message) => {
                if self.json {
                    return self.json(&Line::Orders(&message));
                }
                for item in &message.items {
                    self.line(&format!("{}  mine   {}", clock(&message), order_text(item)))?;
                }
            }
            StreamEvent::Fills(message) if self.json => return self.json(&Line::Fills(&message)),
            StreamEvent::Disconnected(why) => eprintln!("The connection was lost ({why}); connecting again."),
            StreamEvent::Connected => eprintln!("Connected again; nothing was missed."),
            StreamEvent::Restarted(channel, _) => {
                eprintln!("Some of {} may have been missed.", name_of(&channel));
            }
            StreamEvent::Ended(ended) => {
                eprintln!("{} came to its end: {}", name_of(&ended.channel), ended.problem.title);
            }
            StreamEvent::Fills(_) | StreamEvent::Balances(_) | StreamEvent::Stopped(_) => {}
        }
        Ok(())
    }

    fn json(&mut self, line: &Line<'_>) -> Result<()> {
        let text = serde_json::to_string(line)?;
        self.line(&text)
    }

    fn line(&mut self, text: &str) -> Result<()> {
        if self.lines_left > 0 {
            say_line(format_args!("{text}"))?;
            self.lines_left -= 1;
        }
        Ok(())
    }

    fn top_text(&self, (bid, ask): (Option<BookLevel>, Option<BookLevel>)) -> String {
        let level = |level: Option<BookLevel>| match level {
            Some(level) => {
                let quantity = self.book.quantity_text(level.quantity);
                format!("{quantity} at {}", self.book.price_text(level.price))
            }
            None => "nothing".to_owned(),
        };
        format!("bid {:<24}  ask {}", level(bid), level(ask))
    }
}

/// When a message's command was sequenced; a snapshot has no time.
fn clock<T>(message: &StreamMessage<T>) -> String {
    let time: Option<Timestamp> = message.sequenced_at.as_ref().and_then(wire::json::TimeText::time);
    time.map_or_else(|| "               ".to_owned(), when::time_of_day)
}

fn order_text(item: &OrderItem) -> String {
    let event = name_of(&item.event);
    if let Some(order) = &item.order {
        let side = name_of(&order.side);
        return format!(
            "{event} {}: {side} {} {} at {}, filled {}",
            order.client_order_id, order.quantity, order.symbol, order.price, order.filled_quantity
        );
    }
    if let Some(fill) = &item.fill {
        let side = name_of(&fill.side);
        return format!(
            "{event} {}: {side} {} {} at {}, {} remain",
            fill.client_order_id, fill.quantity, fill.symbol, fill.price, fill.remaining_quantity
        );
    }
    event
}
