//! Two regions never both hold the lease in true time while clocks are within their bound: at the moment at which one is
//! made active in place of another, no node of that other believes that it is.

use types::RegionId;
use wire::journal::NodeId;

use crate::invariants::Checked;

pub(crate) const NAME: &str = "the lease has one holder";

/// A node of a region that was just superseded.
pub(crate) fn check(region: RegionId, node: NodeId, still_holds: bool) -> Checked {
    if !still_holds {
        return Ok(());
    }
    Err(format!(
        "another region was made active, and node {node} of region {region} still believes that it is"
    ))
}
