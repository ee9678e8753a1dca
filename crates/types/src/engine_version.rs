//! Which behaviour of the exchange is in force. It is state: only a sequenced command raises it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::command::{Action, Command};
use crate::order::SelfTradePrevention;

/// A version of the exchange's behaviour, from 1 on. Not that of its limits, which is [`crate::Rules::version`].
///
/// A program knows all versions up to its newest. A newer one stays dormant until [`Action::SetEngineVersion`] is
/// sequenced, so that programs of two releases agree for as long as it isn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EngineVersion(pub u16);

impl EngineVersion {
    /// What a new exchange begins with.
    pub const FIRST: Self = Self(1);
    /// Since this one an engine version can be set, and orders may ask for
    /// [`SelfTradePrevention::DecrementAndCancel`].
    pub const DECREMENT_AND_CANCEL: Self = Self(2);
}

impl Default for EngineVersion {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for EngineVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Command {
    /// Which version must be in force before it may be sequenced: a program that doesn't know that version can't even read
    /// the command. The command that sets a version comes before it is in force, and is let through by whoever knows that all
    /// members read it.
    pub fn needs_engine_version(&self) -> EngineVersion {
        match &self.action {
            Action::Place(order) if order.self_trade_prevention == SelfTradePrevention::DecrementAndCancel => {
                EngineVersion::DECREMENT_AND_CANCEL
            }
            _ => EngineVersion::FIRST,
        }
    }
}
