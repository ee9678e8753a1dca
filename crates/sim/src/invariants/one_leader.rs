//! A term has one leader.

use std::collections::BTreeMap;

use wire::journal::{NodeId, Term};

use super::Checked;

pub(crate) const NAME: &str = "a term has one leader";

/// Who sequenced in each term.
#[derive(Debug, Default)]
pub(crate) struct OneLeader(BTreeMap<Term, NodeId>);

impl OneLeader {
    /// A node accepts commands in a term.
    pub(crate) fn check(&mut self, term: Term, node: NodeId) -> Checked {
        let first = *self.0.entry(term).or_insert(node);
        if first == node {
            return Ok(());
        }
        Err(format!("nodes {first} and {node} both lead in term {term}"))
    }
}
