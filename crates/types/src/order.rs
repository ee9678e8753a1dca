//! Orders.

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, InstrumentId, OrderId, RequestId};
use crate::money::{Amount, Price, Quantity};
use crate::time::Timestamp;

/// Buy or sell (FIX tag 54).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Side {
    /// Buys the base asset.
    Buy,
    /// Sells the base asset.
    Sell,
}

impl Side {
    /// The other side.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }
}

/// Limit or market (FIX tag 40).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum OrderType {
    /// Trades at its price or better.
    Limit,
    /// Trades at what there is, up to the collar; never rests.
    Market,
}

/// How long an order lives (FIX tag 59).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TimeInForce {
    /// Good till cancelled.
    Gtc,
    /// Immediate or cancel.
    Ioc,
    /// Fill or kill.
    Fok,
    /// Good till this time: it expires when `sequenced_at` reaches it.
    Gtd(Timestamp),
    /// Until the end of the UTC day in which it was sequenced.
    Day,
}

/// What happens when an order would trade with one of its own account (FIX tag 7928's sense; the taker's choice rules).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum SelfTradePrevention {
    /// The incoming order's rest is cancelled.
    CancelNewest,
    /// The resting order is cancelled; matching goes on.
    CancelOldest,
    /// Both are cancelled.
    CancelBoth,
    /// Both lose the smaller one's remaining quantity without a trade; the smaller one, or both if they are equal, is
    /// cancelled, and matching goes on. Since engine version 2.
    DecrementAndCancel,
}

/// Where an order is in its life (FIX tag 39).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum OrderStatus {
    /// It rests in the book, possibly partly filled.
    Open,
    /// All of it traded.
    Filled,
    /// Its rest was cancelled.
    Cancelled,
    /// Its time was over.
    Expired,
}

/// An order as it is after some command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id.
    pub order_id: OrderId,
    /// Whose.
    pub account: AccountId,
    /// What the client calls it.
    pub client_order_id: RequestId,
    /// Of what.
    pub instrument: InstrumentId,
    /// Buy or sell.
    pub side: Side,
    /// Limit or market.
    pub order_type: OrderType,
    /// How long it lives.
    pub time_in_force: TimeInForce,
    /// Its limit, in ticks; for a market order the price beyond which it does not trade.
    pub price: Price,
    /// All of it, in lots: what was filled and what may still be.
    pub quantity: Quantity,
    /// What was filled, in lots.
    pub filled: Quantity,
    /// The sum of price x quantity of its fills, in smallest units of the quote asset.
    pub filled_notional: Amount,
    /// Fees charged so far, in smallest units of the quote asset; negative is a rebate.
    pub fee: Amount,
    /// True if it may only make.
    pub post_only: bool,
    /// What happens at a trade with itself.
    pub self_trade_prevention: SelfTradePrevention,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// When the command that placed it was sequenced.
    pub placed_at: Timestamp,
}

impl Order {
    /// What may still be filled, in lots; 0 once it is closed.
    pub fn remaining(&self) -> Quantity {
        match self.status {
            OrderStatus::Open => Quantity(self.quantity.0 - self.filled.0),
            OrderStatus::Filled | OrderStatus::Cancelled | OrderStatus::Expired => Quantity(0),
        }
    }
}
