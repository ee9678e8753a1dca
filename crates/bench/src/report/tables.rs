//! The tables, in Markdown.

use super::aims::{Aim, Verdict};
use super::format::{bytes, count, duration, minutes, nanoseconds, seconds, three_digits};
use crate::results::{
    Answers, Burst, Check, Floors, Growth, GrowthCurve, Percentiles, Results, Series, StageTimes, Step, Target,
};

/// A table of a heading and rows; the first column is text, the others are figures.
fn table<const COLUMNS: usize>(heading: [&str; COLUMNS], rows: impl IntoIterator<Item = [String; COLUMNS]>) -> String {
    let mut text = format!(
        "| {} |\n| --- |{}\n",
        heading.join(" | "),
        " ---: |".repeat(COLUMNS - 1)
    );
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text.push('\n');
    text
}

pub fn aims(aims: &[Aim]) -> String {
    let rows = aims.iter().map(|aim| {
        let verdict = match &aim.verdict {
            Verdict::Missed(by) => format!("**missed**: {by}"),
            verdict => verdict.to_string(),
        };
        [aim.name.clone(), aim.wanted.clone(), aim.measured.clone(), verdict]
    });
    let mut text = String::from("| what | aim | measured | |\n| --- | --- | --- | --- |\n");
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}

pub fn machine(results: &Results) -> String {
    let (machine, build) = (&results.machine, &results.build);
    let virtual_text = if machine.is_virtual {
        ", virtual and shared with others"
    } else {
        ""
    };
    let told = |text: &Option<String>| text.clone().unwrap_or_else(|| "not told".to_owned());
    let rows = [
        (
            "processors",
            format!("{} of {}{virtual_text}", machine.processors, machine.processor),
        ),
        ("memory", bytes(machine.memory_bytes as f64)),
        ("disk", format!("{} on {}", machine.file_system, machine.disk)),
        (
            "kernel",
            format!("{}, time from `{}`", machine.kernel, machine.clock_source),
        ),
        (
            "build",
            format!(
                "version {}, {}, commit {}",
                build.version,
                build.profile,
                told(&build.commit)
            ),
        ),
        ("compiler", told(&build.compiler)),
    ];
    let mut text = String::from("| | |\n| --- | --- |\n");
    for (name, value) in rows {
        text.push_str(&format!("| {name} | {value} |\n"));
    }
    text
}

/// The ratio to the floor at the same percentile, in brackets behind the latency.
fn beside_floor(latency: u64, floor: Option<u64>) -> String {
    match floor.filter(|floor| *floor > 0) {
        Some(floor) => format!("{} ({:.2})", nanoseconds(latency), latency as f64 / floor as f64),
        None => nanoseconds(latency),
    }
}

fn percentile_row(name: &str, latency: &Percentiles, floor: Option<&Percentiles>) -> [String; 7] {
    let beside = |of: fn(&Percentiles) -> u64| beside_floor(of(latency), floor.map(of));
    [
        name.to_owned(),
        count(latency.count as f64),
        beside(|percentiles| percentiles.p50_ns),
        beside(|percentiles| percentiles.p90_ns),
        beside(|percentiles| percentiles.p99_ns),
        beside(|percentiles| percentiles.p999_ns),
        nanoseconds(latency.max_ns),
    ]
}

pub fn answers(answers: &Answers) -> String {
    let Floors {
        round_trip,
        sync,
        both,
        request_bytes,
        answer_bytes,
        record_bytes,
    } = &answers.floors;
    let mut rows = vec![
        percentile_row("loopback round trip", round_trip, None),
        percentile_row("`fdatasync`", sync, None),
        percentile_row("floor: both", both, None),
    ];
    rows.extend(
        answers
            .ways
            .iter()
            .map(|way| percentile_row(&way.name, &way.latency, Some(both))),
    );
    format!(
        "One order is sent, and its answer awaited, before the next. Each turn takes one sample of every row: {request_bytes} bytes\n\
         asked, {answer_bytes} answered, {record_bytes} synced by the floor. In brackets the ratio to the floor at the same percentile.\n\n{}",
        table(["", "samples", "p50", "p90", "p99", "p99.9", "longest"], rows)
    )
}

pub fn all_series(results: &Results, target: Target) -> String {
    let wanted = results
        .series
        .iter()
        .filter(|series| series.description.target == target);
    wanted.map(series).collect::<Vec<_>>().join("\n")
}

fn series(series: &Series) -> String {
    let description = &series.description;
    let batch = match description.items_per_message {
        0 | 1 => String::new(),
        items => format!(", {items} orders a message; latency is the message's, rates count orders"),
    };
    let knee = match (series.knee(), series.maximum()) {
        (Some(step), _) => format!("Knee: **{}** a second.", count(step.offered_per_second)),
        (None, Some(step)) => {
            format!(
                "No rate had p99 below 5 ms; it kept up with **{}** a second.",
                count(step.offered_per_second)
            )
        }
        (None, None) => "No rate was kept up with.".to_owned(),
    };
    format!(
        "### {}\n\n{} sessions{batch}; {}. {knee}{}\n\n{}",
        description.title(),
        count(f64::from(description.sessions)),
        description.mix,
        series.check.map(check).unwrap_or_default(),
        table(
            [
                "offered a second",
                "answered",
                "p50",
                "p99",
                "p99.9",
                "longest",
                "503, 429, none",
                "node µs a request",
                "generator"
            ],
            series.steps.iter().map(step_row)
        )
    )
}

fn step_row(step: &Step) -> [String; 9] {
    let floor = step.floors.as_ref().map(|floors| &floors.both);
    [
        count(step.offered_per_second),
        count(step.answered_per_second()),
        beside_floor(step.latency.p50_ns, floor.map(|floor| floor.p50_ns)),
        beside_floor(step.latency.p99_ns, floor.map(|floor| floor.p99_ns)),
        nanoseconds(step.latency.p999_ns),
        nanoseconds(step.latency.max_ns),
        if step.is_whole() {
            "0".to_owned()
        } else {
            format!(
                "{}, {}, {}",
                count(step.refused as f64),
                count(step.limited as f64),
                count(step.unanswered as f64)
            )
        },
        three_digits(step.node_cpu_us_per_request),
        format!(
            "{:.2} processors, {} late",
            step.generator_cpus,
            nanoseconds(step.generator_late_ns_max)
        ),
    ]
}

fn check(check: Check) -> String {
    format!(
        " Afterwards {} acknowledged requests were looked for: {} found, {} missing, {} doubled.",
        count(check.acknowledged as f64),
        count(check.found as f64),
        count(check.missing as f64),
        count(check.doubled as f64)
    )
}

pub fn burst(burst: &Burst) -> String {
    let sum = |of: fn(&crate::results::BurstSlot) -> u64| count(burst.slots.iter().map(of).sum::<u64>() as f64);
    let (before, highest) = burst.rss_bytes;
    let normal = match burst.normal_again_after_ms {
        Some(after) => format!("{} ms after the burst", count(after as f64)),
        None => "never within the measurement".to_owned(),
    };
    format!(
        "### {}\n\n{} a second, then {} a second for {}, then as before.{}\n\n{}",
        burst.description.name,
        count(burst.normal_per_second),
        count(burst.burst_per_second),
        seconds((burst.burst_ms.1 - burst.burst_ms.0) as f64 / 1e3),
        burst.check.map(check).unwrap_or_default(),
        table(
            ["", "measured"],
            [
                ("offered", sum(|slot| slot.offered)),
                ("executed, or turned down by a rule", sum(|slot| slot.executed)),
                ("refused with 503", sum(|slot| slot.refused)),
                ("refused with 429", sum(|slot| slot.limited)),
                ("without an answer", sum(|slot| slot.unanswered)),
                ("p99 before", nanoseconds(burst.normal_p99_ns)),
                ("p99 normal again", normal),
                ("deepest queue of the core", count(burst.queue_depth_max as f64)),
                (
                    "memory before, and at its highest",
                    format!("{}, {}", bytes(before as f64), bytes(highest as f64))
                ),
            ]
            .map(|(name, value)| [name.to_owned(), value])
        )
    )
}

/// The loads whose stages are shown: one order in flight, and the knee of each series of this program.
pub fn staged(results: &Results) -> Vec<(String, &[StageTimes])> {
    let answers = results
        .answers
        .iter()
        .map(|answers| ("one order in flight".to_owned(), answers.stages.as_slice()));
    let series = results
        .series
        .iter()
        .filter(|series| series.description.target == Target::Meridian);
    let knees = series.filter_map(|series| {
        let step = series.knee()?;
        let name = format!(
            "{}, {} a second",
            series.description.name,
            count(step.offered_per_second)
        );
        Some((name, step.stages.as_slice()))
    });
    answers.chain(knees).filter(|(_, stages)| !stages.is_empty()).collect()
}

pub fn stages(results: &Results) -> String {
    let loads = staged(results);
    let tables = loads.iter().map(|(name, stages)| {
        let rows = stages.iter().map(|stage| {
            [
                stage.stage.clone(),
                count(stage.count as f64),
                duration(stage.mean_ns()),
                duration(stage.p50_ns),
                duration(stage.p99_ns),
            ]
        });
        format!(
            "### {name}\n\n{}",
            table(["stage", "passed", "mean", "p50", "p99"], rows)
        )
    });
    tables.collect::<Vec<_>>().join("\n")
}

pub fn growth(growth: &Growth) -> String {
    let mut text = growth.curves.iter().map(growth_curve).collect::<Vec<_>>().join("\n");
    if !growth.recoveries.is_empty() {
        let rows = growth.recoveries.iter().map(|recovery| {
            [
                count(recovery.commands as f64),
                bytes(recovery.journal_bytes as f64),
                seconds(recovery.ready_seconds),
                count(recovery.commands as f64 / recovery.ready_seconds.max(f64::MIN_POSITIVE)),
            ]
        });
        text.push_str("\n### Recovery without a snapshot\n\nAfter `kill -9`, until the node takes requests again.\n\n");
        text.push_str(&table(
            ["commands", "journal", "ready after", "commands a second"],
            rows,
        ));
    }
    if let Some(start) = &growth.snapshot_start {
        let rows = [
            ("open orders", count(start.open_orders as f64)),
            (
                "open orders found after the start",
                count(start.open_orders_found as f64),
            ),
            ("accounts", count(start.accounts as f64)),
            ("snapshot", bytes(start.snapshot_bytes as f64)),
            ("made in the background within", seconds(start.made_in_seconds)),
            ("memory while it is made", bytes(start.rss_bytes_making as f64)),
            ("commands in the journal behind it", count(start.commands_after as f64)),
            ("ready after", seconds(start.ready_seconds)),
            ("memory then", bytes(start.rss_bytes as f64)),
        ];
        text.push_str("\n### Start from a snapshot\n\n");
        text.push_str(&table(
            ["", "measured"],
            rows.map(|(name, value)| [name.to_owned(), value]),
        ));
    }
    text
}

fn growth_curve(curve: &GrowthCurve) -> String {
    let each = match curve.bytes_each() {
        Some(each) => format!(" Each takes {} of memory.", bytes(each)),
        None => String::new(),
    };
    let rows = curve.points.iter().map(|point| {
        let floor = point.floors.as_ref().map(|floors| &floors.both);
        [
            count(point.count as f64),
            bytes(point.rss_bytes as f64),
            beside_floor(point.latency.p50_ns, floor.map(|floor| floor.p50_ns)),
            beside_floor(point.latency.p99_ns, floor.map(|floor| floor.p99_ns)),
            three_digits(point.node_cpu_us_per_request),
            if point.made_in_seconds > 0.0 {
                minutes(point.made_in_seconds)
            } else {
                String::new()
            },
        ]
    });
    format!(
        "### {}\n\nLatency at {} orders a second.{each}\n\n{}",
        heading(&curve.of),
        count(curve.offered_per_second),
        table(
            [
                curve.of.as_str(),
                "memory",
                "p50",
                "p99",
                "node µs a request",
                "made within"
            ],
            rows
        )
    )
}

fn heading(of: &str) -> String {
    let mut letters = of.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().collect::<String>());
    format!("{}{}", first.unwrap_or_default(), letters.as_str())
}
