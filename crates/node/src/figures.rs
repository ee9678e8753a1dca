//! The node's own figures, brought up to date whenever metrics are read, and the watch over the disk's free space.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use engine::Exchange;
use gateway::handle::{CoreHandle, History, NotAccepting};
use gateway::view::View;
use metrics::{Counter, Gauge, counter, gauge};

use crate::config::DiskConfig;
use crate::event_log::EventLog;
use crate::group_figures::GroupFigures;
use crate::operations;
use crate::publisher::PublisherStatus;
use crate::region_figures::RegionFigures;
use crate::snapshots::MakerStatus;

/// How often the disk is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How much more than a limit must be free before the limit counts as left again, in hundredths.
const AGAIN_PERCENT: u64 = 110;

/// Where the node's figures come from.
pub struct Sources {
    /// The core.
    pub core: Arc<dyn CoreHandle>,
    /// The event log.
    pub events: Arc<EventLog>,
    /// The view.
    pub view: Arc<View>,
    /// The publisher.
    pub publisher: Arc<PublisherStatus>,
    /// The snapshots.
    pub snapshots: Arc<MakerStatus>,
    /// Commands that were run by the thread that brought them.
    pub commands_inline: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Bytes of the journal.
    pub journal_bytes: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The disk.
    pub disk: Arc<DiskStatus>,
}

/// The node's figures.
pub struct Figures {
    sources: Sources,
    accepting: Gauge,
    /// One a reason: 1 while it is the reason.
    not_accepting: Vec<(NotAccepting, Gauge)>,
    sequence: Gauge,
    queue_depth: Gauge,
    clock_error_bound_seconds: Gauge,
    commands: Counter,
    commands_inline: Counter,
    rejects: Counter,
    batches: Counter,
    publisher_lag: Gauge,
    publisher_rebuilt: Counter,
    event_log_bytes: Gauge,
    event_log_first_sequence: Gauge,
    journal_bytes: Gauge,
    disk_free_bytes: Gauge,
    snapshot_sequence: Gauge,
    snapshot_age_seconds: Gauge,
    group: GroupFigures,
    region: RegionFigures,
}

impl Figures {
    /// Handles for all of them.
    pub fn new(sources: Sources) -> Self {
        Self {
            sources,
            accepting: gauge!("meridian_accepting"),
            not_accepting: NotAccepting::ALL
                .iter()
                .map(|reason| {
                    let code = operations::code_of(*reason);
                    (*reason, gauge!("meridian_not_accepting", "reason" => code))
                })
                .collect(),
            sequence: gauge!("meridian_sequence"),
            queue_depth: gauge!("meridian_core_queue_depth"),
            clock_error_bound_seconds: gauge!("meridian_clock_error_bound_seconds"),
            commands: counter!("meridian_commands_total"),
            commands_inline: counter!("meridian_commands_inline_total"),
            rejects: counter!("meridian_rejects_total"),
            batches: counter!("meridian_batches_total"),
            publisher_lag: gauge!("meridian_publisher_lag"),
            publisher_rebuilt: counter!("meridian_publisher_rebuilt_total"),
            event_log_bytes: gauge!("meridian_event_log_bytes"),
            event_log_first_sequence: gauge!("meridian_event_log_first_sequence"),
            journal_bytes: gauge!("meridian_journal_bytes"),
            disk_free_bytes: gauge!("meridian_disk_free_bytes"),
            snapshot_sequence: gauge!("meridian_snapshot_sequence"),
            snapshot_age_seconds: gauge!("meridian_snapshot_age_seconds"),
            group: GroupFigures::new(),
            region: RegionFigures::default(),
        }
    }

    /// Brings all of them up to date.
    pub fn refresh(&self) {
        let Sources {
            core,
            events,
            view,
            publisher,
            snapshots,
            commands_inline,
            journal_bytes,
            disk,
        } = &self.sources;
        let status = core.status();
        self.accepting.set(f64::from(u8::from(status.accepting.is_ok())));
        for (reason, gauge) in &self.not_accepting {
            gauge.set(f64::from(u8::from(status.accepting == Err(*reason))));
        }
        self.sequence.set(float(status.last_applied.0));
        self.queue_depth.set(float(status.queued_count as u64));
        self.clock_error_bound_seconds
            .set(float(status.clock_error_bound_ns) / 1e9);
        self.commands.absolute(publisher.commands());
        self.commands_inline.absolute(commands_inline());
        self.rejects.absolute(publisher.rejects());
        self.batches.absolute(publisher.batches());
        let published = view.position().sequence;
        self.publisher_lag
            .set(float(status.last_applied.0.saturating_sub(published.0)));
        self.publisher_rebuilt.absolute(publisher.rebuilt());
        self.event_log_bytes.set(float(events.disk_bytes()));
        self.event_log_first_sequence.set(float(events.first().0));
        self.journal_bytes.set(float(journal_bytes()));
        self.disk_free_bytes.set(float(disk.free_bytes()));
        self.snapshot_sequence.set(float(snapshots.last_sequence().0));
        if snapshots.last_sequence().0 > 0 {
            let age_ns = core.now().since_ns(snapshots.sequenced_at());
            self.snapshot_age_seconds.set(float(age_ns) / 1e9);
        }
        self.group.refresh(&core.group());
        self.region.refresh(core.region().as_ref());
    }
}

/// Who looks at the live exchange now and then, on the core's thread.
pub fn observer() -> impl FnMut(&Exchange) + Send + 'static {
    let entries = gauge!("meridian_request_memory_entries");
    let entries_max = gauge!("meridian_request_memory_entries_max");
    let reach_seconds = gauge!("meridian_request_memory_reach_seconds");
    let open_orders = gauge!("meridian_open_orders");
    move |exchange| {
        let memory = exchange.request_memory();
        entries.set(float(memory.entries as u64));
        entries_max.set(float(memory.entries_max as u64));
        let reach_ns = memory.oldest.map_or(0, |oldest| exchange.time().since_ns(oldest));
        reach_seconds.set(float(reach_ns) / 1e9);
        open_orders.set(float(exchange.open_orders_len() as u64));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are floats, and 53 bits are enough for them"
)]
fn float(number: u64) -> f64 {
    number as f64
}

/// How the disk of the data folder is.
#[derive(Debug, Default)]
pub struct DiskStatus {
    free_bytes: AtomicU64,
}

impl DiskStatus {
    /// Bytes that are free for this process.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }
}

/// How short the disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shortage {
    /// There is room.
    #[default]
    None,
    /// It is time to do something.
    Alarm,
    /// Nothing is taken until there is room.
    Refuse,
}

impl Shortage {
    /// What follows from so many free bytes. A limit counts as left only when clearly more is free.
    fn next(self, free: u64, config: &DiskConfig) -> Self {
        let limit = |limit: u64, within: bool| if within { limit / 100 * AGAIN_PERCENT } else { limit };
        if free < limit(config.free_min.0, self == Self::Refuse) {
            Self::Refuse
        } else if free < limit(config.free_alarm.0, self != Self::None) {
            Self::Alarm
        } else {
            Self::None
        }
    }
}

/// Watches the disk.
pub struct DiskWatch {
    /// The data folder.
    pub path: PathBuf,
    /// The limits.
    pub config: DiskConfig,
    /// Where it tells what it sees.
    pub status: Arc<DiskStatus>,
    /// Told whenever the shortage changes.
    pub changed: Box<dyn Fn(Shortage) + Send>,
}

impl DiskWatch {
    /// Watches until `stop` is closed.
    pub fn run(self, stop: &Receiver<()>) {
        let mut shortage = Shortage::None;
        loop {
            operations::metrics().run_upkeep();
            match free_bytes(&self.path) {
                Ok(free) => {
                    self.status.free_bytes.store(free, Ordering::Relaxed);
                    let next = shortage.next(free, &self.config);
                    if next != shortage {
                        tell(next, free);
                        (self.changed)(next);
                        shortage = next;
                    }
                }
                Err(error) => tracing::error!(%error, "the disk's free space can't be read"),
            }
            match stop.recv_timeout(INTERVAL) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn tell(shortage: Shortage, free_bytes: u64) {
    match shortage {
        Shortage::None => tracing::info!(free_bytes, "the disk has room again"),
        Shortage::Alarm => tracing::error!(free_bytes, "the disk is short; the event log is cut shorter"),
        Shortage::Refuse => tracing::error!(
            free_bytes,
            "the disk is full; no requests are taken until there is room"
        ),
    }
}

fn free_bytes(path: &Path) -> rustix::io::Result<u64> {
    let figures = rustix::fs::statvfs(path)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    #[test]
    fn a_limit_is_left_only_with_room_to_spare() {
        let config = DiskConfig {
            free_alarm: Size(2_000),
            free_min: Size(1_000),
        };
        let mut shortage = Shortage::None;
        for (free, expected) in [
            (5_000, Shortage::None),
            (2_000, Shortage::None),
            (1_999, Shortage::Alarm),
            (2_100, Shortage::Alarm),
            (2_200, Shortage::None),
            (999, Shortage::Refuse),
            (1_050, Shortage::Refuse),
            (1_100, Shortage::Alarm),
            (0, Shortage::Refuse),
            (9_000, Shortage::None),
        ] {
            shortage = shortage.next(free, &config);
            assert_eq!(shortage, expected, "{free}");
        }
    }

    #[test]
    fn the_disk_can_be_asked() {
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
    }
}
