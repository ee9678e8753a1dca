//! Snapshots: made from the journal in the background and checked against the live hash.

mod file;
mod maker;

#[cfg(test)]
mod tests;

pub use file::{Loaded, SNAPSHOTS_KEPT, SnapshotFileError, SnapshotFolder};
pub use maker::{Maker, MakerRequest, MakerStatus, keep_evidence};
