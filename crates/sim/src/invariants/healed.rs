//! Once all faults are over, the group heals by itself: somebody leads, and every client gets its answers.

pub(crate) const NAME: &str = "the group heals";
