//! The seat: whoever sits in it runs the core, and nobody else does meanwhile.
//!
//! Two kinds of threads sit down. The core's own thread waits for the seat; it alone takes commands out of the queue, and
//! it counts each as queued until it sits. Whoever brings a command sits down only if the seat is free and nothing is
//! queued, and runs that one command.
//!
//! So no wake-up can be lost: a command in the queue has woken its one reader, whoever sits at that moment. And nothing is
//! overtaken: of what one thread submits, a later command finds an earlier one either executed or still counted.

use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};

/// The seat, with what it gives the use of; that is gone once the core has ended.
#[derive(Debug)]
pub(super) struct Seat<S> {
    state: Mutex<Option<S>>,
    queued: AtomicUsize,
}

/// The use of it, until this is dropped.
pub(super) type Sitting<'a, S> = MutexGuard<'a, Option<S>>;

impl<S> Seat<S> {
    /// A seat; without a state, of a core that can't begin.
    pub(super) fn new(state: Option<S>) -> Self {
        Self {
            state: Mutex::new(state),
            queued: AtomicUsize::new(0),
        }
    }

    /// Waits for the seat.
    pub(super) fn take(&self) -> Sitting<'_, S> {
        // Whoever panicked in it has ended the core; what is left is only to be dropped.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The seat, if it is free and nothing is queued.
    pub(super) fn take_if_idle(&self) -> Option<Sitting<'_, S>> {
        if self.queued() > 0 {
            return None;
        }
        let sitting = self.state.try_lock().ok()?;
        (self.queued() == 0).then_some(sitting)
    }

    /// Counts a command that is about to be queued, unless there are so many already.
    pub(super) fn count_queued(&self, queued_max: usize) -> bool {
        let room = self.queued.fetch_add(1, Ordering::AcqRel) < queued_max;
        if !room {
            self.uncount_queued(1);
        }
        room
    }

    /// They are queued no more: whoever sits has them, or they were never queued.
    pub(super) fn uncount_queued(&self, count: usize) {
        self.queued.fetch_sub(count, Ordering::AcqRel);
    }

    /// How many commands are queued.
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }
}
