//! From a snapshot and the journal to a state that the core can go on from.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use replica::{Applied, Applier, LogEntry};
use types::{AppliedBatch, Command, Event, StateMachine};
use wire::membership::Membership;

use crate::journal::{Journal, JournalError, JournalHandle, JournalSettings, Opened, Quarantine, Voters};

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

    /// Who belongs to the group there.
    pub fn membership(&self) -> &Membership {
        self.applier.membership()
    }

    /// The journal, to read from.
    pub fn journal(&self) -> JournalHandle {
        self.journal.handle()
    }
}

/// Opens the journal and applies to `machine`, which stands at `applied` (index 0: an empty one), where `membership` is who
/// belongs to the group, what is behind that.
///
/// What comes of it goes to `each`. To a lone voter everything in its journal is committed; where there are several, the
/// entries of which that is not known are handed over as they are.
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
    let opened = catch_unwind(AssertUnwindSafe(|| -> Result<_, JournalError> {
        let opened = Journal::open_as(settings, Voters::Several, applied, &mut |entry| {
            if let Some(batch) = applier.apply(entry)? {
                each(&batch);
            }
            Ok(())
        });
        let Opened { journal, suffix, .. } = opened?;
        // Up to where it is not alone any more, all that it has on disk was committed by it alone.
        let mut rest = VecDeque::from(suffix);
        while applier.membership().is_lone_voter(settings.identity.node)
            && let Some(entry) = rest.pop_front()
        {
            if let Some(batch) = applier.apply(&entry)? {
                each(&batch);
            }
        }
        let suffix = rest.into();
        let stands = applier.applied();
        journal.set_committed(stands.index, stands.sequence);
        Ok((journal, suffix))
    }));
    let (journal, suffix) = match opened {
        Ok(opened) => opened?,
        Err(panic) => match applier.applying() {
            Some(sequence) => return Err(JournalError::Panicked(sequence)),
            None => std::panic::resume_unwind(panic),
        },
    };
    Ok(Recovered {
        applier,
        journal,
        suffix,
    })
}
