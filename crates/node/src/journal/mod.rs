//! The journal on disk: the one thing that nothing else can replace.
//!
//! ```text
//!  core thread ── append, sync ──> segment files           (the order path: one pwrite, one fdatasync a batch)
//!       │                             ^      ^
//!       │ "durable up to"             │      └── zero-filled or recycled ahead ── preparer thread
//!       └──> mark thread ──> mark file│
//!                                     └── read up to what is durable ── snapshots, event log, tools
//! ```
//!
//! `wire::journal` says what the bytes are, `replica::recovery` what they prove, `docs/journal.md` what is promised and
//! what can't be noticed. Nothing here acknowledges anything: an `Ok` of [`Journal::sync`] is what lets the core do so.

mod error;
#[cfg(test)]
mod faults;
mod files;
mod handle;
mod mark;
mod open;
mod preparer;
mod quarantine;
mod reader;
#[cfg(test)]
mod tests;
pub mod tools;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use wire::journal::Identity;

#[cfg(test)]
pub(crate) use faults::open_with_faults;

pub use error::{DiskError, JournalError};
pub use handle::{JournalHandle, Room};
pub use open::{Opened, Voters, create, marked_vote};
pub use quarantine::Quarantine;
pub use reader::{JournalReader, ReadEntry};
pub use writer::{Journal, SyncDone, SyncFigures, SyncJob};

/// The smallest segment: a header and a few small records. Real ones are larger than the largest record.
pub const SEGMENT_BYTES_MIN: u64 = 16 << 10;
/// By when what is acknowledged stands in the mark.
pub const MARK_WITHIN: Duration = Duration::from_millis(10);

/// How a journal is set up.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// Its folder.
    pub folder: PathBuf,
    /// Whose it is.
    pub identity: Identity,
    /// Bytes of a segment file, at least [`SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
}
