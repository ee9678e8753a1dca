//! Elapsed and used time.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long something took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// On the wall's clock.
    pub wall: Duration,
    /// On a processor: what it took without the time in which other programs ran on it.
    pub processor: Duration,
}

/// Measures one call on this thread.
pub fn measure<T>(call: impl FnOnce() -> T) -> (T, Taken) {
    let processor = processor_time();
    let wall = Instant::now();
    let result = call();
    let wall = wall.elapsed();
    let processor = processor_time().saturating_sub(processor);
    (result, Taken { wall, processor })
}

/// Nanoseconds of a clock that never jumps, from a moment that only this machine knows.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Processor time of this thread.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
