//! Snapshots: made from the journal in the background and checked against the live hash.

mod file;
mod maker;

#[cfg(test)]
mod tests;

pub use file::{SNAPSHOTS_KEPT, SnapshotFileError, SnapshotFolder};
pub(crate) use maker::lower_priority;
pub use maker::{Maker, MakerStatus, keep_evidence};
