//! The requests of many customers, made before they are sent. A book for each instrument tells the maker which orders
//! will still be open, so that hardly a cancel or replace comes too late; the exchange may sequence two sessions the
//! other way round, and then some do.

use std::fmt;

use clap::ValueEnum;
use engine::book::{Book as _, FastBook, OrderHandle, OrderKey, RestingOrder, crosses};
use types::{AccountId, Price, Quantity, Side};

use crate::protocol::request::{Kind, OrderRequest};
use crate::random::Random;

/// What the requests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// Of 100 requests 50 new orders that rest near the best price, 25 cancels, 10 replaces, 15 that take at once.
    Realistic,
    /// New orders that rest and never meet.
    NewOnly,
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Realistic => "realistic: 50% new, 25% cancel, 10% replace, 15% take (IOC)",
            Self::NewOnly => "new orders only, which rest",
        })
    }
}

/// The price around which everything happens, in ticks, and how far the middle may wander from it.
const MIDDLE_TICKS: i64 = 10_000;
const WANDER_TICKS: i64 = 500;
/// How far from the best price a new order rests, mostly.
const DEPTH_TICKS: i64 = 6;
/// New orders that never meet rest at least so far from the middle, on so many prices a side.
const APART_TICKS: i64 = 10;
const APART_PRICES: u64 = 400;

/// Makes requests, and remembers what rests.
pub struct Flow {
    mix: Mix,
    random: Random,
    accounts: u32,
    instruments: Vec<Instrument>,
    /// The orders that rest, by slot.
    orders: Vec<Resting>,
    free: Vec<u32>,
    /// The slots of each session's orders.
    sessions: Vec<Vec<u32>>,
    /// How many orders of a session rest at most.
    open_max: usize,
    number: u64,
}

struct Instrument {
    book: FastBook,
    middle: i64,
}

#[derive(Clone, Copy)]
struct Resting {
    number: u64,
    session: u32,
    instrument: u16,
    handle: OrderHandle,
    /// All of it, what was filled included.
    quantity_lots: i64,
    /// Where it is in its session's list.
    place: u32,
}

impl Flow {
    /// Of so many sessions that share so many accounts, in turn, and with about so many open orders.
    pub fn new(mix: Mix, seed: u64, sessions: usize, accounts: usize, instruments: usize, open_orders: usize) -> Self {
        let instrument = || Instrument {
            book: FastBook::default(),
            middle: MIDDLE_TICKS,
        };
        Self {
            mix,
            random: Random(seed),
            accounts: u32::try_from(accounts).expect("accounts are few"),
            instruments: (0..instruments).map(|_| instrument()).collect(),
            orders: Vec::new(),
            free: Vec::new(),
            sessions: vec![Vec::new(); sessions],
            open_max: open_orders.div_ceil(sessions).max(4),
            number: 0,
        }
    }

    /// The next request of a session.
    pub fn next(&mut self, session: u32) -> OrderRequest {
        let number = self.number;
        self.number += 1;
        let instrument = self.random.below(self.instruments.len() as u64) as u16;
        if self.mix == Mix::NewOnly {
            return self.apart(number, instrument);
        }
        let open = self.sessions[session as usize].len();
        let choice = self.random.below(100);
        match choice {
            0..50 if open < self.open_max => self.place(number, session, instrument),
            0..75 if open > 0 => self.cancel(number, session),
            75..85 if open > 0 => self.replace(number, session),
            85.. => self.take(number, session, instrument),
            _ => self.place(number, session, instrument),
        }
    }

    fn side(&mut self) -> Side {
        if self.random.percent(50) { Side::Buy } else { Side::Sell }
    }

    /// The least quantity, so that funds last for millions.
    fn apart(&mut self, number: u64, instrument: u16) -> OrderRequest {
        let side = self.side();
        let away = APART_TICKS + self.random.below(APART_PRICES) as i64;
        let price = if side == Side::Buy {
            MIDDLE_TICKS - away
        } else {
            MIDDLE_TICKS + away
        };
        request(number, Kind::Place, instrument, side, price, 1)
    }

    fn place(&mut self, number: u64, session: u32, instrument: u16) -> OrderRequest {
        let side = self.side();
        let price = self.resting_price(instrument, side);
        let quantity = 1 + self.random.below(20) as i64;
        let request = request(number, Kind::Place, instrument, side, price, quantity);
        self.rest(&request, session, number, 0);
        request
    }

    /// Near the best price of its side, and never at one of the other.
    fn resting_price(&mut self, instrument: u16, side: Side) -> i64 {
        let away = self.random.mostly_small(DEPTH_TICKS);
        let step = if self.random.percent(2) {
            self.random.between(-1, 1)
        } else {
            0
        };
        let instrument = &mut self.instruments[usize::from(instrument)];
        let middle = instrument.middle + step;
        instrument.middle = middle.clamp(MIDDLE_TICKS - WANDER_TICKS, MIDDLE_TICKS + WANDER_TICKS);
        let best = instrument.book.best_price(side.opposite()).map(|price| price.0);
        match side {
            Side::Buy => (instrument.middle - 1 - away).min(best.map_or(i64::MAX, |best| best - 1)),
            Side::Sell => (instrument.middle + 1 + away).max(best.map_or(0, |best| best + 1)),
        }
    }

    fn take(&mut self, number: u64, session: u32, instrument: u16) -> OrderRequest {
        let side = self.side();
        let through = self.random.mostly_small(2);
        // Takers take as much as makers leave, or the book would only grow or shrink.
        let quantity = 1 + self.random.below(36) as i64;
        let state = &self.instruments[usize::from(instrument)];
        let best = state
            .book
            .best_price(side.opposite())
            .map_or(state.middle, |price| price.0);
        let price = if side == Side::Buy {
            best + through
        } else {
            best - through
        };
        let request = request(number, Kind::Take, instrument, side, price, quantity);
        self.match_it(&request, session);
        request
    }

    fn cancel(&mut self, number: u64, session: u32) -> OrderRequest {
        let slot = self.pick(session);
        let order = self.orders[slot as usize];
        let resting = self.instruments[usize::from(order.instrument)]
            .book
            .cancel(order.handle);
        self.forget(slot);
        let kind = Kind::Cancel(order.number);
        request(
            number,
            kind,
            order.instrument,
            resting.side,
            resting.price.0,
            resting.remaining.0,
        )
    }

    /// An order keeps its name when it is replaced.
    fn replace(&mut self, number: u64, session: u32) -> OrderRequest {
        let slot = self.pick(session);
        let order = self.orders[slot as usize];
        let resting = self.instruments[usize::from(order.instrument)]
            .book
            .cancel(order.handle);
        self.forget(slot);
        let price = self.resting_price(order.instrument, resting.side);
        // A replace names the whole quantity, what was filled included.
        let filled = order.quantity_lots - resting.remaining.0;
        let quantity = filled + 1 + self.random.below(20) as i64;
        let kind = Kind::Replace(order.number);
        let request = request(number, kind, order.instrument, resting.side, price, quantity);
        self.rest(&request, session, order.number, filled);
        request
    }

    fn pick(&mut self, session: u32) -> u32 {
        let open = &self.sessions[session as usize];
        open[self.random.below(open.len() as u64) as usize]
    }

    fn account(&self, session: u32) -> AccountId {
        AccountId(session % self.accounts)
    }

    fn rest(&mut self, request: &OrderRequest, session: u32, number: u64, filled: i64) {
        let slot = self.free.pop().unwrap_or(self.orders.len() as u32);
        let book = &mut self.instruments[usize::from(request.instrument)].book;
        let handle = book.insert(RestingOrder {
            key: OrderKey(slot),
            account: AccountId(session % self.accounts),
            side: request.side,
            price: Price(request.price_ticks as i64),
            remaining: Quantity(request.quantity_lots as i64 - filled),
        });
        let open = &mut self.sessions[session as usize];
        let order = Resting {
            number,
            session,
            instrument: request.instrument,
            handle,
            quantity_lots: request.quantity_lots as i64,
            place: open.len() as u32,
        };
        open.push(slot);
        match self.orders.get_mut(slot as usize) {
            Some(free) => *free = order,
            None => self.orders.push(order),
        }
    }

    fn match_it(&mut self, request: &OrderRequest, session: u32) {
        let makers = request.side.opposite();
        let account = self.account(session);
        let mut left = request.quantity_lots as i64;
        while left > 0 {
            let book = &mut self.instruments[usize::from(request.instrument)].book;
            let Some(maker) = book.best(makers) else { return };
            let own = self.orders[maker.key.0 as usize].session % self.accounts == account.0;
            // An order that would trade with its own account ends there.
            if own || !crosses(makers, maker.price, Price(request.price_ticks as i64)) {
                return;
            }
            let quantity = left.min(maker.remaining.0);
            left -= quantity;
            if book.fill_best(makers, Quantity(quantity)).0 == 0 {
                self.forget(maker.key.0);
            }
        }
    }

    /// Takes an order that left its book out of its session's list.
    fn forget(&mut self, slot: u32) {
        let order = self.orders[slot as usize];
        let open = &mut self.sessions[order.session as usize];
        open.swap_remove(order.place as usize);
        if let Some(moved) = open.get(order.place as usize) {
            self.orders[*moved as usize].place = order.place;
        }
        self.free.push(slot);
    }
}

fn request(number: u64, kind: Kind, instrument: u16, side: Side, price: i64, quantity: i64) -> OrderRequest {
    OrderRequest {
        number,
        kind,
        instrument,
        side,
        price_ticks: price.unsigned_abs(),
        quantity_lots: quantity.unsigned_abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_mix_is_as_said_and_names_only_own_orders() {
        let mut flow = Flow::new(Mix::Realistic, 11, 64, 32, 4, 6_400);
        let mut owners = HashMap::new();
        let mut counts = [0u32; 4];
        for turn in 0..400_000u32 {
            let session = turn % 64;
            let request = flow.next(session);
            assert_eq!(request.number, u64::from(turn));
            assert!((9_000..11_000).contains(&request.price_ticks), "{request:?}");
            assert!(request.quantity_lots > 0);
            match request.kind {
                Kind::Place => {
                    owners.insert(request.number, session);
                    counts[0] += 1;
                }
                Kind::Cancel(target) => {
                    assert_eq!(owners.remove(&target), Some(session), "own, and not cancelled before");
                    counts[1] += 1;
                }
                Kind::Replace(target) => {
                    assert_eq!(owners.get(&target), Some(&session));
                    counts[2] += 1;
                }
                Kind::Take => counts[3] += 1,
            }
        }
        for (count, percent) in counts.into_iter().zip([50.0, 25.0, 10.0, 15.0]) {
            let share = f64::from(count) / 4_000.0;
            assert!((share - percent).abs() < 2.0, "{counts:?}");
        }
        let open: usize = flow.sessions.iter().map(Vec::len).sum();
        assert!(
            (600..=6_400).contains(&open),
            "the books neither empty nor grow: {open}"
        );
    }

    #[test]
    fn new_orders_alone_never_meet() {
        let mut flow = Flow::new(Mix::NewOnly, 11, 2, 2, 1, 100);
        for _ in 0..10_000 {
            let request = flow.next(0);
            let price = request.price_ticks as i64;
            assert_eq!(request.kind, Kind::Place);
            assert!(match request.side {
                Side::Buy => price < MIDDLE_TICKS,
                Side::Sell => price > MIDDLE_TICKS,
            });
        }
    }
}
