//! Load of rising rate, bursts, and the check that nothing of it was lost.

use serde::{Deserialize, Serialize};

use super::{Floors, Percentiles, StageTimes};

/// A rate is sustainable while the 99th percentile from the intended time stays below this: 5 ms.
pub const KNEE_P99_NS: u64 = 5_000_000;

/// A rate isn't kept up with once the median request waits for this share of the whole step: its queue only grows.
const BEHIND_SHARE_MAX: f64 = 0.02;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This program.
    Meridian,
    /// The service over Postgres.
    Peer,
}

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// One request a message.
    WebSocket,
    /// Many requests a message, each with an answer of its own.
    WebSocketBatch,
    /// One request a request of HTTP/1.1, on kept connections.
    Rest,
}

/// What requests are signed with. A WebSocket session signs once, REST each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// HMAC-SHA256.
    Hmac,
    /// Ed25519.
    Ed25519,
}

/// When requests are due, at a given mean rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// At equal distances.
    Constant,
    /// At random, each independent of the others.
    Poisson,
    /// So many at the same instant, and then a pause.
    Microbursts {
        /// How many.
        requests: u32,
    },
}

/// What was sent how, the same for all steps of a series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesDescription {
    /// As in tables, such as `REST, HMAC`.
    pub name: String,
    /// Who answers.
    pub target: Target,
    /// How requests travel.
    pub protocol: Protocol,
    /// What they are signed with.
    pub authentication: Authentication,
    /// Sessions, or connections.
    pub sessions: u32,
    /// Items of one message: 1 if it isn't a batch.
    pub items_per_message: u32,
    /// What is asked, in words: `40 % new, 10 % replace, 45 % cancel, 5 % IOC`.
    pub mix: String,
    /// When requests are due.
    pub schedule: Schedule,
    /// The command that measures this alone.
    pub command: String,
}

impl SeriesDescription {
    /// The name, and whose it is if it is not this program's.
    pub fn title(&self) -> String {
        match self.target {
            Target::Meridian => self.name.clone(),
            Target::Peer => format!("Postgres: {}", self.name),
        }
    }
}

/// Steps of rising load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// What was sent how.
    pub description: SeriesDescription,
    /// By rising rate.
    pub steps: Vec<Step>,
    /// What was found of it afterwards.
    pub check: Option<Check>,
}

/// One rate, held for some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The rate that the schedule asks for.
    pub offered_per_second: f64,
    /// How long it was measured, without the warm-up.
    pub seconds: f64,
    /// Requests that were due in that time.
    pub sent: u64,
    /// Answered as executed.
    pub executed: u64,
    /// Refused by a rule of the exchange, such as an order that is no longer there.
    pub rejected: u64,
    /// Refused because the node was busy (503).
    pub refused: u64,
    /// Refused because of a rate limit (429).
    pub limited: u64,
    /// Without an answer when waiting for one ended.
    pub unanswered: u64,
    /// From when a request was due to its answer: what a client sees, also of requests that were sent late.
    pub latency: Percentiles,
    /// From when it was sent: what is left if the sender's own lateness is taken away.
    pub latency_from_send: Percentiles,
    /// Processor time of the node, or of the peer with its database, a request, in microseconds.
    pub node_cpu_us_per_request: f64,
    /// The generator's processor time, in processors: 1 is one of them in full.
    pub generator_cpus: f64,
    /// The furthest that the generator was behind its schedule.
    pub generator_late_ns_max: u64,
    /// Floors that were taken while this load ran.
    pub floors: Option<Floors>,
    /// Where the node's time went.
    pub stages: Vec<StageTimes>,
}

impl Step {
    /// Whether nothing was lost or turned away.
    pub fn is_whole(&self) -> bool {
        self.sent > 0 && self.refused == 0 && self.limited == 0 && self.unanswered == 0
    }

    /// Whether the rate can be held: nothing turned away, and p99 below [`KNEE_P99_NS`].
    pub fn is_sustained(&self) -> bool {
        self.is_whole() && self.latency.p99_ns < KNEE_P99_NS
    }

    /// Whether answers kept up with the schedule: nothing turned away, and at the end no queue behind it that had grown for
    /// most of the step.
    pub fn is_kept_up(&self) -> bool {
        let allowed_ns = self.seconds * 1e9 * BEHIND_SHARE_MAX;
        self.is_whole() && (self.latency.p50_ns as f64) < allowed_ns
    }

    /// Requests that were executed or rejected by a rule, a second: each took its way through journal and exchange.
    pub fn answered_per_second(&self) -> f64 {
        (self.executed + self.rejected) as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

impl Series {
    /// The knee: the step of the highest rate that can be held.
    pub fn knee(&self) -> Option<&Step> {
        let sustained = self.steps.iter().filter(|step| step.is_sustained());
        sustained.max_by(|a, b| a.offered_per_second.total_cmp(&b.offered_per_second))
    }

    /// By rising rate, of several tries at a rate the one with the lowest p99 of those in which the fewest requests were turned
    /// away.
    pub fn best_of_each_rate(&self) -> impl Iterator<Item = &Step> {
        let mut steps: Vec<&Step> = self.steps.iter().collect();
        let failed = |step: &Step| step.refused + step.limited + step.unanswered;
        steps.sort_by(|a, b| {
            let rates = a.offered_per_second.total_cmp(&b.offered_per_second);
            let failures = || failed(a).cmp(&failed(b));
            rates.then_with(failures).then(a.latency.p99_ns.cmp(&b.latency.p99_ns))
        });
        steps.dedup_by(|later, first| later.offered_per_second == first.offered_per_second);
        steps.into_iter()
    }

    /// The step of the highest rate that was kept up with at all, whatever its latency.
    pub fn maximum(&self) -> Option<&Step> {
        let kept_up = self.steps.iter().filter(|step| step.is_kept_up());
        kept_up.max_by(|a, b| a.offered_per_second.total_cmp(&b.offered_per_second))
    }

    /// The step of the lowest rate that asks for at least so much: one that asks for less would flatter a comparison.
    pub fn step_of_at_least(&self, offered_per_second: f64) -> Option<&Step> {
        let asked = self
            .steps
            .iter()
            .filter(|step| step.offered_per_second >= offered_per_second * 0.999);
        asked.min_by(|a, b| a.offered_per_second.total_cmp(&b.offered_per_second))
    }
}

/// A burst: the normal rate, then ten times the sustainable one for a second, then the normal rate again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    /// What was sent how.
    pub description: SeriesDescription,
    /// The rate before and after.
    pub normal_per_second: f64,
    /// The rate of the burst.
    pub burst_per_second: f64,
    /// When the burst began and ended, in milliseconds from the start of the timeline.
    pub burst_ms: (u64, u64),
    /// What happened in each slot of time.
    pub slots: Vec<BurstSlot>,
    /// The width of a slot.
    pub slot_ms: u64,
    /// The p99 before the burst, which counts as normal.
    pub normal_p99_ns: u64,
    /// From the end of the burst until p99 was normal again and stayed so; nothing if it never was.
    pub normal_again_after_ms: Option<u64>,
    /// The most requests that waited in the node's queue, as its metrics said, and that queue's bound.
    pub queue_depth_max: u64,
    /// The node's memory before the burst and at its highest after it began, in bytes.
    pub rss_bytes: (u64, u64),
    /// What was found of it afterwards.
    pub check: Option<Check>,
}

/// The requests that were due in one slot of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BurstSlot {
    /// When it begins.
    pub at_ms: u64,
    /// How many were due.
    pub offered: u64,
    /// Of them executed, or rejected by a rule of the exchange.
    pub executed: u64,
    /// Of them refused as busy (503).
    pub refused: u64,
    /// Of them refused by a rate limit (429).
    pub limited: u64,
    /// Of them never sent: their clients' queues were full, and they gave them up.
    #[serde(default)]
    pub not_sent: u64,
    /// Of them sent and never answered.
    pub unanswered: u64,
    /// The p99 of those that were executed, from the intended time; 0 if none was.
    pub p99_ns: u64,
}

/// Whether every acknowledged order is there afterwards, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Requests that were answered as executed.
    pub acknowledged: u64,
    /// Of them found in what the node tells afterwards.
    pub found: u64,
    /// Of them not found.
    pub missing: u64,
    /// Found more than once, or with another outcome than was answered.
    pub doubled: u64,
}

impl Check {
    /// Whether all is as it was acknowledged.
    pub fn passed(&self) -> bool {
        self.missing == 0 && self.doubled == 0 && self.found == self.acknowledged
    }
}
