//! The core's loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use gateway::handle::{Applied, NotAccepting, SubmitError};
use gateway::stages::Stage;
use gateway::waiting::{Bells, Waiter};
use replica::{Input, Now, Output, Refusal, Replica};
use types::limits::BATCH_COMMANDS_MAX;
use types::{AppliedBatch, Command, Event, StateMachine, Timestamp};

use super::CoreEnd;
use super::handle::{BUSY, Message, Shared};
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
    bells: Bells,
    next_tick: Instant,
    ticks: u32,
    accepting: Result<(), NotAccepting>,
    /// When the commands of the last batch were taken out of the queue, and how many they were.
    taken: (Timestamp, usize),
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
            bells: Bells::default(),
            next_tick: Instant::now() + TICK,
            ticks: 0,
            accepting: Err(NotAccepting::Starting),
            taken: (Timestamp(0), 0),
            observe,
        }
    }

    /// Works until it is asked to stop, or can't go on.
    pub(super) fn run(mut self) -> CoreEnd {
        let worked = self.work();
        if let Err(end) = &worked {
            self.shared.set_accepting(Err(end.not_accepting()));
        }
        // What is queued by now was not sequenced, and is told so.
        let why = worked
            .as_ref()
            .err()
            .map_or(NotAccepting::Stopping, CoreEnd::not_accepting);
        self.refuse_queued(why);
        match worked.and_then(|()| Ok(self.journal.close()?)) {
            Ok(()) => CoreEnd::Stopped,
            Err(end) => end,
        }
    }

    fn work(&mut self) -> Result<(), CoreEnd> {
        // Even the first entry of a term needs room.
        while self.wait_for_room() {
            if self.is_stopping() {
                return Ok(());
            }
        }
        self.step(Input::Campaign)?;
        let mut commands = Vec::new();
        loop {
            if !self.wait_for_room() {
                let refusal = self.replica.accepting().err().map(submit_error);
                self.set_accepting(match refusal {
                    Some(SubmitError::NotAccepting(why)) => Err(why),
                    None | Some(SubmitError::Busy { .. } | SubmitError::TooLarge) => Ok(()),
                });
                self.gather(&mut commands);
            }
            if !commands.is_empty() {
                self.step(Input::Commands(std::mem::take(&mut commands)))?;
            } else if self.is_stopping() && self.queue.is_empty() {
                return self.step(Input::Drain);
            } else if self.deadline_is_due() {
                self.step(Input::Deadline)?;
            }
            self.tick()?;
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// True if there is no room for now, after a while of waiting for it. What was sequenced can't be refused any more,
    /// so nothing is sequenced that might have to wait for a full disk; and what is queued meanwhile is refused at once.
    fn wait_for_room(&mut self) -> bool {
        let room = self.journal.room();
        let until = self.next_tick.min(Instant::now() + ROOM_AGAIN);
        let why = match room {
            Room::Enough => return false,
            Room::Coming => {
                self.journal.wait_for_room(until);
                return true;
            }
            Room::DiskFull => NotAccepting::DiskFull,
            Room::DiskFailed => NotAccepting::DiskFailed,
        };
        self.set_accepting(Err(why));
        self.refuse_queued(why);
        if !self.is_stopping()
            && let Ok(message) = self.queue.recv_deadline(until)
        {
            self.refuse(message, why);
        }
        true
    }

    fn refuse_queued(&mut self, why: NotAccepting) {
        while let Ok(message) = self.queue.try_recv() {
            self.refuse(message, why);
        }
    }

    fn refuse(&mut self, message: Message, why: NotAccepting) {
        if let Message::Command(_, waiter) = message {
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            waiter.tell(Err(SubmitError::NotAccepting(why)), &mut self.bells);
            self.bells.ring();
        }
    }

    fn set_accepting(&mut self, accepting: Result<(), NotAccepting>) {
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
        let taken_at = self.shared.clock.now();
        let stages = &self.shared.stages;
        for (_, waiter) in commands.iter() {
            stages.record(Stage::Queue, taken_at.since_ns(waiter.submitted_at()));
        }
        stages.record_batch(commands.len());
        self.taken = (taken_at, commands.len());
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
        deadline.is_some_and(|deadline| deadline <= self.shared.clock.now()) && self.journal.room() == Room::Enough
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
                Output::Refused { waiters, why } => {
                    tracing::warn!(commands = waiters.len(), %why, "queued commands were not sequenced");
                    for waiter in waiters {
                        waiter.tell(Err(submit_error(why)), &mut self.bells);
                    }
                    self.bells.ring();
                }
                // With the sender gone, the outcome is unknown to whoever waits.
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
        self.sync()?;
        Ok(Some(Input::Persisted(ticket)))
    }

    /// Makes durable what was appended: a batch, unless nothing was taken out of the queue for it.
    fn sync(&mut self) -> Result<(), CoreEnd> {
        let (clock, stages) = (&self.shared.clock, &self.shared.stages);
        let written_at = clock.now();
        self.journal.sync()?;
        let sync_ns = clock.now().since_ns(written_at);
        stages.record_sync(sync_ns);
        let (taken_at, commands) = std::mem::take(&mut self.taken);
        if commands > 0 {
            stages.record_many(Stage::Batch, written_at.since_ns(taken_at), commands as u64);
            stages.record_many(Stage::Fsync, sync_ns, commands as u64);
        }
        Ok(())
    }

    /// Answers, and hands the batch to the publisher if that has room.
    fn applied(&mut self, batch: Arc<AppliedBatch>, waiters: Vec<Waiter>) {
        let applied_at = self.shared.clock.now();
        if let Some(committed_at) = batch.committed_at {
            let apply_ns = applied_at.since_ns(committed_at);
            self.shared
                .stages
                .record_many(Stage::Apply, apply_ns, waiters.len() as u64);
        }
        let last = batch.header.last_sequence();
        self.shared.last_applied.store(last.0, Ordering::Release);
        for (index, waiter) in waiters.into_iter().enumerate() {
            let batch = Arc::clone(&batch);
            let applied = Applied {
                batch,
                index,
                applied_at,
            };
            waiter.tell(Ok(applied), &mut self.bells);
        }
        self.bells.ring();
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

/// What whoever asked is told of a refusal.
fn submit_error(refusal: Refusal) -> SubmitError {
    match refusal {
        Refusal::NotLeader => SubmitError::NotAccepting(NotAccepting::NotLeader),
        Refusal::Stopping => SubmitError::NotAccepting(NotAccepting::Stopping),
        Refusal::TooLarge => SubmitError::TooLarge,
        Refusal::Busy => BUSY,
    }
}
