//! What is asked of the exchange.
//!
//! A command is the unit of sequencing. Its place in the log, its stamp and its epoch stand in the batch that carries
//! it (`BatchHeader`), not in the command.

use serde::{Deserialize, Serialize};

use crate::account::{AccountStatus, KeyMaterial, Scopes};
use crate::engine_version::EngineVersion;
use crate::ids::{AccountId, AssetId, InstrumentId, KeyId, OrderId, RequestId, Symbol};
use crate::instrument::{InstrumentRules, InstrumentStatus};
use crate::money::{Amount, Price, Quantity};
use crate::order::{OrderType, SelfTradePrevention, Side, TimeInForce};
use crate::rules::Rules;
use crate::time::Timestamp;

/// One request, from whom, and under which id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// For which account; that of the key, or the operator's.
    pub account: AccountId,
    /// The key that signed it. `apply` checks it again.
    pub key: KeyId,
    /// The id that makes it execute once. Empty only for [`Action::Clock`].
    pub request_id: RequestId,
    /// Refuse it when sequenced after this.
    pub valid_until: Option<Timestamp>,
    /// When the gateway read its first byte. Not part of what makes two requests the same.
    pub received_at: Timestamp,
    /// What is asked.
    pub action: Action,
}

impl Command {
    /// The command that lets time pass when nothing else does.
    pub fn clock(now: Timestamp) -> Self {
        Self {
            account: AccountId::OPERATOR,
            key: KeyId::SYSTEM,
            request_id: RequestId::EMPTY,
            valid_until: None,
            received_at: now,
            action: Action::Clock,
        }
    }
}

/// What is asked. Variants are appended, never reordered or changed: their index is part of the record format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Let deadlines that are due take effect.
    Clock,
    /// Place an order; the command's request id is its client order id.
    Place(NewOrder),
    /// Change an order's price, quantity or both.
    Replace(Replace),
    /// Cancel an order.
    Cancel(OrderTarget),
    /// Cancel all of the account's orders, or those of one instrument.
    CancelAll(CancelAll),
    /// Cancel all of the account's orders at a deadline, unless it is moved.
    CancelAfter(CancelAfter),
    /// Operator: a new asset.
    CreateAsset {
        /// Its name.
        symbol: Symbol,
        /// Digits after the point, 0 to 12.
        decimals: u8,
    },
    /// Operator: a new instrument, which starts out halted.
    CreateInstrument {
        /// Its name.
        symbol: Symbol,
        /// What is bought and sold.
        base: AssetId,
        /// What it is paid with.
        quote: AssetId,
        /// Its rules.
        rules: InstrumentRules,
    },
    /// Operator: new rules for an instrument.
    SetInstrumentRules {
        /// Which.
        instrument: InstrumentId,
        /// All of its rules.
        rules: InstrumentRules,
    },
    /// Operator: trade, halt or close an instrument.
    SetInstrumentStatus {
        /// Which.
        instrument: InstrumentId,
        /// What it becomes. Closing is for good and cancels its orders.
        status: InstrumentStatus,
    },
    /// Operator: a new account.
    CreateAccount,
    /// Operator: let an account trade, only cancel, or nothing (which cancels its orders).
    SetAccountStatus {
        /// Which.
        account: AccountId,
        /// What it becomes.
        status: AccountStatus,
    },
    /// Operator: money comes in from outside.
    Deposit(Transfer),
    /// Operator: money goes out.
    Withdraw(Transfer),
    /// Operator: a new key. The very first one of a cluster is made by the system key.
    CreateKey(NewKey),
    /// Operator: revoke a key.
    RevokeKey {
        /// Which.
        key: KeyId,
    },
    /// Operator: cancel all orders of one account, or of one instrument, or of both together.
    CancelAllFor {
        /// Whose; everybody's if none.
        account: Option<AccountId>,
        /// Of what; everything if none. At least one of the two is given.
        instrument: Option<InstrumentId>,
    },
    /// Operator: new limits. The version must be the present one plus 1.
    SetRules(Rules),
    /// Operator: switch on newer behaviour. Programs know it since version 2.
    SetEngineVersion {
        /// What is in force from the next command on; above what is now.
        version: EngineVersion,
    },
}

/// A new order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewOrder {
    /// Of what.
    pub instrument: InstrumentId,
    /// In whose ticks and lots the numbers are.
    pub scale_version: u32,
    /// Buy or sell.
    pub side: Side,
    /// Limit or market.
    pub order_type: OrderType,
    /// How long it lives; a market order is `Ioc` or `Fok`.
    pub time_in_force: TimeInForce,
    /// Its limit in ticks; 0 for a market order.
    pub price: Price,
    /// How much, in lots.
    pub quantity: Quantity,
    /// Refuse it rather than take.
    pub post_only: bool,
    /// What happens at a trade with itself.
    pub self_trade_prevention: SelfTradePrevention,
}

/// Which order of the account is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderTarget {
    /// The one of this id.
    OrderId(OrderId),
    /// The one that the client called so. Cancelling one that is unknown burns the id.
    ClientOrderId(RequestId),
}

/// A change of an order. A smaller quantity at the same price keeps its priority; everything else loses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replace {
    /// Which order.
    pub target: OrderTarget,
    /// In whose ticks and lots the numbers are.
    pub scale_version: u32,
    /// The new limit in ticks; the old one if none.
    pub price: Option<Price>,
    /// The new whole quantity in lots, what was filled included; the old one if none.
    pub quantity: Option<Quantity>,
    /// Refuse it rather than take; the order's own setting if none.
    pub post_only: Option<bool>,
}

/// Cancel the account's orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelAll {
    /// Of what; everything if none.
    pub instrument: Option<InstrumentId>,
}

/// The dead man's switch: all orders of the account are cancelled at the deadline, unless another one moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelAfter {
    /// How long after it was sequenced, in nanoseconds; 0 switches it off.
    pub after_ns: u64,
}

/// Money in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Whose balance.
    pub account: AccountId,
    /// Of what.
    pub asset: AssetId,
    /// How much, positive.
    pub amount: Amount,
}

/// A new API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    /// For which account it acts; the operator's for an admin key.
    pub account: AccountId,
    /// What it may do.
    pub scopes: Scopes,
    /// How its requests are verified. A sealed secret is not part of what makes two requests the same.
    pub material: KeyMaterial,
}
