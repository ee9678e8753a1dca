//! How long to wait before the next attempt: exponential, with jitter, so that clients that lost the same node
//! don't come back at the same moment.

use std::time::Duration;

use crate::random::Random;

/// Grows from `first` by doubling up to `longest`; each wait is drawn from between half of that and all of it.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
    random: Random,
}

impl Backoff {
    /// Starts at `first`.
    pub fn new(first: Duration, longest: Duration, random: Random) -> Self {
        Self {
            first,
            longest,
            attempts: 0,
            random,
        }
    }

    /// How long to wait now. `at_least` is what the other side asked for (`Retry-After`).
    pub fn wait(&mut self, at_least: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(self.attempts));
        self.attempts = self.attempts.saturating_add(1);
        let ceiling = doubled.min(self.longest).max(at_least.unwrap_or_default());
        let nanoseconds = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        let half = nanoseconds / 2;
        let drawn = Duration::from_nanos(half + self.random.below(nanoseconds - half + 1));
        drawn.max(at_least.unwrap_or_default())
    }

    /// Starts again from the first wait, after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_respect_what_was_asked_for() {
        let (first, longest) = (Duration::from_millis(10), Duration::from_millis(100));
        let mut backoff = Backoff::new(first, longest, Random::seeded(7));
        for ceiling in [10, 20, 40, 80, 100, 100] {
            let wait = backoff.wait(None).as_nanos();
            let ceiling = ceiling * 1_000_000;
            assert!((ceiling / 2..=ceiling).contains(&wait), "{wait} for {ceiling}");
        }
        assert!(backoff.wait(Some(Duration::from_millis(300))) >= Duration::from_millis(300));
        backoff.reset();
        assert!(backoff.wait(None) <= first);
    }
}
