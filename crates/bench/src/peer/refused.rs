//! Answers of the peer that say why something was not done: the same problems as Meridian's.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use wire::errors::{ErrorCode, Refusal};
use wire::json::Problem;

use super::market::OutOfRange;
use super::store::StoreError;
use types::RejectReason;

/// When a client that found no room may try again, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;

/// Why a request was not executed, or why that is not known.
#[derive(Debug)]
pub(super) struct Refused(Box<Problem>);

impl Refused {
    pub fn new(code: impl Into<ErrorCode>) -> Self {
        let mut problem = Problem::new(code.into());
        if problem.status == 503 {
            problem.retry_after_ms = Some(RETRY_AFTER_MS);
        }
        Self(Box::new(problem))
    }

    /// Says which header or key was wrong.
    pub fn field(mut self, field: &str) -> Self {
        self.0.field = Some(field.to_owned());
        self
    }

    /// Says what was wrong this time.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Says that the same request was refused before.
    pub fn repeat(mut self, repeat: bool) -> Self {
        self.0.repeat = Some(repeat);
        self
    }

    /// Says which request it was.
    pub fn request_id(mut self, id: &str) -> Self {
        self.0.request_id = Some(id.to_owned());
        self
    }
}

impl From<OutOfRange> for Refused {
    fn from(reason: OutOfRange) -> Self {
        Self::new(match reason {
            OutOfRange::Price => RejectReason::PriceOutOfRange,
            OutOfRange::QuantityTooSmall => RejectReason::QuantityTooSmall,
            OutOfRange::QuantityTooLarge => RejectReason::QuantityTooLarge,
            OutOfRange::Notional => RejectReason::NotionalTooLarge,
        })
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        let refusal = match error {
            StoreError::NoConnection(_) => Refusal::Busy,
            StoreError::Failed(_) => Refusal::OutcomeUnknown,
        };
        Self::new(refusal).detail(error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let waits = self.0.retry_after_ms.map(|milliseconds| milliseconds.div_ceil(1_000));
        let mut response = (status, Json(self.0)).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, problem);
        if let Some(seconds) = waits {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
