//! What the node is asked for each message: one order of the exchange for each order of the record.
//!
//! The record and an exchange differ in three ways, which are evened out here so that the sums stay equal and the
//! queues as true as the record allows:
//!
//! - **The initial book has sums, not orders.** Orders that later messages name and that are older than the record's
//!   first new order stood in it: they are placed one by one under their ids, oldest first. What is left of a level is
//!   one order without a name in front of them. A message about an order that nobody has seen takes from that one, and
//!   has no effect where there is none.
//! - **Orders come into sight late.** An order older than the record's first may appear as a new one, when it comes
//!   within the recorded depth. It had its place in the queue all along: the younger ones are cancelled and placed
//!   again behind it.
//! - **The record executes another order than price-time priority would.** The exchange then hits the order in front.
//!   The named order gives the other one what it kept, so that both have as many shares as in the record: an order of
//!   the exchange may hold shares of several orders of the record.

use std::collections::BTreeMap;
use std::fmt;

use types::Side;

use super::record::{Kind, Message, Record};

/// Whose shares an order of the exchange holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Orders of the initial book that no message names.
    Initial,
    /// The order of this id in the record.
    Named(u64),
}

/// An order of the exchange: for whom it was placed, and which of that one's orders it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderName {
    side: Side,
    price: i64,
    /// For whom it was placed.
    pub owner: Owner,
    generation: u32,
}

/// Its client order id.
impl fmt::Display for OrderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = side_letter(self.side);
        match self.owner {
            Owner::Initial => write!(f, "initial-{side}-{}", self.price),
            Owner::Named(order) => write!(f, "{order}-{side}-{}-{}", self.price, self.generation),
        }
    }
}

/// One request to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A resting order.
    Place {
        /// Under which name.
        name: OrderName,
        /// How many shares.
        size: i64,
    },
    /// A smaller quantity, in place.
    Reduce {
        /// Which order.
        name: OrderName,
        /// Its whole quantity from now on, what was filled included.
        quantity: i64,
    },
    /// A cancel.
    Cancel {
        /// Which order.
        name: OrderName,
    },
    /// An immediate-or-cancel order against the queue of this side and price.
    Take {
        /// The side of the resting orders.
        side: Side,
        /// At this price.
        price: i64,
        /// How many shares.
        size: i64,
        /// The order that the record says was executed.
        named: Owner,
    },
}

impl OrderName {
    /// Its side.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Its price.
    pub fn price(&self) -> i64 {
        self.price
    }
}

/// An order of the exchange as it must rest now.
#[derive(Clone, Debug)]
struct Resting {
    name: OrderName,
    /// How many of its shares are whose.
    shares: Vec<(Owner, i64)>,
    filled: i64,
}

impl Resting {
    fn remaining(&self) -> i64 {
        self.shares.iter().map(|(_, size)| size).sum()
    }

    fn held_for(&self, owner: Owner) -> i64 {
        let of_owner = self.shares.iter().filter(|(other, _)| *other == owner);
        of_owner.map(|(_, size)| size).sum()
    }

    /// Adds to (or takes from) what it holds for an owner.
    fn change(&mut self, owner: Owner, by: i64) {
        match self.shares.iter_mut().find(|(other, _)| *other == owner) {
            Some((_, size)) => *size += by,
            None => self.shares.push((owner, by)),
        }
        self.shares.retain(|(_, size)| *size > 0);
    }
}

/// The queues of the exchange as they must be, by side and price.
#[derive(Debug)]
pub struct Queues {
    levels: BTreeMap<(Side, i64), Vec<Resting>>,
    /// Orders up to this id are older than the record.
    oldest_new: u64,
    /// How often an order was placed again.
    generations: BTreeMap<u64, u32>,
}

impl Queues {
    /// The queues of the initial book, and the requests that make them.
    pub fn new(record: &Record) -> (Self, Vec<Request>) {
        let named = orders_of_initial_book(record);
        let mut queues = Self {
            levels: BTreeMap::new(),
            oldest_new: oldest_new(record),
            generations: BTreeMap::new(),
        };
        let mut requests = Vec::new();
        let asks = record.initial.asks.iter().map(|level| (Side::Sell, level));
        let bids = record.initial.bids.iter().map(|level| (Side::Buy, level));
        for (side, level) in asks.chain(bids) {
            let mut rest = level.size;
            let mut queue = Vec::new();
            for (order, size) in named.get(&(side, level.price)).into_iter().flatten() {
                let size = rest.min(*size);
                if size > 0 {
                    rest -= size;
                    queue.push((Owner::Named(*order), size));
                }
            }
            if rest > 0 {
                queue.insert(0, (Owner::Initial, rest));
            }
            for (owner, size) in queue {
                queues.place(side, level.price, owner, size, &mut requests);
            }
        }
        (queues, requests)
    }

    /// Appends what the node must be asked for a message.
    pub fn apply(&mut self, message: &Message, requests: &mut Vec<Request>) {
        match message.kind {
            Kind::Submitted => self.submit(message, requests),
            Kind::Reduced | Kind::Deleted => self.reduce(message, requests),
            Kind::Executed => self.execute(message, requests),
            Kind::Invisible => {}
        }
    }

    fn submit(&mut self, message: &Message, requests: &mut Vec<Request>) {
        let key = (message.side, message.price);
        let younger = |resting: &Resting| match resting.name.owner {
            Owner::Named(order) => order > message.order,
            Owner::Initial => false,
        };
        let mut moved = Vec::new();
        if message.order <= self.oldest_new {
            let queue = self.levels.entry(key).or_default();
            let place = queue.len() - queue.iter().rev().take_while(|resting| younger(resting)).count();
            moved = queue.split_off(place);
        }
        requests.extend(moved.iter().map(|resting| Request::Cancel { name: resting.name }));
        self.place(key.0, key.1, Owner::Named(message.order), message.size, requests);
        for resting in moved {
            for (owner, size) in resting.shares {
                self.place(key.0, key.1, owner, size, requests);
            }
        }
    }

    fn place(&mut self, side: Side, price: i64, owner: Owner, size: i64, requests: &mut Vec<Request>) {
        let generation = match owner {
            Owner::Initial => 0,
            Owner::Named(order) => {
                let next = self.generations.entry(order).or_insert(0);
                *next += 1;
                *next - 1
            }
        };
        let name = OrderName {
            side,
            price,
            owner,
            generation,
        };
        let shares = vec![(owner, size)];
        let queue = self.levels.entry((side, price)).or_default();
        queue.push(Resting {
            name,
            shares,
            filled: 0,
        });
        requests.push(Request::Place { name, size });
    }

    /// Whom a message about an order concerns: the order itself, or the unnamed ones of its level.
    fn concerned(queue: &[Resting], message: &Message) -> Option<Owner> {
        [Owner::Named(message.order), Owner::Initial]
            .into_iter()
            .find(|owner| queue.iter().any(|resting| resting.held_for(*owner) > 0))
    }

    fn reduce(&mut self, message: &Message, requests: &mut Vec<Request>) {
        let Some(queue) = self.levels.get_mut(&(message.side, message.price)) else {
            return;
        };
        let Some(owner) = Self::concerned(queue, message) else {
            return;
        };
        let mut left = message.size;
        for resting in queue.iter_mut() {
            let part = left.min(resting.held_for(owner));
            if part == 0 {
                continue;
            }
            left -= part;
            resting.change(owner, -part);
            requests.push(match resting.remaining() {
                0 => Request::Cancel { name: resting.name },
                remaining => Request::Reduce {
                    name: resting.name,
                    quantity: resting.filled + remaining,
                },
            });
        }
        self.drop_empty(message);
    }

    fn execute(&mut self, message: &Message, requests: &mut Vec<Request>) {
        let Some(queue) = self.levels.get_mut(&(message.side, message.price)) else {
            return;
        };
        let Some(owner) = Self::concerned(queue, message) else {
            return;
        };
        let held: i64 = queue.iter().map(|resting| resting.held_for(owner)).sum();
        let size = message.size.min(held);
        requests.push(Request::Take {
            side: message.side,
            price: message.price,
            size,
            named: owner,
        });
        let mut left = size;
        for index in 0..queue.len() {
            let hit = left.min(queue[index].remaining());
            left -= hit;
            queue[index].filled += hit;
            let mut unpaid = hit;
            let own = unpaid.min(queue[index].held_for(owner));
            queue[index].change(owner, -own);
            unpaid -= own;
            while unpaid > 0 {
                let (other, other_size) = queue[index].shares[0];
                let part = unpaid.min(other_size);
                queue[index].change(other, -part);
                Self::give(queue, owner, other, part);
                unpaid -= part;
            }
        }
        self.drop_empty(message);
    }

    /// Lets `from`'s shares, wherever they rest, be `to`'s.
    fn give(queue: &mut [Resting], from: Owner, to: Owner, size: i64) {
        let mut left = size;
        for resting in queue {
            let part = left.min(resting.held_for(from));
            if part > 0 {
                resting.change(from, -part);
                resting.change(to, part);
                left -= part;
            }
        }
        assert_eq!(left, 0, "an execution never takes more than the named order has");
    }

    fn drop_empty(&mut self, message: &Message) {
        let key = (message.side, message.price);
        let Some(queue) = self.levels.get_mut(&key) else {
            return;
        };
        queue.retain(|resting| resting.remaining() > 0);
        if queue.is_empty() {
            self.levels.remove(&key);
        }
    }
}

/// The id of the record's first new order.
fn oldest_new(record: &Record) -> u64 {
    let submitted = record.messages.iter().find(|message| message.kind == Kind::Submitted);
    submitted.map_or(0, |message| message.order)
}

/// Orders of the initial book that messages name, with as many shares as messages take from them, oldest first.
fn orders_of_initial_book(record: &Record) -> BTreeMap<(Side, i64), BTreeMap<u64, i64>> {
    let oldest_new = oldest_new(record);
    let mut submitted: Vec<u64> = record.messages[1..]
        .iter()
        .filter(|message| message.kind == Kind::Submitted)
        .map(|message| message.order)
        .collect();
    submitted.sort_unstable();
    let mut named: BTreeMap<(Side, i64), BTreeMap<u64, i64>> = BTreeMap::new();
    for message in &record.messages[1..] {
        let takes = matches!(message.kind, Kind::Reduced | Kind::Deleted | Kind::Executed);
        if takes && message.order <= oldest_new && submitted.binary_search(&message.order).is_err() {
            let orders = named.entry((message.side, message.price)).or_default();
            *orders.entry(message.order).or_insert(0) += message.size;
        }
    }
    let first = &record.messages[0];
    if first.kind == Kind::Submitted {
        let orders = named.entry((first.side, first.price)).or_default();
        orders.insert(first.order, first.size);
    }
    named
}

fn side_letter(side: Side) -> char {
    match side {
        Side::Buy => 'b',
        Side::Sell => 's',
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{INITIAL, MESSAGES, TOPS};
    use super::*;

    /// Requests as short texts: `+name size`, `=name quantity`, `-name`, `!price size`.
    fn shown(requests: &[Request]) -> Vec<String> {
        let show = |request: &Request| match request {
            Request::Place { name, size } => format!("+{name} {size}"),
            Request::Reduce { name, quantity } => format!("={name} {quantity}"),
            Request::Cancel { name } => format!("-{name}"),
            Request::Take { price, size, .. } => format!("!{price} {size}"),
        };
        requests.iter().map(show).collect()
    }

    #[track_caller]
    fn check(messages: &str, initial: &str, wanted: &[&[&str]]) {
        let tops = "9999999999,0,-9999999999,0\n".repeat(messages.lines().count());
        let record = Record::parse(messages, &tops, initial, 50).unwrap();
        let (mut queues, requests) = Queues::new(&record);
        assert_eq!(shown(&requests), wanted[0], "initial book");
        for (row, message) in record.messages.iter().enumerate().skip(1) {
            let mut requests = Vec::new();
            queues.apply(message, &mut requests);
            assert_eq!(shown(&requests), wanted[row], "row {row}");
        }
    }

    #[test]
    fn each_order_is_placed_reduced_executed_and_cancelled() {
        assert_eq!(MESSAGES.lines().count(), TOPS.lines().count());
        check(
            MESSAGES,
            INITIAL,
            &[
                &["+7-s-5859400-0 30", "+100-b-5853300-0 18"],
                &["+101-b-5853300-0 20"],
                &["=101-b-5853300-0 15"],
                &["!5853300 10"],
                &[],
                &["-7-s-5859400-0"],
            ],
        );
    }

    #[test]
    fn unnamed_orders_take_what_is_unknown() {
        let messages = "1,1,100,5,20,-1\n2,3,900,4,10,1\n3,4,901,3,10,1\n4,3,902,9,10,1\n5,3,903,9,10,1\n";
        check(
            messages,
            "20,5,10,12\n",
            &[
                &["+100-s-20-0 5", "+initial-b-10 12"],
                &["=initial-b-10 8"],
                &["!10 3"],
                &["-initial-b-10"],
                &[],
            ],
        );
    }

    #[test]
    fn an_older_order_goes_before_younger_ones() {
        let messages = "1,1,100,5,21,-1\n2,1,110,6,20,-1\n3,1,50,7,20,-1\n4,1,105,8,20,-1\n";
        check(
            messages,
            "20,7,-9999999999,0,21,5,-9999999999,0\n",
            &[
                &["+initial-s-20 7", "+100-s-21-0 5"],
                &["+110-s-20-0 6"],
                &["-110-s-20-0", "+50-s-20-0 7", "+110-s-20-1 6"],
                &["+105-s-20-0 8"],
            ],
        );
    }

    #[test]
    fn sums_stay_equal_when_the_record_skips_the_queue() {
        // 101 is in front, but the record executes 102: 101 is hit, and 102 keeps three shares for it.
        let messages =
            "1,1,100,5,20,-1\n2,1,101,6,10,1\n3,1,102,4,10,1\n4,4,102,3,10,1\n5,3,101,6,10,1\n6,4,102,1,10,1\n";
        check(
            messages,
            "20,5,-9999999999,0\n",
            &[
                &["+100-s-20-0 5"],
                &["+101-b-10-0 6"],
                &["+102-b-10-0 4"],
                &["!10 3"],
                &["-101-b-10-0", "=102-b-10-0 1"],
                &["!10 1"],
            ],
        );
    }
}
