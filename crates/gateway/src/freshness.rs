//! How fresh the answer to a query is, and how it says so.
//!
//! ```text
//!  query ──> the group names a sequence ──> the view has it ──> answer, Meridian-Freshness: linearizable
//!        └───────────── freshness=stale ──────────────────────> answer, Meridian-Freshness: stale
//! ```
//!
//! What an account sees of itself has everything that was acknowledged before it asked, on whatever node that was, unless
//! it asks for less. Market data is what this node knows. Either way the answer says up to where it knows.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::HeaderName;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};
use types::{Position, Sequence};
use wire::errors::Refusal;
use wire::json::Freshness;

use crate::auth::Caller;
use crate::failure::Failure;
use crate::gateway::Shared;
use crate::handle::ReadFrom;
use crate::query::Query;

/// Up to where the answer to a query knows, as `group.epoch.sequence`.
const HEADER_POSITION: HeaderName = HeaderName::from_static("meridian-position");
/// How fresh the answer to a query is.
const HEADER_FRESHNESS: HeaderName = HeaderName::from_static("meridian-freshness");
/// The key of a query that says how fresh its answer is to be.
pub(crate) const QUERY_KEY: &str = "freshness";

/// The answer to a query, with up to where it knows and how fresh that is.
pub(crate) struct Answered<T> {
    pub body: T,
    pub position: Position,
    pub freshness: Freshness,
}

impl<T: Serialize> IntoResponse for Answered<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.body).into_response();
        let position = HeaderValue::from_str(&self.position.to_string()).expect("a position is digits and points");
        let headers = response.headers_mut();
        headers.insert(HEADER_POSITION, position);
        headers.insert(HEADER_FRESHNESS, HeaderValue::from_static(self.freshness.name()));
        response
    }
}

impl<T> Answered<T> {
    /// What this node knows, without asking the group.
    pub fn stale(body: T, position: Position) -> Self {
        Self {
            body,
            position,
            freshness: Freshness::Stale,
        }
    }
}

/// How fresh the answer is to be.
pub(crate) fn asked_for(query: &Query<'_>) -> Result<Freshness, Failure> {
    let Some(name) = query.text(QUERY_KEY) else {
        return Ok(Freshness::default());
    };
    Freshness::from_name(name).ok_or_else(|| {
        let detail = "it is linearizable or stale";
        Failure::new(Refusal::QueryInvalid).field(QUERY_KEY).detail(detail)
    })
}

impl Shared {
    /// Waits until the view is as fresh as was asked for. What is read of it from then on answers the caller's query.
    pub async fn be_fresh(&self, caller: &Caller, freshness: Freshness) -> Result<(), Failure> {
        if freshness == Freshness::Stale {
            return Ok(());
        }
        self.be_latest().await?;
        // A revocation may be among what was just waited for.
        let key = self.view.key(caller.key).filter(|key| key.active);
        let refused = || Failure::new(Refusal::KeyNotAccepted).field(wire::signing::HEADER_KEY);
        key.map(drop).ok_or_else(refused)
    }

    /// Waits until the view has all that was acknowledged before this was called, on whatever node.
    pub async fn be_latest(&self) -> Result<(), Failure> {
        let named = match self.core.read_from() {
            ReadFrom::Own => return self.catch_up().await,
            ReadFrom::Group(named) => named,
        };
        let deadline = Instant::now() + self.config.view_timeout;
        // None in time is as good as none: the core asks again by itself for as long as somebody waits.
        let named = timeout_at(deadline, named).await;
        let Ok(Ok(Some(sequence))) = named else {
            return Err(Refusal::NoLeader.into());
        };
        self.wait_for_until(sequence, deadline).await
    }

    /// Waits until the view has a sequence.
    pub async fn wait_for(&self, sequence: Sequence) -> Result<(), Failure> {
        self.wait_for_until(sequence, Instant::now() + self.config.view_timeout)
            .await
    }

    async fn wait_for_until(&self, sequence: Sequence, deadline: Instant) -> Result<(), Failure> {
        let wait = timeout_at(deadline, self.view.wait_until(sequence));
        wait.await.map_err(|_| Failure::new(Refusal::ViewBehind))
    }
}
