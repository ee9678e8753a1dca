//! A small run of made-up figures becomes a document, and each aim gets the verdict that its figures deserve.

use super::aims::{Verdict, aims_of};
use super::notes::Notes;
use super::write;
use crate::pictures::tests::is_well_formed;
use crate::results::{
    Answers, Authentication, Build, Burst, BurstSlot, Check, Floors, Growth, GrowthCurve, GrowthPoint, Machine, Named,
    Percentiles, Protocol, RESULTS_VERSION, Recovery, Results, Schedule, Series, SeriesDescription, SnapshotStart,
    StageTimes, Step, Target, new_histogram,
};

/// 10,000 samples from half of `median_ns` on, with a tail.
fn latency(median_ns: u64) -> Percentiles {
    let mut histogram = new_histogram();
    for sample in 0..10_000_u64 {
        let tail = 40_000 / (10_000 - sample);
        histogram.saturating_record(median_ns / 2 + median_ns * sample / 10_000 + median_ns * tail / 100);
    }
    Percentiles::of(&histogram)
}

fn stages(scale: f64) -> Vec<StageTimes> {
    ["read", "verify", "queue", "batch", "fsync", "apply", "answer", "write"]
        .into_iter()
        .enumerate()
        .map(|(index, stage)| StageTimes {
            stage: stage.to_owned(),
            count: 1_000,
            total_ns: 1e6 * scale * (index + 1) as f64,
            p50_ns: 900.0 * scale,
            p99_ns: 3_000.0 * scale,
        })
        .collect()
}

fn description(name: &str, target: Target, protocol: Protocol, authentication: Authentication) -> SeriesDescription {
    SeriesDescription {
        name: name.to_owned(),
        target,
        protocol,
        authentication,
        sessions: 16,
        items_per_message: 1,
        mix: "40 % new, 10 % replace, 45 % cancel, 5 % IOC".to_owned(),
        schedule: Schedule::Poisson,
        command: format!("meridian bench load --name {name:?}"),
    }
}

fn step(rate: f64, latency_ns: u64, refused: u64) -> Step {
    Step {
        offered_per_second: rate,
        seconds: 5.0,
        sent: (rate * 5.0) as u64,
        executed: (rate * 5.0) as u64 - refused,
        refused,
        latency: latency(latency_ns),
        node_cpu_us_per_request: 7.5,
        generator_cpus: 0.5,
        generator_late_ns_max: 40_000,
        stages: stages(rate / 10_000.0),
        ..Step::default()
    }
}

/// A knee at `knee`, and one more step that is too much.
fn series(description: SeriesDescription, knee: f64, latency_ns: u64) -> Series {
    let steps = [0.05, 0.25, 0.5, 1.0].map(|share| step(knee * share, latency_ns, 0));
    Series {
        description,
        steps: steps
            .into_iter()
            .chain([step(knee * 1.5, latency_ns * 40, 20)])
            .collect(),
        check: Some(Check {
            acknowledged: 12_345,
            found: 12_345,
            missing: 0,
            doubled: 0,
        }),
    }
}

/// Six tenths of the burst are refused.
fn burst(description: SeriesDescription) -> Burst {
    let slots = (0..50).map(|slot| {
        let (offered, refused) = if (10..20).contains(&slot) {
            (10_000, 6_000)
        } else {
            (500, 0)
        };
        BurstSlot {
            at_ms: slot * 100,
            offered,
            executed: offered - refused,
            refused,
            p99_ns: 1_000_000 + 900_000 * offered / 500,
            ..BurstSlot::default()
        }
    });
    Burst {
        description,
        normal_per_second: 5_000.0,
        burst_per_second: 100_000.0,
        burst_ms: (1_000, 2_000),
        slots: slots.collect(),
        slot_ms: 100,
        normal_p99_ns: 1_900_000,
        normal_again_after_ms: Some(100),
        queue_depth_max: 16_384,
        rss_bytes: (100 << 20, 130 << 20),
        check: Some(Check {
            acknowledged: 5,
            found: 5,
            missing: 0,
            doubled: 0,
        }),
    }
}

fn growth() -> Growth {
    let curve = |of: &str, counts: &[u64]| GrowthCurve {
        of: of.to_owned(),
        offered_per_second: 5_000.0,
        points: counts
            .iter()
            .map(|count| GrowthPoint {
                count: *count,
                made_in_seconds: *count as f64 / 1e4,
                made: *count,
                rss_bytes: (100 << 20) + 400 * count,
                grown_bytes: 400 * count,
                latency: latency(400_000 + count / 10),
                ..GrowthPoint::default()
            })
            .collect(),
    };
    Growth {
        command: "meridian bench growth".to_owned(),
        curves: vec![
            curve("sessions", &[1, 10, 100, 2_000]),
            curve("accounts", &[1, 1_000, 1_000_000]),
            curve("open orders", &[1_000, 100_000, 5_000_000]),
            curve("instruments", &[1, 1_000]),
        ],
        recoveries: [1, 2, 4]
            .map(|size| Recovery {
                commands: size * 100_000,
                journal_bytes: size << 24,
                ready_seconds: size as f64 / 3.0,
            })
            .to_vec(),
        snapshot_start: Some(SnapshotStart {
            open_orders: 5_000_000,
            open_orders_found: 5_000_000,
            ..SnapshotStart::default()
        }),
    }
}

fn results() -> Results {
    let floors = Floors {
        round_trip: latency(30_000),
        sync: latency(170_000),
        both: latency(200_000),
        request_bytes: 200,
        answer_bytes: 700,
        record_bytes: 384,
    };
    let way = |name: &str, latency_ns| Named {
        name: name.to_owned(),
        latency: latency(latency_ns),
    };
    let own = |name, protocol, authentication| description(name, Target::Meridian, protocol, authentication);
    Results {
        version: RESULTS_VERSION,
        taken_at: "2026-01-31 12:34".to_owned(),
        took_seconds: 600.0,
        short: false,
        machine: Machine::default(),
        build: Build::of_this_program(),
        answers: Some(Answers {
            command: "meridian bench answer".to_owned(),
            floors,
            ways: vec![way("WebSocket", 250_000), way("REST, HMAC", 300_000)],
            stages: stages(0.5),
        }),
        series: vec![
            series(
                own("WebSocket", Protocol::WebSocket, Authentication::Ed25519),
                110_000.0,
                900_000,
            ),
            series(
                own("REST, HMAC", Protocol::Rest, Authentication::Hmac),
                26_000.0,
                700_000,
            ),
            series(
                own("REST, Ed25519", Protocol::Rest, Authentication::Ed25519),
                9_000.0,
                750_000,
            ),
            series(
                description("Postgres, HMAC", Target::Peer, Protocol::Rest, Authentication::Hmac),
                1_200.0,
                30_000_000,
            ),
        ],
        bursts: vec![burst(own("REST, HMAC", Protocol::Rest, Authentication::Hmac))],
        growth: Some(growth()),
    }
}

#[test]
fn a_run_becomes_a_document_with_its_pictures() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("performance");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("notes.md"),
        "for writers\n\n## Growth\n\nBecause of **that**.\n",
    )
    .unwrap();
    let results = results();
    write(&results, out.path()).unwrap();
    let first = std::fs::read_to_string(out.path().join("performance.md")).unwrap();
    for text in [
        "| durable orders a second over REST with HMAC, p99 below 5 ms | at least 25,000 | 26,000, p99 ",
        "| WebSocket | 10,000 | 268 µs (1.25) |",
        "Knee: **110,000** a second.",
        "12,345 acknowledged requests were looked for: 12,345 found, 0 missing, 0 doubled.",
        "| 165,000 | 164,996 |",
        "20, 0, 0",
        "### Open orders",
        "| open orders found after the start | 5,000,000 |",
        "Each takes 400 B of memory",
        "Because of **that**.",
        "```sh\ncargo xtask performance ",
    ] {
        assert!(first.contains(text), "{text:?} is not in:\n{first}");
    }
    let mut pictures = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            assert!(
                is_well_formed(&std::fs::read_to_string(&path).unwrap()),
                "{}",
                path.display()
            );
            let link = format!("performance/{})", path.file_name().unwrap().to_string_lossy());
            assert!(first.contains(&link), "{link} is not shown");
            pictures += 1;
        }
    }
    assert_eq!(pictures, 9);

    // Rendering what was written changes nothing.
    let read = Results::read(&folder.join("results.json")).unwrap();
    assert_eq!(read.series.len(), results.series.len());
    write(&read, out.path()).unwrap();
    assert_eq!(
        std::fs::read_to_string(out.path().join("performance.md")).unwrap(),
        first
    );
    assert!(Results::read(&folder.join("notes.md")).is_err());
}

#[test]
fn an_aim_is_missed_when_it_is() {
    let verdicts =
        |results: &Results| -> Vec<Verdict> { aims_of(results).into_iter().map(|aim| aim.verdict).collect() };
    let met = results();
    assert_eq!(verdicts(&met), vec![Verdict::Met; 12]);

    let mut missed = results();
    let answers = missed.answers.as_mut().unwrap();
    answers.ways[0].latency.p50_ns = answers.floors.both.p50_ns * 156 / 100;
    answers.ways[0].latency.p99_ns = answers.floors.both.p99_ns * 33 / 10;
    for (index, knee) in [(0, 90_000.0), (1, 5_000.0), (2, 4_000.0)] {
        let description = missed.series[index].description.clone();
        missed.series[index] = series(description, knee, 900_000);
    }
    missed.series[1].steps[1].latency.p99_ns = 4_000_000;
    missed.bursts[0].normal_again_after_ms = Some(1_400);
    missed.bursts[0].slots[12].unanswered = 3;
    missed.bursts[0].check.as_mut().unwrap().missing = 1;
    let by = |text: &str| Verdict::Missed(text.to_owned());
    assert_eq!(
        verdicts(&missed),
        [
            by("by 20 %"),
            by("by 10 %"),
            by("by 10 %"),
            by("by 80 %"),
            by("by 50 %"),
            // The peer holds nothing below 5 ms.
            Verdict::Met,
            Verdict::Met,
            by("by 58 %"),
            Verdict::Met,
            by("by 1"),
            by("by 3 requests"),
            by("by 400 ms"),
        ]
    );
    missed.bursts[0].normal_again_after_ms = None;
    assert_eq!(verdicts(&missed)[11], by("it never was"));

    let nothing = Results {
        answers: None,
        series: Vec::new(),
        bursts: Vec::new(),
        growth: None,
        ..results()
    };
    assert_eq!(verdicts(&nothing), vec![Verdict::NotMeasured; 12]);
}

#[test]
fn a_step_at_which_something_was_refused_is_no_knee() {
    let mut one = series(
        description("x", Target::Meridian, Protocol::Rest, Authentication::Hmac),
        1_000.0,
        500_000,
    );
    assert_eq!(one.knee().unwrap().offered_per_second, 1_000.0);
    one.steps[3].limited = 1;
    assert_eq!(one.knee().unwrap().offered_per_second, 500.0);
    one.steps[2].latency.p99_ns = 5_000_000;
    assert_eq!(one.knee().unwrap().offered_per_second, 250.0);
    assert_eq!(one.maximum().unwrap().offered_per_second, 500.0);
    assert_eq!(one.step_of_at_least(300.0).unwrap().offered_per_second, 500.0);
}

#[test]
fn of_several_tries_at_a_rate_the_best_is_shown() {
    let mut one = series(
        description("x", Target::Meridian, Protocol::Rest, Authentication::Hmac),
        1_000.0,
        500_000,
    );
    let rates: Vec<f64> = one.best_of_each_rate().map(|step| step.offered_per_second).collect();
    let quick = one.steps[0].latency.p99_ns;
    let mut slow = one.steps[0].clone();
    slow.latency.p99_ns = quick + 1;
    let mut refusing = one.steps[0].clone();
    refusing.latency.p99_ns = quick - 1;
    refusing.refused = 1;
    one.steps.extend([slow, refusing]);
    let shown: Vec<&Step> = one.best_of_each_rate().collect();
    assert_eq!(
        shown.iter().map(|step| step.offered_per_second).collect::<Vec<_>>(),
        rates
    );
    assert_eq!(shown[0].latency.p99_ns, quick);
}

#[test]
fn notes_belong_to_a_section_that_there_is() {
    assert!(Notes::parse("## Nothing like that\n\ntext").is_err());
    assert!(Notes::parse("## Aims\n\ntext\n\n### deeper\n\nmore").is_ok());
}
