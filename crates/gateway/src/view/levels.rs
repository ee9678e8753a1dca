//! What a command did to the levels of the books, derived from its events alone.
//!
//! An order counts as soon as it is placed and stops counting as it trades, is replaced or closes. What a command adds
//! and takes away again nets out, so the sum over its events is exactly the change of the book: an
//! immediate-or-cancel order, which never rests, leaves no trace of its own.

use std::collections::BTreeMap;

use types::{Event, InstrumentId, OrderId, Price, Quantity, Side};

/// A level's address in the books: instrument, side, price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LevelKey {
    /// Of what.
    pub instrument: InstrumentId,
    /// Which side.
    pub side: Side,
    /// At which price, in ticks.
    pub price: Price,
}

/// The sum of the orders that rest at one price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// What can be filled, in lots.
    pub quantity: Quantity,
    /// How many orders.
    pub order_count: u32,
}

/// By how much a level changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelChange {
    /// The change of its quantity, in lots.
    pub quantity: i64,
    /// The change of the number of its orders.
    pub order_count: i64,
}

impl LevelChange {
    /// True if nothing changed.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// The two after one another.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            quantity: self.quantity + other.quantity,
            order_count: self.order_count + other.order_count,
        }
    }

    /// The change back.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            quantity: -self.quantity,
            order_count: -self.order_count,
        }
    }
}

/// One side of a book: its levels by price, in ticks.
pub type LevelMap = BTreeMap<Price, Level>;

/// Both sides of a book, as sums by price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    bids: LevelMap,
    asks: LevelMap,
}

impl Levels {
    /// One side.
    pub fn side(&self, side: Side) -> &LevelMap {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    /// The `depth` best levels of a side, the best one first.
    pub fn best(&self, side: Side, depth: usize) -> Vec<(Price, Level)> {
        let pair = |(price, level): (&Price, &Level)| (*price, *level);
        match side {
            Side::Buy => self.bids.iter().rev().take(depth).map(pair).collect(),
            Side::Sell => self.asks.iter().take(depth).map(pair).collect(),
        }
    }

    /// Applies a change and returns the level as it is then; a level without quantity and orders is dropped.
    pub fn apply(&mut self, side: Side, price: Price, change: LevelChange) -> Level {
        let levels = match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        let level = levels.entry(price).or_default();
        level.quantity.0 += change.quantity;
        let order_count = i64::from(level.order_count) + change.order_count;
        level.order_count = u32::try_from(order_count).expect("no more orders leave a level than came to it");
        assert!(level.quantity.0 >= 0, "no more quantity leaves a level than came to it");
        let level = *level;
        if level == Level::default() {
            levels.remove(&price);
        }
        level
    }
}

/// What one command, or several in a row, did to the levels. Reused from command to command.
#[derive(Debug, Default)]
pub struct LevelChanges {
    /// Changes in the order of the events, not yet summed.
    changes: Vec<(LevelKey, LevelChange)>,
    /// Prices of the orders that the command itself placed or replaced: those that may take.
    takers: Vec<(OrderId, Price)>,
}

impl LevelChanges {
    /// Starts over.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.takers.clear();
    }

    /// Adds what an event did. Events of one command only, in sequence, from the first one.
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::OrderPlaced(order) => {
                self.takers.push((order.order_id, order.price));
                let key = key(order.instrument, order.side, order.price);
                self.push(key, order.remaining().0, 1);
            }
            Event::OrderReplaced {
                order,
                old_price,
                old_remaining,
                ..
            } => {
                self.takers.push((order.order_id, order.price));
                self.push(key(order.instrument, order.side, *old_price), -old_remaining.0, -1);
                self.push(key(order.instrument, order.side, order.price), order.remaining().0, 1);
            }
            Event::Traded(trade) => {
                let closes = |remaining: Quantity| -i64::from(remaining.0 == 0);
                let maker = key(trade.instrument, trade.taker_side.opposite(), trade.price);
                self.push(maker, -trade.quantity.0, closes(trade.maker.remaining));
                let placed = self
                    .takers
                    .iter()
                    .rev()
                    .find(|(order_id, _)| *order_id == trade.taker.order_id);
                let (_, price) = placed.expect("an order takes only in the command that placed or replaced it");
                let taker = key(trade.instrument, trade.taker_side, *price);
                self.push(taker, -trade.quantity.0, closes(trade.taker.remaining));
            }
            Event::OrderClosed {
                order,
                cancelled_quantity,
                ..
            } => self.push(
                key(order.instrument, order.side, order.price),
                -cancelled_quantity.0,
                -1,
            ),
            _ => {}
        }
    }

    /// The sums, by level; levels that did not change are left out.
    pub fn sums(&mut self) -> &[(LevelKey, LevelChange)] {
        self.changes.sort_by_key(|(key, _)| *key);
        self.changes.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = earlier.1.plus(later.1);
            }
            same
        });
        self.changes.retain(|(_, change)| !change.is_none());
        &self.changes
    }

    fn push(&mut self, key: LevelKey, quantity: i64, order_count: i64) {
        self.changes.push((key, LevelChange { quantity, order_count }));
    }
}

fn key(instrument: InstrumentId, side: Side, price: Price) -> LevelKey {
    LevelKey {
        instrument,
        side,
        price,
    }
}
