//! The core thread: turns channels and deadlines into inputs of `replica`, and carries out what it puts out.
//!
//! ```text
//!  gateway ── submit ──> bounded queue ──> one loop ── append, fdatasync ──> journal
//!                                            │  │
//!                answers <── oneshot ────────┘  └── try_send ──> publisher (never waited for)
//! ```
//!
//! One thread does it all, so that at light load nothing is handed over and nothing waits. It parks when there is nothing
//! to do, and takes all that has queued up as one batch when there is. It never waits for anything but its own disk.

mod clock;
mod end;
mod handle;
mod recover;
#[cfg(test)]
mod tests;
mod thread;

use std::time::Duration;

pub use clock::Clock;
pub use end::CoreEnd;
pub use handle::{Core, CoreFigures};
pub use recover::{Recovered, recover};

/// How the core is set up.
#[derive(Clone, Copy, Debug)]
pub struct CoreSettings {
    /// The epoch in which it sequences.
    pub epoch: types::Epoch,
    /// For how long it looks for work before it parks. Zero is right where other threads need the processor.
    pub spin: Duration,
}
