//! The node's one clock: UTC, and by how much it may be off.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use types::Timestamp;

/// What the kernel says when nothing keeps the clock: 16 seconds.
const UNKNOWN_NS: u64 = 16 * Timestamp::SECOND;

/// UTC, with an error bound that is asked for once a second.
#[derive(Debug)]
pub struct Clock {
    error_bound_ns: AtomicU64,
}

impl Default for Clock {
    fn default() -> Self {
        let clock = Self {
            error_bound_ns: AtomicU64::new(UNKNOWN_NS),
        };
        clock.refresh();
        clock
    }
}

impl Clock {
    /// UTC now.
    pub fn now(&self) -> Timestamp {
        let time = clock_gettime(ClockId::Realtime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
        Timestamp(seconds * Timestamp::SECOND + nanoseconds)
    }

    /// By how much it may be off, in nanoseconds, as of the last refresh.
    pub fn error_bound_ns(&self) -> u64 {
        self.error_bound_ns.load(Ordering::Relaxed)
    }

    /// Asks the kernel for the error bound.
    pub fn refresh(&self) {
        self.error_bound_ns.store(kernel_error_bound_ns(), Ordering::Relaxed);
    }
}

/// The kernel's estimate of the largest error, which whatever keeps the clock tells it (`adjtimex(2)`, `maxerror`).
fn kernel_error_bound_ns() -> u64 {
    let mut answer = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `timex` is plain data of which all zeros is a value; with `modes` 0 the call only fills it in.
    let (state, answer) = unsafe {
        let state = libc::adjtimex(answer.as_mut_ptr());
        (state, answer.assume_init())
    };
    if state < 0 {
        return UNKNOWN_NS;
    }
    u64::try_from(answer.maxerror).map_or(UNKNOWN_NS, |us| us.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_a_time_of_this_century_and_a_bound() {
        let clock = Clock::default();
        let year_2020 = Timestamp(1_577_836_800 * Timestamp::SECOND);
        assert!(clock.now() > year_2020);
        assert!(clock.error_bound_ns() > 0);
    }
}
