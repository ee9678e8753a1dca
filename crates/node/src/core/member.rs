//! The core as one of a group: who sequences a command, what peers are told, and syncs beside the core's thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::Sender;
use gateway::handle::{GroupStatus, MemberStatus, NotAccepting};
use gateway::waiting::Waiter;
use replica::{Input, PeerMessage, ReadTicket, Refusal, Ticket};
use tokio::sync::oneshot;
use types::limits::{BATCH_COMMANDS_MAX, COMMANDS_QUEUED_MAX};
use types::{Action, AppliedBatch, Command, Event, Sequence, StateMachine, Timestamp};
use wire::journal::{LogIndex, NodeId};
use wire::membership::{ChangeRefusal, Membership, Role};
use wire::peer::{Answer, FORWARDS_MAX, Frame, Outcome};

use super::CoreEnd;
use super::forward::{Asker, Forwarding, LEADER_WAIT, not_carried, refused};
use super::group::{CoreEvent, Peers};
use super::region::{InRegion, both_through_frame};
use super::state::CoreState;
use crate::journal::{Room, SyncJob};

/// Batches that the core sequences before it waits for the first of them to be committed. More would only make smaller
/// batches.
const PIPELINE_MAX: usize = 16;

/// What a core needs as one of a group.
pub(super) struct Member {
    pub(super) peers: Box<dyn Peers>,
    pub(super) forwarding: Forwarding,
    node: NodeId,
    decides_with_others: bool,
    /// Its copy of the log never counts, so that it need not be durable.
    gateway: bool,
    /// What this node is to sequence.
    pending: VecDeque<(Command, Asker)>,
    answers: BTreeMap<NodeId, Vec<Answer>>,
    syncer: Sender<SyncJob>,
    sync_running: Option<Ticket>,
    sync_wanted: Option<Ticket>,
    /// True once a snapshot for a peer could not even be asked for.
    snapshot_not_made: bool,
    last_read: u64,
    reads: BTreeMap<ReadTicket, oneshot::Sender<Option<Sequence>>>,
    change: Option<oneshot::Sender<Result<(), ChangeRefusal>>>,
    /// Since when there is no leader; none: there is one.
    leaderless_since: Option<Instant>,
}

impl Member {
    pub(super) fn new(
        node: NodeId,
        now: Timestamp,
        membership: &Membership,
        gateway: bool,
        peers: Box<dyn Peers>,
        syncer: Sender<SyncJob>,
    ) -> Self {
        Self {
            gateway,
            peers,
            forwarding: Forwarding::new(now),
            node,
            decides_with_others: !membership.is_lone_voter(node),
            pending: VecDeque::new(),
            answers: BTreeMap::new(),
            syncer,
            sync_running: None,
            sync_wanted: None,
            snapshot_not_made: false,
            last_read: 0,
            reads: BTreeMap::new(),
            change: None,
            leaderless_since: Some(Instant::now()),
        }
    }

    /// False of a lone voter: what it has on disk is committed, and nobody else may lead.
    pub(super) fn decides_with_others(&self) -> bool {
        self.decides_with_others
    }

    /// True while commands had better wait in the queue, so that they come in larger batches.
    pub(super) fn has_enough(&self, in_flight: usize) -> bool {
        self.decides_with_others && (in_flight >= PIPELINE_MAX || self.pending.len() >= BATCH_COMMANDS_MAX)
    }

    /// True if no client of this node waits for something that is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.forwarding.count() == 0
    }

    /// Sends what the replica says to a peer.
    pub(super) fn send(&self, message: PeerMessage) {
        if let Some(point) = message.snapshot_point() {
            self.peers.send_snapshot(message, point);
        } else {
            let to = message.to();
            // What is not taken is lost, as on any line: consensus sends it again.
            let _ = self.peers.send(to, Frame::Raft(message.into()));
        }
    }

    /// A sync that was asked for and not begun.
    pub(super) fn take_sync_wanted(&mut self) -> Option<Ticket> {
        self.sync_wanted.take()
    }

    /// A peer needs a snapshot.
    pub(super) fn want_snapshot(&mut self, at_least: LogIndex) {
        self.snapshot_not_made |= !self.peers.make_snapshot(at_least);
    }

    /// A command of another node's client was not sequenced here.
    pub(super) fn refuse(&mut self, node: NodeId, token: u64, why: Refusal) {
        self.answers.entry(node).or_default().push(refused(token, why));
    }

    /// A command of another node's client was executed.
    pub(super) fn executed(&mut self, node: NodeId, token: u64, batch: &AppliedBatch, index: usize) {
        let outcome = Outcome::Sequenced {
            sequence: Sequence(batch.header.first_sequence.0 + index as u64),
            epoch: batch.header.epoch,
        };
        self.answers.entry(node).or_default().push(Answer { token, outcome });
    }

    /// Sends the answers that have gathered. What does not get through is asked for again.
    pub(super) fn send_answers(&mut self) {
        while let Some((node, answers)) = self.answers.pop_first() {
            for some in answers.chunks(FORWARDS_MAX) {
                let _ = self.peers.send(node, Frame::Answers(some.to_vec()));
            }
        }
    }

    /// Tells the other nodes up to where everything is durable in both regions, before they hear of answers to that.
    pub(super) fn tell_both_through(&mut self, through: Sequence) {
        for node in self.answers.keys() {
            let _ = self.peers.send(*node, both_through_frame(through));
        }
    }

    /// The same to all of them.
    pub(super) fn tell_all_both_through(&self, through: Sequence, membership: &Membership) {
        for (node, _) in membership.iter().filter(|(node, _)| *node != self.node) {
            let _ = self.peers.send(node, both_through_frame(through));
        }
    }

    pub(super) fn change_taken(&mut self, taken: Result<(), ChangeRefusal>) {
        if let Some(waits) = self.change.take() {
            let _ = waits.send(taken);
        }
    }

    pub(super) fn read_from(&mut self, ticket: ReadTicket, sequence: Option<Sequence>) {
        if let Some(waits) = self.reads.remove(&ticket) {
            let _ = waits.send(sequence);
        }
    }
}

impl<M> CoreState<M>
where
    M: StateMachine<Command = Command, Event = Event>,
{
    /// Takes up commands of this node's clients.
    pub(super) fn route(&mut self, commands: Vec<(Command, Waiter)>) -> Result<(), CoreEnd> {
        self.count_taken(&commands);
        let commands = commands
            .into_iter()
            .map(|(command, waiter)| (command, Asker::Local(waiter.into())));
        self.member.pending.extend(commands);
        self.pump()
    }

    /// Something happened.
    pub(super) fn take_event(&mut self, event: CoreEvent) -> Result<(), CoreEnd> {
        match event {
            CoreEvent::Message(message) => self.step(Input::Message(message)),
            CoreEvent::Forwarded { from, commands } => {
                self.forwarded(from, commands);
                Ok(())
            }
            CoreEvent::Answers { from, answers } => {
                let at = self.shared.moment();
                self.member.forwarding.answered(from, answers, at, &mut self.bells);
                self.bells.ring();
                Ok(())
            }
            CoreEvent::Link { peer, up: false } => {
                if self.replica.leader() == Some(peer) {
                    self.member.forwarding.lost_leader();
                }
                self.step(Input::Unreachable(peer))
            }
            CoreEvent::Link { up: true, .. } | CoreEvent::Wake => Ok(()),
            CoreEvent::Read(waits) => {
                self.member.last_read += 1;
                let ticket = ReadTicket(self.member.last_read);
                self.member.reads.insert(ticket, waits);
                self.step(Input::Read(ticket))
            }
            CoreEvent::Site(event) => {
                self.take_site_event(event);
                Ok(())
            }
            CoreEvent::BothThrough(through) => {
                self.shared.both_through.fetch_max(through.0, Ordering::AcqRel);
                Ok(())
            }
            CoreEvent::Change(change, waits) => {
                self.member.change = Some(waits);
                self.step(Input::Change(change))
            }
            CoreEvent::TransferLeadership(to) => self.step(Input::TransferLeadership { to }),
            CoreEvent::SnapshotMade(Some(point)) => self.step(Input::SnapshotMade(point)),
            CoreEvent::SnapshotMade(None) => self.step(Input::SnapshotNotMade),
            CoreEvent::SnapshotSent { to, arrived } => self.step(Input::SnapshotSent { to, arrived }),
            CoreEvent::ClockUnsure(unsure) => self.step(Input::ClockUnsure(unsure)),
            CoreEvent::Synced(done) => {
                self.shared.stages.record_sync(done.ns());
                self.journal.finish_sync(done)?;
                match self.member.sync_running.take() {
                    Some(ticket) => self.step(Input::Persisted(ticket)),
                    None => Ok(()),
                }
            }
        }
    }

    /// Another node hands on commands of its clients.
    fn forwarded(&mut self, from: NodeId, commands: Vec<(u64, Option<Command>)>) {
        let leads = self.replica.leads();
        for (token, command) in commands {
            match command {
                // What lets time pass is the leader's own.
                None
                | Some(Command {
                    action: Action::Clock, ..
                }) => self.member.answers.entry(from).or_default().push(not_carried(token)),
                Some(_) if !leads => self.member.refuse(from, token, Refusal::NotLeader),
                Some(_) if self.member.pending.len() >= COMMANDS_QUEUED_MAX => {
                    self.member.refuse(from, token, Refusal::Busy);
                }
                Some(command) => self
                    .member
                    .pending
                    .push_back((command, Asker::Peer { node: from, token })),
            }
        }
        self.member.send_answers();
    }

    /// Brings on what waits: sequences it, or hands it on to whoever leads.
    pub(super) fn pump(&mut self) -> Result<(), CoreEnd> {
        let alone = !self.member.decides_with_others();
        if alone && self.member.pending.is_empty() && self.member.forwarding.is_idle() {
            return Ok(());
        }
        if !matches!(self.replica.accepting(), Ok(()) | Err(Refusal::Busy)) {
            self.hand_on();
            return Ok(());
        }
        // What was sequenced can't be refused any more, so nothing is that might have to wait for the disk.
        while self.journal.room() == Room::Enough {
            let room = BATCH_COMMANDS_MAX.saturating_sub(self.member.pending.len());
            let parked = self.member.forwarding.take(room);
            for (command, local) in parked.into_iter().rev() {
                self.member.pending.push_front((command, Asker::Local(local)));
            }
            let count = self.member.pending.len().min(BATCH_COMMANDS_MAX);
            if self.region.as_ref().is_some_and(InRegion::has_too_much) {
                return Ok(());
            }
            if count == 0 || self.replica.in_flight_count() >= PIPELINE_MAX {
                return Ok(());
            }
            let commands = self.member.pending.drain(..count).collect();
            self.step(Input::Commands(commands))?;
            if self.replica.accepting().is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Hands on what this node does not sequence.
    fn hand_on(&mut self) {
        for (command, asker) in std::mem::take(&mut self.member.pending) {
            match asker {
                Asker::Peer { node, token } => self.member.refuse(node, token, Refusal::NotLeader),
                Asker::Local(local) => self.member.forwarding.park([(command, local)], &mut self.bells),
            }
        }
        self.bells.ring();
        self.member.send_answers();
        let own = self.member.node;
        let Some(leader) = self.replica.leader().filter(|leader| *leader != own) else {
            return;
        };
        let Member { forwarding, peers, .. } = &mut self.member;
        let mut taken = true;
        while taken && !forwarding.is_idle() {
            taken = false;
            forwarding.hand_on(leader, FORWARDS_MAX, |forwards| {
                taken = peers.send(leader, Frame::Forward(forwards));
                taken
            });
        }
    }

    /// What is to be done now and then.
    pub(super) fn group_tick(&mut self) -> Result<(), CoreEnd> {
        self.member.forwarding.tick(NotAccepting::NotLeader, &mut self.bells);
        self.bells.ring();
        if std::mem::take(&mut self.member.snapshot_not_made) {
            self.step(Input::SnapshotNotMade)?;
        }
        self.pump()
    }

    /// Somebody else leads, or nobody: what was sent to the last leader goes to the next.
    pub(super) fn leader_changed(&mut self, leader: Option<NodeId>) {
        let term = self.replica.term().0;
        match leader {
            Some(leader) => tracing::info!(leader = leader.0, term, "the group has a leader"),
            None => tracing::warn!(term, "the group has no leader that this node knows of"),
        }
        self.member.forwarding.lost_leader();
        self.member.leaderless_since = leader.is_none().then(Instant::now);
        self.tell_status();
    }

    pub(super) fn members_changed(&mut self, membership: &Membership) {
        let node = self.member.node;
        self.member.decides_with_others = !membership.is_lone_voter(node);
        let lone = !self.member.decides_with_others;
        self.shared.lone.store(lone, Ordering::Release);
        let voters: Vec<u64> = membership.voters().map(|voter| voter.0).collect();
        tracing::info!(
            ?voters,
            members = membership.len(),
            "who belongs to the group has changed"
        );
        if membership.get(node).is_none() {
            tracing::error!("this node was removed from its group; stop it. Its data folder is of no use any more");
        }
        self.member.peers.members_changed(membership);
        // So that a node whose journal is lost still knows that it has peers.
        let _ = self.member.peers.make_snapshot(self.replica.applier().applied().index);
        let role = membership.get(node).map(|member| member.role);
        if self.member.gateway && role.is_some_and(|role| role != Role::Gateway) {
            tracing::error!(
                "this node runs as a gateway and was added as one that keeps the log: remove it and add it with --gateway"
            );
        }
        self.tell_status();
    }

    /// Whether commands are taken: as long as there is somebody to sequence them, or there was a moment ago.
    pub(super) fn follow_group(&mut self) {
        let is_member = self.replica.applier().membership().get(self.member.node).is_some();
        let by_region = self.region.as_ref().map_or(Ok(()), InRegion::accepting);
        match self.member.leaderless_since {
            _ if let Err(why) = by_region => self.set_accepting(Err(why)),
            // Nobody hears one that is not, or not any more, among the members.
            _ if !is_member => self.set_accepting(Err(NotAccepting::NotLeader)),
            None => self.set_accepting(Ok(())),
            Some(since) if since.elapsed() > LEADER_WAIT => self.set_accepting(Err(NotAccepting::NotLeader)),
            Some(_) => {}
        }
    }

    /// Tells everybody else how the group is.
    pub(super) fn tell_status(&self) {
        let applier = self.replica.applier();
        let peers = self.replica.peers().into_iter();
        let known: BTreeMap<NodeId, _> = peers.map(|(node, matched, heard)| (node, (matched, heard))).collect();
        let own = self.member.node;
        let members = applier.membership().iter().map(|(node, member)| {
            let is_own = node == own;
            MemberStatus {
                node,
                role: member.role,
                address: member.address.clone(),
                matched: if is_own && self.replica.leads() {
                    Some(self.replica.last_index())
                } else {
                    known.get(&node).map(|(matched, _)| *matched)
                },
                heard: is_own || known.get(&node).is_some_and(|(_, heard)| *heard),
                engine_version_max: if is_own {
                    Some(applier.machine().engine_version_max())
                } else {
                    self.member.peers.engine_version_of(node)
                },
            }
        });
        let status = GroupStatus {
            node: own,
            leader: self.replica.leader(),
            term: self.replica.term(),
            applied: applier.applied().index,
            repairing: self.replica.is_repairing(),
            engine_version: applier.machine().engine_version(),
            members: members.collect(),
        };
        self.shared.set_group(status);
    }

    /// Has what was appended synced on another thread, so that peers are heard meanwhile. Answers with the next input if
    /// nothing had to be.
    pub(super) fn sync_beside(&mut self, asked: Option<Ticket>) -> Result<Option<Input<Command, Asker>>, CoreEnd> {
        if asked.is_some() {
            self.member.sync_wanted = asked;
        }
        if self.member.sync_running.is_some() {
            return Ok(None);
        }
        let Some(ticket) = self.member.sync_wanted.take() else {
            return Ok(None);
        };
        if self.member.gateway {
            let own = self.replica.applier().membership().get(self.member.node);
            let counts = own.is_some_and(|member| member.role != Role::Gateway);
            // Taken for a node that keeps the log, it acknowledges nothing.
            return Ok((!counts).then_some(Input::Persisted(ticket)));
        }
        match self.journal.begin_sync()? {
            Some(job) => {
                self.member.sync_running = Some(ticket);
                // The thread is there until the core is gone.
                let _ = self.member.syncer.send(job);
                Ok(None)
            }
            // A new segment was begun since, and all before it is durable.
            None => Ok(Some(Input::Persisted(ticket))),
        }
    }
}
