//! The book of one instrument: who rests where, in strict price-time priority.
//!
//! ```text
//!   Exchange: checks, accounts, fees, self-trade prevention          Book: queues
//!   ------------------------------------------------------           ---------------------------
//!   a new order         best(side) -> Maker { price, account, .. } ─> look at the head of the best level
//!                       fill_best(side, quantity)                  ─> take from it; at 0 it is gone
//!                       insert(order) -> OrderHandle               ─> join the end of its level's queue
//!   cancel              cancel(handle)                             ─> O(1)
//!   smaller quantity    reduce(handle, remaining)                  ─> in place, priority kept
//! ```
//!
//! A book knows nothing of money, orders' ids or time, does no I/O and never refuses: the exchange asks only for what is
//! possible, and a request that isn't is a bug and panics. A handle is valid until its order has left the book.
//!
//! There are two: [`PlainBook`], small enough to be checked by reading it, and [`FastBook`]. They behave the same: the
//! tests run one suite over both and compare them on seeded random flows.

mod fast;
mod ladder;
mod plain;
#[cfg(test)]
mod tests;

pub use fast::FastBook;
pub use plain::PlainBook;

use types::{AccountId, Price, Quantity, Side};

/// What the exchange calls an order: the index of its details in the exchange's own tables. No two resting orders of a
/// book share one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(pub u32);

/// What a book calls a resting order, until it has left the book. The two books choose different ones, so nothing that
/// is compared between nodes may depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderHandle(pub u32);

/// An order that rests, or is to rest, in a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestingOrder {
    /// What the exchange calls it.
    pub key: OrderKey,
    /// Whose it is.
    pub account: AccountId,
    /// Which side it rests on.
    pub side: Side,
    /// Its limit, in ticks, from 0 to [`types::limits::PRICE_TICKS_MAX`].
    pub price: Price,
    /// What may still be filled, in lots, at least 1. The sum over a level must fit an `i64`; the exchange sees to that,
    /// as what is on offer is never more than the supply of its asset.
    pub remaining: Quantity,
}

/// The order that a taker would trade with next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maker {
    /// What the book calls it.
    pub handle: OrderHandle,
    /// What the exchange calls it.
    pub key: OrderKey,
    /// Whose it is.
    pub account: AccountId,
    /// The price of a trade with it, in ticks.
    pub price: Price,
    /// What may still be filled of it, in lots.
    pub remaining: Quantity,
}

/// All orders of one price, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The price, in ticks.
    pub price: Price,
    /// What may still be filled, in lots.
    pub quantity: Quantity,
    /// How many orders.
    pub orders: u32,
}

/// What a taker's own resting orders mean for what it can fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnOrders {
    /// There are none, or they don't matter: whole levels are counted.
    Count,
    /// They step aside, and the orders behind them count (`SelfTradePrevention::CancelOldest`).
    Skip(AccountId),
    /// The first one ends the taker, so nothing behind it counts (`CancelNewest`, `CancelBoth`), or takes away
    /// from what it can fill whole (`DecrementAndCancel`).
    StopAt(AccountId),
}

/// How far ahead of a command its memory is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// First: what the command names.
    Far,
    /// Then, some commands later: what that leads to. By then `Far` has fetched it, so this needn't wait for memory.
    Near,
}

/// The resting orders of one instrument. See the module's picture.
pub trait Book: Default {
    /// Puts the order at the end of its price's queue. It must not cross the other side.
    fn insert(&mut self, order: RestingOrder) -> OrderHandle;

    /// Takes the order out, and tells what it was.
    fn cancel(&mut self, handle: OrderHandle) -> RestingOrder;

    /// Lowers what may still be filled of the order to `remaining`, at least 1 and at most what it was. It keeps its
    /// place.
    fn reduce(&mut self, handle: OrderHandle, remaining: Quantity);

    /// Fills the best order of the side by `quantity`, at least 1 and at most what remains of it, and tells what then
    /// remains. At 0 it has left the book.
    fn fill_best(&mut self, side: Side, quantity: Quantity) -> Quantity;

    /// The order as it is.
    fn get(&self, handle: OrderHandle) -> RestingOrder;

    /// The order of the side that is filled next. O(1).
    fn best(&self, side: Side) -> Option<Maker>;

    /// The best price of the side. O(1).
    fn best_price(&self, side: Side) -> Option<Price>;

    /// How much of `wanted` a taker could fill from this (the makers') side at `limit` or better. Stops as soon as it has
    /// counted enough, so it is never above `wanted`.
    fn fillable(&self, side: Side, limit: Price, own: OwnOrders, wanted: Quantity) -> Quantity;

    /// The orders of the side in priority order. Inserted in this order into an empty book, they make the same book.
    fn orders(&self, side: Side) -> impl Iterator<Item = (OrderHandle, RestingOrder)> + '_;

    /// The levels of the side, best first.
    fn levels(&self, side: Side) -> impl Iterator<Item = Level> + '_;

    /// Asks for the memory that a cancel or reduction of this order will need. A hint: nothing changes, and the order may be
    /// gone.
    fn prefetch_order(&self, handle: OrderHandle, ahead: Ahead) {
        let _ = (handle, ahead);
    }

    /// Asks for the memory that an order of this side and price will need to rest. A hint: nothing changes.
    fn prefetch_price(&self, side: Side, price: Price, ahead: Ahead) {
        let _ = (side, price, ahead);
    }

    /// How many orders rest on both sides.
    fn len(&self) -> usize;

    /// True if no order rests.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// True if a maker of this side and price trades with a taker of this limit.
#[must_use]
pub fn crosses(maker_side: Side, maker_price: Price, taker_limit: Price) -> bool {
    match maker_side {
        Side::Buy => maker_price >= taker_limit,
        Side::Sell => maker_price <= taker_limit,
    }
}
