//! The clocks on both ends of the lease.

use types::Epoch;

/// Time that passed since some moment of the system's life, in nanoseconds: `CLOCK_BOOTTIME`, which goes on while the
/// system is suspended and never jumps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elapsed(pub u64);

impl Elapsed {
    /// The moment this many nanoseconds later.
    pub fn plus_ns(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// How many nanoseconds have passed since an earlier moment; 0 since a later one.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What the leader of the lease group counts: for how long the holder may still believe that it is active.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseGuard {
    leads: bool,
    /// When it applied the last renewal, or was elected.
    counts_from: Elapsed,
}

impl LeaseGuard {
    /// It leads the group from now on, or no longer.
    pub fn leads(&mut self, now: Elapsed, leads: bool) {
        if leads && !self.leads {
            self.counts_from = now;
        }
        self.leads = leads;
    }

    /// A renewal was applied.
    pub fn renewed(&mut self, now: Elapsed) {
        self.counts_from = now;
    }

    /// For how long nobody may be promoted, in nanoseconds. Only a leader knows.
    pub fn remaining_ns(&self, now: Elapsed, lease_ns: u64, drift_ppm: u32) -> Option<u64> {
        let whole = Self::whole_ns(lease_ns, drift_ppm);
        self.leads.then(|| whole.saturating_sub(now.since(self.counts_from)))
    }

    /// How long it counts: lease x (1 + drift), in nanoseconds.
    pub fn whole_ns(lease_ns: u64, drift_ppm: u32) -> u64 {
        lease_ns.saturating_add(scaled(lease_ns, drift_ppm))
    }
}

fn scaled(ns: u64, ppm: u32) -> u64 {
    u64::try_from(u128::from(ns) * u128::from(ppm) / 1_000_000).unwrap_or(u64::MAX)
}

/// What the holder counts: until when it is active for certain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Holder {
    held: Option<(Epoch, Elapsed)>,
}

impl Holder {
    /// A renewal was granted that was sent at `sent_at` and holds for `lease_ns` from then.
    pub fn granted(&mut self, epoch: Epoch, sent_at: Elapsed, lease_ns: u64) {
        let until = sent_at.plus_ns(lease_ns);
        self.held = match self.held {
            Some((known, earlier)) if known == epoch => Some((epoch, earlier.max(until))),
            Some((known, earlier)) if known > epoch => Some((known, earlier)),
            _ => Some((epoch, until)),
        };
    }

    /// The lease is somebody else's.
    pub fn lost(&mut self) {
        self.held = None;
    }

    /// True if the region is active in this epoch for certain.
    pub fn holds(&self, epoch: Epoch, now: Elapsed) -> bool {
        self.held.is_some_and(|(held, until)| held == epoch && now < until)
    }

    /// For how long it is, in nanoseconds.
    pub fn remaining_ns(&self, now: Elapsed) -> u64 {
        self.held.map_or(0, |(_, until)| until.since(now))
    }
}
