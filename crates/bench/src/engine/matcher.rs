//! What stands around a book in this measurement: the least that an engine needs to carry out commands with it.
//!
//! Orders are found as the exchange finds them: a command names a slot in a table of orders, and which order it believes
//! is there. There are no accounts, no money and no events; each outcome goes into a checksum instead, so that nothing
//! can be optimised away and the two books are known to have done the same.

use engine::book::{Ahead, Book, OrderHandle, OrderKey, RestingOrder, crosses};
use engine::prefetch::prefetch;
use types::{AccountId, Price, Quantity, Side};

/// A book of up to so many orders lies in a processor's second-level cache, most of the time.
const CACHED_ORDERS_MAX: usize = 1 << 14;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Matches at its limit; what is left rests.
    Limit,
    /// Matches at its limit; what is left is dropped.
    Ioc,
    /// Cancels.
    Cancel,
    /// Changes price and remaining quantity. Keeps its place if the price stays and the quantity isn't larger.
    Replace,
}

/// A command, 32 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// What is asked.
    pub kind: Kind,
    /// Of a new order.
    pub side: Side,
    /// Of a new order.
    pub account: AccountId,
    /// Where the order is, or will be, in the table.
    pub slot: u32,
    /// Which order it is: never 0, never used twice.
    pub number: u32,
    /// Limit, in ticks.
    pub price: Price,
    /// Quantity, in lots.
    pub quantity: Quantity,
}

/// A row in the table of orders.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    /// Which order is here; 0 for none.
    number: u32,
    handle: OrderHandle,
}

/// A book and its table of orders.
pub struct Matcher<B> {
    /// The book.
    pub book: B,
    rows: Vec<Row>,
    checksum: u64,
}

impl<B: Book> Matcher<B> {
    /// One with an empty book, and room for so many orders.
    pub fn new(slots: usize) -> Self {
        Self {
            book: B::default(),
            rows: vec![Row::default(); slots],
            checksum: 0,
        }
    }

    /// True if this order rests.
    pub fn rests(&self, slot: u32, number: u32) -> bool {
        self.rows[slot as usize].number == number
    }

    /// The order that rests in this slot.
    pub fn order(&self, slot: u32) -> RestingOrder {
        self.book.get(self.rows[slot as usize].handle)
    }

    /// Carries out a command; `filled` hears of each slot whose order was filled whole while it rested.
    #[inline]
    pub fn execute(&mut self, command: &Command, mut filled: impl FnMut(u32)) {
        let order = RestingOrder {
            key: OrderKey(command.slot),
            account: command.account,
            side: command.side,
            price: command.price,
            remaining: command.quantity,
        };
        match command.kind {
            Kind::Limit => self.place(command.number, order, &mut filled),
            Kind::Ioc => {
                let left = self.take(order, &mut filled);
                self.mix(left.0 as u64);
            }
            Kind::Cancel => {
                let row = self.rows[command.slot as usize];
                if row.number != command.number {
                    self.mix(1);
                    return;
                }
                let order = self.book.cancel(row.handle);
                self.rows[command.slot as usize].number = 0;
                self.mix(order.price.0 as u64 ^ (order.remaining.0 as u64) << 32);
            }
            Kind::Replace => self.replace(command, &mut filled),
        }
    }

    fn place(&mut self, number: u32, mut order: RestingOrder, filled: &mut impl FnMut(u32)) {
        order.remaining = self.take(order, filled);
        if order.remaining.0 > 0 {
            let handle = self.book.insert(order);
            self.rows[order.key.0 as usize] = Row { number, handle };
        }
        self.mix(u64::from(number) ^ (order.remaining.0 as u64) << 32);
    }

    fn replace(&mut self, command: &Command, filled: &mut impl FnMut(u32)) {
        let row = self.rows[command.slot as usize];
        if row.number != command.number {
            self.mix(2);
            return;
        }
        let before = self.book.get(row.handle);
        if before.price == command.price && command.quantity <= before.remaining {
            self.book.reduce(row.handle, command.quantity);
            self.mix(command.quantity.0 as u64);
            return;
        }
        self.book.cancel(row.handle);
        self.rows[command.slot as usize].number = 0;
        let after = RestingOrder {
            price: command.price,
            remaining: command.quantity,
            ..before
        };
        self.place(command.number, after, filled);
    }

    /// Carries out commands that came together. If the book is too large for the caches, it asks for the memory of all of
    /// them first.
    pub fn execute_together(&mut self, commands: &[Command]) {
        if self.book.len() > CACHED_ORDERS_MAX {
            for command in commands {
                prefetch(&self.rows, command.slot as usize);
            }
            for ahead in [Ahead::Far, Ahead::Near] {
                for command in commands {
                    self.prefetch(command, ahead);
                }
            }
        }
        for command in commands {
            self.execute(command, |_| ());
        }
    }

    #[inline]
    fn prefetch(&self, command: &Command, ahead: Ahead) {
        match command.kind {
            Kind::Limit => self.book.prefetch_price(command.side, command.price, ahead),
            Kind::Ioc => {}
            Kind::Cancel | Kind::Replace => {
                self.book.prefetch_order(self.rows[command.slot as usize].handle, ahead);
            }
        }
    }

    /// Matches the order, and tells what is left of it.
    #[inline]
    fn take(&mut self, order: RestingOrder, filled: &mut impl FnMut(u32)) -> Quantity {
        let makers = order.side.opposite();
        let mut left = order.remaining;
        while left.0 > 0 {
            let Some(maker) = self.book.best(makers) else { break };
            if !crosses(makers, maker.price, order.price) {
                break;
            }
            let quantity = left.min(maker.remaining);
            let remaining = self.book.fill_best(makers, quantity);
            if remaining.0 == 0 {
                self.rows[maker.key.0 as usize].number = 0;
                filled(maker.key.0);
            }
            left.0 -= quantity.0;
            self.mix(u64::from(maker.key.0) ^ (maker.price.0 as u64) << 24 ^ (quantity.0 as u64) << 48);
        }
        left
    }

    #[inline]
    fn mix(&mut self, word: u64) {
        self.checksum = (self.checksum.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// What came of all commands, and what rests now, as one number.
    pub fn checksum(mut self) -> u64 {
        for side in [Side::Buy, Side::Sell] {
            let orders: Vec<RestingOrder> = self.book.orders(side).map(|(_, order)| order).collect();
            for order in orders {
                self.mix(u64::from(order.key.0) ^ u64::from(order.account.0) << 32);
                self.mix(order.price.0 as u64);
                self.mix(order.remaining.0 as u64);
            }
        }
        self.checksum
    }
}

const _: () = assert!(size_of::<Command>() == 32);
