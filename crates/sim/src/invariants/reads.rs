//! Reads are linearizable: one sees at least all that any client was told before it began.

use types::Sequence;
use wire::journal::NodeId;

use super::Checked;

pub(crate) const NAME: &str = "reads are linearizable";

/// A read that began when `acknowledged` was the last place that a client had been told of.
pub(crate) fn check(node: NodeId, acknowledged: Sequence, sees: Sequence) -> Checked {
    if sees >= acknowledged {
        return Ok(());
    }
    Err(format!(
        "a read on node {node} saw sequence {sees}; {acknowledged} was acknowledged before it began"
    ))
}
