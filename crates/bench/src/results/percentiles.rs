//! A distribution of latencies, small enough to keep.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency that a histogram of a run tells apart: one minute.
const LONGEST_NS: u64 = 60_000_000_000;
/// Steps of the curve until the distance to 100 % has halved.
const CURVE_STEPS_PER_HALVING: u32 = 4;

/// An empty histogram of nanoseconds, of three significant digits, as every part of a run uses it.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order")
}

/// A distribution of latencies in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many samples.
    pub count: u64,
    /// Their mean.
    pub mean_ns: f64,
    /// Half of them were no longer.
    pub p50_ns: u64,
    /// 90 % were no longer.
    pub p90_ns: u64,
    /// 99 % were no longer.
    pub p99_ns: u64,
    /// 99.9 % were no longer.
    pub p999_ns: u64,
    /// 99.99 % were no longer.
    pub p9999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The whole distribution, ascending, denser towards 100 %; empty where nobody looks at more than the above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<CurvePoint>,
}

/// So much of a distribution took no longer than this.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// From 0 to 100.
    pub percentile: f64,
    /// The latency.
    pub latency_ns: u64,
}

impl Percentiles {
    /// The same without the curve, which is most of what it takes to write it down.
    pub fn without_curve(self) -> Self {
        Self {
            curve: Vec::new(),
            ..self
        }
    }

    /// Those of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile);
        let mut curve: Vec<CurvePoint> = Vec::new();
        for step in histogram.iter_quantiles(CURVE_STEPS_PER_HALVING) {
            let point = CurvePoint {
                percentile: step.quantile_iterated_to() * 100.0,
                latency_ns: step.value_iterated_to().min(histogram.max()),
            };
            match curve.last_mut() {
                // Of points at one latency the last says all.
                Some(last) if curve_continues(last, &point) => *last = point,
                _ => curve.push(point),
            }
        }
        Self {
            count: histogram.len(),
            mean_ns: if histogram.is_empty() { 0.0 } else { histogram.mean() },
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: histogram.max(),
            curve,
        }
    }

    /// By how many times the median is that of `floor`.
    pub fn p50_to(&self, floor: &Self) -> f64 {
        ratio(self.p50_ns, floor.p50_ns)
    }

    /// By how many times the 99th percentile is that of `floor`.
    pub fn p99_to(&self, floor: &Self) -> f64 {
        ratio(self.p99_ns, floor.p99_ns)
    }
}

/// True if `next` repeats the latency of `last` and is not needed to see where that latency begins.
fn curve_continues(last: &CurvePoint, next: &CurvePoint) -> bool {
    last.latency_ns == next.latency_ns && last.percentile > 0.0
}

fn ratio(this: u64, floor: u64) -> f64 {
    this as f64 / floor.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn they_are_those_of_the_sorted_samples() {
        let mut random = Random(7);
        let mut samples: Vec<u64> = (0..20_000).map(|_| 1_000 + random.below(50_000_000)).collect();
        let mut histogram = new_histogram();
        for sample in &samples {
            histogram.record(*sample).unwrap();
        }
        samples.sort_unstable();
        let percentiles = Percentiles::of(&histogram);
        let close = |got: u64, quantile: f64| {
            let index = ((samples.len() as f64 * quantile).ceil() as usize).max(1) - 1;
            let expected = samples[index];
            assert!(
                got.abs_diff(expected) * 1_000 <= 2 * expected,
                "{quantile}: {got} and not {expected}"
            );
        };
        close(percentiles.p50_ns, 0.5);
        close(percentiles.p90_ns, 0.9);
        close(percentiles.p99_ns, 0.99);
        close(percentiles.p999_ns, 0.999);
        close(percentiles.p9999_ns, 0.9999);
        assert_eq!(percentiles.count, 20_000);
        close(percentiles.max_ns, 1.0);
        for point in &percentiles.curve {
            close(point.latency_ns, (point.percentile / 100.0).min(1.0));
        }
        assert!(percentiles.curve.len() > 20);
        assert!(percentiles.curve.is_sorted_by_key(|point| point.latency_ns));
        assert_eq!(percentiles.curve.last().map(|point| point.percentile), Some(100.0));
    }

    #[test]
    fn nothing_was_measured() {
        let percentiles = Percentiles::of(&new_histogram());
        assert_eq!(
            percentiles,
            Percentiles {
                curve: percentiles.curve.clone(),
                ..Percentiles::default()
            }
        );
    }
}
