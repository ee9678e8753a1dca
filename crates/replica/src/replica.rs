//! The replica: one synchronous `step` around raft's `RawNode`.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, RawNode, StateRole};
use types::limits::{BATCH_BYTES_MAX, BATCHES_IN_FLIGHT_MAX};
use types::{BatchHeader, Epoch, Sequence, StateMachine, Timestamp};
use wire::batch::{BatchEncoder, EncodeError};
use wire::journal::{Identity, LogIndex, NodeId, RecordKind, Term};

use crate::applier::{Applier, LogEntry};
use crate::log::Log;
use crate::protocol::{Input, Now, Output, PeerMessage, Refusal, StopReason, Ticket};

/// Ticks between two heartbeats.
const HEARTBEAT_TICKS: usize = 1;
/// Bytes of entries that one message to a peer carries, or one turn applies.
const ENTRIES_BYTES_MAX: u64 = 4 * BATCH_BYTES_MAX as u64;

/// How a replica is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose log, and which node this is.
    pub identity: Identity,
    /// The epoch in which it sequences when it leads.
    pub epoch: Epoch,
    /// The group's voters, this one among them.
    pub voters: Vec<NodeId>,
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
    epoch: Epoch,
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
    last_ticket: Ticket,
    written: HardState,
}

type Outputs<M, W> = Vec<Output<<M as StateMachine>::Event, W>>;

impl<M: StateMachine, W> Replica<M, W> {
    /// A replica that goes on from where `applier` stands, with the entries of the journal behind that. Those may be
    /// committed or not; with one voter they are, and `suffix` is best applied before and then empty.
    pub fn new(
        settings: &Settings,
        applier: Applier<M>,
        hard_state: HardState,
        suffix: Vec<LogEntry>,
    ) -> Result<Self, StopReason> {
        let applied = applier.applied();
        if applied.epoch > settings.epoch {
            return Err(consensus(format!(
                "the journal has a batch of epoch {}, and this node was set up for epoch {}",
                applied.epoch, settings.epoch
            )));
        }
        let id = settings.identity.node.0;
        let voters: Vec<u64> = settings.voters.iter().map(|voter| voter.0).collect();
        let raft_state = raft::eraftpb::HardState {
            term: hard_state.term.0,
            vote: hard_state.vote.0,
            commit: applied.index.0,
            ..Default::default()
        };
        let mut log = Log::new(applied, raft_state, voters);
        for entry in suffix {
            let index = entry.index;
            let known = (entry.kind, entry.chain);
            let record = raft_entry(entry).and_then(|entry| log.append(entry));
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
            last_ticket: Ticket(0),
            written: hard_state,
            applier,
        })
    }

    /// Handles one input. What there is to do is appended to `outputs`, in order. After an `Output::Stop` every further
    /// command is refused.
    pub fn step(&mut self, now: Now, input: Input<M::Command, W>, outputs: &mut Outputs<M, W>) {
        if self.stopped {
            if let Input::Commands(commands) = input {
                refuse(
                    commands.into_iter().map(|(_, waiter)| waiter).collect(),
                    Refusal::Stopping,
                    outputs,
                );
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
        if self.stopped || self.draining {
            return Err(Refusal::Stopping);
        }
        let leads = self.raw.raft.state == StateRole::Leader && self.leading == Some(self.raw.raft.term);
        if !leads {
            return Err(Refusal::NotLeader);
        }
        if self.in_flight.len() >= BATCHES_IN_FLIGHT_MAX {
            return Err(Refusal::Busy);
        }
        Ok(())
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
            Input::Persisted(ticket) => self.persisted(ticket, outputs),
            Input::Tick => {
                self.raw.tick();
            }
            Input::Deadline => self.let_time_pass(now, outputs),
            Input::Message(message) => self.receive(message)?,
            Input::Campaign => self.raw.campaign().map_err(|error| consensus(error.to_string()))?,
            Input::TransferLeadership { to } => self.raw.transfer_leader(to.0),
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
                    refuse(vec![waiter], Refusal::TooLarge, outputs);
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
            return refuse(waiters, why, outputs);
        }
        let applied = self.applier.applied();
        let header = BatchHeader {
            group: self.applier.group(),
            incarnation: self.applier.incarnation(),
            epoch: self.epoch,
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
            return refuse(waiters, Refusal::NotLeader, outputs);
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

    /// A peer's message, unless it is one that must not be heard.
    fn receive(&mut self, message: PeerMessage) -> Result<(), StopReason> {
        let message = message.0;
        match message.get_msg_type() {
            // Only the leader that stamped a batch proposes it.
            MessageType::MsgPropose => return Ok(()),
            // A late rejection of what the peer has acknowledged since would move its progress back.
            MessageType::MsgAppendResponse if message.reject => {
                let progress = self.raw.raft.prs().get(message.from);
                if progress.is_some_and(|progress| message.index < progress.matched) {
                    return Ok(());
                }
            }
            MessageType::MsgSnapshot => {
                return Err(consensus(
                    "a peer sent a snapshot; this program only takes those of an operator".into(),
                ));
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
                return Err(consensus("it wants a snapshot installed".into()));
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
        }
        self.trim();
        Ok(())
    }

    /// Puts the ready's term, vote and entries out. True if there were any.
    fn append(&mut self, ready: &mut raft::Ready, outputs: &mut Outputs<M, W>) -> Result<bool, StopReason> {
        let mut records = Vec::new();
        if let Some(raft_state) = ready.hs() {
            let hard_state = HardState {
                term: Term(raft_state.term),
                vote: NodeId(raft_state.vote),
            };
            // The commit index alone is not worth a write: it is learnt again.
            if hard_state != self.written {
                records.push(self.raw.store().hard_state_record(raft_state));
                self.written = hard_state;
            }
            let raft_state = raft_state.clone();
            self.raw.mut_store().set_hard_state(raft_state);
        }
        for entry in ready.take_entries() {
            let index = entry.index;
            let log = self.raw.mut_store();
            if log.replaces(index) {
                let after = LogIndex(index - 1);
                log.truncate(after.0);
                outputs.push(Output::Truncate { after });
            }
            let record = log.append(entry);
            records.push(record.ok_or_else(|| consensus(format!("entry {index} does not follow or is no batch")))?);
        }
        if records.is_empty() {
            return Ok(false);
        }
        outputs.push(Output::Append(records));
        Ok(true)
    }

    fn role_changed(&mut self, outputs: &mut Outputs<M, W>) {
        let raft = &self.raw.raft;
        let leads = raft.state == StateRole::Leader && self.leading == Some(raft.term);
        if leads || self.leading.is_none() {
            return;
        }
        self.leading = None;
        self.forget_in_flight(outputs);
        outputs.push(Output::Accepting(Err(Refusal::NotLeader)));
    }

    /// Tells whoever waits for a batch in flight that its outcome is not known here.
    fn forget_in_flight(&mut self, outputs: &mut Outputs<M, W>) {
        let waiters: Vec<W> = self.in_flight.drain(..).flat_map(|batch| batch.waiters).collect();
        if !waiters.is_empty() {
            outputs.push(Output::Unknown { waiters });
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
        if log_entry.kind == RecordKind::Empty {
            self.term_began(entry.term, outputs);
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

    /// Drops from memory what is applied here and, while this node leads, on every peer.
    fn trim(&mut self) {
        let raft = &self.raw.raft;
        let mut through = raft.raft_log.applied;
        if raft.state == StateRole::Leader {
            for (_, progress) in raft.prs().iter() {
                through = through.min(progress.matched);
            }
        }
        self.raw.mut_store().trim(through);
    }
}

fn consensus(what: String) -> StopReason {
    StopReason::Consensus(what)
}

fn refuse<E, W>(waiters: Vec<W>, why: Refusal, outputs: &mut Vec<Output<E, W>>) {
    if !waiters.is_empty() {
        outputs.push(Output::Refused { waiters, why });
    }
}

fn send<E, W>(messages: Vec<Message>, outputs: &mut Vec<Output<E, W>>) {
    let proposals_left_out = messages
        .into_iter()
        .filter(|message| message.get_msg_type() != MessageType::MsgPropose);
    outputs.extend(proposals_left_out.map(|message| Output::Send(PeerMessage(message))));
}

/// The entry as consensus knows it.
fn raft_entry(entry: LogEntry) -> Option<Entry> {
    let entry_type = match entry.kind {
        RecordKind::Batch | RecordKind::Empty => raft::eraftpb::EntryType::EntryNormal,
        RecordKind::ConfChange => raft::eraftpb::EntryType::EntryConfChange,
        RecordKind::ConfChangeV2 => raft::eraftpb::EntryType::EntryConfChangeV2,
        RecordKind::HardState => return None,
    };
    let mut raft_entry = Entry::default();
    raft_entry.set_entry_type(entry_type);
    raft_entry.term = entry.term.0;
    raft_entry.index = entry.index.0;
    raft_entry.data = entry.payload;
    Some(raft_entry)
}
