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

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use replica::{
    Applied, Applier, HandOver, HardState, Input, Now, Output, PeerMessage, ReadTicket, Refusal, Replica, Settings,
    SnapshotPoint, Ticket,
};
use types::{Command, Event as MarketEvent, GroupId, Incarnation, Sequence, StateMachine, Timestamp};
use wire::journal::{Identity, LogIndex, NodeId};
use wire::membership::{ChangeRefusal, Membership};
use wire::peer::{Frame, RaftMessage, decode_frame};

use crate::coverage::Point;
use crate::events::{Call, Event, MICROSECOND, MILLISECOND, Packet, Reply, SECOND, Stored, Time, Waiter};
use crate::invariants::acknowledged::Answer;
use crate::invariants::all_equal::Standing;
use crate::journal::{Files, Journal, NotOpened, PowerLost, SyncJob};
use crate::market::{EPOCH, Genesis, Market, NOON};
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

/// What a process goes on with.
type Recovered = (Replica<Market, Waiter>, Journal);
/// A journal, the entries behind what is applied, and the term and vote.
type OpenedAs = (Journal, Vec<replica::LogEntry>, HardState);
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

    // ---- lives -------------------------------------------------------------------------------------------------------

    /// Starts the process from what is on its disk.
    pub(crate) fn start(&mut self, shared: &mut Shared) {
        assert!(self.running.is_none(), "it runs already");
        self.drains = false;
        self.lives += 1;
        self.life = self.lives;
        shared.lives[self.id.0 as usize] = self.life;
        self.disk.files.sync_all();
        let again = self.disk.repairing;
        let (replica, journal) = match self.recover(shared) {
            Ok(Some(recovered)) => recovered,
            Ok(None) => return self.kill(shared),
            Err(PowerLost) => return self.power_went(shared),
        };
        if again && self.disk.repairing && !self.is_gateway {
            shared.hit(Point::StartRepairAgain);
        }
        let applied = replica.applier().applied();
        let id = self.id;
        shared.say(|| {
            format!(
                "node {id} starts, at index {} sequence {}",
                applied.index, applied.sequence
            )
        });
        let lone = replica.applier().membership().is_lone_voter(self.id);
        self.running = Some(Running {
            snapshot_at: applied.index,
            replica,
            journal,
            queue: Vec::new(),
            gathers: false,
            forwarded: BTreeMap::new(),
            next_token: 1,
            answers: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_read: 1,
            received: Vec::new(),
            disk_free_at: shared.now,
            syncs: 0,
            mark_is_due: false,
            makes_snapshot: false,
            snapshot_wanted: None,
            change_taken: None,
        });
        shared.after(
            self.clock.tick(),
            Event::Tick {
                node: self.id,
                life: self.life,
            },
        );
        if lone {
            shared.hit(Point::StartLone);
            shared.hit(Point::InCampaign);
            self.step(Input::Campaign, shared);
        }
    }

    /// From snapshot and journal to a replica. None if that can't be, which the oracle is told.
    fn recover(&mut self, shared: &mut Shared) -> Result<Option<Recovered>, PowerLost> {
        let stored = match &self.installed {
            Some((stored, _)) => Some(Rc::clone(stored)),
            None => self
                .disk
                .snapshots
                .iter()
                .max_by_key(|stored| stored.point.applied.index)
                .cloned(),
        };
        let point = stored
            .as_ref()
            .map(|stored| stored.point.clone())
            .unwrap_or_else(|| SnapshotPoint {
                applied: Applied::default(),
                membership: Membership::default(),
            });
        let market = match &stored {
            Some(stored) => match Market::restore(stored.state.clone()) {
                Ok(market) => market,
                Err(error) => {
                    shared
                        .oracle
                        .stopped(self.id, format!("a snapshot can't be restored: {error}"));
                    return Ok(None);
                }
            },
            None => Market::default(),
        };
        match &stored {
            None => shared.hit(Point::StartEmpty),
            Some(_) if point.applied.index > LogIndex(1) => shared.hit(Point::StartSnapshot),
            Some(_) => {}
        }
        let mut applier = Applier::new(
            &self.identity(),
            market,
            point.applied,
            point.membership,
            BTreeSet::new(),
        );
        let Some((journal, suffix, hard_state)) = self.open(&mut applier, point.applied, shared)? else {
            return Ok(None);
        };
        for executed in applier.machine().take_executed() {
            shared.oracle.executed(self.id, &executed);
        }
        let settings = Settings {
            identity: self.identity(),
            epoch: EPOCH,
            repairing: self.disk.repairing && !shared.mutation.is(Mutation::DoubtfulTailVotes),
            election_ticks: self.election_ticks,
        };
        if shared.mutation.is(Mutation::RepairForgotten) {
            self.disk.repairing = false;
        }
        match Replica::new(&settings, applier, hard_state, suffix) {
            Ok(replica) => Ok(Some((replica, journal))),
            Err(reason) => {
                shared.oracle.stopped(self.id, format!("it can't start: {reason}"));
                Ok(None)
            }
        }
    }

    /// Opens the journal, and applies what is known to be committed.
    fn open(
        &mut self,
        applier: &mut Applier<Market>,
        snapshot: Applied,
        shared: &mut Shared,
    ) -> Result<Option<OpenedAs>, PowerLost> {
        let identity = self.identity();
        let mutation = shared.mutation;
        let files = &mut self.disk.files;
        if self.is_gateway {
            *files = Files::new(16 << 10);
            let hard_state = self.installed.take().map(|(_, state)| state).unwrap_or_default();
            let journal = Journal::begin_anew(files, identity, snapshot, hard_state, mutation)?;
            self.disk.repairing = self.lives > 1;
            return Ok(Some((journal, Vec::new(), hard_state)));
        }
        let opened = match Journal::open(files, identity, snapshot, mutation) {
            Ok(opened) => opened,
            Err(NotOpened::PowerLost) => return Err(PowerLost),
            Err(NotOpened::Damaged(damage)) => {
                if !self.rotten {
                    shared
                        .oracle
                        .stopped(self.id, format!("its journal is damaged, and no bit rotted: {damage}"));
                    return Ok(None);
                }
                let id = self.id;
                shared.say(|| format!("node {id}: {damage}"));
                shared.hit(Point::StartDamaged);
                self.disk.repairing = true;
                let hard_state = Journal::marked_vote(files);
                let journal = Journal::begin_anew(files, identity, snapshot, hard_state, mutation)?;
                self.rotten = false;
                return Ok(Some((journal, Vec::new(), hard_state)));
            }
        };
        let mut journal = opened.journal;
        self.rotten = false;
        let ways = [
            (opened.torn, Point::StartTorn),
            (opened.cuts > 0, Point::StartCut),
            (opened.jumped, Point::StartJumped),
            (!opened.committed.is_empty(), Point::StartCommitted),
            (!opened.suffix.is_empty(), Point::StartSuffix),
            (!opened.torn && opened.cuts == 0 && !opened.jumped, Point::StartClean),
        ];
        for (_, point) in ways.iter().filter(|(is_so, _)| *is_so) {
            shared.hit(*point);
        }
        let mut suffix = VecDeque::from(opened.suffix);
        let mut committed = VecDeque::from(opened.committed);
        // Whatever a lone voter has on disk is committed.
        loop {
            let is_lone = applier.membership().is_lone_voter(identity.node);
            let next = match committed.pop_front() {
                None if is_lone => suffix.pop_front(),
                next => next,
            };
            let Some(entry) = next else { break };
            if let Err(reason) = applier.apply(&entry) {
                shared.oracle.stopped(self.id, format!("its own journal: {reason}"));
                return Ok(None);
            }
        }
        let applied = applier.applied().index;
        journal.set_committed(applied);
        if mutation.is(Mutation::SuffixForgotten) && !suffix.is_empty() {
            suffix.clear();
            journal.truncate(&mut self.disk.files, applied)?;
        }
        Ok(Some((journal, suffix.into(), opened.hard_state)))
    }

    /// The process is gone; what it wrote stays.
    pub(crate) fn kill(&mut self, shared: &mut Shared) {
        if self.running.take().is_some() {
            let id = self.id;
            shared.say(|| format!("node {id} is gone"));
        }
        self.life = 0;
        shared.lives[self.id.0 as usize] = 0;
        self.backlog.clear();
        if self.is_gateway {
            self.disk.snapshots.clear();
            self.installed = None;
        }
    }

    /// The power is gone; what was not synced may be.
    pub(crate) fn lose_power(&mut self, shared: &mut Shared) {
        self.kill(shared);
        self.disk.files.lose_power(&mut shared.dice);
    }

    /// Ends as it should: what is appended is synced.
    pub(crate) fn shut_down(&mut self, shared: &mut Shared) {
        if self.is_active() && !self.drains {
            shared.hit(Point::InDrain);
            self.step(Input::Drain, shared);
        }
        if let Some(running) = &mut self.running
            && self.paused == 0
        {
            let _ = running.journal.close(&mut self.disk.files);
        }
        self.kill(shared);
    }

    // ---- steps -------------------------------------------------------------------------------------------------------

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
                    Refusal::NotLeader => Point::OutRefusedNotLeader,
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
                    HandOver::Asked => Point::OutHandingOverAsked,
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

    // ---- commands ----------------------------------------------------------------------------------------------------

    /// A client's command.
    pub(crate) fn called(&mut self, call: Call, command: Command, shared: &mut Shared) {
        self.take_command(command, Waiter::Client(call), shared);
    }

    fn take_command(&mut self, command: Command, waiter: Waiter, shared: &mut Shared) {
        let (node, life) = (self.id, self.life);
        let Some(running) = &mut self.running else { return };
        if let Waiter::Client(_) = waiter
            && !running.replica.leads()
        {
            return self.hand_on(command, waiter, shared);
        }
        running.queue.push((command, waiter));
        if !running.gathers {
            running.gathers = true;
            let wait = shared.dice.between(50, 400) * MICROSECOND;
            shared.after(wait, Event::Gather { node, life });
        }
    }

    /// Makes one input of what has come.
    pub(crate) fn gather(&mut self, shared: &mut Shared) {
        let Some(running) = &mut self.running else { return };
        running.gathers = false;
        let mut queue = std::mem::take(&mut running.queue);
        while !queue.is_empty() {
            let rest = queue.split_off(queue.len().min(GATHERED_MAX));
            shared.hit(Point::InCommands);
            if shared.mutation.is(Mutation::AnsweredWhenSequenced) {
                self.answer_early(&queue, shared);
            }
            self.step(Input::Commands(queue), shared);
            queue = rest;
        }
    }

    /// The mutation that answers what is not yet committed, from the present state.
    fn answer_early(&mut self, commands: &[(Command, Waiter)], shared: &mut Shared) {
        let Some(running) = &self.running else { return };
        if running.replica.accepting().is_err() || running.replica.in_flight_count() > 0 {
            return;
        }
        let applier = running.replica.applier();
        let mut market = Market::over(applier.machine().exchange.clone());
        let (mut position, at) = (market.exchange.position(), market.exchange.time());
        let mut events = Vec::new();
        for (command, waiter) in commands {
            position.sequence = position.sequence.next();
            market.apply(position, at.max(self.clock.utc(shared.now)), command, &mut events);
            let executed = market.take_executed()[0];
            let Waiter::Client(call) = waiter else { continue };
            let answer = Answer {
                sequence: executed.sequence,
                account: executed.account,
                request_id: executed.request_id,
                outcome: executed.outcome,
            };
            shared.oracle.told_early(&answer);
            let reply = Reply::Answer(answer);
            shared.after(300 * MICROSECOND, Event::Replied { call: *call, reply });
        }
    }

    /// What was not executed here, or not for all that is known here, goes to whoever leads.
    fn hand_on(&mut self, command: Command, waiter: Waiter, shared: &mut Shared) {
        let id = self.id;
        let Some(running) = &mut self.running else { return };
        match waiter {
            Waiter::Peer { node, life, token } => shared.send(id, node, Packet::Refused { life, token }, 0),
            Waiter::Client(call) => {
                let token = running.next_token;
                running.next_token += 1;
                let forwarded = Forwarded {
                    command,
                    call,
                    deadline: shared.now + PATIENCE,
                    to: None,
                    sequence: None,
                    times: 0,
                };
                running.forwarded.insert(token, forwarded);
                if !running.replica.leads() {
                    self.forward_all(None, shared);
                }
            }
        }
    }

    /// Sends whatever waits to whoever leads; what was sent to somebody else too, if that changed.
    fn forward_all(&mut self, changed: Option<NodeId>, shared: &mut Shared) {
        let (id, life) = (self.id, self.life);
        let Some(running) = &mut self.running else { return };
        if running.forwarded.is_empty() {
            return;
        }
        let leader = running.replica.leader();
        let leads = running.replica.accepting().is_ok();
        let mut own = Vec::new();
        let mut over = Vec::new();
        for (token, forwarded) in &mut running.forwarded {
            if forwarded.sequence.is_some() {
                if forwarded.deadline < shared.now {
                    over.push(*token);
                }
                continue;
            }
            if changed.is_some() && forwarded.to != changed {
                forwarded.to = None;
            }
            if forwarded.deadline < shared.now {
                over.push(*token);
            } else if forwarded.to.is_none() && leads {
                own.push(*token);
            } else if let Some(leader) = leader.filter(|leader| forwarded.to.is_none() && *leader != id) {
                forwarded.to = Some(leader);
                forwarded.times += 1;
                shared.hit(if forwarded.times > 1 {
                    Point::ForwardedAgain
                } else {
                    Point::Forwarded
                });
                let mut command = forwarded.command.clone();
                if forwarded.times > 1 && shared.mutation.is(Mutation::ForwardedUnderNewId) {
                    command.request_id = format!("again-{id}-{life}-{token}").parse().expect("it is an id");
                }
                let token = *token;
                shared.send(id, leader, Packet::Forward { life, token, command }, 0);
            }
        }
        for token in over {
            if let Some(forwarded) = running.forwarded.remove(&token) {
                let (call, reply) = (forwarded.call, Reply::Unknown);
                shared.after(300 * MICROSECOND, Event::Replied { call, reply });
            }
        }
        for token in own {
            if let Some(forwarded) = self
                .running
                .as_mut()
                .and_then(|running| running.forwarded.remove(&token))
            {
                self.take_command(forwarded.command, Waiter::Client(forwarded.call), shared);
            }
        }
    }

    /// Answers those whose place is known and applied here by now.
    fn answer_forwarded(&mut self, shared: &mut Shared) {
        let Some(running) = &mut self.running else { return };
        if running.forwarded.is_empty() {
            return;
        }
        let last = running.answers.keys().next_back().copied();
        let mutated = shared.mutation.is(Mutation::SequenceTakenForAnswer);
        let known: Vec<(u64, Sequence)> = running
            .forwarded
            .iter()
            .filter_map(|(token, forwarded)| {
                let mut sequence = forwarded.sequence?;
                if mutated {
                    sequence = last?;
                }
                running.answers.contains_key(&sequence).then_some((*token, sequence))
            })
            .collect();
        for (token, sequence) in known {
            let Some(running) = &mut self.running else { return };
            if let Some(forwarded) = running.forwarded.remove(&token) {
                shared.hit(Point::AnsweredByFollower);
                self.answer(sequence, Waiter::Client(forwarded.call), shared);
            }
        }
    }

    fn answer(&mut self, sequence: Sequence, waiter: Waiter, shared: &mut Shared) {
        let id = self.id;
        let Some(running) = &self.running else { return };
        match waiter {
            Waiter::Peer { node, life, token } => {
                shared.send(id, node, Packet::Answered { life, token, sequence }, 0);
            }
            Waiter::Client(call) => {
                let Some(answer) = running.answers.get(&sequence).copied() else {
                    return shared
                        .oracle
                        .stopped(id, format!("it has no answer of sequence {sequence}"));
                };
                shared.oracle.answered(&answer);
                let reply = Reply::Answer(answer);
                shared.after(300 * MICROSECOND, Event::Replied { call, reply });
            }
        }
    }

    // ---- other nodes -------------------------------------------------------------------------------------------------

    fn send(&mut self, message: PeerMessage, shared: &mut Shared) {
        let (id, to) = (self.id, message.to());
        let message = RaftMessage::from(message);
        let snapshot = message.snapshot.as_ref().map(|snapshot| snapshot.index);
        let mut bytes = Vec::new();
        if let Err(error) = Frame::Raft(message).encode(&mut bytes) {
            return shared
                .oracle
                .stopped(id, format!("a message can't be encoded: {error}"));
        }
        let bytes = Bytes::from(bytes);
        let Some(index) = snapshot else {
            shared.hit(Point::OutSend);
            return shared.send(id, to, Packet::Peer(bytes), 0);
        };
        shared.hit(Point::OutSendSnapshot);
        let stored = self
            .disk
            .snapshots
            .iter()
            .find(|stored| stored.point.applied.index == index);
        shared.say(|| format!("node {id} sends {to} the snapshot of index {index}"));
        let packet = stored.map(|stored| Packet::Snapshot(bytes, Rc::clone(stored)));
        match packet {
            Some(packet) => {
                let transfer = shared.dice.between(5, 150) * MILLISECOND;
                shared.send(id, to, packet, transfer);
            }
            None => {
                let (node, life, arrived) = (id, self.life, false);
                shared.after(
                    MILLISECOND,
                    Event::SnapshotSent {
                        node,
                        life,
                        to,
                        arrived,
                    },
                );
            }
        }
    }

    /// Something came from another node.
    pub(crate) fn arrived(&mut self, from: NodeId, packet: Packet, shared: &mut Shared) {
        let id = self.id;
        let Some(running) = &mut self.running else { return };
        match packet {
            Packet::Peer(bytes) => self.hear(bytes, shared),
            Packet::Snapshot(bytes, stored) => {
                running.received.push(stored);
                let sent = Event::SnapshotSent {
                    node: from,
                    life: shared.life(from),
                    to: id,
                    arrived: true,
                };
                shared.after(MILLISECOND, sent);
                self.hear(bytes, shared);
            }
            Packet::Forward { life, token, command } => {
                let waiter = Waiter::Peer {
                    node: from,
                    life,
                    token,
                };
                self.take_command(command, waiter, shared);
            }
            Packet::Answered { life, token, sequence } => {
                if life == self.life
                    && let Some(forwarded) = running.forwarded.get_mut(&token)
                {
                    forwarded.sequence = Some(sequence);
                    self.answer_forwarded(shared);
                }
            }
            Packet::Refused { life, token } => {
                if life == self.life
                    && let Some(forwarded) = running.forwarded.get_mut(&token)
                    && forwarded.to == Some(from)
                {
                    // The next tick tries again.
                    forwarded.to = None;
                }
            }
        }
    }

    fn hear(&mut self, bytes: Bytes, shared: &mut Shared) {
        let message = match decode_frame(bytes) {
            Ok(Frame::Raft(message)) => PeerMessage::try_from(message),
            other => return shared.oracle.stopped(self.id, format!("a frame came out as {other:?}")),
        };
        match message {
            Ok(message) => {
                shared.hit(Point::InMessage);
                self.step(Input::Message(message), shared);
            }
            Err(error) => shared.oracle.stopped(self.id, error.to_string()),
        }
    }

    /// Nothing gets through to a peer: what was handed on to it goes to whoever leads next.
    pub(crate) fn unreachable(&mut self, peer: NodeId, shared: &mut Shared) {
        shared.hit(Point::InUnreachable);
        if let Some(running) = &mut self.running {
            for forwarded in running.forwarded.values_mut() {
                if forwarded.to == Some(peer) && forwarded.sequence.is_none() {
                    forwarded.to = None;
                }
            }
        }
        self.step(Input::Unreachable(peer), shared);
    }

    // ---- snapshots ---------------------------------------------------------------------------------------------------

    /// Begins to make a snapshot of what is applied now.
    fn begin_snapshot(&mut self, shared: &mut Shared) {
        let (node, life) = (self.id, self.life);
        let Some(running) = &mut self.running else { return };
        if running.makes_snapshot {
            return;
        }
        running.makes_snapshot = true;
        let applier = running.replica.applier();
        let point = SnapshotPoint {
            applied: applier.applied(),
            membership: applier.membership().clone(),
        };
        running.snapshot_at = point.applied.index;
        let state = applier.machine().snapshot();
        let stored = Rc::new(Stored { point, state });
        let takes = shared.dice.between(2, 60) * MILLISECOND;
        shared.after(takes, Event::SnapshotDone { node, life, stored });
    }

    /// It is on the disk.
    pub(crate) fn snapshot_done(&mut self, stored: Rc<Stored>, shared: &mut Shared) {
        let Some(running) = &mut self.running else { return };
        running.makes_snapshot = false;
        let point = stored.point.clone();
        let wanted = running
            .snapshot_wanted
            .take_if(|at_least| *at_least <= point.applied.index);
        let is_too_old = wanted.is_none() && running.snapshot_wanted.is_some();
        let id = self.id;
        shared.say(|| format!("node {id} has a snapshot of index {}", point.applied.index));
        self.disk.snapshots.push(stored);
        self.disk.snapshots.sort_by_key(|stored| stored.point.applied.index);
        let kept = self.disk.snapshots.len().saturating_sub(2);
        self.disk.snapshots.drain(..kept);
        let oldest = self.disk.snapshots[0].point.applied.index;
        if running.journal.retire(&mut self.disk.files, oldest) > 0 {
            shared.hit(Point::SegmentRetired);
        }
        shared.hit(Point::InSnapshotMade);
        self.step(Input::SnapshotMade(point), shared);
        if is_too_old {
            self.begin_snapshot(shared);
        }
    }

    /// Makes one now, for a fault that needs it.
    pub(crate) fn snapshot_now(&mut self, shared: &mut Shared) {
        self.begin_snapshot(shared);
    }

    /// A peer's snapshot takes the place of everything.
    fn install(&mut self, point: &SnapshotPoint, hard_state: HardState, shared: &mut Shared) -> Result<(), PowerLost> {
        let id = self.id;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let place = point.applied;
        let found = running.received.iter().find(|stored| stored.point == *point).cloned();
        let Some(mut stored) = found else {
            shared
                .oracle
                .stopped(id, format!("there is no snapshot of index {} to install", place.index));
            return Ok(());
        };
        if shared.mutation.is(Mutation::WrongSnapshotInstalled) {
            stored = Rc::new(Stored {
                point: point.clone(),
                state: Genesis::get().snapshot.clone(),
            });
        }
        shared.say(|| format!("node {id} installs the snapshot of index {}", place.index));
        shared.hit(Point::StartInstalled);
        if self.is_gateway {
            self.kill(shared);
            self.installed = Some((stored, hard_state));
        } else {
            let files = &mut self.disk.files;
            running.journal.announce_jump(files, place.into())?;
            self.disk
                .snapshots
                .retain(|kept| kept.point.applied.index < place.index);
            self.disk.snapshots.push(stored);
            running.journal.begin_at(files, place.into(), hard_state)?;
            self.kill(shared);
        }
        shared.after(
            MILLISECOND,
            Event::Start {
                node: id,
                life: self.lives,
            },
        );
        Ok(())
    }

    /// True if this start is of the life that the node is in, or was in last.
    pub(crate) fn is_last_life(&self, life: u32) -> bool {
        self.lives == life
    }

    /// How many lives it has had.
    pub(crate) fn lives(&self) -> u32 {
        self.lives
    }

    /// How many segments it has begun and kept.
    pub(crate) fn segments(&self) -> usize {
        self.disk.files.segments.len()
    }
}
