//! The whole state as plain data.
//!
//! Only what can't be worked out again is kept: indexes, chains, deadlines and hashes are rebuilt, and what is rebuilt is
//! checked. The engine version stands beside it, as [`types::StateMachine::restore`] says. Two exchanges of the same state make the same snapshot, however each came there.

use serde::{Deserialize, Serialize};
use types::{
    AccountStatus, Asset, Balance, EngineVersion, Instrument, Key, OrderStatus, OrderType, Position, Price, Rules,
    Sequence, Side, StateMachine, Timestamp,
};

use crate::book::Book;
use crate::exchange::{ENGINE_VERSION, Exchange, rules_item};
use crate::ledger::Cell;
use crate::memory::{Entry, MemoryState, Outcome, RequestMemory};
use crate::operating;
use crate::orders::{OrderRecord, OrderSnapshot};

/// The whole state of an exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    position: Position,
    now: Timestamp,
    rules: Rules,
    assets: Vec<Asset>,
    instruments: Vec<InstrumentSnapshot>,
    accounts: Vec<AccountSnapshot>,
    keys: Vec<Key>,
    balances: Vec<Balance>,
    /// Instrument by instrument, bids before asks, each in priority order.
    orders: Vec<OrderSnapshot>,
    memory: MemoryState,
    requests: Vec<Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct InstrumentSnapshot {
    info: Instrument,
    last_price: Price,
    purging: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct AccountSnapshot {
    status: AccountStatus,
    cancel_after: Timestamp,
}

impl Snapshot {
    /// The position of the last command that is in it.
    pub fn position(&self) -> Position {
        self.position
    }

    pub(crate) fn of<B: Book>(exchange: &Exchange<B>) -> Self {
        let accounts = exchange.accounts.iter().map(|(_, record)| AccountSnapshot {
            status: record.status,
            cancel_after: record.cancel_after,
        });
        let instruments = exchange.instruments.iter().map(|listing| InstrumentSnapshot {
            info: listing.info,
            last_price: listing.last_price,
            purging: listing.purging,
        });
        let mut orders = Vec::with_capacity(exchange.orders.len());
        for listing in &exchange.instruments {
            for side in [Side::Buy, Side::Sell] {
                let resting = listing.book.orders(side);
                orders.extend(resting.map(|(_, resting)| exchange.orders.get(resting.key.0).to_snapshot()));
            }
        }
        Self {
            position: exchange.position,
            now: exchange.now,
            rules: exchange.rules,
            assets: exchange.assets.clone(),
            instruments: instruments.collect(),
            accounts: accounts.collect(),
            keys: exchange.keys.iter().cloned().collect(),
            balances: exchange.ledger.balances(),
            orders,
            memory: exchange.memory.state(),
            requests: exchange.memory.entries().copied().collect(),
        }
    }

    pub(crate) fn restore<B: Book>(self, engine_version: EngineVersion) -> Result<Exchange<B>, String> {
        if !(EngineVersion::FIRST..=ENGINE_VERSION).contains(&engine_version) {
            return Err(format!(
                "engine version {engine_version} is not one that this program knows"
            ));
        }
        if !operating::is_valid(&self.rules) {
            return Err("the rules are not valid".into());
        }
        let mut exchange = Exchange::<B> {
            position: self.position,
            now: self.now,
            engine_version,
            ..Exchange::default()
        };
        exchange.sum.remove(rules_item(&exchange.rules));
        exchange.rules = self.rules;
        exchange.sum.add(rules_item(&exchange.rules));
        let (bytes_max, window_ns) = (self.rules.request_memory_bytes_max, self.rules.request_window_ns);
        exchange.memory = RequestMemory::restore(bytes_max, window_ns, self.memory, &self.requests)?;
        for (asset, id) in self.assets.into_iter().zip(0_u16..) {
            if asset.id.0 != id {
                return Err(format!("asset {} stands at place {id}", asset.id));
            }
            exchange.add_asset(asset);
        }
        exchange.restore_accounts(&self.accounts, self.keys)?;
        for (listing, id) in self.instruments.into_iter().zip(0..) {
            let symbol = listing.info.symbol;
            if listing.info.id.0 != id {
                return Err(format!("instrument {symbol} stands at place {id}"));
            }
            let added = exchange.add_instrument(listing.info, listing.last_price, listing.purging);
            added.map_err(|reason| format!("instrument {symbol}: {}", reason.sentence()))?;
            if listing.purging {
                exchange.deadlines.start_purge(listing.info.id);
            }
        }
        for balance in &self.balances {
            if exchange.accounts.get(balance.account).is_none() {
                return Err(format!("the balance {balance:?} is of an unknown account"));
            }
            exchange.ledger.restore(balance)?;
        }
        exchange.restore_orders(self.orders)?;
        if exchange.state_hash() != exchange.recompute_state_hash() {
            return Err("the state that was rebuilt does not have the hash of its parts".into());
        }
        Ok(exchange)
    }
}

impl<B: Book> Exchange<B> {
    fn restore_accounts(&mut self, accounts: &[AccountSnapshot], keys: Vec<Key>) -> Result<(), String> {
        let built_in = self.accounts.len();
        if accounts.len() < built_in {
            return Err("the built-in accounts are missing".into());
        }
        for (index, account) in accounts.iter().enumerate() {
            if index < built_in {
                continue;
            }
            let id = self.accounts.add(account.status, account.cancel_after);
            if account.cancel_after != Timestamp::FAR_FUTURE {
                self.deadlines
                    .move_account(id, Timestamp::FAR_FUTURE, account.cancel_after);
            }
        }
        for (key, id) in keys.into_iter().zip(1..) {
            if key.id.0 != id || self.accounts.get(key.account).is_none() {
                return Err(format!(
                    "key {} stands at place {id}, or its account is unknown",
                    key.id
                ));
            }
            self.add_key(key);
        }
        Ok(())
    }

    /// Chains follow the order of placing, queues the order of priority.
    fn restore_orders(&mut self, orders: Vec<OrderSnapshot>) -> Result<(), String> {
        let mut by_placing: Vec<usize> = (0..orders.len()).collect();
        by_placing.sort_unstable_by_key(|index| orders[*index].order.order_id);
        let mut slots = vec![0; orders.len()];
        for index in by_placing {
            slots[index] = self.restore_order(&orders[index])?;
        }
        let mut last: Option<(u32, Side, Price, Sequence)> = None;
        for (snapshot, slot) in orders.iter().zip(slots) {
            let order = &snapshot.order;
            let this = (order.instrument.0, order.side, order.price, snapshot.priority);
            let in_order = last.is_none_or(|last| {
                let better = match order.side {
                    Side::Buy => last.2 > this.2,
                    Side::Sell => last.2 < this.2,
                };
                let queue = (last.0, last.1) == (this.0, this.1);
                if queue {
                    better || (last.2 == this.2 && last.3 < this.3)
                } else {
                    (last.0, last.1) < (this.0, this.1)
                }
            });
            if !in_order {
                return Err(format!("order {} is out of its place in the queue", order.order_id));
            }
            last = Some(this);
            self.join_book(slot);
        }
        Ok(())
    }

    fn restore_order(&mut self, snapshot: &OrderSnapshot) -> Result<u32, String> {
        let order = &snapshot.order;
        let wrong = |what: &str| format!("order {}: {what}", order.order_id);
        let listing = self
            .instruments
            .get(order.instrument.0 as usize)
            .ok_or(wrong("unknown instrument"))?;
        let info = &listing.info;
        let well_formed = order.status == OrderStatus::Open
            && order.order_type == OrderType::Limit
            && order.filled.0 >= 0
            && order.quantity > order.filled
            && order.price.0 >= 1
            && self.accounts.get(order.account).is_some()
            && self.orders.find_sequence(order.order_id.0.sequence).is_none();
        if !well_formed {
            return Err(wrong("it can't rest like this"));
        }
        let (base, quote) = (info.base, info.quote);
        let cell = |asset| self.ledger.find(order.account, asset).unwrap_or(Cell::NONE);
        let held = cell(match order.side {
            Side::Buy => quote,
            Side::Sell => base,
        });
        if held == Cell::NONE || self.ledger.balance(held).held.0 < snapshot.hold {
            return Err(wrong("its account does not hold what it needs"));
        }
        let base = self.ledger.open(order.account, base);
        let quote = self.ledger.open(order.account, quote);
        let record = OrderRecord::from_snapshot(snapshot, base, quote);
        if record.hold != self.hold_of(&record) {
            return Err(wrong("what it holds is not what it needs"));
        }
        let slot = self.orders.insert(&record, self.accounts.record(order.account));
        if record.deadline != Timestamp::FAR_FUTURE {
            self.deadlines.add_order(record.deadline, record.order_id.0.sequence);
        }
        let request = self.memory.request(order.account, &order.client_order_id);
        let remembered = self
            .memory
            .find(request)
            .is_some_and(|entry| entry.outcome == Outcome::Placed && entry.sequence == order.order_id.0.sequence);
        if remembered == snapshot.outlived {
            return Err(wrong("the memory of requests disagrees on it"));
        }
        if snapshot.outlived {
            self.orders
                .restore_outlived(slot, crate::exchange::client_order(request));
        }
        Ok(slot)
    }
}
