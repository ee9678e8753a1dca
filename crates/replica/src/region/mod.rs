//! What a region does about the others: who is active, what answers wait for, when a standby takes over, and when a region
//! that returns must begin a new life. No I/O, no clock.
//!
//! ```text
//!        node or simulator                            Region (pure)
//!  own group: leads, applied  ──┐
//!  lease group's answers      ──┼── RegionInput ──> step ──> RegionOutput ──┬── ask ──> a voter of the lease group
//!  the standby's "I have it"  ──┤                                           ├── mode ──> the group's replica
//!  ticks, operators           ──┘                                           └── begin anew ──> the node starts again
//!                                                     │
//!                  answers that are ready ──> may_answer: up to where, and durable in which regions
//! ```
//!
//! Every node has one. The leader of its region's group acts: it renews the lease, or follows the active region and takes
//! over. The others look on, for clients that ask them where to go, and to begin a new life when theirs is over.
//!
//! What makes a loss impossible, and what does not:
//! - An answer of a region in `Both` has the standby's majority behind it, in the same log. Whoever is promoted there goes
//!   on from that log. No clock plays a part.
//! - In `Region`, a promotion loses what the standby had not been sent. The lease sees to it that a region that was cut off
//!   stops answering before another begins; if a clock or a suspended process breaks that, an answer may come late, and
//!   it concerns only what the new epoch has or what is listed as void.
//! - Nothing is sequenced in an epoch before its beginning is on record in the lease's state. So a log tells, together with
//!   that state, from where on it is void.

mod answers;
mod control;
mod standby;
#[cfg(test)]
mod tests;

pub use answers::Answerable;
pub use control::{GroupPlace, Mode, OnStandbyLoss, Region, RegionInput, RegionOutput, RegionSettings};
pub use standby::Following;
