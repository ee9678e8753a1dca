//! What is asked of the view.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::{
    Account, AccountId, Balance, CloseReason, Event, FillId, InstrumentId, Key, KeyId, Order, OrderId, OrderTarget,
    Position, Sequence, Side, Timestamp, Trade,
};

use super::account::PrivateStream;
use super::market::{BookSnapshot, TradeRecord};
use super::{ClosedOrder, Reference, View, locked, read};
use crate::handle::HistoryError;
use crate::past::Past;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Up to where everything is in it.
    pub position: Position,
    /// The items.
    pub items: Vec<T>,
    /// True if there are more behind the last one.
    pub more: bool,
}

/// One side's view of a trade of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillRecord {
    /// Its id.
    pub fill_id: FillId,
    /// When it was sequenced.
    pub sequenced_at: Timestamp,
    /// The trade.
    pub trade: Trade,
    /// Which side of the trade it is: true for the maker's.
    pub is_maker: bool,
}

/// A closed order as it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedOrder {
    /// The order.
    pub order: Order,
    /// Why it came to its end, unless it was filled.
    pub close_reason: Option<CloseReason>,
}

/// Why a query was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The event log could not be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl View {
    /// Assets, instruments and rules.
    pub fn reference(&self) -> Arc<Reference> {
        self.reference.load_full()
    }

    /// The assets, instruments and rules of now, for a moment: it keeps what it shows from being let go.
    pub(crate) fn reference_now(&self) -> arc_swap::Guard<Arc<Reference>> {
        self.reference.load()
    }

    /// The key of an id, active or revoked.
    pub fn key(&self, id: KeyId) -> Option<Arc<Key>> {
        read(&self.keys).get(&id).cloned()
    }

    /// Keys behind `after`, by id.
    pub fn keys(&self, after: Option<KeyId>, limit: usize) -> Page<Arc<Key>> {
        let position = self.position();
        let from = after.map_or(0, |id| id.0.saturating_add(1));
        let keys = read(&self.keys);
        let mut items: Vec<_> = keys
            .range(KeyId(from)..)
            .take(limit + 1)
            .map(|(_, key)| Arc::clone(key))
            .collect();
        let more = items.len() > limit;
        items.truncate(limit);
        Page { position, items, more }
    }

    /// An account and its status.
    pub fn account(&self, id: AccountId) -> Option<Account> {
        locked(&self.account_slot(id)?.state).account
    }

    /// Accounts behind `after`, by id.
    pub fn accounts(&self, after: Option<AccountId>, limit: usize) -> Page<Account> {
        let position = self.position();
        let from = after.map_or(0, |id| id.0 as usize + 1);
        let accounts = read(&self.accounts);
        let rest = accounts.get(from..).unwrap_or_default();
        let mut items: Vec<_> = rest
            .iter()
            .filter_map(|slot| locked(&slot.state).account)
            .take(limit + 1)
            .collect();
        let more = items.len() > limit;
        items.truncate(limit);
        Page { position, items, more }
    }

    /// An account's balances, by asset.
    pub fn balances(&self, id: AccountId) -> (Position, Vec<Balance>) {
        let published = self.position();
        let Some(slot) = self.account_slot(id) else {
            return (published, Vec::new());
        };
        let state = locked(&slot.state);
        (published.max(state.touched), state.balances.clone())
    }

    /// When an account's dead man's switch fires.
    pub fn cancel_after(&self, id: AccountId) -> Option<Timestamp> {
        locked(&self.account_slot(id)?.state).cancel_after
    }

    /// The `depth` best levels of a book on each side; none if there is no such instrument.
    pub fn book(&self, id: InstrumentId, depth: usize) -> Option<BookSnapshot> {
        let published = self.position();
        let market = self.market(id)?;
        let state = locked(&market.state);
        Some(BookSnapshot {
            position: published.max(state.touched),
            bids: state.levels.best(Side::Buy, depth),
            asks: state.levels.best(Side::Sell, depth),
        })
    }

    /// Trades of an instrument before `before`, the newest first.
    pub fn trades(&self, id: InstrumentId, before: Option<FillId>, limit: usize) -> Option<Page<TradeRecord>> {
        let published = self.position();
        let market = self.market(id)?;
        let state = locked(&market.state);
        let newest_first = state.trades.iter().rev().flat_map(|update| update.items.iter().rev());
        let wanted = newest_first.filter(|trade| before.is_none_or(|before| trade.fill_id < before));
        let mut items: Vec<_> = wanted.take(limit + 1).copied().collect();
        let more = items.len() > limit;
        items.truncate(limit);
        Some(Page {
            position: published.max(state.touched),
            items,
            more,
        })
    }

    /// An account's open order.
    pub fn open_order(&self, id: AccountId, target: &OrderTarget) -> Option<Order> {
        locked(&self.account_slot(id)?.state).orders.get(target).copied()
    }

    /// How many orders an account has open.
    pub fn open_order_count(&self, id: AccountId) -> usize {
        let slot = self.account_slot(id);
        slot.map_or(0, |slot| locked(&slot.state).orders.len())
    }

    /// An account's open orders (of an instrument) behind `after`, the oldest first.
    pub fn open_orders(
        &self,
        id: AccountId,
        instrument: Option<InstrumentId>,
        after: Option<OrderId>,
        limit: usize,
    ) -> Page<Order> {
        let position = self.position();
        let Some(slot) = self.account_slot(id) else {
            return Page {
                position,
                items: Vec::new(),
                more: false,
            };
        };
        let state = locked(&slot.state);
        let orders = state.orders.after(after);
        let wanted = orders.filter(|order| instrument.is_none_or(|instrument| order.instrument == instrument));
        let mut items: Vec<_> = wanted.take(limit.saturating_add(1)).copied().collect();
        let more = items.len() > limit;
        items.truncate(limit);
        Page {
            position: position.max(state.touched),
            items,
            more,
        }
    }

    /// Where a closed order may be found in the log.
    pub fn closed_order(&self, id: AccountId, target: &OrderTarget) -> Option<ClosedOrder> {
        locked(&self.closed).find(id, target)
    }

    /// Commands before `before` with fills of an account, the newest first.
    fn fill_sequences(&self, id: AccountId, before: Sequence, limit: usize) -> Vec<Sequence> {
        let Some(slot) = self.account_slot(id) else {
            return Vec::new();
        };
        let state = locked(&slot.state);
        state.index.before(PrivateStream::Fills, before).take(limit).collect()
    }
}

/// An account's closed order as it ended, read from the event log; none if it is unknown or too long ago.
pub async fn closed_order(
    view: &View,
    past: &Past,
    account: AccountId,
    target: &OrderTarget,
) -> Result<Option<EndedOrder>, QueryError> {
    let Some(found) = view.closed_order(account, target) else {
        return Ok(None);
    };
    let is_meant = |order: &Order| {
        order.account == account
            && match target {
                OrderTarget::OrderId(order_id) => order.order_id == *order_id,
                OrderTarget::ClientOrderId(client_order_id) => order.client_order_id == *client_order_id,
            }
    };
    let sequence = if found.filled.is_some() {
        found.placed
    } else {
        found.closed
    };
    let command = match past.command(sequence).await {
        Ok(Some(command)) => command,
        Ok(None) | Err(HistoryError::Retired { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let ended = command.events().iter().find_map(|event| match (event, found.filled) {
        (Event::OrderPlaced(order), Some(sums)) if is_meant(order) => Some(EndedOrder {
            order: sums.complete(*order),
            close_reason: None,
        }),
        (Event::OrderClosed { order, reason, .. }, None) if is_meant(order) => Some(EndedOrder {
            order: *order,
            close_reason: Some(*reason),
        }),
        _ => None,
    });
    Ok(ended)
}

/// An account's fills before `before`, the newest first, as far back as the index reaches.
pub async fn fills_page(
    view: &View,
    past: &Past,
    account: AccountId,
    before: Option<FillId>,
    limit: usize,
) -> Result<Page<FillRecord>, QueryError> {
    let position = view.position();
    let end = before.map_or(u64::MAX, |before| before.position.sequence.0.saturating_add(1));
    // One more than asked for: the cursor's own command may have nothing left, and `more` needs a look behind.
    let sequences = view.fill_sequences(account, Sequence(end), limit.saturating_add(2));
    let mut items = Vec::new();
    for sequence in sequences {
        if items.len() > limit {
            break;
        }
        let command = match past.command(sequence).await {
            Ok(Some(command)) => command,
            Ok(None) | Err(HistoryError::Retired { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        let header = &command.batch.header;
        let fills = fills_of(
            account,
            command.events(),
            view.position_of(sequence),
            header.sequenced_at,
        );
        let mut fills: Vec<_> = fills
            .filter(|fill| before.is_none_or(|before| fill.fill_id < before))
            .collect();
        fills.reverse();
        items.extend(fills);
    }
    let more = items.len() > limit;
    items.truncate(limit);
    Ok(Page { position, items, more })
}

/// An account's fills among the events of one command.
pub(crate) fn fills_of(
    account: AccountId,
    events: &[Event],
    position: Position,
    sequenced_at: Timestamp,
) -> impl Iterator<Item = FillRecord> {
    let fill = move |trade: &Trade, is_maker: bool| FillRecord {
        fill_id: FillId {
            position,
            index: trade.index,
        },
        sequenced_at,
        trade: *trade,
        is_maker,
    };
    events.iter().filter_map(move |event| match event {
        Event::Traded(trade) if trade.taker.account == account => Some(fill(trade, false)),
        Event::Traded(trade) if trade.maker.account == account => Some(fill(trade, true)),
        _ => None,
    })
}

/// All that the view holds, for comparison with another picture of the same exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Open orders.
    pub orders: BTreeMap<OrderId, Order>,
    /// Balances by account and asset.
    pub balances: Vec<Balance>,
    /// Books: instrument, side, price, quantity, number of orders.
    pub levels: Vec<(InstrumentId, Side, i64, i64, u32)>,
    /// Accounts.
    pub accounts: Vec<Account>,
    /// Keys.
    pub keys: Vec<Key>,
}

impl View {
    /// A copy of all that the view holds: for tests and audits, not for the order path.
    pub fn contents(&self) -> Contents {
        let mut contents = Contents {
            keys: read(&self.keys).values().map(|key| Key::clone(key)).collect(),
            ..Contents::default()
        };
        for slot in read(&self.accounts).iter() {
            let state = locked(&slot.state);
            contents.accounts.extend(state.account);
            contents.balances.extend(&state.balances);
            let orders = state.orders.after(None);
            contents.orders.extend(orders.map(|order| (order.order_id, *order)));
        }
        for (index, market) in read(&self.markets).iter().enumerate() {
            let id = InstrumentId(u32::try_from(index).expect("ids are 32 bits"));
            let state = locked(&market.state);
            for side in [Side::Buy, Side::Sell] {
                let levels = state.levels.side(side).iter();
                contents
                    .levels
                    .extend(levels.map(|(price, level)| (id, side, price.0, level.quantity.0, level.order_count)));
            }
        }
        contents
    }
}
