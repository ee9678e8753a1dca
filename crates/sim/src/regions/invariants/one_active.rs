//! Once all faults are over, there is one active region, the other follows it, all nodes are equal, and orders are executed.

pub(crate) const NAME: &str = "the regions heal";
