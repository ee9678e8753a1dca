//! No request is executed twice, however often it is sent: the second time it is a repeat of the first.

use std::collections::BTreeMap;

use types::{AccountId, RejectReason, RequestId, Sequence};

use super::Checked;
use crate::market::{Executed, Outcome};

pub(crate) const NAME: &str = "nothing is executed twice";

/// Where each request was executed, or refused for good.
#[derive(Debug, Default)]
pub(crate) struct ExecutedOnce {
    first: BTreeMap<(AccountId, RequestId), (Sequence, Option<RejectReason>)>,
}

/// True of a refusal that comes again as often as the request does.
pub(crate) fn is_not_remembered(reason: RejectReason) -> bool {
    !reason.uses_request_id() || reason == RejectReason::RequestIdBurnt
}

impl ExecutedOnce {
    /// The next command of the one order.
    pub(crate) fn check(&mut self, executed: &Executed) -> Checked {
        if executed.request_id == RequestId::EMPTY {
            return Ok(());
        }
        let request = (executed.account, executed.request_id);
        let known = self.first.get(&request).copied();
        let reason = match executed.outcome {
            Outcome::Rejected(reason) if is_not_remembered(reason) => return Ok(()),
            Outcome::Rejected(reason) => Some(reason),
            Outcome::Executed => None,
            Outcome::Repeated(original, reason) => {
                if known == Some((original, reason)) {
                    return Ok(());
                }
                return Err(format!("{executed:?} repeats what was {known:?}"));
            }
        };
        if let Some((first, _)) = known {
            return Err(format!("{executed:?} was executed at sequence {first} before"));
        }
        self.first.insert(request, (executed.sequence, reason));
        Ok(())
    }
}
