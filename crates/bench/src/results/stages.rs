//! Where a live node's time goes: the histograms on its operations port, read before and after.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The histogram that a node keeps for each stage of a request.
const METRIC: &str = "meridian_stage_seconds";

/// What requests spent in one stage, between two readings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTimes {
    /// The stage, such as `fsync`.
    pub stage: String,
    /// How often it was passed: once a request, or once a batch where the core works on batches.
    pub count: u64,
    /// All time spent there, in nanoseconds.
    pub total_ns: f64,
    /// Half were no longer, in nanoseconds, interpolated within a bucket.
    pub p50_ns: f64,
    /// 99 % were no longer.
    pub p99_ns: f64,
}

impl StageTimes {
    /// The mean of one passage, in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        self.total_ns / (self.count as f64).max(1.0)
    }
}

/// What the operations port says at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageReading {
    stages: BTreeMap<String, Stage>,
    /// In the order in which the port names them, which is that of a request's way if the node keeps to it.
    order: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Stage {
    /// Upper bound in seconds and how many were no longer, ascending; the last bound is infinite.
    buckets: Vec<(f64, u64)>,
    sum_seconds: f64,
}

impl StageReading {
    /// Reads the text of `/metrics`. Without such histograms the reading is empty.
    ///
    /// # Errors
    /// If a line of them is not as Prometheus' text format says.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reading = Self::default();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(METRIC) else {
                continue;
            };
            let wrong = || format!("not a line of a histogram: {line}");
            let (kind, rest) = rest.split_once('{').with_context(wrong)?;
            let (labels, value) = rest.rsplit_once('}').with_context(wrong)?;
            let name = label(labels, "stage").with_context(wrong)?;
            let value: f64 = value.trim().parse().with_context(wrong)?;
            if !reading.stages.contains_key(name) {
                reading.order.push(name.to_owned());
            }
            let stage = reading.stages.entry(name.to_owned()).or_default();
            match kind {
                "_bucket" => {
                    let bound = label(labels, "le").with_context(wrong)?;
                    stage.buckets.push((bound.parse().with_context(wrong)?, value as u64));
                }
                "_sum" => stage.sum_seconds = value,
                _ => {}
            }
        }
        for stage in reading.stages.values_mut() {
            stage.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Ok(reading)
    }

    /// What was added since an earlier reading of the same node.
    pub fn since(&self, earlier: &Self) -> Vec<StageTimes> {
        let nothing = Stage::default();
        let times = self.order.iter().filter_map(|name| {
            let before = earlier.stages.get(name).unwrap_or(&nothing);
            let times = self.stages.get(name)?.since(name, before);
            (times.count > 0).then_some(times)
        });
        times.collect()
    }
}

impl Stage {
    fn since(&self, name: &str, earlier: &Self) -> StageTimes {
        let buckets: Vec<(f64, u64)> = self
            .buckets
            .iter()
            .map(|(bound, count)| {
                let same = earlier.buckets.iter().find(|(other, _)| other == bound);
                (*bound, count.saturating_sub(same.map_or(0, |(_, count)| *count)))
            })
            .collect();
        StageTimes {
            stage: name.to_owned(),
            count: buckets.last().map_or(0, |(_, count)| *count),
            total_ns: (self.sum_seconds - earlier.sum_seconds).max(0.0) * 1e9,
            p50_ns: quantile(&buckets, 0.5) * 1e9,
            p99_ns: quantile(&buckets, 0.99) * 1e9,
        }
    }
}

/// The quantile in seconds, as Prometheus' `histogram_quantile` does it: evenly spread within a bucket, and never above the
/// last finite bound.
fn quantile(buckets: &[(f64, u64)], quantile: f64) -> f64 {
    let count = buckets.last().map_or(0, |(_, count)| *count);
    let rank = quantile * count as f64;
    let mut below = (0.0, 0);
    for (bound, up_to) in buckets {
        if *up_to > below.1 && *up_to as f64 >= rank {
            if bound.is_infinite() {
                return below.0;
            }
            let share = (rank - below.1 as f64) / (up_to - below.1) as f64;
            return below.0 + (bound - below.0) * share.clamp(0.0, 1.0);
        }
        if bound.is_finite() {
            below = (*bound, *up_to);
        }
    }
    0.0
}

/// The value of one label among `a="b",c="d"`. Names of stages and bounds hold no quotes.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|label| {
        let (key, value) = label.trim().split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(fast: u64, slow: u64, sum: f64) -> StageReading {
        let text = format!(
            "# TYPE meridian_stage_seconds histogram\n\
             meridian_stage_seconds_bucket{{stage=\"verify\",le=\"0.001\"}} 0\n\
             meridian_stage_seconds_bucket{{stage=\"verify\",le=\"+Inf\"}} 0\n\
             meridian_stage_seconds_bucket{{stage=\"fsync\",le=\"0.001\"}} {fast}\n\
             meridian_stage_seconds_bucket{{stage=\"fsync\",le=\"0.002\"}} {both}\n\
             meridian_stage_seconds_bucket{{stage=\"fsync\",le=\"+Inf\"}} {both}\n\
             meridian_stage_seconds_sum{{stage=\"fsync\"}} {sum}\n\
             meridian_stage_seconds_count{{stage=\"fsync\"}} {both}\n\
             meridian_commands_total 12\n",
            both = fast + slow
        );
        StageReading::parse(&text).unwrap()
    }

    #[test]
    fn the_difference_of_two_readings_is_what_happened_between_them() {
        let before = reading(1_000, 10, 2.0);
        let stages = reading(1_090, 20, 2.1).since(&before);
        assert_eq!(stages.len(), 1, "what did not happen is left out");
        let fsync = &stages[0];
        assert_eq!((fsync.stage.as_str(), fsync.count), ("fsync", 100));
        let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1.0, "{got} and not {expected}");
        close(fsync.mean_ns(), 1_000_000.0);
        close(fsync.p50_ns, 1_000_000.0 * 50.0 / 90.0);
        close(fsync.p99_ns, 1_900_000.0);
        assert_eq!(reading(5, 0, 1.0).since(&reading(5, 0, 1.0)), []);
    }

    #[test]
    fn what_is_no_histogram_is_said_to_be_none() {
        assert!(StageReading::parse("meridian_stage_seconds_bucket 3").is_err());
        assert!(StageReading::parse("meridian_stage_seconds_bucket{stage=\"a\",le=\"x\"} 3").is_err());
        assert_eq!(StageReading::parse("other 3\n").unwrap(), StageReading::default());
    }
}
