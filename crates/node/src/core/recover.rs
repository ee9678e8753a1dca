//! From a snapshot and the journal to a state that the core can go on from.

use std::panic::{AssertUnwindSafe, catch_unwind};

use replica::{Applied, Applier, LogEntry};
use types::{AppliedBatch, Command, Event, StateMachine};

use crate::journal::{Journal, JournalError, JournalHandle, JournalSettings, Quarantine, Voters};

/// A state that stands at the end of what its journal says is committed.
#[derive(Debug)]
pub struct Recovered<M: StateMachine> {
    pub(super) applier: Applier<M>,
    pub(super) journal: Journal,
    /// The entries behind that. Empty if there is only one voter.
    pub(super) suffix: Vec<LogEntry>,
}

impl<M: StateMachine> Recovered<M> {
    /// The state.
    pub fn machine(&self) -> &M {
        self.applier.machine()
    }

    /// Where it stands.
    pub fn applied(&self) -> Applied {
        self.applier.applied()
    }

    /// The journal, to read from.
    pub fn journal(&self) -> JournalHandle {
        self.journal.handle()
    }
}

/// Opens the journal and applies to `machine`, which stands at `applied` (index 0: an empty one), what is behind that.
///
/// What comes of it goes to `each`. With one voter, what is in the journal is committed; with several, the entries of which
/// that is not known are handed over as they are.
pub fn recover<M>(
    settings: &JournalSettings,
    voters: Voters,
    machine: M,
    applied: Applied,
    each: &mut dyn FnMut(&AppliedBatch),
) -> Result<Recovered<M>, JournalError>
where
    M: StateMachine<Command = Command, Event = Event>,
{
    let quarantine = Quarantine::read(&settings.folder)?;
    let mut applier = Applier::new(&settings.identity, machine, applied, quarantine.0);
    let opened = catch_unwind(AssertUnwindSafe(|| {
        Journal::open_as(settings, voters, applied, &mut |entry| {
            if let Some(batch) = applier.apply(entry)? {
                each(&batch);
            }
            Ok(())
        })
    }));
    let opened = match opened {
        Ok(opened) => opened?,
        Err(panic) => match applier.applying() {
            Some(sequence) => return Err(JournalError::Panicked(sequence)),
            None => std::panic::resume_unwind(panic),
        },
    };
    Ok(Recovered {
        applier,
        journal: opened.journal,
        suffix: opened.suffix,
    })
}
