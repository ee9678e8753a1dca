//! The details of open orders: a slab of records, found by order id, and chained by account in the order of placing.
//!
//! A record's place in the slab (its *slot*) is what the book calls the order ([`OrderKey`]). Slots are reused; nothing
//! that a client or another node sees depends on them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{
    AccountId, Amount, FeeRate, InstrumentId, Order, OrderId, OrderStatus, OrderType, Price, Quantity, RequestId,
    SelfTradePrevention, Sequence, Side, TimeInForce, Timestamp,
};

use crate::accounts::{AccountRecord, NIL};
use crate::book::OrderHandle;
use crate::fees::Rates;
use crate::flat_index::FlatIndex;
use crate::hash::{self, Kind, Mixer, Sum};
use crate::instruments::Scale;
use crate::ledger::Cell;
use crate::placing::bounded;
use crate::prefetch::{prefetch, prefetch_all};
use crate::request;

/// An open order, or one that is being matched. What changes at a fill comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OrderRecord {
    pub(crate) quantity: i64,
    pub(crate) filled: i64,
    pub(crate) filled_notional: i64,
    /// The part of `filled_notional` that it filled as a taker.
    pub(crate) taken_notional: i64,
    pub(crate) fee: i64,
    /// What it holds of its balance: quote if it buys, base if it sells.
    pub(crate) hold: i64,
    /// The hash of what never changes.
    pub(crate) identity: u64,
    /// Its part of the state's hash, once it is in the slab.
    pub(crate) item: u64,
    /// The sequence of the command that gave it its place in the queue.
    pub(crate) priority: Sequence,
    pub(crate) price: Price,
    pub(crate) order_id: OrderId,
    /// When it expires; [`Timestamp::FAR_FUTURE`] if it doesn't.
    pub(crate) deadline: Timestamp,
    pub(crate) rates: Rates,
    pub(crate) base: Cell,
    pub(crate) quote: Cell,
    pub(crate) account: AccountId,
    pub(crate) instrument: InstrumentId,
    pub(crate) handle: OrderHandle,
    pub(crate) side: Side,
    pub(crate) order_type: OrderType,
    pub(crate) self_trade_prevention: SelfTradePrevention,
    pub(crate) post_only: bool,
    /// True if the memory of requests has forgotten the command that placed it.
    pub(crate) outlived: bool,
    pub(crate) time_in_force: TimeInForce,
    pub(crate) placed_at: Timestamp,
    pub(crate) client_order_id: RequestId,
}

/// All open orders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    records: Vec<OrderRecord>,
    /// The neighbours of each record in its account's chain.
    links: Vec<Link>,
    free: Vec<u32>,
    by_sequence: FlatIndex,
    /// Those whose placing the memory of requests has forgotten, by the hash of account and client order id.
    outlived: BTreeMap<u128, u32>,
    sum: Sum,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

/// An open order in a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderSnapshot {
    pub(crate) order: Order,
    pub(crate) taken_notional: i64,
    pub(crate) hold: i64,
    pub(crate) priority: Sequence,
    pub(crate) deadline: Timestamp,
    pub(crate) maker_rate: FeeRate,
    pub(crate) taker_rate: FeeRate,
    pub(crate) outlived: bool,
}

impl OrderRecord {
    #[inline]
    pub(crate) fn remaining(&self) -> i64 {
        self.quantity - self.filled
    }

    /// The order as others see it.
    #[inline(always)]
    pub(crate) fn as_order(&self, status: OrderStatus) -> Order {
        Order {
            order_id: self.order_id,
            account: self.account,
            client_order_id: self.client_order_id,
            instrument: self.instrument,
            side: self.side,
            order_type: self.order_type,
            time_in_force: self.time_in_force,
            price: self.price,
            quantity: Quantity(self.quantity),
            filled: Quantity(self.filled),
            filled_notional: Amount(self.filled_notional),
            fee: Amount(self.fee),
            post_only: self.post_only,
            self_trade_prevention: self.self_trade_prevention,
            status,
            placed_at: self.placed_at,
        }
    }

    /// What it holds while it rests.
    #[inline]
    pub(crate) fn hold_at(&self, scale: Scale) -> i64 {
        match self.side {
            Side::Sell => self.remaining() * scale.base_per_lot,
            Side::Buy => {
                let remaining = bounded(scale.notional(self.price, self.remaining()));
                let made = self.filled_notional - self.taken_notional;
                self.rates.hold(self.taken_notional, made, remaining, self.fee)
            }
        }
    }

    /// The balance that it holds of.
    #[inline]
    pub(crate) fn held_cell(&self) -> Cell {
        match self.side {
            Side::Buy => self.quote,
            Side::Sell => self.base,
        }
    }

    /// The hash of what never changes; to be called once, when all of that is set.
    pub(crate) fn identity_hash(&self) -> u64 {
        let position = self.order_id.0;
        let small = request::time_in_force(self.time_in_force)
            | (self.side as u64) << 4
            | (self.order_type as u64) << 8
            | (self.self_trade_prevention as u64) << 12
            | u64::from(position.group.0) << 16;
        let both = |upper: u32, lower: u32| u64::from(upper) << 32 | u64::from(lower);
        let rates = both(self.rates.maker.0 as u32, self.rates.taker.0 as u32);
        let mut mixer = Mixer::new(Kind::Order);
        mixer
            .pair(position.sequence.0, both(position.epoch.0, self.account.0))
            .pair(small << 32 | u64::from(self.instrument.0), rates)
            .pair(self.deadline.0, self.placed_at.0)
            .request_id(&self.client_order_id);
        if let TimeInForce::Gtd(until) = self.time_in_force {
            mixer.word(until.0);
        }
        mixer.finish()
    }

    #[inline]
    fn find_item(&self) -> u64 {
        let flags = u64::from(self.post_only) | u64::from(self.outlived) << 1;
        hash::item(
            Kind::Order,
            [
                self.identity,
                flags,
                self.quantity as u64,
                self.filled as u64,
                (self.filled_notional as u64) ^ (self.taken_notional as u64).rotate_left(32),
                (self.fee as u64) ^ (self.hold as u64).rotate_left(32),
                self.priority.0,
                self.price.0 as u64,
            ],
        )
    }

    /// The same, with nothing taken on trust.
    pub(crate) fn recomputed_item(&self) -> u64 {
        let mut record = *self;
        record.identity = record.identity_hash();
        record.find_item()
    }

    pub(crate) fn to_snapshot(self) -> OrderSnapshot {
        OrderSnapshot {
            order: self.as_order(OrderStatus::Open),
            taken_notional: self.taken_notional,
            hold: self.hold,
            priority: self.priority,
            deadline: self.deadline,
            maker_rate: self.rates.maker,
            taker_rate: self.rates.taker,
            outlived: self.outlived,
        }
    }

    pub(crate) fn from_snapshot(snapshot: &OrderSnapshot, base: Cell, quote: Cell) -> Self {
        let order = &snapshot.order;
        let mut record = Self {
            quantity: order.quantity.0,
            filled: order.filled.0,
            filled_notional: order.filled_notional.0,
            taken_notional: snapshot.taken_notional,
            fee: order.fee.0,
            hold: snapshot.hold,
            identity: 0,
            item: 0,
            priority: snapshot.priority,
            price: order.price,
            order_id: order.order_id,
            deadline: snapshot.deadline,
            rates: Rates {
                maker: snapshot.maker_rate,
                taker: snapshot.taker_rate,
            },
            base,
            quote,
            account: order.account,
            instrument: order.instrument,
            handle: OrderHandle::default(),
            side: order.side,
            order_type: order.order_type,
            self_trade_prevention: order.self_trade_prevention,
            post_only: order.post_only,
            outlived: snapshot.outlived,
            time_in_force: order.time_in_force,
            placed_at: order.placed_at,
            client_order_id: order.client_order_id,
        };
        record.identity = record.identity_hash();
        record
    }
}

impl Orders {
    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.records.len() - self.free.len()
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &OrderRecord {
        &self.records[slot as usize]
    }

    /// The open order of this id.
    #[inline]
    pub(crate) fn find(&self, order_id: OrderId) -> Option<u32> {
        let slot = self.find_sequence(order_id.0.sequence)?;
        (self.get(slot).order_id == order_id).then_some(slot)
    }

    #[inline]
    pub(crate) fn find_sequence(&self, sequence: Sequence) -> Option<u32> {
        let is_it = |slot: u32| self.records[slot as usize].order_id.0.sequence == sequence;
        self.by_sequence.find(sequence_hash(sequence), is_it)
    }

    /// Asks for the memory by which an order is found.
    #[inline]
    pub(crate) fn prefetch_index(&self, sequence: Sequence) {
        self.by_sequence.prefetch(sequence_hash(sequence));
    }

    /// Asks for the memory of what is probably this order, and tells its slot.
    #[inline]
    pub(crate) fn prefetch(&self, sequence: Sequence) -> Option<u32> {
        let slot = self.by_sequence.peek(sequence_hash(sequence))?;
        self.prefetch_record(slot);
        self.prefetch_link(slot);
        Some(slot)
    }

    /// Asks for the memory of a slot's record.
    #[inline]
    pub(crate) fn prefetch_record(&self, slot: u32) {
        prefetch_all(&self.records, slot as usize);
    }

    /// Asks for the memory of a slot's neighbours in its account's chain, which must have been read from its link.
    #[inline]
    pub(crate) fn prefetch_neighbours(&self, slot: u32) {
        if let Some(link) = self.links.get(slot as usize) {
            self.prefetch_link(link.before);
            self.prefetch_link(link.after);
        }
    }

    /// Asks for the memory of a slot's place in the chain.
    #[inline]
    pub(crate) fn prefetch_link(&self, slot: u32) {
        prefetch(&self.links, slot as usize);
    }

    /// Asks for the memory of a slot that is soon taken.
    #[inline]
    pub(crate) fn prefetch_free(&self) {
        if let Some(slot) = self.free.iter().rev().nth(3) {
            self.prefetch_record(*slot);
            self.prefetch_link(*slot);
        }
    }

    /// The record of a slot that may be gone.
    #[inline]
    pub(crate) fn peek(&self, slot: u32) -> Option<&OrderRecord> {
        self.records.get(slot as usize)
    }

    /// The open order whose client order id the memory of requests has forgotten.
    pub(crate) fn find_outlived(&self, client_order: u128) -> Option<u32> {
        self.outlived.get(&client_order).copied()
    }

    /// From now on the order is found by its client order id here.
    pub(crate) fn outlive(&mut self, slot: u32, client_order: u128) {
        self.change(slot, |record| record.outlived = true);
        self.outlived.insert(client_order, slot);
    }

    /// Finds an order of a snapshot by its client order id.
    pub(crate) fn restore_outlived(&mut self, slot: u32, client_order: u128) {
        self.outlived.insert(client_order, slot);
    }

    /// Takes in an order and puts it last in its account's chain. The caller tells the book, and sets the handle.
    pub(crate) fn insert(&mut self, record: &OrderRecord, account: &mut AccountRecord) -> u32 {
        let link = Link {
            before: account.last,
            after: NIL,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.records[slot as usize] = *record;
                self.links[slot as usize] = link;
                slot
            }
            None => {
                self.records.push(*record);
                self.links.push(link);
                u32::try_from(self.records.len() - 1).expect("open orders are bounded")
            }
        };
        let record = &mut self.records[slot as usize];
        record.item = record.find_item();
        self.sum.add(record.item);
        match account.last {
            NIL => account.first = slot,
            last => self.links[last as usize].after = slot,
        }
        account.last = slot;
        account.open_orders += 1;
        self.by_sequence
            .insert_sparsely(sequence_hash(record.order_id.0.sequence), slot);
        slot
    }

    /// Changes a record and the hash with it.
    #[inline]
    pub(crate) fn change(&mut self, slot: u32, change: impl FnOnce(&mut OrderRecord)) -> &OrderRecord {
        let record = &mut self.records[slot as usize];
        self.sum.remove(record.item);
        change(record);
        record.item = record.find_item();
        self.sum.add(record.item);
        record
    }

    /// Notes what the book calls it, which is no part of the state.
    #[inline]
    pub(crate) fn set_handle(&mut self, slot: u32, handle: OrderHandle) {
        self.records[slot as usize].handle = handle;
    }

    /// Forgets an order that has left the book. `client_order` hashes its account and client order id, if asked for.
    pub(crate) fn remove(
        &mut self,
        slot: u32,
        account: &mut AccountRecord,
        client_order: impl FnOnce(&OrderRecord) -> u128,
    ) {
        let record = &self.records[slot as usize];
        self.sum.remove(record.item);
        if record.outlived {
            self.outlived.remove(&client_order(record));
        }
        let Link { before, after } = self.links[slot as usize];
        match before {
            NIL => account.first = after,
            before => self.links[before as usize].after = after,
        }
        match after {
            NIL => account.last = before,
            after => self.links[after as usize].before = before,
        }
        account.open_orders -= 1;
        let sequence = record.order_id.0.sequence;
        self.by_sequence.remove(sequence_hash(sequence), slot);
        self.free.push(slot);
    }

    /// The order that its account placed next.
    pub(crate) fn after(&self, slot: u32) -> Option<u32> {
        match self.links[slot as usize].after {
            NIL => None,
            after => Some(after),
        }
    }

    /// The open orders of an account, in the order of placing.
    pub(crate) fn of_account(&self, account: &AccountRecord) -> impl Iterator<Item = u32> + '_ {
        let first = (account.first != NIL).then_some(account.first);
        std::iter::successors(first, |slot| self.after(*slot))
    }

    pub(crate) fn hash(&self) -> u64 {
        self.sum.0
    }
}

/// Orders placed one after the other fall into the same line of the index, in which they will also be closed.
#[inline]
fn sequence_hash(sequence: Sequence) -> u32 {
    let line = hash::fold((sequence.0 >> 3) ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93);
    (line << 3 | sequence.0 & 7) as u32
}
