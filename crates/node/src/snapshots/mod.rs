//! Snapshots: made from the journal in the background and checked against the live hash.

mod file;

#[cfg(test)]
mod tests;

pub use file::{SNAPSHOTS_KEPT, SnapshotFileError, SnapshotFolder};
