//! Two regions and a witness on virtual time: the replica, the region's part in who is active and the lease of production.
//!
//! ```text
//!   seed ──> Plan (settings, faults) ──┐
//!                                      v
//!   Clients ──> World ──> Host ──┬── Part: Replica<exchange>, Region, answers that wait, the stream  ──> Oracle
//!                                └── Voter: Replica<lease>, LeaseGuard                               ──> (invariants)
//! ```
//!
//! What one group must stand by itself (torn writes, rot, members that come and go, readers of a journal's bytes) is
//! simulated in the rest of this crate; here a disk is a list of records, and what matters is who is active.

mod clients;
mod coverage;
mod faults;
mod follow;
mod host;
mod invariants;
mod mutation;
mod network;
mod oracle;
mod part;
mod plan;
mod shared;
mod store;
mod sweep;
mod voter;
mod world;

pub use mutation::RegionMutation;
pub use sweep::{RegionsSwept, explain_regions, sweep_regions};
pub use world::RegionReport;

/// Runs a seed of two regions. Only a traced run keeps what happened last.
pub fn run_regions(seed: u64, mutation: Option<RegionMutation>, traced: bool) -> RegionReport {
    world::run(seed, &plan::Plan::of(seed), mutation, traced)
}
