//! Fetches memory for commands that come soon.
//!
//! At a million orders and ten million remembered requests nothing that a command needs is in the cache, and each thing
//! leads to the next: the index to the entry, the entry to the order, the order to its balance. One after the other, a
//! command would wait for each in turn. Commands come in batches, so [`Exchange::look_ahead`] is told of each some commands
//! before it is applied, and takes one step for several of them at a time: each step reads what an earlier one asked
//! for, and asks for what that leads to.
//!
//! Steps are taken for a whole group of commands at once, one right after the other. To ask for memory costs nothing, but
//! to translate its address can take as long as the memory itself, and the processor does not go far beyond an
//! instruction that waits for that. In a group the translations overlap.
//!
//! ```text
//!   a new order       index of requests, index of balances ─> balances, the account's last order, the best maker
//!                                                                                        ─> the maker's balances
//!   a cancel          (index of requests ─> entry ─>) index of orders ─> order ─> balance, neighbours, book
//! ```
//!
//! Nothing here changes the state. What is looked at may have changed when the command is applied; then the hint was of no
//! use. What is kept depends on nothing else (the hashes of ids) or is checked when it is used (the cells of balances).

use types::limits::PRICE_TICKS_MAX;
use types::{AccountId, Action, Command, InstrumentId, KeyId, OrderTarget, Price, Replace, RequestId, Sequence, Side};

use crate::book::{Ahead, Book, crosses};
use crate::exchange::Exchange;
use crate::ledger::Cell;

/// Commands for which steps are taken at once.
const GROUP: usize = 4;
/// With fewer open orders than this, the caches hold the books and the accounts' chains.
const ORDERS_LARGE: usize = 16_384;
/// How many commands may be known ahead.
const DEPTH: usize = 32;
const _: () = assert!(DEPTH.is_multiple_of(GROUP));

/// The commands that come next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upcoming {
    /// The command of number `n` is at `n` modulo the depth.
    commands: [Coming; DEPTH],
    /// The number of the next one to be applied, and of the next one to be told of.
    first: usize,
    next: usize,
    /// True if the command that is applied now is the one before the first.
    running: bool,
}

/// A command that was told of.
#[derive(Clone, Copy, Debug, Default)]
struct Coming {
    step: Step,
    /// Where a new order is to be placed.
    aim: Aim,
    account: AccountId,
    key: KeyId,
    request: [u64; 2],
    request_id: RequestId,
    /// The client order id that it names, if it does.
    has_target: bool,
    target: [u64; 2],
    target_id: RequestId,
    /// Probably the balances of a new order, base and quote.
    cells: [Cell; 2],
}

#[derive(Clone, Copy, Debug)]
struct Aim {
    instrument: InstrumentId,
    side: Side,
    price: Price,
}

impl Default for Aim {
    fn default() -> Self {
        Self {
            instrument: InstrumentId(0),
            side: Side::Buy,
            price: Price(0),
        }
    }
}

/// What is to be read next, and what for.
#[derive(Clone, Copy, Debug, Default)]
enum Step {
    #[default]
    Done,
    First(Leads),
    Balances,
    Maker(u32),
    Entry,
    EntryOrder,
    Order(Sequence),
    OrderOf(u32),
    Neighbours(u32),
}

/// Where the first step goes.
#[derive(Clone, Copy, Debug)]
enum Leads {
    Nowhere,
    ToBalances,
    ToOrder(Sequence),
    ToEntry,
}

impl Upcoming {
    /// Goes on to the command that is applied now; if it is not the one that was told of, nothing is known any more.
    #[inline]
    pub(crate) fn start(&mut self, command: &Command) {
        self.running = false;
        if self.first == self.next {
            return;
        }
        let coming = &self.commands[self.first % DEPTH];
        if coming.account != command.account || coming.request_id != command.request_id {
            return self.clear();
        }
        self.first += 1;
        self.running = true;
    }

    /// The hash of the running command's request, if it was told of.
    #[inline]
    pub(crate) fn request(&self) -> Option<[u64; 2]> {
        Some(self.running()?.request)
    }

    /// The hash of a client order id of the running command's account, if it was told of.
    #[inline]
    pub(crate) fn target(&self, client_order_id: &RequestId) -> Option<[u64; 2]> {
        let running = self.running()?;
        (running.has_target && running.target_id == *client_order_id).then_some(running.target)
    }

    /// What are probably the cells of the running command's new order, base and quote.
    #[inline]
    pub(crate) fn cells(&self) -> [Cell; 2] {
        self.running().map_or([Cell::NONE; 2], |running| running.cells)
    }

    #[inline]
    fn running(&self) -> Option<&Coming> {
        self.running.then(|| &self.commands[(self.first + DEPTH - 1) % DEPTH])
    }

    /// Forgets all that was told.
    pub(crate) fn clear(&mut self) {
        self.first = self.next;
        self.running = false;
    }
}

impl<B: Book> Exchange<B> {
    /// Tells of a command that will be applied after those that were told of before. A hint; see the module.
    pub(crate) fn look_ahead(&mut self, command: &Command) {
        let number = self.upcoming.next;
        if number - self.upcoming.first == DEPTH {
            return self.upcoming.clear();
        }
        self.take_in(number % DEPTH, command);
        self.upcoming.next = number + 1;
        if !self.upcoming.next.is_multiple_of(GROUP) {
            return;
        }
        let mut earlier = self.upcoming.next;
        while earlier > self.upcoming.first {
            earlier -= 1;
            self.step(earlier % DEPTH);
        }
    }

    /// Notes what is to be known of a command, without a look at any large table.
    fn take_in(&mut self, at: usize, command: &Command) {
        let account = command.account;
        let coming = &mut self.upcoming.commands[at];
        coming.account = account;
        coming.key = command.key;
        coming.request = self.memory.request(account, &command.request_id);
        coming.request_id = command.request_id;
        coming.has_target = false;
        coming.step = Step::First(Leads::Nowhere);
        match &command.action {
            Action::Place(order) if (0..=PRICE_TICKS_MAX).contains(&order.price.0) => {
                coming.cells = [Cell::NONE; 2];
                coming.aim = Aim {
                    instrument: order.instrument,
                    side: order.side,
                    price: order.price,
                };
                coming.step = Step::First(Leads::ToBalances);
            }
            Action::Cancel(target) | Action::Replace(Replace { target, .. }) => match target {
                OrderTarget::OrderId(order_id) => {
                    coming.step = Step::First(Leads::ToOrder(order_id.0.sequence));
                }
                OrderTarget::ClientOrderId(client_order_id) => {
                    coming.target = self.memory.request(account, client_order_id);
                    coming.target_id = *client_order_id;
                    coming.has_target = true;
                    coming.step = Step::First(Leads::ToEntry);
                }
            },
            _ => {}
        }
    }

    #[inline]
    fn first_step(&self, coming: &Coming, leads: Leads) -> Step {
        self.memory.prefetch_index(coming.request);
        self.keys.prefetch(coming.key);
        self.accounts.prefetch(coming.account);
        match leads {
            Leads::Nowhere => Step::Done,
            Leads::ToBalances => {
                let Some(listing) = self.instruments.get(coming.aim.instrument.0 as usize) else {
                    return Step::Done;
                };
                self.ledger.prefetch_index(coming.account, listing.info.base);
                self.ledger.prefetch_index(coming.account, listing.info.quote);
                if self.orders.len() >= ORDERS_LARGE {
                    listing
                        .book
                        .prefetch_price(coming.aim.side, coming.aim.price, Ahead::Far);
                }
                Step::Balances
            }
            Leads::ToOrder(sequence) => {
                self.orders.prefetch_index(sequence);
                Step::Order(sequence)
            }
            Leads::ToEntry => {
                self.memory.prefetch_index(coming.target);
                Step::Entry
            }
        }
    }

    #[inline]
    fn step(&mut self, at: usize) {
        let coming = &self.upcoming.commands[at];
        let next = match coming.step {
            Step::Done => return,
            Step::First(leads) => self.first_step(coming, leads),
            Step::Balances => self.fetch_balances(at),
            Step::Maker(slot) => {
                if let Some(maker) = self.orders.peek(slot) {
                    self.ledger.prefetch(maker.base);
                    self.ledger.prefetch(maker.quote);
                    self.accounts.prefetch(maker.account);
                }
                Step::Done
            }
            Step::Entry => {
                self.memory.prefetch_entry(coming.target);
                Step::EntryOrder
            }
            Step::EntryOrder => match self.memory.peek(coming.target) {
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
            Step::OrderOf(slot) => self.fetch_order(slot),
            Step::Neighbours(slot) => {
                if let Some(order) = self.orders.peek(slot) {
                    self.instruments[order.instrument.0 as usize]
                        .book
                        .prefetch_order(order.handle, Ahead::Near);
                }
                Step::Done
            }
        };
        self.upcoming.commands[at].step = next;
    }

    #[inline]
    fn fetch_order(&self, slot: u32) -> Step {
        let Some(order) = self.orders.peek(slot) else {
            return Step::Done;
        };
        self.ledger.prefetch(order.held_cell());
        if self.orders.len() < ORDERS_LARGE {
            return Step::Done;
        }
        self.orders.prefetch_neighbours(slot);
        self.instruments[order.instrument.0 as usize]
            .book
            .prefetch_order(order.handle, Ahead::Far);
        Step::Neighbours(slot)
    }

    #[inline]
    fn fetch_balances(&mut self, at: usize) -> Step {
        let coming = &mut self.upcoming.commands[at];
        let Aim {
            instrument,
            side,
            price,
        } = coming.aim;
        let listing = &self.instruments[instrument.0 as usize];
        for (cell, asset) in coming.cells.iter_mut().zip([listing.info.base, listing.info.quote]) {
            *cell = self.ledger.peek(coming.account, asset).unwrap_or(Cell::NONE);
            self.ledger.prefetch(*cell);
        }
        if self.orders.len() >= ORDERS_LARGE {
            if let Some(record) = self.accounts.get(coming.account) {
                self.orders.prefetch_link(record.last);
            }
            listing.book.prefetch_price(side, price, Ahead::Near);
        }
        let makers = side.opposite();
        match listing.book.best(makers) {
            Some(maker) if crosses(makers, maker.price, price) => {
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
