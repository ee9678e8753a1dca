//! What size costs.

use serde::{Deserialize, Serialize};

use super::{Floors, Percentiles};

/// Cost against size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// The command that measures these alone.
    pub command: String,
    /// One for each thing that can be many.
    pub curves: Vec<GrowthCurve>,
    /// Recovery against the size of the journal.
    pub recoveries: Vec<Recovery>,
    /// The start from a snapshot of the largest book.
    pub snapshot_start: Option<SnapshotStart>,
}

/// Cost against the number of one thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrowthCurve {
    /// Of what there are more and more: `sessions`, `accounts`, `open orders`, `instruments`.
    pub of: String,
    /// The rate at which latency was measured, the same for all points.
    pub offered_per_second: f64,
    /// By rising number.
    pub points: Vec<GrowthPoint>,
}

/// One size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrowthPoint {
    /// How many there were.
    pub count: u64,
    /// How long it took to make those that were not there yet, through the API.
    pub made_in_seconds: f64,
    /// How many were made for this point.
    pub made: u64,
    /// The node's memory once they were there and before the load, in bytes.
    pub rss_bytes: u64,
    /// By how much it grew while they were made.
    pub grown_bytes: u64,
    /// Latency at the curve's rate, from the intended time.
    pub latency: Percentiles,
    /// The floors meanwhile.
    pub floors: Option<Floors>,
    /// The node's processor time a request, in microseconds.
    pub node_cpu_us_per_request: f64,
}

impl GrowthCurve {
    /// Bytes of memory that each one took: what the node grew by while they were made, so that what the load between two
    /// points leaves behind, such as closed orders that can still be looked up, is not in it.
    pub fn bytes_each(&self) -> Option<f64> {
        let made: u64 = self.points.iter().map(|point| point.made).sum();
        let grown: u64 = self.points.iter().map(|point| point.grown_bytes).sum();
        (made > 0).then(|| grown as f64 / made as f64)
    }
}

/// A start after `kill -9`, without a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Commands in the journal.
    pub commands: u64,
    /// Bytes of them.
    pub journal_bytes: u64,
    /// Until the node took requests.
    pub ready_seconds: f64,
}

/// A start from a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotStart {
    /// Open orders in it.
    pub open_orders: u64,
    /// Accounts in it.
    pub accounts: u64,
    /// The file's size.
    pub snapshot_bytes: u64,
    /// Commands that the journal held beyond it.
    pub commands_after: u64,
    /// Until the node took requests.
    pub ready_seconds: f64,
    /// The node's memory then, in bytes.
    pub rss_bytes: u64,
    /// Open orders that the node then said it has.
    pub open_orders_found: u64,
    /// How long the node took to make the snapshot in the background, from its start.
    pub made_in_seconds: f64,
    /// The node's memory at its highest meanwhile: it holds a second state then.
    pub rss_bytes_making: u64,
}
