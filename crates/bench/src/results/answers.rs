//! One order in flight, and the floors that no durable answer can beat.

use serde::{Deserialize, Serialize};

use super::{Percentiles, StageTimes};

/// The least that a durable answer needs, measured in turn with what is compared with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Floors {
    /// A loopback round trip with the same sizes of messages.
    pub round_trip: Percentiles,
    /// Writing and `fdatasync` of as many bytes as the journal writes for one order, on the same disk.
    pub sync: Percentiles,
    /// One after the other: the sum of a pair that was taken in the same turn.
    pub both: Percentiles,
    /// Bytes of a request on the wire.
    pub request_bytes: u64,
    /// Bytes of an answer on the wire.
    pub answer_bytes: u64,
    /// Bytes that are written and synced.
    pub record_bytes: u64,
}

impl Floors {
    /// The same without curves.
    pub fn without_curves(self) -> Self {
        Self {
            round_trip: self.round_trip.without_curve(),
            sync: self.sync.without_curve(),
            both: self.both.without_curve(),
            ..self
        }
    }
}

/// One order in flight over several ways, each turn one sample of each and of the floors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// The command that takes these alone.
    pub command: String,
    /// The floors.
    pub floors: Floors,
    /// Each way by its name in tables, such as `WebSocket`.
    pub ways: Vec<Named>,
    /// Where the node's time went meanwhile.
    pub stages: Vec<StageTimes>,
}

/// A distribution with a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Named {
    /// As in tables.
    pub name: String,
    /// What was measured.
    pub latency: Percentiles,
}

impl Answers {
    /// The way of this name.
    pub fn way(&self, name: &str) -> Option<&Percentiles> {
        let way = self.ways.iter().find(|way| way.name == name)?;
        Some(&way.latency)
    }
}
