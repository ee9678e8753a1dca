//! What a run measured, as it is kept: one JSON file, from which tables, pictures and the document are made.
//!
//! Everything here is data. Latencies are whole nanoseconds, rates are requests a second, and an item of a batch counts
//! as a request of its own. Whether an aim is met is computed from these, never stored.

mod answers;
mod growth;
mod machine;
mod percentiles;
mod series;
mod stages;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub use answers::{Answers, Floors, Named};
pub use growth::{Growth, GrowthCurve, GrowthPoint, Recovery, SnapshotStart};
pub use machine::{Build, Machine};
pub use percentiles::{CurvePoint, Percentiles, new_histogram};
pub use series::{
    Authentication, Burst, BurstSlot, Check, KNEE_P99_NS, Protocol, Schedule, Series, SeriesDescription, Step, Target,
};
pub use stages::{StageReading, StageTimes};

/// The version of the file's layout. A file of another one is refused: it is made again by measuring again.
pub const RESULTS_VERSION: u32 = 1;

/// Everything that one run measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`RESULTS_VERSION`].
    pub version: u32,
    /// When the run began: UTC, `2026-01-31 12:34`.
    pub taken_at: String,
    /// How long the whole run took.
    pub took_seconds: f64,
    /// Whether it was the short form, whose figures say that everything works and little more.
    pub short: bool,
    /// Where it ran.
    pub machine: Machine,
    /// What was measured.
    pub build: Build,
    /// One order in flight, beside its floor.
    pub answers: Option<Answers>,
    /// Rising load, one entry for each way to send it.
    pub series: Vec<Series>,
    /// Ten times the sustainable rate for a second.
    pub bursts: Vec<Burst>,
    /// What size costs.
    pub growth: Option<Growth>,
}

impl Results {
    /// Reads a results file.
    ///
    /// # Errors
    /// If it can't be read, is not such a file, or has another version.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
        let results: Self =
            serde_json::from_slice(&text).with_context(|| format!("failed to understand {}", path.display()))?;
        ensure!(
            results.version == RESULTS_VERSION,
            "{} has version {}, and this program reads {RESULTS_VERSION}",
            path.display(),
            results.version
        );
        Ok(results)
    }

    /// Writes the results file.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
    }
}
