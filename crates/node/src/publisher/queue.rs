//! The queue between the core and the publisher: bounded in batches and in events, so that its memory is bounded however
//! large the batches are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use types::AppliedBatch;

/// Batches that may wait for the publisher.
const BATCHES_QUEUED_MAX: usize = 4_096;
/// Events that may wait for the publisher, before one more batch.
const EVENTS_QUEUED_MAX: usize = 400_000;

/// The core's end. It never waits.
#[derive(Debug)]
pub struct PublishSender {
    sender: Sender<Arc<AppliedBatch>>,
    events: Arc<AtomicUsize>,
}

/// The publisher's end.
#[derive(Debug)]
pub struct PublishReceiver {
    receiver: Receiver<Arc<AppliedBatch>>,
    events: Arc<AtomicUsize>,
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
    (
        PublishSender { sender, events },
        PublishReceiver {
            receiver,
            events: counted,
        },
    )
}

impl PublishSender {
    /// Queues a batch; false if there is no room, or nobody who would take it out.
    pub fn try_send(&self, batch: Arc<AppliedBatch>) -> bool {
        let count = batch.events.len();
        if self.events.load(Ordering::Relaxed) >= EVENTS_QUEUED_MAX {
            return false;
        }
        self.events.fetch_add(count, Ordering::Relaxed);
        match self.sender.try_send(batch) {
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
        let batch = self.receiver.recv_timeout(timeout)?;
        self.events.fetch_sub(batch.events.len(), Ordering::Relaxed);
        Ok(batch)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
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
}
