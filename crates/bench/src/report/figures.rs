//! Which pictures there are, and what is in them.

use super::document::Section;
use super::format::{short_count, short_duration};
use super::tables::staged;
use crate::pictures::{Axis, Bar, Bars, Chart, Line, Panel, Sheet, Stroke};
use crate::results::{Answers, Burst, Growth, KNEE_P99_NS, Percentiles, Results, Series, Step, Target};

/// The stage that is the sum of all others, from the first byte to the sent answer.
const WHOLE_WAY: &str = "total";

/// A picture of the document.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Where it is shown.
    pub section: Section,
    /// The file's name.
    pub file: String,
    /// The picture.
    pub sheet: Sheet,
}

fn figure(section: Section, file: &str, sheet: Sheet) -> Figure {
    Figure {
        section,
        file: format!("{file}.svg"),
        sheet,
    }
}

/// The pictures that the results have the figures for.
pub fn of(results: &Results) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(answers) = &results.answers {
        figures.push(figure(Section::Answers, "one-in-flight", one_in_flight(answers)));
    }
    let (own, peer): (Vec<&Series>, Vec<&Series>) = results
        .series
        .iter()
        .partition(|series| series.description.target == Target::Meridian);
    if !own.is_empty() {
        let title = "Latency by offered load, the best try at each rate: p99 solid, p50 dotted";
        figures.push(figure(
            Section::Load,
            "latency-by-load",
            latency_by_load(title, &results.series),
        ));
        figures.push(figure(
            Section::Load,
            "latency-at-the-knee",
            at_the_knee(&results.series),
        ));
    }
    if let Some(sheet) = at_the_peers_maximum(&own, &peer) {
        figures.push(figure(Section::Peer, "at-the-peers-maximum", sheet));
    }
    for (index, burst) in results.bursts.iter().enumerate() {
        let file = if index == 0 {
            "burst".to_owned()
        } else {
            format!("burst-{}", index + 1)
        };
        figures.push(figure(Section::Burst, &file, burst_timeline(burst)));
    }
    if let Some(sheet) = stages(results) {
        figures.push(figure(Section::Stages, "stages", sheet));
    }
    if let Some(growth) = results.growth.as_ref().filter(|growth| !growth.curves.is_empty()) {
        figures.push(figure(Section::Growth, "growth-memory", growth_memory(growth)));
        figures.push(figure(Section::Growth, "growth-latency", growth_latency(growth)));
    }
    if let Some(growth) = results.growth.as_ref().filter(|growth| growth.recoveries.len() > 1) {
        figures.push(figure(Section::Growth, "recovery", recovery(growth)));
    }
    figures
}

/// The curve of a distribution over an axis of percentiles.
fn percentile_line(name: &str, colour: usize, stroke: Stroke, latency: &Percentiles) -> Line {
    let points = latency
        .curve
        .iter()
        .map(|point| (Axis::nines(point.percentile), point.latency_ns as f64));
    Line {
        name: name.to_owned(),
        colour,
        stroke,
        points: points.collect(),
        has_dots: false,
    }
}

/// Distributions beside each other, as far as the smallest of them has samples for.
fn percentile_chart(mut lines: Vec<Line>, samples_max: u64) -> Panel {
    let highest = 100.0 * (1.0 - 1.0 / samples_max.max(10) as f64);
    let end = Axis::nines(highest);
    for line in &mut lines {
        line.points.retain(|(nines, _)| *nines <= end + 0.05);
    }
    let values = lines
        .iter()
        .flat_map(|line| line.points.iter().map(|(_, y)| *y))
        .collect::<Vec<_>>();
    Panel::Chart(Chart {
        title: String::new(),
        x: Axis::percentiles("percentile", highest),
        y: Axis::log("latency", values.into_iter(), short_duration),
        lines,
        band: None,
        limit: None,
    })
}

fn one_in_flight(answers: &Answers) -> Sheet {
    let floors = &answers.floors;
    let mut lines: Vec<Line> = answers
        .ways
        .iter()
        .enumerate()
        .map(|(index, way)| percentile_line(&way.name, index, Stroke::Solid, &way.latency))
        .collect();
    for (name, colour, latency) in [
        ("floor", 5, &floors.both),
        ("of it fdatasync", 3, &floors.sync),
        ("of it round trip", 4, &floors.round_trip),
    ] {
        lines.push(percentile_line(name, colour, Stroke::Dashed, latency));
    }
    let title = "One order in flight: latency by percentile";
    Sheet::of(title, percentile_chart(lines, floors.both.count))
}

fn latency_by_load(title: &str, series: &[Series]) -> Sheet {
    let mut lines = Vec::new();
    for (colour, series) in series.iter().enumerate() {
        let line = |name: &str, stroke, of: fn(&Step) -> u64| Line {
            name: name.to_owned(),
            colour,
            stroke,
            points: series
                .best_of_each_rate()
                .map(|step| (step.offered_per_second, of(step) as f64))
                .collect(),
            has_dots: true,
        };
        lines.push(line(&series.description.title(), Stroke::Solid, |step| {
            step.latency.p99_ns
        }));
        lines.push(line("", Stroke::Dotted, |step| step.latency.p50_ns));
    }
    let points: Vec<(f64, f64)> = lines.iter().flat_map(|line| line.points.clone()).collect();
    let chart = Chart {
        title: String::new(),
        x: Axis::log("orders offered a second", points.iter().map(|(x, _)| *x), short_count),
        y: Axis::log(
            "latency from the intended time",
            points.iter().map(|(_, y)| *y),
            short_duration,
        ),
        lines,
        band: None,
        limit: Some((KNEE_P99_NS as f64, "5 ms".to_owned())),
    };
    Sheet::of(title, Panel::Chart(chart))
}

fn at_the_knee(series: &[Series]) -> Sheet {
    let knees: Vec<(usize, &Series, &Step)> = series
        .iter()
        .enumerate()
        .filter_map(|(index, series)| Some((index, series, series.knee()?)))
        .collect();
    let lines = knees.iter().map(|(colour, series, step)| {
        let name = format!(
            "{}, {} a second",
            series.description.name,
            short_count(step.offered_per_second)
        );
        percentile_line(&name, *colour, Stroke::Solid, &step.latency)
    });
    let samples = knees.iter().map(|(_, _, step)| step.latency.count).min().unwrap_or(0);
    Sheet::of(
        "At the knee of each: latency by percentile",
        percentile_chart(lines.collect(), samples),
    )
}

/// The peer at the most that it keeps up with, and this program at that rate over the same protocol.
fn at_the_peers_maximum(own: &[&Series], peer: &[&Series]) -> Option<Sheet> {
    let peer = peer.first()?;
    let own = own.iter().find(|own| {
        let (a, b) = (&own.description, &peer.description);
        (a.protocol, a.authentication) == (b.protocol, b.authentication)
    })?;
    let theirs = peer.maximum()?;
    let ours = own.step_of_at_least(theirs.offered_per_second)?;
    let lines = [(own, ours), (peer, theirs)]
        .into_iter()
        .enumerate()
        .map(|(colour, (series, step))| {
            let name = format!(
                "{}, {} a second",
                series.description.name,
                short_count(step.offered_per_second)
            );
            percentile_line(&name, colour, Stroke::Solid, &step.latency)
        });
    let samples = ours.latency.count.min(theirs.latency.count);
    Some(Sheet::of(
        "At the peer's maximum rate: latency by percentile",
        percentile_chart(lines.collect(), samples),
    ))
}

fn burst_timeline(burst: &Burst) -> Sheet {
    let per_second = 1_000.0 / burst.slot_ms.max(1) as f64;
    let time = |at_ms: u64| at_ms as f64 / 1_000.0;
    let rate = |name: &str, colour, stroke, of: fn(&crate::results::BurstSlot) -> u64| Line {
        name: name.to_owned(),
        colour,
        stroke,
        points: burst
            .slots
            .iter()
            .map(|slot| (time(slot.at_ms), of(slot) as f64 * per_second))
            .collect(),
        has_dots: false,
    };
    let rates = vec![
        rate("offered", 5, Stroke::Dashed, |slot| slot.offered),
        rate("executed", 0, Stroke::Solid, |slot| slot.executed),
        rate("refused with 503", 1, Stroke::Solid, |slot| slot.refused),
    ];
    let latency = Line {
        name: "p99 of those executed".to_owned(),
        colour: 3,
        stroke: Stroke::Solid,
        points: burst
            .slots
            .iter()
            .filter(|slot| slot.p99_ns > 0)
            .map(|slot| (time(slot.at_ms), slot.p99_ns as f64))
            .collect(),
        has_dots: false,
    };
    let end = burst.slots.last().map_or(1.0, |slot| time(slot.at_ms + burst.slot_ms));
    let x = || {
        Axis::linear(
            "seconds, by when the request was due",
            std::iter::once(end),
            short_count,
        )
    };
    let band = Some((time(burst.burst_ms.0), time(burst.burst_ms.1)));
    let values: Vec<f64> = rates
        .iter()
        .flat_map(|line| line.points.iter().map(|(_, y)| *y))
        .collect();
    let latencies: Vec<f64> = latency.points.iter().map(|(_, y)| *y).collect();
    Sheet {
        title: format!("A burst of ten times the sustainable rate: {}", burst.description.name),
        columns: 1,
        panels: vec![
            Panel::Chart(Chart {
                title: String::new(),
                x: x(),
                y: Axis::linear("requests a second", values.into_iter(), short_count),
                lines: rates,
                band,
                limit: None,
            }),
            Panel::Chart(Chart {
                title: String::new(),
                x: x(),
                y: Axis::log("latency", latencies.into_iter(), short_duration),
                lines: vec![latency],
                band,
                limit: None,
            }),
        ],
    }
}

fn stages(results: &Results) -> Option<Sheet> {
    let loads = staged(results);
    let mut parts: Vec<String> = Vec::new();
    for stage in loads.iter().flat_map(|(_, stages)| stages.iter()) {
        // The whole way is no part of itself.
        if stage.stage != WHOLE_WAY && !parts.contains(&stage.stage) {
            parts.push(stage.stage.clone());
        }
    }
    if parts.is_empty() {
        return None;
    }
    let bars: Vec<Bar> = loads
        .iter()
        .map(|(name, stages)| {
            let length = |part: &String| {
                let stage = stages.iter().find(|stage| stage.stage == *part);
                stage.map_or(0.0, |stage| stage.mean_ns() / 1e3)
            };
            let lengths: Vec<f64> = parts.iter().map(length).collect();
            let sum: f64 = lengths.iter().sum();
            Bar {
                name: format!("{name}: {} in all", super::format::duration(sum * 1e3)),
                lengths,
            }
        })
        .collect();
    let sums = bars.iter().map(|bar| bar.lengths.iter().sum::<f64>());
    let bars = Bars {
        axis: Axis::linear(
            "mean time in each stage, microseconds",
            sums.collect::<Vec<_>>().into_iter(),
            short_count,
        ),
        parts,
        bars,
    };
    Some(Sheet::of("Where the time of a request goes", Panel::Bars(bars)))
}

fn growth_memory(growth: &Growth) -> Sheet {
    let panels = growth.curves.iter().map(|curve| {
        let points: Vec<(f64, f64)> = curve
            .points
            .iter()
            .map(|point| (point.count as f64, point.rss_bytes as f64 / f64::from(1 << 20)))
            .collect();
        Panel::Chart(Chart {
            title: curve.of.clone(),
            x: Axis::log("", points.iter().map(|(x, _)| *x), short_count),
            y: Axis::linear("MiB", points.iter().map(|(_, y)| *y), short_count),
            lines: vec![Line {
                name: String::new(),
                colour: 0,
                stroke: Stroke::Solid,
                points,
                has_dots: true,
            }],
            band: None,
            limit: None,
        })
    });
    Sheet {
        title: "The node's memory by the number of…".to_owned(),
        columns: 2,
        panels: panels.collect(),
    }
}

fn growth_latency(growth: &Growth) -> Sheet {
    let panels = growth.curves.iter().map(|curve| {
        let line = |name: &str, colour, stroke, of: fn(&Percentiles) -> u64| Line {
            name: name.to_owned(),
            colour,
            stroke,
            points: curve
                .points
                .iter()
                .map(|point| (point.count as f64, of(&point.latency) as f64))
                .collect(),
            has_dots: true,
        };
        let lines = vec![
            line("p99", 0, Stroke::Solid, |latency| latency.p99_ns),
            line("p50", 0, Stroke::Dotted, |latency| latency.p50_ns),
        ];
        let points: Vec<(f64, f64)> = lines.iter().flat_map(|line| line.points.clone()).collect();
        Panel::Chart(Chart {
            title: format!(
                "{}, {} orders a second",
                curve.of,
                short_count(curve.offered_per_second)
            ),
            x: Axis::log("", points.iter().map(|(x, _)| *x), short_count),
            y: Axis::log("", points.iter().map(|(_, y)| *y), short_duration),
            lines,
            band: None,
            limit: None,
        })
    });
    Sheet {
        title: "Latency at a fixed rate by the number of…".to_owned(),
        columns: 2,
        panels: panels.collect(),
    }
}

fn recovery(growth: &Growth) -> Sheet {
    let points: Vec<(f64, f64)> = growth
        .recoveries
        .iter()
        .map(|recovery| {
            (
                recovery.journal_bytes as f64 / f64::from(1 << 20),
                recovery.ready_seconds,
            )
        })
        .collect();
    let chart = Chart {
        title: String::new(),
        x: Axis::linear("journal, MiB", points.iter().map(|(x, _)| *x), short_count),
        y: Axis::linear("seconds until ready", points.iter().map(|(_, y)| *y), short_count),
        lines: vec![Line {
            name: String::new(),
            colour: 0,
            stroke: Stroke::Solid,
            points,
            has_dots: true,
        }],
        band: None,
        limit: None,
    };
    Sheet::of(
        "Recovery by the size of the journal, without a snapshot",
        Panel::Chart(chart),
    )
}
