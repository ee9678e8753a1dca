//! From a snapshot and the journal to a state that the core can go on from.

use std::panic::{AssertUnwindSafe, catch_unwind};

use replica::{Applied, Applier};
use types::{AppliedBatch, Command, Event, StateMachine};
use wire::membership::Membership;

use crate::journal::{Journal, JournalError, JournalHandle, JournalSettings, Quarantine};

/// A state that stands at the end of its journal.
#[derive(Debug)]
pub struct Recovered<M: StateMachine> {
    pub(super) applier: Applier<M>,
    pub(super) journal: Journal,
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

/// Opens the journal and applies to `machine`, which stands at `applied` (index 0: an empty one), where `membership` is who
/// belongs to the group, what is behind that.
///
/// What comes of it goes to `each`. With one voter, what is in the journal is committed.
pub fn recover<M>(
    settings: &JournalSettings,
    machine: M,
    applied: Applied,
    membership: Membership,
    each: &mut dyn FnMut(&AppliedBatch),
) -> Result<Recovered<M>, JournalError>
where
    M: StateMachine<Command = Command, Event = Event>,
{
    let quarantine = Quarantine::read(&settings.folder)?;
    let mut applier = Applier::new(&settings.identity, machine, applied, membership, quarantine.0);
    let opened = catch_unwind(AssertUnwindSafe(|| {
        Journal::open(settings, applied, &mut |entry| {
            if let Some(batch) = applier.apply(entry)? {
                each(&batch);
            }
            Ok(())
        })
    }));
    let journal = match opened {
        Ok(opened) => opened?.0,
        Err(panic) => match applier.applying() {
            Some(sequence) => return Err(JournalError::Panicked(sequence)),
            None => std::panic::resume_unwind(panic),
        },
    };
    Ok(Recovered { applier, journal })
}
