//! Numbers, times and names as they stand in JSON.

use std::fmt;

use serde::{Deserialize, Serialize};
use types::{Decimal, DecimalError, Position as TypesPosition, Sequence, Timestamp};
use utoipa::ToSchema;

/// A decimal number as text, as in `"50000.00"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, pattern = r"^-?[0-9]+(\.[0-9]+)?$", examples("50000.00"))]
pub struct DecimalText(pub String);

impl DecimalText {
    /// `steps` times a step: a price of its ticks, a quantity of its lots.
    pub fn of_steps(step: Decimal, steps: i64) -> Self {
        let units = i128::from(step.units) * i128::from(steps);
        let sign = if units < 0 { "-" } else { "" };
        let magnitude = units.unsigned_abs();
        if step.scale == 0 {
            return Self(format!("{sign}{magnitude}"));
        }
        let divisor = 10_u128.pow(u32::from(step.scale));
        let width = usize::from(step.scale);
        Self(format!("{sign}{}.{:0width$}", magnitude / divisor, magnitude % divisor))
    }

    /// An amount of smallest units, of which 10^`decimals` make 1.
    pub fn of_units(decimals: u8, units: i64) -> Self {
        Self::of_steps(Decimal::unit(decimals), units)
    }

    /// The number.
    pub fn decimal(&self) -> Result<Decimal, DecimalError> {
        self.0.parse()
    }

    /// How many whole steps it is.
    pub fn in_steps(&self, step: Decimal) -> Result<i64, DecimalError> {
        self.decimal()?.in_steps(step)
    }
}

impl fmt::Display for DecimalText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A whole number as text, because it can be larger than JSON readers keep exact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, pattern = "^(0|[1-9][0-9]*)$", examples("1234"))]
pub struct NumberText(pub String);

impl NumberText {
    /// The number, if it is spelt as it should be.
    pub fn number(&self) -> Option<u64> {
        number(&self.0)
    }
}

/// How fresh the answer to a query is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// It has everything that was acknowledged before the query was sent, on whatever node.
    #[default]
    Linearizable,
    /// It is what the node that answers knows; its position says up to where that is.
    Stale,
}

impl Freshness {
    /// The name, as it stands in a query and in an answer's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Stale => "stale",
        }
    }

    /// The freshness of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Linearizable, Self::Stale]
            .into_iter()
            .find(|freshness| freshness.name() == name)
    }
}

impl From<u64> for NumberText {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

impl From<Sequence> for NumberText {
    fn from(sequence: Sequence) -> Self {
        Self::from(sequence.0)
    }
}

/// Nanoseconds since 1970, UTC, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, pattern = "^(0|[1-9][0-9]*)$", examples("1790000000000000000"))]
pub struct TimeText(pub String);

impl TimeText {
    /// The time, if it is spelt as it should be.
    pub fn time(&self) -> Option<Timestamp> {
        Self::read(&self.0)
    }

    /// The time of a text, if it is spelt as it should be.
    pub fn read(text: &str) -> Option<Timestamp> {
        number(text).map(Timestamp)
    }
}

impl From<Timestamp> for TimeText {
    fn from(time: Timestamp) -> Self {
        Self(time.to_string())
    }
}

/// Digits only and no leading zero.
fn number(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// A place in the whole cluster's log, the same on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Position {
    /// The group whose log it is.
    pub group: u16,
    /// The epoch of the region that sequenced it.
    pub epoch: u32,
    /// Its place in the log.
    pub sequence: NumberText,
}

impl From<TypesPosition> for Position {
    fn from(position: TypesPosition) -> Self {
        Self {
            group: position.group.0,
            epoch: position.epoch.0,
            sequence: position.sequence.into(),
        }
    }
}

impl Position {
    /// The position, if its sequence is spelt as it should be.
    pub fn position(&self) -> Option<TypesPosition> {
        Some(TypesPosition {
            group: types::GroupId(self.group),
            epoch: types::Epoch(self.epoch),
            sequence: Sequence(self.sequence.number()?),
        })
    }
}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident = $domain:ty { $($(#[$variant_doc:meta])* $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl From<$domain> for $name {
            fn from(value: $domain) -> Self {
                match value { $(<$domain>::$variant => Self::$variant,)* }
            }
        }

        impl From<$name> for $domain {
            fn from(value: $name) -> Self {
                match value { $($name::$variant => Self::$variant,)* }
            }
        }
    };
}

names! {
    /// Buy or sell.
    Side = types::Side {
        /// Buys the base asset.
        Buy,
        /// Sells the base asset.
        Sell,
    }
}
names! {
    /// Limit or market.
    OrderType = types::OrderType {
        /// Trades at its price or better.
        Limit,
        /// Trades at what there is, up to the collar; never rests.
        Market,
    }
}
names! {
    /// What happens when an order would trade with one of its own account.
    SelfTradePrevention = types::SelfTradePrevention {
        /// The incoming order's rest is cancelled.
        CancelNewest,
        /// The resting order is cancelled; matching goes on.
        CancelOldest,
        /// Both are cancelled.
        CancelBoth,
        /// Both lose the smaller one's remaining quantity without a trade; the smaller one, or both if they are equal, is
        /// cancelled. Taken since engine version 2 is in force.
        DecrementAndCancel,
    }
}
names! {
    /// Where an order is in its life.
    OrderStatus = types::OrderStatus {
        /// It rests in the book, possibly partly filled.
        Open,
        /// All of it traded.
        Filled,
        /// Its rest was cancelled.
        Cancelled,
        /// Its time was over.
        Expired,
    }
}
names! {
    /// Why an order came to its end other than by being filled.
    CloseReason = types::CloseReason {
        /// Its owner cancelled it.
        Requested,
        /// It would have traded with its own account.
        SelfTrade,
        /// What an immediate-or-cancel or market order did not fill at once.
        Unfilled,
        /// Its time was over.
        Expired,
        /// The account's cancel-after deadline passed.
        CancelAfter,
        /// The operator cancelled it, suspended its account or closed its instrument.
        Operator,
    }
}
names! {
    /// Whether an instrument trades.
    InstrumentStatus = types::InstrumentStatus {
        /// Orders are taken and matched.
        Trading,
        /// Orders rest; only cancels are taken.
        Halted,
        /// For good: its orders were cancelled.
        Closed,
    }
}
names! {
    /// Whether an account may trade.
    AccountStatus = types::AccountStatus {
        /// It trades.
        Active,
        /// It may only cancel.
        CancelOnly,
        /// Nothing is taken from it; its orders were cancelled.
        Suspended,
    }
}
names! {
    /// What moved a balance.
    BalanceReason = types::BalanceReason {
        /// An order was placed, changed, filled or closed.
        Order,
        /// A deposit.
        Deposit,
        /// A withdrawal.
        Withdrawal,
    }
}

/// How long an order lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeInForce {
    /// Good till cancelled.
    Gtc,
    /// Immediate or cancel.
    Ioc,
    /// Fill or kill.
    Fok,
    /// Good till `expires_at`.
    Gtd,
    /// Until the end of the UTC day.
    Day,
}

impl From<types::TimeInForce> for TimeInForce {
    fn from(value: types::TimeInForce) -> Self {
        match value {
            types::TimeInForce::Gtc => Self::Gtc,
            types::TimeInForce::Ioc => Self::Ioc,
            types::TimeInForce::Fok => Self::Fok,
            types::TimeInForce::Gtd(_) => Self::Gtd,
            types::TimeInForce::Day => Self::Day,
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was executed and is durable.
    Executed,
    /// It was not executed.
    NotExecuted,
    /// It may have been executed: ask again with the same id.
    Unknown,
}

/// What the outcome speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppliesTo {
    /// Everything under this id: the answer is final, nothing else under the id has executed or will.
    Order,
    /// This attempt alone: it was refused before it was sequenced, an earlier attempt may have executed; keep the id.
    Attempt,
}

/// Where an answer's effects are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DurableIn {
    /// On disk at a majority of the voters of the region that answered.
    Region,
    /// In both regions.
    Both,
}

/// The times of a sequenced request, in nanoseconds since 1970, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Times {
    /// When the gateway read the request's first byte.
    pub received_at: TimeText,
    /// When the leader sequenced it.
    pub sequenced_at: TimeText,
    /// When the leader saw the promised durability; null if that is not known.
    pub committed_at: Option<TimeText>,
    /// By how much the leader's clock may have been off UTC then, in nanoseconds.
    pub clock_error_bound_ns: NumberText,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_show_the_scale_of_their_step_and_never_overflow() {
        for (step, steps, shown) in [
            (Decimal::new(25, 2), 42, "10.50"),
            (Decimal::new(1, 0), -7, "-7"),
            (Decimal::new(1, 8), 1, "0.00000001"),
            (Decimal::new(1, 8), -1, "-0.00000001"),
            (
                Decimal::new(i64::MAX, 18),
                1 << 48,
                "2596148429267413.813983773187899392",
            ),
        ] {
            assert_eq!(DecimalText::of_steps(step, steps).0, shown);
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(NumberText("18446744073709551615".into()).number(), Some(u64::MAX));
        for wrong in ["", "01", "+1", "-1", "1.0", "18446744073709551616", " 1"] {
            assert_eq!(NumberText(wrong.into()).number(), None, "{wrong}");
        }
    }
}
