//! Cancel-replace: a new price, a new quantity, or both, in one step.
//!
//! A smaller quantity at the same price keeps the order's place in the queue, and needs neither funds nor the collar: it
//! must be possible to take risk off whatever the market did. Everything else loses the place: the order is checked like a
//! new one (collar, funds with what it holds already, post-only), taken out of the book and matched with what remains of
//! it. All checks come first, so a refused replace leaves the order as it was.

use types::limits::AMOUNT_MAX;
use types::{AccountId, Event, OrderStatus, Price, Quantity, RejectReason, Replace};

use crate::book::Book;
use crate::exchange::Exchange;
use crate::memory::Outcome;
use crate::orders::OrderRecord;
use crate::placing::{closed, end_of_rest};
use crate::telling::tell;

impl<B: Book> Exchange<B> {
    /// Replaces an order.
    pub(crate) fn replace(
        &mut self,
        account: AccountId,
        replace: &Replace,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, RejectReason> {
        let slot = self.find_own(account, &replace.target)?;
        let before = *self.orders.get(slot);
        let mut after = before;
        after.price = replace.price.unwrap_or(before.price);
        after.quantity = replace.quantity.map_or(before.quantity, |quantity| quantity.0);
        after.post_only = replace.post_only.unwrap_or(before.post_only);
        let keeps_priority = after.price == before.price && after.quantity < before.quantity;
        self.check_replace(&before, &after, replace.scale_version, keeps_priority)?;
        if keeps_priority {
            self.reduce(slot, &before, after, events);
        } else {
            self.requeue(slot, &before, after, events);
        }
        Ok(Outcome::Done)
    }

    fn check_replace(
        &self,
        before: &OrderRecord,
        after: &OrderRecord,
        scale_version: u32,
        keeps_priority: bool,
    ) -> Result<(), RejectReason> {
        let listing = &self.instruments[before.instrument.0 as usize];
        listing.check_open(scale_version)?;
        if after.price == before.price && after.quantity == before.quantity {
            return Err(RejectReason::NothingToChange);
        }
        if after.quantity <= before.filled {
            return Err(RejectReason::QuantityNotAboveFilled);
        }
        listing.check_quantity(after.quantity)?;
        if !keeps_priority {
            listing.check_price(after.price)?;
        }
        listing.check_notional(listing.scale.notional(after.price, after.quantity))?;
        if keeps_priority {
            return Ok(());
        }
        // What it fills in all stays an amount, however often it is replaced.
        let remaining = listing.scale.notional(after.price, after.remaining());
        if i128::from(after.filled_notional) + remaining > i128::from(AMOUNT_MAX) {
            return Err(RejectReason::NotionalTooLarge);
        }
        if after.post_only && self.would_take(after) {
            return Err(RejectReason::PostOnlyWouldTake);
        }
        let available = self.ledger.available(before.held_cell());
        if available + before.hold < self.hold_of(after) {
            return Err(RejectReason::InsufficientFunds);
        }
        Ok(())
    }

    /// Lowers an order's quantity in its place.
    pub(crate) fn reduce(&mut self, slot: u32, before: &OrderRecord, mut after: OrderRecord, events: &mut Vec<Event>) {
        after.hold = self.hold_of(&after);
        let released = before.hold - after.hold;
        self.ledger.change(after.held_cell(), released, -released);
        let book = &mut self.instruments[after.instrument.0 as usize].book;
        book.reduce(after.handle, Quantity(after.remaining()));
        self.orders.change(slot, |record| *record = after);
        tell(events, || replaced(before, &after, true));
    }

    fn requeue(&mut self, slot: u32, before: &OrderRecord, mut after: OrderRecord, events: &mut Vec<Event>) {
        self.instruments[before.instrument.0 as usize]
            .book
            .cancel(before.handle);
        self.ledger.change(before.held_cell(), before.hold, -before.hold);
        after.hold = 0;
        after.priority = self.position.sequence;
        tell(events, || replaced(before, &after, false));
        let stopped = self.match_taker(&mut after, events);
        if after.remaining() == 0 {
            return self.forget(slot);
        }
        match end_of_rest(&after, stopped) {
            Some(reason) => {
                tell(events, || closed(&after, OrderStatus::Cancelled, reason));
                self.forget(slot);
            }
            None => {
                self.hold(&mut after);
                self.orders.change(slot, |record| *record = after);
                self.join_book(slot);
            }
        }
    }
}

/// The event of an order that has another price or quantity now.
#[inline]
pub(crate) fn replaced(before: &OrderRecord, after: &OrderRecord, priority_kept: bool) -> Event {
    let old_price: Price = before.price;
    Event::OrderReplaced {
        order: after.as_order(OrderStatus::Open),
        priority_kept,
        old_price,
        old_remaining: Quantity(before.remaining()),
    }
}
