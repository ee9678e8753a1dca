//! Plain data of the exchange: what is asked (`Command`), what came of it (`Event`), and the words both are made of.
//!
//! Nothing here does I/O, reads a clock or knows a byte layout; `wire` owns the bytes. All numbers are integers:
//! prices in ticks, quantities in lots, amounts in the smallest units of their asset.

mod account;
mod asset;
mod batch;
mod command;
mod engine_version;
mod event;
mod ids;
mod instrument;
pub mod limits;
mod money;
mod order;
mod reject;
mod rules;
mod state_machine;
mod text;
mod time;

pub use account::{Account, AccountStatus, Balance, Key, KeyMaterial, Scopes};
pub use asset::Asset;
pub use batch::{AppliedBatch, AppliedCommand, BatchHeader};
pub use command::{Action, CancelAfter, CancelAll, Command, NewKey, NewOrder, OrderTarget, Replace, Transfer};
pub use engine_version::EngineVersion;
pub use event::{BalanceReason, CloseReason, Event, FillSide, Trade};
pub use ids::{
    AccountId, AssetId, ClusterId, Epoch, FillId, GroupId, Incarnation, InstrumentId, KeyId, OrderId, ParseIdError,
    Position, RegionId, RequestId, Sequence, Symbol,
};
pub use instrument::{Instrument, InstrumentRules, InstrumentStatus};
pub use money::{Amount, Decimal, DecimalError, FeeRate, Price, Quantity};
pub use order::{Order, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce};
pub use reject::RejectReason;
pub use rules::Rules;
pub use state_machine::StateMachine;
pub use text::{ShortText, TextError};
pub use time::Timestamp;
