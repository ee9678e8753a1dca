//! Many seeds, on all cores.

use std::fmt::Write as _;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::coverage::Coverage;
use crate::faults::Schedule;
use crate::mutation::Mutation;
use crate::oracle::Violation;
use crate::shrink::shrink;
use crate::world;

/// What came of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// How many were run.
    pub seeds: u64,
    /// Commands that were executed in all.
    pub commands: u64,
    /// Faults that came about in all.
    pub faults: u64,
    /// The fewest of a seed that was run to its end.
    pub faults_min: Option<u64>,
    /// What they came past.
    pub coverage: Coverage,
    /// The lowest seed that failed, of those that were run, and how.
    pub failed: Option<(u64, Violation)>,
}

/// Runs `seeds` seeds from `first` on, until one fails. `progress` is told how many are done.
pub fn sweep(first: u64, seeds: u64, mutation: Option<Mutation>, progress: &(dyn Fn(u64) + Sync)) -> Swept {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let swept = Mutex::new(Swept::default());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    let report = world::run(seed, &Schedule::of(seed), mutation, false);
                    let mut all = swept.lock().unwrap_or_else(PoisonError::into_inner);
                    all.seeds += 1;
                    all.commands += report.commands;
                    all.faults += report.faults;
                    if report.violation.is_none() {
                        let least = all.faults_min.map_or(report.faults, |least| least.min(report.faults));
                        all.faults_min = Some(least);
                    }
                    all.coverage.add(&report.coverage);
                    if let Some(violation) = report.violation {
                        stop.store(true, Ordering::Relaxed);
                        if all.failed.as_ref().is_none_or(|(failed, _)| *failed > seed) {
                            all.failed = Some((seed, violation));
                        }
                    }
                    progress(all.seeds);
                }
            });
        }
    });
    swept.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be known of a seed that fails: how to run it again, with which faults it still fails, and what happened last.
pub fn explain(seed: u64, violation: &Violation, mutation: Option<Mutation>) -> String {
    let schedule = Schedule::of(seed);
    let fewest = shrink(seed, &schedule, mutation, violation.invariant);
    let report = world::run(seed, &fewest, mutation, true);
    let mut text = String::new();
    let shown = report.violation.as_ref().unwrap_or(violation);
    let _ = writeln!(text, "broken: {}\n  {}", violation.invariant, violation.what);
    let with = mutation
        .map(|mutation| format!(" --mutation {}", mutation.name()))
        .unwrap_or_default();
    let _ = writeln!(text, "seed {seed:#x}; again: cargo xtask sim --seed {seed:#x}{with}");
    let _ = writeln!(
        text,
        "{} voters, segments of {} KiB; of {} faults these suffice:",
        schedule.voters,
        schedule.segment_bytes >> 10,
        schedule.faults.len()
    );
    for fault in &fewest.faults {
        let _ = writeln!(text, "  {fault}");
    }
    let _ = writeln!(text, "with them: {}\nwhat happened last:", shown.what);
    for line in &report.lines {
        let _ = writeln!(text, "{line}");
    }
    text
}
