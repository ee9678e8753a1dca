//! What a run shows while it goes on: a line for each step.

use super::step::Run;
use crate::results::Step;

/// The titles of the lines.
pub fn titles() -> String {
    format!(
        "{:>9} {:>9} {:>7} {:>7} {:>7} {:>8} | {:>8} {:>8} {:>8} {:>8} {:>8} | {:>8} | {:>7} {:>7} {:>6} {:>8} {:>8}\n{}",
        "offered/s",
        "executed",
        "reject",
        "refused",
        "limited",
        "no answer",
        "p50 us",
        "p90",
        "p99",
        "p99.9",
        "max",
        "send p99",
        "node us",
        "gen us",
        "gen %",
        "late max",
        "node MiB",
        "-".repeat(159)
    )
}

/// The line of a step.
pub fn line(run: &Run) -> String {
    let Step {
        offered_per_second,
        seconds,
        executed,
        rejected,
        refused,
        limited,
        unanswered,
        latency,
        latency_from_send,
        node_cpu_us_per_request,
        generator_cpus,
        generator_late_ns_max,
        ..
    } = &run.step;
    let us = |ns: u64| ns as f64 / 1_000.0;
    format!(
        "{offered_per_second:>9.0} {:>9.0} {:>7.0} {refused:>7} {limited:>7} {unanswered:>9} | {:>8.0} {:>8.0} {:>8.0} {:>8.0} {:>8.0} | {:>8.0} | {node_cpu_us_per_request:>7.2} {:>7.2} {:>6.1} {:>8.0} {:>8}",
        *executed as f64 / seconds,
        *rejected as f64 / seconds,
        us(latency.p50_ns),
        us(latency.p90_ns),
        us(latency.p99_ns),
        us(latency.p999_ns),
        us(latency.max_ns),
        us(latency_from_send.p99_ns),
        run.generator_us_per_request(),
        generator_cpus * 100.0,
        us(*generator_late_ns_max),
        run.usage.1.resident_bytes >> 20,
    )
}
