//! One order of commands: whatever stands at a sequence on one node stands there on every node, in every life.

use types::Sequence;
use wire::journal::NodeId;

use crate::market::Executed;

pub(crate) const NAME: &str = "one order of commands";

/// What was executed at each sequence, as the first node that did so tells it.
#[derive(Debug)]
pub(crate) struct OneOrder {
    before: Sequence,
    history: Vec<Executed>,
}

impl OneOrder {
    /// Of a history that begins behind `before`.
    pub(crate) fn new(before: Sequence) -> Self {
        Self {
            before,
            history: Vec::new(),
        }
    }

    /// What stands at a sequence.
    pub(crate) fn at(&self, sequence: Sequence) -> Option<&Executed> {
        let at = sequence.0.checked_sub(self.before.0 + 1)?;
        self.history.get(usize::try_from(at).ok()?)
    }

    pub(crate) fn last(&self) -> Sequence {
        Sequence(self.before.0 + self.history.len() as u64)
    }

    pub(crate) fn all(&self) -> &[Executed] {
        &self.history
    }

    /// A node executed a command. True if it is the first one that did.
    pub(crate) fn executed(&mut self, node: NodeId, executed: &Executed) -> Result<bool, String> {
        if let Some(known) = self.at(executed.sequence) {
            if known == executed {
                return Ok(false);
            }
            return Err(format!(
                "node {node} executed {executed:?}, where {known:?} was executed before"
            ));
        }
        if executed.sequence != self.last().next() {
            return Err(format!(
                "node {node} executed sequence {} and nobody had executed {}",
                executed.sequence,
                self.last().next()
            ));
        }
        self.history.push(*executed);
        Ok(true)
    }
}
