//! Errors as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scalar::{AppliesTo, DurableIn, Outcome, Position, Times};
use crate::errors::ErrorCode;

/// Why a request was not executed, or why that is not known (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Where the code is explained, as a reference relative to the address that was asked: `/docs#<code>`.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The code's meaning, the same every time.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The code for programs.
    #[schema(examples("insufficient_funds"))]
    pub code: String,
    /// What became of the request.
    pub outcome: Outcome,
    /// What the outcome speaks of.
    pub applies_to: AppliesTo,
    /// What was wrong this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The header, parameter or key that was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When it is worth trying again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The request's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// True if the same request was refused before and this is that answer again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<bool>,
    /// Where the request was sequenced, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Where its (absent) effects are durable, if it was sequenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable_in: Option<DurableIn>,
    /// When, if it was sequenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// Where a stream can be resumed instead: the first position that is kept, or the last one before a fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_position: Option<Position>,
    /// Which node leads the group, if this one does not and knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub leader: Option<u64>,
}

impl Problem {
    /// The problem of a code, without particulars.
    pub fn new(code: ErrorCode) -> Self {
        let entry = code.entry();
        Self {
            problem_type: format!("/docs#{}", entry.code),
            title: entry.meaning.to_owned(),
            status: entry.http_status,
            code: entry.code.to_owned(),
            outcome: entry.outcome,
            applies_to: entry.applies_to,
            detail: None,
            field: None,
            retry_after_ms: None,
            request_id: None,
            repeat: None,
            position: None,
            durable_in: None,
            times: None,
            kept_position: None,
            leader: None,
        }
    }
}
