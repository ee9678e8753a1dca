//! Where closed orders are found: a bounded index over the event log, the oldest forgotten first.
//!
//! An entry holds places in the log and, for an order that was filled, its sums, because the trade that filled it
//! does not carry them. Everything else of the order stands in the events at those places.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

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

/// The index: a ring of entries, and for each of the two ways to ask a table of chains through it.
///
/// ```text
///  heads[hash] ──> entry ──next──> older entry of the same bucket ──> ... ──> one that is overwritten: the end
/// ```
///
/// All of it has its full size from the beginning, so no order waits while a table grows. Entries go in the order in which
/// they came, so nothing is ever taken out of a chain: it ends where it leads to what is no longer in the ring.
#[derive(Debug)]
pub(crate) struct ClosedOrders {
    capacity: usize,
    /// Entry number `n` is at `n % capacity`.
    entries: Vec<Entry>,
    /// The number of the next entry.
    next: u64,
    by_placed: Heads,
    /// By hash of account and client order id; who looks one up checks the events that it leads to.
    by_client_id: Heads,
    /// Its keys are random, or clients could choose ids that all fall into one bucket.
    hashes: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    order: ClosedOrder,
    client_hash: u64,
    older_by_placed: Link,
    older_by_client_id: Link,
}

/// The number of an entry, in its lower half: who follows it knows how old an entry can be.
#[derive(Clone, Copy, Debug, Default)]
struct Link(u32);

/// The newest entry of each bucket.
#[derive(Debug)]
struct Heads(Vec<Link>);

impl Heads {
    fn new(buckets: usize) -> Self {
        Self(vec![Link::default(); buckets.next_power_of_two()])
    }

    fn at(&mut self, hash: u64) -> &mut Link {
        let bucket = self.bucket(hash);
        &mut self.0[bucket]
    }

    fn first(&self, hash: u64) -> Link {
        self.0[self.bucket(hash)]
    }

    fn bucket(&self, hash: u64) -> usize {
        usize::try_from(hash & (self.0.len() as u64 - 1)).expect("it is smaller than the table")
    }
}

impl ClosedOrders {
    /// An index of the last so many orders.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: Vec::with_capacity(capacity),
            // So far beyond the ring that an empty bucket leads to nothing.
            next: capacity as u64 * 2,
            by_placed: Heads::new(capacity),
            by_client_id: Heads::new(capacity),
            hashes: RandomState::new(),
        }
    }

    /// Where its entries are, and will be.
    pub fn memory(&self) -> Range<*const u8> {
        let start = self.entries.as_ptr();
        start.cast()..start.wrapping_add(self.entries.capacity()).cast()
    }

    pub fn push(&mut self, order: &Order, closed: Sequence) {
        if self.capacity == 0 {
            return;
        }
        let filled = (order.status == OrderStatus::Filled).then_some(FilledSums {
            price: order.price,
            quantity: order.quantity,
            filled_notional: order.filled_notional,
            fee: order.fee,
            post_only: order.post_only,
        });
        let placed = order.order_id.0.sequence;
        let client_hash = self.hash(order.account, &order.client_order_id);
        let link = Link(self.next as u32);
        let entry = Entry {
            order: ClosedOrder { placed, closed, filled },
            client_hash,
            older_by_placed: std::mem::replace(self.by_placed.at(placed.0), link),
            older_by_client_id: std::mem::replace(self.by_client_id.at(client_hash), link),
        };
        let index = self.index(self.next);
        match self.entries.get_mut(index) {
            Some(oldest) => *oldest = entry,
            None => self.entries.push(entry),
        }
        self.next += 1;
    }

    /// Where the order may be found. By client order id, another order of the same hash is possible.
    pub fn find(&self, account: AccountId, target: &OrderTarget) -> Option<ClosedOrder> {
        match target {
            OrderTarget::OrderId(order_id) => {
                let placed = order_id.0.sequence;
                self.chain(self.by_placed.first(placed.0), |entry| entry.older_by_placed)
                    .find(|entry| entry.order.placed == placed)
            }
            OrderTarget::ClientOrderId(client_order_id) => {
                let hash = self.hash(account, client_order_id);
                self.chain(self.by_client_id.first(hash), |entry| entry.older_by_client_id)
                    .find(|entry| entry.client_hash == hash)
            }
        }
        .map(|entry| entry.order)
    }

    /// The entries of a chain, the newest first.
    fn chain(&self, first: Link, older: impl Fn(&Entry) -> Link) -> impl Iterator<Item = &Entry> {
        let mut link = first;
        let mut age_before = 0;
        std::iter::from_fn(move || {
            // After 2^32 entries a link may lead to a newer one than it meant. Keys are compared, and a chain only grows older.
            let age = u64::from((self.next as u32).wrapping_sub(link.0));
            if age <= age_before || age > self.entries.len() as u64 {
                return None;
            }
            age_before = age;
            let entry = &self.entries[self.index(self.next - age)];
            link = older(entry);
            Some(entry)
        })
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number % self.capacity as u64).expect("it is smaller than the capacity")
    }

    fn hash(&self, account: AccountId, client_order_id: &RequestId) -> u64 {
        self.hashes.hash_one((account, client_order_id.as_bytes()))
    }
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
    fn all_that_the_ring_holds_are_found_and_no_others() {
        for capacity in [0, 1, 5, 64] {
            let mut closed = ClosedOrders::new(capacity);
            let last = 1_000;
            // Not every command places an order, and they don't close in the order of placing.
            let mut placed: Vec<u64> = (1..=last).map(|number| number * 3 % (2 * last)).collect();
            placed.dedup();
            for (number, sequence) in placed.iter().enumerate() {
                closed.push(&order(*sequence, OrderStatus::Cancelled), Sequence(number as u64));
            }
            for (number, sequence) in placed.iter().enumerate() {
                let order = order(*sequence, OrderStatus::Cancelled);
                let is_newest = placed.iter().rposition(|other| other == sequence) == Some(number);
                let kept = number + capacity >= placed.len();
                for target in [
                    OrderTarget::OrderId(order.order_id),
                    OrderTarget::ClientOrderId(order.client_order_id),
                ] {
                    let found = closed.find(order.account, &target).map(|found| found.closed);
                    if is_newest {
                        assert_eq!(found, kept.then_some(Sequence(number as u64)), "{capacity}: {sequence}");
                    }
                    assert_eq!(
                        closed.find(AccountId(9), &OrderTarget::ClientOrderId(order.client_order_id)),
                        None
                    );
                }
            }
        }
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
