//! A book kept from a stream.

use std::collections::BTreeMap;

use types::{Decimal, Position};
use wire::json::{DecimalText, InstrumentRules, Side};
use wire::ws::{BookItem, StreamMessage};

use crate::error::ClientError;

/// What rests at one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookLevel {
    /// In ticks.
    pub price: i64,
    /// The sum of what may still be filled, in lots.
    pub quantity: i64,
    /// How many orders.
    pub orders: u32,
}

/// A book as the messages of its stream make it, in ticks and lots.
#[derive(Clone, Debug)]
pub struct BookMirror {
    tick_size: Decimal,
    lot_size: Decimal,
    bids: BTreeMap<i64, (i64, u32)>,
    asks: BTreeMap<i64, (i64, u32)>,
    position: Option<Position>,
}

impl BookMirror {
    /// An empty book of an instrument with these rules.
    pub fn new(rules: &InstrumentRules) -> Result<Self, ClientError> {
        Ok(Self {
            tick_size: decimal(&rules.tick_size)?,
            lot_size: decimal(&rules.lot_size)?,
            bids: BTreeMap::new(),
            asks: BTreeMap::new(),
            position: None,
        })
    }

    /// Takes a message of the stream, in the order in which they come.
    pub fn apply(&mut self, message: &StreamMessage<BookItem>) -> Result<(), ClientError> {
        if message.snapshot && message.index == 0 {
            self.bids.clear();
            self.asks.clear();
        }
        for item in &message.items {
            let price = steps(&item.price, self.tick_size)?;
            let quantity = steps(&item.quantity, self.lot_size)?;
            let levels = match item.side {
                Side::Buy => &mut self.bids,
                Side::Sell => &mut self.asks,
            };
            if quantity == 0 {
                levels.remove(&price);
            } else {
                levels.insert(price, (quantity, item.orders));
            }
        }
        if !message.more {
            self.position = message.position.position();
        }
        Ok(())
    }

    /// Up to where it knows; none before the first snapshot.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The highest bid.
    pub fn best_bid(&self) -> Option<BookLevel> {
        self.bids.last_key_value().map(level)
    }

    /// The lowest ask.
    pub fn best_ask(&self) -> Option<BookLevel> {
        self.asks.first_key_value().map(level)
    }

    /// A price of this many ticks as text.
    pub fn price_text(&self, ticks: i64) -> DecimalText {
        DecimalText::of_steps(self.tick_size, ticks)
    }

    /// A quantity of this many lots as text.
    pub fn quantity_text(&self, lots: i64) -> DecimalText {
        DecimalText::of_steps(self.lot_size, lots)
    }
}

fn level((price, (quantity, orders)): (&i64, &(i64, u32))) -> BookLevel {
    BookLevel {
        price: *price,
        quantity: *quantity,
        orders: *orders,
    }
}

fn decimal(text: &DecimalText) -> Result<Decimal, ClientError> {
    text.decimal().map_err(|error| not_understood(text, error))
}

fn steps(text: &DecimalText, step: Decimal) -> Result<i64, ClientError> {
    text.in_steps(step).map_err(|error| not_understood(text, error))
}

fn not_understood(text: &DecimalText, error: types::DecimalError) -> ClientError {
    ClientError::NotUnderstood(format!("{text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> DecimalText {
        DecimalText(text.into())
    }

    fn message(snapshot: bool, sequence: u64, items: &[(Side, &str, &str)]) -> StreamMessage<BookItem> {
        let item = |(side, price, quantity): &(Side, &str, &str)| BookItem {
            side: *side,
            price: text(price),
            quantity: text(quantity),
            orders: 1,
        };
        StreamMessage {
            symbol: None,
            snapshot,
            position: wire::json::Position {
                group: 0,
                epoch: 1,
                sequence: sequence.into(),
            },
            index: 0,
            more: false,
            previous: None,
            sequenced_at: None,
            items: items.iter().map(item).collect(),
        }
    }

    #[test]
    fn levels_come_change_and_go() {
        let rules = InstrumentRules {
            tick_size: text("0.5"),
            lot_size: text("0.01"),
            quantity_min: text("0.01"),
            quantity_max: text("1"),
            notional_min: text("1"),
            notional_max: text("1"),
            collar_ppm: 0,
            reference_price: None,
            maker_fee_ppm: 0,
            taker_fee_ppm: 0,
        };
        let mut book = BookMirror::new(&rules).unwrap();
        let first = [
            (Side::Buy, "10.0", "1.00"),
            (Side::Buy, "9.5", "2.00"),
            (Side::Sell, "11.0", "3.00"),
        ];
        book.apply(&message(true, 5, &first)).unwrap();
        book.apply(&message(
            false,
            6,
            &[(Side::Buy, "10.0", "0.00"), (Side::Sell, "11.0", "0.02")],
        ))
        .unwrap();
        let bid = book.best_bid().unwrap();
        assert_eq!((bid.price, bid.quantity), (19, 200));
        assert_eq!(book.best_ask().unwrap().quantity, 2);
        assert_eq!(book.position().unwrap().sequence.0, 6);
        assert_eq!(book.price_text(19).0, "9.5");
        assert!(book.apply(&message(false, 7, &[(Side::Buy, "9.7", "1.00")])).is_err());
        book.apply(&message(true, 8, &[])).unwrap();
        assert_eq!(book.best_bid(), None);
    }
}
