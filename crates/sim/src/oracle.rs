//! The oracle: what clients were told and what nodes put out, held against each invariant.

use types::{AccountId, RequestId, Sequence};
use wire::journal::{NodeId, Term};

use crate::invariants::acknowledged::{Acknowledged, Answer};
use crate::invariants::all_equal::Standing;
use crate::invariants::answers_agree::AnswersAgree;
use crate::invariants::executed_once::ExecutedOnce;
use crate::invariants::one_leader::OneLeader;
use crate::invariants::one_order::OneOrder;
use crate::invariants::{
    Checked, acknowledged, all_equal, answers_agree, executed_once, healed, money, never_stops, one_leader, one_order,
    reads, stamps,
};
use crate::market::{Executed, Genesis, Market};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// How.
    pub what: String,
}

/// See the module. It remembers the first broken promise.
#[derive(Debug)]
pub(crate) struct Oracle {
    order: OneOrder,
    once: ExecutedOnce,
    acknowledged: Acknowledged,
    answers: AnswersAgree,
    leaders: OneLeader,
    violation: Option<Violation>,
}

impl Oracle {
    pub(crate) fn new() -> Self {
        Self {
            order: OneOrder::new(Genesis::get().sequence()),
            once: ExecutedOnce::default(),
            acknowledged: Acknowledged::default(),
            answers: AnswersAgree::default(),
            leaders: OneLeader::default(),
            violation: None,
        }
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    fn hold(&mut self, invariant: &'static str, checked: Checked) {
        if let (Err(what), None) = (checked, &self.violation) {
            self.violation = Some(Violation { invariant, what });
        }
    }

    /// A node executed a command, live or at its start.
    pub(crate) fn executed(&mut self, node: NodeId, executed: &Executed) {
        match self.order.executed(node, executed) {
            Err(what) => self.hold(one_order::NAME, Err(what)),
            Ok(false) => {}
            Ok(true) => {
                let before = self.order.at(Sequence(executed.sequence.0 - 1));
                self.hold(stamps::NAME, stamps::check(before, executed));
                let once = self.once.check(executed);
                self.hold(executed_once::NAME, once);
            }
        }
    }

    /// A node answers a client.
    pub(crate) fn answered(&mut self, answer: &Answer) {
        let known = self.acknowledged.answered(answer, &self.order);
        self.hold(acknowledged::NAME, known);
        let agrees = self.answers.check(answer);
        self.hold(answers_agree::NAME, agrees);
    }

    /// A client hears an answer to what it asked.
    pub(crate) fn told(&mut self, asked: (AccountId, RequestId), answer: &Answer) {
        self.hold(answers_agree::NAME, answers_agree::is_of(asked, answer));
    }

    /// A node answers before it should.
    pub(crate) fn told_early(&mut self, answer: &Answer) {
        self.acknowledged.told_early(answer);
        let agrees = self.answers.check(answer);
        self.hold(answers_agree::NAME, agrees);
    }

    /// The last sequence that a client was told of.
    pub(crate) fn acknowledged(&self) -> Sequence {
        self.acknowledged.last()
    }

    /// How many commands were executed.
    pub(crate) fn executed_count(&self) -> u64 {
        self.order.all().len() as u64
    }

    pub(crate) fn read(&mut self, node: NodeId, acknowledged: Sequence, sees: Sequence) {
        self.hold(reads::NAME, reads::check(node, acknowledged, sees));
    }

    pub(crate) fn accepts(&mut self, term: Term, node: NodeId) {
        let checked = self.leaders.check(term, node);
        self.hold(one_leader::NAME, checked);
    }

    pub(crate) fn stopped(&mut self, node: NodeId, why: String) {
        self.hold(never_stops::NAME, Err(format!("node {node}: {why}")));
    }

    pub(crate) fn panicked(&mut self, what: String) {
        self.hold(never_stops::NAME, Err(format!("a panic: {what}")));
    }

    pub(crate) fn not_healed(&mut self, what: String) {
        self.hold(healed::NAME, Err(what));
    }

    /// Looks at a node's whole state.
    pub(crate) fn look_at(&mut self, node: NodeId, market: &Market, through: Sequence) {
        let checked = money::check(node, market, &self.order, through);
        self.hold(money::NAME, checked);
    }

    /// The end of a run.
    pub(crate) fn finished(&mut self, nodes: &[Standing]) {
        self.hold(all_equal::NAME, all_equal::check(nodes));
        let early = self.acknowledged.check_early(&self.order);
        self.hold(acknowledged::NAME, early);
        for node in nodes {
            let kept = self.acknowledged.check(node.applied.sequence);
            self.hold(acknowledged::NAME, kept);
        }
    }
}
