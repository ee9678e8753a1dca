//! Answers about one order, written as text straight from the events: byte for byte what serde writes of
//! [`OrderAnswer`](super::OrderAnswer), without making its texts one by one first.

use serde::Serialize;
use types::{CloseReason, Decimal, OrderId, Position, Quantity, RequestId, Timestamp, Trade};

use super::{DurableIn, Role, Scale, TimeInForce};

/// What the answer to a request about one order tells, that was sequenced and executed for the first time.
#[derive(Clone, Copy, Debug)]
pub struct OrderAnswerParts<'a> {
    /// The request's id.
    pub request_id: &'a RequestId,
    /// The order after the request, why it was closed if it was other than by being filled, and how its numbers are
    /// written; none where a cancel burnt its client order id.
    pub order: Option<(&'a types::Order, Option<CloseReason>, &'a Scale)>,
    /// The order's fills by this request.
    pub fills: &'a [&'a Trade],
    /// What was taken out of the order.
    pub cancelled: Option<Quantity>,
    /// Whether a replaced order kept its place in the queue.
    pub priority_kept: Option<bool>,
    /// True if a cancel found no order.
    pub burnt: bool,
    /// Where the request was sequenced.
    pub position: Position,
    /// Where it is durable.
    pub durable_in: DurableIn,
    /// When its first byte was read.
    pub received_at: Timestamp,
    /// When it was sequenced.
    pub sequenced_at: Timestamp,
    /// When it was seen committed.
    pub committed_at: Option<Timestamp>,
    /// By how much the clock may have been off, in nanoseconds.
    pub clock_error_bound_ns: u64,
}

/// Writes the answer.
pub fn order_answer(out: &mut Vec<u8>, parts: &OrderAnswerParts<'_>) {
    out.extend_from_slice(b"{\"outcome\":\"executed\",\"applies_to\":\"order\",\"repeat\":false,\"request_id\":");
    text(out, parts.request_id.as_str());
    out.extend_from_slice(b",\"order\":");
    match parts.order {
        Some((order, close_reason, scale)) => write_order(out, order, close_reason, scale),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"fills\":[");
    if let Some((_, _, scale)) = parts.order {
        for (index, trade) in parts.fills.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_fill(out, trade, parts, scale);
        }
    }
    out.push(b']');
    if let (Some(quantity), Some((_, _, scale))) = (parts.cancelled, parts.order) {
        out.extend_from_slice(b",\"cancelled_quantity\":");
        steps(out, scale.lot_size, quantity.0);
    }
    if let Some(kept) = parts.priority_kept {
        out.extend_from_slice(if kept {
            b",\"priority_kept\":true"
        } else {
            b",\"priority_kept\":false"
        });
    }
    if parts.burnt {
        out.extend_from_slice(b",\"client_order_id_burnt\":true");
    }
    let position = parts.position;
    out.extend_from_slice(b",\"position\":{\"group\":");
    number(out, position.group.0.into());
    out.extend_from_slice(b",\"epoch\":");
    number(out, position.epoch.0.into());
    out.extend_from_slice(b",\"sequence\":");
    number_text(out, position.sequence.0);
    out.extend_from_slice(b"},\"durable_in\":");
    out.extend_from_slice(match parts.durable_in {
        DurableIn::Region => b"\"region\"".as_slice(),
        DurableIn::Both => b"\"both\"".as_slice(),
    });
    out.extend_from_slice(b",\"times\":{\"received_at\":");
    number_text(out, parts.received_at.0);
    out.extend_from_slice(b",\"sequenced_at\":");
    number_text(out, parts.sequenced_at.0);
    out.extend_from_slice(b",\"committed_at\":");
    match parts.committed_at {
        Some(time) => number_text(out, time.0),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"clock_error_bound_ns\":");
    number_text(out, parts.clock_error_bound_ns);
    out.extend_from_slice(b"}}");
}

fn write_order(out: &mut Vec<u8>, order: &types::Order, close_reason: Option<CloseReason>, scale: &Scale) {
    out.extend_from_slice(b"{\"order_id\":");
    order_id(out, order.order_id);
    out.extend_from_slice(b",\"client_order_id\":");
    text(out, order.client_order_id.as_str());
    out.extend_from_slice(b",\"symbol\":");
    text(out, scale.symbol.as_str());
    name(out, "side", super::Side::from(order.side));
    name(out, "type", super::OrderType::from(order.order_type));
    name(out, "time_in_force", TimeInForce::from(order.time_in_force));
    if let types::TimeInForce::Gtd(time) = order.time_in_force {
        out.extend_from_slice(b",\"expires_at\":");
        number_text(out, time.0);
    }
    out.extend_from_slice(b",\"price\":");
    steps(out, scale.tick_size, order.price.0);
    out.extend_from_slice(b",\"quantity\":");
    steps(out, scale.lot_size, order.quantity.0);
    out.extend_from_slice(b",\"filled_quantity\":");
    steps(out, scale.lot_size, order.filled.0);
    out.extend_from_slice(b",\"remaining_quantity\":");
    steps(out, scale.lot_size, order.remaining().0);
    let unit = Decimal::unit(scale.quote_decimals);
    out.extend_from_slice(b",\"filled_notional\":");
    steps(out, unit, order.filled_notional.0);
    out.extend_from_slice(b",\"fee\":");
    steps(out, unit, order.fee.0);
    out.extend_from_slice(if order.post_only {
        b",\"post_only\":true"
    } else {
        b",\"post_only\":false"
    });
    let prevention = super::SelfTradePrevention::from(order.self_trade_prevention);
    name(out, "self_trade_prevention", prevention);
    name(out, "status", super::OrderStatus::from(order.status));
    if let Some(reason) = close_reason {
        name(out, "close_reason", super::CloseReason::from(reason));
    }
    out.extend_from_slice(b",\"placed_at\":");
    number_text(out, order.placed_at.0);
    out.push(b'}');
}

/// The taker's side of a trade.
fn write_fill(out: &mut Vec<u8>, trade: &Trade, parts: &OrderAnswerParts<'_>, scale: &Scale) {
    let own = &trade.taker;
    out.extend_from_slice(b"{\"fill_id\":\"");
    place(out, parts.position);
    out.push(b'.');
    number(out, trade.index.into());
    out.extend_from_slice(b"\",\"order_id\":");
    order_id(out, own.order_id);
    out.extend_from_slice(b",\"client_order_id\":");
    text(out, own.client_order_id.as_str());
    out.extend_from_slice(b",\"symbol\":");
    text(out, scale.symbol.as_str());
    name(out, "side", super::Side::from(trade.taker_side));
    name(out, "role", Role::Taker);
    out.extend_from_slice(b",\"price\":");
    steps(out, scale.tick_size, trade.price.0);
    out.extend_from_slice(b",\"quantity\":");
    steps(out, scale.lot_size, trade.quantity.0);
    let unit = Decimal::unit(scale.quote_decimals);
    out.extend_from_slice(b",\"notional\":");
    steps(out, unit, trade.notional.0);
    out.extend_from_slice(b",\"fee\":");
    steps(out, unit, own.fee.0);
    out.extend_from_slice(b",\"fee_asset\":");
    text(out, scale.quote.as_str());
    out.extend_from_slice(b",\"remaining_quantity\":");
    steps(out, scale.lot_size, own.remaining.0);
    out.extend_from_slice(b",\"traded_at\":");
    number_text(out, parts.sequenced_at.0);
    out.push(b'}');
}

/// A text of characters that JSON writes as they are: an id or a name.
fn text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(
        text.bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
    );
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// One of the names of an enum, behind its key.
fn name(out: &mut Vec<u8>, key: &str, value: impl Serialize) {
    out.push(b',');
    text(out, key);
    out.push(b':');
    serde_json::to_writer(out, &value).expect("a name is written to memory");
}

fn order_id(out: &mut Vec<u8>, id: OrderId) {
    out.push(b'"');
    place(out, id.0);
    out.push(b'"');
}

fn place(out: &mut Vec<u8>, position: Position) {
    number(out, position.group.0.into());
    out.push(b'.');
    number(out, position.epoch.0.into());
    out.push(b'.');
    number(out, position.sequence.0);
}

/// A whole number.
pub(crate) fn number(out: &mut Vec<u8>, value: u64) {
    serde_json::to_writer(out, &value).expect("a number is written to memory");
}

fn number_text(out: &mut Vec<u8>, value: u64) {
    out.push(b'"');
    number(out, value);
    out.push(b'"');
}

/// So many steps, as [`DecimalText::of_steps`](super::DecimalText::of_steps) writes them.
fn steps(out: &mut Vec<u8>, step: Decimal, count: i64) {
    let units = step.units.checked_mul(count);
    let divisor = 10_u64.checked_pow(step.scale.into());
    let (Some(units), Some(divisor)) = (units, divisor) else {
        return text(out, &super::DecimalText::of_steps(step, count).0);
    };
    out.push(b'"');
    if units < 0 {
        out.push(b'-');
    }
    let magnitude = units.unsigned_abs();
    number(out, magnitude / divisor);
    if step.scale > 0 {
        out.push(b'.');
        let from = out.len();
        let width = usize::from(step.scale);
        out.resize(from + width, b'0');
        let mut rest = magnitude % divisor;
        for digit in out[from..].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use types::{
        AccountId, Amount, Epoch, FillSide, GroupId, InstrumentId, OrderStatus, OrderType, Price, SelfTradePrevention,
        Sequence, Side,
    };

    use super::*;
    use crate::json::{self, AppliesTo, DurableIn, Outcome, Times};
    use crate::ws::{Reply, ServerMessage, order_reply};

    fn scale() -> Scale {
        Scale {
            symbol: "BTC-USD".parse().unwrap(),
            quote: "USD".parse().unwrap(),
            quote_decimals: 2,
            tick_size: Decimal::new(25, 2),
            lot_size: Decimal::new(1, 0),
            version: 1,
        }
    }

    fn order(number: i64) -> types::Order {
        let statuses = [
            OrderStatus::Open,
            OrderStatus::Filled,
            OrderStatus::Cancelled,
            OrderStatus::Expired,
        ];
        let lives = [
            types::TimeInForce::Gtc,
            types::TimeInForce::Ioc,
            types::TimeInForce::Gtd(Timestamp(77)),
            types::TimeInForce::Day,
        ];
        let index = usize::try_from(number % 4).unwrap();
        types::Order {
            order_id: OrderId(position()),
            account: AccountId(1),
            client_order_id: "a-1_B".parse().unwrap(),
            instrument: InstrumentId(0),
            side: if number % 2 == 0 { Side::Buy } else { Side::Sell },
            order_type: if number % 3 == 0 {
                OrderType::Limit
            } else {
                OrderType::Market
            },
            time_in_force: lives[index],
            price: Price(number * 1_000_003),
            quantity: Quantity(number + 10),
            filled: Quantity(number),
            filled_notional: Amount(number * 7),
            fee: Amount(-number),
            post_only: number % 2 == 1,
            self_trade_prevention: SelfTradePrevention::CancelBoth,
            status: statuses[index],
            placed_at: Timestamp(1_790_000_000_000_000_000),
        }
    }

    fn position() -> Position {
        Position {
            group: GroupId(2),
            epoch: Epoch(3),
            sequence: Sequence(u64::MAX),
        }
    }

    fn trade(index: u32) -> Trade {
        let side = |remaining| FillSide {
            order_id: OrderId(position()),
            account: AccountId(1),
            client_order_id: "taker".parse().unwrap(),
            fee: Amount(-5),
            remaining: Quantity(remaining),
        };
        Trade {
            instrument: InstrumentId(0),
            index,
            price: Price(400),
            quantity: Quantity(3),
            notional: Amount(100_000),
            taker_side: Side::Sell,
            maker: side(0),
            taker: side(4),
        }
    }

    /// The same answer, made of its texts.
    fn made(parts: &OrderAnswerParts<'_>) -> json::OrderAnswer {
        let scale = scale();
        let fill = |trade: &&Trade| json::Fill::new(trade, Role::Taker, parts.position, parts.sequenced_at, &scale);
        json::OrderAnswer {
            outcome: Outcome::Executed,
            applies_to: AppliesTo::Order,
            repeat: false,
            request_id: parts.request_id.to_string(),
            order: parts
                .order
                .map(|(order, reason, scale)| json::Order::new(order, scale, reason)),
            fills: parts.fills.iter().map(fill).collect(),
            cancelled_quantity: parts.cancelled.map(|quantity| scale.quantity(quantity)),
            priority_kept: parts.priority_kept,
            client_order_id_burnt: parts.burnt.then_some(true),
            position: parts.position.into(),
            durable_in: parts.durable_in,
            times: Times {
                received_at: parts.received_at.into(),
                sequenced_at: parts.sequenced_at.into(),
                committed_at: parts.committed_at.map(Into::into),
                clock_error_bound_ns: parts.clock_error_bound_ns.into(),
            },
        }
    }

    #[track_caller]
    fn check(parts: &OrderAnswerParts<'_>) {
        let mut text = Vec::new();
        order_answer(&mut text, parts);
        let made = made(parts);
        assert_eq!(String::from_utf8(text).unwrap(), serde_json::to_string(&made).unwrap());
        let mut text = Vec::new();
        order_reply(&mut text, 9, 201, parts);
        let reply = ServerMessage::Reply(Reply {
            id: 9,
            status: 201,
            order: Some(made),
            ..Reply::default()
        });
        assert_eq!(String::from_utf8(text).unwrap(), serde_json::to_string(&reply).unwrap());
    }

    #[test]
    fn what_is_written_is_what_serde_writes() {
        let (request_id, scale) = ("r-1".parse().unwrap(), scale());
        let burnt = OrderAnswerParts {
            request_id: &request_id,
            order: None,
            fills: &[],
            cancelled: None,
            priority_kept: None,
            burnt: true,
            position: position(),
            durable_in: DurableIn::Region,
            received_at: Timestamp(1),
            sequenced_at: Timestamp(2),
            committed_at: None,
            clock_error_bound_ns: 16_000_000_000,
        };
        check(&burnt);
        for number in 0..8 {
            let order = order(number);
            let trades = [trade(0), trade(1)];
            let fills: Vec<&Trade> = trades.iter().take(usize::try_from(number % 3).unwrap()).collect();
            check(&OrderAnswerParts {
                order: Some((&order, (number % 2 == 0).then_some(CloseReason::SelfTrade), &scale)),
                fills: &fills,
                cancelled: (number % 4 == 2).then_some(Quantity(12)),
                priority_kept: [None, Some(true), Some(false)][usize::try_from(number % 3).unwrap()],
                burnt: false,
                committed_at: Some(Timestamp(3)),
                durable_in: if number % 2 == 0 {
                    DurableIn::Both
                } else {
                    DurableIn::Region
                },
                ..burnt
            });
        }
    }

    #[test]
    fn steps_are_written_as_they_are_made() {
        for step in [
            Decimal::new(1, 0),
            Decimal::new(25, 2),
            Decimal::new(1, 8),
            Decimal::new(7, 18),
            Decimal::new(i64::MAX, 18),
        ] {
            for count in [0, 1, -1, 9, 42, -4_000_001, 1 << 48, i64::MAX, i64::MIN] {
                let mut text = Vec::new();
                steps(&mut text, step, count);
                let made = json::DecimalText::of_steps(step, count).0;
                assert_eq!(String::from_utf8(text).unwrap(), format!("\"{made}\""));
            }
        }
    }
}
