//! The replica: one synchronous `step` around raft's `RawNode`.

mod following;
mod leading;
mod repair;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, RawNode, SnapshotStatus, StateRole};
use types::limits::{BATCH_BYTES_MAX, BATCHES_IN_FLIGHT_MAX};
use types::{BatchHeader, Epoch, Sequence, StateMachine, Timestamp};
use wire::batch::{BatchEncoder, EncodeError};
use wire::journal::{Identity, LogIndex, NodeId, RecordKind, Term};
use wire::membership::{ChangeRefusal, MembershipChange, Role};

use crate::applier::{Applier, LogEntry};
use crate::log::Log;
use crate::membership;
use crate::message::{Content, PeerMessage, entry_of, is_proposal};
use crate::protocol::{HandOver, Input, Now, Output, Refusal, SnapshotPoint, StopReason, Ticket};
use crate::reads::Reads;
use repair::Repair;

/// Ticks between two heartbeats.
const HEARTBEAT_TICKS: usize = 1;
/// Bytes of entries that one message to a peer carries, or one turn applies.
const ENTRIES_BYTES_MAX: u64 = 4 * BATCH_BYTES_MAX as u64;

/// How a replica is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose log, and which node this is.
    pub identity: Identity,
    /// The epoch in which it sequences when it leads; none: it sequences nothing before [`Input::Sequence`] says so.
    pub epoch: Option<Epoch>,
    /// True of a voter that may have lost something that it acknowledged, or a vote: it neither votes nor stands for
    /// election until it has everything again that its leader had when it asked for it.
    pub repairing: bool,
    /// Ticks without a leader until this node stands for election. Differs from node to node by more than a vote's
    /// round trip, so that votes don't split and no randomness is needed.
    pub election_ticks: usize,
}

/// A term, and whom this node voted for in it. Durable before anybody hears of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The term.
    pub term: Term,
    /// Whom it voted for (0: nobody).
    pub vote: NodeId,
}

/// A batch that was sequenced here and is not yet applied.
struct InFlight<C, W> {
    index: u64,
    term: u64,
    header: BatchHeader,
    commands: Vec<C>,
    waiters: Vec<W>,
}

/// What waits for a sync.
struct Unsynced {
    ready_number: u64,
    ticket: Ticket,
    messages: Vec<Message>,
}

/// Sequences commands, agrees on them with its peers, and applies them. See the crate's picture.
pub struct Replica<M: StateMachine, W> {
    /// The epoch in which it sequences commands when it leads; none: it follows another region, or waits for word.
    epoch: Option<Epoch>,
    raw: RawNode<Log>,
    applier: Applier<M>,
    /// The term in which it leads and has applied the first entry.
    leading: Option<u64>,
    draining: bool,
    stopped: bool,
    next_sequence: Sequence,
    last_stamp: Timestamp,
    committed: (Sequence, Timestamp),
    in_flight: VecDeque<InFlight<M::Command, W>>,
    unsynced: VecDeque<Unsynced>,
    /// True once a change of the membership was applied, until the journal says that it is committed.
    members_are_new: bool,
    last_ticket: Ticket,
    written: HardState,
    /// Who leads in which term, as far as the node was told.
    leader: (u64, u64),
    /// Up to where the node was told that everything is committed and applied.
    told: LogIndex,
    reads: Reads,
    /// From where on the log is kept for peers that are given a snapshot.
    pinned: Option<u64>,
    ticks: u64,
    /// At which tick each peer was heard of last. Consensus keeps something alike, but clears it each time that it looks.
    heard: BTreeMap<u64, u64>,
    /// What most of the others have on disk and this leader has not, and for how many ticks.
    behind_others: Option<(u64, u32)>,
    clock_unsure: bool,
    repair: Option<Repair>,
}

type Outputs<M, W> = Vec<Output<<M as StateMachine>::Command, <M as StateMachine>::Event, W>>;

impl<M: StateMachine, W> Replica<M, W> {
    /// A replica that goes on from where `applier` stands, with the entries of the journal behind that. Those may be
    /// committed or not; with one voter they are, and `suffix` is best applied before and then empty. Who belongs to the
    /// group is what `applier` says; a node that is not among them follows until a leader tells it that it is.
    pub fn new(
        settings: &Settings,
        applier: Applier<M>,
        hard_state: HardState,
        suffix: Vec<LogEntry>,
    ) -> Result<Self, StopReason> {
        let applied = applier.applied();
        if let Some(epoch) = settings.epoch.filter(|epoch| applied.epoch > *epoch) {
            return Err(consensus(format!(
                "the journal has a batch of epoch {}, and this node was set up for epoch {epoch}",
                applied.epoch
            )));
        }
        let id = settings.identity.node.0;
        let raft_state = raft::eraftpb::HardState {
            term: hard_state.term.0,
            vote: hard_state.vote.0,
            commit: applied.index.0,
            ..Default::default()
        };
        let mut log = Log::new(applied, raft_state, membership::conf_state(applier.membership()));
        for entry in suffix {
            let index = entry.index;
            let known = (entry.kind, entry.chain);
            let record = log.append(entry_of(entry.kind, entry.term, entry.index, entry.payload));
            let same = record.is_some_and(|record| (record.kind, record.chain) == known);
            if !same {
                return Err(consensus(format!(
                    "the journal's entry {index} does not follow on the one before"
                )));
            }
        }
        let config = Config {
            id,
            election_tick: settings.election_ticks,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: applied.index.0,
            max_size_per_msg: ENTRIES_BYTES_MAX,
            max_inflight_msgs: BATCHES_IN_FLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            min_election_tick: settings.election_ticks,
            max_election_tick: settings.election_ticks + 1,
            max_committed_size_per_ready: ENTRIES_BYTES_MAX,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, log, &logger).map_err(|error| consensus(error.to_string()))?;
        Ok(Self {
            epoch: settings.epoch,
            raw,
            leading: None,
            draining: false,
            stopped: false,
            next_sequence: applied.sequence.next(),
            last_stamp: applied.sequenced_at,
            committed: (Sequence(0), Timestamp(0)),
            in_flight: VecDeque::new(),
            unsynced: VecDeque::new(),
            members_are_new: false,
            last_ticket: Ticket(0),
            written: hard_state,
            leader: (raft::INVALID_ID, 0),
            told: applied.index,
            reads: Reads::default(),
            pinned: None,
            ticks: 0,
            heard: BTreeMap::new(),
            behind_others: None,
            clock_unsure: false,
            repair: settings.repairing.then(Repair::default),
            applier,
        })
    }

    /// Handles one input. What there is to do is appended to `outputs`, in order. After an `Output::Stop` every further
    /// command is refused.
    pub fn step(&mut self, now: Now, input: Input<M::Command, W>, outputs: &mut Outputs<M, W>) {
        if self.stopped {
            if let Input::Commands(commands) = input {
                refuse(commands, Refusal::Stopping, outputs);
            }
            return;
        }
        let result = self
            .handle(now, input, outputs)
            .and_then(|()| self.advance(now, outputs));
        if let Err(reason) = result {
            self.stopped = true;
            self.forget_in_flight(outputs);
            outputs.push(Output::Accepting(Err(Refusal::Stopping)));
            outputs.push(Output::Stop(reason));
        }
    }

    /// Whether commands are taken.
    pub fn accepting(&self) -> Result<(), Refusal> {
        self.may_propose()?;
        if self.epoch.is_none() {
            return Err(Refusal::NotActive);
        }
        if self.clock_unsure {
            return Err(Refusal::ClockUnsure);
        }
        if self.in_flight.len() >= BATCHES_IN_FLIGHT_MAX {
            return Err(Refusal::Busy);
        }
        Ok(())
    }

    /// Whether this node may put anything into the log.
    fn may_propose(&self) -> Result<(), Refusal> {
        if self.stopped || self.draining {
            return Err(Refusal::Stopping);
        }
        // A leader that was removed leads until another is elected, and sequences nothing.
        if !self.votes(self.raw.raft.id) || !self.leads() || self.raw.raft.lead_transferee.is_some() {
            return Err(Refusal::NotLeader);
        }
        Ok(())
    }

    /// The sequence that the next batch has to begin with, of a node that leads.
    pub fn next_sequence(&self) -> Sequence {
        self.next_sequence
    }

    /// True if nothing is in the log that is not applied.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_empty() && self.applier.applied().index.0 == self.raw.store().end_index()
    }

    /// True if it leads the group and has applied its term's first entry.
    pub fn leads(&self) -> bool {
        self.raw.raft.state == StateRole::Leader && self.leading == Some(self.raw.raft.term)
    }

    /// True if this member votes, as far as this node has applied the log.
    fn votes(&self, node: u64) -> bool {
        let member = self.applier.membership().get(NodeId(node));
        member.is_some_and(|member| member.role == Role::Voter)
    }

    /// Who leads the group, as far as it knows.
    pub fn leader(&self) -> Option<NodeId> {
        (self.raw.raft.leader_id != raft::INVALID_ID).then_some(NodeId(self.raw.raft.leader_id))
    }

    /// The present term.
    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    /// The last entry of its log, committed or not.
    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.raw.store().end_index())
    }

    /// True while it is a voter that may have lost something.
    pub fn is_repairing(&self) -> bool {
        self.repair.is_some()
    }

    /// How far the peers are, as their leader knows: who, the last entry that it has on disk, and whether it was heard of
    /// lately. Empty of a node that doesn't lead.
    pub fn peers(&self) -> Vec<(NodeId, LogIndex, bool)> {
        if self.raw.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let peers = self.raw.raft.prs().iter().filter(|(id, _)| **id != self.raw.raft.id);
        peers
            .map(|(id, progress)| (NodeId(*id), LogIndex(progress.matched), self.was_heard(*id)))
            .collect()
    }

    /// By when [`Input::Deadline`] should be said, if there is such a time.
    pub fn deadline(&self) -> Option<Timestamp> {
        let idle = self.in_flight.is_empty() && self.accepting().is_ok();
        if idle {
            self.applier.machine().next_deadline()
        } else {
            None
        }
    }

    /// The state machine and where it stands.
    pub fn applier(&self) -> &Applier<M> {
        &self.applier
    }

    /// How many batches are sequenced and not yet applied.
    pub fn in_flight_count(&self) -> usize {
        self.in_flight.len()
    }

    /// How many entries consensus keeps in memory.
    pub fn log_entries_count(&self) -> usize {
        self.raw.store().entries_count()
    }

    fn handle(&mut self, now: Now, input: Input<M::Command, W>, outputs: &mut Outputs<M, W>) -> Result<(), StopReason> {
        match input {
            Input::Commands(commands) => self.sequence(now, commands, outputs),
            Input::Sequence(epoch) => {
                self.epoch = epoch;
                outputs.push(Output::Accepting(self.accepting()));
            }
            Input::Follow(batches) => self.follow(batches)?,
            Input::Persisted(ticket) => self.persisted(ticket, outputs),
            Input::Tick => self.tick(now, outputs),
            Input::Deadline => self.let_time_pass(now, outputs),
            Input::Message(message) => self.receive(message, outputs)?,
            Input::Campaign => {
                if self.repair.is_none() {
                    self.raw.campaign().map_err(|error| consensus(error.to_string()))?;
                }
            }
            Input::TransferLeadership { to } => self.hand_over(to, HandOver::Asked, outputs),
            Input::Change(change) => {
                let taken = self.change(&change);
                outputs.push(Output::ChangeTaken(taken));
            }
            Input::Read(ticket) => {
                self.reads.wait(ticket);
                self.ask_for_reads(now);
            }
            Input::SnapshotMade(point) => {
                if self.pinned.is_some() && point.applied.index.0 >= self.raw.store().base_index() {
                    self.pinned = Some(point.applied.index.0);
                    self.raw.mut_store().set_snapshot(Some(point));
                }
            }
            Input::SnapshotNotMade => self.forget_snapshot(),
            Input::SnapshotSent { to, arrived } => {
                if !arrived {
                    // Its file may be gone; the peer's next answer asks for another one.
                    self.forget_snapshot();
                }
                let status = if arrived {
                    SnapshotStatus::Finish
                } else {
                    SnapshotStatus::Failure
                };
                self.raw.report_snapshot(to.0, status);
            }
            Input::Unreachable(peer) => self.raw.report_unreachable(peer.0),
            Input::ClockUnsure(unsure) => {
                self.clock_unsure = unsure;
                if unsure {
                    self.hand_over(None, HandOver::ClockUnsure, outputs);
                }
            }
            Input::Drain => {
                self.draining = true;
                outputs.push(Output::Accepting(Err(Refusal::Stopping)));
            }
        }
        Ok(())
    }

    /// Makes batches of the commands and proposes them.
    fn sequence(&mut self, now: Now, commands: Vec<(M::Command, W)>, outputs: &mut Outputs<M, W>) {
        let mut encoder = BatchEncoder::new();
        let mut taken = Vec::with_capacity(commands.len());
        let mut waiters = Vec::with_capacity(commands.len());
        for (command, waiter) in commands {
            let mut pushed = encoder.push(&command);
            if pushed == Err(EncodeError::BatchFull) {
                let full = std::mem::take(&mut encoder);
                self.propose(
                    now,
                    full,
                    std::mem::take(&mut taken),
                    std::mem::take(&mut waiters),
                    outputs,
                );
                pushed = encoder.push(&command);
            }
            match pushed {
                Ok(()) => {
                    taken.push(command);
                    waiters.push(waiter);
                }
                Err(EncodeError::CommandTooLarge | EncodeError::BatchFull) => {
                    refuse(vec![(command, waiter)], Refusal::TooLarge, outputs);
                }
            }
        }
        if !encoder.is_empty() {
            self.propose(now, encoder, taken, waiters, outputs);
        }
    }

    /// If a deadline is due and nothing else lets time pass: sequences a clock command.
    fn let_time_pass(&mut self, now: Now, outputs: &mut Outputs<M, W>) {
        let stamp = now.utc.max(self.last_stamp);
        if self.deadline().is_none_or(|deadline| deadline > stamp) {
            return;
        }
        let command = M::clock_command(stamp);
        let mut encoder = BatchEncoder::new();
        encoder.push(&command).expect("a clock command fits a batch");
        self.propose(now, encoder, vec![command], Vec::new(), outputs);
    }

    /// Stamps a batch and puts it into the log, only as the leader of the term whose first entry was applied: `raft`
    /// would hand a proposal of anybody else on to another leader, which would sequence it a second time.
    fn propose(
        &mut self,
        now: Now,
        encoder: BatchEncoder,
        commands: Vec<M::Command>,
        waiters: Vec<W>,
        outputs: &mut Outputs<M, W>,
    ) {
        if let Err(why) = self.accepting() {
            return refuse(pairs(commands, waiters), why, outputs);
        }
        let epoch = self.epoch.expect("nothing is taken without one");
        let applied = self.applier.applied();
        let header = BatchHeader {
            group: self.applier.group(),
            incarnation: self.applier.incarnation(),
            epoch,
            first_sequence: self.next_sequence,
            count: encoder.count(),
            sequenced_at: now.utc.max(self.last_stamp),
            clock_error_bound_ns: now.clock_error_bound_ns,
            committed_through: self.committed.0,
            committed_at: self.committed.1,
            hashed_through: applied.sequence,
            state_hash: self.applier.machine().state_hash(),
        };
        let (header, payload) = encoder.finish(header);
        if self.raw.propose(Vec::new(), payload).is_err() {
            // Leadership is being handed over: nothing was appended, so nothing was sequenced.
            return refuse(pairs(commands, waiters), Refusal::NotLeader, outputs);
        }
        self.next_sequence = header.last_sequence().next();
        self.last_stamp = header.sequenced_at;
        self.in_flight.push_back(InFlight {
            index: self.raw.raft.raft_log.last_index(),
            term: self.raw.raft.term,
            header,
            commands,
            waiters,
        });
    }

    fn ask_for_reads(&mut self, now: Now) {
        if !self.serves_reads() {
            return;
        }
        if let Some(context) = self.reads.ask(self.raw.raft.id, now.utc) {
            self.raw.read_index(context);
        }
    }

    /// A peer's message, unless it is one that must not be heard.
    fn receive(&mut self, message: PeerMessage, outputs: &mut Outputs<M, W>) -> Result<(), StopReason> {
        self.heard.insert(message.from().0, self.ticks);
        let mut message = match message.0 {
            Content::Consensus(message) => message,
            Content::Lost { from, last, .. } => {
                self.send_again(from, last, outputs);
                return Ok(());
            }
            Content::Needs { from, through, .. } => {
                let asked = (from.0, self.raw.raft.term);
                if let Some(repair) = self.repair.as_mut().filter(|repair| repair.asked == Some(asked)) {
                    repair.through = Some(through);
                }
                return Ok(());
            }
        };
        match message.get_msg_type() {
            // Only the leader that stamped a batch proposes it.
            MessageType::MsgPropose => return Ok(()),
            MessageType::MsgReadIndex if !self.serves_reads() => return Ok(()),
            // A late rejection of what the peer has acknowledged since would move its progress back.
            MessageType::MsgAppendResponse if message.reject => {
                let progress = self.raw.raft.prs().get(message.from);
                if progress.is_some_and(|progress| message.index < progress.matched) {
                    return Ok(());
                }
            }
            // What it voted for, and what it has, is not what it knows.
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote | MessageType::MsgTimeoutNow
                if self.repair.is_some() =>
            {
                return Ok(());
            }
            MessageType::MsgTimeoutNow if self.clock_unsure => return Ok(()),
            // What another region has sequenced since is not known here.
            MessageType::MsgReadIndex if self.epoch.is_none() => return Ok(()),
            // Nobody's term is believed who neither votes nor leads.
            MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex
                if message.term > self.raw.raft.term && !self.votes(message.from) =>
            {
                return Ok(());
            }
            // Who leads counts on what was lost.
            MessageType::MsgHeartbeat if self.repair.is_some() => {
                message.commit = message.commit.min(self.raw.store().end_index());
            }
            MessageType::MsgSnapshot => {
                let point = SnapshotPoint::decode(&message.get_snapshot().data);
                let index = message.get_snapshot().get_metadata().index;
                if point.is_none_or(|point| point.applied.index.0 != index) {
                    return Err(consensus("a peer's snapshot does not say where it stands".into()));
                }
            }
            _ => {}
        }
        match self.raw.step(message) {
            Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => Ok(()),
            Err(error) => Err(consensus(error.to_string())),
        }
    }

    fn persisted(&mut self, ticket: Ticket, outputs: &mut Outputs<M, W>) {
        let mut number = None;
        while let Some(first) = self.unsynced.front() {
            if first.ticket > ticket {
                break;
            }
            number = Some(first.ready_number);
            let first = self.unsynced.pop_front().expect("it was just looked at");
            send(first.messages, outputs);
        }
        if let Some(number) = number {
            self.raw.on_persist_ready(number);
        }
    }

    /// Turns what consensus wants done into outputs, until it wants nothing further.
    fn advance(&mut self, now: Now, outputs: &mut Outputs<M, W>) -> Result<(), StopReason> {
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            if ready.ss().is_some() {
                self.role_changed(outputs);
            }
            send(ready.take_messages(), outputs);
            if !ready.snapshot().is_empty() {
                return self.install(&ready, outputs);
            }
            for state in ready.take_read_states() {
                self.reads.answered(&state.request_ctx, state.index);
            }
            let messages = ready.take_persisted_messages();
            let committed = ready.take_committed_entries();
            let appended = self.append(&mut ready, outputs)?;
            let ready_number = ready.number();
            self.raw.advance_append_async(ready);
            if appended {
                self.last_ticket.0 += 1;
                outputs.push(Output::Sync(self.last_ticket));
            }
            if appended || !self.unsynced.is_empty() {
                self.unsynced.push_back(Unsynced {
                    ready_number,
                    ticket: self.last_ticket,
                    messages,
                });
            } else {
                send(messages, outputs);
                self.raw.on_persist_ready(ready_number);
            }
            for entry in &committed {
                self.apply(now, entry, outputs)?;
            }
            if std::mem::take(&mut self.members_are_new) {
                // A start must not forget who counts by now.
                let hard_state = self.raw.raft.hard_state();
                outputs.push(Output::Append(vec![self.raw.store().hard_state_record(&hard_state)]));
                self.last_ticket.0 += 1;
                outputs.push(Output::Sync(self.last_ticket));
            }
            let applied = self.applier.applied();
            if applied.index > self.told {
                self.told = applied.index;
                outputs.push(Output::Committed(applied));
            }
            self.reads.applied(&applied, outputs);
            // Those that came while others were asked for.
            self.ask_for_reads(now);
        }
        let leader = (self.raw.raft.leader_id, self.raw.raft.term);
        if leader != self.leader {
            // Also if it is the same one again: what it was told in its earlier term may be void.
            self.leader = leader;
            outputs.push(Output::Leader(self.leader()));
        }
        self.end_repair(outputs);
        if self.raw.store().take_snapshot_wanted() {
            self.want_snapshot(outputs);
        }
        self.trim();
        Ok(())
    }

    /// A leader's snapshot takes the place of everything here: whoever runs this replica begins again from it.
    fn install(&mut self, ready: &raft::Ready, outputs: &mut Outputs<M, W>) -> Result<(), StopReason> {
        let point = SnapshotPoint::decode(&ready.snapshot().data).expect("it was looked at when it came");
        let hard_state = ready.hs().map_or(self.written, hard_state_of);
        self.stopped = true;
        self.forget_in_flight(outputs);
        outputs.push(Output::Accepting(Err(Refusal::Stopping)));
        outputs.push(Output::Install { point, hard_state });
        Ok(())
    }

    /// Puts the ready's term, vote and entries out. True if there were any.
    fn append(&mut self, ready: &mut raft::Ready, outputs: &mut Outputs<M, W>) -> Result<bool, StopReason> {
        let mut records = Vec::new();
        let entries = ready.take_entries();
        // First of all, so that a term's record stands behind what stays.
        if let Some(first) = entries.first().filter(|first| self.raw.store().replaces(first.index)) {
            let after = LogIndex(first.index - 1);
            self.raw.mut_store().truncate(after.0);
            outputs.push(Output::Truncate { after });
        }
        if let Some(raft_state) = ready.hs() {
            let hard_state = hard_state_of(raft_state);
            // The commit index alone is not worth a write: it is learnt again.
            if hard_state != self.written {
                records.push(self.raw.store().hard_state_record(raft_state));
                self.written = hard_state;
            }
            let raft_state = raft_state.clone();
            self.raw.mut_store().set_hard_state(raft_state);
        }
        for entry in entries {
            let index = entry.index;
            let record = self.raw.mut_store().append(entry);
            records.push(record.ok_or_else(|| consensus(format!("entry {index} does not follow or is no batch")))?);
        }
        if records.is_empty() {
            return Ok(false);
        }
        outputs.push(Output::Append(records));
        Ok(true)
    }

    fn role_changed(&mut self, outputs: &mut Outputs<M, W>) {
        if self.raw.raft.state != StateRole::Leader {
            self.forget_snapshot();
        }
        if self.leads() || self.leading.is_none() {
            return;
        }
        self.leading = None;
        self.forget_in_flight(outputs);
        outputs.push(Output::Accepting(Err(Refusal::NotLeader)));
    }

    /// Tells whoever waits for a batch in flight that its outcome is not known here.
    fn forget_in_flight(&mut self, outputs: &mut Outputs<M, W>) {
        let in_flight = self.in_flight.drain(..);
        let commands: Vec<_> = in_flight
            .flat_map(|batch| pairs(batch.commands, batch.waiters))
            .collect();
        if !commands.is_empty() {
            outputs.push(Output::Unknown { commands });
        }
    }

    fn apply(&mut self, now: Now, entry: &Entry, outputs: &mut Outputs<M, W>) -> Result<(), StopReason> {
        let log_entry = self
            .raw
            .store()
            .log_entry(entry)
            .ok_or_else(|| consensus(format!("the log no longer has entry {}", entry.index)))?;
        let ours = self
            .in_flight
            .front()
            .is_some_and(|batch| (batch.index, batch.term) == (entry.index, entry.term));
        let (batch, waiters) = if ours {
            let own = self.in_flight.pop_front().expect("it was just looked at");
            let batch = self
                .applier
                .apply_batch(&log_entry, own.header, &own.commands, Some(now.utc))?;
            (batch, own.waiters)
        } else {
            let batch = self.applier.apply(&log_entry)?.map(|mut batch| {
                batch.committed_at = Some(now.utc);
                batch
            });
            (batch, Vec::new())
        };
        self.raw.advance_apply_to(entry.index);
        if let Some(batch) = batch {
            self.committed = (batch.header.last_sequence(), now.utc);
            let batch = Arc::new(batch);
            outputs.push(Output::Applied { batch, waiters });
        }
        match log_entry.kind {
            RecordKind::Empty => self.term_began(entry.term, outputs),
            RecordKind::ConfChange => self.members_changed(&log_entry, outputs)?,
            _ => {}
        }
        Ok(())
    }

    /// An entry that changes the membership was applied.
    fn members_changed(&mut self, entry: &LogEntry, outputs: &mut Outputs<M, W>) -> Result<(), StopReason> {
        let unknown = StopReason::UnknownChange { index: entry.index };
        let change = membership::decode(&entry.payload).ok_or(unknown)?;
        let conf_state = self.raw.apply_conf_change(&change);
        let conf_state = conf_state.map_err(|error| consensus(error.to_string()))?;
        self.raw.mut_store().set_conf_state(conf_state);
        self.members_are_new = true;
        outputs.push(Output::Members(self.applier.membership().clone()));
        if !self.votes(self.raw.raft.id) {
            self.hand_over(None, HandOver::Removed, outputs);
        }
        Ok(())
    }

    /// The first entry of a term was applied: if it is this node's, everything before it is applied too, and it goes on
    /// from there.
    fn term_began(&mut self, term: u64, outputs: &mut Outputs<M, W>) {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader || raft.term != term || self.leading == Some(term) {
            return;
        }
        let applied = self.applier.applied();
        self.leading = Some(term);
        self.next_sequence = applied.sequence.next();
        self.last_stamp = applied.sequenced_at;
        outputs.push(Output::Accepting(self.accepting()));
    }
}

fn consensus(what: String) -> StopReason {
    StopReason::Consensus(what)
}

fn hard_state_of(raft_state: &raft::eraftpb::HardState) -> HardState {
    HardState {
        term: Term(raft_state.term),
        vote: NodeId(raft_state.vote),
    }
}

fn pairs<C, W>(commands: Vec<C>, waiters: Vec<W>) -> Vec<(C, W)> {
    commands.into_iter().zip(waiters).collect()
}

fn refuse<C, E, W>(commands: Vec<(C, W)>, why: Refusal, outputs: &mut Vec<Output<C, E, W>>) {
    if !commands.is_empty() {
        outputs.push(Output::Refused { commands, why });
    }
}

fn send<C, E, W>(messages: Vec<Message>, outputs: &mut Vec<Output<C, E, W>>) {
    let proposals_left_out = messages.into_iter().filter(|message| !is_proposal(message));
    outputs.extend(proposals_left_out.map(|message| Output::Send(PeerMessage(Content::Consensus(message)))));
}
