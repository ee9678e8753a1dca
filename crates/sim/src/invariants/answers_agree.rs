//! All answers to one request are of that request, and tell of the same execution, or of the same refusal, however often it
//! was sent and to whom.

use std::collections::BTreeMap;

use types::{AccountId, RejectReason, RequestId, Sequence};

use super::Checked;
use super::acknowledged::Answer;
use super::executed_once::is_not_remembered;
use crate::market::Outcome;

pub(crate) const NAME: &str = "answers agree";

/// What was told first of each request.
#[derive(Debug, Default)]
pub(crate) struct AnswersAgree {
    told: BTreeMap<(AccountId, RequestId), (Option<Sequence>, Option<RejectReason>)>,
}

impl AnswersAgree {
    pub(crate) fn check(&mut self, answer: &Answer) -> Checked {
        let says = match answer.outcome {
            Outcome::Executed => (Some(answer.sequence), None),
            Outcome::Rejected(reason) if is_not_remembered(reason) => (None, Some(reason)),
            Outcome::Rejected(reason) => (Some(answer.sequence), Some(reason)),
            Outcome::Repeated(original, reason) => (Some(original), reason),
        };
        let first = *self.told.entry((answer.account, answer.request_id)).or_insert(says);
        if first == says {
            Ok(())
        } else {
            Err(format!("{answer:?} was told, and {first:?} before"))
        }
    }
}

/// A client is answered what it asked.
pub(crate) fn is_of(asked: (AccountId, RequestId), answer: &Answer) -> Checked {
    if asked == (answer.account, answer.request_id) {
        return Ok(());
    }
    Err(format!(
        "{answer:?} was told to whoever asked {} of account {}",
        asked.1, asked.0
    ))
}
