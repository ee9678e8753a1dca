//! The seeded simulator: the replica of production on virtual time, disk and network.
//!
//! ```text
//!   seed ──> Schedule (faults) ──┐
//!                                v
//!   Clients ──> World: one queue of events in virtual time ──> Host: Replica::step, Journal on virtual files
//!      ^                         │                                  │
//!      └──── answers ────────────┼──────────────────────────────────┤
//!                                v                                  v
//!                             Network (links)                    Oracle (invariants)
//! ```
//!
//! The same seed gives the same run. What is virtual are clocks, files, links and clients; the replica, the exchange, the
//! bytes of journal and frames, and the scan of a journal at a start are those of production. It never reads a clock and
//! never touches a disk.

mod clients;
mod coverage;
mod disk;
mod events;
mod faults;
mod host;
mod invariants;
mod journal;
mod market;
mod mutation;
mod network;
mod oracle;
mod random;
mod regions;
mod shared;
mod shrink;
mod sweep;
mod world;

pub use coverage::Coverage;
pub use mutation::Mutation;
pub use oracle::Violation;
pub use regions::{RegionMutation, RegionReport, RegionsSwept, explain_regions, run_regions, sweep_regions};
pub use sweep::{Swept, explain, sweep};
pub use world::Report;

/// Runs a seed. Only a traced run keeps what happened last.
pub fn run(seed: u64, mutation: Option<Mutation>, traced: bool) -> Report {
    world::run(seed, &faults::Schedule::of(seed), mutation, traced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_seeds_pass() {
        let swept = sweep(0, 40, None, &|_| {});
        if let Some((seed, violation)) = &swept.failed {
            panic!("{}", explain(*seed, violation, None));
        }
        assert!(swept.commands >= 40 * 2_000);
        assert!(swept.faults_min.is_some_and(|least| least >= 10));
        assert!(swept.coverage.missing().len() < swept.coverage.len() / 4);
    }

    #[test]
    fn a_seed_runs_the_same_way_each_time() {
        for seed in 0..3 {
            let (one, other) = (run(seed, None, false), run(seed, None, true));
            assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
            assert_eq!(one.commands, other.commands);
        }
        assert_ne!(run(1, None, false).trace_hash, run(2, None, false).trace_hash);
    }

    #[test]
    fn some_seeds_of_two_regions_pass() {
        let swept = sweep_regions(0, 60, None, &|_| {});
        if let Some((seed, violation)) = &swept.failed {
            panic!("{}", explain_regions(*seed, violation, None));
        }
        assert!(swept.commands_min.is_some_and(|least| least >= 600));
        assert!(swept.faults >= 60 * 8);
        assert!(swept.coverage.missing().len() < swept.coverage.len() / 4);
    }

    #[test]
    fn a_seed_of_two_regions_runs_the_same_way_each_time() {
        for seed in 0..3 {
            let (one, other) = (run_regions(seed, None, false), run_regions(seed, None, true));
            assert_eq!(one.trace_hash, other.trace_hash, "seed {seed}");
        }
        assert_ne!(
            run_regions(1, None, false).trace_hash,
            run_regions(2, None, false).trace_hash
        );
    }

    #[test]
    fn a_mutation_of_two_regions_is_caught_and_explained() {
        let mutation = RegionMutation::EvidenceNotKept;
        let swept = sweep_regions(0, 100, Some(mutation), &|_| {});
        let (seed, violation) = swept.failed.expect("it is caught");
        let text = explain_regions(seed, &violation, Some(mutation));
        assert!(
            text.contains(&format!("cargo xtask sim --regions --seed {seed:#x}")),
            "{text}"
        );
    }

    #[test]
    fn a_mutation_is_caught_and_explained() {
        for mutation in [Mutation::StaleReads, Mutation::HardStateNotWritten] {
            let swept = sweep(0, 50, Some(mutation), &|_| {});
            let (seed, violation) = swept.failed.expect("it is caught");
            let text = explain(seed, &violation, Some(mutation));
            assert!(text.contains(&format!("cargo xtask sim --seed {seed:#x}")), "{text}");
        }
    }
}
