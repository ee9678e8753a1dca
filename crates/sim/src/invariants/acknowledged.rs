//! No acknowledged command is lost: what a client was told stands in the one order, and still does in the end.

use types::{AccountId, RequestId, Sequence};

use super::Checked;
use super::one_order::OneOrder;
use crate::market::Outcome;

pub(crate) const NAME: &str = "no acknowledged command is lost";

/// What clients were told.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    last: Sequence,
    /// What was told before anybody had executed it, which only a mutation does.
    early: Vec<Answer>,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) sequence: Sequence,
    pub(crate) account: AccountId,
    pub(crate) request_id: RequestId,
    pub(crate) outcome: Outcome,
}

impl Acknowledged {
    /// The last sequence that a client was told of.
    pub(crate) fn last(&self) -> Sequence {
        self.last
    }

    /// A node answers.
    pub(crate) fn answered(&mut self, answer: &Answer, order: &OneOrder) -> Checked {
        self.last = self.last.max(answer.sequence);
        let Some(executed) = order.at(answer.sequence) else {
            return Err(format!("{answer:?} was told before any node had applied it"));
        };
        let same = (executed.account, executed.request_id, executed.outcome)
            == (answer.account, answer.request_id, answer.outcome);
        if same {
            Ok(())
        } else {
            Err(format!("{answer:?} was told, where {executed:?} was executed"))
        }
    }

    /// A node answers too early.
    pub(crate) fn told_early(&mut self, answer: &Answer) {
        self.last = self.last.max(answer.sequence);
        self.early.push(*answer);
    }

    /// What was told too early is what came of it, after all.
    pub(crate) fn check_early(&self, order: &OneOrder) -> Checked {
        let outcome = |answer: &Answer| {
            order
                .at(answer.sequence)
                .map(|executed| (executed.request_id, executed.outcome))
        };
        match self
            .early
            .iter()
            .find(|answer| outcome(answer) != Some((answer.request_id, answer.outcome)))
        {
            Some(answer) => Err(format!("{answer:?} was told, and is not what was executed there")),
            None => Ok(()),
        }
    }

    /// Where every node must stand in the end.
    pub(crate) fn check(&self, applied: Sequence) -> Checked {
        if applied < self.last {
            return Err(format!(
                "sequence {} was acknowledged, and the log ends at {applied}",
                self.last
            ));
        }
        Ok(())
    }
}
