//! What a voter of the lease group does with what comes: no thread, no disk, no clock, so that a test steps it by hand.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use replica::lease::{Elapsed, LeaseEvent, LeaseGuard, LeaseMachine, check};
use replica::{
    Applier, HandOver, Input, Now, Output, PeerMessage, Record, Refusal, Replica, Settings, SnapshotPoint, StopReason,
    Ticket,
};
use types::{EngineVersion, Epoch, StateMachine as _};
use wire::journal::{Identity, LogIndex, NodeId};
use wire::peer::{Frame, RaftMessage, decode_frame};
use wire::site::{LeaseCommand, LeaseRefusal, LeaseState, LeaseView, SiteMessage};

use super::super::store::Kept;
use super::TICK;

/// The epoch of the lease group's own batches: it has one life.
const EPOCH: Epoch = Epoch(1);
/// Ticks without a leader until the witness stands for election: a second.
const ELECTION_TICKS: usize = 20;
/// How many more the next voter waits. Two round trips over a wide area (a vote is asked for in advance, then held) and two
/// syncs go into them, so that votes don't split.
const ELECTION_TICKS_APART: usize = 5;
/// Between two attempts to hand leadership to the witness, in nanoseconds.
const HAND_OVER_EVERY_NS: u64 = 10_000_000_000;
/// Leadership is handed over at most this long after a renewal, in nanoseconds: whoever leads next begins to wait for a
/// lapse anew, so that while nobody renews it stays where it is.
const RENEWED_WITHIN_NS: u64 = 500_000_000;

const _: () = assert!(ELECTION_TICKS as u128 * TICK.as_millis() == 1_000);
const _: () = assert!(ELECTION_TICKS_APART as u128 * TICK.as_millis() > 220);

/// Now, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) elapsed: Elapsed,
    pub(super) now: Now,
}

/// Who asked, and what it calls the question.
type Waiter = (NodeId, u64);

/// Something for the thread to do, in this order.
#[derive(Debug)]
pub(super) enum Action {
    Append(Vec<Record>),
    Truncate(LogIndex),
    Sync(Ticket),
    /// What the voter lost it has again: the store is to say so.
    Repaired,
    /// Make this durable in the place of everything, then begin again from it.
    Install(Box<Kept>),
    Send(NodeId, SiteMessage),
    SendRaft(NodeId, RaftMessage),
    Stop(StopReason),
}

/// A voter of the lease group.
pub(super) struct Seat {
    identity: Identity,
    witness: NodeId,
    drift_ppm: u32,
    settings: Settings,
    replica: Replica<LeaseMachine, Waiter>,
    guard: LeaseGuard,
    /// The state as of the last entry that was applied.
    state: Arc<LeaseState>,
    /// What a peer that lacks too much is given.
    given: Option<(SnapshotPoint, Arc<LeaseState>)>,
    /// What came with the last message of that kind.
    arrived: Option<(SnapshotPoint, LeaseState)>,
    handed_over_at: Option<Elapsed>,
    is_over: bool,
}

/// For how long each waits for a leader: the witness the shortest, then the others by their ids.
pub(super) fn election_ticks(own: NodeId, witness: NodeId, voters: &[NodeId]) -> usize {
    let place = if own == witness {
        0
    } else {
        let others = voters.iter().filter(|voter| **voter != witness && **voter < own);
        1 + others.count()
    };
    ELECTION_TICKS + place * ELECTION_TICKS_APART
}

impl Seat {
    /// Goes on from what was kept.
    pub(super) fn new(
        identity: Identity,
        voters: &[NodeId],
        witness: NodeId,
        drift_ppm: u32,
        kept: Kept,
    ) -> Result<Self, StopReason> {
        let settings = Settings {
            identity,
            epoch: Some(EPOCH),
            repairing: kept.repairing,
            election_ticks: election_ticks(identity.node, witness, voters),
        };
        let replica = replica_of(&settings, kept)?;
        let state = Arc::new(replica.applier().machine().state().clone());
        Ok(Self {
            identity,
            witness,
            drift_ppm,
            settings,
            replica,
            guard: LeaseGuard::default(),
            state,
            given: None,
            arrived: None,
            handed_over_at: None,
            is_over: false,
        })
    }

    /// Time passed.
    pub(super) fn tick(&mut self, moment: Moment, actions: &mut Vec<Action>) {
        self.step(moment, Input::Tick, actions);
        self.prefer_witness(moment, actions);
    }

    /// Everything up to this sync is on disk.
    pub(super) fn persisted(&mut self, moment: Moment, ticket: Ticket, actions: &mut Vec<Action>) {
        self.step(moment, Input::Persisted(ticket), actions);
    }

    /// Nothing gets through to a peer.
    pub(super) fn unreachable(&mut self, moment: Moment, peer: NodeId, actions: &mut Vec<Action>) {
        self.step(moment, Input::Unreachable(peer), actions);
    }

    /// Somebody else is to lead.
    pub(super) fn leave(&mut self, moment: Moment, actions: &mut Vec<Action>) {
        self.step(moment, Input::TransferLeadership { to: None }, actions);
    }

    /// Consensus's own message. One with a snapshot comes with its state, or is passed over.
    pub(super) fn raft(&mut self, moment: Moment, from: NodeId, message: RaftMessage, actions: &mut Vec<Action>) {
        if message.snapshot.is_none() {
            self.hear(moment, from, message, actions);
        }
    }

    fn hear(&mut self, moment: Moment, from: NodeId, message: RaftMessage, actions: &mut Vec<Action>) {
        let is_voter = self.replica.applier().membership().get(from).is_some();
        if !is_voter || message.from != from || message.to != self.identity.node {
            return;
        }
        match PeerMessage::try_from(message) {
            Ok(message) => self.step(moment, Input::Message(message), actions),
            Err(error) => tracing::debug!(%from, "passed over by the lease voter: {error}"),
        }
    }

    /// What another site says.
    pub(super) fn message(&mut self, moment: Moment, from: NodeId, message: SiteMessage, actions: &mut Vec<Action>) {
        match message {
            SiteMessage::LeaseAsk { id, command } => self.asked(moment, (from, id), command, actions),
            SiteMessage::LeaseSnapshot { frame, state } => {
                let Some(message) = raft_message(frame) else {
                    return tracing::debug!(%from, "a snapshot of the lease has no message with it");
                };
                let point = PeerMessage::try_from(message.clone());
                let point = point.ok().and_then(|message| message.snapshot_point());
                if let Some(point) = point {
                    self.arrived = Some((point, state));
                    self.hear(moment, from, message, actions);
                }
            }
            // For others.
            _ => {}
        }
    }

    fn asked(&mut self, moment: Moment, waiter: Waiter, command: Option<LeaseCommand>, actions: &mut Vec<Action>) {
        let done = match command {
            None => Ok(()),
            Some(command) => match self.may_propose(moment, &command) {
                Ok(()) => return self.step(moment, Input::Commands(vec![(command, waiter)]), actions),
                Err(why) => Err(why),
            },
        };
        self.answer(moment, waiter, done, actions);
    }

    /// Whether a command is worth an entry, and a promotion safe: its state machine refuses what is not, but knows no time.
    fn may_propose(&self, moment: Moment, command: &LeaseCommand) -> Result<(), LeaseRefusal> {
        self.replica.accepting().map_err(|why| self.refusal(why))?;
        if matches!(command, LeaseCommand::Promote { .. }) {
            let remaining_ns = self.remaining_ns(moment.elapsed);
            let remaining_ns = remaining_ns.ok_or_else(|| self.refusal(Refusal::NotLeader))?;
            if remaining_ns > 0 {
                return Err(LeaseRefusal::Held { remaining_ns });
            }
        }
        check(&self.state, command)
    }

    fn refusal(&self, why: Refusal) -> LeaseRefusal {
        match why {
            Refusal::Busy | Refusal::TooLarge => LeaseRefusal::Busy,
            Refusal::NotLeader | Refusal::NotActive | Refusal::ClockUnsure | Refusal::Stopping => {
                let own = self.identity.node;
                let leader = self.replica.leader().filter(|leader| *leader != own);
                LeaseRefusal::NotLeader { leader }
            }
        }
    }

    fn answer(&self, moment: Moment, (to, id): Waiter, done: Result<(), LeaseRefusal>, actions: &mut Vec<Action>) {
        let view = self.view(moment.elapsed);
        actions.push(Action::Send(to, SiteMessage::LeaseAnswer { id, done, view }));
    }

    fn remaining_ns(&self, now: Elapsed) -> Option<u64> {
        self.guard.remaining_ns(now, self.state.lease_ns, self.drift_ppm)
    }

    fn step(&mut self, moment: Moment, input: Input<LeaseCommand, Waiter>, actions: &mut Vec<Action>) {
        if self.is_over {
            return;
        }
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut outputs = Vec::new();
            self.replica.step(moment.now, input, &mut outputs);
            for output in outputs {
                self.perform(moment, output, &mut inputs, actions);
            }
        }
        // Later than the election itself, which is on the safe side.
        self.guard.leads(moment.elapsed, self.replica.leads());
    }

    fn perform(
        &mut self,
        moment: Moment,
        output: Output<LeaseCommand, LeaseEvent, Waiter>,
        inputs: &mut VecDeque<Input<LeaseCommand, Waiter>>,
        actions: &mut Vec<Action>,
    ) {
        match output {
            Output::Append(records) => actions.push(Action::Append(records)),
            Output::Truncate { after } => actions.push(Action::Truncate(after)),
            Output::Sync(ticket) => actions.push(Action::Sync(ticket)),
            Output::Applied { batch, waiters } => self.applied(moment, &batch.events, waiters, actions),
            Output::Refused { commands, why } => {
                for (_, waiter) in commands {
                    self.answer(moment, waiter, Err(self.refusal(why)), actions);
                }
            }
            Output::Send(message) => self.send(message, inputs, actions),
            Output::SnapshotWanted { .. } => {
                let applier = self.replica.applier();
                let point = SnapshotPoint {
                    applied: applier.applied(),
                    membership: applier.membership().clone(),
                };
                self.given = Some((point.clone(), Arc::new(applier.machine().state().clone())));
                inputs.push_back(Input::SnapshotMade(point));
            }
            Output::Install { point, hard_state } => self.install(point, hard_state, actions),
            Output::Repaired => {
                self.settings.repairing = false;
                actions.push(Action::Repaired);
            }
            Output::Leader(leader) => tracing::info!(?leader, "the lease group's leader"),
            Output::HandingOver {
                to,
                why: HandOver::Asked,
            } => {
                tracing::debug!(%to, "leadership of the lease group is being handed over");
            }
            Output::HandingOver { to, why } => {
                tracing::warn!(%to, "leadership of the lease group is being handed over: {why}");
            }
            Output::Stop(reason) => {
                self.is_over = true;
                actions.push(Action::Stop(reason));
            }
            // Whoever asked for what nobody knows asks again.
            Output::Unknown { .. }
            | Output::Committed(_)
            | Output::Accepting(_)
            | Output::Members(_)
            | Output::ChangeTaken(_)
            | Output::ReadFrom { .. }
            | Output::ReadFailed(_) => {}
        }
    }

    fn applied(&mut self, moment: Moment, events: &[LeaseEvent], waiters: Vec<Waiter>, actions: &mut Vec<Action>) {
        let before = (self.state.active, self.state.epoch);
        self.state = Arc::new(self.replica.applier().machine().state().clone());
        if before != (self.state.active, self.state.epoch) {
            let by = self.state.epochs.last().map(|start| start.by.to_string());
            let (active, epoch) = (self.state.active, self.state.epoch);
            tracing::info!(?active, %epoch, by, "another epoch began");
        }
        if events.iter().any(|event| event.renews) {
            self.guard.renewed(moment.elapsed);
        }
        for (event, waiter) in events.iter().zip(waiters) {
            self.answer(moment, waiter, event.done, actions);
        }
    }

    fn send(
        &self,
        message: PeerMessage,
        inputs: &mut VecDeque<Input<LeaseCommand, Waiter>>,
        actions: &mut Vec<Action>,
    ) {
        let to = message.to();
        let Some(point) = message.snapshot_point() else {
            return actions.push(Action::SendRaft(to, message.into()));
        };
        let given = self.given.as_ref().filter(|(given, _)| *given == point);
        let mut frame = Vec::new();
        let encoded = Frame::Raft(message.into()).encode(&mut frame);
        let arrived = match (given, encoded) {
            (Some((_, state)), Ok(())) => {
                let state = LeaseState::clone(state);
                actions.push(Action::Send(to, SiteMessage::LeaseSnapshot { frame, state }));
                true
            }
            _ => false,
        };
        // It is small and goes the way of everything else: if it gets lost, the peer's next answer asks for it again.
        inputs.push_back(Input::SnapshotSent { to, arrived });
    }

    fn install(&mut self, point: SnapshotPoint, hard_state: replica::HardState, actions: &mut Vec<Action>) {
        self.is_over = true;
        let Some((_, state)) = self.arrived.take().filter(|(arrived, _)| *arrived == point) else {
            let what = "a snapshot is to be installed that did not come".to_owned();
            return actions.push(Action::Stop(StopReason::Consensus(what)));
        };
        actions.push(Action::Install(Box::new(Kept {
            committed: point.applied.index,
            point,
            state,
            hard_state,
            suffix: Vec::new(),
            repairing: self.settings.repairing,
        })));
    }

    /// Begins again from what was installed and is durable.
    pub(super) fn installed(&mut self, kept: Kept) -> Result<(), StopReason> {
        self.replica = replica_of(&self.settings, kept)?;
        self.state = Arc::new(self.replica.applier().machine().state().clone());
        self.guard = LeaseGuard::default();
        self.given = None;
        self.is_over = false;
        Ok(())
    }

    /// Hands leadership to the witness, which stands apart from both regions and so is the last to be lost with one.
    fn prefer_witness(&mut self, moment: Moment, actions: &mut Vec<Action>) {
        if self.identity.node == self.witness || !self.replica.leads() || !self.replica.is_settled() {
            return;
        }
        let now = moment.elapsed;
        if self.handed_over_at.is_some_and(|at| now.since(at) < HAND_OVER_EVERY_NS) {
            return;
        }
        let whole = LeaseGuard::whole_ns(self.state.lease_ns, self.drift_ppm);
        let since_ns = whole.saturating_sub(self.remaining_ns(now).unwrap_or(0));
        if self.state.active.is_some() && since_ns > RENEWED_WITHIN_NS {
            return;
        }
        let last = self.replica.last_index();
        let has_all =
            |(peer, matched, heard): (NodeId, LogIndex, bool)| peer == self.witness && heard && matched == last;
        if self.replica.peers().into_iter().any(has_all) {
            self.handed_over_at = Some(now);
            let to = Some(self.witness);
            self.step(moment, Input::TransferLeadership { to }, actions);
        }
    }

    /// What this voter says of the lease.
    pub(super) fn view(&self, now: Elapsed) -> LeaseView {
        self.shown().view(now, self.drift_ppm)
    }

    /// What others may look at meanwhile.
    pub(super) fn shown(&self) -> Shown {
        Shown {
            state: Arc::clone(&self.state),
            leader: self.replica.leader(),
            guard: self.guard,
            leads: self.replica.leads() && !self.is_over,
            is_repairing: self.replica.is_repairing(),
        }
    }

    /// What takes the place of the entries in the store up to where the state stands.
    pub(super) fn to_keep(&self) -> Kept {
        let (applier, hard_state) = (self.replica.applier(), replica::HardState::default());
        Kept {
            point: SnapshotPoint {
                applied: applier.applied(),
                membership: applier.membership().clone(),
            },
            state: applier.machine().state().clone(),
            hard_state,
            committed: applier.applied().index,
            suffix: Vec::new(),
            repairing: self.settings.repairing,
        }
    }

    /// Nothing further is done.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// True if it leads, or is about to.
    pub(super) fn leads(&self) -> bool {
        self.replica.leads()
    }
}

/// What a voter shows of itself.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    state: Arc<LeaseState>,
    pub(super) leader: Option<NodeId>,
    guard: LeaseGuard,
    leads: bool,
    pub(super) is_repairing: bool,
}

impl Shown {
    pub(super) fn view(&self, now: Elapsed, drift_ppm: u32) -> LeaseView {
        let remaining_ns = self.guard.remaining_ns(now, self.state.lease_ns, drift_ppm);
        LeaseView {
            state: LeaseState::clone(&self.state),
            leader: self.leader,
            leads: self.leads,
            remaining_ns: remaining_ns.filter(|_| self.leads).unwrap_or(0),
        }
    }
}

/// A replica from what was kept. What is known to be committed is applied at once.
fn replica_of(settings: &Settings, kept: Kept) -> Result<Replica<LeaseMachine, Waiter>, StopReason> {
    let machine = LeaseMachine::restore(kept.state, EngineVersion::FIRST).map_err(StopReason::Consensus)?;
    let SnapshotPoint { applied, membership } = kept.point;
    let mut applier = Applier::new(&settings.identity, machine, applied, membership, BTreeSet::new());
    let mut suffix = VecDeque::from(kept.suffix);
    while let Some(entry) = suffix.front().filter(|entry| entry.index <= kept.committed) {
        applier.apply(entry)?;
        suffix.pop_front();
    }
    Replica::new(settings, applier, kept.hard_state, suffix.into())
}

fn raft_message(frame: Vec<u8>) -> Option<RaftMessage> {
    match decode_frame(Bytes::from(frame)) {
        Ok(Frame::Raft(message)) => Some(message),
        _ => None,
    }
}
