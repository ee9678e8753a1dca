//! One account: its status, balances and open orders, and where in the log its last events are.

use std::collections::VecDeque;
use std::sync::Mutex;

use types::{Account, AccountId, Balance, Event, Order, OrderStatus, Position, Sequence, Timestamp, Trade};

use super::open_orders::OpenOrders;
use super::wake::Listeners;

/// One of an account's own streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum PrivateStream {
    /// What happened to its orders.
    Orders,
    /// Its fills.
    Fills,
    /// Its balances.
    Balances,
}

impl PrivateStream {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Orders, Self::Fills, Self::Balances];

    /// True if an event belongs to this stream of an account.
    pub fn contains(self, account: AccountId, event: &Event) -> bool {
        match (self, event) {
            (Self::Orders | Self::Fills, Event::Traded(trade)) => is_party(trade, account),
            (
                Self::Orders,
                Event::OrderPlaced(order) | Event::OrderReplaced { order, .. } | Event::OrderClosed { order, .. },
            ) => order.account == account,
            (Self::Balances, Event::BalanceChanged { balance, .. }) => balance.account == account,
            _ => false,
        }
    }

    fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

fn is_party(trade: &Trade, account: AccountId) -> bool {
    trade.maker.account == account || trade.taker.account == account
}

/// One account, shared by the publisher and the readers.
#[derive(Debug, Default)]
pub struct AccountSlot {
    /// What it holds.
    pub(crate) state: Mutex<AccountState>,
    /// Who follows each of its streams, by [`PrivateStream`].
    pub(crate) listeners: [Listeners; 3],
}

/// What is known of an account.
#[derive(Debug, Default)]
pub(crate) struct AccountState {
    /// Its status; none before it was told, as for the fee account.
    pub account: Option<Account>,
    /// By asset.
    pub balances: Vec<Balance>,
    /// Open orders.
    pub orders: OpenOrders,
    /// When its dead man's switch fires.
    pub cancel_after: Option<Timestamp>,
    /// The last command that changed it.
    pub touched: Position,
    /// Where its last events are.
    pub index: EventIndex,
}

impl AccountState {
    /// Applies an event of this account and returns the order that it closed, if it did.
    pub fn apply(&mut self, id: AccountId, event: &Event) -> Option<Order> {
        match event {
            Event::OrderPlaced(order) | Event::OrderReplaced { order, .. } => self.orders.insert(*order),
            Event::Traded(trade) => return self.fill(id, trade),
            Event::OrderClosed { order, .. } => {
                self.orders.remove(order.order_id);
                return Some(*order);
            }
            Event::BalanceChanged { balance, .. } => {
                match self
                    .balances
                    .binary_search_by_key(&balance.asset, |balance| balance.asset)
                {
                    Ok(index) => self.balances[index] = *balance,
                    Err(index) => self.balances.insert(index, *balance),
                }
            }
            Event::CancelAfterSet { deadline, .. } => self.cancel_after = *deadline,
            Event::AccountChanged(account) => self.account = Some(*account),
            _ => {}
        }
        None
    }

    fn fill(&mut self, account: AccountId, trade: &Trade) -> Option<Order> {
        let side = if trade.taker.account == account {
            &trade.taker
        } else {
            &trade.maker
        };
        let order = self.orders.get_mut(side.order_id).expect("only open orders trade");
        add_fill(order, trade, side.fee.0);
        if side.remaining.0 > 0 {
            return None;
        }
        order.status = OrderStatus::Filled;
        self.orders.remove(side.order_id)
    }
}

/// Adds a trade to an order's sums.
pub(crate) fn add_fill(order: &mut Order, trade: &Trade, fee: i64) {
    order.filled.0 += trade.quantity.0;
    order.filled_notional.0 += trade.notional.0;
    order.fee.0 += fee;
}

/// Where in the log an account's last events are, and of which streams they are.
#[derive(Debug, Default)]
pub(crate) struct EventIndex {
    /// Sequence and streams of each command, packed, oldest first.
    entries: VecDeque<u64>,
    /// Every command behind this sequence is in it.
    complete_after: Sequence,
    /// The last command of each stream of which no entry is kept.
    dropped: [Sequence; 3],
}

const STREAM_BITS: u32 = 3;

impl EventIndex {
    /// Adds a command with events of these streams.
    pub fn push(&mut self, sequence: Sequence, streams: StreamSet) {
        self.entries.push_back(sequence.0 << STREAM_BITS | streams.0);
    }

    /// Drops the oldest entry.
    pub fn drop_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else {
            return;
        };
        let sequence = Sequence(entry >> STREAM_BITS);
        self.complete_after = self.complete_after.max(sequence);
        for stream in PrivateStream::ALL {
            if entry & stream.bit() != 0 {
                self.dropped[stream as usize] = sequence;
            }
        }
    }

    /// Says that nothing at or before a sequence is in it.
    pub fn start_after(&mut self, sequence: Sequence) {
        self.complete_after = sequence;
    }

    /// Says that nothing at or before a sequence is in it, unless it is known to start later.
    pub fn raise_start(&mut self, sequence: Sequence) {
        self.complete_after = self.complete_after.max(sequence);
    }

    /// True if every command behind a sequence is in it.
    pub fn reaches(&self, after: Sequence) -> bool {
        after >= self.complete_after
    }

    /// The commands of a stream behind a sequence, oldest first.
    pub fn after(&self, stream: PrivateStream, after: Sequence) -> impl Iterator<Item = Sequence> {
        let index = self.entries.partition_point(|entry| entry >> STREAM_BITS <= after.0);
        let wanted = move |entry: &&u64| **entry & stream.bit() != 0;
        self.entries
            .range(index..)
            .filter(wanted)
            .map(|entry| Sequence(entry >> STREAM_BITS))
    }

    /// The commands of a stream before a sequence, newest first.
    pub fn before(&self, stream: PrivateStream, before: Sequence) -> impl Iterator<Item = Sequence> {
        let index = self.entries.partition_point(|entry| entry >> STREAM_BITS < before.0);
        let wanted = move |entry: &&u64| **entry & stream.bit() != 0;
        self.entries
            .range(..index)
            .rev()
            .filter(wanted)
            .map(|entry| Sequence(entry >> STREAM_BITS))
    }

    /// The last command of a stream at or before a sequence, if it is known.
    pub fn previous(&self, stream: PrivateStream, after: Sequence) -> Option<Sequence> {
        let dropped = Some(self.dropped[stream as usize]).filter(|sequence| sequence.0 > 0 && *sequence <= after);
        self.before(stream, after.next()).next().or(dropped)
    }
}

/// Which of an account's streams a command has events for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamSet(u64);

impl StreamSet {
    /// Adds the streams that an event of this account belongs to.
    pub fn add(&mut self, event: &Event) {
        self.0 |= match event {
            Event::Traded(_) => PrivateStream::Orders.bit() | PrivateStream::Fills.bit(),
            Event::OrderPlaced(_) | Event::OrderReplaced { .. } | Event::OrderClosed { .. } => {
                PrivateStream::Orders.bit()
            }
            Event::BalanceChanged { .. } => PrivateStream::Balances.bit(),
            _ => 0,
        };
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn contains(self, stream: PrivateStream) -> bool {
        self.0 & stream.bit() != 0
    }
}
