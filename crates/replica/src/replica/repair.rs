//! A voter that may have lost something that it acknowledged, and its leader.
//!
//! It asks each leader that it comes to know how far the log goes, and neither votes nor stands for election before it has
//! all of that, committed. The leader no longer counts it as having what it lost.

use raft::ProgressState;

use super::*;

/// Ticks between two requests of a voter that lost something.
const LOST_AGAIN_TICKS: u32 = 5;

/// A voter on its way back from the loss of something.
#[derive(Debug, Default)]
pub(super) struct Repair {
    /// The leader that was asked, its term, and how far its log went then.
    pub(super) asked: Option<(u64, u64)>,
    pub(super) through: Option<LogIndex>,
    ticks: u32,
}

impl<M: StateMachine, W> Replica<M, W> {
    /// A voter that lost something asks its leader for it, anew of each leader.
    pub(super) fn ask_for_what_was_lost(&mut self, outputs: &mut Outputs<M, W>) {
        let (leader, term) = (self.raw.raft.leader_id, self.raw.raft.term);
        let Some(repair) = self.repair.as_mut().filter(|_| leader != raft::INVALID_ID) else {
            return;
        };
        if repair.asked != Some((leader, term)) {
            repair.asked = Some((leader, term));
            repair.through = None;
            repair.ticks = 0;
        }
        if repair.through.is_none() && repair.ticks.is_multiple_of(LOST_AGAIN_TICKS) {
            outputs.push(Output::Send(PeerMessage(Content::Lost {
                from: NodeId(self.raw.raft.id),
                to: NodeId(leader),
                last: LogIndex(self.raw.store().end_index()),
            })));
        }
        repair.ticks = repair.ticks.wrapping_add(1);
    }

    /// A voter lost what is behind `last`: it is sent again, and whoever counted it as there no longer does.
    pub(super) fn send_again(&mut self, voter: NodeId, last: LogIndex, outputs: &mut Outputs<M, W>) {
        if !self.leads() {
            return;
        }
        let through = LogIndex(self.raw.raft.raft_log.last_index());
        let Some(progress) = self.raw.raft.mut_prs().get_mut(voter.0) else {
            return;
        };
        if progress.state != ProgressState::Snapshot {
            progress.matched = progress.matched.min(last.0);
            progress.become_probe();
            // It has everything up to there, whether it has said so or not: a snapshot that was installed ends there.
            progress.next_idx = progress.next_idx.max(last.0.saturating_add(1)).min(through.0 + 1);
        }
        outputs.push(Output::Send(PeerMessage(Content::Needs {
            from: NodeId(self.raw.raft.id),
            to: voter,
            through,
        })));
    }

    /// The voter that lost something has it again.
    pub(super) fn end_repair(&mut self, outputs: &mut Outputs<M, W>) {
        let applied = self.applier.applied().index;
        let through = self.repair.as_ref().and_then(|repair| repair.through);
        if through.is_some_and(|through| through <= applied) {
            self.repair = None;
            outputs.push(Output::Repaired);
        }
    }
}
