//! The lease group has one history: what its log says of who is active is the same on each voter, and nothing of it is lost.

use std::collections::BTreeMap;

use types::Epoch;
use wire::journal::LogIndex;
use wire::site::{Durability, EpochStart, LeaseState};

use crate::invariants::Checked;

pub(crate) const NAME: &str = "the lease has one history";

/// Each state of the lease, as the first voter that came to it tells it.
#[derive(Debug, Default)]
pub(crate) struct OneLease {
    states: BTreeMap<LogIndex, LeaseState>,
    /// What answers waited for last in each epoch.
    durability: BTreeMap<Epoch, Durability>,
}

impl OneLease {
    /// A voter has applied an entry. True if it is the first that did.
    pub(crate) fn applied(&mut self, index: LogIndex, state: &LeaseState) -> Result<bool, String> {
        if let Some(known) = self.states.get(&index) {
            if known == state {
                return Ok(false);
            }
            return Err(format!(
                "entry {index} of the lease's log made {state:?}, and {known:?} elsewhere"
            ));
        }
        if self.states.keys().next_back().is_some_and(|last| index < *last) {
            // The first voter came to a later one in the same step.
            return Ok(false);
        }
        self.durability.insert(state.epoch, state.durability);
        self.states.insert(index, state.clone());
        Ok(true)
    }

    /// How it is by now.
    pub(crate) fn newest(&self) -> Option<&LeaseState> {
        self.states.values().next_back()
    }

    /// How it was before the newest entry.
    pub(crate) fn before(&self) -> Option<&LeaseState> {
        self.states.values().rev().nth(1)
    }

    /// What answers of an epoch waited for when it ended, or wait for now.
    pub(crate) fn durability_in(&self, epoch: Epoch) -> Option<Durability> {
        self.durability.get(&epoch).copied()
    }

    /// The beginning of the epoch that made a place void; none: it is not.
    pub(crate) fn voided_by(&self, epoch: Epoch, sequence: types::Sequence) -> Option<EpochStart> {
        let starts = self.newest()?.epochs.iter();
        let mut later = starts.filter(|start| start.epoch > epoch);
        later
            .find(|start| start.after.is_some_and(|after| after < sequence))
            .copied()
    }

    /// All agree with what is remembered: nothing of it may be forgotten by the end.
    pub(crate) fn check(&self, state: &LeaseState) -> Checked {
        match self.newest() {
            Some(newest) if newest == state => Ok(()),
            newest => Err(format!("a voter ends with {state:?}, and {newest:?} was agreed on")),
        }
    }
}
