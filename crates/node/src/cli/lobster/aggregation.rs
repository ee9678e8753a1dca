//! The plain aggregation: sums of sizes by price, without orders, queues or ids. What the node's book is measured by.

use std::collections::BTreeMap;

use types::Side;

use super::record::{InitialBook, Kind, Level, Message, Top};

/// Sums of sizes by price. A level whose sum is used up is gone, even if the record takes more than was there.
#[derive(Clone, Debug, Default)]
pub struct Aggregation {
    asks: BTreeMap<i64, i64>,
    bids: BTreeMap<i64, i64>,
}

impl Aggregation {
    /// The sums at the start.
    pub fn new(initial: &InitialBook) -> Self {
        let sums = |levels: &[Level]| levels.iter().map(|level| (level.price, level.size)).collect();
        Self {
            asks: sums(&initial.asks),
            bids: sums(&initial.bids),
        }
    }

    /// Adds or subtracts what a message says.
    pub fn apply(&mut self, message: &Message) {
        let change = match message.kind {
            Kind::Submitted => message.size,
            Kind::Reduced | Kind::Deleted | Kind::Executed => -message.size,
            Kind::Invisible => return,
        };
        let sums = match message.side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        let sum = sums.entry(message.price).or_insert(0);
        *sum += change;
        if *sum <= 0 {
            sums.remove(&message.price);
        }
    }

    /// The best level of each side.
    pub fn top(&self) -> Top {
        let level = |(price, size): (&i64, &i64)| Level {
            price: *price,
            size: *size,
        };
        Top {
            ask: self.asks.first_key_value().map(level),
            bid: self.bids.last_key_value().map(level),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Record;
    use super::super::record::tests::{INITIAL, MESSAGES, TOPS};
    use super::*;

    #[test]
    fn sums_agree_with_the_record() {
        let record = Record::parse(MESSAGES, TOPS, INITIAL, 50).unwrap();
        let mut aggregation = Aggregation::new(&record.initial);
        assert_eq!(aggregation.top(), record.tops[0]);
        for (row, message) in record.messages.iter().enumerate().skip(1) {
            aggregation.apply(message);
            assert_eq!(aggregation.top(), record.tops[row], "row {row}");
        }
    }

    #[test]
    fn a_level_that_is_overdrawn_is_gone() {
        let mut aggregation = Aggregation::default();
        let message = |kind, size| Message {
            at_ns: 0,
            kind,
            order: 1,
            size,
            price: 10,
            side: Side::Buy,
        };
        aggregation.apply(&message(Kind::Deleted, 5));
        aggregation.apply(&message(Kind::Submitted, 3));
        aggregation.apply(&message(Kind::Deleted, 4));
        aggregation.apply(&message(Kind::Submitted, 2));
        assert_eq!(aggregation.top().bid, Some(Level { price: 10, size: 2 }));
    }
}
