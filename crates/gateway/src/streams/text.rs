//! Stream messages as text.

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use types::{AccountId, Balance, Event, InstrumentId, Order, Position, Sequence, Timestamp};
use wire::json::{self, Scale};
use wire::ws::{BalanceItem, BookItem, OrderEvent, OrderItem, STREAM_ITEMS_MAX, ServerMessage, StreamMessage};

use crate::view::{LevelNow, PrivateStream, Reference, TradeRecord};

/// What the messages of one position have in common.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub symbol: Option<String>,
    pub snapshot: bool,
    pub position: Position,
    pub previous: Option<Position>,
    pub sequenced_at: Option<Timestamp>,
}

/// A message as text.
pub(crate) fn to_text(message: &impl Serialize) -> Utf8Bytes {
    serde_json::to_string(message)
        .expect("messages have text keys only")
        .into()
}

/// Puts items into messages of at most [`STREAM_ITEMS_MAX`], at least one, from the message `first_index` on.
pub(super) fn messages<T>(
    head: &Head,
    first_index: u32,
    items: Vec<T>,
    more: bool,
    kind: fn(StreamMessage<T>) -> ServerMessage,
) -> Vec<Utf8Bytes> {
    let mut rest = items.into_iter();
    let mut texts = Vec::new();
    for index in first_index.. {
        let items: Vec<T> = rest.by_ref().take(STREAM_ITEMS_MAX).collect();
        let message = StreamMessage {
            symbol: head.symbol.clone(),
            snapshot: head.snapshot,
            position: head.position.into(),
            index,
            more: more || rest.len() > 0,
            previous: head.previous.map(Into::into),
            sequenced_at: head.sequenced_at.map(Into::into),
            items,
        };
        texts.push(to_text(&kind(message)));
        if rest.len() == 0 {
            break;
        }
    }
    texts
}

/// The scale of an instrument at a sequence.
pub(super) fn scale_at(reference: &Reference, id: InstrumentId, sequence: Sequence) -> Scale {
    let instrument = reference
        .instrument_at(id, sequence)
        .expect("events name only instruments that exist");
    let quote = reference
        .asset(instrument.quote)
        .expect("an instrument's quote asset exists");
    Scale::of(instrument, &quote)
}

pub(super) fn book_item(now: &LevelNow, scale: &Scale) -> BookItem {
    BookItem {
        side: now.side.into(),
        price: scale.price(now.price),
        quantity: scale.quantity(now.level.quantity),
        orders: now.level.order_count,
    }
}

pub(super) fn trade_item(trade: &TradeRecord, scale: &Scale) -> json::Trade {
    json::Trade {
        fill_id: trade.fill_id.to_string(),
        symbol: scale.symbol.to_string(),
        price: scale.price(trade.price),
        quantity: scale.quantity(trade.quantity),
        taker_side: trade.taker_side.into(),
        traded_at: trade.sequenced_at.into(),
    }
}

pub(super) fn open_order_item(order: &Order, reference: &Reference, at: Sequence) -> OrderItem {
    let scale = scale_at(reference, order.instrument, at);
    OrderItem {
        event: OrderEvent::Open,
        order: Some(json::Order::new(order, &scale, None)),
        fill: None,
        cancelled_quantity: None,
        priority_kept: None,
    }
}

pub(super) fn balance_item(balance: &Balance, reference: &Reference) -> BalanceItem {
    let asset = reference
        .asset(balance.asset)
        .expect("events name only assets that exist");
    BalanceItem {
        balance: json::Balance::new(balance, &asset),
        reason: None,
    }
}

/// At most `count` messages of one command on one of an account's streams, from the message `first_index` on, and
/// whether there are more; none if the command has nothing there.
pub(super) fn private_messages(
    (account, stream): (AccountId, PrivateStream),
    events: &[Event],
    head: &Head,
    reference: &Reference,
    (first_index, count): (u32, usize),
) -> (Vec<Utf8Bytes>, bool) {
    let own = events.iter().filter(|event| stream.contains(account, event));
    let skipped = first_index as usize * STREAM_ITEMS_MAX;
    let wanted = count.max(1) * STREAM_ITEMS_MAX;
    let mut own: Vec<&Event> = own.skip(skipped).take(wanted + 1).collect();
    if own.is_empty() {
        return (Vec::new(), false);
    }
    let more = own.len() > wanted;
    own.truncate(wanted);
    let own = own.into_iter();
    let texts = match stream {
        PrivateStream::Orders => {
            let items = own.filter_map(|event| order_item(account, event, head, reference));
            messages(head, first_index, items.collect(), more, ServerMessage::Orders)
        }
        PrivateStream::Fills => {
            let items = own.filter_map(|event| fill(account, event, head, reference));
            messages(head, first_index, items.collect(), more, ServerMessage::Fills)
        }
        PrivateStream::Balances => {
            let item = |event: &Event| match event {
                Event::BalanceChanged { balance, reason } => Some(BalanceItem {
                    reason: Some((*reason).into()),
                    ..balance_item(balance, reference)
                }),
                _ => None,
            };
            let items = own.filter_map(item).collect();
            messages(head, first_index, items, more, ServerMessage::Balances)
        }
    };
    (texts, more)
}

fn order_item(account: AccountId, event: &Event, head: &Head, reference: &Reference) -> Option<OrderItem> {
    let at = head.position.sequence;
    let mut item = OrderItem {
        event: OrderEvent::Placed,
        order: None,
        fill: None,
        cancelled_quantity: None,
        priority_kept: None,
    };
    match event {
        Event::OrderPlaced(order) => {
            let scale = scale_at(reference, order.instrument, at);
            item.order = Some(json::Order::new(order, &scale, None));
        }
        Event::OrderReplaced {
            order, priority_kept, ..
        } => {
            let scale = scale_at(reference, order.instrument, at);
            item.event = OrderEvent::Replaced;
            item.order = Some(json::Order::new(order, &scale, None));
            item.priority_kept = Some(*priority_kept);
        }
        Event::OrderClosed {
            order,
            reason,
            cancelled_quantity,
        } => {
            let scale = scale_at(reference, order.instrument, at);
            item.event = OrderEvent::Closed;
            item.order = Some(json::Order::new(order, &scale, Some(*reason)));
            item.cancelled_quantity = Some(scale.quantity(*cancelled_quantity));
        }
        Event::Traded(_) => {
            item.event = OrderEvent::Traded;
            item.fill = fill(account, event, head, reference);
        }
        _ => return None,
    }
    Some(item)
}

fn fill(account: AccountId, event: &Event, head: &Head, reference: &Reference) -> Option<json::Fill> {
    let Event::Traded(trade) = event else {
        return None;
    };
    let role = if trade.taker.account == account {
        json::Role::Taker
    } else {
        json::Role::Maker
    };
    let scale = scale_at(reference, trade.instrument, head.position.sequence);
    let sequenced_at = head.sequenced_at.expect("a command has a stamp");
    Some(json::Fill::new(trade, role, head.position, sequenced_at, &scale))
}
