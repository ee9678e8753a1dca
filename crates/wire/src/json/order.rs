//! Orders and fills.

use serde::{Deserialize, Serialize};
use types::{FillId, FillSide, Position as TypesPosition, Timestamp};
use utoipa::ToSchema;

use super::scalar::{
    AppliesTo, CloseReason, DecimalText, DurableIn, OrderStatus, OrderType, Outcome, Position, SelfTradePrevention,
    Side, TimeInForce, TimeText, Times,
};
use super::{Problem, Scale};

/// A new order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    /// What the client calls it, 1 to 64 of `[A-Za-z0-9_-]`: the id that makes it execute once.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$", examples("a-1"))]
    pub client_order_id: String,
    /// The instrument.
    #[schema(examples("BTC-USD"))]
    pub symbol: String,
    /// Buy or sell.
    pub side: Side,
    /// Limit or market.
    #[serde(rename = "type")]
    pub order_type: OrderType,
    /// How long it lives; left out: `gtc` for a limit order, `ioc` for a market order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_in_force: Option<TimeInForce>,
    /// When a `gtd` order expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<TimeText>,
    /// Its limit; a market order has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<DecimalText>,
    /// How much.
    pub quantity: DecimalText,
    /// Refuse it rather than take; left out: false.
    #[serde(default)]
    pub post_only: bool,
    /// What happens when it would trade with one of its own account; left out: `cancel_newest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_trade_prevention: Option<SelfTradePrevention>,
    /// Refuse it when sequenced after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<TimeText>,
    /// Only say whether it would be taken as things are now; nothing is sequenced and the id is not used up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub validate_only: bool,
}

/// A change of an order. A smaller quantity at the same price keeps its place in the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    /// The new limit; left out: the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<DecimalText>,
    /// The new whole quantity, what was filled included; left out: the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<DecimalText>,
    /// Refuse the change rather than take; left out: the order's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_only: Option<bool>,
    /// Refuse it when sequenced after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<TimeText>,
}

/// Several requests in one, each under its own id and with its own outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// 1 to 100 requests, sequenced in this order where they are taken.
    pub items: Vec<BatchItem>,
}

/// One request of a batch: exactly one of the three is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchItem {
    /// Place an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<NewOrder>,
    /// Change an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<ReplaceItem>,
    /// Cancel an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelItem>,
}

/// A change of an order inside of a batch or on a WebSocket. Exactly one of `order_id` and `client_order_id` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceItem {
    /// The id that makes it execute once.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub request_id: String,
    /// Which order, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// Which order, by what the client called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_order_id: Option<String>,
    /// The instrument, to tell the ticks and lots of the numbers; left out: looked up by the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// The new limit; left out: the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<DecimalText>,
    /// The new whole quantity, what was filled included; left out: the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<DecimalText>,
    /// Refuse the change rather than take; left out: the order's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_only: Option<bool>,
    /// Refuse it when sequenced after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<TimeText>,
}

/// A cancel inside of a batch or on a WebSocket. Exactly one of `order_id` and `client_order_id` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelItem {
    /// The id that makes it execute once.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub request_id: String,
    /// Which order, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// Which order, by what the client called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_order_id: Option<String>,
    /// Refuse it when sequenced after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<TimeText>,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// Its id: the position of the request that placed it, `group.epoch.sequence`.
    #[schema(examples("0.1.1234"))]
    pub order_id: String,
    /// What the client calls it.
    pub client_order_id: String,
    /// The instrument.
    pub symbol: String,
    /// Buy or sell.
    pub side: Side,
    /// Limit or market.
    #[serde(rename = "type")]
    pub order_type: OrderType,
    /// How long it lives.
    pub time_in_force: TimeInForce,
    /// When a `gtd` order expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<TimeText>,
    /// Its limit; for a market order the price beyond which it does not trade.
    pub price: DecimalText,
    /// All of it: what was filled and what may still be.
    pub quantity: DecimalText,
    /// What was filled.
    pub filled_quantity: DecimalText,
    /// What may still be filled; 0 once it is closed.
    pub remaining_quantity: DecimalText,
    /// The sum of price x quantity of its fills, in the quote asset.
    pub filled_notional: DecimalText,
    /// Fees charged so far, in the quote asset; negative is a rebate.
    pub fee: DecimalText,
    /// True if it may only make.
    pub post_only: bool,
    /// What happens at a trade with its own account.
    pub self_trade_prevention: SelfTradePrevention,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// Why it came to its end, unless it was filled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_reason: Option<CloseReason>,
    /// When the request that placed it was sequenced.
    pub placed_at: TimeText,
}

impl Order {
    /// The order as text. `close_reason` only for one that was closed other than by being filled.
    pub fn new(order: &types::Order, scale: &Scale, close_reason: Option<types::CloseReason>) -> Self {
        let expires_at = match order.time_in_force {
            types::TimeInForce::Gtd(time) => Some(time.into()),
            _ => None,
        };
        Self {
            order_id: order.order_id.to_string(),
            client_order_id: order.client_order_id.to_string(),
            symbol: scale.symbol.to_string(),
            side: order.side.into(),
            order_type: order.order_type.into(),
            time_in_force: order.time_in_force.into(),
            expires_at,
            price: scale.price(order.price),
            quantity: scale.quantity(order.quantity),
            filled_quantity: scale.quantity(order.filled),
            remaining_quantity: scale.quantity(order.remaining()),
            filled_notional: scale.amount(order.filled_notional),
            fee: scale.amount(order.fee),
            post_only: order.post_only,
            self_trade_prevention: order.self_trade_prevention.into(),
            status: order.status.into(),
            close_reason: close_reason.map(Into::into),
            placed_at: order.placed_at.into(),
        }
    }
}

/// Which part an order had in a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It rested.
    Maker,
    /// It came in.
    Taker,
}

/// A fill: one order's side of a trade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fill {
    /// Its id, `group.epoch.sequence.index`, shared by both sides of the trade.
    #[schema(examples("0.1.1234.0"))]
    pub fill_id: String,
    /// The order.
    pub order_id: String,
    /// What the client calls the order.
    pub client_order_id: String,
    /// The instrument.
    pub symbol: String,
    /// The order's side.
    pub side: Side,
    /// Whether it made or took.
    pub role: Role,
    /// The price.
    pub price: DecimalText,
    /// How much.
    pub quantity: DecimalText,
    /// Price x quantity, in the quote asset.
    pub notional: DecimalText,
    /// The fee of this fill; negative is a rebate.
    pub fee: DecimalText,
    /// The asset of the fee.
    pub fee_asset: String,
    /// What may still be filled of the order after it.
    pub remaining_quantity: DecimalText,
    /// When the trade was sequenced.
    pub traded_at: TimeText,
}

impl Fill {
    /// One side of a trade of the command at `position`.
    pub fn new(trade: &types::Trade, role: Role, position: TypesPosition, at: Timestamp, scale: &Scale) -> Self {
        let own: &FillSide = match role {
            Role::Maker => &trade.maker,
            Role::Taker => &trade.taker,
        };
        let side = match role {
            Role::Maker => trade.taker_side.opposite(),
            Role::Taker => trade.taker_side,
        };
        let fill_id = FillId {
            position,
            index: trade.index,
        };
        Self {
            fill_id: fill_id.to_string(),
            order_id: own.order_id.to_string(),
            client_order_id: own.client_order_id.to_string(),
            symbol: scale.symbol.to_string(),
            side: side.into(),
            role,
            price: scale.price(trade.price),
            quantity: scale.quantity(trade.quantity),
            notional: scale.amount(trade.notional),
            fee: scale.amount(own.fee),
            fee_asset: scale.quote.to_string(),
            remaining_quantity: scale.quantity(own.remaining),
            traded_at: at.into(),
        }
    }
}

/// The answer to a request about one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderAnswer {
    /// What became of the request.
    pub outcome: Outcome,
    /// What the outcome speaks of.
    pub applies_to: AppliesTo,
    /// True if the same request was answered before: this is the first answer, but for `order`, which is as it is now.
    pub repeat: bool,
    /// The request's id.
    pub request_id: String,
    /// The order after the request; null where a cancel found none and burnt its client order id.
    pub order: Option<Order>,
    /// The order's fills by this request.
    pub fills: Vec<Fill>,
    /// What a cancel, or the end of an order that does not rest, took out of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_quantity: Option<DecimalText>,
    /// Whether a replaced order kept its place in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_kept: Option<bool>,
    /// True if a cancel found no order: one under that client order id will never execute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_order_id_burnt: Option<bool>,
    /// Where the request was sequenced.
    pub position: Position,
    /// Where its effects are durable.
    pub durable_in: DurableIn,
    /// When.
    pub times: Times,
}

/// The answer to an order that was only to be validated: it would be taken as things are now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValidationAnswer {
    /// Always `not_executed`.
    pub outcome: Outcome,
    /// Always `attempt`.
    pub applies_to: AppliesTo,
    /// Always true; an order that would be refused gets the problem that it would get.
    pub valid: bool,
    /// What the order would be worth at its price, in the quote asset; null for a market order.
    pub notional: Option<DecimalText>,
}

/// The answer to a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// One answer an item, in the order of the items.
    pub items: Vec<BatchItemAnswer>,
}

/// What became of one item of a batch: either `answer` or `problem` is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchItemAnswer {
    /// The HTTP status that the item alone would have had.
    pub status: u16,
    /// The answer of an item that was executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<OrderAnswer>,
    /// Why the item was not executed, or why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// A page of orders, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Orders {
    /// The orders.
    pub orders: Vec<Order>,
    /// Give this as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
    /// Up to where the page knows.
    pub position: Position,
}

/// A page of fills, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fills {
    /// The fills.
    pub fills: Vec<Fill>,
    /// Give this as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
    /// Up to where the page knows.
    pub position: Position,
}
