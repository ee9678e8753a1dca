//! What must hold whatever happens: one file each. The table in the crate's README says where each comes from.

pub(crate) mod acknowledged;
pub(crate) mod all_equal;
pub(crate) mod answers_agree;
pub(crate) mod executed_once;
pub(crate) mod healed;
pub(crate) mod money;
pub(crate) mod never_stops;
pub(crate) mod one_leader;
pub(crate) mod one_order;
pub(crate) mod reads;
pub(crate) mod stamps;

/// What is wrong, or nothing.
pub(crate) type Checked = Result<(), String>;
