//! A stream tells the same from wherever it is resumed.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway::handle::History as _;
use gateway::past::Past;
use gateway::streams::{Pulled, Stream, StreamError, StreamName, open};
use gateway::view::{Bell, PrivateStream, View, ViewLimits};
use serde_json::Value;
use types::*;

use crate::world::{ADMIN, INSTRUMENTS, World, first_view, rules};

/// Everything a view keeps fits.
const ROOMY: ViewLimits = ViewLimits {
    trades_per_instrument: 100_000,
    book_updates: 100_000,
    closed_orders: 1_000,
    indexed_events: 1_000_000,
    refill_commands: 1_000_000,
};
/// Next to nothing is kept.
const TIGHT: ViewLimits = ViewLimits {
    trades_per_instrument: 3,
    book_updates: 4,
    closed_orders: 3,
    indexed_events: 10,
    refill_commands: 10,
};

fn names() -> Vec<StreamName> {
    let public = (0..INSTRUMENTS)
        .map(InstrumentId)
        .flat_map(|id| [StreamName::Book(id), StreamName::Trades(id)]);
    let private = PrivateStream::ALL.map(|stream| StreamName::Private(AccountId(3), stream));
    public.chain(private).collect()
}

/// Pulls a stream until it is idle.
async fn pull_all(stream: &mut Stream, view: &View, past: &Past) -> Result<Vec<Value>, StreamError> {
    let mut out = Vec::new();
    loop {
        match stream.pull(view, past.history(), &mut out, 3)? {
            Pulled::Idle => break,
            Pulled::More => {}
            Pulled::Read(from) => stream.take_in(view, past.read(from, 100_000).await)?,
        }
    }
    Ok(out.iter().map(|text| serde_json::from_str(text).unwrap()).collect())
}

async fn resume(view: &View, past: &Past, name: StreamName, from: Position) -> Result<Stream, StreamError> {
    open(
        view,
        past,
        name,
        (&Arc::new(Bell::default()), 0),
        Some(from),
        usize::MAX,
    )
    .await
}

fn body(message: &Value) -> &Value {
    message.as_object().unwrap().values().next().unwrap()
}

fn sequence(position: &Value) -> u64 {
    position["sequence"].as_str().unwrap().parse().unwrap()
}

fn at(sequence: u64) -> Position {
    Position {
        epoch: Epoch(1),
        sequence: Sequence(sequence),
        ..Position::default()
    }
}

/// A world, a view that saw all of it, and one that was made at its end.
fn worlds(seed: u64, limits: ViewLimits, batches: usize) -> (World, Vec<View>) {
    let mut world = World::new(seed);
    let watched = first_view(limits);
    for batch in world.log.batches() {
        watched.publish(&batch).unwrap();
    }
    for _ in 0..batches {
        watched.publish(&world.trade()).unwrap();
    }
    let (facts, position) = world.facts();
    let restarted = View::new(limits, &facts, position);
    restarted.refill(&*world.log).unwrap();
    (world, vec![watched, restarted])
}

#[tokio::test]
async fn the_same_follows_from_every_position_whatever_is_kept_in_memory() {
    let (world, views) = worlds(11, ROOMY, 60);
    let (tight_world, tight_views) = worlds(11, TIGHT, 60);
    // The same seed makes the same events; the tight one's log claims to be on a disk.
    assert_eq!(world.log.batches(), tight_world.log.batches());
    tight_world.log.set_recent(Sequence(u64::MAX));
    let past = Past::new(world.log.clone());
    let slow_past = Past::new(tight_world.log.clone());
    let end = world.exchange.position().sequence.0;
    for name in names() {
        let mut whole = resume(&views[0], &past, name, at(0)).await.unwrap();
        let whole = pull_all(&mut whole, &views[0], &past).await.unwrap();
        assert!(whole.len() > 10, "{name:?} tells something");
        check_links(&whole);
        let own: Vec<u64> = whole
            .iter()
            .map(|message| sequence(&body(message)["position"]))
            .collect();
        for from in 0..=end {
            let expected = &whole[own.partition_point(|position| *position <= from)..];
            for (view, past) in [
                (&views[0], &past),
                (&views[1], &past),
                (&tight_views[0], &slow_past),
                (&tight_views[1], &slow_past),
            ] {
                let mut stream = resume(view, past, name, at(from)).await.unwrap();
                let told = pull_all(&mut stream, view, past).await.unwrap();
                check_told(&told, expected, own.contains(&from), &format!("{name:?} from {from}"));
            }
        }
    }
}

/// What is told is what is expected. The link of the first message may be unknown to a node that keeps little, unless the
/// stream is resumed from one of its own messages.
fn check_told(told: &[Value], expected: &[Value], from_own: bool, what: &str) {
    let mut told = told.to_vec();
    if let (Some(first), Some(expected)) = (told.first_mut(), expected.first()) {
        let key = first.as_object().unwrap().keys().next().unwrap().clone();
        let first_position = first[&key]["position"].clone();
        if first[&key]["previous"].is_null() && !from_own {
            for message in &mut told {
                if message[&key]["position"] == first_position {
                    message[&key]["previous"] = body(expected)["previous"].clone();
                }
            }
        }
    }
    assert_eq!(told, expected, "{what}");
}

/// Each message names the position of the one before it.
fn check_links(messages: &[Value]) {
    let mut last: Option<&Value> = None;
    for message in messages {
        let message = body(message);
        if message["index"] == 0 {
            let previous = last.map_or(&Value::Null, |last| &last["position"]);
            assert_eq!(&message["previous"], previous);
        } else {
            let last = last.unwrap();
            assert_eq!(message["position"], last["position"]);
            assert_eq!(message["index"].as_u64(), last["index"].as_u64().map(|index| index + 1));
            assert_eq!(last["more"], true);
        }
        last = Some(message);
    }
}

type Book = BTreeMap<(String, String), (String, u64)>;

fn fold_book(book: &mut Book, messages: &[Value]) {
    for message in messages {
        for item in body(message)["items"].as_array().unwrap() {
            let text = |key: &str| item[key].as_str().unwrap().to_owned();
            let key = (text("side"), text("price"));
            let orders = item["orders"].as_u64().unwrap();
            if orders == 0 {
                assert!(book.remove(&key).is_some(), "only a level that was there goes away");
            } else {
                book.insert(key, (text("quantity"), orders));
            }
        }
    }
}

async fn snapshot_of(view: &View, past: &Past, name: StreamName) -> (Stream, Vec<Value>) {
    let bell = Arc::new(Bell::default());
    let mut stream = open(view, past, name, (&bell, 0), None, usize::MAX).await.unwrap();
    let told = pull_all(&mut stream, view, past).await.unwrap();
    (stream, told)
}

#[tokio::test]
async fn a_snapshot_and_what_follows_is_the_book() {
    for limits in [ROOMY, TIGHT] {
        let mut world = World::new(12);
        let view = first_view(limits);
        for batch in world.log.batches() {
            view.publish(&batch).unwrap();
        }
        let past = Past::new(world.log.clone());
        let name = StreamName::Book(InstrumentId(0));
        let mut followers: Vec<(Stream, Book)> = Vec::new();
        for round in 0..200 {
            view.publish(&world.trade()).unwrap();
            if round % 40 == 0 {
                let (stream, told) = snapshot_of(&view, &past, name).await;
                assert!(told.iter().all(|message| body(message)["snapshot"] == true));
                let mut book = Book::new();
                fold_book(&mut book, &told);
                followers.push((stream, book));
            }
            if round % 7 == 0 {
                let (_, told) = snapshot_of(&view, &past, name).await;
                let mut now = Book::new();
                fold_book(&mut now, &told);
                for (stream, book) in &mut followers {
                    fold_book(book, &pull_all(stream, &view, &past).await.unwrap());
                    assert_eq!(*book, now);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_bell_rings_for_news_of_its_streams_only() {
    let mut world = World::new(13);
    let (facts, position) = world.facts();
    let view = View::new(ROOMY, &facts, position);
    let past = Past::new(world.log.clone());
    let bell = Arc::new(Bell::default());
    let names = names();
    let mut streams = Vec::new();
    for (mark, name) in names.iter().enumerate() {
        let stream = open(&view, &past, *name, (&bell, mark), None, usize::MAX)
            .await
            .unwrap();
        streams.push(stream);
    }
    for stream in &mut streams {
        pull_all(stream, &view, &past).await.unwrap();
    }
    assert_eq!(bell.take().count(), 0, "opening rings no bell");
    for _ in 0..50 {
        view.publish(&world.trade()).unwrap();
        let rung: Vec<usize> = bell.take().collect();
        for (mark, stream) in streams.iter_mut().enumerate() {
            let told = pull_all(stream, &view, &past).await.unwrap();
            assert_eq!(rung.contains(&mark), !told.is_empty(), "{:?}", names[mark]);
        }
    }
    drop(streams);
    view.publish(&world.trade()).unwrap();
    assert_eq!(bell.take().count(), 0, "a stream that ended rings no bell");
}

#[tokio::test]
async fn a_position_that_can_not_be_resumed_is_told_why() {
    let (world, views) = worlds(14, TIGHT, 40);
    let view = &views[0];
    let past = Past::new(world.log.clone());
    let last = world.exchange.position();
    let name = StreamName::Trades(InstrumentId(0));
    let ahead = resume(view, &past, name, at(last.sequence.0 + 1)).await.unwrap_err();
    assert_eq!(ahead, StreamError::Ahead { last });
    let mut forked = at(5);
    forked.epoch = Epoch(2);
    let forked = resume(view, &past, name, forked).await.unwrap_err();
    assert_eq!(forked, StreamError::Forked { last });
    assert_eq!(forked.problem().code, "position_forked");
    assert!(
        resume(view, &past, StreamName::Book(InstrumentId(7)), at(0))
            .await
            .is_err()
    );

    // A stream that is slow until its place is retired is told so.
    let mut slow = resume(view, &past, name, at(30)).await.unwrap();
    world.log.retire(Sequence(60));
    let first = world.log.first();
    let retired = StreamError::Retired { first: at(first.0) };
    assert_eq!(pull_all(&mut slow, view, &past).await.unwrap_err(), retired);
    assert_eq!(resume(view, &past, name, at(30)).await.unwrap_err(), retired);
    assert_eq!(retired.problem().code, "history_retired");
    assert!(retired.problem().kept_position.is_some());
    let mut kept = resume(view, &past, name, at(first.0 - 1)).await.unwrap();
    assert!(!pull_all(&mut kept, view, &past).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_much_is_told_in_parts() {
    let mut world = World::new(15);
    let view = first_view(ROOMY);
    for batch in world.log.batches() {
        view.publish(&batch).unwrap();
    }
    let (account, key, instrument) = (AccountId(3), KeyId(3), InstrumentId(0));
    for price in 1..=450 {
        let order = NewOrder {
            instrument,
            scale_version: 1,
            side: Side::Buy,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Gtc,
            price: Price(price),
            quantity: Quantity(1),
            post_only: false,
            self_trade_prevention: SelfTradePrevention::CancelNewest,
        };
        let command = world.command(account, key, Action::Place(order));
        view.publish(&world.apply(&[command])).unwrap();
    }
    let past = Past::new(world.log.clone());
    let book = StreamName::Book(instrument);
    let orders = StreamName::Private(account, PrivateStream::Orders);
    for name in [book, orders] {
        let (mut stream, told) = snapshot_of(&view, &past, name).await;
        assert_eq!(
            lengths(&told),
            [(0, 200, true), (1, 200, true), (2, 50, false)],
            "{name:?}"
        );
        assert_eq!(pull_all(&mut stream, &view, &past).await.unwrap(), [] as [Value; 0]);
    }
    let before = view.position();
    let cancel = world.command(account, key, Action::CancelAll(CancelAll { instrument: None }));
    let last = world.apply(&[cancel]).header.position(0);
    view.publish(world.log.batches().last().unwrap()).unwrap();
    for name in [book, orders] {
        let mut stream = resume(&view, &past, name, before).await.unwrap();
        let told = pull_all(&mut stream, &view, &past).await.unwrap();
        assert_eq!(
            lengths(&told),
            [(0, 200, true), (1, 200, true), (2, 50, false)],
            "{name:?}"
        );
        for message in &told {
            assert_eq!(sequence(&body(message)["position"]), last.sequence.0);
            assert_eq!(sequence(&body(message)["previous"]), before.sequence.0);
        }
        assert_eq!(stream.position(&view), last);
        assert_eq!(stream.previous(), Some(last));
    }
}

/// Of each message: its index, how many items it has, and whether more follow.
fn lengths(messages: &[Value]) -> Vec<(u64, usize, bool)> {
    let length = |message: &Value| {
        let body = body(message);
        let items = body["items"].as_array().unwrap().len();
        (body["index"].as_u64().unwrap(), items, body["more"] == true)
    };
    messages.iter().map(length).collect()
}

#[tokio::test]
async fn a_fork_is_told_with_the_last_position_that_was_kept() {
    let mut world = World::new(16);
    let view = first_view(ROOMY);
    for batch in world.log.batches() {
        view.publish(&batch).unwrap();
    }
    view.publish(&world.trade()).unwrap();
    let kept = world.exchange.position();
    world.epoch = Epoch(2);
    for _ in 0..20 {
        view.publish(&world.trade()).unwrap();
    }
    let (facts, position) = world.facts();
    let restarted = View::new(ROOMY, &facts, position);
    restarted.refill(&*world.log).unwrap();
    let past = Past::new(world.log.clone());
    let name = StreamName::Book(InstrumentId(0));
    for view in [&view, &restarted] {
        let void = at(kept.sequence.0 + 3);
        let forked = resume(view, &past, name, void).await.unwrap_err();
        assert_eq!(forked, StreamError::Forked { last: kept });
        let mut kept_stream = resume(view, &past, name, kept).await.unwrap();
        let told = pull_all(&mut kept_stream, view, &past).await.unwrap();
        assert!(told.iter().all(|message| body(message)["position"]["epoch"] == 2) && !told.is_empty());
    }
}

#[tokio::test]
async fn the_past_is_told_in_the_ticks_of_its_time() {
    let mut world = World::new(17);
    let view = first_view(ROOMY);
    for batch in world.log.batches() {
        view.publish(&batch).unwrap();
    }
    for _ in 0..40 {
        view.publish(&world.trade()).unwrap();
    }
    let instrument = InstrumentId(0);
    let mut operate = |action| {
        let command = world.command(AccountId::OPERATOR, ADMIN, action);
        let batch = world.apply(&[command]);
        assert!(
            !matches!(batch.events[0], Event::Rejected { .. }),
            "{:?}",
            batch.events[0]
        );
        view.publish(&batch).unwrap();
    };
    let status = |status| Action::SetInstrumentStatus { instrument, status };
    operate(status(InstrumentStatus::Halted));
    operate(Action::CancelAllFor {
        account: None,
        instrument: Some(instrument),
    });
    operate(Action::SetInstrumentRules {
        instrument,
        rules: rules(Decimal::new(5, 2)),
    });
    operate(status(InstrumentStatus::Trading));
    let (facts, position) = world.facts();
    let restarted = View::new(ROOMY, &facts, position);
    restarted.refill(&*world.log).unwrap();
    let past = Past::new(world.log.clone());
    for name in names() {
        let mut told = Vec::new();
        for view in [&view, &restarted] {
            let mut stream = resume(view, &past, name, at(0)).await.unwrap();
            told.push(pull_all(&mut stream, view, &past).await.unwrap());
        }
        assert_eq!(told[0], told[1], "{name:?}");
        let prices = told[0]
            .iter()
            .flat_map(|message| body(message)["items"].as_array().unwrap());
        let prices: Vec<&str> = prices.filter_map(|item| item["price"].as_str()).collect();
        assert!(
            prices
                .iter()
                .all(|price| price.starts_with("99.") || price.starts_with("100.")),
            "{prices:?}"
        );
    }
}
