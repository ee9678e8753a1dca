//! The reference client of Meridian: what a good client does, in code.
//!
//! ```text
//!  caller ── request, id ──> RestClient ── attempt, attempt, … ──> exchange      one call, tried until it is known
//!  caller ── requests ─────> WsClient ══ one socket, reopened ══> exchange       many under way at once
//!         <── StreamEvent ──          resumed from the last position
//! ```
//!
//! - Each request that changes something has an id and says until when it is valid. Whatever happens to the line, the
//!   same request is sent again under the same id until its outcome is known or the caller's patience ends.
//! - [`ClientError`] tells a refusal from an unknown outcome. What may have been executed is never called refused.
//! - Any node of the exchange takes any request, so a client is given all of them. It stays with one for as long as that
//!   answers. When it can't be reached, stops answering, says that it starts, stops or knows no leader, or can't say what
//!   became of a request, the same request, byte for byte and under the same id, goes to the next one; each wait is longer
//!   than the last and drawn at random, so that those who lost the same node don't come to the next one all at once. What
//!   any node would refuse alike (a wrong signature, too many requests, a full queue) is no reason to leave.
//! - All attempts together end when the caller's patience does, and what can't be known then is called unknown.
//! - Streams go on where they stopped; a gap is noticed by the positions and closed by asking again.

mod backoff;
mod book;
mod clock;
mod credentials;
mod endpoints;
mod error;
mod random;
mod rest;
mod retry;
mod session;
mod signing;
mod tls;
mod ws;

pub use backoff::Backoff;
pub use book::{BookLevel, BookMirror};
pub use clock::ExchangeClock;
pub use credentials::{Credentials, CredentialsError, Secret};
pub use endpoints::Endpoints;
pub use error::ClientError;
pub use random::Random;
pub use rest::{Endpoint, RestClient, Target, new_request_id};
pub use retry::RetryPolicy;
pub use session::StreamEvent;
pub use signing::{RequestParts, SignedAt};
pub use ws::{PendingReply, WsClient, order_answer};
