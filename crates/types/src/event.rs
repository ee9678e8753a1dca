//! What came of a command. Events carry all that a follower needs to keep its own picture of the exchange.
//!
//! Every command yields at least one event. The first one is the command's own answer; what else it caused follows:
//! deadlines that were due come last, as they would from a later clock command.

use serde::{Deserialize, Serialize};

use crate::account::{Account, Balance, Key};
use crate::asset::Asset;
use crate::engine_version::EngineVersion;
use crate::ids::{AccountId, InstrumentId, OrderId, Position, RequestId};
use crate::instrument::Instrument;
use crate::money::{Amount, Price, Quantity};
use crate::order::{Order, Side};
use crate::reject::RejectReason;
use crate::rules::Rules;
use crate::time::Timestamp;

/// What came of a command. Variants are appended, never reordered or changed: their index is part of the record format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A clock command.
    ClockAdvanced,
    /// The command was refused; nothing changed but the memory of its request id.
    Rejected {
        /// Whose request.
        account: AccountId,
        /// Which request.
        request_id: RequestId,
        /// Why.
        reason: RejectReason,
    },
    /// The same request came again: its first answer stands at `original`.
    Repeated {
        /// Whose request.
        account: AccountId,
        /// Which request.
        request_id: RequestId,
        /// Where it was sequenced first.
        original: Position,
        /// When it was sequenced first.
        original_sequenced_at: Timestamp,
        /// Why it was refused then, if it was.
        reason: Option<RejectReason>,
        /// The order as it is now, if the request placed one that is still open.
        order: Option<Order>,
    },
    /// An order was taken, as it was before it matched: `status` is `Open`, nothing filled.
    OrderPlaced(Order),
    /// An order was changed, as it is before it matches at its new price. Self-trade prevention that decrements tells the
    /// smaller quantity of an order so too, whatever the command was.
    OrderReplaced {
        /// The order with its new price and quantity.
        order: Order,
        /// True if it kept its place in the queue.
        priority_kept: bool,
        /// The price that it had.
        old_price: Price,
        /// What could still be filled before the change, in lots.
        old_remaining: Quantity,
    },
    /// Two orders traded.
    Traded(Trade),
    /// An order came to its end other than by being filled; what a `Traded` filled whole needs no such event.
    OrderClosed {
        /// The order with its final status.
        order: Order,
        /// Why.
        reason: CloseReason,
        /// What could still have been filled, in lots.
        cancelled_quantity: Quantity,
    },
    /// All of the account's orders (of an instrument) were asked to be cancelled; an `OrderClosed` follows for each.
    /// Those of everybody follow in bounded steps, with the commands that come next; the instrument takes no orders until
    /// the last one is closed.
    AllCancelled {
        /// Whose; everybody's if none.
        account: Option<AccountId>,
        /// Of what; everything if none.
        instrument: Option<InstrumentId>,
        /// How many orders.
        count: u32,
    },
    /// A cancel of an unknown client order id: an order under that id will never execute.
    ClientOrderIdBurnt {
        /// Whose.
        account: AccountId,
        /// Which.
        client_order_id: RequestId,
    },
    /// The account's dead man's switch was set, moved or switched off.
    CancelAfterSet {
        /// Whose.
        account: AccountId,
        /// When it fires; none if it is off.
        deadline: Option<Timestamp>,
    },
    /// A balance after the command, once for each that it changed. Of a deposit or withdrawal it is the answer, and thus
    /// the first event; should a deadline that was due change the same balance, a second one follows.
    BalanceChanged {
        /// The balance as it is now.
        balance: Balance,
        /// What moved it.
        reason: BalanceReason,
    },
    /// A new asset.
    AssetCreated(Asset),
    /// An instrument as it is now: new, or its rules or status changed.
    InstrumentChanged(Instrument),
    /// An account as it is now: new, or its status changed.
    AccountChanged(Account),
    /// A key as it is now: new or revoked.
    KeyChanged(Key),
    /// The limits as they are now.
    RulesChanged(Rules),
    /// Another version of the exchange's behaviour is in force from now on.
    EngineVersionChanged(EngineVersion),
}

/// A trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trade {
    /// Of what.
    pub instrument: InstrumentId,
    /// Which of its command's fills this is, from 0; with the command's position it makes the `FillId`.
    pub index: u32,
    /// The maker's price, in ticks.
    pub price: Price,
    /// How much, in lots.
    pub quantity: Quantity,
    /// Price x quantity, in smallest units of the quote asset.
    pub notional: Amount,
    /// The side of the taker.
    pub taker_side: Side,
    /// The resting order.
    pub maker: FillSide,
    /// The incoming order.
    pub taker: FillSide,
}

/// One side of a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillSide {
    /// Its order.
    pub order_id: OrderId,
    /// Whose.
    pub account: AccountId,
    /// What the client calls the order.
    pub client_order_id: RequestId,
    /// The fee of this fill, in smallest units of the quote asset; negative is a rebate.
    pub fee: Amount,
    /// What may still be filled after it, in lots; 0 closes the order as filled.
    pub remaining: Quantity,
}

/// Why an order came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum CloseReason {
    /// Its owner cancelled it.
    Requested,
    /// It would have traded with its own account.
    SelfTrade,
    /// What an immediate-or-cancel or market order did not fill at once.
    Unfilled,
    /// Its time was over.
    Expired,
    /// The account's dead man's switch fired.
    CancelAfter,
    /// The operator cancelled it, suspended its account or closed its instrument.
    Operator,
}

/// What moved a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum BalanceReason {
    /// An order was placed, changed, filled or closed.
    Order,
    /// A deposit.
    Deposit,
    /// A withdrawal.
    Withdrawal,
}

impl Event {
    /// The account whose private streams the event belongs to, for events of one account.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Self::Rejected { account, .. }
            | Self::Repeated { account, .. }
            | Self::ClientOrderIdBurnt { account, .. }
            | Self::CancelAfterSet { account, .. } => Some(*account),
            Self::OrderPlaced(order) | Self::OrderReplaced { order, .. } | Self::OrderClosed { order, .. } => {
                Some(order.account)
            }
            Self::BalanceChanged { balance, .. } => Some(balance.account),
            Self::AllCancelled { account, .. } => *account,
            Self::AccountChanged(account) => Some(account.id),
            Self::KeyChanged(key) => Some(key.account),
            Self::ClockAdvanced
            | Self::Traded(_)
            | Self::AssetCreated(_)
            | Self::InstrumentChanged(_)
            | Self::RulesChanged(_)
            | Self::EngineVersionChanged(_) => None,
        }
    }
}
