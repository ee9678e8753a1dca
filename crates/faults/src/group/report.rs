//! What came of rounds of faults of a group.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::GroupFault;

/// What came of a round.
#[derive(Clone, Debug)]
pub struct RoundReport {
    /// What happened.
    pub fault: GroupFault,
    /// To which node.
    pub node: u64,
    /// From the fault to the first answer to an order that was sent after it, at any node that it didn't happen to; none:
    /// it never came.
    pub recovered_after: Option<Duration>,
    /// The same at every such node.
    pub all_recovered_after: Option<Duration>,
    /// From the fault's end until all nodes were equal.
    pub equal_after: Option<Duration>,
    /// Terms that began before the fault, without a cause.
    pub false_elections: u64,
    /// Terms that began from the fault on.
    pub elections: u64,
    /// Attempts at nodes that the fault didn't happen to, after it, that had no final answer.
    pub attempts_failed: u64,
    /// The first few of these.
    pub failures: Vec<String>,
    /// Requests that were made.
    pub requests: u64,
    /// From the round's begin to the fault: accounts, clients, and load until enough is answered.
    pub before_fault: Duration,
    /// From the fault to its end, a restart included.
    pub faulty: Duration,
    /// What asking again and the checks took.
    pub settled_within: Duration,
    /// The whole round.
    pub took: Duration,
}

/// What came of full load without a fault.
#[derive(Clone, Debug)]
pub struct CalmReport {
    /// How long.
    pub lasted: Duration,
    /// Requests that were made.
    pub requests: u64,
    /// Terms that began.
    pub elections: u64,
    /// Attempts without a final answer.
    pub attempts_failed: u64,
}

/// What came of it all.
#[derive(Clone, Debug, Default)]
pub struct GroupReport {
    /// Groups that were made, one after the other.
    pub groups: u64,
    /// What came of full load without a fault, if that was asked for.
    pub calm: Option<CalmReport>,
    /// Each round.
    pub rounds: Vec<RoundReport>,
    /// Requests that were made.
    pub requests: u64,
    /// Those of them that had no final answer when the group was whole again.
    pub unanswered: u64,
    /// Answers that repeated an earlier one.
    pub repeats: u64,
    /// Reads right after an acknowledged change, at any node.
    pub reads: u64,
    /// Of these, those of orders that a gateway had no past of, since it had begun anew.
    pub forgotten: u64,
    /// Log entries that were compared between all nodes' journals at the end.
    pub entries_compared: u64,
    /// Promises that were broken; empty if all is well.
    pub broken: Vec<String>,
}

/// Rounds of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many.
    pub rounds: usize,
    /// The median of the times within which they recovered.
    pub recovered_ms_median: u64,
    /// All of them did.
    pub recovered_ms_max: u64,
    /// All of them did at every surviving node.
    pub all_recovered_ms_max: u64,
    /// The nodes were equal again within this.
    pub equal_ms_max: u64,
    /// Attempts at surviving nodes without a final answer.
    pub attempts_failed: u64,
}

impl GroupReport {
    /// By fault.
    pub fn summaries(&self) -> BTreeMap<GroupFault, Summary> {
        let mut by_fault: BTreeMap<GroupFault, Vec<&RoundReport>> = BTreeMap::new();
        for round in &self.rounds {
            by_fault.entry(round.fault).or_default().push(round);
        }
        by_fault
            .into_iter()
            .map(|(fault, rounds)| (fault, Summary::of(&rounds)))
            .collect()
    }

    /// Elections without a fault, in all rounds.
    pub fn false_elections(&self) -> u64 {
        self.rounds.iter().map(|round| round.false_elections).sum()
    }

    /// What half of the rounds took at the most.
    pub fn round_median(&self) -> Duration {
        let mut times: Vec<u64> = self.rounds.iter().map(|round| round.took.as_millis() as u64).collect();
        times.sort_unstable();
        Duration::from_millis(median(&times))
    }

    /// As JSON.
    pub fn as_json(&self, seed: u64) -> Value {
        let summaries: BTreeMap<String, Value> = self
            .summaries()
            .into_iter()
            .map(|(fault, summary)| (fault.to_string(), summary.as_json()))
            .collect();
        let rounds: Vec<Value> = self.rounds.iter().map(RoundReport::as_json).collect();
        json!({
            "seed": seed,
            "groups": self.groups,
            "calm": self.calm.as_ref().map(CalmReport::as_json),
            "round_ms_median": self.round_median().as_millis() as u64,
            "requests": self.requests,
            "unanswered": self.unanswered,
            "repeats": self.repeats,
            "reads": self.reads,
            "forgotten": self.forgotten,
            "entries_compared": self.entries_compared,
            "false_elections": self.false_elections(),
            "broken": self.broken,
            "faults": summaries,
            "rounds": rounds,
        })
    }
}

impl RoundReport {
    fn as_json(&self) -> Value {
        let ms = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        json!({
            "fault": self.fault.to_string(),
            "node": self.node,
            "recovered_ms": ms(self.recovered_after),
            "all_recovered_ms": ms(self.all_recovered_after),
            "equal_ms": ms(self.equal_after),
            "false_elections": self.false_elections,
            "elections": self.elections,
            "attempts_failed": self.attempts_failed,
            "failures": self.failures,
            "requests": self.requests,
            "before_fault_ms": self.before_fault.as_millis() as u64,
            "faulty_ms": self.faulty.as_millis() as u64,
            "settled_ms": self.settled_within.as_millis() as u64,
            "took_ms": self.took.as_millis() as u64,
        })
    }
}

impl CalmReport {
    fn as_json(&self) -> Value {
        json!({
            "lasted_ms": self.lasted.as_millis() as u64,
            "requests": self.requests,
            "elections": self.elections,
            "attempts_failed": self.attempts_failed,
        })
    }
}

impl Summary {
    fn of(rounds: &[&RoundReport]) -> Self {
        let sorted = |time: fn(&RoundReport) -> Option<Duration>| {
            // What never came counts as later than all else.
            let mut times: Vec<u64> = rounds
                .iter()
                .map(|round| time(round).map_or(u64::MAX, |time| time.as_millis() as u64))
                .collect();
            times.sort_unstable();
            times
        };
        let recovered = sorted(|round| round.recovered_after);
        let last = |times: Vec<u64>| times.last().copied().unwrap_or_default();
        Self {
            rounds: rounds.len(),
            recovered_ms_median: median(&recovered),
            recovered_ms_max: last(recovered),
            all_recovered_ms_max: last(sorted(|round| round.all_recovered_after)),
            equal_ms_max: last(sorted(|round| round.equal_after)),
            attempts_failed: rounds.iter().map(|round| round.attempts_failed).sum(),
        }
    }

    fn as_json(&self) -> Value {
        json!({
            "rounds": self.rounds,
            "recovered_ms_median": self.recovered_ms_median,
            "recovered_ms_max": self.recovered_ms_max,
            "all_recovered_ms_max": self.all_recovered_ms_max,
            "equal_ms_max": self.equal_ms_max,
            "attempts_failed": self.attempts_failed,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        for (sorted, expected) in [(&[][..], 0), (&[7], 7), (&[330, 456], 393), (&[1, 2, 9], 2)] {
            assert_eq!(median(sorted), expected);
        }
    }
}
