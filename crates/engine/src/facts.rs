//! The present state, told as events, so that a follower that starts from a snapshot needs no other code than the one that
//! follows events.

use types::{Event, OrderStatus, Side, Timestamp};

use crate::book::Book;
use crate::exchange::Exchange;

impl<B: Book> Exchange<B> {
    /// Appends the present state as events, in an order in which each builds on earlier ones: limits, the engine version, assets, instruments,
    /// accounts with their keys and dead man's switches, balances that are not zero, and the open orders of each
    /// instrument: bids, then asks, each in priority order, with what was filled so far.
    pub fn facts(&self, events: &mut Vec<Event>) {
        events.push(Event::RulesChanged(self.rules));
        events.push(Event::EngineVersionChanged(self.engine_version));
        events.extend(self.assets.iter().map(|asset| Event::AssetCreated(*asset)));
        events.extend(
            self.instruments
                .iter()
                .map(|listing| Event::InstrumentChanged(listing.info)),
        );
        events.extend(self.accounts.iter().map(|(account, _)| Event::AccountChanged(account)));
        events.extend(self.keys.iter().map(|key| Event::KeyChanged(key.clone())));
        for (account, record) in self.accounts.iter() {
            if record.cancel_after != Timestamp::FAR_FUTURE {
                events.push(Event::CancelAfterSet {
                    account: account.id,
                    deadline: Some(record.cancel_after),
                });
            }
        }
        let reason = types::BalanceReason::Order;
        let balances = self.ledger.balances().into_iter();
        events.extend(balances.map(|balance| Event::BalanceChanged { balance, reason }));
        for listing in &self.instruments {
            for side in [Side::Buy, Side::Sell] {
                let orders = listing.book.orders(side);
                let orders = orders.map(|(_, resting)| self.orders.get(resting.key.0).as_order(OrderStatus::Open));
                events.extend(orders.map(Event::OrderPlaced));
            }
        }
    }
}
