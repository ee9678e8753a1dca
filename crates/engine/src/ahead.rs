//! Fetches memory for commands that come soon.
//!
//! At a million orders and ten million remembered requests nothing that a command needs is in the cache, and each thing
//! leads to the next: the index to the entry, the entry to the order, the order to its balance. One after the other, a
//! command would wait for each in turn. Commands come in batches, so [`Exchange::look_ahead`] is told of each some commands
//! before it is applied, and takes one step for several of them at a time: each step reads what an earlier one asked
//! for, and asks for what that leads to.
//!
//! ```text
//!   a new order       index of requests, index of balances ─> balances, the account's last order, the best maker
//!                                                                                        ─> the maker's balances
//!   a cancel          (index of requests ─> entry ─>) index of orders ─> order ─> balance, neighbours, book
//! ```
//!
//! Nothing here changes the state. What is looked at may have changed when the command is applied; then the hint was of no
//! use. The one thing that is kept is the hash of the request id, which depends on nothing else.

use types::limits::PRICE_TICKS_MAX;
use types::{AccountId, Action, Command, NewOrder, OrderTarget, RequestId, Sequence};

use crate::book::{Ahead, Book, crosses};
use crate::exchange::Exchange;
use crate::ledger::Cell;

/// Commands between two steps for the same command.
const STEP: usize = 2;
/// With fewer open orders than this, the caches hold the books and the accounts' chains.
const ORDERS_LARGE: usize = 16_384;
/// How many commands may be known ahead.
const DEPTH: usize = 16;

/// The commands that come next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upcoming {
    /// The command of number `n` is at `n` modulo the depth.
    commands: [Coming; DEPTH],
    /// The number of the next one to be applied, and of the next one to be told of.
    first: usize,
    next: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Coming {
    account: AccountId,
    request_id: RequestId,
    request: [u64; 2],
    step: Step,
}

/// What is to be read next, and what for.
#[derive(Clone, Copy, Debug, Default)]
enum Step {
    #[default]
    Done,
    Balances(NewOrder),
    Maker(u32),
    Entry([u64; 2]),
    EntryOrder([u64; 2]),
    Order(Sequence),
    OrderOf(u32),
    Neighbours(u32),
}

impl Upcoming {
    /// The hash of the request of the command that is applied now, if it is the one that was told of.
    #[inline]
    pub(crate) fn take(&mut self, account: AccountId, request_id: &RequestId) -> Option<[u64; 2]> {
        if self.first == self.next {
            return None;
        }
        let coming = &self.commands[self.first % DEPTH];
        if coming.account != account || coming.request_id != *request_id {
            self.clear();
            return None;
        }
        self.first += 1;
        Some(coming.request)
    }

    /// Forgets all that was told.
    pub(crate) fn clear(&mut self) {
        self.first = self.next;
    }
}

impl<B: Book> Exchange<B> {
    /// Tells of a command that will be applied after those that were told of before. A hint; see the module.
    pub(crate) fn look_ahead(&mut self, command: &Command) {
        let number = self.upcoming.next;
        if number - self.upcoming.first == DEPTH {
            return self.upcoming.clear();
        }
        self.upcoming.commands[number % DEPTH] = self.first_step(command);
        self.upcoming.next = number + 1;
        let mut earlier = number;
        while earlier >= self.upcoming.first + STEP {
            earlier -= STEP;
            let step = self.upcoming.commands[earlier % DEPTH].step;
            let account = self.upcoming.commands[earlier % DEPTH].account;
            self.upcoming.commands[earlier % DEPTH].step = self.step(account, step);
        }
    }

    fn first_step(&self, command: &Command) -> Coming {
        let account = command.account;
        let request = self.memory.request(account, &command.request_id);
        self.keys.prefetch(command.key);
        self.memory.prefetch_index(request);
        let step = match &command.action {
            Action::Place(order) => {
                self.accounts.prefetch(account);
                let price_in_range = (0..=PRICE_TICKS_MAX).contains(&order.price.0);
                if let Some(listing) = self.instruments.get(order.instrument.0 as usize)
                    && price_in_range
                {
                    self.ledger.prefetch_index(account, listing.info.base);
                    self.ledger.prefetch_index(account, listing.info.quote);
                    if self.orders.len() >= ORDERS_LARGE {
                        listing.book.prefetch_price(order.side, order.price, Ahead::Far);
                    }
                    Step::Balances(*order)
                } else {
                    Step::Done
                }
            }
            Action::Cancel(target) => self.find_target(account, target),
            Action::Replace(replace) => self.find_target(account, &replace.target),
            _ => Step::Done,
        };
        Coming {
            account,
            request_id: command.request_id,
            request,
            step,
        }
    }

    fn find_target(&self, account: AccountId, target: &OrderTarget) -> Step {
        self.accounts.prefetch(account);
        match target {
            OrderTarget::OrderId(order_id) => {
                self.orders.prefetch_index(order_id.0.sequence);
                Step::Order(order_id.0.sequence)
            }
            OrderTarget::ClientOrderId(client_order_id) => {
                let request = self.memory.request(account, client_order_id);
                self.memory.prefetch_index(request);
                Step::Entry(request)
            }
        }
    }

    fn step(&self, account: AccountId, step: Step) -> Step {
        match step {
            Step::Done => Step::Done,
            Step::Balances(order) => self.fetch_balances(account, &order),
            Step::Maker(slot) => {
                if let Some(maker) = self.orders.peek(slot) {
                    self.ledger.prefetch(maker.base);
                    self.ledger.prefetch(maker.quote);
                    self.accounts.prefetch(maker.account);
                }
                Step::Done
            }
            Step::Entry(request) => {
                self.memory.prefetch_entry(request);
                Step::EntryOrder(request)
            }
            Step::EntryOrder(request) => match self.memory.peek(request) {
                Some(entry) => {
                    self.orders.prefetch_index(entry.sequence);
                    Step::Order(entry.sequence)
                }
                None => Step::Done,
            },
            Step::Order(sequence) => match self.orders.prefetch(sequence) {
                Some(slot) => Step::OrderOf(slot),
                None => Step::Done,
            },
            Step::OrderOf(slot) => {
                if let Some(order) = self.orders.peek(slot) {
                    self.ledger.prefetch(order.held_cell());
                    if self.orders.len() < ORDERS_LARGE {
                        return Step::Done;
                    }
                    self.orders.prefetch_neighbours(slot);
                    self.instruments[order.instrument.0 as usize]
                        .book
                        .prefetch_order(order.handle, Ahead::Far);
                }
                Step::Neighbours(slot)
            }
            Step::Neighbours(slot) => {
                if let Some(order) = self.orders.peek(slot) {
                    self.instruments[order.instrument.0 as usize]
                        .book
                        .prefetch_order(order.handle, Ahead::Near);
                }
                Step::Done
            }
        }
    }

    fn fetch_balances(&self, account: AccountId, order: &NewOrder) -> Step {
        let listing = &self.instruments[order.instrument.0 as usize];
        for asset in [listing.info.base, listing.info.quote] {
            self.ledger
                .prefetch(self.ledger.peek(account, asset).unwrap_or(Cell::NONE));
        }
        if self.orders.len() >= ORDERS_LARGE {
            if let Some(record) = self.accounts.get(account) {
                self.orders.prefetch_link(record.last);
            }
            listing.book.prefetch_price(order.side, order.price, Ahead::Near);
        }
        let makers = order.side.opposite();
        match listing.book.best(makers) {
            Some(maker) if crosses(makers, maker.price, order.price) => {
                self.orders.prefetch_record(maker.key.0);
                Step::Maker(maker.key.0)
            }
            _ => {
                self.orders.prefetch_free();
                Step::Done
            }
        }
    }
}
