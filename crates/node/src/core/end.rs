//! How the core came to its end.

use gateway::handle::NotAccepting;
use replica::StopReason;
use types::{Incarnation, Sequence};
use wire::journal::NodeId;

use crate::journal::JournalError;

/// How the core came to its end.
#[derive(Debug, thiserror::Error)]
pub enum CoreEnd {
    /// It was asked to: what was taken was executed, and all is in the journal and the mark.
    #[error("it was asked to stop")]
    Stopped,
    /// The journal can't go on.
    #[error("the journal can't go on: {0}. Nothing was acknowledged that is not on disk; a restart looks at what is")]
    Journal(#[from] JournalError),
    /// A snapshot from the leader takes the place of all that was here: the node starts again from it.
    #[error("a snapshot from the leader was installed; the node starts again from it")]
    Installed,
    /// A snapshot from the leader could not be installed.
    #[error(
        "a snapshot from the leader could not be installed: {0}. The node goes on with what it had at its next start"
    )]
    Adopt(std::io::Error),
    /// Another region's log holds, and this one has what that has not: the group begins a new life.
    #[error(
        "this life of the group is over: the node begins incarnation {incarnation} with what holds, through {kept}"
    )]
    BeginsLife {
        /// The next life.
        incarnation: Incarnation,
        /// The node that it begins with.
        founder: NodeId,
        /// The last sequence that holds.
        kept: Sequence,
    },
    /// The log can't go on.
    #[error("the log can't go on: {0}. Keep a copy of the data folder: it is the evidence")]
    Stop(StopReason),
    /// The engine panicked on a command that is in the journal: each start would panic on it again.
    #[error(
        "the engine panicked on the command at sequence {0}. Keep a copy of the data folder for the developers; \
         `meridian journal quarantine {0}` turns the command into a reject, then start again"
    )]
    Panicked(Sequence),
    /// Something else panicked.
    #[error("it panicked; keep a copy of the data folder and the logs for the developers")]
    PanickedElsewhere,
}

impl CoreEnd {
    /// True if the core was asked to stop, and did, or ended to begin anew.
    pub fn is_graceful(&self) -> bool {
        matches!(self, Self::Stopped | Self::Installed | Self::BeginsLife { .. })
    }

    /// What clients are told from then on.
    pub(super) fn not_accepting(&self) -> NotAccepting {
        match self {
            Self::Stopped => NotAccepting::Stopping,
            Self::Installed | Self::BeginsLife { .. } => NotAccepting::Starting,
            Self::Adopt(_) => NotAccepting::DiskFailed,
            Self::Journal(JournalError::Full(_)) => NotAccepting::DiskFull,
            Self::Journal(_) => NotAccepting::DiskFailed,
            Self::Stop(StopReason::StateDiverged { .. } | StopReason::HashPlace { .. }) => NotAccepting::StateDiverged,
            Self::Stop(_) | Self::Panicked(_) | Self::PanickedElsewhere => NotAccepting::ApplyFailed,
        }
    }
}
