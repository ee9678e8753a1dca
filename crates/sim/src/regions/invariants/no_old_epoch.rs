//! A leader that has learnt of a fork puts nothing of an older epoch behind it into its group's log, and sequences in no
//! epoch but the one in which its region is active.

use types::{Epoch, RegionId, Sequence};
use wire::journal::NodeId;
use wire::site::LeaseState;

use crate::invariants::Checked;

pub(crate) const NAME: &str = "nothing of an old epoch is accepted past a fork";

/// A batch that a leader just put into its log, sequenced there or followed.
pub(crate) fn check(
    node: NodeId,
    region: RegionId,
    lease: Option<&LeaseState>,
    (epoch, last): (Epoch, Sequence),
    is_followed: bool,
) -> Checked {
    let Some(lease) = lease else {
        return Err(format!(
            "node {node} puts sequence {last} into its log, and knows no lease"
        ));
    };
    let kept = lease.kept(epoch, last);
    if kept < last {
        return Err(format!(
            "node {node} puts sequence {last} of epoch {epoch} into its log, and knows that it holds up to {kept}"
        ));
    }
    let is_active = lease.active == Some(region) && lease.epoch == epoch;
    if !is_followed && !is_active {
        return Err(format!(
            "node {node} sequences {last} in epoch {epoch}, and knows that {:?} is active in epoch {}",
            lease.active, lease.epoch
        ));
    }
    Ok(())
}
