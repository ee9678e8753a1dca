//! A voter of the lease group: the replica of production over the lease's state machine, with the guard's clock. It does what
//! `node`'s voter does, on a virtual disk.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use replica::lease::{Elapsed, LeaseEvent, LeaseGuard, LeaseMachine, check};
use replica::{Applier, Input, Now, Output, PeerMessage, Refusal, Replica, Settings, SnapshotPoint};
use types::{Epoch, GroupId, Incarnation, RegionId, StateMachine};
use wire::journal::{Identity, NodeId};
use wire::membership::Membership;
use wire::peer::RaftMessage;
use wire::site::{Durability, LEASE_GROUP, LeaseCommand, LeaseRefusal, LeaseState, LeaseView, PromotedBy, SiteMessage};

use super::coverage::Point;
use super::mutation::RegionMutation;
use super::network::WITNESS;
use super::shared::{Happening, LogOf, Packet, Shared};
use super::store::{Store, Stored};
use crate::events::{MILLISECOND, Time};

/// The voters: a node of each region and the witness.
pub(super) const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(4), WITNESS];
const ELECTION_TICKS: usize = 20;
const ELECTION_TICKS_APART: usize = 5;
const HAND_OVER_EVERY_NS: u64 = 10_000_000_000;
const RENEWED_WITHIN_NS: u64 = 500_000_000;
/// Records behind which a start makes the store anew.
const COMPACT_FROM: usize = 150;

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) elapsed: Elapsed,
    pub(super) now: Now,
}

/// Who asked, and what it calls the question.
type Waiter = (NodeId, u64);
type Out = Output<LeaseCommand, LeaseEvent, Waiter>;

/// What a voter has on its disk.
pub(super) type LeaseStore = Store<LeaseState>;

/// A voter's process.
pub(super) struct Voter {
    node: NodeId,
    replica: Replica<LeaseMachine, Waiter>,
    guard: LeaseGuard,
    given: Option<(SnapshotPoint, LeaseState)>,
    arrived: Option<(SnapshotPoint, LeaseState)>,
    handed_over_at: Option<Elapsed>,
    disk_free_at: Time,
    /// What takes the place of everything: it begins again from there.
    pub(super) installs: bool,
    is_over: bool,
}

fn identity(node: NodeId) -> Identity {
    Identity {
        cluster: "simulated".parse().expect("it is an id"),
        group: LEASE_GROUP,
        incarnation: Incarnation(1),
        node,
    }
}

fn election_ticks(node: NodeId) -> usize {
    let place = match node {
        WITNESS => 0,
        NodeId(1) => 1,
        _ => 2,
    };
    ELECTION_TICKS + place * ELECTION_TICKS_APART
}

impl Voter {
    /// Goes on from what is on its disk.
    pub(super) fn start(node: NodeId, store: &mut LeaseStore, shared: &mut Shared) -> Option<Self> {
        if shared.is_mutated(RegionMutation::VoterForgets) && store.written() > 30 && shared.dice.one_in(2) {
            *store = LeaseStore::empty();
        }
        let found = store.open();
        let point = match &found.snapshot {
            Some(stored) => stored.point.clone(),
            None => SnapshotPoint {
                applied: replica::Applied::default(),
                membership: Membership::of_voters(VOTERS),
            },
        };
        let state = found.snapshot.as_ref().map(|stored| stored.state.clone());
        let machine = LeaseMachine::restore(state.unwrap_or_default()).expect("it was a state");
        let mut applier = Applier::new(
            &identity(node),
            machine,
            point.applied,
            point.membership,
            BTreeSet::new(),
        );
        let mut suffix = VecDeque::from(found.entries);
        while let Some(entry) = suffix.front().filter(|entry| entry.index <= found.committed) {
            if let Err(reason) = applier.apply(entry) {
                shared
                    .oracle
                    .stopped(node, format!("the lease voter's own log: {reason}"));
                return None;
            }
            suffix.pop_front();
        }
        if store.written() > COMPACT_FROM && !suffix.is_empty() && applier.applied().index > point.applied.index {
            let kept = Rc::new(Stored {
                point: SnapshotPoint {
                    applied: applier.applied(),
                    membership: applier.membership().clone(),
                },
                state: applier.machine().state().clone(),
            });
            store.compact(kept, found.hard_state);
        }
        let settings = Settings {
            identity: identity(node),
            epoch: Some(Epoch(1)),
            repairing: false,
            election_ticks: election_ticks(node),
        };
        match Replica::new(&settings, applier, found.hard_state, suffix.into()) {
            Ok(replica) => Some(Self {
                node,
                replica,
                guard: LeaseGuard::default(),
                given: None,
                arrived: None,
                handed_over_at: None,
                disk_free_at: shared.now,
                installs: false,
                is_over: false,
            }),
            Err(reason) => {
                shared
                    .oracle
                    .stopped(node, format!("the lease voter can't start: {reason}"));
                None
            }
        }
    }

    /// How the lease is, as far as it has applied.
    pub(super) fn state(&self) -> &LeaseState {
        self.replica.applier().machine().state()
    }

    pub(super) fn leads(&self) -> bool {
        self.replica.leads()
    }

    pub(super) fn tick(&mut self, moment: Moment, store: &mut LeaseStore, shared: &mut Shared) {
        self.step(moment, Input::Tick, store, shared);
        self.prefer_witness(moment, store, shared);
    }

    /// What another voter says.
    pub(super) fn heard(&mut self, moment: Moment, message: RaftMessage, store: &mut LeaseStore, shared: &mut Shared) {
        match PeerMessage::try_from(message) {
            Ok(message) => self.step(moment, Input::Message(message), store, shared),
            Err(error) => shared.oracle.stopped(self.node, error.to_string()),
        }
    }

    /// The same with the state that it speaks of.
    pub(super) fn given(
        &mut self,
        moment: Moment,
        message: RaftMessage,
        given: (SnapshotPoint, LeaseState),
        store: &mut LeaseStore,
        shared: &mut Shared,
    ) {
        self.arrived = Some(given);
        self.heard(moment, message, store, shared);
    }

    /// Somebody asks for the lease, or to do something first.
    pub(super) fn asked(
        &mut self,
        moment: Moment,
        waiter: Waiter,
        command: Option<LeaseCommand>,
        store: &mut LeaseStore,
        shared: &mut Shared,
    ) {
        let done = match command {
            None => Ok(()),
            Some(command) => match self.may_propose(moment, &command, shared) {
                Ok(()) => return self.step(moment, Input::Commands(vec![(command, waiter)]), store, shared),
                Err(why) => Err(why),
            },
        };
        self.answer(moment, waiter, done, shared);
    }

    fn may_propose(&self, moment: Moment, command: &LeaseCommand, shared: &Shared) -> Result<(), LeaseRefusal> {
        self.replica.accepting().map_err(|why| self.refusal(why))?;
        let waits = !shared.is_mutated(RegionMutation::PromotedBeforeTheLapse);
        if matches!(command, LeaseCommand::Promote { .. }) && waits {
            let remaining_ns = self.remaining_ns(moment.elapsed, shared);
            let remaining_ns = remaining_ns.ok_or_else(|| self.refusal(Refusal::NotLeader))?;
            if remaining_ns > 0 {
                return Err(LeaseRefusal::Held { remaining_ns });
            }
        }
        check(self.state(), command)
    }

    fn refusal(&self, why: Refusal) -> LeaseRefusal {
        match why {
            Refusal::Busy | Refusal::TooLarge => LeaseRefusal::Busy,
            _ => LeaseRefusal::NotLeader {
                leader: self.replica.leader().filter(|leader| *leader != self.node),
            },
        }
    }

    fn remaining_ns(&self, now: Elapsed, shared: &Shared) -> Option<u64> {
        self.guard
            .remaining_ns(now, self.state().lease_ns, shared.setup.drift_ppm)
    }

    fn answer(&self, moment: Moment, (to, id): Waiter, done: Result<(), LeaseRefusal>, shared: &mut Shared) {
        let leads = self.replica.leads() && !self.is_over;
        let remaining_ns = self.remaining_ns(moment.elapsed, shared).filter(|_| leads);
        let view = LeaseView {
            state: self.state().clone(),
            leader: self.replica.leader(),
            leads,
            remaining_ns: remaining_ns.unwrap_or(0),
        };
        let answer = SiteMessage::LeaseAnswer { id, done, view };
        shared.send(self.node, to, Packet::Site(answer));
    }

    pub(super) fn step(
        &mut self,
        moment: Moment,
        input: Input<LeaseCommand, Waiter>,
        store: &mut LeaseStore,
        shared: &mut Shared,
    ) {
        if self.is_over {
            return;
        }
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut outputs = Vec::new();
            self.replica.step(moment.now, input, &mut outputs);
            for output in outputs {
                self.perform(moment, output, &mut inputs, store, shared);
            }
        }
        self.guard.leads(moment.elapsed, self.replica.leads());
    }

    fn perform(
        &mut self,
        moment: Moment,
        output: Out,
        inputs: &mut VecDeque<Input<LeaseCommand, Waiter>>,
        store: &mut LeaseStore,
        shared: &mut Shared,
    ) {
        match output {
            Output::Append(records) => store.append(records),
            Output::Truncate { after } => store.truncate(after),
            Output::Sync(ticket) => {
                let takes = shared.dice.between(200, 900) * 1_000;
                self.disk_free_at = self.disk_free_at.max(shared.now) + takes;
                let synced = Happening::Synced {
                    node: self.node,
                    life: shared.life(self.node),
                    log: LogOf::Lease,
                    ticket,
                    written: store.written(),
                };
                shared.queue.at(self.disk_free_at, synced);
            }
            Output::Applied { batch, waiters } => self.applied(moment, &batch.events, waiters, shared),
            Output::Committed(applied) => self.tell_oracle(applied.index, shared),
            Output::Refused { commands, why } => {
                for (_, waiter) in commands {
                    self.answer(moment, waiter, Err(self.refusal(why)), shared);
                }
            }
            Output::Send(message) => self.send(message, inputs, shared),
            Output::SnapshotWanted { .. } => {
                let applier = self.replica.applier();
                let point = SnapshotPoint {
                    applied: applier.applied(),
                    membership: applier.membership().clone(),
                };
                self.given = Some((point.clone(), self.state().clone()));
                inputs.push_back(Input::SnapshotMade(point));
            }
            Output::Install { point, hard_state } => {
                self.is_over = true;
                let Some((_, state)) = self.arrived.take().filter(|(arrived, _)| *arrived == point) else {
                    return shared
                        .oracle
                        .stopped(self.node, "the lease's snapshot did not come".into());
                };
                shared.hit(Point::LeaseSnapshot);
                *store = Store::behind(Rc::new(Stored { point, state }), hard_state);
                self.installs = true;
            }
            Output::Stop(reason) => shared.oracle.stopped(self.node, reason.to_string()),
            _ => {}
        }
    }

    fn applied(&mut self, moment: Moment, events: &[LeaseEvent], waiters: Vec<Waiter>, shared: &mut Shared) {
        if events.iter().any(|event| event.renews) {
            self.guard.renewed(moment.elapsed);
        }
        for (event, waiter) in events.iter().zip(waiters) {
            if let Err(why) = event.done {
                shared.say(|| format!("the lease group refuses {} what it asked: {why:?}", waiter.0));
            }
            self.answer(moment, waiter, event.done, shared);
        }
    }

    /// What is committed anywhere is agreed on everywhere. Several entries of one step are told as one.
    fn tell_oracle(&mut self, index: wire::journal::LogIndex, shared: &mut Shared) {
        let state = self.state().clone();
        let was = shared.oracle.lease().map(|lease| (lease.epoch, lease.durability));
        let before = shared.oracle.lease_applied(index, &state);
        let is_new = shared.oracle.lease().map(|lease| (lease.epoch, lease.durability)) != was;
        if is_new && was.is_some_and(|(epoch, durability)| epoch == state.epoch && durability != state.durability) {
            shared.hit(match state.durability {
                Durability::Both => Point::ToBoth,
                Durability::Degraded | Durability::Region => Point::ToDegraded,
            });
        }
        let Some(before) = before else { return };
        let Some(start) = state.epochs.last() else { return };
        shared.say(|| {
            format!(
                "the lease: region {} is active in epoch {}, {}",
                start.region, start.epoch, start.by
            )
        });
        match start.by {
            PromotedBy::Lapse => shared.hit(Point::ByLapse),
            PromotedBy::Operator => shared.hit(Point::ByOperator),
            PromotedBy::SwitchOver => shared.hit(Point::BySwitchOver),
            PromotedBy::Founding => {}
        }
        let was_lost = |region: RegionId| state.lives.contains_key(&region);
        if was_lost(start.region) {
            shared.hit(Point::DoubleFailover);
        }
        if matches!(start.by, PromotedBy::Lapse | PromotedBy::Operator) {
            shared.superseded = before.active;
        }
    }

    fn send(&self, message: PeerMessage, inputs: &mut VecDeque<Input<LeaseCommand, Waiter>>, shared: &mut Shared) {
        let to = message.to();
        let Some(point) = message.snapshot_point() else {
            return shared.send(self.node, to, Packet::Lease(message.into()));
        };
        let given = self.given.as_ref().filter(|(given, _)| *given == point).cloned();
        let arrived = given.is_some();
        if let Some((point, state)) = given {
            shared.send(self.node, to, Packet::LeaseSnapshot(message.into(), point, state));
        }
        inputs.push_back(Input::SnapshotSent { to, arrived });
    }

    fn prefer_witness(&mut self, moment: Moment, store: &mut LeaseStore, shared: &mut Shared) {
        if self.node == WITNESS || !self.replica.leads() || !self.replica.is_settled() {
            return;
        }
        let now = moment.elapsed;
        if self.handed_over_at.is_some_and(|at| now.since(at) < HAND_OVER_EVERY_NS) {
            return;
        }
        let whole = LeaseGuard::whole_ns(self.state().lease_ns, shared.setup.drift_ppm);
        let since_ns = whole.saturating_sub(self.remaining_ns(now, shared).unwrap_or(0));
        if self.state().active.is_some() && since_ns > RENEWED_WITHIN_NS {
            return;
        }
        let last = self.replica.last_index();
        let mut peers = self.replica.peers().into_iter();
        if peers.any(|(peer, matched, heard)| peer == WITNESS && heard && matched == last) {
            self.handed_over_at = Some(now);
            let to = Some(WITNESS);
            self.step(moment, Input::TransferLeadership { to }, store, shared);
        }
    }
}

/// The group of a region's exchange.
pub(super) fn group_identity(node: NodeId, incarnation: Incarnation) -> Identity {
    Identity {
        cluster: "simulated".parse().expect("it is an id"),
        group: GroupId(0),
        incarnation,
        node,
    }
}

/// Between two ticks of a consensus clock.
pub(super) const TICK: Time = 50 * MILLISECOND;
