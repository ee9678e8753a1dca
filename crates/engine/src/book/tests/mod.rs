//! One suite over both books, and seeded flows through both at once.

mod differential;
mod random;
mod suite;

use std::collections::BTreeMap;

use super::{Book, Level, OrderHandle, OrderKey, RestingOrder};
use types::{Quantity, Side};

/// A book, and the handle of each of its orders.
#[derive(Default)]
struct Subject<B> {
    book: B,
    handles: BTreeMap<OrderKey, OrderHandle>,
}

impl<B: Book> Subject<B> {
    fn insert(&mut self, order: RestingOrder) {
        let handle = self.book.insert(order);
        self.handles.insert(order.key, handle);
        assert_eq!(self.book.get(handle), order);
    }

    fn cancel(&mut self, key: OrderKey) -> RestingOrder {
        let handle = self.handles.remove(&key).expect("the test cancels what rests");
        let order = self.book.get(handle);
        assert_eq!(self.book.cancel(handle), order);
        order
    }

    fn fill_best(&mut self, side: Side, quantity: i64) -> (OrderKey, Quantity) {
        let maker = self.book.best(side).expect("the test fills what rests");
        let remaining = self.book.fill_best(side, Quantity(quantity));
        assert_eq!(remaining.0, maker.remaining.0 - quantity);
        if remaining.0 == 0 {
            self.handles.remove(&maker.key);
        }
        (maker.key, remaining)
    }

    /// What the book says in different ways must agree.
    fn check_consistent(&self) {
        let mut resting = 0;
        for side in [Side::Buy, Side::Sell] {
            let mut levels: Vec<Level> = Vec::new();
            for (handle, order) in self.book.orders(side) {
                assert_eq!(order.side, side);
                assert_eq!(self.book.get(handle), order);
                assert_eq!(self.handles[&order.key], handle);
                resting += 1;
                match levels.last_mut().filter(|level| level.price == order.price) {
                    Some(level) => {
                        level.quantity.0 += order.remaining.0;
                        level.orders += 1;
                    }
                    None => levels.push(Level {
                        price: order.price,
                        quantity: order.remaining,
                        orders: 1,
                    }),
                }
            }
            assert!(self.book.levels(side).eq(levels.iter().copied()));
            let better_first = |pair: &[Level]| match side {
                Side::Buy => pair[0].price > pair[1].price,
                Side::Sell => pair[0].price < pair[1].price,
            };
            assert!(levels.windows(2).all(better_first));
            assert_eq!(self.book.best_price(side), levels.first().map(|level| level.price));
            let best = self
                .book
                .best(side)
                .map(|maker| (maker.handle, self.book.get(maker.handle)));
            assert_eq!(best, self.book.orders(side).next());
        }
        assert_eq!(self.book.len(), resting);
        assert_eq!(self.handles.len(), resting);
        assert_eq!(self.book.is_empty(), resting == 0);
    }

    /// A hash of all that rests, in priority order.
    fn hash(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for side in [Side::Buy, Side::Sell] {
            for (_, order) in self.book.orders(side) {
                let RestingOrder {
                    key,
                    account,
                    side,
                    price,
                    remaining,
                } = order;
                for word in [
                    u64::from(key.0),
                    u64::from(account.0),
                    side as u64,
                    price.0 as u64,
                    remaining.0 as u64,
                ] {
                    hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
                }
            }
        }
        hash
    }
}
