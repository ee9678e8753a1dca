//! Why the engine refused a command. Each reason has a code for programs and a sentence for people.
//!
//! `wire::errors` maps each to HTTP and FIX; this table is the only place that words them.

use serde::{Deserialize, Serialize};

macro_rules! reject_reasons {
    ($($variant:ident = $number:literal, $code:literal, $sentence:literal;)*) => {
        /// Why the engine refused a command. The numbers are part of the record format: never reuse one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u16)]
        pub enum RejectReason {
            $(#[doc = $sentence] $variant = $number,)*
        }

        impl RejectReason {
            /// Every reason, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The reason for programs, as in `insufficient_funds`.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// The reason for people: one sentence that says what to do where it isn't plain.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// The reason of a number, as it stands in records.
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

reject_reasons! {
    RequestIdReused = 1, "request_id_reused", "This request id was used before with another content; choose a new id for a new request.";
    RequestMemoryFull = 2, "request_memory_full", "The memory of request ids is full of entries younger than the request window; wait or ask the operator to enlarge it.";
    ValidUntilPassed = 3, "valid_until_passed", "The request was sequenced after its valid_until.";
    ValidUntilTooFar = 4, "valid_until_too_far", "valid_until lies beyond the request window, within which alone exactly-once is promised.";
    RequestIdBurnt = 5, "request_id_burnt", "A cancel for this client_order_id came first, so an order under it will never execute.";
    KeyUnknown = 10, "key_unknown", "The key does not exist.";
    KeyRevoked = 11, "key_revoked", "The key was revoked.";
    KeyScopeMissing = 12, "key_scope_missing", "The key's scopes do not allow this request.";
    AccountUnknown = 13, "account_unknown", "The account does not exist.";
    AccountSuspended = 14, "account_suspended", "The account is suspended.";
    AccountCancelOnly = 15, "account_cancel_only", "The account may only cancel.";
    InstrumentUnknown = 20, "instrument_unknown", "The instrument does not exist.";
    InstrumentHalted = 21, "instrument_halted", "The instrument is halted; only cancels are taken.";
    InstrumentClosed = 22, "instrument_closed", "The instrument is closed for good.";
    InstrumentScaleChanged = 23, "instrument_scale_changed", "The tick or lot size changed while the request was under way; read the instrument and send a new order.";
    PriceOutOfRange = 30, "price_out_of_range", "The price must be at least one tick and within the range of numbers that the exchange takes.";
    PriceOutsideCollar = 31, "price_outside_collar", "The price is further from the reference price than the instrument's collar allows.";
    QuantityTooSmall = 32, "quantity_too_small", "The quantity is below the instrument's minimum.";
    QuantityTooLarge = 33, "quantity_too_large", "The quantity is above the instrument's maximum.";
    NotionalTooSmall = 34, "notional_too_small", "Price x quantity is below the instrument's minimum.";
    NotionalTooLarge = 35, "notional_too_large", "Price x quantity is above the instrument's maximum.";
    InsufficientFunds = 36, "insufficient_funds", "The available balance does not cover the order and its fees.";
    OpenOrdersLimit = 37, "open_orders_limit", "The account, or the exchange, has as many open orders as it may have.";
    PostOnlyWouldTake = 38, "post_only_would_take", "The post-only order would have traded at once.";
    FokNotFillable = 39, "fok_not_fillable", "The fill-or-kill order could not be filled whole.";
    NoLiquidity = 40, "no_liquidity", "There is nothing in the book that the market order could trade with.";
    ExpiryPassed = 41, "expiry_passed", "The order's expiry is not after the time at which it was sequenced.";
    CombinationInvalid = 42, "combination_invalid", "These order fields exclude each other (a market order takes no price and is ioc or fok; post_only needs a resting limit order).";
    OrderUnknown = 50, "order_unknown", "The account has no such order.";
    OrderClosed = 51, "order_closed", "The order is no longer open: it was filled, cancelled or has expired.";
    QuantityNotAboveFilled = 52, "quantity_not_above_filled", "The new quantity is not above what was filled already.";
    NothingToChange = 53, "nothing_to_change", "The replace asks for the price and quantity that the order has.";
    DeadlineTooFar = 54, "deadline_too_far", "The cancel-after deadline lies too far in the future.";
    AmountOutOfRange = 60, "amount_out_of_range", "The amount must be positive, and the balance and the total supply must stay within the range of numbers that the exchange takes.";
    AssetUnknown = 61, "asset_unknown", "The asset does not exist.";
    SymbolTaken = 62, "symbol_taken", "The symbol is taken.";
    RulesInvalid = 63, "rules_invalid", "The rules contradict themselves or lie outside of their ranges.";
    NotHaltedAndEmpty = 64, "not_halted_and_empty", "Tick or lot can change only while the instrument is halted and its book is empty.";
    LimitReached = 65, "limit_reached", "The exchange has as many of these as its rules allow.";
    KeyInvalid = 66, "key_invalid", "The key's material or scopes are not valid for this account.";
    InitialisedAlready = 67, "initialised_already", "The cluster has its first admin key already.";
    EngineVersionNotHigher = 68, "engine_version_not_higher", "The engine version is not above the one that is in force.";
    NotInForce = 69, "not_in_force", "The request asks for behaviour of an engine version that is not yet in force.";
    Quarantined = 90, "quarantined", "The operator quarantined this command, because applying it failed.";
}

impl RejectReason {
    /// True if the refusal is final: it is remembered under the request id, and nothing else under that id has executed or
    /// will. False for what is decided before the memory of requests may be touched (the key, unknown accounts and keys,
    /// no room) and for an id that was used already.
    pub const fn uses_request_id(self) -> bool {
        !matches!(
            self,
            Self::RequestIdReused
                | Self::RequestMemoryFull
                | Self::KeyUnknown
                | Self::KeyRevoked
                | Self::KeyScopeMissing
                | Self::AccountUnknown
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_distinct_and_found_by_number() {
        for (index, reason) in RejectReason::ALL.iter().enumerate() {
            assert_eq!(RejectReason::from_number(*reason as u16), Some(*reason));
            assert!(reason.sentence().ends_with('.'));
            for other in &RejectReason::ALL[index + 1..] {
                assert_ne!(reason.code(), other.code());
            }
        }
        assert_eq!(RejectReason::from_number(0), None);
    }
}
