//! Recovery: from what is on disk to the state that was last acknowledged.
//!
//! A voter whose journal is damaged has peers that hold what it lost: it sets the journal aside as evidence, begins anew
//! behind its newest snapshot with the term and vote that the mark tells, and neither votes nor stands for election until it
//! has everything again (`Settings::repairing`). A file says so for as long as that takes, over restarts.
//!
//! ```text
//!  newest whole snapshot ─> journal behind it, applied ─> event log: its tail from what was applied just now, its other
//!                                                         gaps from an earlier snapshot and a replay of their own
//! ```

use std::path::Path;

use engine::Exchange;
use replica::recovery::Place;
use replica::{Applied, HardState};
use types::{AppliedBatch, Sequence, StateMachine as _};
use wire::journal::{Identity, NodeId, Term};

use crate::assembly::StartError;
use crate::config::Config;
use crate::core::{self, Recovered};
use crate::data_folder::{DataFolder, DataFolderError};
use crate::event_log::Writer;
use crate::journal::{self, Journal, JournalError, JournalSettings, Quarantine};
use crate::publisher::settle;
use crate::replay::start_of;
use crate::snapshots::SnapshotFolder;

/// The journal's settings of a data folder.
pub fn journal_settings(folder: &DataFolder, identity: Identity, config: &Config) -> JournalSettings {
    JournalSettings {
        folder: folder.journal(),
        identity,
        segment_bytes: config.journal.segment_size.0,
    }
}

/// What was recovered.
pub(crate) struct Recovery {
    /// The state and the journal.
    pub(crate) recovered: Recovered<Exchange>,
    /// True if something may be missing that this node acknowledged.
    pub(crate) repairing: bool,
}

/// Recovers the state and makes the event log fit it.
pub(crate) fn recover(
    folder: &DataFolder,
    settings: &JournalSettings,
    snapshots: &SnapshotFolder,
    events: &mut Writer,
) -> Result<Recovery, StartError> {
    let (machine, base, membership) = start_of::<Exchange>(snapshots, Sequence(u64::MAX))?;
    let has_peers = !membership.is_lone_voter(settings.identity.node);
    let mut refill = Refill::new(events);
    let recovered = core::recover(settings, machine, base, membership, &mut |batch| refill.take(batch));
    refill.finish();
    let recovered = match recovered {
        // The making of the new journal may have been cut off.
        Err(JournalError::None(_)) if folder.file(REPAIRING).exists() => {
            journal::create(settings)?;
            begin_anew(settings, snapshots)?
        }
        Err(JournalError::Damaged { damage, .. }) if has_peers => {
            tracing::error!(%damage, "the journal is damaged; this node begins anew, and its peers send what it lost again");
            set_aside(folder, settings)?;
            begin_anew(settings, snapshots)?
        }
        other => other?,
    };
    let repairing = folder.file(REPAIRING).exists();
    let applied = recovered.applied().sequence;
    events.keep_at_least(recovered.machine().rules().request_window_ns);
    settle::<Exchange, _>(events, applied, snapshots, &recovered.journal())?;
    tracing::info!(
        snapshot = base.sequence.0,
        sequence = applied.0,
        state_hash = format_args!("{:016x}", recovered.machine().state_hash()),
        "recovered"
    );
    Ok(Recovery { recovered, repairing })
}

/// The file that is there while a voter gets back what it lost.
pub(crate) const REPAIRING: &str = "REPAIRING";

/// Keeps a damaged journal as evidence, under another name.
fn set_aside(folder: &DataFolder, settings: &JournalSettings) -> Result<(), StartError> {
    let mut hard_state = journal::marked_vote(settings)?;
    let quarantined = Quarantine::read(&settings.folder)?;
    let marker = folder.file(REPAIRING);
    if marker.exists() {
        // The journal is one that was to take the place of another, whose vote holds if it is newer.
        let earlier = repairing_vote(&marker)?;
        if earlier.term >= hard_state.term {
            hard_state = earlier;
        }
    }
    let text = format!("term = {}\nvote = {}\n", hard_state.term.0, hard_state.vote.0);
    folder.write(REPAIRING, text.as_bytes(), 0o600)?;
    let io = |error| DataFolderError::Io {
        path: settings.folder.clone(),
        error,
    };
    for number in 1_u32.. {
        let aside = folder.file(&format!("journal.damaged-{number}"));
        if !aside.exists() {
            std::fs::rename(&settings.folder, &aside).map_err(io)?;
            tracing::warn!(path = %aside.display(), "the damaged journal was set aside; remove it once it was looked at");
            break;
        }
    }
    journal::create(settings)?;
    // All replays of the group must leave out the same commands.
    for sequence in &quarantined.0 {
        Quarantine::read(&settings.folder)?.add(&settings.folder, *sequence)?;
    }
    Ok(())
}

/// A new journal behind the newest snapshot.
fn begin_anew(settings: &JournalSettings, snapshots: &SnapshotFolder) -> Result<Recovered<Exchange>, StartError> {
    let (machine, base, membership) = start_of::<Exchange>(snapshots, Sequence(u64::MAX))?;
    let (mut journal, _) = Journal::open(settings, Applied::default(), &mut |_| Ok(()))?;
    let marker = snapshots
        .folder
        .parent()
        .map(|data| data.join(REPAIRING))
        .unwrap_or_default();
    journal.begin_at(Place::from(base), repairing_vote(&marker)?)?;
    journal.close()?;
    Ok(core::recover(settings, machine, base, membership, &mut |_| {})?)
}

/// The term and vote of before the loss.
fn repairing_vote(path: &Path) -> Result<HardState, StartError> {
    #[derive(serde::Deserialize)]
    struct Vote {
        term: u64,
        vote: u64,
    }
    let text = std::fs::read_to_string(path).map_err(|error| DataFolderError::Io {
        path: path.to_owned(),
        error,
    })?;
    let Vote { term, vote } = toml::from_str(&text).map_err(|error| DataFolderError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(HardState {
        term: Term(term),
        vote: NodeId(vote),
    })
}

/// Appends to the event log what it lacks at its end, as recovery comes past it.
struct Refill<'a> {
    events: &'a mut Writer,
    /// False once something did not fit: then a replay of its own fills the gap.
    fits: bool,
}

impl<'a> Refill<'a> {
    fn new(events: &'a mut Writer) -> Self {
        Self { events, fits: true }
    }

    fn take(&mut self, batch: &AppliedBatch) {
        if !self.fits || batch.header.last_sequence() < self.events.next() {
            return;
        }
        if let Err(error) = self.events.extend(batch) {
            tracing::warn!(%error, "event log: its end can't be joined to what was recovered");
            self.fits = false;
        }
    }

    fn finish(self) {
        if let Err(error) = self.events.done() {
            tracing::warn!(%error, "event log: its end can't be joined to what was recovered");
        }
    }
}
