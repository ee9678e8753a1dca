//! What the core works with, whoever sits in its seat: the replica, the journal, and the way to the publisher.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gateway::handle::{Applied, NotAccepting, SubmitError};
use gateway::stages::Stage;
use gateway::waiting::{Bells, Waiter};
use replica::recovery::Place;
use replica::{HardState, Input, Now, Output, Refusal, Replica, SnapshotPoint};
use types::{AppliedBatch, Command, Event, StateMachine, Timestamp};

use super::CoreEnd;
use super::forward::{Asker, Local, Moment};
use super::handle::{BUSY, Shared};
use super::member::Member;
use super::region::InRegion;
use crate::journal::{Journal, JournalError, Room};
use crate::publisher::PublishSender;

pub(super) type Outputs = Vec<Output<Command, Event, Asker>>;

/// Who looks at the state machine, for metrics, now and then.
pub(super) type Observe<M> = Box<dyn FnMut(&M) + Send>;

/// Everything that one needs to run the core.
pub(super) struct CoreState<M: StateMachine> {
    pub(super) replica: Replica<M, Asker>,
    pub(super) journal: Journal,
    publish: PublishSender,
    pub(super) shared: Arc<Shared>,
    outputs: Outputs,
    pub(super) bells: Bells,
    pub(super) accepting: Result<(), NotAccepting>,
    /// What it needs as one of a group.
    pub(super) member: Member,
    /// What it needs as one of a region, if there is more than one.
    pub(super) region: Option<InRegion>,
    /// Until when the core's own thread sleeps, if it does.
    pub(super) alarm: Timestamp,
    /// Why the core's own thread must end, once another thread found that out.
    pub(super) ended: Option<CoreEnd>,
    /// When the commands of the last batch were taken to be run, and how many they were.
    taken: (Timestamp, usize),
    /// True while a thread that brought a command runs it: it wakes the publisher itself, once it has answered.
    is_inline: bool,
    observe: Observe<M>,
}

/// What became of a command whose bringer wanted to run it.
#[expect(
    clippy::large_enum_variant,
    reason = "a command is handed back by value, without an allocation, to be queued"
)]
pub(super) enum Inline {
    /// It was run; whoever waits has the answer.
    Done,
    /// It was run, and the core's own thread must look at what came of it.
    Wake,
    /// It has to be queued.
    Queue(Command, Waiter),
}

impl<M> CoreState<M>
where
    M: StateMachine<Command = Command, Event = Event>,
{
    pub(super) fn new(
        replica: Replica<M, Asker>,
        journal: Journal,
        publish: PublishSender,
        shared: Arc<Shared>,
        member: Member,
        region: Option<InRegion>,
        observe: Observe<M>,
    ) -> Self {
        Self {
            member,
            region,
            replica,
            journal,
            publish,
            shared,
            outputs: Vec::new(),
            bells: Bells::default(),
            accepting: Err(NotAccepting::Starting),
            alarm: Timestamp::FAR_FUTURE,
            ended: None,
            taken: (Timestamp(0), 0),
            is_inline: false,
            observe,
        }
    }

    /// Runs one command on the thread that brought it, if nothing stands in the way.
    pub(super) fn run_inline(&mut self, command: Command, waiter: Waiter) -> Inline {
        let free = self.ended.is_none()
            && self.region.is_none()
            && !self.member.decides_with_others()
            && self.accepting.is_ok()
            && self.replica.accepting().is_ok()
            && self.journal.room() == Room::Enough;
        if !free {
            return Inline::Queue(command, waiter);
        }
        // As on the core's own thread: whatever panics, it is the core's end, and must not be that of the caller.
        self.is_inline = true;
        let ran = catch_unwind(AssertUnwindSafe(|| {
            self.execute_alone(vec![(command, waiter)])?;
            Ok(self.replica.deadline())
        }));
        self.is_inline = false;
        let deadline = match ran.unwrap_or(Err(CoreEnd::PanickedElsewhere)) {
            Ok(deadline) => deadline,
            Err(end) => {
                self.shared.set_accepting(Err(end.not_accepting()));
                self.ended = Some(end);
                return Inline::Wake;
            }
        };
        self.shared.figures.inline.fetch_add(1, Ordering::Relaxed);
        match deadline.filter(|deadline| *deadline < self.alarm) {
            Some(deadline) => {
                self.alarm = deadline;
                Inline::Wake
            }
            None => Inline::Done,
        }
    }

    /// Brings commands to their end, in this order: executes them, or hands them on to whoever leads the group.
    pub(super) fn execute(&mut self, commands: Vec<(Command, Waiter)>) -> Result<(), CoreEnd> {
        if self.member.decides_with_others() {
            return self.route(commands);
        }
        self.execute_alone(commands)
    }

    fn execute_alone(&mut self, commands: Vec<(Command, Waiter)>) -> Result<(), CoreEnd> {
        self.taken = self.count_taken(&commands);
        let commands = commands
            .into_iter()
            .map(|(command, waiter)| (command, Asker::Local(waiter.into())));
        self.step(Input::Commands(commands.collect()))
    }

    /// Counts for how long commands were queued.
    pub(super) fn count_taken(&self, commands: &[(Command, Waiter)]) -> (Timestamp, usize) {
        let taken_at = self.shared.clock.now();
        let stages = &self.shared.stages;
        for (_, waiter) in commands {
            stages.record(Stage::Queue, taken_at.since_ns(waiter.submitted_at()));
        }
        stages.record_batch(commands.len());
        (taken_at, commands.len())
    }

    /// Refuses a command that was not sequenced.
    pub(super) fn refuse(&mut self, waiter: Waiter, why: NotAccepting) {
        waiter.tell(Err(SubmitError::NotAccepting(why)), &mut self.bells);
        self.bells.ring();
    }

    /// Says whether commands are taken, as far as consensus goes.
    pub(super) fn follow_replica(&mut self) {
        if self.member.decides_with_others() {
            return self.follow_group();
        }
        let refusal = self.replica.accepting().err().map(submit_error);
        let by_region = self.region.as_ref().map_or(Ok(()), InRegion::accepting);
        self.set_accepting(match (by_region, refusal) {
            (Err(why), _) | (Ok(()), Some(SubmitError::NotAccepting(why))) => Err(why),
            (Ok(()), None | Some(SubmitError::Busy { .. } | SubmitError::TooLarge)) => Ok(()),
        });
    }

    pub(super) fn set_accepting(&mut self, accepting: Result<(), NotAccepting>) {
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

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.replica.deadline()
    }

    pub(super) fn deadline_is_due(&self) -> bool {
        let deadline = self.replica.deadline();
        deadline.is_some_and(|deadline| deadline <= self.shared.clock.now()) && self.journal.room() == Room::Enough
    }

    /// Lets whoever makes metrics look at the state machine.
    pub(super) fn observe(&mut self) {
        (self.observe)(self.replica.applier().machine());
    }

    /// Syncs what was appended, writes the mark, and lets go of everything.
    pub(super) fn close(self) -> Result<(), JournalError> {
        self.journal.close()
    }

    /// One step of the replica, and all that follows from it.
    pub(super) fn step(&mut self, input: Input<Command, Asker>) -> Result<(), CoreEnd> {
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
    fn perform(&mut self, outputs: &mut Outputs) -> Result<Option<Input<Command, Asker>>, CoreEnd> {
        let mut ticket = None;
        for output in outputs.drain(..) {
            match output {
                Output::Append(records) => self.journal.append(&records)?,
                Output::Sync(asked) => ticket = Some(asked),
                Output::Applied { batch, waiters } => self.applied(batch, waiters),
                Output::Committed(applied) => self.journal.set_committed(applied.index, applied.sequence),
                Output::Refused { commands, why } => self.refused(commands, why),
                Output::Unknown { commands } => self.unknown(commands),
                Output::Send(message) => self.member.send(message),
                Output::Truncate { after } => self.journal.truncate(after)?,
                Output::Accepting(_) => {}
                Output::Leader(leader) => self.leader_changed(leader),
                Output::Members(membership) => self.members_changed(&membership),
                Output::ChangeTaken(taken) => self.member.change_taken(taken),
                Output::ReadFrom { ticket, sequence } => {
                    let newest = self.region.as_ref().is_none_or(InRegion::may_read);
                    self.member.read_from(ticket, newest.then_some(sequence));
                }
                Output::ReadFailed(ticket) => self.member.read_from(ticket, None),
                Output::SnapshotWanted { at_least } => self.member.want_snapshot(at_least),
                Output::HandingOver { to, why } => tracing::warn!(to = to.0, %why, "leadership is handed over"),
                Output::Repaired => {
                    tracing::info!("everything that the leader has is here; this node counts like any other");
                    self.member.peers.repaired();
                }
                Output::Install { point, hard_state } => return Err(self.install(&point, hard_state)),
                Output::Stop(reason) => return Err(CoreEnd::Stop(reason)),
            }
        }
        self.member.send_answers();
        if self.member.decides_with_others() {
            return self.sync_beside(ticket);
        }
        // One that was asked for while it was not alone is served here too.
        let Some(ticket) = ticket.or(self.member.take_sync_wanted()) else {
            return Ok(None);
        };
        self.sync()?;
        Ok(Some(Input::Persisted(ticket)))
    }

    /// Tells whoever asked that a command was not sequenced, unless it can still be brought to whoever leads.
    fn refused(&mut self, commands: Vec<(Command, Asker)>, why: Refusal) {
        let elsewhere = self.member.decides_with_others()
            && match why {
                Refusal::NotLeader | Refusal::ClockUnsure => true,
                Refusal::NotActive => self.region.as_ref().is_none_or(|part| part.accepting().is_ok()),
                Refusal::Busy | Refusal::TooLarge | Refusal::Stopping => false,
            };
        if !elsewhere {
            tracing::warn!(commands = commands.len(), %why, "queued commands were not sequenced");
        }
        for (command, asker) in commands {
            match asker {
                Asker::Peer { node, token } => self.member.refuse(node, token, why),
                Asker::Local(local) if elsewhere => self.member.forwarding.park([(command, local)], &mut self.bells),
                // A former leader may have sequenced it: whoever waits learns that the outcome is unknown.
                Asker::Local(local) if local.doubtful => drop(local),
                Asker::Local(local) => local.waiter.tell(Err(submit_error(why)), &mut self.bells),
            }
        }
        self.bells.ring();
    }

    /// These were sequenced, and it is not known whether that holds: the next leader knows. Alone, nobody does; with the
    /// waiters gone, whoever waits learns that. Other nodes ask the next leader themselves.
    fn unknown(&mut self, commands: Vec<(Command, Asker)>) {
        tracing::warn!(
            commands = commands.len(),
            "it is not known what becomes of sequenced commands"
        );
        let local = commands.into_iter().filter_map(|(command, asker)| match asker {
            Asker::Local(local) => Some((command, local)),
            Asker::Peer { .. } => None,
        });
        let local = local.collect();
        if self.member.decides_with_others() {
            self.member.forwarding.park_doubtful(local);
        }
    }

    /// Begins the journal anew behind a snapshot that came from a peer; the node then starts again from both.
    fn install(&mut self, point: &SnapshotPoint, hard_state: HardState) -> CoreEnd {
        let place = Place::from(point.applied);
        let mut installed = || -> Result<(), CoreEnd> {
            self.journal.announce_jump(place)?;
            self.member.peers.adopt_snapshot(point).map_err(CoreEnd::Adopt)?;
            self.journal.begin_at(place, hard_state)?;
            Ok(())
        };
        installed().err().unwrap_or(CoreEnd::Installed)
    }

    /// Makes durable what was appended: a batch, unless nothing was taken out of the queue for it.
    fn sync(&mut self) -> Result<(), CoreEnd> {
        let (clock, stages) = (&self.shared.clock, &self.shared.stages);
        let written_at = clock.now();
        self.journal.sync()?;
        let sync_ns = clock.now().since_ns(written_at);
        stages.record_sync(sync_ns);
        self.shared.pace.synced(sync_ns);
        let (taken_at, commands) = std::mem::take(&mut self.taken);
        if commands > 0 {
            stages.record_many(Stage::Batch, written_at.since_ns(taken_at), commands as u64);
            stages.record_many(Stage::Fsync, sync_ns, commands as u64);
        }
        Ok(())
    }

    /// A batch was applied.
    fn applied(&mut self, batch: Arc<AppliedBatch>, waiters: Vec<Asker>) {
        let applied_at = self.shared.clock.now();
        if let Some(committed_at) = batch.committed_at {
            let apply_ns = applied_at.since_ns(committed_at);
            self.shared
                .stages
                .record_many(Stage::Apply, apply_ns, waiters.len() as u64);
        }
        // Before anybody hears of it: whoever does may read it.
        let committed = self.replica.applier().applied();
        self.journal.set_committed(committed.index, committed.sequence);
        let figures = &self.shared.figures;
        figures.batches.fetch_add(1, Ordering::Relaxed);
        figures
            .commands
            .fetch_add(u64::from(batch.header.count), Ordering::Relaxed);
        let journal = self.journal.figures();
        figures.syncs.store(journal.syncs, Ordering::Relaxed);
        figures.sync_ns.store(journal.sync_ns, Ordering::Relaxed);
        figures.journal_bytes.store(journal.bytes, Ordering::Relaxed);
        figures.rolls.store(journal.rolls, Ordering::Relaxed);
        figures.roll_ns.store(journal.roll_ns, Ordering::Relaxed);
        if self.region.is_some() {
            self.hold_or_answer(batch, waiters);
        } else {
            self.answer(&batch, waiters, applied_at);
        }
    }

    /// Answers, and hands the batch to the publisher if that has room.
    pub(super) fn answer(&mut self, batch: &Arc<AppliedBatch>, waiters: Vec<Asker>, applied_at: Timestamp) {
        let last = batch.header.last_sequence();
        self.shared.last_applied.store(last.0, Ordering::Release);
        let at = Moment {
            now: applied_at,
            ..self.shared.moment()
        };
        for (index, asker) in waiters.into_iter().enumerate() {
            match asker {
                Asker::Local(Local { waiter, .. }) => {
                    let batch = Arc::clone(batch);
                    let applied = Applied {
                        batch,
                        index,
                        applied_at,
                        in_both: last <= at.both_through,
                    };
                    waiter.tell(Ok(applied), &mut self.bells);
                }
                Asker::Peer { node, token } => self.member.executed(node, token, batch, index),
            }
        }
        if self.member.decides_with_others() {
            self.member.forwarding.applied(batch, at, &mut self.bells);
        }
        if self.is_inline {
            self.bells.forget();
        } else {
            self.bells.ring();
        }
        if !self.publish.try_send(Arc::clone(batch)) {
            self.shared.figures.publisher_dropped.fetch_add(1, Ordering::Relaxed);
        }
        if !self.is_inline {
            self.publish.bell().ring();
        }
    }
}

/// What whoever asked is told of a refusal.
pub(super) fn submit_error(refusal: Refusal) -> SubmitError {
    match refusal {
        Refusal::NotLeader => SubmitError::NotAccepting(NotAccepting::NotLeader),
        Refusal::NotActive => SubmitError::NotAccepting(NotAccepting::NotActive),
        Refusal::ClockUnsure => SubmitError::NotAccepting(NotAccepting::ClockUnsure),
        Refusal::Stopping => SubmitError::NotAccepting(NotAccepting::Stopping),
        Refusal::TooLarge => SubmitError::TooLarge,
        Refusal::Busy => BUSY,
    }
}
