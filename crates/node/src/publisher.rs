//! The publisher: takes applied batches from the core, writes the event log, and tells the gateway.
//!
//! ```text
//!  core ── bounded queue ──> publisher ── append ──> event log
//!   (drops when it is full)      │
//!                                └── publish ──> the gateway's view and streams
//! ```
//!
//! The core never waits for it. What was dropped shows as a gap in the sequence, and is made again from snapshot and
//! journal; nobody behind the publisher notices but for the delay.

mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use types::{AppliedBatch, Event, Sequence};

use crate::event_log::{EventLogWriteError, Gap, Writer};
use crate::replay::{JournalSource, Machine, Replay, ReplayError};
use crate::snapshots::SnapshotFolder;

#[cfg(test)]
pub(crate) use queue::with_room_for;
pub use queue::{PublishBell, PublishReceiver, PublishSender, queue};

/// How long the queue is empty before it looks whether something was dropped.
const IDLE: Duration = Duration::from_millis(100);
/// How long it rests once it has caught up with a busy core: what is applied meanwhile is taken together, with one wake-up
/// and one write.
const REST: Duration = Duration::from_micros(500);
/// Commands of a batch from which on the core counts as busy.
const BUSY_COMMANDS: u32 = 16;
/// How often it tries to make good a disk that failed.
const REPAIR_INTERVAL: Duration = Duration::from_secs(5);

/// Who is told of a batch once it is in the event log.
pub type Publish = Box<dyn FnMut(&Arc<AppliedBatch>) + Send>;

/// What others can see of the publisher, and tell it.
#[derive(Debug, Default)]
pub struct PublisherStatus {
    rebuilt: AtomicU64,
    commands: AtomicU64,
    rejects: AtomicU64,
    batches: AtomicU64,
    pressure: AtomicBool,
}

impl PublisherStatus {
    /// How many sequences were dropped on the way to it and made again from the journal.
    pub fn rebuilt(&self) -> u64 {
        self.rebuilt.load(Ordering::Relaxed)
    }

    /// How many commands it has published.
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// How many of them were refused.
    pub fn rejects(&self) -> u64 {
        self.rejects.load(Ordering::Relaxed)
    }

    /// How many batches it has published.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// True while room on the disk is asked for.
    pub fn pressure(&self) -> bool {
        self.pressure.load(Ordering::Relaxed)
    }

    /// Asks for room on the disk: the event log is shortened, whatever its age.
    pub fn set_pressure(&self, pressure: bool) {
        self.pressure.store(pressure, Ordering::Relaxed);
    }
}

/// The publisher's thread.
pub struct Publisher<J> {
    /// The event log.
    pub writer: Writer,
    /// Where batches come from. It ends when the sender is dropped.
    pub queue: PublishReceiver,
    /// What the core has applied.
    pub applied: Box<dyn Fn() -> Sequence + Send>,
    /// Where dropped batches are made again from, together with the journal.
    pub snapshots: SnapshotFolder,
    /// The journal.
    pub journal: Arc<J>,
    /// Who is told.
    pub publish: Publish,
    /// Where it tells how it is doing.
    pub status: Arc<PublisherStatus>,
}

impl<J: JournalSource> Publisher<J> {
    /// Works until the queue's sender is dropped; then brings everything into its file.
    pub fn run<M: Machine>(mut self) {
        let mut repaired_at = Instant::now();
        let mut lagging = false;
        loop {
            match self.queue.recv_timeout(IDLE) {
                Ok(batch) => {
                    lagging = false;
                    self.take::<M>(&batch);
                    if self.queue.is_empty() {
                        self.flush();
                        if batch.header.count >= BUSY_COMMANDS {
                            std::thread::sleep(REST);
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    // A batch may be applied and not yet queued, so that only a lag that lasts means that it was dropped.
                    let lags = (self.applied)() >= self.writer.next();
                    if lags && lagging && self.queue.is_empty() {
                        self.catch_up::<M>((self.applied)());
                    }
                    lagging = lags;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if repaired_at.elapsed() >= REPAIR_INTERVAL {
                repaired_at = Instant::now();
                self.maintain::<M>();
            }
        }
        let applied = (self.applied)();
        if applied >= self.writer.next() {
            self.catch_up::<M>(applied);
        }
        self.flush();
    }

    fn take<M: Machine>(&mut self, batch: &Arc<AppliedBatch>) {
        if batch.header.last_sequence() < self.writer.next() {
            return;
        }
        if batch.header.first_sequence > self.writer.next() {
            self.catch_up::<M>(Sequence(batch.header.first_sequence.0 - 1));
        }
        if batch.header.first_sequence == self.writer.next() {
            self.publish(batch);
        }
    }

    fn publish(&mut self, batch: &Arc<AppliedBatch>) {
        if let Err(error) = self.writer.append(batch) {
            tracing::error!(%error, "the event log is behind until its disk works again");
        }
        (self.publish)(batch);
        for event in &batch.events {
            if let Event::RulesChanged(rules) = event {
                self.writer.keep_at_least(rules.request_window_ns);
            }
        }
        let rejects = (0..batch.commands.len())
            .filter(|index| matches!(batch.events_of(*index).first(), Some(Event::Rejected { .. })))
            .count();
        self.status.rejects.fetch_add(rejects as u64, Ordering::Relaxed);
        self.status
            .commands
            .fetch_add(batch.commands.len() as u64, Ordering::Relaxed);
        self.status.batches.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes what was dropped again, up to `through`.
    fn catch_up<M: Machine>(&mut self, through: Sequence) {
        let from = self.writer.next();
        tracing::warn!(
            from = from.0,
            through = through.0,
            "publisher: behind; replaying the journal"
        );
        if let Err(error) = self.replay::<M>(through) {
            tracing::error!(%error, "publisher: the journal could not be replayed; trying again");
        }
        let rebuilt = self.writer.next().0 - from.0;
        self.status.rebuilt.fetch_add(rebuilt, Ordering::Relaxed);
    }

    fn replay<M: Machine>(&mut self, through: Sequence) -> Result<(), ReplayError> {
        let journal = Arc::clone(&self.journal);
        let at_most = Sequence(self.writer.next().0 - 1);
        let mut replay = Replay::<M>::start(&self.snapshots, at_most, journal.quarantined())?;
        journal.read(replay.applied().index, through, &mut |entry| {
            if let Some(batch) = replay.apply(entry)?
                && batch.header.first_sequence >= self.writer.next()
            {
                self.publish(&Arc::new(batch));
            }
            Ok(true)
        })
    }

    fn flush(&mut self) {
        if let Err(error) = self.writer.flush() {
            tracing::error!(%error, "the event log is behind until its disk works again");
        }
    }

    /// Shortens the log where the disk is short, and makes it good after a failed write.
    fn maintain<M: Machine>(&mut self) {
        let pressure = self.status.pressure();
        if let Err(error) = self.writer.retire(pressure) {
            tracing::error!(%error, "the event log could not be shortened");
        }
        if self.writer.is_broken() && !pressure {
            match repair::<M, J>(&mut self.writer, &self.snapshots, &self.journal) {
                Ok(()) => tracing::info!("the event log is whole again"),
                Err(error) => {
                    // Or the next batch would be written behind a gap.
                    self.writer.give_up_repair();
                    tracing::error!(%error, "the event log could not be made good");
                }
            }
        }
    }
}

/// Brings to disk what a failed write left out; gives up what nothing leads to any more.
fn repair<M: Machine, J: JournalSource>(
    writer: &mut Writer,
    snapshots: &SnapshotFolder,
    journal: &J,
) -> Result<(), ReplayError> {
    let Some(gap) = writer.begin_repair() else {
        return Ok(());
    };
    let replayable = replayable_from(snapshots, journal)?;
    if replayable > gap.first {
        return give_up_hole::<M, J>(writer, gap, replayable, snapshots, journal);
    }
    let at_most = Sequence(gap.first.0 - 1);
    let mut replay = Replay::<M>::start(snapshots, at_most, journal.quarantined())?;
    journal.read(replay.applied().index, gap.last, &mut |entry| {
        if let Some(batch) = replay.apply(entry)?
            && batch.header.first_sequence >= gap.first
        {
            writer.fill(&batch)?;
        }
        Ok(true)
    })?;
    writer.done()?;
    Ok(())
}

/// The journal was let go before the log was made good, as happens when the disk is full: the log starts anew with what
/// can be made again.
fn give_up_hole<M: Machine, J: JournalSource>(
    writer: &mut Writer,
    gap: Gap,
    replayable: Sequence,
    snapshots: &SnapshotFolder,
    journal: &J,
) -> Result<(), ReplayError> {
    let next = gap.last.next();
    let first = replayable.min(next);
    tracing::error!(
        hole_first = gap.first.0,
        first = first.0,
        "the journal no longer holds what the event log lacks: the event log now starts behind it"
    );
    writer.restart_at(first)?;
    if first == next {
        return Ok(());
    }
    let refilled = refill::<M, J>(writer, gap.last, snapshots, journal);
    if refilled.is_err() {
        // What was published must not be published again.
        writer.restart_at(next)?;
    }
    refilled
}

/// Appends what was published before, up to `through`.
fn refill<M: Machine, J: JournalSource>(
    writer: &mut Writer,
    through: Sequence,
    snapshots: &SnapshotFolder,
    journal: &J,
) -> Result<(), ReplayError> {
    let at_most = Sequence(writer.next().0 - 1);
    let mut replay = Replay::<M>::start(snapshots, at_most, journal.quarantined())?;
    journal.read(replay.applied().index, through, &mut |entry| {
        if let Some(batch) = replay.apply(entry)?
            && batch.header.first_sequence >= writer.next()
        {
            writer.extend(&batch)?;
        }
        Ok(true)
    })?;
    if writer.next() <= through {
        return Err(ReplayError::Journal(format!("it ends before sequence {through}")));
    }
    writer.done().map_err(EventLogWriteError::into)
}

/// At the start: makes the event log fit the state that was recovered, and fills its gaps from snapshot and journal.
pub fn settle<M: Machine, J: JournalSource>(
    writer: &mut Writer,
    applied: Sequence,
    snapshots: &SnapshotFolder,
    journal: &J,
) -> Result<(), ReplayError> {
    let gaps = writer.settle(applied, replayable_from(snapshots, journal)?)?;
    let Some(first) = gaps.first() else {
        return Ok(());
    };
    let missing: u64 = gaps.iter().map(|gap| gap.last.0 - gap.first.0 + 1).sum();
    tracing::info!(missing, gaps = gaps.len(), "event log: making again what it lacks");
    let at_most = Sequence(first.first.0 - 1);
    let mut replay = Replay::<M>::start(snapshots, at_most, journal.quarantined())?;
    let through = gaps.last().expect("there is one").last;
    let mut gaps = gaps.into_iter().peekable();
    journal.read(replay.applied().index, through, &mut |entry| {
        if let Some(batch) = replay.apply(entry)?
            && let Some(gap) = gaps.peek()
            && batch.header.first_sequence >= gap.first
        {
            writer.fill(&batch)?;
            if batch.header.last_sequence() >= gap.last {
                writer.done()?;
                gaps.next();
            }
        }
        Ok(true)
    })?;
    writer.done().map_err(EventLogWriteError::into)
}

/// The oldest sequence that can be made again: the one behind the oldest snapshot that the journal still follows on. The
/// journal may hold more before that.
fn replayable_from<J: JournalSource>(snapshots: &SnapshotFolder, journal: &J) -> Result<Sequence, ReplayError> {
    let first = journal.first();
    if first <= Sequence(1) {
        return Ok(first);
    }
    for path in snapshots.list()? {
        if let Ok(info) = snapshots.header(&path)
            && info.last_sequence.next() >= first
        {
            return Ok(info.last_sequence.next());
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests;
