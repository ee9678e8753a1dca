//! A node: the replica of production, with what surrounds it there made virtual.
//!
//! ```text
//!  clients, other nodes ──> queue ──> Input ──> Replica::step ──> Output ──┬──> journal on a virtual disk
//!  ticks, finished syncs ──────────────^                                   ├──> answers, to clients and to nodes
//!                                                                          └──> messages to other nodes
//! ```
//!
//! A node that does not lead hands commands on to the leader that it knows, the same command again to the next one when
//! that changes, until a deadline; it answers from the batches that it applied itself.

mod commands;
mod lives;
mod peers;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use engine::ENGINE_VERSION;
use replica::{Applied, HandOver, HardState, Input, Now, Output, ReadTicket, Refusal, Replica, Ticket};
use types::{Command, EngineVersion, Event as MarketEvent, GroupId, Incarnation, Sequence, StateMachine, Timestamp};
use wire::journal::{Identity, LogIndex, NodeId};
use wire::membership::{ChangeRefusal, Membership};

use crate::coverage::Point;
use crate::events::{Call, Event, MICROSECOND, MILLISECOND, SECOND, Stored, Time, Waiter};
use crate::invariants::acknowledged::Answer;
use crate::invariants::all_equal::Standing;
use crate::journal::{Files, Journal, PowerLost, SyncJob};
use crate::market::{Market, NOON};
use crate::mutation::{Mutated, Mutation};
use crate::shared::Shared;

/// Between two ticks of the consensus clock.
pub(crate) const TICK: Time = 20 * MILLISECOND;
/// Commands of one gathering, so that a batch fits the smallest segment.
const GATHERED_MAX: usize = 24;
/// For how long a command is handed on.
const PATIENCE: Time = 2 * SECOND;
/// Answers that a node remembers.
const ANSWERS_MAX: usize = 6_000;

type Out = Output<Command, MarketEvent, Waiter>;

/// What is on a node's disk.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) files: Files,
    pub(crate) snapshots: Vec<Rc<Stored>>,
    /// True of a voter whose journal was damaged, until it has everything again.
    pub(crate) repairing: bool,
    /// How long a sync takes.
    pub(crate) latency: Time,
}

/// The node's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    pub(crate) offset: i64,
    pub(crate) drift_ppm: i64,
}

impl Clock {
    fn utc(&self, now: Time) -> Timestamp {
        let now = i64::try_from(now).expect("a run is short");
        let shown = now + now / 1_000_000 * self.drift_ppm + self.offset;
        Timestamp(NOON.saturating_add_signed(shown))
    }

    fn tick(&self) -> Time {
        // Half of the drift of the clock that shows the time: they are not the same.
        TICK.saturating_add_signed(-self.drift_ppm * i64::try_from(TICK).unwrap_or(0) / 2_000_000)
    }
}

/// A command that was handed on.
#[derive(Clone, Debug)]
struct Forwarded {
    command: Command,
    call: Call,
    deadline: Time,
    to: Option<NodeId>,
    sequence: Option<Sequence>,
    times: u32,
}

/// The process of a node.
struct Running {
    replica: Replica<Market, Waiter>,
    journal: Journal,
    queue: Vec<(Command, Waiter)>,
    gathers: bool,
    forwarded: BTreeMap<u64, Forwarded>,
    next_token: u64,
    answers: BTreeMap<Sequence, Answer>,
    reads: BTreeMap<ReadTicket, Sequence>,
    next_read: u64,
    received: Vec<Rc<Stored>>,
    disk_free_at: Time,
    syncs: u32,
    mark_is_due: bool,
    makes_snapshot: bool,
    /// A peer needs one at or behind this.
    snapshot_wanted: Option<LogIndex>,
    snapshot_at: LogIndex,
    change_taken: Option<Result<(), ChangeRefusal>>,
}

/// A node, up or down.
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) is_gateway: bool,
    pub(crate) disk: Disk,
    pub(crate) clock: Clock,
    pub(crate) life: u32,
    lives: u32,
    running: Option<Running>,
    pub(crate) paused: u32,
    pub(crate) backlog: VecDeque<Event>,
    pub(crate) election_ticks: usize,
    pub(crate) snapshot_every: u64,
    /// True if a bit of its journal was changed.
    pub(crate) rotten: bool,
    /// True once it left the group.
    pub(crate) removed: bool,
    /// True while it comes to its end.
    pub(crate) drains: bool,
    /// The newest engine version that its program knows, and that of the program that it starts next.
    pub(crate) reads: EngineVersion,
    pub(crate) next_reads: EngineVersion,
    /// What a gateway was given, which has no disk for it.
    installed: Option<(Rc<Stored>, HardState)>,
    outputs: Vec<Out>,
}

impl Host {
    /// A node with an empty disk.
    pub(crate) fn new(id: NodeId, is_gateway: bool, segment_bytes: usize) -> Self {
        Self {
            id,
            is_gateway,
            disk: Disk {
                files: Files::new(segment_bytes),
                snapshots: Vec::new(),
                repairing: false,
                latency: 300 * MICROSECOND,
            },
            clock: Clock::default(),
            life: 0,
            lives: 0,
            running: None,
            paused: 0,
            backlog: VecDeque::new(),
            election_ticks: 10 + usize::try_from(id.0).expect("it is small") * 3,
            snapshot_every: 200,
            rotten: false,
            removed: false,
            drains: false,
            reads: ENGINE_VERSION,
            next_reads: ENGINE_VERSION,
            installed: None,
            outputs: Vec::new(),
        }
    }

    /// One of the voters that the group begins with.
    pub(crate) fn first_voter(id: NodeId, segment_bytes: usize, first: Rc<Stored>, shared: &Shared) -> Self {
        let mut host = Self::new(id, false, segment_bytes);
        let (applied, hard_state) = (first.point.applied, HardState::default());
        host.disk.snapshots.push(first);
        let (identity, mutation) = (host.identity(), shared.mutation);
        let begun = Journal::begin_anew(&mut host.disk.files, identity, applied, hard_state, mutation);
        begun.expect("the power is there");
        host
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            cluster: "simulated".parse().expect("it is an id"),
            group: GroupId(0),
            incarnation: Incarnation(1),
            node: self.id,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// True if it takes part: up, and not stopped in the middle of its work.
    pub(crate) fn is_active(&self) -> bool {
        self.is_up() && self.paused == 0
    }

    pub(crate) fn leads(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.replica.leads())
    }

    pub(crate) fn accepts(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.replica.accepting().is_ok())
    }

    pub(crate) fn term(&self) -> u64 {
        self.running.as_ref().map_or(0, |running| running.replica.term().0)
    }

    pub(crate) fn is_repairing(&self) -> bool {
        self.disk.repairing
    }

    pub(crate) fn membership(&self) -> Option<&Membership> {
        let running = self.running.as_ref()?;
        Some(running.replica.applier().membership())
    }

    pub(crate) fn applied(&self) -> Applied {
        let running = self.running.as_ref();
        running
            .map(|running| running.replica.applier().applied())
            .unwrap_or_default()
    }

    pub(crate) fn take_change(&mut self) -> Option<Result<(), ChangeRefusal>> {
        self.running.as_mut()?.change_taken.take()
    }

    pub(crate) fn standing(&self) -> Option<Standing> {
        let applier = self.running.as_ref()?.replica.applier();
        Some(Standing {
            node: self.id,
            applied: applier.applied(),
            state_hash: applier.machine().state_hash(),
            recomputed: applier.machine().recompute_state_hash(),
        })
    }

    pub(crate) fn market(&self) -> Option<&Market> {
        Some(self.running.as_ref()?.replica.applier().machine())
    }

    /// Anything that a client could still wait for.
    pub(crate) fn is_idle(&self) -> bool {
        let idle = |running: &Running| {
            running.queue.is_empty() && running.forwarded.is_empty() && running.replica.in_flight_count() == 0
        };
        self.running.as_ref().is_none_or(idle)
    }

    fn now(&self, shared: &Shared) -> Now {
        Now {
            utc: self.clock.utc(shared.now),
            clock_error_bound_ns: MILLISECOND,
        }
    }

    /// What the node's clock shows.
    pub(crate) fn utc(&self, shared: &Shared) -> Timestamp {
        self.clock.utc(shared.now)
    }

    /// One step of the replica, and all that comes of it.
    pub(crate) fn step(&mut self, input: Input<Command, Waiter>, shared: &mut Shared) {
        let now = self.now(shared);
        let Some(running) = &mut self.running else { return };
        let mut outputs = std::mem::take(&mut self.outputs);
        running.replica.step(now, input, &mut outputs);
        for executed in running.replica.applier().machine().take_executed() {
            shared.oracle.executed(self.id, &executed);
            shared.happened(&[u64::from(executed.digest)]);
            if executed.expired {
                shared.hit(Point::Expired);
            }
            if matches!(executed.outcome, crate::market::Outcome::Repeated(..)) {
                shared.hit(Point::Repeated);
            }
            if running.answers.len() == ANSWERS_MAX {
                running.answers.pop_first();
            }
            let answer = Answer {
                sequence: executed.sequence,
                account: executed.account,
                request_id: executed.request_id,
                outcome: executed.outcome,
            };
            running.answers.insert(executed.sequence, answer);
        }
        let mut handled = Ok(());
        for output in outputs.drain(..) {
            handled = self.handle(output, shared);
            if handled.is_err() || self.running.is_none() {
                break;
            }
        }
        outputs.clear();
        self.outputs = outputs;
        if handled == Err(PowerLost) {
            return self.power_went(shared);
        }
        self.answer_forwarded(shared);
    }

    /// In the middle of a write.
    fn power_went(&mut self, shared: &mut Shared) {
        shared.hit(Point::PowerLossAtWrite);
        let id = self.id;
        shared.say(|| format!("the power of node {id} goes at a write"));
        self.lose_power(shared);
        let down = shared.dice.between(50, 1_500) * MILLISECOND;
        shared.after(
            down,
            Event::Start {
                node: id,
                life: self.lives,
            },
        );
    }

    fn handle(&mut self, output: Out, shared: &mut Shared) -> Result<(), PowerLost> {
        let (id, life) = (self.id, self.life);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let files = &mut self.disk.files;
        match output {
            Output::Append(records) => {
                shared.hit(Point::OutAppend);
                if !self.is_gateway {
                    running.journal.append(files, &records)?;
                }
            }
            Output::Sync(ticket) => {
                shared.hit(Point::OutSync);
                self.begin_sync(ticket, shared);
            }
            Output::Applied { batch, waiters } => {
                shared.hit(if waiters.is_empty() {
                    Point::OutAppliedOther
                } else {
                    Point::OutAppliedOwn
                });
                let first = batch.header.first_sequence.0;
                for (sequence, waiter) in (first..).map(Sequence).zip(waiters) {
                    self.answer(sequence, waiter, shared);
                }
            }
            Output::Committed(applied) => {
                shared.hit(Point::OutCommitted);
                running.journal.set_committed(applied.index);
                if applied.index.0 >= running.snapshot_at.0 + self.snapshot_every {
                    self.begin_snapshot(shared);
                }
            }
            Output::Refused { commands, why } => {
                shared.hit(match why {
                    Refusal::NotLeader | Refusal::NotActive => Point::OutRefusedNotLeader,
                    Refusal::Busy => Point::OutRefusedBusy,
                    Refusal::ClockUnsure => Point::OutRefusedClock,
                    Refusal::Stopping | Refusal::TooLarge => Point::OutRefusedStopping,
                });
                for (command, waiter) in commands {
                    self.hand_on(command, waiter, shared);
                }
            }
            Output::Unknown { commands } => {
                shared.hit(Point::OutUnknown);
                for (command, waiter) in commands {
                    self.hand_on(command, waiter, shared);
                }
            }
            Output::Send(message) => self.send(message, shared),
            Output::Truncate { after } => {
                shared.hit(Point::OutTruncate);
                shared.say(|| format!("node {id} drops what is behind index {after}"));
                if !self.is_gateway {
                    running.journal.truncate(files, after)?;
                }
            }
            Output::Accepting(accepting) => {
                shared.hit(Point::OutAccepting);
                let term = running.replica.term();
                shared.say(|| format!("node {id} in term {term}: accepting {accepting:?}"));
                if accepting.is_ok() {
                    shared.hit(Point::LeaderChanged);
                    shared.oracle.accepts(term, id);
                    self.forward_all(None, shared);
                }
            }
            Output::Leader(leader) => {
                shared.hit(Point::OutLeader);
                shared.say(|| format!("node {id} follows {leader:?}"));
                self.forward_all(leader, shared);
            }
            Output::Members(members) => {
                shared.hit(Point::OutMembers);
                shared.say(|| format!("node {id}: the members are {members:?}"));
                let is_voter = |(node, member): (NodeId, &wire::membership::Member)| {
                    node == id && member.role == wire::membership::Role::Voter
                };
                if members.iter().any(is_voter) {
                    shared.hit(Point::LearnerPromoted);
                }
            }
            Output::ChangeTaken(taken) => {
                shared.hit(if taken.is_ok() {
                    Point::OutChangeTaken
                } else {
                    Point::OutChangeRefused
                });
                running.change_taken = Some(taken);
            }
            Output::ReadFrom { ticket, sequence } => {
                shared.hit(Point::OutReadFrom);
                if let Some(acknowledged) = running.reads.remove(&ticket) {
                    shared.oracle.read(id, acknowledged, sequence);
                }
            }
            Output::ReadFailed(ticket) => {
                shared.hit(Point::OutReadFailed);
                running.reads.remove(&ticket);
            }
            Output::SnapshotWanted { at_least } => {
                running.snapshot_wanted = Some(at_least);
                shared.hit(Point::OutSnapshotWanted);
                shared.say(|| format!("node {id} wants a snapshot for a peer"));
                self.begin_snapshot(shared);
            }
            Output::Install { point, hard_state } => {
                shared.hit(Point::OutInstall);
                let installed = self.install(&point, hard_state, shared);
                if installed.is_err() {
                    shared.hit(Point::StartInstallCutOff);
                }
                return installed;
            }
            Output::Repaired => {
                shared.hit(Point::OutRepaired);
                shared.say(|| format!("node {id} is repaired"));
                self.disk.repairing = false;
            }
            Output::HandingOver { to, why } => {
                shared.hit(match why {
                    // A removed leader is one whose removal it did not propose itself: seldom, and not counted apart.
                    HandOver::Asked | HandOver::Removed => Point::OutHandingOverAsked,
                    HandOver::SlowDisk => Point::OutHandingOverSlowDisk,
                    HandOver::ClockUnsure => Point::OutHandingOverClock,
                });
                shared.say(|| format!("node {id} hands over to {to}: {why}"));
            }
            Output::Stop(reason) => shared.oracle.stopped(id, reason.to_string()),
        }
        let _ = life;
        Ok(())
    }

    fn begin_sync(&mut self, ticket: Ticket, shared: &mut Shared) {
        let (node, life) = (self.id, self.life);
        let Some(running) = &mut self.running else { return };
        let job = running
            .journal
            .begin_sync(&self.disk.files)
            .filter(|_| !self.is_gateway);
        let latency = if self.is_gateway { 0 } else { self.disk.latency };
        let jitter = shared.dice.below(latency / 2 + 1);
        running.disk_free_at = running.disk_free_at.max(shared.now) + latency + jitter;
        running.syncs += 1;
        if running.syncs > 1 {
            shared.hit(Point::SyncsInFlight);
        }
        let mut ticket = Some(ticket);
        if shared.mutation.is(Mutation::PersistedBeforeSync) {
            let early = Event::Synced {
                node,
                life,
                ticket: ticket.take(),
                job: None,
            };
            shared.after(0, early);
        }
        shared.queue.at(
            running.disk_free_at,
            Event::Synced {
                node,
                life,
                ticket,
                job,
            },
        );
    }

    /// A sync is done.
    pub(crate) fn synced(&mut self, ticket: Option<Ticket>, job: Option<SyncJob>, shared: &mut Shared) {
        let (node, life) = (self.id, self.life);
        let Some(running) = &mut self.running else { return };
        running.syncs = running.syncs.saturating_sub(1);
        if let Some(job) = job {
            if running.journal.finish_sync(&mut self.disk.files, job).is_err() {
                return self.power_went(shared);
            }
            if running.journal.mark_is_stale() && !running.mark_is_due {
                running.mark_is_due = true;
                shared.after(6 * MILLISECOND, Event::MarkDue { node, life });
            }
        }
        if let Some(ticket) = ticket {
            shared.hit(Point::InPersisted);
            self.step(Input::Persisted(ticket), shared);
        }
    }

    /// The mark is written.
    pub(crate) fn mark_due(&mut self, shared: &mut Shared) {
        let (node, life) = (self.id, self.life);
        let Some(running) = &mut self.running else { return };
        match running.journal.write_mark(&mut self.disk.files) {
            Ok(writes) => shared.after(self.disk.latency, Event::MarkSynced { node, life, writes }),
            Err(PowerLost) => self.power_went(shared),
        }
    }

    pub(crate) fn mark_synced(&mut self, writes: u64, shared: &mut Shared) {
        let (node, life) = (self.id, self.life);
        let Some(running) = &mut self.running else { return };
        self.disk.files.mark.sync_up_to(writes);
        running.mark_is_due = running.journal.mark_is_stale();
        if running.mark_is_due {
            shared.after(6 * MILLISECOND, Event::MarkDue { node, life });
        }
    }

    /// The consensus clock's tick, and what the node does now and then.
    pub(crate) fn tick(&mut self, shared: &mut Shared) {
        let (node, life) = (self.id, self.life);
        shared.after(self.clock.tick(), Event::Tick { node, life });
        shared.hit(Point::InTick);
        self.step(Input::Tick, shared);
        let utc = self.clock.utc(shared.now);
        let Some(running) = &mut self.running else { return };
        if running.replica.deadline().is_some_and(|deadline| deadline <= utc) {
            shared.hit(Point::InDeadline);
            self.step(Input::Deadline, shared);
        }
        self.forward_all(None, shared);
    }

    /// A read by a client of this node.
    pub(crate) fn read(&mut self, shared: &mut Shared) {
        let acknowledged = shared.oracle.acknowledged();
        let Some(running) = &mut self.running else { return };
        if shared.mutation.is(Mutation::StaleReads) {
            let sees = running.replica.applier().applied().sequence;
            return shared.oracle.read(self.id, acknowledged, sees);
        }
        let ticket = ReadTicket(running.next_read);
        running.next_read += 1;
        running.reads.insert(ticket, acknowledged);
        shared.hit(Point::InRead);
        self.step(Input::Read(ticket), shared);
    }
}
