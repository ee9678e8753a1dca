//! What is counted and remembered of the links.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use types::Timestamp;
use wire::journal::NodeId;
use wire::peer::Hello;

use super::clock::ClockEstimate;
use super::limits::{LOG_EVERY, REFUSALS_KEPT_MAX};
use super::name::Region;

/// A direction of a link. Each is a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What this node sends: the connection that it dialed.
    Out,
    /// What the peer sends: the connection that this node accepted.
    In,
}

/// A direction of a link came up or went down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// Whose.
    pub peer: NodeId,
    /// Which.
    pub direction: Direction,
    /// Up or down.
    pub is_up: bool,
}

/// One direction of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectionStatus {
    /// Since when there is a connection, if there is one.
    pub connected_since: Option<Timestamp>,
    /// Connections that came about.
    pub connections: u64,
    /// Frames that went over them.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// Why the last connection ended, or did not come about, and when.
    pub last_error: Option<(Timestamp, String)>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// To whom.
    pub peer: NodeId,
    /// Where it is dialed.
    pub address: String,
    /// What this node sends.
    pub outgoing: DirectionStatus,
    /// What the peer sends.
    pub incoming: DirectionStatus,
    /// Frames that wait to be sent.
    pub queued_frames: usize,
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// Frames that were not sent: there was no connection, no room, or the connection broke under them.
    pub dropped_frames: u64,
    /// How far the peer's clock is from ours.
    pub clock: Option<ClockEstimate>,
    /// What the peer said of itself when it was last connected.
    pub hello: Option<Hello>,
    /// Where its certificate says that it is.
    pub region: Option<Region>,
}

/// Connections that were accepted and let go before they counted as a peer's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedStatus {
    /// How many.
    pub connections: u64,
    /// The last few of them, oldest first: when, and from where and why.
    pub latest: VecDeque<(Timestamp, String)>,
}

impl RefusedStatus {
    pub(super) fn add(&mut self, at: Timestamp, text: String) {
        self.connections += 1;
        if self.latest.len() == REFUSALS_KEPT_MAX {
            self.latest.pop_front();
        }
        self.latest.push_back((at, text));
    }
}

/// What is counted, by the threads of a link.
#[derive(Debug, Default)]
pub(super) struct Counts {
    inner: Mutex<CountsInner>,
}

#[derive(Debug, Default)]
pub(super) struct CountsInner {
    pub(super) outgoing: DirectionStatus,
    pub(super) incoming: DirectionStatus,
    pub(super) clock: Option<ClockEstimate>,
    pub(super) hello: Option<Hello>,
    pub(super) region: Option<Region>,
}

impl Counts {
    pub(super) fn lock(&self) -> MutexGuard<'_, CountsInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CountsInner {
    pub(super) fn direction(&mut self, direction: Direction) -> &mut DirectionStatus {
        match direction {
            Direction::Out => &mut self.outgoing,
            Direction::In => &mut self.incoming,
        }
    }
}

/// Lets a line into the log at most once every [`LOG_EVERY`].
#[derive(Debug, Default)]
pub(super) struct LogLimiter {
    last: Mutex<Option<Instant>>,
}

impl LogLimiter {
    pub(super) fn may_log(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_some_and(|last| now - last < LOG_EVERY) {
            return false;
        }
        *last = Some(now);
        true
    }

    /// The next line is let in.
    pub(super) fn reset(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
