//! The plain book: ordered maps and queues. It says what a book does; how fast is the other one's business.

use std::collections::{BTreeMap, VecDeque};

use types::{Price, Quantity, Side};

use super::{Book, Level, Maker, OrderHandle, OrderKey, OwnOrders, RestingOrder, crosses};

/// A book made of ordered maps. An order's handle is its key.
#[derive(Clone, Debug, Default)]
pub struct PlainBook {
    bids: BTreeMap<Price, VecDeque<RestingOrder>>,
    asks: BTreeMap<Price, VecDeque<RestingOrder>>,
    /// Where each resting order is.
    places: BTreeMap<OrderKey, (Side, Price)>,
}

impl PlainBook {
    fn half(&self, side: Side) -> &BTreeMap<Price, VecDeque<RestingOrder>> {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    fn half_mut(&mut self, side: Side) -> &mut BTreeMap<Price, VecDeque<RestingOrder>> {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    /// The queues of a side, best price first.
    fn queues(&self, side: Side) -> impl Iterator<Item = (Price, &VecDeque<RestingOrder>)> + '_ {
        let (bids, asks) = match side {
            Side::Buy => (Some(self.bids.iter().rev()), None),
            Side::Sell => (None, Some(self.asks.iter())),
        };
        let bids = bids.into_iter().flatten();
        let asks = asks.into_iter().flatten();
        bids.chain(asks).map(|(price, queue)| (*price, queue))
    }

    /// The place of the order in its queue.
    fn place(&self, handle: OrderHandle) -> (Side, Price, usize) {
        let key = OrderKey(handle.0);
        let (side, price) = self.places[&key];
        let index = self.half(side)[&price].iter().position(|order| order.key == key);
        (side, price, index.expect("an order that has a place is in its queue"))
    }

    fn remove(&mut self, side: Side, price: Price, index: usize) -> RestingOrder {
        let half = self.half_mut(side);
        let queue = half.get_mut(&price).expect("an order that has a place has a queue");
        let order = queue.remove(index).expect("the index comes from this queue");
        if queue.is_empty() {
            half.remove(&price);
        }
        self.places.remove(&order.key);
        order
    }
}

impl Book for PlainBook {
    fn insert(&mut self, order: RestingOrder) -> OrderHandle {
        assert!(order.remaining.0 > 0, "an order without quantity can't rest");
        let before = self.places.insert(order.key, (order.side, order.price));
        assert!(before.is_none(), "two resting orders must not share a key");
        let queue = self.half_mut(order.side).entry(order.price).or_default();
        queue.push_back(order);
        OrderHandle(order.key.0)
    }

    fn cancel(&mut self, handle: OrderHandle) -> RestingOrder {
        let (side, price, index) = self.place(handle);
        self.remove(side, price, index)
    }

    fn reduce(&mut self, handle: OrderHandle, remaining: Quantity) {
        let (side, price, index) = self.place(handle);
        let order = &mut self.half_mut(side).get_mut(&price).expect("it was just found")[index];
        assert!(
            remaining.0 > 0 && remaining <= order.remaining,
            "a reduction must reduce and not cancel"
        );
        order.remaining = remaining;
    }

    fn fill_best(&mut self, side: Side, quantity: Quantity) -> Quantity {
        let price = self.best_price(side).expect("only an order that is there is filled");
        let order = &mut self.half_mut(side).get_mut(&price).expect("the best price has a queue")[0];
        assert!(
            quantity.0 > 0 && quantity <= order.remaining,
            "a fill must fit the order"
        );
        order.remaining.0 -= quantity.0;
        let remaining = order.remaining;
        if remaining.0 == 0 {
            self.remove(side, price, 0);
        }
        remaining
    }

    fn get(&self, handle: OrderHandle) -> RestingOrder {
        let (side, price, index) = self.place(handle);
        self.half(side)[&price][index]
    }

    fn best(&self, side: Side) -> Option<Maker> {
        let (price, queue) = self.queues(side).next()?;
        let order = queue.front().expect("a level has an order");
        Some(Maker {
            handle: OrderHandle(order.key.0),
            key: order.key,
            account: order.account,
            price,
            remaining: order.remaining,
        })
    }

    fn best_price(&self, side: Side) -> Option<Price> {
        self.queues(side).next().map(|(price, _)| price)
    }

    fn fillable(&self, side: Side, limit: Price, own: OwnOrders, wanted: Quantity) -> Quantity {
        let mut counted = 0;
        for (_, order) in self.orders(side) {
            if counted >= wanted.0 || !crosses(side, order.price, limit) {
                break;
            }
            match own {
                OwnOrders::Skip(account) if account == order.account => continue,
                OwnOrders::StopAt(account) if account == order.account => break,
                OwnOrders::Count | OwnOrders::Skip(_) | OwnOrders::StopAt(_) => counted += order.remaining.0,
            }
        }
        Quantity(counted.min(wanted.0))
    }

    fn orders(&self, side: Side) -> impl Iterator<Item = (OrderHandle, RestingOrder)> + '_ {
        let orders = self.queues(side).flat_map(|(_, queue)| queue.iter());
        orders.map(|order| (OrderHandle(order.key.0), *order))
    }

    fn levels(&self, side: Side) -> impl Iterator<Item = Level> + '_ {
        self.queues(side).map(|(price, queue)| Level {
            price,
            quantity: Quantity(queue.iter().map(|order| order.remaining.0).sum()),
            orders: u32::try_from(queue.len()).expect("keys are u32"),
        })
    }

    fn len(&self) -> usize {
        self.places.len()
    }
}
