//! What was answered and is not in the final history is void by the lease's history, and stands in what the region that
//! rolled back kept as evidence. Nothing else stands there.

use std::collections::BTreeSet;

use types::{Epoch, Sequence};
use wire::journal::NodeId;
use wire::site::EpochStart;

use super::one_history::OneHistory;
use crate::invariants::Checked;
use crate::invariants::acknowledged::Answer;
use crate::invariants::one_order::OneOrder;

pub(crate) const NAME: &str = "what is void is listed, and nothing else";

/// What a client was told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    #[expect(dead_code, reason = "it is for whoever reads of a broken promise")]
    pub(crate) node: NodeId,
    /// The epoch of its place.
    pub(crate) epoch: Epoch,
    pub(crate) answer: Answer,
    /// True if it was called durable in both regions.
    pub(crate) in_both: bool,
}

/// What nodes kept of the lives that ended.
#[derive(Debug, Default)]
pub(crate) struct Evidence(BTreeSet<(Epoch, Sequence)>);

impl Evidence {
    /// A node lists a place as void.
    pub(crate) fn list(&mut self, epoch: Epoch, sequence: Sequence) {
        self.0.insert((epoch, sequence));
    }

    /// An answer against the final history.
    pub(crate) fn check(&self, told: &Told, voided: Option<&EpochStart>, order: &OneOrder) -> Checked {
        let sequence = told.answer.sequence;
        let there = order.at(sequence);
        let is_there = there.is_some_and(|executed| {
            let said = (told.epoch, told.answer.request_id, told.answer.outcome);
            (executed.epoch, executed.request_id, executed.outcome) == said
        });
        match (is_there, voided) {
            (true, None) => Ok(()),
            (true, Some(start)) => Err(format!("{told:?} is in the final history, and void by {start:?}")),
            (false, None) => Err(format!("{told:?} is not void, and in the final history is {there:?}")),
            (false, Some(start)) if !self.0.contains(&(told.epoch, sequence)) => {
                Err(format!("{told:?} is void by {start:?}, and no node lists it"))
            }
            (false, Some(_)) => Ok(()),
        }
    }

    /// Nothing of the final history is listed.
    pub(crate) fn check_none_holds(&self, order: &OneOrder) -> Checked {
        let holds =
            |(epoch, sequence): &&(Epoch, Sequence)| order.at(*sequence).is_some_and(|there| there.epoch == *epoch);
        match self.0.iter().find(holds) {
            Some(listed) => Err(format!("{listed:?} is listed as void, and is in the final history")),
            None => Ok(()),
        }
    }

    /// True if what a client was told is what stands there.
    pub(crate) fn is_told(told: &Told, history: &OneHistory) -> Checked {
        let answer = &told.answer;
        let there = history.at(told.epoch, answer.sequence);
        let said = (answer.account, answer.request_id, answer.outcome);
        if there.is_some_and(|executed| (executed.account, executed.request_id, executed.outcome) == said) {
            return Ok(());
        }
        Err(format!("{told:?} was told, where {there:?} was executed"))
    }
}
