//! Recovery: from what is on disk to the state that was last acknowledged.
//!
//! ```text
//!  newest whole snapshot ─> journal behind it, applied ─> event log: its tail from what was applied just now, its other
//!                                                         gaps from an earlier snapshot and a replay of their own
//! ```

use engine::Exchange;
use types::{AppliedBatch, Sequence, StateMachine as _};
use wire::journal::Identity;

use crate::assembly::StartError;
use crate::config::Config;
use crate::core::{self, Recovered};
use crate::data_folder::DataFolder;
use crate::event_log::Writer;
use crate::journal::{JournalSettings, Voters};
use crate::publisher::settle;
use crate::replay::applied_of;
use crate::snapshots::SnapshotFolder;

/// The journal's settings of a data folder.
pub fn journal_settings(folder: &DataFolder, identity: Identity, config: &Config) -> JournalSettings {
    JournalSettings {
        folder: folder.journal(),
        identity,
        segment_bytes: config.journal.segment_size.0,
    }
}

/// Recovers the state and makes the event log fit it.
pub(crate) fn recover(
    settings: &JournalSettings,
    snapshots: &SnapshotFolder,
    events: &mut Writer,
) -> Result<Recovered<Exchange>, StartError> {
    let (machine, base) = match snapshots.load_newest::<Exchange>(Sequence(u64::MAX))? {
        Some((info, machine)) => (machine, applied_of(&info)),
        None => Default::default(),
    };
    let mut refill = Refill::new(events);
    let recovered = core::recover(settings, Voters::One, machine, base, &mut |batch| refill.take(batch))?;
    refill.finish();
    let applied = recovered.applied().sequence;
    events.keep_at_least(recovered.machine().rules().request_window_ns);
    settle::<Exchange, _>(events, applied, snapshots, &recovered.journal())?;
    tracing::info!(
        snapshot = base.sequence.0,
        sequence = applied.0,
        state_hash = format_args!("{:016x}", recovered.machine().state_hash()),
        "recovered"
    );
    Ok(recovered)
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
