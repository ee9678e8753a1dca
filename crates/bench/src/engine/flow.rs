//! The flows of commands that the engine is measured with. All is made before anything is measured.

use engine::book::{Book, FastBook};
use types::{AccountId, Price, Quantity, Side, limits::PRICE_TICKS_MAX};

use super::matcher::{Command, Kind, Matcher};
use crate::random::Random;

/// Commands to prepare a book with, and commands to measure.
pub struct Flow {
    /// Not measured.
    pub setup: Vec<Command>,
    /// Measured.
    pub measured: Vec<Command>,
    /// How many slots the table of orders needs.
    pub slots: usize,
}

/// The kinds of flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A market maker's day: most of it near the best price, which wanders.
    Realistic,
    /// Four prices a side, long queues.
    FewLevels,
    /// A million orders on 200,000 prices, touched anywhere.
    WideAndDeep,
    /// Prices of every magnitude: 100,000 orders of which hardly two share a price.
    FarApart,
    /// A full book of which most is cancelled, in any order.
    MostlyCancels,
    /// The book fills up, and one order a side takes all of it; 1,000 and 20,000 orders in turn.
    Sweeps,
}

impl Shape {
    /// All.
    pub const ALL: [Self; 6] = [
        Self::Realistic,
        Self::FewLevels,
        Self::WideAndDeep,
        Self::FarApart,
        Self::MostlyCancels,
        Self::Sweeps,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Realistic => "realistic mix",
            Self::FewLevels => "few levels",
            Self::WideAndDeep => "wide and deep",
            Self::FarApart => "prices far apart",
            Self::MostlyCancels => "mostly cancels",
            Self::Sweeps => "sweeps",
        }
    }

    /// Makes a flow of this shape.
    pub fn flow(self, seed: u64, commands: u32) -> Flow {
        let mut maker = Maker::new(seed);
        if self == Self::Sweeps {
            while maker.commands.len() < commands as usize {
                maker.fill_and_sweep(1_000, 250);
                maker.fill_and_sweep(20_000, 2_500);
            }
            maker.commands.truncate(commands as usize);
            return maker.finish(Vec::new());
        }
        let mix = self.mix(commands);
        while maker.live.len() < mix.setup as usize {
            maker.place_resting(&mix);
        }
        let setup = std::mem::take(&mut maker.commands);
        while maker.commands.len() < commands as usize {
            maker.next(&mix);
        }
        maker.finish(setup)
    }

    fn mix(self, commands: u32) -> Mix {
        let steady = Mix {
            setup: 10_000,
            steady: true,
            cancels: 42,
            replaces: 7,
            iocs: 7,
            crossing: 8,
            prices: Prices::NearBest,
        };
        match self {
            Self::Realistic | Self::Sweeps => steady,
            Self::FewLevels => Mix {
                prices: Prices::Even(4),
                ..steady
            },
            Self::WideAndDeep => Mix {
                setup: 1_000_000,
                crossing: 0,
                prices: Prices::Even(100_000),
                ..steady
            },
            Self::FarApart => Mix {
                setup: 100_000,
                crossing: 0,
                prices: Prices::Magnitudes,
                ..steady
            },
            Self::MostlyCancels => Mix {
                setup: commands / 4 * 3,
                steady: false,
                cancels: 80,
                replaces: 4,
                iocs: 1,
                crossing: 0,
                prices: Prices::Even(2_000),
            },
        }
    }
}

/// How many of 100 commands do what; the others are new orders.
struct Mix {
    /// How many orders rest before anything is measured.
    setup: u32,
    /// True if about as many are to rest at any time.
    steady: bool,
    cancels: u64,
    replaces: u64,
    iocs: u64,
    /// How many of 100 new orders could trade at once.
    crossing: u64,
    prices: Prices,
}

/// Where new orders rest.
#[derive(Clone, Copy)]
enum Prices {
    /// Close to the best price of their side as a rule, at times better by a tick.
    NearBest,
    /// Anywhere within so many ticks, with the same chance each.
    Even(i64),
    /// Any distance from 1 to the end of the range, each magnitude with the same chance.
    Magnitudes,
}

/// Makes commands, and carries them out to know what rests.
struct Maker {
    random: Random,
    matcher: Matcher<FastBook>,
    commands: Vec<Command>,
    /// The orders that rest, by slot and number, newer ones nearer to the end.
    live: Vec<(u32, u32)>,
    /// Where each slot is in `live`.
    places: Vec<u32>,
    /// Slots that an order has left.
    free: Vec<u32>,
    number: u32,
    middle: i64,
    /// An order that was filled while it rested: some cancels come too late.
    filled: Option<(u32, u32)>,
}

const SLOTS_MAX: usize = 1 << 21;
const MIDDLE: i64 = 10_000_000;

impl Maker {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            matcher: Matcher::new(SLOTS_MAX),
            commands: Vec::new(),
            live: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            number: 0,
            middle: MIDDLE,
            filled: None,
        }
    }

    fn finish(self, setup: Vec<Command>) -> Flow {
        Flow {
            setup,
            measured: self.commands,
            slots: self.places.len(),
        }
    }

    /// Takes note of a command, and of what then rests.
    fn push(&mut self, command: Command) {
        let mut gone = Vec::new();
        self.matcher.execute(&command, |slot| gone.push(slot));
        self.commands.push(command);
        let Command { slot, number, .. } = command;
        let was_live = self.live.get(self.places[slot as usize] as usize) == Some(&(slot, number));
        if command.kind == Kind::Cancel && !was_live {
            return;
        }
        let is_live = self.matcher.rests(slot, number);
        if is_live && !was_live {
            self.places[slot as usize] = self.live.len() as u32;
            self.live.push((slot, number));
        } else if !is_live {
            gone.push(slot);
        }
        for slot in gone {
            let place = self.places[slot as usize] as usize;
            if self.live.get(place).is_some_and(|(live, _)| *live == slot) {
                let order = self.live.swap_remove(place);
                if order != (command.slot, command.number) {
                    self.filled = Some(order);
                }
                if let Some((moved, _)) = self.live.get(place) {
                    self.places[*moved as usize] = place as u32;
                }
            }
            self.free.push(slot);
        }
    }

    fn new_order(&mut self, kind: Kind, side: Side, price: i64, quantity: i64) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.places.push(u32::MAX);
            (self.places.len() - 1) as u32
        });
        self.number += 1;
        let account = AccountId(self.random.below(1_000) as u32);
        self.push(Command {
            kind,
            side,
            account,
            slot,
            number: self.number,
            price: Price(price.clamp(1, PRICE_TICKS_MAX)),
            quantity: Quantity(quantity),
        });
    }

    fn side(&mut self) -> Side {
        if self.random.percent(50) { Side::Buy } else { Side::Sell }
    }

    fn quantity(&mut self) -> i64 {
        1 + self.random.mostly_small(40)
    }

    /// A price at which an order of this side rests.
    fn resting_price(&mut self, side: Side, prices: Prices) -> i64 {
        let own = self.matcher.book.best_price(side).map(|price| price.0);
        let other = self.matcher.book.best_price(side.opposite()).map(|price| price.0);
        let away = match prices {
            Prices::NearBest if self.random.percent(3) => self.random.between(0, 2_000),
            Prices::NearBest if self.random.percent(10) => -1,
            Prices::NearBest => self.random.mostly_small(6),
            Prices::Even(ticks) => self.random.between(0, ticks - 1),
            Prices::Magnitudes => {
                let magnitude = self.random.below(47);
                self.random.below(1 << magnitude) as i64
            }
        };
        let start = match prices {
            Prices::NearBest => own.unwrap_or(self.middle),
            Prices::Even(_) => self.middle,
            Prices::Magnitudes => PRICE_TICKS_MAX / 2,
        };
        match side {
            Side::Buy => (start - away).min(other.map_or(i64::MAX, |other| other - 1)),
            Side::Sell => (start + 1 + away).max(other.map_or(0, |other| other + 1)),
        }
    }

    fn place_resting(&mut self, mix: &Mix) {
        let side = self.side();
        let price = self.resting_price(side, mix.prices);
        let quantity = self.quantity();
        self.new_order(Kind::Limit, side, price, quantity);
    }

    /// An order that could trade at once, a few ticks deep at most.
    fn place_crossing(&mut self, kind: Kind) {
        let side = self.side();
        let Some(best) = self.matcher.book.best_price(side.opposite()) else {
            return;
        };
        let through = self.random.mostly_small(1);
        let price = if side == Side::Buy {
            best.0 + through
        } else {
            best.0 - through
        };
        let quantity = self.quantity() * 2;
        self.new_order(kind, side, price, quantity);
    }

    /// An order that rests: a new one most of the time, where newer ones near the best price come and go.
    fn pick(&mut self, mix: &Mix) -> (u32, u32) {
        let end = self.live.len() as u64;
        let recent = matches!(mix.prices, Prices::NearBest) && self.random.percent(70);
        let first = if recent { end.saturating_sub(500) } else { 0 };
        self.live[(first + self.random.below(end - first)) as usize]
    }

    fn next(&mut self, mix: &Mix) {
        let mut choice = self.random.below(100);
        let live = self.live.len() as u32;
        let news_from = mix.cancels + mix.replaces + mix.iocs;
        if mix.steady && live > mix.setup + mix.setup / 20 && choice >= news_from {
            choice = 0;
        } else if live < 100 || mix.steady && live < mix.setup - mix.setup / 20 && choice < mix.cancels {
            choice = 99;
        }
        if choice < mix.cancels {
            let late = self.filled.take_if(|_| self.random.percent(3));
            let (slot, number) = late.unwrap_or_else(|| self.pick(mix));
            self.push(Command {
                kind: Kind::Cancel,
                side: Side::Buy,
                account: AccountId(0),
                slot,
                number,
                price: Price(0),
                quantity: Quantity(0),
            });
        } else if choice < mix.cancels + mix.replaces {
            self.replace(mix);
        } else if choice < news_from {
            self.place_crossing(Kind::Ioc);
        } else if self.random.percent(mix.crossing) {
            self.place_crossing(Kind::Limit);
        } else {
            self.place_resting(mix);
        }
        if self.random.percent(2) && matches!(mix.prices, Prices::NearBest) {
            self.middle += self.random.between(-1, 1);
        }
    }

    /// Half of them keep the price and lower the quantity; the others move.
    fn replace(&mut self, mix: &Mix) {
        let (slot, number) = self.pick(mix);
        let order = self.matcher.order(slot);
        let (price, quantity) = if self.random.percent(50) {
            (order.price.0, (order.remaining.0 / 2).max(1))
        } else {
            let quantity = self.quantity();
            (self.resting_price(order.side, mix.prices), quantity)
        };
        self.push(Command {
            kind: Kind::Replace,
            side: order.side,
            account: order.account,
            slot,
            number,
            price: Price(price.clamp(1, PRICE_TICKS_MAX)),
            quantity: Quantity(quantity),
        });
    }

    /// So many orders on so many prices a side, then two that take all of them.
    fn fill_and_sweep(&mut self, orders: u32, prices: i64) {
        for _ in 0..orders {
            let side = self.side();
            let price = self.resting_price(side, Prices::Even(prices));
            let quantity = self.quantity();
            self.new_order(Kind::Limit, side, price, quantity);
        }
        for (side, limit) in [(Side::Buy, PRICE_TICKS_MAX), (Side::Sell, 1)] {
            self.new_order(Kind::Ioc, side, limit, 1 << 40);
        }
        assert!(self.matcher.book.is_empty());
    }
}
