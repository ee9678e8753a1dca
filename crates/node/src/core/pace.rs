//! Whether a command is run by the thread that brings it, or by the core's own.
//!
//! Run where it is brought, a command costs no wake-up, and each wake-up takes as long as a good part of a sync. But it has
//! a sync of its own, and the thread that brought it reads nothing meanwhile; where commands come close together, it is
//! better to gather them while the disk works. What tells the two apart is not the rate (one client that waits for each
//! answer keeps the core busy most of the time, and nothing is ever gathered) but whether commands *meet*: whether one
//! comes while the core works, or so shortly after that it must have been waiting to be read. That is counted, as a
//! moving share, with one threshold to leave and a lower one to come back.
//!
//! A disk that stalls would hold up the thread that brought a command. So nothing is run that way unless the last
//! [`QUICK_SYNCS`] syncs were quick: of a stall, at most one sync is on such a thread.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A command that comes within this part of a sync after the core was done has met the one before...
const MEETS_WITHIN_SYNCS: u64 = 3;
/// ... but at most this long after: as long as it takes to send an answer and read what waits behind it. A client that
/// waits for its answer needs two wake-ups more than that.
const MEETS_WITHIN_NS_MAX: u64 = 40_000;
/// A share of all.
const ALL: u32 = 1 << 16;
/// Beyond this share of commands that met another, the core's own thread runs them.
const CROWDED: u32 = ALL * 2 / 5;
/// Below this share, whoever brings one runs it.
const SPARSE: u32 = ALL / 5;
/// By which part of the way the share moves with each command.
const SHARE_STEPS: u32 = 16;
/// By which part of the way the usual time of a sync moves with each sync.
const SYNC_STEPS: u64 = 8;
/// Syncs that must have been quick since the last slow one.
const QUICK_SYNCS: u32 = 32;
/// In place of a time: the core works.
const WORKING: u64 = u64::MAX;

/// How closely commands follow each other, and how quick the disk is. Written by many threads without a lock: a lost
/// update makes it a little less exact, and no more.
#[derive(Debug)]
pub(super) struct Pace {
    started: Instant,
    /// Beyond this a sync is slow. Zero: every one is.
    sync_max_ns: u64,
    /// When the core was last done, in nanoseconds since `started`.
    done_at_ns: AtomicU64,
    /// Since when a thread that brought a command has been running it; 0: none is.
    inline_since_ns: AtomicU64,
    /// The share of commands that met another, of [`ALL`].
    met: AtomicU32,
    crowded: AtomicBool,
    /// How long a sync usually takes.
    sync_ns: AtomicU64,
    /// Quick syncs that are still to come.
    quick_due: AtomicU32,
}

impl Pace {
    pub(super) fn new(sync_max: Duration) -> Self {
        Self {
            started: Instant::now(),
            sync_max_ns: u64::try_from(sync_max.as_nanos()).unwrap_or(u64::MAX),
            done_at_ns: AtomicU64::new(0),
            inline_since_ns: AtomicU64::new(0),
            met: AtomicU32::new(0),
            crowded: AtomicBool::new(false),
            sync_ns: AtomicU64::new(0),
            quick_due: AtomicU32::new(QUICK_SYNCS),
        }
    }

    /// A command comes, with so many queued before it. True if whoever brings it should run it.
    pub(super) fn comes(&self, queued: usize) -> bool {
        let now_ns = if queued > 0 { 0 } else { self.now_ns() };
        self.comes_at(now_ns, queued)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn comes_at(&self, now_ns: u64, queued: usize) -> bool {
        let done_at_ns = self.done_at_ns.load(Ordering::Relaxed);
        let meets_within = (self.sync_ns.load(Ordering::Relaxed) / MEETS_WITHIN_SYNCS).min(MEETS_WITHIN_NS_MAX);
        let meets = queued > 0 || done_at_ns == WORKING || now_ns < done_at_ns.saturating_add(meets_within);
        let before = self.met.load(Ordering::Relaxed);
        let met = before - before / SHARE_STEPS + if meets { ALL / SHARE_STEPS } else { 0 };
        self.met.store(met.min(ALL), Ordering::Relaxed);
        let crowded = match self.crowded.load(Ordering::Relaxed) {
            true => met > SPARSE,
            false => met > CROWDED,
        };
        self.crowded.store(crowded, Ordering::Relaxed);
        !meets && !crowded && self.quick_due.load(Ordering::Relaxed) == 0
    }

    /// The core works.
    pub(super) fn begins(&self) {
        self.done_at_ns.store(WORKING, Ordering::Relaxed);
    }

    /// The core works, on a thread that brought a command.
    pub(super) fn begins_inline(&self) {
        self.begins();
        self.inline_since_ns.store(self.now_ns(), Ordering::Relaxed);
    }

    /// For how long it has been so.
    pub(super) fn inline_for(&self) -> Option<Duration> {
        let since_ns = self.inline_since_ns.load(Ordering::Relaxed);
        (since_ns > 0).then(|| Duration::from_nanos(self.now_ns().saturating_sub(since_ns)))
    }

    /// The core is done.
    pub(super) fn ends(&self) {
        self.inline_since_ns.store(0, Ordering::Relaxed);
        let now_ns = self.now_ns();
        self.done_at_ns.store(now_ns, Ordering::Relaxed);
    }

    /// A sync took so long.
    pub(super) fn synced(&self, took_ns: u64) {
        let usual_ns = self.sync_ns.load(Ordering::Relaxed);
        let usual_ns = usual_ns - usual_ns / SYNC_STEPS + took_ns / SYNC_STEPS;
        self.sync_ns.store(usual_ns, Ordering::Relaxed);
        let due = self.quick_due.load(Ordering::Relaxed);
        let due = if took_ns > self.sync_max_ns || self.sync_max_ns == 0 {
            QUICK_SYNCS
        } else {
            due.saturating_sub(1)
        };
        self.quick_due.store(due, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC_NS: u64 = 120_000;
    const SYNC_MAX: Duration = Duration::from_millis(2);

    /// Commands that come so long after the core was done with the one before; gives how many are run where they come.
    fn run(pace: &Pace, count: u32, after_ns: u64) -> u32 {
        let mut inline = 0;
        for _ in 0..count {
            let now_ns = pace.done_at_ns.load(Ordering::Relaxed) + after_ns;
            inline += u32::from(pace.comes_at(now_ns, 0));
            pace.begins();
            pace.synced(SYNC_NS);
            pace.done_at_ns.store(now_ns + SYNC_NS, Ordering::Relaxed);
        }
        inline
    }

    #[test]
    fn what_comes_alone_is_run_where_it_comes_once_the_disk_has_shown_to_be_quick() {
        let pace = Pace::new(SYNC_MAX);
        assert_eq!(run(&pace, QUICK_SYNCS, 100_000), 0);
        assert_eq!(run(&pace, 1_000, 100_000), 1_000);
        let never = Pace::new(Duration::ZERO);
        assert_eq!(run(&never, 1_000, 100_000), 0);
    }

    #[test]
    fn commands_that_meet_are_gathered_until_they_come_alone_again() {
        let pace = Pace::new(SYNC_MAX);
        run(&pace, 200, 100_000);
        assert_eq!(run(&pace, 200, 5_000), 0, "each has waited to be read");
        let back = run(&pace, 200, 100_000);
        assert!((100..200).contains(&back), "{back}");
        for _ in 0..100 {
            assert!(!pace.comes(3), "some are queued");
        }
        pace.begins();
        assert!(!pace.comes_at(u64::MAX, 0), "the core works");
        // One meeting among many is queued and changes nothing for the others.
        pace.done_at_ns.store(0, Ordering::Relaxed);
        run(&pace, 200, 100_000);
        assert_eq!(run(&pace, 1, 0), 0);
        assert_eq!(run(&pace, 1, 100_000), 1);
    }

    #[test]
    fn after_a_slow_sync_nothing_is_run_where_it_comes_for_a_while() {
        let pace = Pace::new(SYNC_MAX);
        run(&pace, 200, 100_000);
        pace.synced(2_000_001);
        assert_eq!(run(&pace, QUICK_SYNCS, 100_000), 0);
        assert_eq!(run(&pace, 10, 100_000), 10);
    }

    #[test]
    fn it_shows_for_how_long_a_command_has_been_run_where_it_came() {
        let pace = Pace::new(SYNC_MAX);
        assert_eq!(pace.inline_for(), None);
        pace.begins();
        assert_eq!(pace.inline_for(), None);
        pace.begins_inline();
        assert!(pace.inline_for().is_some());
        pace.ends();
        assert_eq!(pace.inline_for(), None);
    }
}
