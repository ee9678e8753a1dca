//! The queue between the core and the publisher: bounded in batches and in events, so that its memory is bounded however
//! large the batches are.
//!
//! To queue a batch and to wake the publisher are two things, because the second takes as long as many batches and, where
//! processors are few, the publisher then competes with the answer for one of them: who has an answer to send sends it first.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use types::AppliedBatch;

/// Batches that may wait for the publisher.
const BATCHES_QUEUED_MAX: usize = 4_096;
/// Events that may wait for the publisher, before one more batch.
const EVENTS_QUEUED_MAX: usize = 400_000;

/// The core's end. It never waits.
#[derive(Debug)]
pub struct PublishSender {
    /// Taken only at the end.
    sender: Option<Sender<Arc<AppliedBatch>>>,
    events: Arc<AtomicUsize>,
    bell: PublishBell,
}

/// Wakes the publisher.
#[derive(Clone, Debug, Default)]
pub struct PublishBell(Arc<Sleeper>);

#[derive(Debug, Default)]
struct Sleeper {
    asleep: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

/// The publisher's end.
#[derive(Debug)]
pub struct PublishReceiver {
    receiver: Receiver<Arc<AppliedBatch>>,
    events: Arc<AtomicUsize>,
    bell: PublishBell,
}

/// A queue with the limits of a node.
pub fn queue() -> (PublishSender, PublishReceiver) {
    with_room_for(BATCHES_QUEUED_MAX)
}

/// A queue for at most so many batches.
pub(crate) fn with_room_for(batches_max: usize) -> (PublishSender, PublishReceiver) {
    let (sender, receiver) = bounded(batches_max);
    let events = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&events);
    let bell = PublishBell::default();
    let sender = PublishSender {
        sender: Some(sender),
        events,
        bell: bell.clone(),
    };
    let receiver = PublishReceiver {
        receiver,
        events: counted,
        bell,
    };
    (sender, receiver)
}

impl PublishSender {
    /// Wakes the publisher, from anywhere.
    pub fn bell(&self) -> &PublishBell {
        &self.bell
    }

    /// Queues a batch; false if there is no room, or nobody who would take it out. Who asked for it wakes the publisher
    /// afterwards, by the bell.
    pub fn try_send(&self, batch: Arc<AppliedBatch>) -> bool {
        let count = batch.events.len();
        if self.events.load(Ordering::Relaxed) >= EVENTS_QUEUED_MAX {
            return false;
        }
        self.events.fetch_add(count, Ordering::Relaxed);
        let sender = self.sender.as_ref().expect("it is there until the end");
        match sender.try_send(batch) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.events.fetch_sub(count, Ordering::Relaxed);
                false
            }
        }
    }
}

impl PublishReceiver {
    /// The next batch, once there is one.
    pub(crate) fn recv_timeout(&self, timeout: Duration) -> Result<Arc<AppliedBatch>, RecvTimeoutError> {
        let until = Instant::now() + timeout;
        loop {
            match self.receiver.try_recv() {
                Ok(batch) => {
                    self.events.fetch_sub(batch.events.len(), Ordering::Relaxed);
                    return Ok(batch);
                }
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return Err(RecvTimeoutError::Timeout);
            }
            self.bell.sleep(wait, || !self.receiver.is_empty());
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

impl Drop for PublishSender {
    /// Nothing more comes: the publisher must not sleep on.
    fn drop(&mut self) {
        drop(self.sender.take());
        self.bell.ring();
    }
}

impl PublishBell {
    /// Wakes the publisher, if it sleeps.
    pub fn ring(&self) {
        if !self.0.asleep.swap(false, Ordering::SeqCst) {
            return;
        }
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = &*thread {
            thread.unpark();
        }
    }

    /// True if the publisher sleeps.
    pub fn is_wanted(&self) -> bool {
        self.0.asleep.load(Ordering::SeqCst)
    }

    /// Sleeps until it is rung, unless there is something to do. Only the publisher's thread does.
    fn sleep(&self, timeout: Duration, is_something_to_do: impl Fn() -> bool) {
        let current = std::thread::current();
        let mut thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_none_or(|thread| thread.id() != current.id()) {
            *thread = Some(current);
        }
        drop(thread);
        self.0.asleep.store(true, Ordering::SeqCst);
        // Whoever queued before that saw nobody asleep.
        if !is_something_to_do() {
            std::thread::park_timeout(timeout);
        }
        self.0.asleep.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use types::{BatchHeader, Event};

    use super::*;

    fn batch(events: usize) -> Arc<AppliedBatch> {
        Arc::new(AppliedBatch {
            header: BatchHeader::default(),
            committed_at: None,
            commands: Vec::new(),
            events: vec![Event::ClockAdvanced; events],
        })
    }

    #[test]
    fn it_is_bounded_in_batches_and_in_events() {
        let (sender, receiver) = with_room_for(2);
        assert!(sender.try_send(batch(1)) && sender.try_send(batch(1)) && !sender.try_send(batch(1)));
        for _ in 0..2 {
            receiver.recv_timeout(Duration::ZERO).unwrap();
        }
        assert!(sender.try_send(batch(EVENTS_QUEUED_MAX)));
        assert!(!sender.try_send(batch(1)), "events");
        receiver.recv_timeout(Duration::ZERO).unwrap();
        assert!(sender.try_send(batch(1)));
        drop(receiver);
        assert!(!sender.try_send(batch(1)), "nobody takes it out");
    }

    #[test]
    fn whoever_sleeps_is_woken_and_whoever_is_awake_is_left_alone() {
        let (sender, receiver) = with_room_for(2);
        assert!(!sender.bell().is_wanted());
        let woken = std::thread::spawn(move || {
            let long = Duration::from_secs(600);
            let first = receiver.recv_timeout(long).map(drop);
            let second = receiver.recv_timeout(long).map(drop);
            (first, second, receiver.recv_timeout(long).map(drop))
        });
        for _ in 0..2 {
            while !sender.bell().is_wanted() {
                std::thread::yield_now();
            }
            assert!(sender.try_send(batch(1)));
            sender.bell().ring();
        }
        while !sender.bell().is_wanted() {
            std::thread::yield_now();
        }
        drop(sender);
        let ended = Err(RecvTimeoutError::Disconnected);
        assert_eq!(woken.join().unwrap(), (Ok(()), Ok(()), ended));
    }
}
