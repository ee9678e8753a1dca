//! The gateway's picture of the exchange: a fold over applied batches, for queries and streams.
//!
//! ```text
//!  facts at the start ──┐
//!  event log (refill) ──┤
//!                       v
//!  publisher ── publish ──> View ──> queries (many readers)
//!   (one writer)              └────> bells of the sessions that have something to read
//! ```
//!
//! One writer, many readers. Every lock is held for one instrument or one account and for one command, so that no query
//! stops the publisher for long, and none can stop the core at all. What is shown is always whole commands: never the
//! middle of one. Memory is bounded by [`ViewLimits`] but for what the exchange itself holds open. The past beyond that
//! is in the event log.

mod account;
mod closed;
mod fold;
mod levels;
mod market;
mod open_orders;
mod queries;
mod reference;
mod refill;
mod wake;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use types::{AccountId, AppliedBatch, Epoch, Event, InstrumentId, Key, KeyId, Position, Sequence};

pub use account::{AccountSlot, PrivateStream};
pub use closed::{ClosedOrder, FilledSums};
pub use levels::{Level, LevelChange, LevelChanges, LevelKey, LevelMap, Levels};
pub use market::{BookSnapshot, LevelNow, Market, TradeRecord, Update};

pub(crate) use market::apply_changes;
pub use queries::{Contents, EndedOrder, FillRecord, Page, QueryError, closed_order, fills_page};
pub use reference::Reference;
pub use wake::{Bell, Listeners, MARKS_MAX};

use closed::ClosedOrders;
use fold::Folder;

/// How much of the past the view keeps in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViewLimits {
    /// Trades of each instrument.
    pub trades_per_instrument: usize,
    /// Book updates of all instruments together.
    pub book_updates: usize,
    /// Closed orders that can be found by id, of all accounts together.
    pub closed_orders: usize,
    /// Commands in the index of the accounts' events, of all accounts together.
    pub indexed_events: usize,
    /// Commands that are read from the event log at the start.
    pub refill_commands: u64,
}

impl Default for ViewLimits {
    fn default() -> Self {
        Self {
            trades_per_instrument: 500,
            book_updates: 1 << 16,
            closed_orders: 500_000,
            indexed_events: 2_000_000,
            refill_commands: 500_000,
        }
    }
}

/// The gateway's picture of the exchange.
#[derive(Debug)]
pub struct View {
    reference: ArcSwap<Reference>,
    keys: RwLock<BTreeMap<KeyId, Arc<Key>>>,
    accounts: RwLock<Vec<Arc<AccountSlot>>>,
    markets: RwLock<Vec<Arc<Market>>>,
    closed: Mutex<ClosedOrders>,
    epochs: RwLock<Epochs>,
    published: watch::Sender<Position>,
    folder: Mutex<Folder>,
    limits: ViewLimits,
}

/// A batch does not follow on what the view has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fold a batch: sequence {found} came where {expected} was due")]
pub struct SequenceGap {
    /// What was due.
    pub expected: Sequence,
    /// What came.
    pub found: Sequence,
}

impl View {
    /// The view of an exchange whose present state, after the command at `position`, is told by `facts`.
    pub fn new(limits: ViewLimits, facts: &[Event], position: Position) -> Self {
        let view = Self {
            reference: ArcSwap::default(),
            keys: RwLock::default(),
            accounts: RwLock::default(),
            markets: RwLock::default(),
            closed: Mutex::new(ClosedOrders::new(limits.closed_orders)),
            epochs: RwLock::new(Epochs::new(position)),
            published: watch::Sender::new(position),
            folder: Mutex::new(Folder::new(&limits, position)),
            limits,
        };
        locked(&view.folder).take_facts(&view, facts);
        view
    }

    /// Folds a batch and rings the bells of those whom it concerns. One batch after another, from one thread. What was
    /// folded already is passed over.
    pub fn publish(&self, batch: &AppliedBatch) -> Result<(), SequenceGap> {
        let mut folder = locked(&self.folder);
        folder.fold(self, batch)?;
        self.published.send_replace(folder.position());
        folder.ring(self);
        Ok(())
    }

    /// The position of the last command that is in the view.
    pub fn position(&self) -> Position {
        *self.published.borrow()
    }

    /// Waits until the view has a sequence.
    pub async fn wait_until(&self, sequence: Sequence) {
        if self.position().sequence >= sequence {
            return;
        }
        let mut published = self.published.subscribe();
        let reached = published.wait_for(|position| position.sequence >= sequence).await;
        reached.expect("the view holds the sender");
    }

    /// The position of a sequence that is in the view.
    pub fn position_of(&self, sequence: Sequence) -> Position {
        let last = self.position();
        Position {
            group: last.group,
            epoch: read(&self.epochs).epoch_of(sequence),
            sequence,
        }
    }

    /// The last position of an epoch that another one followed; none if it goes on or is not known.
    pub(crate) fn last_of_epoch(&self, epoch: Epoch) -> Option<Position> {
        let end = read(&self.epochs).end_of(epoch)?;
        Some(self.position_of(end))
    }

    /// Where its largest table is, which fills from its beginning to its end.
    pub fn largest_table(&self) -> Range<*const u8> {
        locked(&self.closed).memory()
    }

    pub(crate) fn market(&self, id: InstrumentId) -> Option<Arc<Market>> {
        read(&self.markets).get(id.0 as usize).cloned()
    }

    pub(crate) fn account_slot(&self, id: AccountId) -> Option<Arc<AccountSlot>> {
        read(&self.accounts).get(id.0 as usize).cloned()
    }
}

/// From which sequence on each epoch holds, as far as it is known.
#[derive(Debug)]
struct Epochs(Vec<(Sequence, Epoch)>);

impl Epochs {
    fn new(position: Position) -> Self {
        Self(vec![(position.sequence, position.epoch)])
    }

    /// Learns the epoch of a sequence.
    fn learn(&mut self, sequence: Sequence, epoch: Epoch) {
        let index = self.0.partition_point(|(_, known)| *known < epoch);
        match self.0.get_mut(index) {
            Some((since, known)) if *known == epoch => *since = sequence.min(*since),
            _ => self.0.insert(index, (sequence, epoch)),
        }
    }

    /// The last sequence of an epoch that another one followed.
    fn end_of(&self, epoch: Epoch) -> Option<Sequence> {
        let index = self.0.iter().position(|(_, known)| *known == epoch)?;
        let (next, _) = self.0.get(index + 1)?;
        Some(Sequence(next.0.saturating_sub(1)))
    }

    fn epoch_of(&self, sequence: Sequence) -> Epoch {
        let index = self.0.partition_point(|(since, _)| *since <= sequence);
        self.0[index.saturating_sub(1)].1
    }
}

/// Locks, whether or not another thread panicked while it held the lock.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::GroupId;

    #[test]
    fn epochs_are_found_by_sequence() {
        let position = |epoch, sequence| Position {
            group: GroupId(0),
            epoch: Epoch(epoch),
            sequence: Sequence(sequence),
        };
        let mut epochs = Epochs::new(position(3, 100));
        epochs.learn(Sequence(10), Epoch(1));
        epochs.learn(Sequence(50), Epoch(2));
        epochs.learn(Sequence(60), Epoch(2));
        epochs.learn(Sequence(90), Epoch(3));
        epochs.learn(Sequence(120), Epoch(4));
        for (sequence, epoch) in [
            (1, 1),
            (10, 1),
            (49, 1),
            (50, 2),
            (89, 2),
            (90, 3),
            (119, 3),
            (120, 4),
            (500, 4),
        ] {
            assert_eq!(epochs.epoch_of(Sequence(sequence)), Epoch(epoch), "{sequence}");
        }
        assert_eq!(epochs.end_of(Epoch(1)), Some(Sequence(49)));
        assert_eq!(epochs.end_of(Epoch(4)), None);
        assert_eq!(epochs.end_of(Epoch(9)), None);
    }
}
