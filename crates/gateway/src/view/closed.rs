//! Where closed orders are found: a bounded index over the event log, the oldest forgotten first.
//!
//! An entry holds places in the log and, for an order that was filled, its sums, because the trade that filled it
//! does not carry them. Everything else of the order stands in the events at those places.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use types::{AccountId, Amount, Order, OrderStatus, OrderTarget, Price, Quantity, RequestId, Sequence};

/// A closed order's places in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedOrder {
    /// The command that placed it.
    pub placed: Sequence,
    /// The command that closed it.
    pub closed: Sequence,
    /// Its sums, if it was filled.
    pub filled: Option<FilledSums>,
}

/// What a filled order came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilledSums {
    /// Its last limit, in ticks.
    pub price: Price,
    /// All of it, in lots.
    pub quantity: Quantity,
    /// The sum of price x quantity of its fills, in smallest units of the quote asset.
    pub filled_notional: Amount,
    /// Fees charged, in smallest units of the quote asset; negative is a rebate.
    pub fee: Amount,
    /// True if it could only make.
    pub post_only: bool,
}

impl FilledSums {
    /// The filled order, from the order as it was placed.
    pub fn complete(&self, mut order: Order) -> Order {
        order.price = self.price;
        order.quantity = self.quantity;
        order.filled = self.quantity;
        order.filled_notional = self.filled_notional;
        order.fee = self.fee;
        order.post_only = self.post_only;
        order.status = OrderStatus::Filled;
        order
    }
}

/// The index.
#[derive(Debug)]
pub(crate) struct ClosedOrders {
    capacity: usize,
    /// Oldest first.
    entries: VecDeque<(u64, ClosedOrder)>,
    /// How many entries were dropped from the front: entry number `n` is at `n - dropped`.
    dropped: u64,
    by_placed: HashMap<Sequence, u64>,
    /// By hash of account and client order id; who looks one up checks the events that it leads to.
    by_client_id: HashMap<u64, u64>,
}

impl ClosedOrders {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: VecDeque::new(),
            dropped: 0,
            by_placed: HashMap::new(),
            by_client_id: HashMap::new(),
        }
    }

    pub fn push(&mut self, order: &Order, closed: Sequence) {
        let filled = (order.status == OrderStatus::Filled).then_some(FilledSums {
            price: order.price,
            quantity: order.quantity,
            filled_notional: order.filled_notional,
            fee: order.fee,
            post_only: order.post_only,
        });
        let placed = order.order_id.0.sequence;
        let client_hash = hash(order.account, &order.client_order_id);
        let number = self.dropped + self.entries.len() as u64;
        self.by_placed.insert(placed, number);
        self.by_client_id.insert(client_hash, number);
        let entry = ClosedOrder { placed, closed, filled };
        self.entries.push_back((client_hash, entry));
        if self.entries.len() > self.capacity {
            self.drop_oldest();
        }
    }

    /// Where the order may be found. By client order id, another order of the same hash is possible.
    pub fn find(&self, account: AccountId, target: &OrderTarget) -> Option<ClosedOrder> {
        let number = match target {
            OrderTarget::OrderId(order_id) => self.by_placed.get(&order_id.0.sequence)?,
            OrderTarget::ClientOrderId(client_order_id) => self.by_client_id.get(&hash(account, client_order_id))?,
        };
        let index = usize::try_from(number - self.dropped).expect("it is smaller than the capacity");
        Some(self.entries[index].1)
    }

    fn drop_oldest(&mut self) {
        let Some((client_hash, entry)) = self.entries.pop_front() else {
            return;
        };
        let number = self.dropped;
        self.dropped += 1;
        if self.by_placed.get(&entry.placed) == Some(&number) {
            self.by_placed.remove(&entry.placed);
        }
        if self.by_client_id.get(&client_hash) == Some(&number) {
            self.by_client_id.remove(&client_hash);
        }
    }
}

fn hash(account: AccountId, client_order_id: &RequestId) -> u64 {
    let mut hasher = DefaultHasher::new();
    account.hash(&mut hasher);
    client_order_id.as_bytes().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{
        Epoch, GroupId, InstrumentId, OrderId, OrderType, Position, SelfTradePrevention, Side, TimeInForce, Timestamp,
    };

    fn order(sequence: u64, status: OrderStatus) -> Order {
        let position = Position {
            group: GroupId(0),
            epoch: Epoch(1),
            sequence: Sequence(sequence),
        };
        Order {
            order_id: OrderId(position),
            account: AccountId(2),
            client_order_id: format!("c-{sequence}").parse().unwrap(),
            instrument: InstrumentId(0),
            side: Side::Buy,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Gtc,
            price: Price(10),
            quantity: Quantity(5),
            filled: Quantity(5),
            filled_notional: Amount(50),
            fee: Amount(1),
            post_only: false,
            self_trade_prevention: SelfTradePrevention::CancelNewest,
            status,
            placed_at: Timestamp(0),
        }
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut closed = ClosedOrders::new(2);
        for sequence in 1..=3 {
            closed.push(&order(sequence, OrderStatus::Cancelled), Sequence(sequence + 10));
        }
        let find = |sequence| {
            closed.find(
                AccountId(2),
                &OrderTarget::OrderId(order(sequence, OrderStatus::Open).order_id),
            )
        };
        assert_eq!(find(1), None);
        assert_eq!(find(2).map(|found| found.closed), Some(Sequence(12)));
        assert_eq!(find(3).map(|found| found.closed), Some(Sequence(13)));
        let by_client_id = OrderTarget::ClientOrderId("c-3".parse().unwrap());
        assert_eq!(closed.find(AccountId(2), &by_client_id), find(3));
        assert_eq!(closed.find(AccountId(3), &by_client_id), None);
    }

    #[test]
    fn a_filled_order_is_made_whole_again() {
        let mut closed = ClosedOrders::new(2);
        let filled = order(1, OrderStatus::Filled);
        closed.push(&filled, Sequence(9));
        let found = closed
            .find(AccountId(2), &OrderTarget::OrderId(filled.order_id))
            .unwrap();
        let mut placed = filled;
        placed.filled = Quantity(0);
        placed.filled_notional = Amount(0);
        placed.fee = Amount(0);
        placed.status = OrderStatus::Open;
        assert_eq!(found.filled.unwrap().complete(placed), filled);
    }
}
