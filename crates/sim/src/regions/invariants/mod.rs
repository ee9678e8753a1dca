//! What must hold of two regions, whatever happens: one file each. The table in the crate's README says where each comes
//! from. Those of a single group that hold here too are used as they are.

pub(super) mod both_is_kept;
pub(super) mod degraded_on_record;
pub(super) mod no_old_epoch;
pub(super) mod one_active;
pub(super) mod one_history;
pub(super) mod one_holder;
pub(super) mod one_lease;
pub(super) mod void_is_listed;
