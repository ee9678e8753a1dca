//! Snapshots: made from the journal in the background and checked against the live hash.
