//! The fast book: orders and levels in flat storage, linked by indexes.
//!
//! An order is 32 bytes, two to a cache line, and holds only what matching reads; the exchange keeps the rest under the
//! order's key. Its handle is its index, so a cancel touches the order, its two neighbours in the queue and its level,
//! and searches nothing. Storage that an order leaves is used by the next one, while it is still in the cache.

use types::{AccountId, Price, Quantity, Side, limits::PRICE_TICKS_MAX};

use super::ladder::Ladder;
use super::{Ahead, Book, Level, Maker, OrderHandle, OrderKey, OwnOrders, RestingOrder, crosses};
use crate::prefetch::prefetch;

/// No order. The node of this index belongs to none: what has no neighbour in its queue writes there instead, which is
/// cheaper than to ask whether it has one.
const NONE: u32 = 0;

/// An order in its queue.
#[derive(Clone, Debug)]
#[repr(C, align(32))]
struct OrderNode {
    /// What may still be filled, in lots; 0 in a node that is not in use.
    remaining: i64,
    account: AccountId,
    key: OrderKey,
    /// The order that is filled before it.
    previous: u32,
    /// The order that is filled after it; in a node that is not in use, the next such one.
    next: u32,
    level: u32,
    side: Side,
}

const _: () = assert!(size_of::<OrderNode>() == 32, "two orders share a cache line");

impl OrderNode {
    const NONE: Self = Self {
        remaining: 0,
        account: AccountId(0),
        key: OrderKey(0),
        previous: NONE,
        next: NONE,
        level: 0,
        side: Side::Buy,
    };
}

/// The book for production: see the module.
#[derive(Clone, Debug)]
pub struct FastBook {
    orders: Vec<OrderNode>,
    /// The first node that is not in use.
    free: u32,
    resting: usize,
    bids: Ladder,
    asks: Ladder,
}

impl Default for FastBook {
    fn default() -> Self {
        Self {
            orders: vec![OrderNode::NONE],
            free: NONE,
            resting: 0,
            bids: Ladder::default(),
            asks: Ladder::default(),
        }
    }
}

fn is_in_range(price: Price) -> bool {
    (0..=PRICE_TICKS_MAX).contains(&price.0)
}

/// The price as a number that is higher for the better price.
#[inline]
fn rank_of(side: Side, price: Price) -> u64 {
    assert!(is_in_range(price), "the price lies outside of what the exchange takes");
    match side {
        Side::Buy => price.0 as u64,
        Side::Sell => (PRICE_TICKS_MAX - price.0) as u64,
    }
}

/// The price of a rank.
#[inline]
fn price_of(side: Side, rank: u64) -> Price {
    match side {
        Side::Buy => Price(rank as i64),
        Side::Sell => Price(PRICE_TICKS_MAX - rank as i64),
    }
}

impl FastBook {
    #[inline]
    fn ladder(&self, side: Side) -> &Ladder {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    #[inline]
    fn ladder_mut(&mut self, side: Side) -> &mut Ladder {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    /// The order of a handle.
    #[inline]
    fn order(&self, handle: OrderHandle) -> &OrderNode {
        let order = &self.orders[handle.0 as usize];
        assert!(order.remaining > 0, "a handle ends with its order");
        order
    }

    fn resting_order(&self, order: &OrderNode) -> RestingOrder {
        RestingOrder {
            key: order.key,
            account: order.account,
            side: order.side,
            price: price_of(order.side, self.ladder(order.side).level(order.level).rank),
            remaining: Quantity(order.remaining),
        }
    }

    #[inline]
    fn allocate(&mut self) -> u32 {
        let index = self.free;
        if index != NONE {
            self.free = self.orders[index as usize].next;
            return index;
        }
        let index = u32::try_from(self.orders.len()).expect("there are fewer than 2^32 orders");
        self.orders.push(OrderNode::NONE);
        index
    }

    #[inline]
    fn release(&mut self, index: u32) {
        let free = self.free;
        let node = &mut self.orders[index as usize];
        node.remaining = 0;
        node.next = free;
        self.free = index;
        self.resting -= 1;
    }

    /// The orders from this one to the end of its queue.
    fn queue(&self, head: u32) -> impl Iterator<Item = (OrderHandle, &OrderNode)> + '_ {
        let mut next = head;
        std::iter::from_fn(move || {
            let index = next;
            if index == NONE {
                return None;
            }
            let order = &self.orders[index as usize];
            next = order.next;
            Some((OrderHandle(index), order))
        })
    }
}

impl Book for FastBook {
    #[inline]
    fn insert(&mut self, order: RestingOrder) -> OrderHandle {
        assert!(order.remaining.0 > 0, "an order without quantity can't rest");
        let rank = rank_of(order.side, order.price);
        let index = self.allocate();
        let ladder = self.ladder_mut(order.side);
        let level_index = ladder.find_or_add(rank);
        let level = ladder.level_mut(level_index);
        let previous = level.tail;
        level.head = if previous == NONE { index } else { level.head };
        level.tail = index;
        level.orders += 1;
        level.quantity = level
            .quantity
            .checked_add(order.remaining.0)
            .expect("a level's sum fits");
        self.orders[previous as usize].next = index;
        self.orders[index as usize] = OrderNode {
            remaining: order.remaining.0,
            account: order.account,
            key: order.key,
            previous,
            next: NONE,
            level: level_index,
            side: order.side,
        };
        self.resting += 1;
        OrderHandle(index)
    }

    #[inline]
    fn cancel(&mut self, handle: OrderHandle) -> RestingOrder {
        let OrderNode {
            remaining,
            account,
            key,
            previous,
            next,
            level: level_index,
            side,
        } = *self.order(handle);
        self.orders[previous as usize].next = next;
        self.orders[next as usize].previous = previous;
        let ladder = self.ladder_mut(side);
        let level = ladder.level_mut(level_index);
        let rank = level.rank;
        level.quantity -= remaining;
        level.orders -= 1;
        level.head = if previous == NONE { next } else { level.head };
        level.tail = if next == NONE { previous } else { level.tail };
        if level.orders == 0 {
            ladder.remove(level_index);
        }
        self.release(handle.0);
        RestingOrder {
            key,
            account,
            side,
            price: price_of(side, rank),
            remaining: Quantity(remaining),
        }
    }

    #[inline]
    fn reduce(&mut self, handle: OrderHandle, remaining: Quantity) {
        let OrderNode {
            remaining: before,
            level,
            side,
            ..
        } = *self.order(handle);
        assert!(
            remaining.0 > 0 && remaining.0 <= before,
            "a reduction must reduce and not cancel"
        );
        self.orders[handle.0 as usize].remaining = remaining.0;
        self.ladder_mut(side).level_mut(level).quantity -= before - remaining.0;
    }

    #[inline]
    fn fill_best(&mut self, side: Side, quantity: Quantity) -> Quantity {
        let ladder = match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        let (best, level) = ladder.best_mut();
        let head = level.head;
        let order = &mut self.orders[head as usize];
        assert!(
            quantity.0 > 0 && quantity.0 <= order.remaining,
            "a fill must fit the order"
        );
        let remaining = order.remaining - quantity.0;
        let next = order.next;
        level.quantity -= quantity.0;
        if remaining > 0 {
            order.remaining = remaining;
            return Quantity(remaining);
        }
        if next == NONE {
            ladder.remove(best);
        } else {
            level.head = next;
            level.orders -= 1;
            self.orders[next as usize].previous = NONE;
        }
        self.release(head);
        Quantity(0)
    }

    fn get(&self, handle: OrderHandle) -> RestingOrder {
        self.resting_order(self.order(handle))
    }

    #[inline]
    fn best(&self, side: Side) -> Option<Maker> {
        let ladder = self.ladder(side);
        let rank = ladder.best_rank()?;
        let head = ladder.best()?.head;
        let order = &self.orders[head as usize];
        Some(Maker {
            handle: OrderHandle(head),
            key: order.key,
            account: order.account,
            price: price_of(side, rank),
            remaining: Quantity(order.remaining),
        })
    }

    #[inline]
    fn best_price(&self, side: Side) -> Option<Price> {
        self.ladder(side).best_rank().map(|rank| price_of(side, rank))
    }

    fn fillable(&self, side: Side, limit: Price, own: OwnOrders, wanted: Quantity) -> Quantity {
        let levels = self.ladder(side).iter();
        let levels = levels.take_while(|level| crosses(side, price_of(side, level.rank), limit));
        let mut missing = wanted.0;
        for level in levels {
            if missing <= 0 {
                break;
            }
            if own == OwnOrders::Count {
                missing = missing.saturating_sub(level.quantity);
                continue;
            }
            for (_, order) in self.queue(level.head) {
                match own {
                    OwnOrders::Skip(account) if account == order.account => continue,
                    OwnOrders::StopAt(account) if account == order.account => return Quantity(wanted.0 - missing),
                    OwnOrders::Count | OwnOrders::Skip(_) | OwnOrders::StopAt(_) => missing -= order.remaining,
                }
                if missing <= 0 {
                    break;
                }
            }
        }
        Quantity(wanted.0 - missing.max(0))
    }

    fn orders(&self, side: Side) -> impl Iterator<Item = (OrderHandle, RestingOrder)> + '_ {
        let queues = self.ladder(side).iter().flat_map(|level| self.queue(level.head));
        queues.map(|(handle, order)| (handle, self.resting_order(order)))
    }

    fn levels(&self, side: Side) -> impl Iterator<Item = Level> + '_ {
        self.ladder(side).iter().map(move |level| Level {
            price: price_of(side, level.rank),
            quantity: Quantity(level.quantity),
            orders: level.orders,
        })
    }

    #[inline]
    fn prefetch_order(&self, handle: OrderHandle, ahead: Ahead) {
        match ahead {
            Ahead::Far => prefetch(&self.orders, handle.0 as usize),
            Ahead::Near => {
                let Some(order) = self.orders.get(handle.0 as usize) else {
                    return;
                };
                prefetch(&self.orders, order.previous as usize);
                prefetch(&self.orders, order.next as usize);
                self.ladder(order.side).prefetch(order.level);
            }
        }
    }

    #[inline]
    fn prefetch_price(&self, side: Side, price: Price, ahead: Ahead) {
        if !is_in_range(price) {
            return;
        }
        let ladder = self.ladder(side);
        let Some(level) = ladder.find(rank_of(side, price)) else {
            return;
        };
        match ahead {
            Ahead::Far => ladder.prefetch(level),
            Ahead::Near => prefetch(&self.orders, ladder.level(level).tail as usize),
        }
    }

    fn len(&self) -> usize {
        self.resting
    }
}

#[cfg(test)]
impl FastBook {
    /// Panics if the storage isn't what its comments say.
    pub(super) fn check_storage(&self) {
        let mut seen = 0;
        for side in [Side::Buy, Side::Sell] {
            self.ladder(side).check_storage();
            for level in self.ladder(side).iter() {
                let mut previous = NONE;
                for (handle, order) in self.queue(level.head) {
                    assert!(order.side == side && order.previous == previous && order.remaining > 0);
                    assert_eq!(self.ladder(side).level(order.level).rank, level.rank);
                    previous = handle.0;
                    seen += 1;
                }
                assert_eq!(level.tail, previous);
            }
        }
        assert_eq!(seen, self.resting);
        let mut free = 0;
        let mut next = self.free;
        while next != NONE {
            let node = &self.orders[next as usize];
            assert_eq!(node.remaining, 0);
            next = node.next;
            free += 1;
        }
        assert_eq!(free + seen + 1, self.orders.len());
    }
}
