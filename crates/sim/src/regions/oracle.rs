//! The oracle of two regions: what clients were told, what nodes executed, and what the lease group agreed on, held against
//! each invariant.

use std::collections::BTreeMap;

use types::{Epoch, RegionId, Sequence};
use wire::journal::{LogIndex, NodeId};
use wire::site::{Durability, LeaseState};

use super::invariants::one_history::OneHistory;
use super::invariants::one_lease::OneLease;
use super::invariants::void_is_listed::{Evidence, Told};
use super::invariants::{
    both_is_kept, degraded_on_record, no_old_epoch, one_active, one_history, one_holder, one_lease, void_is_listed,
};
use crate::invariants::all_equal::Standing;
use crate::invariants::answers_agree::AnswersAgree;
use crate::invariants::executed_once::ExecutedOnce;
use crate::invariants::one_order::OneOrder;
use crate::invariants::{Checked, all_equal, answers_agree, executed_once, money, never_stops, reads, stamps};
use crate::market::{Executed, Genesis, Market};
use crate::oracle::Violation;

/// See the module. It remembers the first broken promise.
#[derive(Debug)]
pub(super) struct Oracle {
    sync: bool,
    history: OneHistory,
    lease: OneLease,
    evidence: Evidence,
    told: Vec<Told>,
    /// What was on record when each epoch began.
    recorded_at: BTreeMap<Epoch, Durability>,
    /// The last sequence of each epoch that a client was told of.
    acknowledged: BTreeMap<Epoch, Sequence>,
    /// The final history, once a run has ended.
    order: Option<OneOrder>,
    violation: Option<Violation>,
    /// How many answers were void in the end.
    pub(super) void: u64,
}

impl Oracle {
    pub(super) fn new(sync: bool) -> Self {
        Self {
            sync,
            history: OneHistory::default(),
            lease: OneLease::default(),
            evidence: Evidence::default(),
            told: Vec::new(),
            recorded_at: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            order: None,
            violation: None,
            void: 0,
        }
    }

    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    fn hold(&mut self, invariant: &'static str, checked: Checked) {
        if let (Err(what), None) = (checked, &self.violation) {
            self.violation = Some(Violation { invariant, what });
        }
    }

    /// How the lease is.
    pub(super) fn lease(&self) -> Option<&LeaseState> {
        self.lease.newest()
    }

    /// A voter of the lease group has applied an entry. The beginning of another epoch, if it is the first that did.
    pub(super) fn lease_applied(&mut self, index: LogIndex, state: &LeaseState) -> Option<LeaseState> {
        match self.lease.applied(index, state) {
            Err(what) => {
                self.hold(one_lease::NAME, Err(what));
                None
            }
            Ok(false) => None,
            Ok(true) => {
                let before = self.lease.before().cloned().unwrap_or_default();
                if before.epoch == state.epoch {
                    return None;
                }
                self.recorded_at.insert(state.epoch, before.durability);
                Some(before)
            }
        }
    }

    /// A node of a region that another one took over from.
    pub(super) fn superseded(&mut self, region: RegionId, node: NodeId, still_holds: bool) {
        self.hold(one_holder::NAME, one_holder::check(region, node, still_holds));
    }

    /// A node executed a command behind one of the epoch `before`, live or at its start.
    pub(super) fn executed(&mut self, node: NodeId, executed: &Executed, before: Epoch) {
        let checked = self.history.executed(node, executed, before, self.lease.newest());
        match checked {
            Err(what) => self.hold(one_history::NAME, Err(what)),
            Ok(false) => {}
            Ok(true) => {
                let in_front = self.history.before(executed, before);
                let checked = stamps::check(in_front, executed);
                self.hold(stamps::NAME, checked);
            }
        }
    }

    /// A leader put a batch into its group's log.
    pub(super) fn put_into_log(
        &mut self,
        node: NodeId,
        region: RegionId,
        lease: Option<&LeaseState>,
        batch: (Epoch, Sequence),
        is_followed: bool,
    ) {
        let checked = no_old_epoch::check(node, region, lease, batch, is_followed);
        self.hold(no_old_epoch::NAME, checked);
    }

    /// A node has looked whether it may answer, and may.
    pub(super) fn released(&mut self, told: &Told) {
        if self.sync {
            let recorded = self.lease.durability_in(told.epoch);
            self.hold(degraded_on_record::NAME, degraded_on_record::check(told, recorded));
        }
    }

    /// A node answers a client.
    pub(super) fn answered(&mut self, told: Told) {
        let checked = Evidence::is_told(&told, &self.history);
        self.hold(void_is_listed::NAME, checked);
        let last = self.acknowledged.entry(told.epoch).or_default();
        *last = told.answer.sequence.max(*last);
        self.told.push(told);
    }

    /// The last sequence that a client was told of and that the lease's history does not make void.
    pub(super) fn acknowledged(&self) -> Sequence {
        let Some(lease) = self.lease.newest() else {
            return Sequence(0);
        };
        if lease.began_after().is_none() {
            // What the present epoch has of the ones before is about to be said.
            return Sequence(0);
        }
        let kept = self.acknowledged.iter().map(|(epoch, last)| lease.kept(*epoch, *last));
        kept.max().unwrap_or_default()
    }

    /// A read that began when `acknowledged` was the last such sequence.
    pub(super) fn read(&mut self, node: NodeId, acknowledged: Sequence, sees: Sequence) {
        let still = acknowledged.min(self.acknowledged());
        self.hold(reads::NAME, reads::check(node, still, sees));
    }

    /// A node begins a new life and lists what is void.
    pub(super) fn list_void(&mut self, epoch: Epoch, sequence: Sequence) {
        self.evidence.list(epoch, sequence);
    }

    pub(super) fn stopped(&mut self, node: NodeId, why: String) {
        self.hold(never_stops::NAME, Err(format!("node {node}: {why}")));
    }

    pub(super) fn panicked(&mut self, what: String) {
        self.hold(never_stops::NAME, Err(format!("a panic: {what}")));
    }

    pub(super) fn not_healed(&mut self, what: String) {
        self.hold(one_active::NAME, Err(what));
    }

    /// The end of a run: where each node stands, by which epoch and sequence, and the lease's state on each voter.
    pub(super) fn finished(&mut self, nodes: &[Standing], leases: &[LeaseState]) {
        self.hold(all_equal::NAME, all_equal::check(nodes));
        for lease in leases {
            let checked = self.lease.check(lease);
            self.hold(one_lease::NAME, checked);
        }
        let Some(end) = nodes.first().map(|standing| standing.applied) else {
            return;
        };
        let mut order = OneOrder::new(Genesis::get().sequence());
        let mut once = ExecutedOnce::default();
        for executed in self.history.up_to(end.epoch, end.sequence) {
            let added = order.executed(NodeId(0), &executed).map(|_| ());
            self.hold(one_history::NAME, added);
            let checked = once.check(&executed);
            self.hold(executed_once::NAME, checked);
        }
        self.check_answers(&order);
        let checked = self.evidence.check_none_holds(&order);
        self.hold(void_is_listed::NAME, checked);
        self.order = Some(order);
    }

    fn check_answers(&mut self, order: &OneOrder) {
        let mut answers = AnswersAgree::default();
        for told in std::mem::take(&mut self.told) {
            let voided = self.lease.voided_by(told.epoch, told.answer.sequence);
            let checked = self.evidence.check(&told, voided.as_ref(), order);
            match &voided {
                None => {
                    let agrees = answers.check(&told.answer);
                    self.hold(answers_agree::NAME, agrees);
                }
                Some(start) => {
                    self.void += 1;
                    let recorded = self.recorded_at.get(&start.epoch).copied();
                    self.hold(both_is_kept::NAME, both_is_kept::check(&told, start, recorded));
                }
            }
            self.hold(void_is_listed::NAME, checked);
        }
    }

    /// Looks at a node's whole state, in the end.
    pub(super) fn look_at(&mut self, node: NodeId, market: &Market, through: Sequence) {
        let Some(order) = &self.order else { return };
        let checked = money::check(node, market, order, through);
        self.hold(money::NAME, checked);
    }
}
