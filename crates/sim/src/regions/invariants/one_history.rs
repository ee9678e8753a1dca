//! Each epoch has one history, the same on each node of both regions, and it begins where the lease's state says: what
//! stands in front of a command is the same wherever the command stands.

use std::collections::BTreeMap;

use types::{Epoch, Sequence};
use wire::journal::NodeId;
use wire::site::LeaseState;

use crate::market::Executed;

pub(crate) const NAME: &str = "each epoch has one history";

/// A command, and the epoch of the one in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    executed: Executed,
    before: Epoch,
}

/// What was executed at each place, as the first node that did so tells it.
#[derive(Debug, Default)]
pub(crate) struct OneHistory(BTreeMap<(Epoch, Sequence), Known>);

impl OneHistory {
    /// What stands at a place.
    pub(crate) fn at(&self, epoch: Epoch, sequence: Sequence) -> Option<&Executed> {
        self.0.get(&(epoch, sequence)).map(|known| &known.executed)
    }

    /// A node executed a command behind one of the epoch `before`. True if it is the first one that did.
    pub(crate) fn executed(
        &mut self,
        node: NodeId,
        executed: &Executed,
        before: Epoch,
        lease: Option<&LeaseState>,
    ) -> Result<bool, String> {
        let place = (executed.epoch, executed.sequence);
        let known = Known {
            executed: *executed,
            before,
        };
        if let Some(there) = self.0.get(&place) {
            if *there == known {
                return Ok(false);
            }
            return Err(format!(
                "node {node} executed {known:?}, where {there:?} was executed before"
            ));
        }
        if executed.epoch < before {
            return Err(format!("node {node} executed {executed:?} behind epoch {before}"));
        }
        if executed.epoch > before {
            let starts = lease.map_or(&[][..], |lease| &lease.epochs);
            let start = starts.iter().find(|start| start.epoch == executed.epoch);
            let after = start.and_then(|start| start.after);
            if after.map(Sequence::next) != Some(executed.sequence) {
                return Err(format!(
                    "node {node} begins epoch {} at sequence {}, and its beginning on record is behind {after:?}",
                    executed.epoch, executed.sequence
                ));
            }
        }
        self.0.insert(place, known);
        Ok(true)
    }

    /// The history that ends at a place, oldest first.
    pub(crate) fn up_to(&self, epoch: Epoch, sequence: Sequence) -> Vec<Executed> {
        let mut path = Vec::new();
        let mut place = (epoch, sequence);
        while let Some(known) = self.0.get(&place) {
            path.push(known.executed);
            place = (known.before, Sequence(place.1.0 - 1));
        }
        path.reverse();
        path
    }

    /// The command in front of one.
    pub(crate) fn before(&self, executed: &Executed, before: Epoch) -> Option<&Executed> {
        self.at(before, Sequence(executed.sequence.0 - 1))
    }
}
