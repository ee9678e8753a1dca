//! Streams: what happened on one book, one instrument's trades, or one account, as messages that can be resumed.
//!
//! ```text
//!  View: last updates, index ──┐
//!                              ├── Stream::pull ──> messages ──> session
//!  event log (from a cursor) ──┘        ^
//!                     bell (something is new)
//! ```
//!
//! A stream is a cursor, not a queue. Nothing is kept for a session that does not read: it finds what it has missed in
//! the view's last updates or, further back, in the event log. Every message is a function of the events alone, so a
//! stream that is resumed from any position tells the same as one that never stopped.

mod catch_up;
mod stream;
mod text;

pub(crate) use stream::READ_BYTES;
pub(crate) use text::to_text;

pub use stream::{Pulled, Stream, StreamError, StreamName, open};
