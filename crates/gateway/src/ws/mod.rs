//! The WebSocket at `/v1/ws`: order entry, the account's own streams and market data in one session.
//!
//! ```text
//!            ┌───────────────── one task a session ─────────────────┐
//!  socket ──>│ read ─> parse ─> submit to the core ─┐               │
//!            │                                      v               │
//!  socket <──│ write <─ bounded output <─ answers, pulled streams   │<── bell
//!            └──────────────────────────────────────────────────────┘
//! ```
//!
//! A session never holds more than its limits: of requests under way, of output, of subscriptions. While its output is
//! full it neither reads requests nor pulls streams; a client that doesn't read for the configured time is let go, and
//! loses nothing of its streams, because it resumes them by position.

mod orders;
mod output;
mod requests;
mod session;
mod subscriptions;
mod under_way;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use types::limits::REQUEST_BYTES_MAX;
use wire::errors::Refusal;

use crate::failure::Failure;
use crate::gateway::Shared;
use crate::metrics::Counted;
use crate::stamps::Connection;
use session::Session;

/// Requests of a session that may be under way at the same time.
const REQUESTS_IN_FLIGHT_MAX: usize = 1_024;
/// Bytes of output beyond which a session reads no requests.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Bytes of output beyond which a session pulls no streams.
const STREAM_OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Messages that a session handles before another one has its turn.
const MESSAGES_PER_TURN: usize = 64;
/// Messages that one stream may tell before another one has its turn.
const MESSAGES_PER_PULL: usize = 16;
/// Reads of the event log that a session may have under way at the same time.
const READS_MAX: usize = 2;
/// Bytes that are read at once. The buffer is cleared before each read, so that a larger one costs more.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Bytes that are written at once, at least.
const WRITE_BUFFER_BYTES: usize = 64 << 10;
/// How often the time-outs are looked at.
const TICK: Duration = Duration::from_millis(500);

const _: () = assert!(STREAM_OUTPUT_BYTES_MAX < OUTPUT_BYTES_MAX);

/// Takes a session on.
pub(crate) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    connection: Option<Extension<Connection>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let refused = Failure::new(Refusal::UpgradeInvalid);
            return refused.detail(rejection.body_text()).into_response();
        }
    };
    let Ok(permit) = Arc::clone(&shared.sessions).try_acquire_owned() else {
        shared.metrics.connections_refused.increment(1);
        return Failure::new(Refusal::ConnectionsLimit).into_response();
    };
    let connection = connection.map(|Extension(connection)| connection);
    upgrade
        .max_message_size(REQUEST_BYTES_MAX)
        .max_frame_size(REQUEST_BYTES_MAX)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .on_upgrade(move |socket| async move {
            let counted = Counted::new(&shared.metrics.sessions);
            Session::new(shared, connection).run(socket).await;
            drop(counted);
            drop(permit);
        })
}
