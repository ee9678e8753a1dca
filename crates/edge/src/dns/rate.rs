//! A limit on answers over UDP for each network that asks, so that nobody can have a stranger flooded with them by asking
//! in its name. What it takes in memory is fixed.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use crate::admission::network;
use crate::config::DnsConfig;

/// The networks that are limited: whoever can ask in the name of an address can do so for its neighbours.
const V4_BITS: u32 = 24;
const V6_BITS: u32 = 56;

/// What holds for each network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Answers a second on average, and at once.
    pub per_second: u32,
    /// Of those above, each how many is sent truncated; 0: none.
    pub slip: u32,
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Send,
    /// A truncated one is sent in its place.
    Truncate,
    /// Nothing is sent.
    Drop,
}

/// A network's allowance.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    network: IpAddr,
    /// What is left, in thousandths of an answer, as of `at`.
    left_thousandths: u64,
    at: Duration,
    /// Answers above the limit.
    above_count: u32,
}

/// Limits answers. Networks whose places collide share an allowance while both are at it; where a place is depends on a
/// secret of the process.
#[derive(Debug)]
pub struct RateLimit {
    allowance: Allowance,
    buckets: Vec<Option<Bucket>>,
    hasher: RandomState,
}

impl RateLimit {
    /// With `networks_max` places.
    pub fn new(allowance: Allowance, networks_max: usize) -> Self {
        Self {
            allowance,
            buckets: vec![None; networks_max.max(1)],
            hasher: RandomState::new(),
        }
    }

    pub(super) fn of(config: &DnsConfig) -> Self {
        let allowance = Allowance {
            per_second: config.answers_per_network_per_second,
            slip: config.slip,
        };
        Self::new(allowance, config.networks_max)
    }

    /// What becomes of an answer to `source`. `now` is the time since any fixed moment.
    pub fn verdict(&mut self, source: IpAddr, now: Duration) -> Verdict {
        let network = network(source, V4_BITS, V6_BITS);
        let place = self.hasher.hash_one(network) % self.buckets.len() as u64;
        let slot = &mut self.buckets[usize::try_from(place).expect("it is below the table's length")];
        let full = u64::from(self.allowance.per_second) * 1_000;
        let bucket = slot.get_or_insert(Bucket {
            network,
            left_thousandths: full,
            at: now,
            above_count: 0,
        });
        let passed_us = u64::try_from(now.saturating_sub(bucket.at).as_micros()).unwrap_or(u64::MAX);
        // Whole thousandths only; the rest of the time counts later.
        let per_second = u64::from(self.allowance.per_second);
        let gained = passed_us.saturating_mul(per_second) / 1_000;
        if gained > 0 {
            bucket.at = now;
            bucket.left_thousandths = bucket.left_thousandths.saturating_add(gained).min(full);
        }
        if bucket.network != network && bucket.left_thousandths == full {
            // The other one has been quiet for long enough.
            bucket.network = network;
            bucket.above_count = 0;
        }
        if bucket.left_thousandths >= 1_000 {
            bucket.left_thousandths -= 1_000;
            return Verdict::Send;
        }
        bucket.above_count = bucket.above_count.wrapping_add(1);
        match self.allowance.slip {
            0 => Verdict::Drop,
            slip if bucket.above_count.is_multiple_of(slip) => Verdict::Truncate,
            _ => Verdict::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_gets_its_allowance_and_no_more() {
        let allowance = Allowance { per_second: 2, slip: 2 };
        let mut limit = RateLimit::new(allowance, 1_024);
        // Times in milliseconds.
        for (at, source, wanted) in [
            (0, "192.0.2.1", Verdict::Send),
            (0, "192.0.2.2", Verdict::Send),
            (0, "192.0.2.3", Verdict::Drop),
            (0, "192.0.2.1", Verdict::Truncate),
            (0, "192.0.2.1", Verdict::Drop),
            (499, "192.0.2.1", Verdict::Truncate),
            (500, "192.0.2.1", Verdict::Send),
            (500, "192.0.2.1", Verdict::Drop),
            (9_000, "192.0.2.1", Verdict::Send),
            (9_000, "192.0.2.1", Verdict::Send),
            (9_000, "192.0.2.1", Verdict::Truncate),
            // A clock that goes back gives nothing.
            (1_000, "192.0.2.1", Verdict::Drop),
        ] {
            let verdict = limit.verdict(source.parse().unwrap(), Duration::from_millis(at));
            assert_eq!(verdict, wanted, "{at} {source}");
        }
    }

    #[test]
    fn others_are_not_concerned_and_the_table_does_not_grow() {
        let allowance = Allowance { per_second: 1, slip: 0 };
        let mut limit = RateLimit::new(allowance, 64);
        let now = Duration::ZERO;
        let mut sent = 0;
        for index in 0..10_000u32 {
            let source = IpAddr::V4((index << 8).into());
            sent += usize::from(limit.verdict(source, now) == Verdict::Send);
        }
        assert_eq!((sent, limit.buckets.len()), (64, 64));
        // A second later all places are free again.
        let later = Duration::from_secs(1);
        let source = "2001:db8::1".parse().unwrap();
        assert_eq!(limit.verdict(source, later), Verdict::Send);
        assert_eq!(limit.verdict("2001:db8:0:ff::1".parse().unwrap(), later), Verdict::Drop);
    }
}
