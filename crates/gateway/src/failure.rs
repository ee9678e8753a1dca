//! A request that was not executed, or of which that is not known, on its way to the client.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use wire::errors::{ErrorCode, Refusal};
use wire::journal::NodeId;
use wire::json::Problem;

use crate::handle::{HistoryError, NotAccepting, SubmitError};

/// How long a client waits by default before it tries again, in milliseconds.
const RETRY_AFTER_MS_DEFAULT: u64 = 1_000;

/// Why a request was not executed, as it will stand in the answer.
#[derive(Clone, Debug)]
pub struct Failure(Box<Problem>);

impl Failure {
    /// A failure without particulars.
    pub fn new(code: impl Into<ErrorCode>) -> Self {
        let mut problem = Problem::new(code.into());
        if problem.status == 503 {
            problem.retry_after_ms = Some(RETRY_AFTER_MS_DEFAULT);
        }
        Self(Box::new(problem))
    }

    /// Says which header, parameter or key was wrong.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Says what was wrong this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Says when it is worth trying again.
    #[must_use]
    pub fn retry_after_ms(mut self, milliseconds: u64) -> Self {
        self.0.retry_after_ms = Some(milliseconds);
        self
    }

    /// Says that waiting may help.
    #[must_use]
    pub fn retry_later(self) -> Self {
        self.retry_after_ms(RETRY_AFTER_MS_DEFAULT)
    }

    /// Says who leads the group.
    #[must_use]
    pub fn leader(mut self, leader: NodeId) -> Self {
        self.0.leader = Some(leader.0);
        self
    }

    /// Says which request it was, if that isn't said yet.
    #[must_use]
    pub fn request_id(mut self, request_id: &str) -> Self {
        if !request_id.is_empty() {
            self.0.request_id.get_or_insert_with(|| request_id.to_owned());
        }
        self
    }

    /// The failure as JSON.
    pub fn into_problem(self) -> Problem {
        *self.0
    }

    /// The failure as JSON.
    pub fn problem(&self) -> &Problem {
        &self.0
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal)
    }
}

impl From<NotAccepting> for Refusal {
    fn from(reason: NotAccepting) -> Self {
        match reason {
            NotAccepting::Starting => Self::NodeStarting,
            NotAccepting::Stopping => Self::NodeStopping,
            NotAccepting::NotLeader => Self::NotLeader,
            NotAccepting::NotActive => Self::RegionNotActive,
            NotAccepting::StandbyLags => Self::StandbyLags,
            NotAccepting::DiskFull => Self::DiskFull,
            NotAccepting::DiskFailed => Self::DiskFailed,
            NotAccepting::ClockUnsure => Self::ClockUnsure,
            NotAccepting::StateDiverged => Self::StateDiverged,
            NotAccepting::ApplyFailed => Self::ApplyFailed,
        }
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Busy { retry_after_ms } => Self::new(Refusal::Busy).retry_after_ms(retry_after_ms),
            SubmitError::NotAccepting(reason) => Self::new(Refusal::from(reason)),
            SubmitError::TooLarge => Self::new(Refusal::BodyTooLarge).detail(error.to_string()),
        }
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Retired { .. } => Self::new(Refusal::HistoryRetired),
            HistoryError::Rebuilding => Self::new(Refusal::HistoryRebuilding),
            HistoryError::Io(error) => {
                tracing::error!(error, "the event log could not be read");
                Self::new(Refusal::HistoryUnreadable)
            }
        }
    }
}

impl From<crate::view::QueryError> for Failure {
    fn from(error: crate::view::QueryError) -> Self {
        let crate::view::QueryError::History(error) = error;
        error.into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = self.0;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&problem).expect("a problem is plain data");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(milliseconds) = problem.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(milliseconds.div_ceil(1_000).max(1)));
        }
        response
    }
}
