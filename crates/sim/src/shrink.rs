//! From a run that fails to the fewest faults with which it still does.

use crate::faults::Schedule;
use crate::mutation::Mutation;
use crate::world;

/// How many runs it may take.
const RUNS_MAX: u32 = 200;

/// Drops faults, halves first and then one after the other, as long as the same promise is broken without them.
pub(crate) fn shrink(seed: u64, schedule: &Schedule, mutation: Option<Mutation>, invariant: &str) -> Schedule {
    let mut best = schedule.clone();
    let mut runs = 0;
    let mut piece = best.faults.len().div_ceil(2);
    while piece > 0 && runs < RUNS_MAX {
        let mut at = 0;
        let mut dropped = false;
        while at < best.faults.len() && runs < RUNS_MAX {
            let mut tried = best.clone();
            tried.faults.drain(at..(at + piece).min(tried.faults.len()));
            runs += 1;
            let violation = world::run(seed, &tried, mutation, false).violation;
            if violation.is_some_and(|violation| violation.invariant == invariant) {
                best = tried;
                dropped = true;
            } else {
                at += piece;
            }
        }
        if piece == 1 && !dropped {
            break;
        }
        piece = if piece == 1 { 1 } else { piece.div_ceil(2) };
    }
    best
}
