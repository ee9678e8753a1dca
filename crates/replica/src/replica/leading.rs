//! What a leader looks after besides sequencing: learners, its own disk, who leads next, and what peers are sent.

use raft::ProgressState;
use types::limits::BATCHES_IN_FLIGHT_MAX;

use super::*;

/// Bytes of applied entries that a member of a group keeps in memory, for peers that lag a little.
const LOG_KEPT_BYTES: usize = 64 << 20;
/// How many applied entries it keeps at most.
const LOG_KEPT_ENTRIES: usize = 1 << 16;
/// Bytes of entries that it keeps while a peer is given the snapshot in front of them.
const LOG_PINNED_BYTES_MAX: usize = 1 << 30;
/// A learner that lags by at most this many entries is made a voter.
const PROMOTE_WITHIN: u64 = BATCHES_IN_FLIGHT_MAX as u64;
/// Ticks for which a leader's own disk may be the slowest of all before leadership goes to another.
const SLOW_DISK_TICKS: u32 = 15;

impl<M: StateMachine, W> Replica<M, W> {
    /// Lets the consensus clock advance, and looks after what is to be done now and then.
    pub(super) fn tick(&mut self, now: Now, outputs: &mut Outputs<M, W>) {
        self.ticks += 1;
        let leads = self.raw.raft.state == StateRole::Leader;
        // Who must not lead lets no time pass for its own election.
        if leads || (self.repair.is_none() && !self.clock_unsure) {
            self.raw.tick();
        } else {
            // It may vote once it has not heard of a leader for long enough, as any other.
            self.raw.raft.election_elapsed += 1;
        }
        self.ask_for_what_was_lost(outputs);
        self.reads.tick(self.raw.raft.election_timeout(), outputs);
        if !self.serves_reads() {
            self.reads.refuse_waiting(outputs);
        }
        self.ask_for_reads(now);
        if !leads {
            self.behind_others = None;
            return;
        }
        if self.clock_unsure && self.raw.raft.lead_transferee.is_none() {
            self.hand_over(None, HandOver::ClockUnsure, outputs);
        }
        self.promote();
        self.watch_own_disk(outputs);
        self.unpin();
    }

    /// False of a leader that sequences nothing because another region may be active: what it has may not be the newest. Its
    /// own reads and those of its peers fail.
    pub(super) fn serves_reads(&self) -> bool {
        self.epoch.is_some() || self.raw.raft.state != StateRole::Leader
    }

    /// Makes a learner that has caught up a voter.
    pub(super) fn promote(&mut self) {
        if !self.leads() || self.draining {
            return;
        }
        let last = self.raw.raft.raft_log.last_index();
        let caught_up = |node: NodeId| {
            let progress = self.raw.raft.prs().get(node.0);
            let follows = progress.filter(|progress| progress.state == ProgressState::Replicate);
            follows.is_some_and(|progress| self.was_heard(node.0) && progress.matched + PROMOTE_WITHIN >= last)
        };
        let learners = self.applier.membership().iter();
        let learners = learners.filter(|(_, member)| member.role == Role::Learner);
        let ready: Option<NodeId> = learners.map(|(node, _)| node).find(|node| caught_up(*node));
        if let Some(node) = ready {
            // Another change may be under way; then the next tick tries again.
            let _ = self.change(&MembershipChange::Promote(node));
        }
    }

    /// Hands leadership over if most of the others have had something on disk for a while that this node's own disk does
    /// not have yet: entries are answered no earlier than they are on the leader's disk.
    pub(super) fn watch_own_disk(&mut self, outputs: &mut Outputs<M, W>) {
        let own = self.raw.raft.raft_log.persisted;
        if let Some((through, ticks)) = self.behind_others.filter(|(through, _)| *through > own) {
            self.behind_others = Some((through, ticks + 1));
            if ticks >= SLOW_DISK_TICKS {
                self.behind_others = None;
                self.hand_over(None, HandOver::SlowDisk, outputs);
            }
            return;
        }
        // What all but a minority of the voters have, this node not counted.
        let mut matched: Vec<u64> = self.other_voters().map(|(_, matched, _)| matched).collect();
        matched.sort_unstable_by(|one, other| other.cmp(one));
        let majority = self.applier.membership().voters().count() / 2 + 1;
        let theirs = matched.get(majority - 1).copied();
        self.behind_others = theirs.filter(|through| *through > own).map(|through| (through, 0));
    }

    /// True if a peer was heard of within the last election time-out.
    pub(super) fn was_heard(&self, peer: u64) -> bool {
        let recent = self.raw.raft.election_timeout() as u64;
        self.heard.get(&peer).is_some_and(|tick| self.ticks - tick <= recent)
    }

    /// The other voters: who, the last entry that each has, and whether it was heard of lately.
    pub(super) fn other_voters(&self) -> impl Iterator<Item = (NodeId, u64, bool)> {
        let own = NodeId(self.raw.raft.id);
        let others = self.applier.membership().voters().filter(move |voter| *voter != own);
        others.filter_map(|voter| {
            let progress = self.raw.raft.prs().get(voter.0)?;
            Some((voter, progress.matched, self.was_heard(voter.0)))
        })
    }

    /// Hands leadership over to this voter, or to the one that has most of the log.
    pub(super) fn hand_over(&mut self, to: Option<NodeId>, why: HandOver, outputs: &mut Outputs<M, W>) {
        if self.raw.raft.state != StateRole::Leader {
            return;
        }
        let most = || {
            let active = self.other_voters().filter(|(_, _, active)| *active);
            active.max_by_key(|(_, matched, _)| *matched).map(|(voter, ..)| voter)
        };
        let known = |node: &NodeId| self.other_voters().any(|(voter, ..)| voter == *node);
        let chosen = match to {
            Some(_) => to.filter(known),
            None => most(),
        };
        let Some(to) = chosen else { return };
        outputs.push(Output::HandingOver { to, why });
        self.raw.transfer_leader(to.0);
    }

    /// Proposes a change of the membership.
    pub(super) fn change(&mut self, change: &MembershipChange) -> Result<(), ChangeRefusal> {
        if self.may_propose().is_err() || self.clock_unsure {
            return Err(ChangeRefusal::NotLeader);
        }
        if self.raw.raft.has_pending_conf() {
            return Err(ChangeRefusal::UnderWay);
        }
        let entry = membership::entry_of(change, self.applier.membership())?;
        if let MembershipChange::Remove(node) = change {
            self.may_remove(*node)?;
        }
        let proposed = self.raw.propose_conf_change(Vec::new(), entry);
        proposed.map_err(|_| ChangeRefusal::NotLeader)
    }

    /// Those that would be left must be able to go on.
    pub(super) fn may_remove(&self, node: NodeId) -> Result<(), ChangeRefusal> {
        if node.0 == self.raw.raft.id {
            return Err(ChangeRefusal::IsLeader);
        }
        let left = self.other_voters().filter(|(voter, ..)| *voter != node);
        let (count, active) = left.fold((1, 1), |(count, active), (.., heard_of)| {
            (count + 1, active + usize::from(heard_of))
        });
        if active > count / 2 {
            Ok(())
        } else {
            Err(ChangeRefusal::NoQuorum)
        }
    }

    /// A peer needs what is no longer here: a snapshot must be made, and from now on the log is kept for it.
    pub(super) fn want_snapshot(&mut self, outputs: &mut Outputs<M, W>) {
        let applied = self.applier.applied().index;
        if self.pinned.is_none() || self.raw.store().snapshot_point().is_some() {
            // The one that there is lacks the peer in its membership, or there is none.
            self.pinned = Some(applied.0);
            self.raw.mut_store().set_snapshot(None);
            outputs.push(Output::SnapshotWanted { at_least: applied });
        }
    }

    /// There is no snapshot for peers, or none that they can be sent: the next that needs one has another made.
    pub(super) fn forget_snapshot(&mut self) {
        self.pinned = None;
        self.raw.mut_store().set_snapshot(None);
    }

    /// The log is kept for nobody in particular once no peer that answers lacks anything from before it.
    pub(super) fn unpin(&mut self) {
        let Some(pinned) = self.pinned else { return };
        let needs = self
            .raw
            .raft
            .prs()
            .iter()
            .any(|(id, progress)| *id != self.raw.raft.id && self.was_heard(*id) && progress.matched < pinned);
        if !needs {
            self.forget_snapshot();
        }
    }

    /// Drops from memory what is applied here and is not kept for peers.
    pub(super) fn trim(&mut self) {
        let applied = self.raw.raft.raft_log.applied;
        if self.applier.membership().len() <= 1 {
            return self.raw.mut_store().trim(applied);
        }
        if self.pinned.is_some() && self.raw.store().bytes() > LOG_PINNED_BYTES_MAX {
            // The peer was too slow; it is given another snapshot.
            self.forget_snapshot();
        }
        let through = self.pinned.map_or(applied, |pinned| pinned.min(applied));
        self.raw.mut_store().trim_to(through, LOG_KEPT_BYTES, LOG_KEPT_ENTRIES);
    }
}
