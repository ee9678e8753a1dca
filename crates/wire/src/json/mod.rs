//! The JSON of REST, version 1. WebSocket messages are made of the same parts.
//!
//! - Decimal numbers, sequences, ids and times (nanoseconds since 1970, UTC) are strings; no floating point anywhere.
//! - Requests refuse unknown and duplicate keys. Answers may gain keys: a reader skips those that it doesn't know.
//! - Nothing of `types` is serialised as it is: a change inside of the exchange never changes a byte here.

mod account;
mod admin;
mod borrowed;
mod cluster;
mod market;
mod order;
mod problem;
mod region;
mod scalar;
pub mod write;

pub use account::{
    Balance, Balances, CancelAfterAnswer, CancelAfterRequest, CancelAllAnswer, Limits, RateLimitPolicy, ServerTime,
};
pub use admin::{
    Account, AccountStatusRequest, Accounts, AdminAnswer, Asset, AssetRequest, Assets, CancelAllForRequest,
    InstrumentRequest, InstrumentStatusRequest, Key, KeyRequest, KeyType, Keys, Rules, Scope, TransferRequest,
};
pub use borrowed::{CancelRef, NewOrderRef, ReplaceRef};
pub use cluster::{
    ClusterMember, ClusterStatus, EngineVersionMember, EngineVersionRequest, EngineVersionStatus, LeaderRequest,
    MemberRequest, MemberRole, NewMemberRole,
};
pub use market::{Book, BookLevel, Instrument, InstrumentRules, Instruments, Trade, Trades};
pub use order::{
    BatchAnswer, BatchItem, BatchItemAnswer, BatchRequest, CancelItem, Fill, Fills, NewOrder, Order, OrderAnswer,
    Orders, Replace, ReplaceItem, Role, ValidationAnswer,
};
pub use problem::Problem;
pub use region::{EpochBegun, RegionLag, RegionOperated, RegionStatus};
pub use scalar::{
    AccountStatus, AppliesTo, BalanceReason, CloseReason, DecimalText, DurableIn, Freshness, InstrumentStatus,
    NumberText, OrderStatus, OrderType, Outcome, Position, SelfTradePrevention, Side, TimeInForce, TimeText, Times,
};

use types::{Decimal, Symbol};

/// What turns an instrument's ticks and lots into text: its names and steps at some scale version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The instrument's name.
    pub symbol: Symbol,
    /// The quote asset's name, in which fees are.
    pub quote: Symbol,
    /// Digits after the point of the quote asset's smallest unit.
    pub quote_decimals: u8,
    /// The step of prices.
    pub tick_size: Decimal,
    /// The step of quantities.
    pub lot_size: Decimal,
    /// Of which version these steps are.
    pub version: u32,
}

impl Scale {
    /// The scale of an instrument as it is now.
    pub fn of(instrument: &types::Instrument, quote: &types::Asset) -> Self {
        Self {
            symbol: instrument.symbol,
            quote: quote.symbol,
            quote_decimals: quote.decimals,
            tick_size: instrument.rules.tick_size,
            lot_size: instrument.rules.lot_size,
            version: instrument.scale_version,
        }
    }

    /// A price as text.
    pub fn price(&self, price: types::Price) -> DecimalText {
        DecimalText::of_steps(self.tick_size, price.0)
    }

    /// A quantity as text.
    pub fn quantity(&self, quantity: types::Quantity) -> DecimalText {
        DecimalText::of_steps(self.lot_size, quantity.0)
    }

    /// An amount of the quote asset as text.
    pub fn amount(&self, amount: types::Amount) -> DecimalText {
        DecimalText::of_units(self.quote_decimals, amount.0)
    }
}
