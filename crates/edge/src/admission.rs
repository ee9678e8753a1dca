//! How many connections are open, together and of each source.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::figures::Refused;

/// Whoever has one IPv6 address has a network of 64 bits.
const V6_BITS: u32 = 64;

/// Counts connections. Cheap to clone; clones share the count.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    all: Arc<Semaphore>,
    all_max: usize,
    per_source_max: usize,
    /// Only sources with open connections: never more than `all_max`.
    sources: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection's place, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Admission,
    source: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(all_max: usize, per_source_max: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all_max)),
            all_max,
            per_source_max,
            sources: Arc::default(),
        }
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, if there is room.
    pub(crate) fn enter(&self, source: IpAddr) -> Result<Place, Refused> {
        let permit = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Refused::Full)?;
        let source = network(source, 32, V6_BITS);
        let mut sources = self.sources();
        let count = sources.get(&source).copied().unwrap_or(0);
        if count >= self.per_source_max {
            return Err(Refused::SourceFull);
        }
        sources.insert(source, count + 1);
        drop(sources);
        Ok(Place {
            admission: self.clone(),
            source,
            _permit: permit,
        })
    }

    /// Waits until all are gone.
    pub(crate) async fn emptied(&self) {
        let all = u32::try_from(self.all_max).unwrap_or(u32::MAX);
        drop(self.all.acquire_many(all).await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sources = self.admission.sources();
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

/// The network of so many bits that an address is in; an IPv4 address in IPv6 clothes counts as what it is.
pub(crate) fn network(address: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - v4_bits).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - v6_bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(address) & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let admission = Admission::new(3, 2);
        let enter = |source: &str| admission.enter(source.parse().unwrap());
        let one = enter("2001:db8::1").unwrap();
        let two = enter("2001:db8::2").unwrap();
        assert_eq!(enter("2001:db8::3").unwrap_err(), Refused::SourceFull);
        let three = enter("192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.2").unwrap_err(), Refused::Full);
        drop(one);
        drop(enter("2001:db8::3").unwrap());
        drop((two, three));
        assert!(admission.sources().is_empty());
        assert_eq!(admission.all.available_permits(), 3);
    }

    #[test]
    fn networks() {
        for (address, v4_bits, v6_bits, wanted) in [
            ("192.0.2.77", 24, 56, "192.0.2.0"),
            ("192.0.2.77", 32, 64, "192.0.2.77"),
            ("::ffff:192.0.2.77", 24, 56, "192.0.2.0"),
            ("2001:db8:1:2ff::9", 24, 56, "2001:db8:1:200::"),
            ("2001:db8:1:2ff::9", 32, 64, "2001:db8:1:2ff::"),
        ] {
            let network = network(address.parse().unwrap(), v4_bits, v6_bits);
            assert_eq!(network, wanted.parse::<IpAddr>().unwrap(), "{address}");
        }
    }
}
