//! What clients ask for: seeded, so that a run asks the same again.

use harness::SYMBOL;
use powerloss::Random;
use wire::json::{
    CancelItem, DecimalText, NewOrder, OrderType, ReplaceItem, SelfTradePrevention, Side, TimeInForce, TimeText,
};

use crate::history::Asked;

/// Cents around which prices are.
const MIDDLE_CENTS: i64 = 10_000;
/// How many of its own orders a session remembers.
const REMEMBERED_MAX: usize = 64;

/// The requests of one session of a client.
#[derive(Clone, Debug)]
pub struct Load {
    random: Random,
    prefix: String,
    valid_until: TimeText,
    count: u64,
    placed: Vec<String>,
}

impl Load {
    /// Requests whose ids start with `prefix`, which no other session has. They are void after `valid_until`.
    pub fn new(seed: u64, prefix: String, valid_until: TimeText) -> Self {
        Self {
            random: Random::new(seed),
            prefix,
            valid_until,
            count: 0,
            placed: Vec::new(),
        }
    }

    /// The next request: mostly orders around the middle that rest or trade, and changes and cancels of earlier ones,
    /// whatever became of them.
    pub fn request(&mut self) -> Asked {
        self.count += 1;
        let id = format!("{}-{}", self.prefix, self.count);
        match self.random.below(100) {
            0..=11 if !self.placed.is_empty() => Asked::Replace(self.replace(id)),
            12..=27 if !self.placed.is_empty() => Asked::Cancel(self.cancel(id)),
            // Of an order that was never placed: burns its id.
            28 => Asked::Cancel(self.cancel_of(id.clone(), format!("{id}-never"))),
            _ => Asked::Place(self.place(id)),
        }
    }

    fn place(&mut self, id: String) -> NewOrder {
        if self.placed.len() == REMEMBERED_MAX {
            self.placed.remove(0);
        }
        self.placed.push(id.clone());
        let side = if self.random.percent(50) { Side::Buy } else { Side::Sell };
        let (order_type, time_in_force, post_only) = match self.random.below(20) {
            0..=11 => (OrderType::Limit, TimeInForce::Gtc, false),
            12..=14 => (OrderType::Limit, TimeInForce::Ioc, false),
            15 => (OrderType::Limit, TimeInForce::Fok, false),
            16 | 17 => (OrderType::Limit, TimeInForce::Gtc, true),
            18 => (OrderType::Limit, TimeInForce::Day, false),
            _ => (OrderType::Market, TimeInForce::Ioc, false),
        };
        let self_trade_prevention = match self.random.below(4) {
            0 => Some(SelfTradePrevention::CancelOldest),
            1 => Some(SelfTradePrevention::CancelBoth),
            2 => Some(SelfTradePrevention::CancelNewest),
            _ => None,
        };
        NewOrder {
            client_order_id: id,
            symbol: SYMBOL.to_owned(),
            side,
            order_type,
            time_in_force: Some(time_in_force),
            expires_at: None,
            price: (order_type == OrderType::Limit).then(|| self.price(side)),
            quantity: self.quantity(),
            post_only,
            self_trade_prevention,
            valid_until: Some(self.valid_until.clone()),
            validate_only: false,
        }
    }

    fn replace(&mut self, request_id: String) -> ReplaceItem {
        let order = self.earlier();
        let both = self.random.below(3);
        let side = if self.random.percent(50) { Side::Buy } else { Side::Sell };
        ReplaceItem {
            request_id,
            order_id: None,
            client_order_id: Some(order),
            symbol: Some(SYMBOL.to_owned()),
            price: (both != 0).then(|| self.price(side)),
            quantity: (both != 1).then(|| self.quantity()),
            post_only: None,
            valid_until: Some(self.valid_until.clone()),
        }
    }

    fn cancel(&mut self, request_id: String) -> CancelItem {
        let order = self.earlier();
        self.cancel_of(request_id, order)
    }

    fn cancel_of(&self, request_id: String, order: String) -> CancelItem {
        CancelItem {
            request_id,
            order_id: None,
            client_order_id: Some(order),
            valid_until: Some(self.valid_until.clone()),
        }
    }

    /// One of the last orders, the newest the likeliest: it may still be under way.
    fn earlier(&mut self) -> String {
        let back = self
            .random
            .below(self.placed.len())
            .min(self.random.below(self.placed.len()));
        self.placed[self.placed.len() - 1 - back].clone()
    }

    /// Buyers mostly a little below the middle, sellers above, so that some cross.
    fn price(&mut self, side: Side) -> DecimalText {
        let away = self.random.below(12) as i64 - 3;
        let cents = match side {
            Side::Buy => MIDDLE_CENTS - away,
            Side::Sell => MIDDLE_CENTS + away,
        };
        DecimalText(format!("{}.{:02}", cents / 100, cents % 100))
    }

    fn quantity(&mut self) -> DecimalText {
        let tenths = match self.random.below(50) {
            // More than the account can pay for.
            0 => 9_000_000,
            _ => 1 + self.random.below(40),
        };
        DecimalText(format!("{}.{}", tenths / 10, tenths % 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_asks_the_same_and_ids_are_distinct() {
        let load = || Load::new(7, "r1-a".to_owned(), TimeText("9".to_owned()));
        let (mut one, mut other) = (load(), load());
        let mut ids = std::collections::BTreeSet::new();
        let mut kinds = [0; 3];
        for _ in 0..1000 {
            let asked = one.request();
            assert_eq!(asked, other.request());
            assert!(ids.insert(asked.request_id().to_owned()));
            assert!(asked.request_id().parse::<types::RequestId>().is_ok());
            kinds[match asked {
                Asked::Place(_) => 0,
                Asked::Replace(_) => 1,
                Asked::Cancel(_) => 2,
            }] += 1;
        }
        assert!(kinds.iter().all(|count| *count > 50), "{kinds:?}");
    }
}
