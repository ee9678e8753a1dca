//! What can go wrong with a journal.

use std::io;
use std::path::{Path, PathBuf};

use replica::StopReason;
use replica::recovery::{Damage, Location};
use types::Sequence;
use wire::journal::{LogIndex, RecordError};

/// The disk said no.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {error}", path.display())]
pub struct DiskError {
    /// What was tried.
    pub action: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the disk said.
    pub error: io::Error,
}

impl DiskError {
    pub(super) fn new(action: &'static str, path: &Path, error: io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            error,
        }
    }

    /// True if there is no room left, which the operator can mend while the node runs.
    pub fn is_full(&self) -> bool {
        matches!(
            self.error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }
}

/// Why the journal can't be used or can't go on.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk said no.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// There is no room for the next segment, and the node is stopping.
    #[error("the disk of {} is full", .0.display())]
    Full(PathBuf),
    /// An earlier write or sync failed. What it was to make durable may or may not be, so nothing is written any more;
    /// a restart looks at what the disk really holds.
    #[error("an earlier write or sync of {} failed", .0.display())]
    FailedEarlier(PathBuf),
    /// Something that was acknowledged is not as it was written.
    #[error(
        "{damage}.\n  Nothing was changed. Copy the whole folder {} first. Then look with `meridian journal verify`, restore \
         the named file from a copy, and start again; going on without it would lose what was acknowledged",
        folder.display()
    )]
    Damaged {
        /// The journal's folder.
        folder: PathBuf,
        /// What and where.
        damage: Damage,
    },
    /// The mark is gone, so nothing says up to where records were acknowledged.
    #[error(
        "{} {what}: nothing says up to where the journal was acknowledged.\n  Nothing was changed. Restore it from a copy; or \
         check with `meridian journal verify` that the journal ends where it should, and write it anew with \
         `meridian journal remark`", path.display()
    )]
    Mark {
        /// The mark's file.
        path: PathBuf,
        /// Missing or damaged.
        what: &'static str,
    },
    /// The records can't be applied.
    #[error("apply the journal: {0}")]
    Replay(#[from] StopReason),
    /// The state machine panicked.
    #[error(
        "apply the journal: the command at sequence {0} makes the engine panic.\n  Keep a copy of the data folder for the \
         developers. `meridian journal quarantine {0}` turns the command into a reject; then start again"
    )]
    Panicked(Sequence),
    /// A record that is needed is not there.
    #[error("the record of index {index} (sequence {sequence} and on; {at}) can't be read: {error}")]
    NoRecord {
        /// Where it must stand.
        at: Location,
        /// Its index.
        index: LogIndex,
        /// The first sequence that may be in it.
        sequence: Sequence,
        /// What is there instead.
        error: RecordError,
    },
    /// What was asked for was retired.
    #[error("read the journal: index {wanted} was retired, the oldest kept one is {first}")]
    Retired {
        /// What was asked for.
        wanted: LogIndex,
        /// What is kept.
        first: LogIndex,
    },
    /// There is a journal already.
    #[error("make a journal in {}: there is one already", .0.display())]
    Exists(PathBuf),
    /// There is no journal.
    #[error("open the journal in {}: there is none. A node with an empty disk is a new node: make it with `meridian init`", .0.display())]
    None(PathBuf),
    /// A record is larger than a segment.
    #[error("a record of {bytes} bytes does not fit a segment of {segment_bytes} bytes")]
    RecordTooLarge {
        /// The record.
        bytes: u64,
        /// The segment.
        segment_bytes: u64,
    },
    /// Quarantining is not possible or of no use.
    #[error("quarantine sequence {sequence}: {reason}")]
    Quarantine {
        /// Which.
        sequence: Sequence,
        /// Why not.
        reason: String,
    },
}
