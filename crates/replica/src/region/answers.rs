//! Which answers may go out.

use types::Sequence;
use wire::site::Durability;

use crate::lease::Elapsed;

/// Answers wait for a standby again once it takes at most this long to have what is applied here, in nanoseconds.
const CLOSE_NS: u64 = 400_000_000;

/// How far the region is, and how far its standby.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) applied: Sequence,
    pub(super) followed: Sequence,
}

/// Up to where answers may go out now, and where they are durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answerable {
    /// The last sequence whose answer may go out.
    pub through: Sequence,
    /// The last sequence that is durable in both regions.
    pub both_through: Sequence,
}

/// Whether answers wait for the standby. What does not wait is on record before the first answer that doesn't.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// True if answers have to be durable in both regions.
    sync: bool,
    /// True while they wait for the standby.
    waits: bool,
    /// The last sequence that was answered.
    answered: Sequence,
    /// What was applied at a moment, to find out how long the standby takes to have it.
    probe: Option<(Elapsed, Sequence)>,
}

impl Waiting {
    pub(super) fn new(sync: bool) -> Self {
        Self {
            sync,
            waits: true,
            answered: Sequence(0),
            probe: None,
        }
    }

    /// A new epoch, or a new leader in it: it knows only what is on record.
    pub(super) fn begin(&mut self, applied: Sequence) {
        self.waits = true;
        self.answered = applied;
        self.probe = None;
    }

    /// What is to be on record. `stalled`: the standby has not got further for longer than answers may wait.
    pub(super) fn wanted(&mut self, now: Elapsed, recorded: Durability, places: Places, stalled: bool) -> Durability {
        if !self.sync {
            return Durability::Region;
        }
        if stalled {
            return Durability::Degraded;
        }
        if !self.waits && self.is_close_behind(now, places) {
            // From here on answers wait again; what was answered before must be there too.
            self.waits = true;
        }
        if self.waits && (recorded == Durability::Both || places.followed >= self.answered) {
            Durability::Both
        } else {
            Durability::Degraded
        }
    }

    /// True if the standby has what was applied a short while ago.
    fn is_close_behind(&mut self, now: Elapsed, places: Places) -> bool {
        let (since, applied) = *self.probe.get_or_insert((now, places.applied));
        if places.followed < applied {
            return false;
        }
        self.probe = None;
        now.since(since) <= CLOSE_NS
    }

    /// A renewal with this was sent: it may hold from now on.
    pub(super) fn asked(&mut self, durability: Durability) {
        if durability == Durability::Both {
            self.waits = true;
        }
    }

    /// The newest renewal was granted.
    pub(super) fn granted(&mut self, durability: Durability) {
        if durability != Durability::Both {
            self.waits = false;
        }
    }

    /// Up to where answers may go out.
    pub(super) fn answerable(&mut self, places: Places) -> Answerable {
        let both_through = places.followed.min(places.applied);
        let through = if self.waits { both_through } else { places.applied };
        self.answered = self.answered.max(through);
        Answerable { through, both_through }
    }

    /// True if answers wait for the standby.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }
}
