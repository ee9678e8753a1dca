//! What the active region knows of its standby.

use types::{Epoch, Sequence};
use wire::site::LogPlace;

use crate::lease::Elapsed;

/// How far the standby's own majority is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Following {
    /// What its majority has, of the present epoch's log.
    pub through: Sequence,
    /// When it was heard of last; none: not in this epoch.
    pub heard_at: Option<Elapsed>,
    /// When it last got further, or had everything.
    pub moved_at: Elapsed,
}

impl Following {
    /// It said how far it is.
    pub(super) fn said(&mut self, now: Elapsed, present: Epoch, epoch: Epoch, place: LogPlace) {
        if epoch != present {
            return;
        }
        self.heard_at = Some(now);
        if place.sequence > self.through {
            self.through = place.sequence;
            self.moved_at = now;
        }
    }

    /// The region has applied up to `applied`.
    pub(super) fn compare(&mut self, now: Elapsed, applied: Sequence) {
        if self.through >= applied {
            self.moved_at = now;
        }
    }

    /// For how long it has lacked something without getting any further, in nanoseconds.
    pub fn stalled_ns(&self, now: Elapsed) -> u64 {
        now.since(self.moved_at)
    }
}
