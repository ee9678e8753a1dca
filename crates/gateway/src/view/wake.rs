//! How the publisher wakes the sessions that have something to read, and only those.
//!
//! A session has one bell with a mark for each of its subscriptions. The publisher sets marks and rings; it never
//! queues anything for a session. A session takes its marks and reads what is new at its own pace.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use super::locked;

/// How many subscriptions one bell serves.
pub const MARKS_MAX: usize = 256;
const WORDS: usize = MARKS_MAX / 64;

/// A session's bell.
#[derive(Default)]
pub struct Bell {
    marks: [AtomicU64; WORDS],
    waker: AtomicWaker,
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell(..)")
    }
}

impl Bell {
    /// Sets a subscription's mark and wakes the session.
    pub fn ring(&self, mark: usize) {
        let bit = 1_u64 << (mark % 64);
        let before = self.marks[mark / 64].fetch_or(bit, Ordering::AcqRel);
        if before & bit == 0 {
            self.waker.wake();
        }
    }

    /// Whom to wake from now on, before it is next asked whether somebody has rung.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// True if somebody has rung and the marks were not taken yet.
    pub fn is_rung(&self) -> bool {
        self.marks.iter().any(|marks| marks.load(Ordering::Acquire) != 0)
    }

    /// Takes the marks that are set.
    pub fn take(&self) -> impl Iterator<Item = usize> + use<> {
        let words: [u64; WORDS] = std::array::from_fn(|index| self.marks[index].swap(0, Ordering::AcqRel));
        words.into_iter().enumerate().flat_map(|(index, word)| {
            (0..64)
                .filter(move |bit| word & (1 << bit) != 0)
                .map(move |bit| index * 64 + bit)
        })
    }
}

/// Who wants to know of news of one instrument or account.
#[derive(Debug, Default)]
pub struct Listeners {
    count: AtomicUsize,
    list: Mutex<Vec<(Arc<Bell>, usize)>>,
}

impl Listeners {
    /// Rings `bell` with `mark` from now on.
    pub fn add(&self, bell: &Arc<Bell>, mark: usize) {
        let mut list = locked(&self.list);
        list.push((Arc::clone(bell), mark));
        self.count.store(list.len(), Ordering::Release);
    }

    /// No longer rings `bell` with `mark`.
    pub fn remove(&self, bell: &Arc<Bell>, mark: usize) {
        let mut list = locked(&self.list);
        list.retain(|(other, other_mark)| !(Arc::ptr_eq(bell, other) && mark == *other_mark));
        self.count.store(list.len(), Ordering::Release);
    }

    /// Rings all.
    pub fn ring(&self) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        for (bell, mark) in locked(&self.list).iter() {
            bell.ring(*mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_taken_once() {
        let bell = Arc::new(Bell::default());
        let listeners = Listeners::default();
        listeners.add(&bell, 3);
        listeners.add(&bell, 200);
        listeners.ring();
        listeners.ring();
        assert_eq!(bell.take().collect::<Vec<_>>(), [3, 200]);
        assert_eq!(bell.take().count(), 0);
        listeners.remove(&bell, 3);
        listeners.ring();
        assert_eq!(bell.take().collect::<Vec<_>>(), [200]);
    }
}
