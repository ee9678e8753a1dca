//! The same seeded flow through both books: every outcome compared, and a hash of the whole book every 100 commands.

use types::{AccountId, Price, Quantity, Side, limits::PRICE_TICKS_MAX};

use super::Subject;
use super::random::Random;
use crate::book::{Ahead, Book, FastBook, OrderHandle, OrderKey, OwnOrders, PlainBook, RestingOrder, crosses};

/// How a flow chooses its prices and what it asks for.
struct Flow {
    seed: u64,
    commands: u32,
    prices: Prices,
    /// How many of 100 commands cancel, if there is something to cancel.
    cancels: u64,
    /// How many of 100 commands take without a limit all that rests on a side.
    sweeps: u64,
}

enum Prices {
    /// From the first to the last with the same chance each.
    Even(i64, i64),
    /// Any magnitude with the same chance: many next to 0, a few at the end of the range.
    Magnitudes,
    /// Around a middle that wanders.
    Wandering,
}

impl Prices {
    fn choose(&self, random: &mut Random, middle: &mut i64, side: Side) -> i64 {
        match self {
            Self::Even(first, last) => random.between(*first, *last),
            Self::Magnitudes => random.of_any_magnitude(48).min(PRICE_TICKS_MAX as u64) as i64,
            Self::Wandering => {
                *middle += random.between(-2, 2);
                let away = random.of_any_magnitude(11) as i64 - 2;
                if side == Side::Buy {
                    *middle - away
                } else {
                    *middle + away
                }
            }
        }
    }
}

/// What a taker does at an order of its own.
fn own_orders(random: &mut Random, account: AccountId) -> OwnOrders {
    match random.below(3) {
        0 => OwnOrders::Count,
        1 => OwnOrders::Skip(account),
        _ => OwnOrders::StopAt(account),
    }
}

/// One command as both books get it.
#[derive(Clone, Copy, Debug)]
enum Command {
    /// Takes what it can at its limit; what is left of it rests.
    Place(RestingOrder),
    Cancel(OrderKey),
    /// Lowers what remains by a part of 8.
    Reduce(OrderKey, i64),
    Fillable(Side, Price, OwnOrders, Quantity),
    Sweep(Side),
}

fn execute<B: Book>(subject: &mut Subject<B>, command: Command) -> Vec<(OrderKey, i64, i64)> {
    let mut outcome = Vec::new();
    match command {
        Command::Place(mut order) => {
            let makers = order.side.opposite();
            while let Some(maker) = subject.book.best(makers) {
                if order.remaining.0 == 0 || !crosses(makers, maker.price, order.price) {
                    break;
                }
                let quantity = order.remaining.min(maker.remaining);
                subject.fill_best(makers, quantity.0);
                order.remaining.0 -= quantity.0;
                outcome.push((maker.key, maker.price.0, quantity.0));
            }
            if order.remaining.0 > 0 {
                subject.insert(order);
            }
        }
        Command::Cancel(key) => {
            let order = subject.cancel(key);
            outcome.push((order.key, order.price.0, order.remaining.0));
        }
        Command::Reduce(key, eighths) => {
            let handle = subject.handles[&key];
            let remaining = subject.book.get(handle).remaining.0;
            let remaining = (remaining * eighths / 8).max(1);
            subject.book.reduce(handle, Quantity(remaining));
            outcome.push((key, 0, remaining));
        }
        Command::Fillable(side, limit, own, wanted) => {
            let fillable = subject.book.fillable(side, limit, own, wanted);
            outcome.push((OrderKey(0), limit.0, fillable.0));
        }
        Command::Sweep(side) => {
            while let Some(maker) = subject.book.best(side) {
                subject.fill_best(side, maker.remaining.0);
                outcome.push((maker.key, maker.price.0, maker.remaining.0));
            }
        }
    }
    outcome
}

/// Asks ahead for what the command will need, and for what was never there: a hint must change nothing.
fn hint(subject: &Subject<FastBook>, command: Command, number: u32) {
    for ahead in [Ahead::Far, Ahead::Near] {
        match command {
            Command::Place(order) => subject.book.prefetch_price(order.side, order.price, ahead),
            Command::Cancel(key) | Command::Reduce(key, _) => subject.book.prefetch_order(subject.handles[&key], ahead),
            Command::Fillable(side, limit, ..) => subject.book.prefetch_price(side.opposite(), limit, ahead),
            Command::Sweep(side) => {
                subject.book.prefetch_price(side, Price(-1), ahead);
                subject.book.prefetch_price(side, Price(i64::MAX), ahead);
            }
        }
        subject.book.prefetch_order(OrderHandle(number), ahead);
    }
}

fn check(flow: &Flow) {
    let mut random = Random(flow.seed);
    let mut plain = Subject::<PlainBook>::default();
    let mut fast = Subject::<FastBook>::default();
    let mut middle = 1_000_000;
    for number in 0..flow.commands {
        let command = next(flow, &mut random, &mut middle, number, &plain);
        hint(&fast, command, number);
        let expected = execute(&mut plain, command);
        let actual = execute(&mut fast, command);
        assert_eq!(actual, expected, "seed {}, command {number}: {command:?}", flow.seed);
        for side in [Side::Buy, Side::Sell] {
            assert_eq!(fast.book.best_price(side), plain.book.best_price(side));
        }
        if number % 100 == 99 {
            assert_eq!(fast.hash(), plain.hash(), "seed {}, command {number}", flow.seed);
            fast.book.check_storage();
        }
        if number % 1_000 == 999 {
            fast.check_consistent();
            plain.check_consistent();
        }
    }
}

fn next(flow: &Flow, random: &mut Random, middle: &mut i64, number: u32, resting: &Subject<PlainBook>) -> Command {
    let side = if random.percent(50) { Side::Buy } else { Side::Sell };
    let account = AccountId(random.below(6) as u32);
    let chosen = (!resting.handles.is_empty()).then(|| {
        let key = OrderKey(random.below(u64::from(number)) as u32);
        let later = resting.handles.range(key..).next().or(resting.handles.iter().next());
        *later.expect("there is one").0
    });
    if random.percent(flow.sweeps) {
        return Command::Sweep(side);
    }
    match chosen {
        Some(key) if random.percent(flow.cancels) => return Command::Cancel(key),
        Some(key) if random.percent(8) => return Command::Reduce(key, random.between(0, 8)),
        _ => {}
    }
    let price = Price(flow.prices.choose(random, middle, side));
    if random.percent(8) {
        let own = own_orders(random, account);
        return Command::Fillable(side, price, own, Quantity(random.between(1, 2_000)));
    }
    Command::Place(RestingOrder {
        key: OrderKey(number),
        account,
        side,
        price,
        remaining: Quantity(random.between(1, 100)),
    })
}

#[test]
fn a_narrow_book() {
    for seed in 1..=4 {
        check(&Flow {
            seed,
            commands: 10_000,
            prices: Prices::Even(100, 107),
            cancels: 30,
            sweeps: 0,
        });
    }
}

#[test]
fn a_wandering_market() {
    for seed in 11..=14 {
        check(&Flow {
            seed,
            commands: 15_000,
            prices: Prices::Wandering,
            cancels: 35,
            sweeps: 0,
        });
    }
}

#[test]
fn a_wide_book() {
    for seed in 21..=24 {
        check(&Flow {
            seed,
            commands: 10_000,
            prices: Prices::Even(1, 3_000_000),
            cancels: 35,
            sweeps: 0,
        });
    }
}

#[test]
fn prices_of_every_magnitude() {
    for seed in 31..=34 {
        check(&Flow {
            seed,
            commands: 10_000,
            prices: Prices::Magnitudes,
            cancels: 35,
            sweeps: 0,
        });
    }
}

#[test]
fn sweeps_that_empty_a_side() {
    for seed in 41..=44 {
        check(&Flow {
            seed,
            commands: 10_000,
            prices: Prices::Magnitudes,
            cancels: 10,
            sweeps: 1,
        });
    }
}

#[test]
fn a_deep_book_without_trades_then_only_cancels() {
    let mut random = Random(51);
    let mut plain = Subject::<PlainBook>::default();
    let mut fast = Subject::<FastBook>::default();
    let mut keys: Vec<OrderKey> = (0..20_000).map(OrderKey).collect();
    for key in &keys {
        let side = if random.percent(50) { Side::Buy } else { Side::Sell };
        let away = random.of_any_magnitude(19) as i64;
        let price = Price(if side == Side::Buy {
            2_000_000 - away
        } else {
            2_000_001 + away
        });
        let order = RestingOrder {
            key: *key,
            account: AccountId(1),
            side,
            price,
            remaining: Quantity(random.between(1, 1_000)),
        };
        plain.insert(order);
        fast.insert(order);
    }
    fast.book.check_storage();
    assert_eq!(fast.hash(), plain.hash());
    while !keys.is_empty() {
        let key = keys.swap_remove(random.below(keys.len() as u64) as usize);
        assert_eq!(fast.cancel(key), plain.cancel(key));
        if keys.len().is_multiple_of(1_000) {
            assert_eq!(fast.hash(), plain.hash());
            fast.book.check_storage();
        }
    }
    assert!(fast.book.is_empty() && plain.book.is_empty());
}
