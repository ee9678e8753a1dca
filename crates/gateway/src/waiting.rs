//! Who waits for the core's answers: one request alone, or a session with all of its requests.
//!
//! ```text
//!  core ── tell ──> Waiter ──┬── oneshot ──────────────> the one request
//!                            └── Mailbox of a session ──> all its answers at once, one wake-up for a batch of the core
//! ```
//!
//! A mailbox never holds more than its session has handed over to the core, whose queue is bounded. Once it has held as
//! many, nothing here allocates.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use tokio::sync::oneshot;
use types::Timestamp;

use crate::handle::Answer;
use crate::view::locked;

/// The answer that is under way. Dropped by the core without one: the outcome is unknown.
pub type Pending = oneshot::Receiver<Answer>;

/// The core's end of a wait. Dropped untold, it tells that the outcome is unknown.
#[derive(Debug)]
pub struct Waiter {
    to: To,
    submitted_at: Timestamp,
}

#[derive(Debug)]
enum To {
    Nobody,
    One(oneshot::Sender<Answer>),
    Mailbox(Arc<Mailbox>, Token),
}

/// Which request of a session.
pub type Token = u64;

/// What a session is told of one of its requests.
#[derive(Debug)]
pub struct Letter {
    /// Which request.
    pub token: Token,
    /// What became of it; none if that is unknown.
    pub answer: Option<Answer>,
}

impl Waiter {
    /// Who waits for one answer alone, from now on.
    pub fn one(now: Timestamp) -> (Self, Pending) {
        let (sender, pending) = oneshot::channel();
        let waiter = Self {
            to: To::One(sender),
            submitted_at: now,
        };
        (waiter, pending)
    }

    /// A session that waits for the answer to one of its requests, from now on.
    pub fn in_mailbox(mailbox: &Arc<Mailbox>, token: Token, now: Timestamp) -> Self {
        Self {
            to: To::Mailbox(Arc::clone(mailbox), token),
            submitted_at: now,
        }
    }

    /// When the command was handed over.
    pub fn submitted_at(&self) -> Timestamp {
        self.submitted_at
    }

    /// Tells what became of the command. A session hears of it when `bells` are rung.
    pub fn tell(mut self, answer: Answer, bells: &mut Bells) {
        match mem::replace(&mut self.to, To::Nobody) {
            To::Nobody => {}
            // Whoever is gone does not need the answer.
            To::One(sender) => drop(sender.send(answer)),
            To::Mailbox(mailbox, token) => {
                let answer = Some(answer);
                if mailbox.put(Letter { token, answer }) {
                    bells.0.push(mailbox);
                }
            }
        }
    }

    /// Nobody waits any more: the command was not taken, and who asked is told so directly.
    pub fn dismiss(mut self) {
        self.to = To::Nobody;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let To::Mailbox(mailbox, token) = mem::replace(&mut self.to, To::Nobody)
            && mailbox.put(Letter { token, answer: None })
        {
            mailbox.waker.wake();
        }
    }
}

/// The sessions that have new letters. They hear of all of a batch at once.
#[derive(Debug, Default)]
pub struct Bells(Vec<Arc<Mailbox>>);

impl Bells {
    /// Wakes nobody: the one session that has a letter hands a command over at this moment, and looks before it sleeps.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Wakes them.
    pub fn ring(&mut self) {
        for mailbox in self.0.drain(..) {
            mailbox.waker.wake();
        }
    }
}

/// Where a session finds what it was told.
#[derive(Default)]
pub struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    waker: AtomicWaker,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox(..)")
    }
}

impl Mailbox {
    /// Whom to wake from now on, before the box is next looked into.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// True if there are no letters.
    pub fn is_empty(&self) -> bool {
        locked(&self.letters).is_empty()
    }

    /// Takes all letters, in the order in which they came, into a buffer that is empty.
    pub fn take(&self, letters: &mut Vec<Letter>) {
        debug_assert!(letters.is_empty(), "what was taken before is handled");
        mem::swap(&mut *locked(&self.letters), letters);
    }

    /// Puts a letter in. True if the box was empty, so that the session may have to be woken.
    fn put(&self, letter: Letter) -> bool {
        let mut letters = locked(&self.letters);
        let was_empty = letters.is_empty();
        letters.push(letter);
        was_empty
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::handle::{NotAccepting, SubmitError};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_session_hears_once_of_all_that_it_is_told_together() {
        let mailbox = Arc::new(Mailbox::default());
        let woken = Arc::new(Woken::default());
        let waiters: Vec<_> = (0..4)
            .map(|token| Waiter::in_mailbox(&mailbox, token, Timestamp(1)))
            .collect();
        let mut bells = Bells::default();
        let mut taken = Vec::new();
        mailbox.register(&Waker::from(Arc::clone(&woken)));
        for (index, waiter) in waiters.into_iter().enumerate() {
            match index {
                // Not taken: who asked was told directly.
                1 => waiter.dismiss(),
                // Lost.
                3 => drop(waiter),
                _ => waiter.tell(Err(SubmitError::NotAccepting(NotAccepting::Stopping)), &mut bells),
            }
        }
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        bells.ring();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        mailbox.take(&mut taken);
        let told: Vec<_> = taken
            .drain(..)
            .map(|letter| (letter.token, letter.answer.is_some()))
            .collect();
        assert_eq!(told, [(0, true), (2, true), (3, false)]);

        mailbox.register(&Waker::from(Arc::clone(&woken)));
        drop(Waiter::in_mailbox(&mailbox, 5, Timestamp(1)));
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "what is lost is heard of at once");
        bells.ring();
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    }
}
