//! What can come of a call other than an answer.

use thiserror::Error;
use wire::json::{AppliesTo, Problem};

/// What can come of a call other than an answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClientError {
    /// It was not executed, and no earlier attempt of this call can have been.
    #[error("refused: {}", explain(.0))]
    Refused(Box<Problem>),
    /// It may have been executed. Ask again with the same id and the same body: it executes at most once.
    #[error("the outcome of request {request_id} is unknown; ask again with the same id ({why})")]
    Unknown {
        /// The id to ask again with.
        request_id: String,
        /// What happened last.
        why: String,
    },
    /// The exchange can't be reached, or does not answer, and nothing was changed by this call.
    #[error("the exchange does not answer: {0}")]
    Unavailable(String),
    /// The other side does not speak as the exchange does.
    #[error("the answer is not understood: {0}")]
    NotUnderstood(String),
    /// The call can't be made like this.
    #[error("{0}")]
    Usage(String),
}

impl ClientError {
    /// True if the exchange refused the request for good: nothing under its id has executed or will.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.applies_to == AppliesTo::Order)
    }

    /// The code of the refusal, if it is one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.code),
            _ => None,
        }
    }
}

/// A problem as one sentence or two.
pub(crate) fn explain(problem: &Problem) -> String {
    let mut text = format!("{} ({})", problem.title, problem.code);
    if let Some(field) = &problem.field {
        text.push_str(&format!(" Field {field}."));
    }
    if let Some(detail) = &problem.detail {
        text.push_str(&format!(" {detail}"));
    }
    text
}
