//! The exchange's time, as well as this machine can tell it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use types::Timestamp;
use wire::json::TimeText;

/// This machine's clock, corrected by what the exchange said its time was.
#[derive(Clone, Debug, Default)]
pub struct ExchangeClock {
    ahead_ns: Arc<AtomicI64>,
}

impl ExchangeClock {
    /// Takes over the exchange's time, which it has just told.
    pub fn set(&self, now: Timestamp) {
        let ahead = i128::from(now.0) - i128::from(local_ns());
        self.ahead_ns
            .store(i64::try_from(ahead).unwrap_or(0), Ordering::Relaxed);
    }

    /// The exchange's time.
    pub fn now(&self) -> Timestamp {
        Timestamp(local_ns().saturating_add_signed(self.ahead_ns.load(Ordering::Relaxed)))
    }

    /// A `valid_until` this far from now.
    pub fn valid_until(&self, valid_for: Duration) -> TimeText {
        let nanoseconds = u64::try_from(valid_for.as_nanos()).unwrap_or(u64::MAX);
        self.now().plus_ns(nanoseconds).into()
    }
}

fn local_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_kept() {
        let clock = ExchangeClock::default();
        let hour = 3_600 * Timestamp::SECOND;
        clock.set(Timestamp(local_ns() + hour));
        assert!(clock.clone().now().0 >= local_ns() + hour - Timestamp::SECOND);
        let until = clock.valid_until(Duration::from_secs(3_600)).time().unwrap();
        assert!(until.0 >= local_ns() + 2 * hour - Timestamp::SECOND);
    }
}
