//! What a book does, row by row. Every test runs over both books.
//!
//! A row is a request, or `request = what it must answer`:
//!
//! ```text
//!   buy 1 100 5 a7       order 1 of account 7 (0 if it isn't said) bids 5 at 100
//!   sell 2 101 3
//!   cancel 1 = 5@100
//!   reduce 2 1
//!   fill sell 1 = 2:0    what is left of which order
//!   best buy = 1@100     the order that is next, and its price
//!   fillable sell 103 9 = 7, with `skip7` or `stop7` behind it for a taker of account 7
//!   bids = 100[1:5 2:3] 99[4:1]
//!   asks =
//! ```

use types::{AccountId, Price, Quantity, Side, limits::PRICE_TICKS_MAX};

use super::Subject;
use crate::book::{Book, FastBook, OrderKey, OwnOrders, PlainBook, RestingOrder, crosses};

fn check(rows: &str) {
    run::<PlainBook>(rows);
    run::<FastBook>(rows);
}

fn run<B: Book>(rows: &str) {
    let mut subject = Subject::<B>::default();
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (request, expected) = match row.split_once('=') {
            Some((request, expected)) => (request, Some(expected.trim())),
            None => (row, None),
        };
        let words: Vec<&str> = request.split_whitespace().collect();
        let answer = execute(&mut subject, &words);
        assert_eq!(answer.as_deref(), expected, "{}: {row}", std::any::type_name::<B>());
        subject.check_consistent();
    }
}

fn execute<B: Book>(subject: &mut Subject<B>, words: &[&str]) -> Option<String> {
    let key = |text: &str| OrderKey(number(text) as u32);
    match words {
        ["buy" | "sell", id, price, quantity, rest @ ..] => {
            subject.insert(RestingOrder {
                key: key(id),
                account: AccountId(rest.first().map_or(0, |account| number(&account[1..]) as u32)),
                side: side(words[0]),
                price: Price(number(price)),
                remaining: Quantity(number(quantity)),
            });
            None
        }
        ["cancel", id] => {
            let order = subject.cancel(key(id));
            Some(format!("{}@{}", order.remaining.0, order.price.0))
        }
        ["reduce", id, remaining] => {
            subject
                .book
                .reduce(subject.handles[&key(id)], Quantity(number(remaining)));
            None
        }
        ["fill", of, quantity] => {
            let (key, remaining) = subject.fill_best(side(of), number(quantity));
            Some(format!("{}:{}", key.0, remaining.0))
        }
        ["best", of] => {
            let maker = subject.book.best(side(of));
            Some(maker.map_or("none".to_owned(), |maker| format!("{}@{}", maker.key.0, maker.price.0)))
        }
        ["fillable", of, limit, wanted, rest @ ..] => {
            let own = match rest {
                [own] if own.starts_with("skip") => OwnOrders::Skip(AccountId(number(&own[4..]) as u32)),
                [own] if own.starts_with("stop") => OwnOrders::StopAt(AccountId(number(&own[4..]) as u32)),
                _ => OwnOrders::Count,
            };
            let (limit, wanted) = (Price(number(limit)), Quantity(number(wanted)));
            Some(subject.book.fillable(side(of), limit, own, wanted).0.to_string())
        }
        ["bids"] => Some(shown(&subject.book, Side::Buy)),
        ["asks"] => Some(shown(&subject.book, Side::Sell)),
        _ => panic!("no such row: {words:?}"),
    }
}

fn number(text: &str) -> i64 {
    if text == "max" {
        PRICE_TICKS_MAX
    } else {
        text.parse().expect("a number")
    }
}

fn side(text: &str) -> Side {
    if text == "buy" { Side::Buy } else { Side::Sell }
}

fn shown<B: Book>(book: &B, side: Side) -> String {
    let levels = book.levels(side).map(|level| {
        let orders = book.orders(side).filter(|(_, order)| order.price == level.price);
        let orders: Vec<String> = orders
            .map(|(_, order)| format!("{}:{}", order.key.0, order.remaining.0))
            .collect();
        format!("{}[{}]", level.price.0, orders.join(" "))
    });
    levels.collect::<Vec<_>>().join(" ")
}

#[test]
fn an_empty_book_has_nothing() {
    check(
        "best buy = none
         best sell = none
         fillable buy 0 5 = 0
         fillable sell max 5 = 0
         bids =
         asks =",
    );
}

#[test]
fn better_prices_come_first_then_earlier_orders() {
    check(
        "buy 1 100 5
         buy 2 101 3
         buy 3 100 1
         buy 4 99 7
         sell 5 105 2
         sell 6 104 2
         sell 7 105 9
         bids = 101[2:3] 100[1:5 3:1] 99[4:7]
         asks = 104[6:2] 105[5:2 7:9]
         best buy = 2@101
         best sell = 6@104",
    );
}

#[test]
fn fills_walk_the_queue() {
    check(
        "sell 1 100 5
         sell 2 100 3
         sell 3 102 1
         fill sell 2 = 1:3
         asks = 100[1:3 2:3] 102[3:1]
         fill sell 3 = 1:0
         best sell = 2@100
         fill sell 3 = 2:0
         best sell = 3@102
         fill sell 1 = 3:0
         best sell = none
         sell 4 101 1
         asks = 101[4:1]",
    );
}

#[test]
fn a_cancel_takes_an_order_from_anywhere() {
    check(
        "buy 1 100 1
         buy 2 100 2
         buy 3 100 3
         buy 4 100 4
         cancel 2 = 2@100
         bids = 100[1:1 3:3 4:4]
         cancel 4 = 4@100
         bids = 100[1:1 3:3]
         cancel 1 = 1@100
         bids = 100[3:3]
         buy 5 100 5
         bids = 100[3:3 5:5]
         cancel 3 = 3@100
         cancel 5 = 5@100
         bids =
         best buy = none",
    );
}

#[test]
fn a_reduction_keeps_the_place() {
    check(
        "buy 1 100 5
         buy 2 100 5
         reduce 1 2
         reduce 2 5
         bids = 100[1:2 2:5]
         fill buy 1 = 1:1
         reduce 1 1
         fill buy 1 = 1:0
         fill buy 5 = 2:0
         bids =",
    );
}

#[test]
fn what_is_fillable_stops_at_the_limit() {
    check(
        "sell 1 100 5
         sell 2 101 5
         sell 3 101 1
         sell 4 103 9
         fillable sell 99 100 = 0
         fillable sell 100 100 = 5
         fillable sell 102 100 = 11
         fillable sell 103 100 = 20
         fillable sell 103 7 = 7
         buy 5 90 5
         buy 6 80 5
         fillable buy 91 100 = 0
         fillable buy 90 100 = 5
         fillable buy 81 100 = 5
         fillable buy 80 100 = 10
         fillable buy 1 6 = 6",
    );
}

#[test]
fn own_orders_step_aside_or_end_the_taker() {
    check(
        "sell 1 100 5 a7
         sell 2 100 2 a8
         sell 3 101 4 a7
         sell 4 102 1 a9
         fillable sell 102 100 = 12
         fillable sell 102 100 skip7 = 3
         fillable sell 102 100 stop7 = 0
         fillable sell 102 100 skip8 = 10
         fillable sell 102 100 stop8 = 5
         fillable sell 102 100 stop9 = 11
         fillable sell 102 100 stop6 = 12
         fillable sell 102 100 skip6 = 12
         fillable sell 102 4 stop8 = 4
         fillable sell 102 1 skip7 = 1
         fillable sell 101 100 skip7 = 2",
    );
}

#[test]
fn prices_may_lie_at_the_ends_of_the_range() {
    check(
        "buy 1 0 1
         buy 2 1 1
         sell 3 max 1
         sell 4 281474976710655 1
         buy 5 281474976710654 1
         bids = 281474976710654[5:1] 1[2:1] 0[1:1]
         asks = 281474976710655[4:1] 281474976710656[3:1]
         fill buy 1 = 5:0
         fill sell 1 = 4:0
         best buy = 2@1
         best sell = 3@281474976710656
         cancel 2 = 1@1
         cancel 3 = 1@281474976710656
         bids = 0[1:1]
         asks =",
    );
}

#[test]
fn levels_far_apart_and_next_to_each_other() {
    // 64, 4096 and 262144 are where the fast book's tree branches.
    let prices = [
        1,
        2,
        62,
        63,
        64,
        65,
        127,
        128,
        4095,
        4096,
        4097,
        8191,
        262_143,
        262_144,
        1 << 30,
        1_i64 << 47,
    ];
    for step in [1, 3, 5, 7, 11, 13] {
        let mut rows = String::new();
        for index in 0..prices.len() {
            let key = index * step % prices.len();
            rows += &format!("buy {key} {} 1\n sell {} {} 1\n", prices[key], key + 100, prices[key]);
        }
        let row = |side: usize, key: usize| format!("{}[{}:1]", prices[key], key + side);
        let bids: Vec<String> = (0..prices.len()).rev().map(|key| row(0, key)).collect();
        let asks: Vec<String> = (0..prices.len()).map(|key| row(100, key)).collect();
        rows += &format!("bids = {}\n asks = {}\n", bids.join(" "), asks.join(" "));
        for index in 0..prices.len() {
            let key = index * 5 % prices.len();
            let price = prices[key];
            rows += &format!("cancel {key} = 1@{price}\n cancel {} = 1@{price}\n", key + 100);
        }
        check(&(rows + "bids =\n asks ="));
    }
}

#[test]
fn a_book_is_made_again_from_its_orders() {
    fn rebuilt<B: Book>() {
        let mut subject = Subject::<B>::default();
        for index in 0..200_i64 {
            let side = if index % 2 == 0 { Side::Buy } else { Side::Sell };
            let away = index * 7 % 31;
            subject.insert(RestingOrder {
                key: OrderKey(index as u32),
                account: AccountId(index as u32 % 5),
                side,
                price: Price(if side == Side::Buy { 1_000 - away } else { 1_001 + away }),
                remaining: Quantity(1 + index % 9),
            });
        }
        for key in (0..200).step_by(3) {
            subject.cancel(OrderKey(key));
        }
        let mut again = Subject::<B>::default();
        for side in [Side::Buy, Side::Sell] {
            for (_, order) in subject.book.orders(side) {
                again.insert(order);
            }
        }
        again.check_consistent();
        assert_eq!(again.hash(), subject.hash());
    }
    rebuilt::<PlainBook>();
    rebuilt::<FastBook>();
}

#[test]
fn a_maker_crosses_at_its_price_or_better() {
    for (side, maker, taker, expected) in [
        (Side::Sell, 100, 100, true),
        (Side::Sell, 101, 100, false),
        (Side::Sell, 99, 100, true),
        (Side::Buy, 100, 100, true),
        (Side::Buy, 101, 100, true),
        (Side::Buy, 99, 100, false),
    ] {
        assert_eq!(
            crosses(side, Price(maker), Price(taker)),
            expected,
            "{side:?} {maker} {taker}"
        );
    }
}

#[test]
fn what_is_not_possible_panics() {
    fn refused<B: Book>(act: impl Fn(&mut B) + std::panic::RefUnwindSafe) {
        let order = RestingOrder {
            key: OrderKey(1),
            account: AccountId(2),
            side: Side::Buy,
            price: Price(10),
            remaining: Quantity(5),
        };
        let outcome = std::panic::catch_unwind(|| {
            let mut book = B::default();
            let handle = book.insert(order);
            assert_eq!(book.get(handle), order);
            act(&mut book);
        });
        assert!(outcome.is_err());
    }
    fn all<B: Book>() {
        let handle = |book: &B| book.best(Side::Buy).unwrap().handle;
        refused::<B>(move |book| {
            let handle = handle(book);
            book.cancel(handle);
            book.cancel(handle);
        });
        refused::<B>(move |book| {
            let handle = handle(book);
            book.fill_best(Side::Buy, Quantity(5));
            book.get(handle);
        });
        refused::<B>(move |book| book.reduce(handle(book), Quantity(6)));
        refused::<B>(move |book| book.reduce(handle(book), Quantity(0)));
        refused::<B>(|book| {
            book.fill_best(Side::Buy, Quantity(6));
        });
        refused::<B>(|book| {
            book.fill_best(Side::Buy, Quantity(0));
        });
        refused::<B>(|book| {
            book.fill_best(Side::Sell, Quantity(1));
        });
    }
    all::<PlainBook>();
    all::<FastBook>();
}
