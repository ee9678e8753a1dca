//! One instrument's market data: the levels of its book, its last trades, and its last book updates.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

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
    /// The last trades, oldest first.
    pub trades: Ring<TradeRecord>,
    /// The last updates of the book, oldest first.
    pub updates: Ring<Arc<BookUpdate>>,
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
    pub fn drop_oldest(&mut self) {
        if let Some(item) = self.items.pop_front() {
            self.dropped = Some(item.position());
            self.complete_after = self.complete_after.max(item.position().sequence);
        }
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

impl Placed for TradeRecord {
    fn position(&self) -> Position {
        self.fill_id.position
    }
}

/// What one command did to a book: each level that it changed, as it is then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookUpdate {
    /// The command.
    pub position: Position,
    /// When it was sequenced.
    pub sequenced_at: Timestamp,
    /// The levels: bids first, then asks, each by rising price.
    pub levels: Vec<(Side, Price, Level)>,
}

impl BookUpdate {
    /// Applies what a command did to one instrument's levels.
    pub(crate) fn apply(
        levels: &mut Levels,
        changes: &[(LevelKey, LevelChange)],
        position: Position,
        sequenced_at: Timestamp,
    ) -> Self {
        let apply =
            |(key, change): &(LevelKey, LevelChange)| (key.side, key.price, levels.apply(key.side, key.price, *change));
        Self {
            position,
            sequenced_at,
            levels: changes.iter().map(apply).collect(),
        }
    }
}

impl Placed for Arc<BookUpdate> {
    fn position(&self) -> Position {
        self.position
    }
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
