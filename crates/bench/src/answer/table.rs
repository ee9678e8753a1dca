//! The figures as a table.

use std::fmt::Write as _;

use crate::results::{Answers, Percentiles};

/// The distributions and their ratios to the floor.
pub fn table(answers: &Answers) -> String {
    let floors = &answers.floors;
    let mut text = format!(
        "One order in flight; {} bytes asked, {} answered, {} synced by the floor.\n\
         Microseconds, and in brackets the ratio to the floor at the same percentile.\n\n",
        floors.request_bytes, floors.answer_bytes, floors.record_bytes
    );
    let _ = write!(text, "{:<22}{:>9}", "", "samples");
    for name in ["p50", "p90", "p99", "p99.9"] {
        let _ = write!(text, "{name:>18}");
    }
    text.push('\n');
    let own = [
        ("loopback round trip", &floors.round_trip),
        ("fdatasync", &floors.sync),
        ("floor (both)", &floors.both),
    ];
    let ways = answers.ways.iter().map(|way| (way.name.as_str(), &way.latency));
    for (name, latency) in own.into_iter().chain(ways) {
        push_line(&mut text, name, latency, &floors.both);
    }
    text
}

fn push_line(text: &mut String, name: &str, latency: &Percentiles, floor: &Percentiles) {
    let _ = write!(text, "{name:<22}{:>9}", latency.count);
    for (at, floor_at) in [
        (latency.p50_ns, floor.p50_ns),
        (latency.p90_ns, floor.p90_ns),
        (latency.p99_ns, floor.p99_ns),
        (latency.p999_ns, floor.p999_ns),
    ] {
        let ratio = format!("({:.2})", at as f64 / floor_at.max(1) as f64);
        let _ = write!(text, "{:>10.1} {ratio:>7}", at as f64 / 1_000.0);
    }
    text.push('\n');
}
