//! After the healing phase all nodes are equal: the same place, chain and state.

use replica::Applied;
use wire::journal::NodeId;

use super::Checked;

pub(crate) const NAME: &str = "all nodes are equal";

/// Where a node stands in the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) node: NodeId,
    pub(crate) applied: Applied,
    pub(crate) state_hash: u64,
    pub(crate) recomputed: u64,
}

/// Compares them.
pub(crate) fn check(nodes: &[Standing]) -> Checked {
    for node in nodes {
        if node.state_hash != node.recomputed {
            return Err(format!("the hash of node {} is not that of its state", node.node));
        }
    }
    for pair in nodes.windows(2) {
        let [one, other] = pair else { continue };
        if (one.applied, one.state_hash) != (other.applied, other.state_hash) {
            return Err(format!("{one:?} and {other:?} differ"));
        }
    }
    Ok(())
}
