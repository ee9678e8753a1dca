//! Token buckets by key and by address, in tables of bounded size, and the headers that tell of them (the IETF draft
//! "RateLimit header fields for HTTP").
//!
//! Every request is charged to its address when its head has been read, and the charge is given back once its signature
//! has been verified; from then on it counts against its key. So whoever can't sign is limited by address, and nobody
//! can use up another's limit.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use types::KeyId;
use wire::errors::Refusal;
use wire::json::RateLimitPolicy;

use crate::failure::Failure;

const SHARDS: usize = 16;
const NANOSECONDS: u64 = 1_000_000_000;
/// The least time between two searches of a full table for buckets that are full again.
const SWEEP_NS: u64 = NANOSECONDS / 10;
/// The header with the limit.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The header with what is left of it.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// A token bucket's size and how fast it is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketConfig {
    /// How many requests fit in it.
    pub burst: u32,
    /// How many it regains in a second.
    pub per_second: u32,
}

/// The limits of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitsConfig {
    /// Requests of each key.
    pub per_key: BucketConfig,
    /// Requests of each address that are not, or not yet, signed.
    pub per_address: BucketConfig,
    /// How many keys, and how many addresses, are told apart at the same time.
    pub buckets_max: usize,
}

impl Default for RateLimitsConfig {
    fn default() -> Self {
        Self {
            per_key: BucketConfig {
                burst: 2_000,
                per_second: 1_000,
            },
            per_address: BucketConfig {
                burst: 500,
                per_second: 100,
            },
            buckets_max: 100_000,
        }
    }
}

/// What is left in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which kind of bucket: `key` or `address`.
    pub name: &'static str,
    /// Its size and speed.
    pub config: BucketConfig,
    /// How many requests are left now.
    pub remaining: u32,
    /// After how many nanoseconds it is full again.
    pub full_after_ns: u64,
    /// After how many nanoseconds there is room for one more request; 0 if there is.
    pub wait_ns: u64,
}

impl Standing {
    /// Writes the headers.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let Self { name, config, .. } = self;
        let window = u64::from(config.burst).div_ceil(u64::from(config.per_second));
        let policy = format!("\"{name}\";q={};w={window}", config.burst);
        let reset = self.full_after_ns.div_ceil(NANOSECONDS);
        let limit = format!("\"{name}\";r={};t={reset}", self.remaining);
        for (header, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, limit)] {
            headers.insert(header, HeaderValue::try_from(text).expect("digits and ASCII names"));
        }
    }

    /// The failure of a request that found no room.
    pub fn failure(&self) -> Failure {
        let milliseconds = self.wait_ns.div_ceil(1_000_000).max(1);
        Failure::new(Refusal::RateLimited)
            .field(self.name)
            .retry_after_ms(milliseconds)
    }

    /// As part of `GET /v1/limits`.
    pub fn policy(&self) -> RateLimitPolicy {
        RateLimitPolicy {
            name: self.name.to_owned(),
            burst: self.config.burst,
            per_second: self.config.per_second,
            remaining: self.remaining,
        }
    }
}

/// The gateway's token buckets.
#[derive(Debug)]
pub struct RateLimits {
    keys: Table<KeyId>,
    addresses: Table<u64>,
    start: Instant,
}

impl RateLimits {
    /// Buckets that are all full.
    pub fn new(config: &RateLimitsConfig) -> Self {
        Self {
            keys: Table::new("key", config.per_key, config.buckets_max),
            addresses: Table::new("address", config.per_address, config.buckets_max),
            start: Instant::now(),
        }
    }

    /// Takes one request's worth (or `count`) of a key. The error says when there is room again.
    pub fn charge_key(&self, key: KeyId, count: u32) -> Result<Standing, Standing> {
        self.keys.charge(key, count, self.now_ns())
    }

    /// Takes one request's worth of an address.
    pub fn charge_address(&self, address: IpAddr) -> Result<Standing, Standing> {
        self.addresses.charge(network_of(address), 1, self.now_ns())
    }

    /// Gives one request's worth back to an address.
    pub fn refund_address(&self, address: IpAddr) {
        self.addresses.refund(&network_of(address));
    }

    /// What is left of a key.
    pub fn key_standing(&self, key: KeyId) -> Standing {
        self.keys
            .charge(key, 0, self.now_ns())
            .unwrap_or_else(|standing| standing)
    }

    /// What is left of an address.
    pub fn address_standing(&self, address: IpAddr) -> Standing {
        self.addresses
            .charge(network_of(address), 0, self.now_ns())
            .unwrap_or_else(|standing| standing)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// An IPv4 address, or the /64 network of an IPv6 one, which is what one customer has.
fn network_of(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64 | 1 << 63,
    }
}

/// Buckets by name. A bucket is one number: when it will be full again (the "generic cell rate algorithm").
#[derive(Debug)]
struct Table<K> {
    name: &'static str,
    config: BucketConfig,
    shards: Vec<Mutex<Shard<K>>>,
    per_shard_max: usize,
    hasher: std::hash::RandomState,
}

#[derive(Debug)]
struct Shard<K> {
    full_at: HashMap<K, u64>,
    /// The bucket that all share who find the table full of buckets in use.
    overflow_full_at: u64,
    /// Until then full buckets are not looked for again, so that a flood of newcomers stays cheap.
    next_sweep_at: u64,
}

impl<K: Copy + Eq + Hash> Table<K> {
    fn new(name: &'static str, config: BucketConfig, buckets_max: usize) -> Self {
        assert!(config.burst > 0 && config.per_second > 0, "a limit lets something in");
        let shard = || {
            Mutex::new(Shard {
                full_at: HashMap::new(),
                overflow_full_at: 0,
                next_sweep_at: 0,
            })
        };
        Self {
            name,
            config,
            shards: (0..SHARDS).map(|_| shard()).collect(),
            per_shard_max: buckets_max.div_ceil(SHARDS).max(1),
            hasher: std::hash::RandomState::new(),
        }
    }

    fn token_ns(&self) -> u64 {
        (NANOSECONDS / u64::from(self.config.per_second)).max(1)
    }

    fn shard(&self, key: &K) -> &Mutex<Shard<K>> {
        use std::hash::BuildHasher as _;
        let index = self.hasher.hash_one(key) % SHARDS as u64;
        &self.shards[usize::try_from(index).expect("below SHARDS")]
    }

    fn charge(&self, key: K, count: u32, now: u64) -> Result<Standing, Standing> {
        let capacity = self.token_ns() * u64::from(self.config.burst);
        let mut shard = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
        if shard.full_at.len() >= self.per_shard_max && now >= shard.next_sweep_at {
            shard.full_at.retain(|_, full_at| *full_at > now);
            shard.next_sweep_at = now.saturating_add(SWEEP_NS);
        }
        let has_room = shard.full_at.len() < self.per_shard_max || shard.full_at.contains_key(&key);
        if count == 0 {
            let full_at = shard.full_at.get(&key).copied().unwrap_or(now).max(now);
            return Ok(self.standing(full_at - now, 0));
        }
        let slot = if has_room {
            shard.full_at.entry(key).or_insert(now)
        } else {
            &mut shard.overflow_full_at
        };
        let full_at = (*slot).max(now);
        let wanted = full_at.saturating_add(self.token_ns() * u64::from(count));
        let over = (wanted - now).saturating_sub(capacity);
        // Something larger than the bucket is let in when the bucket is full, or it would never be.
        if over > 0 && full_at > now {
            return Err(self.standing(full_at - now, over));
        }
        *slot = wanted;
        Ok(self.standing(wanted - now, 0))
    }

    fn refund(&self, key: &K) {
        let mut shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = shard.full_at.get_mut(key) {
            *full_at = full_at.saturating_sub(self.token_ns());
        }
    }

    fn standing(&self, full_after_ns: u64, wait_ns: u64) -> Standing {
        let used = full_after_ns.div_ceil(self.token_ns());
        let remaining = u64::from(self.config.burst).saturating_sub(used);
        Standing {
            name: self.name,
            config: self.config,
            remaining: u32::try_from(remaining).expect("at most burst"),
            full_after_ns,
            wait_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = NANOSECONDS;

    fn table(buckets_max: usize) -> Table<u64> {
        let config = BucketConfig {
            burst: 3,
            per_second: 2,
        };
        Table::new("key", config, buckets_max)
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let table = table(100);
        let remaining = |now| match table.charge(1, 1, now) {
            Ok(standing) => i64::from(standing.remaining),
            Err(standing) => -i64::try_from(standing.wait_ns).unwrap(),
        };
        assert_eq!([remaining(0), remaining(0), remaining(0)], [2, 1, 0]);
        assert_eq!(remaining(0), -500_000_000);
        assert_eq!(remaining(SECOND / 4), -250_000_000);
        assert_eq!(remaining(SECOND / 2), 0);
        assert_eq!(remaining(10 * SECOND), 2);
        table.refund(&1);
        assert_eq!(remaining(10 * SECOND), 2);
        assert_eq!(
            table.charge(2, 1, 0).unwrap().remaining,
            2,
            "another key has its own bucket"
        );
    }

    #[test]
    fn the_table_stays_bounded_and_forgets_full_buckets_first() {
        let table = table(SHARDS);
        for key in 0..1_000 {
            let _ = table.charge(key, 1, 0);
        }
        let count = |table: &Table<u64>| -> usize {
            table
                .shards
                .iter()
                .map(|shard| shard.lock().unwrap().full_at.len())
                .sum()
        };
        assert!(count(&table) <= SHARDS);
        assert!(
            table.charge(5_000, 1, 0).is_err(),
            "newcomers share one bucket while all are in use"
        );
        assert_eq!(table.charge(5_000, 1, 10 * SECOND).unwrap().remaining, 2);
        assert!(count(&table) <= SHARDS);
    }

    #[test]
    fn headers_are_structured_fields() {
        let mut headers = HeaderMap::new();
        table(100).charge(1, 1, 0).unwrap().write_headers(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"key\";q=3;w=2");
        assert_eq!(headers["ratelimit"], "\"key\";r=2;t=1");
    }

    #[test]
    fn ipv6_is_limited_by_network() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
