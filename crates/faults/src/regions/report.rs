//! What came of rounds of faults of regions.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::RegionFault;

/// What came of a round.
#[derive(Clone, Debug)]
pub struct RegionRound {
    /// What happened.
    pub fault: RegionFault,
    /// From the fault to the first request that was acknowledged in the new epoch; none: no new one was to begin, or none
    /// was acknowledged.
    pub recovered_after: Option<Duration>,
    /// The same until each session that asked on had such an answer.
    pub all_recovered_after: Option<Duration>,
    /// The longest time between two acknowledgements, from the fault to the end of the load.
    pub pause: Duration,
    /// Requests that were made.
    pub requests: u64,
    /// Requests that were acknowledged.
    pub acknowledged: u64,
    /// Orders that were acknowledged and are not there afterwards.
    pub missing: u64,
    /// Acknowledged requests, orders among them, behind the new epoch's beginning.
    pub void: u64,
    /// Answers that contradict an earlier one: another place for the same id, or two ids at one place.
    pub doubled: u64,
    /// Whether the region that was lost began a new life.
    pub new_life: bool,
    /// The most commands that the standby lacked, as the active region told.
    pub lag_max: u64,
    /// Whether the active region told that answers do not wait for the standby though they should.
    pub degraded: bool,
    /// From the fault's end until all nodes were equal and the standby followed.
    pub whole_after: Duration,
    /// The whole round.
    pub took: Duration,
}

/// What came of it all.
#[derive(Clone, Debug, Default)]
pub struct RegionsReport {
    /// Each round.
    pub rounds: Vec<RegionRound>,
    /// Worlds that were made, one after the other.
    pub worlds: u64,
    /// Nodes whose journals were replayed to the same state, at the ends of worlds.
    pub states_compared: u64,
    /// Promises that were broken; empty if all is well.
    pub broken: Vec<String>,
}

/// Rounds of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionSummary {
    /// How many.
    pub rounds: usize,
    /// The median of the times to the first acknowledgement of the new epoch.
    pub recovered_ms_median: u64,
    /// The longest of them.
    pub recovered_ms_max: u64,
    /// The longest until every session had one.
    pub all_recovered_ms_max: u64,
    /// The median of the rounds' longest pauses.
    pub pause_ms_median: u64,
    /// The longest pause.
    pub pause_ms_max: u64,
    /// Acknowledged requests.
    pub acknowledged: u64,
    /// Acknowledged orders that are not there.
    pub missing: u64,
    /// Acknowledged requests that are void.
    pub void: u64,
    /// The most of these in a round.
    pub void_max: u64,
    /// Answers that contradict another.
    pub doubled: u64,
    /// New lives.
    pub new_lives: usize,
    /// The most commands that the standby lacked.
    pub lag_max: u64,
    /// The longest until all was whole again.
    pub whole_ms_max: u64,
}

impl RegionsReport {
    /// By fault.
    pub fn summaries(&self) -> BTreeMap<RegionFault, RegionSummary> {
        let mut by_fault: BTreeMap<RegionFault, Vec<&RegionRound>> = BTreeMap::new();
        for round in &self.rounds {
            by_fault.entry(round.fault).or_default().push(round);
        }
        let summary = |(fault, rounds): (_, Vec<_>)| (fault, RegionSummary::of(&rounds));
        by_fault.into_iter().map(summary).collect()
    }

    /// As JSON, with what was asked for.
    pub fn as_json(&self, plan: &super::RegionsPlan) -> Value {
        let summaries: BTreeMap<String, Value> = self
            .summaries()
            .into_iter()
            .map(|(fault, summary)| (fault.to_string(), summary.as_json()))
            .collect();
        let rounds: Vec<Value> = self.rounds.iter().map(RegionRound::as_json).collect();
        json!({
            "seed": plan.seed,
            "nodes": plan.nodes,
            "durability": if plan.sync { "sync" } else { "async" },
            "lease_ms": plan.lease_ms,
            "each_way_ms": plan.each_way.as_millis() as u64,
            "worlds": self.worlds,
            "states_compared": self.states_compared,
            "broken": self.broken,
            "faults": summaries,
            "rounds": rounds,
        })
    }
}

impl RegionRound {
    fn as_json(&self) -> Value {
        let ms = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        json!({
            "fault": self.fault.to_string(),
            "recovered_ms": ms(self.recovered_after),
            "all_recovered_ms": ms(self.all_recovered_after),
            "pause_ms": self.pause.as_millis() as u64,
            "requests": self.requests,
            "acknowledged": self.acknowledged,
            "missing": self.missing,
            "void": self.void,
            "doubled": self.doubled,
            "new_life": self.new_life,
            "lag_max": self.lag_max,
            "degraded": self.degraded,
            "whole_ms": self.whole_after.as_millis() as u64,
            "took_ms": self.took.as_millis() as u64,
        })
    }
}

impl RegionSummary {
    fn of(rounds: &[&RegionRound]) -> Self {
        let sorted = |time: fn(&RegionRound) -> Option<Duration>| {
            let times = rounds.iter().filter_map(|round| time(round));
            let mut times: Vec<u64> = times.map(|time| time.as_millis() as u64).collect();
            times.sort_unstable();
            times
        };
        let sum = |count: fn(&RegionRound) -> u64| rounds.iter().map(|round| count(round)).sum();
        let max = |count: fn(&RegionRound) -> u64| rounds.iter().map(|round| count(round)).max().unwrap_or(0);
        let last = |times: &[u64]| times.last().copied().unwrap_or(0);
        let recovered = sorted(|round| round.recovered_after);
        let pauses = sorted(|round| Some(round.pause));
        Self {
            rounds: rounds.len(),
            recovered_ms_median: median(&recovered),
            recovered_ms_max: last(&recovered),
            all_recovered_ms_max: last(&sorted(|round| round.all_recovered_after)),
            pause_ms_median: median(&pauses),
            pause_ms_max: last(&pauses),
            acknowledged: sum(|round| round.acknowledged),
            missing: sum(|round| round.missing),
            void: sum(|round| round.void),
            void_max: max(|round| round.void),
            doubled: sum(|round| round.doubled),
            new_lives: rounds.iter().filter(|round| round.new_life).count(),
            lag_max: max(|round| round.lag_max),
            whole_ms_max: last(&sorted(|round| Some(round.whole_after))),
        }
    }

    fn as_json(&self) -> Value {
        json!({
            "rounds": self.rounds,
            "recovered_ms_median": self.recovered_ms_median,
            "recovered_ms_max": self.recovered_ms_max,
            "all_recovered_ms_max": self.all_recovered_ms_max,
            "pause_ms_median": self.pause_ms_median,
            "pause_ms_max": self.pause_ms_max,
            "acknowledged": self.acknowledged,
            "missing": self.missing,
            "void": self.void,
            "void_max": self.void_max,
            "doubled": self.doubled,
            "new_lives": self.new_lives,
            "lag_max": self.lag_max,
            "whole_ms_max": self.whole_ms_max,
        })
    }
}

/// The median of times in their order: the mean of the middle two, if there are two.
fn median(sorted: &[u64]) -> u64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0;
    };
    u64::midpoint(sorted[last / 2], sorted[sorted.len() / 2])
}
