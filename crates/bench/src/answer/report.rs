//! The figures, and what they are worth: ratios to the floor at the same percentile.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Series {
    RoundTrip,
    Sync,
    Floor,
    WebSocket,
    Rest,
}

impl Series {
    fn name(self) -> &'static str {
        match self {
            Self::RoundTrip => "loopback round trip",
            Self::Sync => "fdatasync",
            Self::Floor => "floor (both)",
            Self::WebSocket => "order over WebSocket",
            Self::Rest => "order over REST",
        }
    }
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Longer than any answer is waited for.
const LONGEST_NS: u64 = 60_000_000_000;

/// All samples of a run.
pub struct Report {
    sizes: (usize, usize, usize),
    series: BTreeMap<Series, Histogram<u64>>,
}

impl Report {
    pub fn new(request_bytes: usize, answer_bytes: usize, record_bytes: usize) -> Self {
        Self {
            sizes: (request_bytes, answer_bytes, record_bytes),
            series: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, series: Series, took: Duration) {
        let histogram = self
            .series
            .entry(series)
            .or_insert_with(|| Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order"));
        histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    fn at(&self, series: Series, quantile: f64) -> u64 {
        self.series
            .get(&series)
            .map_or(0, |histogram| histogram.value_at_quantile(quantile))
    }

    fn ratio(&self, series: Series, quantile: f64) -> f64 {
        self.at(series, quantile) as f64 / self.at(Series::Floor, quantile).max(1) as f64
    }

    pub fn json(&self) -> Value {
        let (request_bytes, answer_bytes, record_bytes) = self.sizes;
        let mut all =
            json!({"request_bytes": request_bytes, "answer_bytes": answer_bytes, "record_bytes": record_bytes});
        for (series, histogram) in &self.series {
            let mut figures = json!({"samples": histogram.len()});
            for (name, quantile) in QUANTILES {
                figures[name] = json!({"ns": self.at(*series, quantile), "to_floor": self.ratio(*series, quantile)});
            }
            all[series.name()] = figures;
        }
        all
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (request, answer, record) = self.sizes;
        writeln!(
            f,
            "One order in flight; {request} bytes asked, {answer} answered, {record} synced by the floor."
        )?;
        writeln!(
            f,
            "Microseconds, and in brackets the ratio to the floor at the same percentile.\n"
        )?;
        write!(f, "{:<22}{:>9}", "", "samples")?;
        for (name, _) in QUANTILES {
            write!(f, "{name:>18}")?;
        }
        writeln!(f)?;
        for (series, histogram) in &self.series {
            write!(f, "{:<22}{:>9}", series.name(), histogram.len())?;
            for (_, quantile) in QUANTILES {
                let microseconds = self.at(*series, quantile) as f64 / 1_000.0;
                let ratio = format!("({:.2})", self.ratio(*series, quantile));
                write!(f, "{microseconds:>10.1} {ratio:>7}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
