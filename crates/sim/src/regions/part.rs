//! The part of a node in its region: the replica of production over the exchange, the region's part in who is active, the
//! answers that wait, and what a standby follows. It does what `node`'s core does, on a virtual disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use replica::lease::Elapsed;
use replica::region::{GroupPlace, Mode, Region, RegionInput, RegionOutput, RegionSettings};
use replica::{Applied, Applier, HardState, Input, Now, Output, ReadTicket, Replica, Settings, SnapshotPoint};
use types::{Command, Epoch, Event, Incarnation, RegionId, Sequence, StateMachine};
use wire::journal::{Chain, LogIndex, NodeId, RecordKind};
use wire::membership::{Membership, MembershipChange};
use wire::site::{LeaseRefusal, LogPlace, SiteMessage};

use super::coverage::Point;
use super::follow::{Follow, Server};
use super::invariants::void_is_listed::Told;
use super::mutation::RegionMutation;
use super::network::Site;
use super::shared::{Happening, LogOf, MarketSnapshot, Packet, Reply, Shared};
use super::store::{Batch, Store, batch_of};
use super::voter::{VOTERS, group_identity};
use crate::events::{Call, MICROSECOND, Time};
use crate::invariants::acknowledged::Answer;
use crate::invariants::all_equal::Standing;
use crate::market::{Executed, Genesis, Market, Outcome};

/// Commands of one batch.
const GATHERED_MAX: usize = 12;
/// Commands that wait for their answers, or to be taken.
const HELD_MAX: usize = 64;
/// Snapshots that a node keeps, its first among them.
const SNAPSHOTS_MAX: usize = 4;
/// Between an answer and the client.
const ANSWER_TAKES: Time = 400 * MICROSECOND;
/// How often it is looked whether there are members to take in.
const TAKE_IN_EVERY: Time = 500_000_000;

pub(super) type Out = Output<Command, Event, Call>;

/// What a node of a region has on its disk.
pub(super) struct GroupDisk {
    pub(super) store: Store<engine::Snapshot>,
    pub(super) incarnation: Incarnation,
    /// Nodes of the life before that whoever leads still has to take in.
    pub(super) to_take_in: Vec<NodeId>,
    /// How long a sync takes.
    pub(super) latency: Time,
    /// Up to where the journal is not there for a standby.
    pub(super) retired: Sequence,
}

impl GroupDisk {
    /// Of a node of the first life, which has the state that the run begins with.
    pub(super) fn first(site: Site, shared: &Shared) -> Self {
        let stored = genesis(nodes_of(site, shared));
        Self {
            store: Store::behind(stored, HardState::default()),
            incarnation: Incarnation(1),
            to_take_in: Vec::new(),
            latency: 300 * MICROSECOND,
            retired: Sequence(0),
        }
    }
}

fn genesis(members: Vec<NodeId>) -> Rc<MarketSnapshot> {
    let genesis = Genesis::get();
    Rc::new(MarketSnapshot {
        point: genesis.point(members),
        state: genesis.snapshot.clone(),
    })
}

/// The nodes of a region.
pub(super) fn nodes_of(site: Site, shared: &Shared) -> Vec<NodeId> {
    match site {
        Site::First => (1..=shared.setup.nodes[0]).map(NodeId).collect(),
        Site::Second => (4..4 + shared.setup.nodes[1]).map(NodeId).collect(),
        Site::Witness => Vec::new(),
    }
}

pub(super) fn region_of(site: Site) -> RegionId {
    RegionId(if site == Site::First { 1 } else { 2 })
}

/// What a turn works with.
pub(super) struct Turn<'a> {
    pub(super) disk: &'a mut GroupDisk,
    pub(super) shared: &'a mut Shared,
    pub(super) now: Now,
    pub(super) elapsed: Elapsed,
}

/// Why a process ends by itself.
pub(super) enum End {
    Install(Rc<MarketSnapshot>, HardState),
    BeginAnew {
        incarnation: Incarnation,
        founder: NodeId,
        kept: Sequence,
    },
    Failed,
}

struct Held {
    last: Sequence,
    answers: Vec<(Call, Epoch, Answer)>,
}

/// See the module.
pub(super) struct Part {
    pub(super) node: NodeId,
    pub(super) site: Site,
    pub(super) replica: Replica<Market, Call>,
    pub(super) region: Region,
    pub(super) outputs: Vec<RegionOutput>,
    queue: VecDeque<(Command, Call)>,
    gathers: bool,
    held: VecDeque<Held>,
    held_commands: usize,
    pub(super) told: Option<GroupPlace>,
    pub(super) follow: Follow,
    pub(super) server: Server,
    /// What is committed, as far back as the journal goes.
    pub(super) journal: Vec<Batch>,
    pub(super) journal_begin: Applied,
    pending: BTreeMap<LogIndex, Batch>,
    last_epoch: Epoch,
    executed: BTreeMap<Sequence, Executed>,
    both_through: Sequence,
    snapshot_at: LogIndex,
    snapshot_wanted: bool,
    received: Vec<Rc<MarketSnapshot>>,
    reads: BTreeMap<ReadTicket, Sequence>,
    next_read: u64,
    disk_free_at: Time,
    took_in_at: Time,
    /// What goes into the log now: sequenced here, or followed.
    proposes: Option<bool>,
    is_fenced: bool,
    /// For how long it stands still once it has looked whether it may answer.
    pub(super) pause_in_check: Option<Time>,
    /// Answers that go out when it goes on.
    pub(super) late: Vec<(Call, Told)>,
    pub(super) end: Option<End>,
}

fn settings_of(node: NodeId, site: Site, incarnation: Incarnation, shared: &Shared) -> RegionSettings {
    let setup = &shared.setup;
    RegionSettings {
        region: region_of(site),
        other: region_of(site.other()),
        node,
        incarnation,
        founds: site == Site::First,
        voters: VOTERS.to_vec(),
        sync: setup.sync,
        automatic: setup.automatic,
        lease_ns: setup.lease_ns,
        drift_ppm: setup.drift_ppm,
        lag_max: setup.lag_max,
        on_standby_loss: setup.on_standby_loss,
        degrade_after_ns: setup.degrade_after_ns,
    }
}

impl Part {
    /// Starts from what is on the disk. None if that can't be, which the oracle is told.
    pub(super) fn start(node: NodeId, site: Site, turn: &mut Turn<'_>) -> Option<Self> {
        let (disk, shared) = (&mut *turn.disk, &mut *turn.shared);
        let found = disk.store.open();
        let point = match &found.snapshot {
            Some(stored) => stored.point.clone(),
            None => SnapshotPoint {
                applied: Applied::default(),
                membership: Membership::default(),
            },
        };
        let market = match &found.snapshot {
            Some(stored) => Market::restore(stored.state.clone()).expect("it was a state"),
            None => Market::default(),
        };
        let identity = group_identity(node, disk.incarnation);
        let mut last_epoch = point.applied.epoch;
        let mut applier = Applier::new(&identity, market, point.applied, point.membership, BTreeSet::new());
        let mut suffix = VecDeque::from(found.entries);
        // What is known to be committed, and whatever a lone voter has.
        while let Some(entry) = suffix
            .front()
            .filter(|entry| entry.index <= found.committed || applier.membership().is_lone_voter(node))
        {
            if let Err(reason) = applier.apply(entry) {
                shared.oracle.stopped(node, format!("its own journal: {reason}"));
                return None;
            }
            suffix.pop_front();
        }
        for executed in applier.machine().take_executed() {
            shared.oracle.executed(node, &executed, last_epoch);
            last_epoch = executed.epoch;
        }
        let applied = applier.applied();
        let batch = |entry: &replica::LogEntry| entry.kind == RecordKind::Batch;
        let pending = suffix.iter().filter(|entry| batch(entry)).filter_map(|entry| {
            let header = wire::batch::decode_header(&entry.payload).ok()?;
            let batch = Batch {
                epoch: header.epoch,
                first: header.first_sequence,
                last: header.last_sequence(),
                chain: entry.chain,
                payload: entry.payload.clone(),
            };
            Some((entry.index, batch))
        });
        let pending = pending.collect();
        let lone = applier.membership().is_lone_voter(node);
        let place = (node.0 - 1) % 3;
        let settings = Settings {
            identity,
            epoch: None,
            repairing: false,
            election_ticks: 5 + 2 * usize::try_from(place).expect("it is small"),
        };
        let replica = match Replica::new(&settings, applier, found.hard_state, suffix.into()) {
            Ok(replica) => replica,
            Err(reason) => {
                shared.oracle.stopped(node, format!("it can't start: {reason}"));
                return None;
            }
        };
        let region = Region::new(
            settings_of(node, site, disk.incarnation, shared),
            turn.elapsed,
            turn.now.utc.0,
        );
        let mut part = Self {
            node,
            site,
            replica,
            region,
            outputs: Vec::new(),
            queue: VecDeque::new(),
            gathers: false,
            held: VecDeque::new(),
            held_commands: 0,
            told: None,
            follow: Follow::default(),
            server: Server::default(),
            journal: disk.store.batches(applied.index),
            journal_begin: disk.store.begin(),
            pending,
            last_epoch,
            executed: BTreeMap::new(),
            both_through: Sequence(0),
            snapshot_at: applied.index,
            snapshot_wanted: false,
            received: Vec::new(),
            reads: BTreeMap::new(),
            next_read: 1,
            disk_free_at: shared.now,
            took_in_at: shared.now,
            proposes: None,
            is_fenced: false,
            pause_in_check: None,
            late: Vec::new(),
            end: None,
        };
        if lone {
            part.step(Input::Campaign, turn);
            part.look_after(turn);
        }
        Some(part)
    }

    // ---- the replica -------------------------------------------------------------------------------------------------

    /// One step of the replica, and all that comes of it but what the region makes of that.
    pub(super) fn step(&mut self, input: Input<Command, Call>, turn: &mut Turn<'_>) {
        if self.end.is_some() {
            return;
        }
        let mut outputs = Vec::new();
        self.replica.step(turn.now, input, &mut outputs);
        let executed = self.replica.applier().machine().take_executed();
        for executed in executed {
            let shared = &mut *turn.shared;
            shared.oracle.executed(self.node, &executed, self.last_epoch);
            shared.happened(&[u64::from(executed.digest)]);
            if matches!(executed.outcome, Outcome::Repeated(..)) {
                shared.hit(Point::Repeated);
            }
            self.last_epoch = executed.epoch;
            self.executed.insert(executed.sequence, executed);
        }
        for output in outputs {
            self.handle(output, turn);
        }
        self.executed.clear();
        if std::mem::take(&mut self.snapshot_wanted) {
            self.make_snapshot(turn);
        }
    }

    fn handle(&mut self, output: Out, turn: &mut Turn<'_>) {
        let node = self.node;
        match output {
            Output::Append(records) => {
                for record in records.iter().filter(|record| record.kind == RecordKind::Batch) {
                    let batch = batch_of(record);
                    if let Some(is_followed) = self.proposes {
                        let lease = self.region.lease();
                        let place = (batch.epoch, batch.last);
                        let region = region_of(self.site);
                        turn.shared.oracle.put_into_log(node, region, lease, place, is_followed);
                    }
                    self.pending.insert(record.index, batch);
                }
                turn.disk.store.append(records);
            }
            Output::Truncate { after } => {
                self.pending.retain(|index, _| *index <= after);
                turn.disk.store.truncate(after);
            }
            Output::Sync(ticket) => {
                let latency = turn.disk.latency;
                let takes = latency + turn.shared.dice.below(latency / 2 + 1);
                self.disk_free_at = self.disk_free_at.max(turn.shared.now) + takes;
                let synced = Happening::Synced {
                    node,
                    life: turn.shared.life(node),
                    log: LogOf::Group,
                    ticket,
                    written: turn.disk.store.written(),
                };
                turn.shared.queue.at(self.disk_free_at, synced);
            }
            Output::Applied { batch, waiters } => self.hold_or_answer(batch.header.last_sequence(), waiters, turn),
            Output::Committed(applied) => self.committed(applied, turn.shared),
            Output::Refused { commands, .. } => {
                let leader = self.replica.leader();
                for (_, call) in commands {
                    reply(call, Reply::NotHere(leader), turn.shared);
                }
            }
            Output::Unknown { commands } => {
                for (_, call) in commands {
                    reply(call, Reply::Unknown, turn.shared);
                }
            }
            Output::Send(message) => self.send(message, turn),
            Output::ReadFrom { ticket, sequence } => self.read_from(ticket, sequence, turn),
            Output::ReadFailed(ticket) => {
                self.reads.remove(&ticket);
            }
            Output::SnapshotWanted { .. } => self.snapshot_wanted = true,
            Output::Install { point, hard_state } => {
                let found = self.received.iter().find(|stored| stored.point == point).cloned();
                match found {
                    Some(stored) => self.end = Some(End::Install(stored, hard_state)),
                    None => {
                        let why = format!("there is no snapshot of {point:?} to install");
                        turn.shared.oracle.stopped(node, why);
                    }
                }
            }
            Output::Stop(reason) => {
                turn.shared.oracle.stopped(node, reason.to_string());
                self.end = Some(End::Failed);
            }
            Output::Accepting(_)
            | Output::Leader(_)
            | Output::Members(_)
            | Output::ChangeTaken(_)
            | Output::Repaired
            | Output::HandingOver { .. } => {}
        }
    }

    fn committed(&mut self, applied: Applied, shared: &mut Shared) {
        while let Some(entry) = self.pending.first_entry().filter(|entry| *entry.key() <= applied.index) {
            let batch = entry.remove();
            let (last, chain) = self.journal_end();
            if batch.first == last.next() {
                shared.archive(chain, &batch);
                self.journal.push(batch);
            }
        }
    }

    fn send(&mut self, message: replica::PeerMessage, turn: &mut Turn<'_>) {
        let (to, incarnation) = (message.to(), turn.disk.incarnation);
        let Some(point) = message.snapshot_point() else {
            return turn
                .shared
                .send(self.node, to, Packet::Group(incarnation, message.into()));
        };
        let stored = turn.disk.store.snapshots.iter().find(|stored| stored.point == point);
        let stored = stored.cloned();
        let arrived = stored.is_some();
        if let Some(stored) = stored {
            turn.shared
                .send(self.node, to, Packet::Snapshot(incarnation, message.into(), stored));
        }
        self.step(Input::SnapshotSent { to, arrived }, turn);
    }

    /// A snapshot from a peer, in front of the message that speaks of it.
    pub(super) fn received(&mut self, stored: Rc<MarketSnapshot>) {
        self.received.push(stored);
    }

    fn make_snapshot(&mut self, turn: &mut Turn<'_>) {
        let applier = self.replica.applier();
        let point = SnapshotPoint {
            applied: applier.applied(),
            membership: applier.membership().clone(),
        };
        self.snapshot_at = point.applied.index;
        let state = applier.machine().snapshot();
        let stored = Rc::new(MarketSnapshot {
            point: point.clone(),
            state,
        });
        turn.disk.store.keep_snapshot(stored, SNAPSHOTS_MAX);
        self.step(Input::SnapshotMade(point), turn);
    }

    /// Time passed.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        self.step(Input::Tick, turn);
        if self.replica.deadline().is_some_and(|deadline| deadline <= turn.now.utc) {
            self.proposes = Some(false);
            self.step(Input::Deadline, turn);
            self.proposes = None;
        }
        if self.replica.applier().applied().index.0 >= self.snapshot_at.0 + turn.shared.setup.snapshot_every {
            self.make_snapshot(turn);
        }
        self.take_in(turn);
        self.tell(RegionInput::Tick, turn);
        self.ask_to_follow(turn);
        self.look_after(turn);
        self.begin_gathering(turn);
    }

    /// Whoever leads takes in those of the life before.
    fn take_in(&mut self, turn: &mut Turn<'_>) {
        let now = turn.shared.now;
        if turn.disk.to_take_in.is_empty() || now < self.took_in_at + TAKE_IN_EVERY {
            return;
        }
        self.took_in_at = now;
        let members = self.replica.applier().membership().clone();
        let before = turn.disk.to_take_in.len();
        turn.disk.to_take_in.retain(|node| members.get(*node).is_none());
        for _ in turn.disk.to_take_in.len()..before {
            turn.shared.hit(Point::TakenIn);
        }
        let Some(node) = turn.disk.to_take_in.first().copied() else {
            return;
        };
        if self.replica.leads() {
            let add = MembershipChange::Add {
                node,
                address: format!("node-{node}:7414"),
                gateway: false,
            };
            self.step(Input::Change(add), turn);
        }
    }

    // ---- commands and answers ----------------------------------------------------------------------------------------

    /// A client's command.
    pub(super) fn called(&mut self, call: Call, command: Command, turn: &mut Turn<'_>) {
        let refuses = matches!(self.region.mode(), Mode::Unknown | Mode::Standby | Mode::Draining(_));
        if !self.replica.leads() || refuses || self.queue.len() >= HELD_MAX {
            if refuses {
                turn.shared.hit(Point::NotActiveHere);
            }
            let leader = self.replica.leader().filter(|leader| *leader != self.node);
            return reply(call, Reply::NotHere(leader), turn.shared);
        }
        self.queue.push_back((command, call));
        self.begin_gathering(turn);
    }

    fn begin_gathering(&mut self, turn: &mut Turn<'_>) {
        if self.gathers || self.queue.is_empty() {
            return;
        }
        self.gathers = true;
        let wait = turn.shared.dice.between(50, 400) * MICROSECOND;
        let (node, life) = (self.node, turn.shared.life(self.node));
        turn.shared.after(wait, Happening::Gather { node, life });
    }

    /// Makes a batch of what has come, if anything is taken now.
    pub(super) fn gather(&mut self, turn: &mut Turn<'_>) {
        self.gathers = false;
        let takes = matches!(self.region.mode(), Mode::Active(_)) && self.held_commands < HELD_MAX;
        if !self.replica.leads() {
            return self.refuse_queue(turn);
        }
        if !takes {
            // The next tick tries again.
            return;
        }
        let commands: Vec<_> = self.queue.drain(..self.queue.len().min(GATHERED_MAX)).collect();
        self.proposes = Some(false);
        self.step(Input::Commands(commands), turn);
        self.proposes = None;
        self.look_after(turn);
        self.begin_gathering(turn);
    }

    fn refuse_queue(&mut self, turn: &mut Turn<'_>) {
        for (_, call) in std::mem::take(&mut self.queue) {
            reply(call, Reply::NotHere(None), turn.shared);
        }
    }

    /// A batch was applied: its answers wait if this node leads an active region.
    fn hold_or_answer(&mut self, last: Sequence, waiters: Vec<Call>, turn: &mut Turn<'_>) {
        let shared = &mut *turn.shared;
        let first = last.0 + 1 - waiters.len() as u64;
        let answers: Vec<_> = (first..)
            .map(Sequence)
            .zip(waiters)
            .filter_map(|(sequence, call)| {
                let executed = self.executed.get(&sequence)?;
                let answer = Answer {
                    sequence,
                    account: executed.account,
                    request_id: executed.request_id,
                    outcome: executed.outcome,
                };
                Some((call, executed.epoch, answer))
            })
            .collect();
        if shared.is_mutated(RegionMutation::AnsweredWithoutLease) {
            return self.answer(answers, last, shared);
        }
        if self.replica.leads() && self.region.is_active() {
            self.held_commands += answers.len();
            return self.held.push_back(Held { last, answers });
        }
        if answers.is_empty() {
            return;
        }
        shared.hit(Point::NoLongerActive);
        if shared.is_mutated(RegionMutation::AnsweredWhenNotActive) {
            return self.answer(answers, last, shared);
        }
        for (call, ..) in answers {
            reply(call, Reply::Unknown, shared);
        }
    }

    fn answer(&mut self, answers: Vec<(Call, Epoch, Answer)>, last: Sequence, shared: &mut Shared) {
        let (node, in_both) = (self.node, last <= self.both_through);
        let waits = self.region.answers_wait();
        for (call, epoch, answer) in answers {
            let told = Told {
                node,
                epoch,
                answer,
                in_both,
            };
            shared.hit(match (in_both, shared.setup.sync && !waits) {
                (true, _) => Point::AnsweredBoth,
                (false, true) => Point::AnsweredDegraded,
                (false, false) => Point::AnsweredRegion,
            });
            shared.oracle.released(&told);
            if self.pause_in_check.is_some() {
                self.late.push((call, told));
            } else {
                shared.oracle.answered(told);
                reply(call, Reply::Answer(answer), shared);
            }
        }
    }

    /// Answers what may be answered by now.
    fn release(&mut self, turn: &mut Turn<'_>) {
        let Some(answerable) = self.region.answerable(turn.elapsed) else {
            if !self.replica.leads() {
                if !turn.shared.is_mutated(RegionMutation::FormerLeaderStreams) {
                    self.server.committed(None, Sequence(0));
                }
                self.let_go(turn.shared);
                self.refuse_queue(turn);
            }
            return;
        };
        let lease = self.region.lease().map(|lease| lease.epoch);
        if let Some(place) = self.told {
            self.server.committed(lease, place.applied.sequence);
        }
        self.stream(turn);
        self.both_through = answerable.both_through;
        while let Some(held) = self.held.pop_front_if(|held| held.last <= answerable.through) {
            self.held_commands -= held.answers.len();
            self.answer(held.answers, held.last, turn.shared);
        }
    }

    /// Whoever waits learns that it is not known here.
    fn let_go(&mut self, shared: &mut Shared) {
        self.held_commands = 0;
        for held in std::mem::take(&mut self.held) {
            for (call, ..) in held.answers {
                reply(call, Reply::Unknown, shared);
            }
        }
    }

    /// A read by a client.
    pub(super) fn read(&mut self, turn: &mut Turn<'_>) {
        let ticket = ReadTicket(self.next_read);
        self.next_read += 1;
        self.reads.insert(ticket, turn.shared.oracle.acknowledged());
        self.step(Input::Read(ticket), turn);
        self.look_after(turn);
    }

    fn read_from(&mut self, ticket: ReadTicket, sequence: Sequence, turn: &mut Turn<'_>) {
        let Some(acknowledged) = self.reads.remove(&ticket) else {
            return;
        };
        let mutated = turn.shared.is_mutated(RegionMutation::ReadsWithoutLease) && self.region.is_active();
        if !self.region.may_read(turn.elapsed) && !mutated {
            return turn.shared.hit(Point::ReadRefused);
        }
        turn.shared.hit(Point::Read);
        if turn.shared.setup.drift != super::plan::Drift::Beyond {
            turn.shared.oracle.read(self.node, acknowledged, sequence);
        }
    }

    // ---- the region --------------------------------------------------------------------------------------------------

    /// Tells the region something.
    pub(super) fn tell(&mut self, input: RegionInput, turn: &mut Turn<'_>) {
        turn.shared.hit(match &input {
            RegionInput::Tick => Point::InTick,
            RegionInput::Group(_) => Point::InGroup,
            RegionInput::Answer { .. } => Point::InAnswer,
            RegionInput::Followed { .. } => Point::InFollowed,
            RegionInput::LeaseMoved => Point::InLeaseMoved,
            RegionInput::SwitchOver => Point::InSwitchOver,
            RegionInput::Promote => Point::InPromote,
            RegionInput::Demote(true) => Point::InDemote,
            RegionInput::Demote(false) => Point::InNotDemoted,
        });
        if let RegionInput::Answer { done: Err(why), .. } = &input
            && let Some(point) = refusal_point(*why)
        {
            turn.shared.hit(point);
        }
        self.region.step(turn.elapsed, input, &mut self.outputs);
    }

    /// Puts batches of the active region into the log.
    pub(super) fn follow_batches(&mut self, batches: Vec<Bytes>, turn: &mut Turn<'_>) {
        self.proposes = Some(true);
        self.step(Input::Follow(batches), turn);
        self.proposes = None;
        self.look_at_group(turn);
        self.do_as_the_region_says(turn);
    }

    fn look_at_group(&mut self, turn: &mut Turn<'_>) {
        let applied = self.replica.applier().applied();
        let place = GroupPlace {
            leads: self.replica.leads(),
            settled: self.replica.is_settled(),
            applied: LogPlace {
                epoch: applied.epoch,
                sequence: applied.sequence,
                chain: applied.chain,
            },
            stamp: applied.sequenced_at,
        };
        if self.told != Some(place) {
            self.told = Some(place);
            self.tell(RegionInput::Group(place), turn);
        }
    }

    /// What is to be done after each turn.
    pub(super) fn look_after(&mut self, turn: &mut Turn<'_>) {
        self.look_at_group(turn);
        self.do_as_the_region_says(turn);
        self.release(turn);
        self.feed(turn);
        self.tell_followed(turn);
    }

    pub(super) fn do_as_the_region_says(&mut self, turn: &mut Turn<'_>) {
        while !self.outputs.is_empty() && self.end.is_none() {
            for output in std::mem::take(&mut self.outputs) {
                self.do_one(output, turn);
            }
            self.look_at_group(turn);
        }
    }

    fn do_one(&mut self, output: RegionOutput, turn: &mut Turn<'_>) {
        let node = self.node;
        turn.shared.hit(output_point(&output));
        match output {
            RegionOutput::Ask { to, id, command } => {
                turn.shared
                    .send(node, to, Packet::Site(SiteMessage::LeaseAsk { id, command }));
            }
            RegionOutput::TellMoved(epoch) => {
                for other in nodes_of(self.site.other(), turn.shared) {
                    let message = SiteMessage::LeaseMoved { epoch };
                    turn.shared.send(node, other, Packet::Site(message));
                }
            }
            RegionOutput::Operated(result) => {
                turn.shared.say(|| format!("node {node}: operated {result:?}"));
            }
            RegionOutput::Mode(mode) => self.mode_changed(mode, turn),
            RegionOutput::BeginAnew {
                incarnation,
                founder,
                kept,
            } => {
                turn.shared
                    .say(|| format!("node {node} begins life {incarnation} with founder {founder}, kept {kept}"));
                self.list_void(turn);
                self.end = Some(End::BeginAnew {
                    incarnation,
                    founder,
                    kept,
                });
            }
        }
    }

    /// What `meridian reconcile` would list: of each batch of this life's journal, whether it holds by the lease's history.
    fn list_void(&mut self, turn: &mut Turn<'_>) {
        let Some(lease) = self.region.lease() else { return };
        let mut is_any = false;
        for batch in turn.disk.store.all_batches() {
            for sequence in (batch.first.0..=batch.last.0).map(Sequence) {
                if lease.kept(batch.epoch, sequence) < sequence {
                    is_any = true;
                    if !turn.shared.is_mutated(RegionMutation::EvidenceNotKept) {
                        turn.shared.oracle.list_void(batch.epoch, sequence);
                    }
                }
            }
        }
        if is_any {
            turn.shared.hit(Point::Evidence);
        }
    }

    fn mode_changed(&mut self, mode: Mode, turn: &mut Turn<'_>) {
        let (node, leads) = (self.node, self.replica.leads());
        let epoch = self.region.lease().map(|lease| lease.epoch);
        turn.shared
            .say(|| format!("node {node} (leads: {leads}): {mode:?}, in {epoch:?}"));
        turn.shared.hit(match mode {
            Mode::Unknown | Mode::Standby => Point::Standby,
            Mode::Beginning => Point::Beginning,
            Mode::Active(_) => Point::Active,
            Mode::Draining(_) => Point::Draining,
            Mode::Fenced(_) => Point::Fenced,
        });
        let was_fenced = std::mem::replace(&mut self.is_fenced, matches!(mode, Mode::Fenced(_)));
        if was_fenced && matches!(mode, Mode::Active(_)) {
            turn.shared.hit(Point::FromFenced);
        }
        if let (Mode::Active(_), Some(lease)) = (mode, self.region.lease()) {
            self.both_through = self.both_through.max(lease.began_after().unwrap_or_default());
        }
        if !matches!(mode, Mode::Standby) {
            self.follow = Follow::default();
        }
        if !self.region.is_active() {
            self.server.committed(None, Sequence(0));
            self.let_go(turn.shared);
            self.refuse_queue(turn);
        }
        self.step(Input::Sequence(mode.sequences()), turn);
    }

    // ---- looked at from outside --------------------------------------------------------------------------------------

    /// True if any of its nodes' clocks says that its region is active for certain.
    pub(super) fn believes(&self, elapsed: Elapsed) -> bool {
        self.region.may_read(elapsed)
    }

    /// Where it stands, by what is the same in both regions.
    pub(super) fn standing(&self) -> Standing {
        let applier = self.replica.applier();
        Standing {
            node: self.node,
            applied: Applied {
                index: LogIndex(0),
                term: wire::journal::Term(0),
                ..applier.applied()
            },
            state_hash: applier.machine().state_hash(),
            recomputed: applier.machine().recompute_state_hash(),
        }
    }

    pub(super) fn market(&self) -> &Market {
        self.replica.applier().machine()
    }

    /// Where the journal ends, with the chain.
    fn journal_end(&self) -> (Sequence, Chain) {
        let begin = (self.journal_begin.sequence, self.journal_begin.chain);
        self.journal.last().map_or(begin, |batch| (batch.last, batch.chain))
    }
}

/// A founder's new store: its newest snapshot at or before what is kept; without one, the state that everything begins with.
pub(super) fn founders_store(
    store: &Store<engine::Snapshot>,
    node: NodeId,
    kept: Sequence,
    whatever: bool,
) -> Store<engine::Snapshot> {
    let holds = |stored: &&Rc<MarketSnapshot>| whatever || stored.point.applied.sequence <= kept;
    let newest = store.snapshots.iter().rev().find(holds);
    let first = genesis(vec![node]);
    let stored = newest.map_or(first, |stored| {
        Rc::new(MarketSnapshot {
            point: SnapshotPoint {
                applied: stored.point.applied,
                membership: Membership::of_voters([node]),
            },
            state: stored.state.clone(),
        })
    });
    let hard_state = HardState {
        term: stored.point.applied.term,
        vote: NodeId(0),
    };
    Store::behind(stored, hard_state)
}

/// Tells a client.
pub(super) fn reply(call: Call, reply: Reply, shared: &mut Shared) {
    shared.after(ANSWER_TAKES, Happening::Replied { call, reply });
}

fn refusal_point(why: LeaseRefusal) -> Option<Point> {
    Some(match why {
        LeaseRefusal::Founded => Point::Founded,
        LeaseRefusal::NotActive => Point::NotActive,
        LeaseRefusal::IsActive => Point::IsActive,
        LeaseRefusal::Renewed => Point::Renewed,
        LeaseRefusal::Held { .. } => Point::Held,
        LeaseRefusal::Lags { .. } => Point::Lags,
        LeaseRefusal::Degraded => Point::RefusedDegraded,
        LeaseRefusal::OtherLife => Point::OtherLife,
        LeaseRefusal::NotLeader { .. } => Point::NotLeader,
        // A region whose log is void does not ask, the first beginning is fixed before another is told, lengths are those of
        // the settings, and little is asked.
        LeaseRefusal::Forked { .. } | LeaseRefusal::Began | LeaseRefusal::LeaseLength | LeaseRefusal::Busy => {
            return None;
        }
    })
}

fn output_point(output: &RegionOutput) -> Point {
    use wire::site::LeaseCommand as Asks;
    match output {
        RegionOutput::Ask { command, .. } => match command {
            None | Some(Asks::Clock) => Point::OutLook,
            Some(Asks::Found { .. }) => Point::OutFound,
            Some(Asks::Renew(renewal)) if renewal.change.is_some() => Point::OutChange,
            Some(Asks::Renew(_)) => Point::OutRenew,
            Some(Asks::Promote { .. }) => Point::OutPromote,
            Some(Asks::HandOver { .. }) => Point::OutHandOver,
            Some(Asks::BeginLife { .. }) => Point::OutBeginLife,
        },
        RegionOutput::Mode(_) => Point::OutMode,
        RegionOutput::TellMoved(_) => Point::OutTellMoved,
        RegionOutput::BeginAnew { .. } => Point::OutBeginAnew,
        RegionOutput::Operated(Ok(_)) => Point::OutOperated,
        RegionOutput::Operated(Err(_)) => Point::OutNotOperated,
    }
}
