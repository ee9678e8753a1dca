//! Requests about one order, read without copying their texts: what the order path works on. Each is the same as its
//! owned counterpart, field by field.

use serde::Deserialize;

use super::{CancelItem, NewOrder, OrderType, ReplaceItem, SelfTradePrevention, Side, TimeInForce};

/// A [`NewOrder`] whose texts stay where they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrderRef<'a> {
    /// What the client calls it.
    pub client_order_id: &'a str,
    /// The instrument.
    pub symbol: &'a str,
    /// Buy or sell.
    pub side: Side,
    /// Limit or market.
    #[serde(rename = "type")]
    pub order_type: OrderType,
    /// How long it lives.
    #[serde(default)]
    pub time_in_force: Option<TimeInForce>,
    /// When a `gtd` order expires.
    #[serde(default)]
    pub expires_at: Option<&'a str>,
    /// Its limit; a market order has none.
    #[serde(default)]
    pub price: Option<&'a str>,
    /// How much.
    pub quantity: &'a str,
    /// Refuse it rather than take.
    #[serde(default)]
    pub post_only: bool,
    /// What happens when it would trade with one of its own account.
    #[serde(default)]
    pub self_trade_prevention: Option<SelfTradePrevention>,
    /// Refuse it when sequenced after this.
    #[serde(default)]
    pub valid_until: Option<&'a str>,
    /// Only say whether it would be taken as things are now.
    #[serde(default)]
    pub validate_only: bool,
}

impl<'a> From<&'a NewOrder> for NewOrderRef<'a> {
    fn from(order: &'a NewOrder) -> Self {
        Self {
            client_order_id: &order.client_order_id,
            symbol: &order.symbol,
            side: order.side,
            order_type: order.order_type,
            time_in_force: order.time_in_force,
            expires_at: order.expires_at.as_ref().map(|time| time.0.as_str()),
            price: order.price.as_ref().map(|price| price.0.as_str()),
            quantity: &order.quantity.0,
            post_only: order.post_only,
            self_trade_prevention: order.self_trade_prevention,
            valid_until: order.valid_until.as_ref().map(|time| time.0.as_str()),
            validate_only: order.validate_only,
        }
    }
}

/// A [`ReplaceItem`] whose texts stay where they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceRef<'a> {
    /// The id that makes it execute once.
    pub request_id: &'a str,
    /// Which order, by its id.
    #[serde(default)]
    pub order_id: Option<&'a str>,
    /// Which order, by what the client called it.
    #[serde(default)]
    pub client_order_id: Option<&'a str>,
    /// The instrument.
    #[serde(default)]
    pub symbol: Option<&'a str>,
    /// The new limit.
    #[serde(default)]
    pub price: Option<&'a str>,
    /// The new whole quantity.
    #[serde(default)]
    pub quantity: Option<&'a str>,
    /// Refuse the change rather than take.
    #[serde(default)]
    pub post_only: Option<bool>,
    /// Refuse it when sequenced after this.
    #[serde(default)]
    pub valid_until: Option<&'a str>,
}

impl<'a> From<&'a ReplaceItem> for ReplaceRef<'a> {
    fn from(change: &'a ReplaceItem) -> Self {
        Self {
            request_id: &change.request_id,
            order_id: change.order_id.as_deref(),
            client_order_id: change.client_order_id.as_deref(),
            symbol: change.symbol.as_deref(),
            price: change.price.as_ref().map(|price| price.0.as_str()),
            quantity: change.quantity.as_ref().map(|quantity| quantity.0.as_str()),
            post_only: change.post_only,
            valid_until: change.valid_until.as_ref().map(|time| time.0.as_str()),
        }
    }
}

/// A [`CancelItem`] whose texts stay where they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRef<'a> {
    /// The id that makes it execute once.
    pub request_id: &'a str,
    /// Which order, by its id.
    #[serde(default)]
    pub order_id: Option<&'a str>,
    /// Which order, by what the client called it.
    #[serde(default)]
    pub client_order_id: Option<&'a str>,
    /// Refuse it when sequenced after this.
    #[serde(default)]
    pub valid_until: Option<&'a str>,
}

impl<'a> From<&'a CancelItem> for CancelRef<'a> {
    fn from(cancel: &'a CancelItem) -> Self {
        Self {
            request_id: &cancel.request_id,
            order_id: cancel.order_id.as_deref(),
            client_order_id: cancel.client_order_id.as_deref(),
            valid_until: cancel.valid_until.as_ref().map(|time| time.0.as_str()),
        }
    }
}
