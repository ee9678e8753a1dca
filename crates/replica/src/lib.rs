//! Sequencing, consensus and what a journal must hold after a crash. No I/O, no clock, no randomness.
//!
//! ```text
//!        node (I/O)                              replica (pure)
//!  commands, cancels ──┐
//!  ticks, deadlines  ──┼── Input ──> step(now, input) ──> Output ──┬── append, sync ──> journal
//!  peers' messages   ──┤                 │                         ├── applied ──> answers, event log
//!  "it is on disk"   ──┘             raft RawNode                  ├── send ──> peers
//!                                        │                         └── stop
//!                                    Applier<M> (the state machine, and the checks in front of it)
//! ```
//!
//! The same `step` runs in production on its own thread and in a simulator on virtual time. One node is a group of one
//! voter: there is one code path. What a replay of the journal does (at start, for snapshots, for the event log) is the
//! same [`Applier`], so that each replay checks what the live node wrote down.

mod applier;
pub mod lease;
mod log;
mod membership;
mod message;
mod protocol;
mod reads;
pub mod recovery;
pub mod region;
mod replica;
#[cfg(test)]
mod tests;

pub use applier::{Applied, Applier, LogEntry};
pub use message::{PeerMessage, UnknownMessage, is_a_followers};
pub use protocol::{HandOver, Input, Now, Output, ReadTicket, Record, Refusal, SnapshotPoint, StopReason, Ticket};
pub use replica::{HardState, Replica, Settings};
