//! The view is the exchange, seen through its events.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway::past::Past;
use gateway::view::{Contents, View, ViewLimits, closed_order, fills_page};
use types::{AccountId, Event, InstrumentId, Order, OrderId, OrderTarget, Sequence, Side};

use crate::world::{INSTRUMENTS, TRADERS, World, first_view};

/// What a view holds, without balances that are zero, which facts leave out.
fn contents(view: &View) -> Contents {
    let mut contents = view.contents();
    contents
        .balances
        .retain(|balance| balance.available.0 != 0 || balance.held.0 != 0);
    contents
}

fn traders() -> impl Iterator<Item = AccountId> {
    (0..TRADERS).map(|index| AccountId(AccountId::FIRST.0 + index))
}

#[test]
fn a_folded_view_equals_the_exchange_all_the_way() {
    let mut world = World::new(1);
    let view = first_view(ViewLimits::default());
    for batch in world.log.batches() {
        view.publish(&batch).unwrap();
    }
    let mut ends = BTreeMap::new();
    for round in 0..1_500 {
        let batch = world.trade();
        view.publish(&batch).unwrap();
        for event in &batch.events {
            if let Event::OrderClosed { order, .. } = event {
                ends.insert(order.order_id, *order);
            }
        }
        if round % 50 == 0 {
            let (facts, position) = world.facts();
            let fresh = View::new(ViewLimits::default(), &facts, position);
            assert_eq!(contents(&view), contents(&fresh), "after {position}");
        }
        world.exchange.check_invariants();
    }
    assert!(ends.len() > 500, "the flow closes orders");
    for account in traders() {
        let open: Vec<Order> = view.open_orders(account, None, None, usize::MAX).items;
        let mut real: Vec<Order> = world.exchange.open_orders(account).collect();
        real.sort_by_key(|order| order.order_id);
        assert_eq!(open, real);
    }
}

#[test]
fn what_was_published_is_passed_over_and_a_gap_is_told() {
    let mut world = World::new(2);
    let (facts, position) = world.facts();
    let view = View::new(ViewLimits::default(), &facts, position);
    let first = world.trade();
    let second = world.trade();
    let third = world.trade();
    view.publish(&first).unwrap();
    view.publish(&first).unwrap();
    let gap = view.publish(&third).unwrap_err();
    assert_eq!(
        (gap.expected, gap.found),
        (second.header.first_sequence, third.header.first_sequence)
    );
    view.publish(&second).unwrap();
    view.publish(&third).unwrap();
    assert_eq!(view.position().sequence, third.header.last_sequence());
}

#[tokio::test]
async fn closed_orders_and_fills_are_found_after_a_restart_as_before() {
    let mut world = World::new(3);
    let view = first_view(ViewLimits::default());
    for batch in world.log.batches() {
        view.publish(&batch).unwrap();
    }
    let mut orders: BTreeMap<OrderId, (AccountId, OrderTarget)> = BTreeMap::new();
    for _ in 0..400 {
        let batch = world.trade();
        view.publish(&batch).unwrap();
        for event in &batch.events {
            if let Event::OrderPlaced(order) = event {
                let target = OrderTarget::ClientOrderId(order.client_order_id);
                orders.insert(order.order_id, (order.account, target));
            }
        }
    }
    let (facts, position) = world.facts();
    let restarted = View::new(ViewLimits::default(), &facts, position);
    restarted.refill(&*world.log).unwrap();
    let past = Past::new(world.log.clone());
    let mut found = 0;
    for (order_id, (account, by_client_id)) in orders {
        let by_id = OrderTarget::OrderId(order_id);
        let before = closed_order(&view, &past, account, &by_id).await.unwrap();
        for target in [&by_id, &by_client_id] {
            let after = closed_order(&restarted, &past, account, target).await.unwrap();
            assert_eq!(after, before, "{order_id}");
        }
        let other = closed_order(&view, &past, AccountId(account.0 + 1), &by_id)
            .await
            .unwrap();
        assert_eq!(other, None, "another account's order");
        let open = view.open_order(account, &by_id);
        assert_ne!(open.is_some(), before.is_some(), "an order is open or closed");
        if let Some(ended) = before {
            found += 1;
            assert_eq!(ended.order.order_id, order_id);
        }
    }
    assert!(found > 300);
    for account in traders() {
        let pages = all_fills(&view, &past, account, 7).await;
        assert!(pages.len() > 20);
        assert_eq!(pages, all_fills(&restarted, &past, account, 500).await);
    }
    for instrument in (0..INSTRUMENTS).map(InstrumentId) {
        assert_eq!(
            view.trades(instrument, None, 100).unwrap(),
            restarted.trades(instrument, None, 100).unwrap()
        );
        assert_eq!(view.book(instrument, 5), restarted.book(instrument, 5));
    }
}

async fn all_fills(view: &View, past: &Past, account: AccountId, limit: usize) -> Vec<String> {
    let mut fills = Vec::new();
    let mut before = None;
    loop {
        let page = fills_page(view, past, account, before, limit).await.unwrap();
        assert!(page.items.len() <= limit);
        before = page.items.last().map(|fill| fill.fill_id);
        fills.extend(
            page.items
                .iter()
                .map(|fill| format!("{} {}", fill.fill_id, fill.is_maker)),
        );
        if !page.more {
            return fills;
        }
    }
}

#[test]
fn books_are_shown_best_first_and_trades_newest_first() {
    let mut world = World::new(4);
    let (facts, position) = world.facts();
    let view = View::new(ViewLimits::default(), &facts, position);
    for _ in 0..300 {
        view.publish(&world.trade()).unwrap();
    }
    for instrument in (0..INSTRUMENTS).map(InstrumentId) {
        let book = view.book(instrument, 3).unwrap();
        assert!(book.bids.is_sorted_by(|left, right| left.0 > right.0));
        assert!(book.asks.is_sorted_by(|left, right| left.0 < right.0));
        assert!(book.bids.len() <= 3 && !book.bids.is_empty());
        for (side, shown) in [(Side::Buy, &book.bids), (Side::Sell, &book.asks)] {
            let mut sums: BTreeMap<i64, (i64, u32)> = BTreeMap::new();
            for order in open_orders_of(&world, instrument, side) {
                let sum = sums.entry(order.price.0).or_default();
                sum.0 += order.remaining().0;
                sum.1 += 1;
            }
            for (price, level) in shown {
                assert_eq!(sums[&price.0], (level.quantity.0, level.order_count));
            }
        }
        let trades = view.trades(instrument, None, 50).unwrap();
        assert!(trades.items.is_sorted_by(|left, right| left.fill_id > right.fill_id));
        let last = trades.items.last().unwrap().fill_id;
        let older = view.trades(instrument, Some(last), 50).unwrap();
        assert!(older.items.iter().all(|trade| trade.fill_id < last));
    }
    assert!(view.book(InstrumentId(9), 1).is_none());
}

fn open_orders_of(world: &World, instrument: InstrumentId, side: Side) -> Vec<Order> {
    let orders = traders().flat_map(|account| world.exchange.open_orders(account).collect::<Vec<_>>());
    orders
        .filter(|order| order.instrument == instrument && order.side == side)
        .collect()
}

#[tokio::test]
async fn a_query_waits_for_its_own_writes() {
    let mut world = World::new(5);
    let (facts, position) = world.facts();
    let view = Arc::new(View::new(ViewLimits::default(), &facts, position));
    let batch = world.trade();
    let last = batch.header.last_sequence();
    let waiter = tokio::spawn({
        let view = Arc::clone(&view);
        async move {
            view.wait_until(last).await;
            view.position().sequence
        }
    });
    tokio::task::yield_now().await;
    view.publish(&batch).unwrap();
    assert_eq!(waiter.await.unwrap(), last);
    view.wait_until(Sequence(1)).await;
}
