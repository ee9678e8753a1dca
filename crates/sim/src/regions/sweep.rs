//! Many seeds of two regions, on all cores.

use std::fmt::Write as _;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::coverage::Coverage;
use super::mutation::RegionMutation;
use super::plan::Plan;
use super::world::run;
use crate::oracle::Violation;

/// How many runs it may take to find the fewest faults.
const RUNS_MAX: u32 = 150;

/// What came of many seeds.
#[derive(Clone, Debug, Default)]
pub struct RegionsSwept {
    /// How many were run.
    pub seeds: u64,
    /// Commands that were asked in all.
    pub commands: u64,
    /// Faults that came about in all.
    pub faults: u64,
    /// The fewest commands of a seed that was run to its end.
    pub commands_min: Option<u64>,
    /// The longest that one took to heal, in virtual milliseconds, and which.
    pub healed_ms_max: (u64, u64),
    /// What they came past.
    pub coverage: Coverage,
    /// The lowest seed that failed, of those that were run, and how.
    pub failed: Option<(u64, Violation)>,
}

/// Runs `seeds` seeds from `first` on, until one fails. `progress` is told how many are done.
pub fn sweep_regions(
    first: u64,
    seeds: u64,
    mutation: Option<RegionMutation>,
    progress: &(dyn Fn(u64) + Sync),
) -> RegionsSwept {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let swept = Mutex::new(RegionsSwept::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    let report = run(seed, &Plan::of(seed), mutation, false);
                    let mut all = swept.lock().unwrap_or_else(PoisonError::into_inner);
                    all.seeds += 1;
                    all.commands += report.commands;
                    all.faults += report.faults;
                    all.coverage.add(&report.coverage);
                    match report.violation {
                        None => {
                            let least = all
                                .commands_min
                                .map_or(report.commands, |least| least.min(report.commands));
                            all.commands_min = Some(least);
                            all.healed_ms_max = all.healed_ms_max.max((report.healed_ms, seed));
                        }
                        Some(violation) => {
                            stop.store(true, Ordering::Relaxed);
                            if all.failed.as_ref().is_none_or(|(failed, _)| *failed > seed) {
                                all.failed = Some((seed, violation));
                            }
                        }
                    }
                    progress(all.seeds);
                }
            });
        }
    });
    swept.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Drops faults, halves first and then one after the other, as long as the same promise is broken without them.
fn fewest_faults(seed: u64, plan: &Plan, mutation: Option<RegionMutation>, invariant: &str) -> Plan {
    let mut best = plan.clone();
    let mut runs = 0;
    let mut piece = best.faults.len().div_ceil(2);
    while piece > 0 && runs < RUNS_MAX {
        let mut at = 0;
        let mut dropped = false;
        while at < best.faults.len() && runs < RUNS_MAX {
            let mut tried = best.clone();
            tried.faults.drain(at..(at + piece).min(tried.faults.len()));
            runs += 1;
            let violation = run(seed, &tried, mutation, false).violation;
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

/// What is to be known of a seed that fails: how to run it again, with which faults it still fails, and what happened last.
pub fn explain_regions(seed: u64, violation: &Violation, mutation: Option<RegionMutation>) -> String {
    let plan = Plan::of(seed);
    let fewest = fewest_faults(seed, &plan, mutation, violation.invariant);
    let report = run(seed, &fewest, mutation, true);
    let mut text = String::new();
    let shown = report.violation.as_ref().unwrap_or(violation);
    let _ = writeln!(text, "broken: {}\n  {}", violation.invariant, violation.what);
    let with = mutation
        .map(|mutation| format!(" --mutation {}", mutation.name()))
        .unwrap_or_default();
    let _ = writeln!(
        text,
        "seed {seed:#x}; again: cargo xtask sim --regions --seed {seed:#x}{with}"
    );
    let _ = writeln!(text, "{:?}", plan.setup);
    let _ = writeln!(text, "of {} faults these suffice:", plan.faults.len());
    for fault in &fewest.faults {
        let _ = writeln!(text, "  {fault}");
    }
    let _ = writeln!(text, "with them: {}\nwhat happened last:", shown.what);
    for line in &report.lines {
        let _ = writeln!(text, "{line}");
    }
    text
}
