//! What an account sees of itself, and the node's time and limits.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scalar::{AppliesTo, DecimalText, DurableIn, NumberText, Outcome, Position, TimeText, Times};

/// What the account holds of one asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Balance {
    /// The asset.
    pub asset: String,
    /// Free to trade or withdraw.
    pub available: DecimalText,
    /// Set aside for open orders.
    pub held: DecimalText,
    /// Both together.
    pub total: DecimalText,
}

impl Balance {
    /// A balance as text.
    pub fn new(balance: &types::Balance, asset: &types::Asset) -> Self {
        let amount = |units: i64| DecimalText::of_units(asset.decimals, units);
        Self {
            asset: asset.symbol.to_string(),
            available: amount(balance.available.0),
            held: amount(balance.held.0),
            total: amount(balance.available.0.saturating_add(balance.held.0)),
        }
    }
}

/// An account's balances, by asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Balances {
    /// The account.
    #[schema(examples("2"))]
    pub account_id: String,
    /// One for each asset that it holds or held.
    pub balances: Vec<Balance>,
    /// Up to where it knows.
    pub position: Position,
}

/// Cancel all of the account's orders at a deadline, unless another request moves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelAfterRequest {
    /// How long after the request was sequenced, in milliseconds, at most one day; 0 switches it off.
    #[schema(minimum = 0, maximum = 86_400_000)]
    pub after_ms: u64,
    /// Refuse it when sequenced after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<TimeText>,
}

/// The answer to a cancel-after request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelAfterAnswer {
    /// What became of the request.
    pub outcome: Outcome,
    /// What the outcome speaks of.
    pub applies_to: AppliesTo,
    /// True if the same request was answered before: this is the first answer.
    pub repeat: bool,
    /// The request's id.
    pub request_id: String,
    /// When all orders are cancelled; null if it is off.
    pub deadline: Option<TimeText>,
    /// Where the request was sequenced.
    pub position: Position,
    /// Where its effects are durable.
    pub durable_in: DurableIn,
    /// When.
    pub times: Times,
}

/// The answer to a cancel-all request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelAllAnswer {
    /// What became of the request.
    pub outcome: Outcome,
    /// What the outcome speaks of.
    pub applies_to: AppliesTo,
    /// True if the same request was answered before: this is the first answer.
    pub repeat: bool,
    /// The request's id.
    pub request_id: String,
    /// How many orders.
    pub count: u32,
    /// The ids of the orders that were cancelled at once; where there are very many the rest follows by itself.
    pub order_ids: Vec<String>,
    /// Where the request was sequenced.
    pub position: Position,
    /// Where its effects are durable.
    pub durable_in: DurableIn,
    /// When.
    pub times: Times,
}

/// The node's time, and for which cluster to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerTime {
    /// Nanoseconds since 1970, UTC.
    pub now: TimeText,
    /// By how much that may be off, in nanoseconds.
    pub clock_error_bound_ns: NumberText,
    /// The cluster's id, which is part of every signature.
    pub cluster_id: String,
    /// The group that answers.
    pub group: u16,
    /// Its epoch.
    pub epoch: u32,
    /// The last sequence that it has applied.
    pub last_sequence: NumberText,
}

/// A token bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RateLimitPolicy {
    /// Its name, as in the `RateLimit-Policy` header.
    pub name: String,
    /// How many requests fit in it.
    pub burst: u32,
    /// How many it regains in a second.
    pub per_second: u32,
    /// How many are left now.
    pub remaining: u32,
}

/// The limits that hold for the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// The token buckets.
    pub rate_limits: Vec<RateLimitPolicy>,
    /// How long a request id is remembered at least, in milliseconds.
    pub request_window_ms: NumberText,
    /// Ids of requests that were sequenced after this are remembered.
    pub request_horizon: TimeText,
    /// How many bytes the memory of request ids may take.
    pub request_memory_bytes_max: NumberText,
    /// Bytes of a request's body, or of a WebSocket message.
    pub request_bytes_max: u32,
    /// Requests in one batch.
    pub batch_items_max: u32,
    /// The widest `Meridian-Window`, in milliseconds.
    pub signature_window_ms_max: u32,
    /// How many orders the account may have open.
    pub open_orders_max: u32,
    /// How many orders the account has open.
    pub open_orders: u32,
    /// The version of the limits that requests are executed by.
    pub rules_version: u32,
}
