//! What was answered as durable in both regions is never lost, whatever clocks and processes do. The one exception is an
//! operator who promotes a region although it is on record that answers do not wait for it.

use types::Sequence;
use wire::site::{Durability, EpochStart, PromotedBy};

use super::void_is_listed::Told;
use crate::invariants::Checked;

pub(crate) const NAME: &str = "what is durable in both regions is never lost";

/// An answer that turned out to be void by this beginning of an epoch; `recorded` is what was on record when it began.
pub(crate) fn check(told: &Told, by: &EpochStart, recorded: Option<Durability>) -> Checked {
    if !told.in_both {
        return Ok(());
    }
    if by.by == PromotedBy::Operator && recorded == Some(Durability::Degraded) {
        return Ok(());
    }
    let after = by.after.unwrap_or(Sequence(0));
    Err(format!(
        "{told:?} was durable in both regions, and epoch {} begins behind {after}, {}, with {recorded:?} on record",
        by.epoch, by.by
    ))
}
