//! The lease: which region is active. A state machine for a small group of its own, and the clocks on both ends of it.
//!
//! ```text
//!  holder:        |── sent ──────────────── lease ─────────────>| fenced
//!  lease leader:       |── applied ──────── lease x (1 + drift) ──────>| may promote
//! ```
//!
//! The holder counts from before it sent the renewal, the leader from after it applied it (or from its own election, which
//! is later than any renewal that an earlier leader applied). So while no clock runs faster or slower than `drift` says,
//! the holder is fenced before anybody else is promoted. Clocks count elapsed time, that of a suspended system included
//! (`CLOCK_BOOTTIME`), never UTC. No safety of what is durable in both regions rests on them (see `region`).
//!
//! The idea is that of Gray and Cheriton's leases (1989), kept by a Raft group (Ongaro and Ousterhout, 2014).

mod guard;
mod machine;
#[cfg(test)]
mod tests;

pub use guard::{Elapsed, Holder, LeaseGuard};
pub use machine::{LeaseEvent, LeaseMachine, check};
