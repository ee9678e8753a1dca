//! The core's loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use gateway::handle::{Applied, NotAccepting};
use metrics::{Histogram, histogram};
use replica::{Input, Now, Output, Refusal, Replica};
use types::limits::BATCH_COMMANDS_MAX;
use types::{AppliedBatch, Command, Event, StateMachine};

use super::CoreEnd;
use super::handle::{Message, Shared, Waiter};
use crate::journal::{Journal, Room};
use crate::publisher::PublishSender;

/// How often consensus is told that time passes.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between two looks at the clock's error bound.
const TICKS_PER_CLOCK_REFRESH: u32 = 10;
/// How often a full disk is looked at again while nothing is taken.
const ROOM_AGAIN: Duration = Duration::from_millis(100);

type Outputs = Vec<Output<Event, Waiter>>;

/// Who looks at the state machine, for metrics, now and then.
pub(super) type Observe<M> = Box<dyn FnMut(&M) + Send>;

/// Everything that the core thread owns.
pub(super) struct CoreThread<M: StateMachine> {
    replica: Replica<M, Waiter>,
    journal: Journal,
    queue: Receiver<Message>,
    publish: PublishSender,
    shared: Arc<Shared>,
    spin: Duration,
    outputs: Outputs,
    next_tick: Instant,
    ticks: u32,
    accepting: Result<(), NotAccepting>,
    sync_seconds: Histogram,
    batch_commands: Histogram,
    observe: Observe<M>,
}

impl<M> CoreThread<M>
where
    M: StateMachine<Command = Command, Event = Event>,
{
    pub(super) fn new(
        replica: Replica<M, Waiter>,
        journal: Journal,
        queue: Receiver<Message>,
        publish: PublishSender,
        shared: Arc<Shared>,
        spin: Duration,
        observe: Observe<M>,
    ) -> Self {
        Self {
            replica,
            journal,
            queue,
            publish,
            shared,
            spin,
            outputs: Vec::new(),
            next_tick: Instant::now() + TICK,
            ticks: 0,
            accepting: Err(NotAccepting::Starting),
            sync_seconds: histogram!("meridian_journal_sync_seconds"),
            batch_commands: histogram!("meridian_batch_commands"),
            observe,
        }
    }

    /// Works until it is asked to stop, or can't go on.
    pub(super) fn run(mut self) -> CoreEnd {
        if let Err(end) = self.work() {
            return end;
        }
        match self.journal.close() {
            Ok(()) => CoreEnd::Stopped,
            Err(error) => error.into(),
        }
    }

    fn work(&mut self) -> Result<(), CoreEnd> {
        self.step(Input::Campaign)?;
        let mut commands = Vec::new();
        loop {
            self.look_for_room();
            if self.has_room() {
                self.gather(&mut commands);
            } else {
                // What is queued stays there; the handle takes nothing further.
                std::thread::sleep(ROOM_AGAIN.min(self.next_tick.saturating_duration_since(Instant::now())));
            }
            let stopping = self.shared.stopping.load(Ordering::Acquire);
            if !commands.is_empty() {
                self.batch_commands.record(count(commands.len()));
                self.step(Input::Commands(std::mem::take(&mut commands)))?;
            } else if stopping && (self.queue.is_empty() || !self.has_room()) {
                return self.step(Input::Drain);
            } else if self.deadline_is_due() {
                self.step(Input::Deadline)?;
            }
            self.tick()?;
        }
    }

    fn has_room(&self) -> bool {
        !matches!(self.accepting, Err(NotAccepting::DiskFull | NotAccepting::DiskFailed))
    }

    /// Whether the journal has room decides whether commands are taken.
    fn look_for_room(&mut self) {
        let accepting = match self.journal.room() {
            Room::DiskFull => Err(NotAccepting::DiskFull),
            Room::DiskFailed => Err(NotAccepting::DiskFailed),
            Room::Enough => match self.replica.accepting() {
                Ok(()) | Err(Refusal::Busy | Refusal::TooLarge) => Ok(()),
                Err(Refusal::NotLeader) => Err(NotAccepting::NotLeader),
                Err(Refusal::Stopping) => Err(NotAccepting::Stopping),
            },
        };
        if accepting == self.accepting {
            return;
        }
        if let Err(why @ (NotAccepting::DiskFull | NotAccepting::DiskFailed)) = accepting {
            tracing::error!("no more commands are taken: {why}");
        } else if accepting.is_ok() {
            tracing::info!("commands are taken");
        }
        self.accepting = accepting;
        self.shared.set_accepting(accepting);
    }

    /// Waits for the next command, tick or deadline, and takes all commands that are queued, up to a batch.
    fn gather(&mut self, commands: &mut Vec<(Command, Waiter)>) {
        match self.wait() {
            Some(Message::Command(command, waiter)) => commands.push((command, waiter)),
            Some(Message::Wake) | None => return,
        }
        while commands.len() < BATCH_COMMANDS_MAX {
            match self.queue.try_recv() {
                Ok(Message::Command(command, waiter)) => commands.push((command, waiter)),
                Ok(Message::Wake) => {}
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        self.shared.queued.fetch_sub(commands.len(), Ordering::AcqRel);
    }

    fn wait(&self) -> Option<Message> {
        if let Ok(message) = self.queue.try_recv() {
            return Some(message);
        }
        let started = Instant::now();
        let mut until = self.next_tick;
        if let Some(deadline) = self.replica.deadline() {
            let wait = deadline.since_ns(self.shared.clock.now());
            until = until.min(started + Duration::from_nanos(wait));
        }
        let spin_until = until.min(started + self.spin);
        while !self.spin.is_zero() && Instant::now() < spin_until {
            if let Ok(message) = self.queue.try_recv() {
                return Some(message);
            }
            std::hint::spin_loop();
        }
        self.queue.recv_deadline(until).ok()
    }

    fn deadline_is_due(&self) -> bool {
        let deadline = self.replica.deadline();
        deadline.is_some_and(|deadline| deadline <= self.shared.clock.now()) && self.has_room()
    }

    fn tick(&mut self) -> Result<(), CoreEnd> {
        if Instant::now() < self.next_tick {
            return Ok(());
        }
        self.next_tick = Instant::now() + TICK;
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_CLOCK_REFRESH) {
            self.shared.clock.refresh();
            (self.observe)(self.replica.applier().machine());
        }
        self.step(Input::Tick)
    }

    /// One step of the replica, and all that follows from it.
    fn step(&mut self, input: Input<Command, Waiter>) -> Result<(), CoreEnd> {
        let mut input = Some(input);
        while let Some(next) = input.take() {
            let now = Now {
                utc: self.shared.clock.now(),
                clock_error_bound_ns: self.shared.clock.error_bound_ns(),
            };
            let mut outputs = std::mem::take(&mut self.outputs);
            let stepped = catch_unwind(AssertUnwindSafe(|| self.replica.step(now, next, &mut outputs)));
            if stepped.is_err() {
                // Whoever waits is told by the end of the core that the outcome is not known.
                let applying = self.replica.applier().applying();
                return Err(applying.map_or(CoreEnd::PanickedElsewhere, CoreEnd::Panicked));
            }
            input = self.perform(&mut outputs)?;
            self.outputs = outputs;
        }
        Ok(())
    }

    /// Carries out what came of a step. Answers with the next input, if that follows at once: a sync was done.
    fn perform(&mut self, outputs: &mut Outputs) -> Result<Option<Input<Command, Waiter>>, CoreEnd> {
        let mut ticket = None;
        for output in outputs.drain(..) {
            match output {
                Output::Append(records) => self.journal.append(&records)?,
                Output::Sync(asked) => ticket = Some(asked),
                Output::Applied { batch, waiters } => self.applied(batch, waiters),
                // Not answered: with the sender gone, the outcome is unknown to whoever waits. That is less than is
                // known here, and never wrong.
                Output::Refused { waiters, why } => {
                    tracing::warn!(commands = waiters.len(), %why, "queued commands were not sequenced");
                }
                Output::Unknown { waiters } => {
                    tracing::warn!(commands = waiters.len(), "sequenced commands have an unknown outcome");
                }
                Output::Accepting(_) => {}
                Output::Send(message) => {
                    tracing::warn!(
                        to = message.to().0,
                        "there is no link to the peer; its message is dropped"
                    );
                }
                Output::Truncate { .. } => return Err(crate::journal::JournalError::Truncate.into()),
                Output::Stop(reason) => return Err(CoreEnd::Stop(reason)),
            }
        }
        let Some(ticket) = ticket else {
            return Ok(None);
        };
        let started = Instant::now();
        self.journal.sync()?;
        self.sync_seconds.record(started.elapsed().as_secs_f64());
        Ok(Some(Input::Persisted(ticket)))
    }

    /// Answers, and hands the batch to the publisher if that has room.
    fn applied(&mut self, batch: Arc<AppliedBatch>, waiters: Vec<Waiter>) {
        let last = batch.header.last_sequence();
        self.shared.last_applied.store(last.0, Ordering::Release);
        for (index, waiter) in waiters.into_iter().enumerate() {
            let batch = Arc::clone(&batch);
            // A session that is gone does not need its answer.
            let _ = waiter.send(Applied { batch, index });
        }
        let figures = &self.shared.figures;
        figures.batches.fetch_add(1, Ordering::Relaxed);
        figures
            .commands
            .fetch_add(u64::from(batch.header.count), Ordering::Relaxed);
        if !self.publish.try_send(batch) {
            figures.publisher_dropped.fetch_add(1, Ordering::Relaxed);
        }
        let journal = self.journal.figures();
        figures.syncs.store(journal.syncs, Ordering::Relaxed);
        figures.sync_ns.store(journal.sync_ns, Ordering::Relaxed);
        figures.journal_bytes.store(journal.bytes, Ordering::Relaxed);
        figures.rolls.store(journal.rolls, Ordering::Relaxed);
        figures.roll_ns.store(journal.roll_ns, Ordering::Relaxed);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a batch has few enough commands")]
fn count(commands: usize) -> f64 {
    commands as f64
}
