//! A request as it came in: its head, the bytes of its body, when its first byte was read, and who sent it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use types::limits::REQUEST_BYTES_MAX;
use types::{Command, RequestId, Scopes, Timestamp};
use wire::errors::Refusal;
use wire::signing::{HEADER_REQUEST_ID, SignedRequest};

use crate::answer::Executed;
use crate::auth::{self, Caller, SignatureHeaders};
use crate::failure::Failure;
use crate::gateway::Shared;
use crate::leadership;
use crate::query::Query;
use crate::rate_limits::Standing;
use crate::stamps::{Connection, ReceivedAt};

/// A request as it came in.
pub(crate) struct Incoming {
    pub shared: Arc<Shared>,
    pub body: Bytes,
    pub received_at: Timestamp,
    /// When all of it had come in.
    pub read_at: Timestamp,
    pub peer: IpAddr,
    parts: Parts,
    standing: StandingSlot,
}

/// What is left of the bucket that the request counted against. Travels in the request's extensions, so that the answer
/// can say it.
#[derive(Clone, Debug, Default)]
struct StandingSlot(Arc<Mutex<Option<Standing>>>);

impl StandingSlot {
    fn set(&self, standing: Standing) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(standing);
    }

    fn get(&self) -> Option<Standing> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Charges the request to its address, and tells in the answer what is left.
pub(crate) async fn limit(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    let slot = StandingSlot::default();
    let mut response = match shared.rate_limits.charge_address(peer_of(request.extensions())) {
        Ok(standing) => {
            slot.set(standing);
            request.extensions_mut().insert(slot.clone());
            next.run(request).await
        }
        Err(standing) => {
            shared.metrics.rate_limited.increment(1);
            slot.set(standing);
            standing.failure().into_response()
        }
    };
    if let Some(standing) = slot.get() {
        standing.write_headers(response.headers_mut());
    }
    response
}

fn peer_of(extensions: &http::Extensions) -> IpAddr {
    let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    extensions
        .get::<Connection>()
        .map_or(unspecified, |connection| connection.peer)
}

impl FromRequest<Arc<Shared>> for Incoming {
    type Rejection = Failure;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        auth::check_encoding(&parts.headers)?;
        let received_at = parts.extensions.get::<ReceivedAt>();
        let received_at = received_at.map_or_else(|| shared.core.now(), |received_at| received_at.0);
        let reading = tokio::time::timeout(shared.config.body_timeout, read_body(body));
        let body = reading.await.unwrap_or_else(|_| Err(Refusal::BodyUnreadable.into()))?;
        Ok(Self {
            shared: Arc::clone(shared),
            body,
            received_at,
            read_at: shared.core.now(),
            peer: peer_of(&parts.extensions),
            standing: parts.extensions.get::<StandingSlot>().cloned().unwrap_or_default(),
            parts,
        })
    }
}

async fn read_body(body: Body) -> Result<Bytes, Failure> {
    let too_large = || {
        let detail = format!("the limit is {REQUEST_BYTES_MAX} bytes");
        Failure::new(Refusal::BodyTooLarge).detail(detail)
    };
    // Its `content-length` says so already: nothing of it is waited for.
    if axum::body::HttpBody::size_hint(&body).lower() > REQUEST_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let collected = Limited::new(body, REQUEST_BYTES_MAX).collect().await;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Refusal::BodyUnreadable.into()),
    }
}

impl Incoming {
    /// The request target as it was sent.
    fn target(&self) -> Result<&str, Failure> {
        let original = self.parts.extensions.get::<OriginalUri>();
        let uri = original.map_or(&self.parts.uri, |original| &original.0);
        match uri.path_and_query() {
            Some(target) if uri.authority().is_none() => Ok(target.as_str()),
            _ => Err(Failure::new(Refusal::PathInvalid).detail("the request target must be a path")),
        }
    }

    /// Hands a command of the request over and waits for what comes of it.
    pub async fn execute(&self, command: Command) -> Result<Executed, Failure> {
        let request_id = command.request_id;
        let reaches = self.reaches_leader();
        reaches.map_err(|failure| failure.request_id(request_id.as_str()))?;
        let finished = self.shared.execute(command, self.read_at).await;
        self.was_applied(finished.applied_at);
        finished.executed
    }

    /// Refuses a request that is not to be passed on where it would have to be.
    pub fn reaches_leader(&self) -> Result<(), Failure> {
        if leadership::may_forward(&self.parts.headers)? {
            return Ok(());
        }
        self.shared.leading().map(drop).inspect_err(|failure| {
            self.shared.metrics.outcome(failure.problem().outcome);
        })
    }

    /// Notes when the last command of the request had been applied, if it was.
    pub fn was_applied(&self, applied_at: Option<Timestamp>) {
        if let Some(connection) = self.parts.extensions.get::<Connection>()
            && let Some(applied_at) = applied_at
        {
            connection.stamps.applied(applied_at);
        }
    }

    /// The query string's keys and values.
    pub fn query(&self, known: &[&str]) -> Result<Query<'_>, Failure> {
        Query::read(self.parts.uri.query(), known)
    }

    /// The body as JSON: an object, whose keys stand beside their values, and no list of values without keys.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        if self.body.trim_ascii_start().first() == Some(&b'[') {
            return Err(Failure::new(Refusal::BodyInvalid).detail("it is a list"));
        }
        let parsed = serde_json::from_slice(&self.body);
        parsed.map_err(|error| Failure::new(Refusal::BodyInvalid).detail(error.to_string()))
    }

    /// The `Meridian-Request-Id` header of a request that needs one.
    pub fn request_id(&self) -> Result<RequestId, Failure> {
        let Some(text) = auth::request_id_header(&self.parts.headers)? else {
            return Err(Failure::new(Refusal::RequestIdMissing).field(HEADER_REQUEST_ID));
        };
        parse_request_id(text, HEADER_REQUEST_ID)
    }

    /// Verifies the signature of a request whose id, if there is one, stands in its header.
    pub async fn verify(&self, scope: Scopes) -> Result<Caller, Failure> {
        let request_id = auth::request_id_header(&self.parts.headers)?.unwrap_or_default();
        self.verify_with_id(scope, request_id, 1).await
    }

    /// Verifies the signature of a new order, whose id stands in its body.
    pub async fn verify_new_order(&self, client_order_id: &str) -> Result<Caller, Failure> {
        if let Some(header) = auth::request_id_header(&self.parts.headers)?
            && header != client_order_id
        {
            return Err(Failure::new(Refusal::RequestIdMismatch).field(HEADER_REQUEST_ID));
        }
        self.verify_with_id(Scopes::TRADE, client_order_id, 1).await
    }

    /// Verifies the signature of a batch, which counts as many times as it has items.
    pub async fn verify_batch(&self, item_count: usize) -> Result<Caller, Failure> {
        let request_id = auth::request_id_header(&self.parts.headers)?.unwrap_or_default();
        let count = u32::try_from(item_count).unwrap_or(u32::MAX);
        self.verify_with_id(Scopes::TRADE, request_id, count).await
    }

    async fn verify_with_id(&self, scope: Scopes, request_id: &str, count: u32) -> Result<Caller, Failure> {
        let shared = &self.shared;
        let headers = SignatureHeaders::read(&self.parts.headers)?;
        headers.check_time(shared.core.now())?;
        let key = shared.active_key(headers.key).await?;
        let signed = SignedRequest {
            cluster: &shared.config.cluster_id,
            key: headers.key,
            timestamp_ms: headers.timestamp_ms,
            window_ms: headers.window_ms,
            request_id,
            method: self.parts.method.as_str(),
            target: self.target()?,
            body_sha256: &auth::sha256(&self.body),
        };
        if let Err(failure) =
            shared
                .verifiers
                .verify(&key, &shared.sealing, &headers.signature, signed.text().as_bytes())
        {
            shared.metrics.refused_signatures.increment(1);
            return Err(failure);
        }
        shared.rate_limits.refund_address(self.peer);
        match shared.rate_limits.charge_key(key.id, count) {
            Ok(standing) => self.standing.set(standing),
            Err(standing) => {
                shared.metrics.rate_limited.increment(1);
                self.standing.set(standing);
                return Err(standing.failure());
            }
        }
        auth::caller(&key, scope)
    }
}

/// A request id as text.
pub(crate) fn parse_request_id(text: &str, field: &str) -> Result<RequestId, Failure> {
    let parsed = text.parse();
    parsed.map_err(|error: types::TextError| {
        Failure::new(Refusal::RequestIdInvalid)
            .field(field)
            .detail(error.to_string())
    })
}

/// The one variable part of a path.
pub(crate) struct PathPart(pub String);

impl FromRequestParts<Arc<Shared>> for PathPart {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Failure> {
        let path = Path::<String>::from_request_parts(parts, shared).await;
        let Path(text) = path.map_err(|_| Failure::new(Refusal::PathInvalid))?;
        Ok(Self(text))
    }
}

impl PathPart {
    /// The part as an id.
    pub fn parse<T: std::str::FromStr>(&self) -> Result<T, Failure>
    where
        T::Err: std::fmt::Display,
    {
        let parsed = self.0.parse();
        parsed.map_err(|error: T::Err| Failure::new(Refusal::PathInvalid).detail(error.to_string()))
    }
}
