//! One instrument's market data: the levels of its book, its last trades, and its last book updates.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use axum::extract::ws::Utf8Bytes;
use types::{FillId, Position, Price, Quantity, Sequence, Side, Timestamp, Trade};

use super::levels::{Level, LevelChange, LevelKey, Levels};
use super::wake::Listeners;

/// One instrument's market data, shared by the publisher and the readers.
#[derive(Debug, Default)]
pub struct Market {
    /// What it holds.
    pub(crate) state: Mutex<MarketState>,
    /// Who follows its book.
    pub(crate) book_listeners: Listeners,
    /// Who follows its trades.
    pub(crate) trade_listeners: Listeners,
}

/// What a market holds.
#[derive(Debug, Default)]
pub(crate) struct MarketState {
    /// The book as sums by price.
    pub levels: Levels,
    /// The last command that changed the book or traded.
    pub touched: Position,
    /// The last commands that traded, oldest first.
    pub trades: Ring<Arc<Update<TradeRecord>>>,
    trade_count: usize,
    /// The last updates of the book, oldest first.
    pub updates: Ring<Arc<Update<LevelNow>>>,
}

/// The last items of a stream, and from where on they are all there.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    items: VecDeque<T>,
    /// Every item behind this sequence is kept.
    complete_after: Sequence,
    /// The position of the last item that is no longer kept.
    dropped: Option<Position>,
    /// The position of the last item of all.
    last: Option<Position>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            complete_after: Sequence(0),
            dropped: None,
            last: None,
        }
    }
}

/// Something that stands at a position.
pub(crate) trait Placed {
    /// Where it stands.
    fn position(&self) -> Position;
}

impl<T: Placed> Ring<T> {
    pub fn push(&mut self, item: T) {
        self.last = Some(item.position());
        self.items.push_back(item);
    }

    /// Drops the oldest item.
    pub fn drop_oldest(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.dropped = Some(item.position());
        self.complete_after = self.complete_after.max(item.position().sequence);
        Some(item)
    }

    /// Says that nothing at or before a sequence is known, but for the position of the last item, if that is.
    pub fn start_after(&mut self, sequence: Sequence, last: Option<Position>) {
        self.complete_after = sequence;
        self.dropped = last;
        self.last = last;
    }

    /// Says that nothing at or before a sequence is known, unless the ring is known to start later.
    pub fn raise_start(&mut self, sequence: Sequence) {
        self.complete_after = self.complete_after.max(sequence);
    }

    /// The position of the last item of all.
    pub fn last(&self) -> Option<Position> {
        self.last
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.items.iter()
    }

    /// True if every item behind a sequence is kept.
    pub fn reaches(&self, after: Sequence) -> bool {
        after >= self.complete_after
    }

    /// The position of the last item at or before a sequence, if it is known.
    pub fn previous(&self, after: Sequence) -> Option<Position> {
        let index = self.items.partition_point(|item| item.position().sequence <= after);
        match index.checked_sub(1) {
            Some(index) => Some(self.items[index].position()),
            None => self.dropped.filter(|dropped| dropped.sequence <= after),
        }
    }

    /// The items behind a sequence.
    pub fn after(&self, after: Sequence) -> impl Iterator<Item = &T> {
        let index = self.items.partition_point(|item| item.position().sequence <= after);
        self.items.range(index..)
    }
}

/// What one command did on a public stream. Made once, written as text once, shared by all who follow.
#[derive(Debug)]
pub struct Update<T> {
    /// The command.
    pub position: Position,
    /// The position of the stream's update before it, if it is known.
    pub previous: Option<Position>,
    /// When it was sequenced.
    pub sequenced_at: Timestamp,
    /// What it did.
    pub items: Vec<T>,
    /// The update as messages, once somebody wanted it.
    pub(crate) text: OnceLock<Vec<Utf8Bytes>>,
}

impl<T> Update<T> {
    pub(crate) fn new(position: Position, previous: Option<Position>, at: Timestamp, items: Vec<T>) -> Self {
        Self {
            position,
            previous,
            sequenced_at: at,
            items,
            text: OnceLock::new(),
        }
    }
}

impl<T> Placed for Arc<Update<T>> {
    fn position(&self) -> Position {
        self.position
    }
}

/// A level as it is after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelNow {
    /// Which side.
    pub side: Side,
    /// At which price, in ticks.
    pub price: Price,
    /// What rests there.
    pub level: Level,
}

/// A trade as the public sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TradeRecord {
    /// Its id.
    pub fill_id: FillId,
    /// At which price, in ticks.
    pub price: Price,
    /// How much, in lots.
    pub quantity: Quantity,
    /// The side of the taker.
    pub taker_side: Side,
    /// When it was sequenced.
    pub sequenced_at: Timestamp,
}

impl TradeRecord {
    /// The public part of a trade at a position.
    pub fn new(trade: &Trade, position: Position, sequenced_at: Timestamp) -> Self {
        Self {
            fill_id: FillId {
                position,
                index: trade.index,
            },
            price: trade.price,
            quantity: trade.quantity,
            taker_side: trade.taker_side,
            sequenced_at,
        }
    }
}

impl MarketState {
    /// Applies what a command did to the levels, and keeps it as an update of the book.
    pub fn change_levels(&mut self, changes: &[(LevelKey, LevelChange)], position: Position, at: Timestamp) {
        let items = apply_changes(&mut self.levels, changes);
        let update = Update::new(position, self.updates.last(), at, items);
        self.updates.push(Arc::new(update));
        self.touched = position;
    }

    /// Keeps the trades of a command, and no more than `limit` trades (of whole commands) together.
    pub fn add_trades(&mut self, items: Vec<TradeRecord>, position: Position, at: Timestamp, limit: usize) {
        self.trade_count += items.len();
        let update = Update::new(position, self.trades.last(), at, items);
        self.trades.push(Arc::new(update));
        self.touched = position;
        while self.trade_count > limit && self.trades.len() > 1 {
            let dropped = self.trades.drop_oldest();
            self.trade_count -= dropped.map_or(0, |update| update.items.len());
        }
    }
}

/// Applies changes and tells the levels as they are then.
pub(crate) fn apply_changes(levels: &mut Levels, changes: &[(LevelKey, LevelChange)]) -> Vec<LevelNow> {
    let apply = |(key, change): &(LevelKey, LevelChange)| LevelNow {
        side: key.side,
        price: key.price,
        level: levels.apply(key.side, key.price, *change),
    };
    changes.iter().map(apply).collect()
}

/// The best levels of a book at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookSnapshot {
    /// Up to where everything is in it.
    pub position: Position,
    /// Buy levels, the highest price first.
    pub bids: Vec<(Price, Level)>,
    /// Sell levels, the lowest price first.
    pub asks: Vec<(Price, Level)>,
}
