//! `sequenced_at` never runs backwards, whoever leads and whatever its clock does, and the epoch never falls.

use super::Checked;
use crate::market::Executed;

pub(crate) const NAME: &str = "sequenced_at is monotonic";

/// Compares a command with the one in front of it.
pub(crate) fn check(before: Option<&Executed>, executed: &Executed) -> Checked {
    let Some(before) = before else { return Ok(()) };
    if executed.sequenced_at < before.sequenced_at || executed.epoch < before.epoch {
        return Err(format!(
            "sequence {} is stamped {} in epoch {}, behind {} in epoch {}",
            executed.sequence, executed.sequenced_at, executed.epoch, before.sequenced_at, before.epoch
        ));
    }
    Ok(())
}
