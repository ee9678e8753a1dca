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
//! - Streams go on where they stopped; a gap is noticed by the positions and closed by asking again.

mod backoff;
mod book;
mod clock;
mod credentials;
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
pub use error::ClientError;
pub use random::Random;
pub use rest::{Endpoint, RestClient, Target, new_request_id};
pub use retry::RetryPolicy;
pub use session::StreamEvent;
pub use signing::{RequestParts, SignedAt};
pub use ws::{PendingReply, WsClient, order_answer};
