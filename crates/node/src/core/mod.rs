//! The core: turns commands and deadlines into inputs of `replica`, and carries out what it puts out.
//!
//! ```text
//!                       alone, disk quick
//!  a thread that  ───────────────────────────> seat ── runs it, syncs ──┐
//!  serves brings         otherwise              ^  │                     ├──> answer ──> session, then publisher
//!  a command      ──> bounded queue ──> core's thread, in batches ──────┘
//!                                       (ticks, deadlines, a full disk, the end: always this one)
//! ```
//!
//! Whoever sits in the `seat` runs the core, and nobody else does meanwhile. A command that comes while nothing else is
//! under way is run by the thread that brings it: the answer is there when it has been handed over, and no thread had to be
//! woken for it. Each wake-up would take as long as a good part of a sync. When commands come close together the core's own
//! thread takes all that have queued up as one batch, with one sync, while the others go on reading. `pace` tells the two
//! apart.
//!
//! In a group of several voters the core's own thread does it all: commands of this node's clients, and of other nodes'
//! clients, are sequenced here if this node leads, and handed on to whoever does if not (`member`, `forward`). Peers are
//! heard through a second queue, and syncs run on a thread of their own, so that a slow disk doesn't keep the core from
//! hearing its peers.
//!
//! The thread that runs a command waits for the disk. At most one does, because there is one seat; where the disk stalls,
//! all others find the seat taken and queue what comes, and after the slow sync no thread but the core's own waits for the
//! disk for a while. The node has at least two threads that serve (with one alone nothing is run this way), health and
//! metrics have a thread of their own, and that one wakes a second server when the first is held up, see
//! `Node::serve`.

mod clock;
mod end;
mod forward;
mod group;
#[cfg(test)]
mod group_tests;
mod handle;
mod member;
#[cfg(test)]
mod model;
mod pace;
mod recover;
mod region;
mod seat;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod thread;

use std::time::Duration;

pub use clock::Clock;
pub use end::CoreEnd;
pub use group::{CoreEvent, NoPeers, Peers};
pub use handle::{Core, CoreFigures};
pub use recover::{Recovered, recover};
pub use region::{RegionPart, SiteEvent, Sites, both_through_of};

/// How the core is set up.
#[derive(Clone, Copy, Debug)]
pub struct CoreSettings {
    /// The epoch in which it sequences; none: its region's part in the lease says so.
    pub epoch: Option<types::Epoch>,
    /// For how long its thread looks for work before it parks. Zero is right where others need the processor.
    pub spin: Duration,
    /// The processor that its thread runs on, if not on any.
    pub processor: Option<usize>,
    /// True of a node that takes clients and whose copy of the log never counts: nothing waits for its disk.
    pub gateway: bool,
    /// True of a voter whose journal may have lost something that it acknowledged.
    pub repairing: bool,
    /// Whoever brings a command may run it as long as syncs take at most this; zero: never.
    pub inline_sync_max: Duration,
}
