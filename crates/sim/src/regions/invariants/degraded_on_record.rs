//! Where answers have to be durable in both regions, one that is not goes out only once that is on record.

use wire::site::Durability;

use super::void_is_listed::Told;
use crate::invariants::Checked;

pub(crate) const NAME: &str = "degraded is on record first";

/// An answer of a region that is set up so. `recorded` is what is on record in its epoch, or was when that ended.
pub(crate) fn check(told: &Told, recorded: Option<Durability>) -> Checked {
    if told.in_both || recorded == Some(Durability::Degraded) {
        return Ok(());
    }
    Err(format!(
        "{told:?} did not wait for the standby, with {recorded:?} on record"
    ))
}
