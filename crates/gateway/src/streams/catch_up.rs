//! A stream that is further behind than the view's last updates reach: it walks over the event log.
//!
//! Book messages carry whole levels, so a book that is resumed must first know what it looked like then. It takes the
//! present levels, sums up what has changed since, takes that back, and walks forward from there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use types::{AppliedBatch, Event, InstrumentId, Sequence};

use crate::past::PastCommand;
use crate::view::{LevelChange, LevelChanges, LevelKey, LevelNow, Levels, apply_changes};

/// Batches that were read from the log and are still to be walked over.
#[derive(Debug, Default)]
pub(super) struct Chunk(VecDeque<Arc<AppliedBatch>>);

impl Chunk {
    pub fn fill(&mut self, batches: Vec<Arc<AppliedBatch>>) {
        self.0 = batches.into();
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The command at a sequence, if it was read. Forgets what lies before it.
    pub fn command(&mut self, sequence: Sequence) -> Option<PastCommand> {
        while self.0.front()?.header.last_sequence() < sequence {
            self.0.pop_front();
        }
        PastCommand::find(Arc::clone(self.0.front()?), sequence)
    }
}

/// A book as it was at an earlier sequence, while it is being found out and then walked forward.
#[derive(Debug)]
pub(super) struct PastBook {
    instrument: InstrumentId,
    levels: Levels,
    sums: BTreeMap<LevelKey, LevelChange>,
    /// The next command to sum up.
    next: Sequence,
    /// The last one.
    last: Sequence,
    changes: LevelChanges,
}

impl PastBook {
    /// Starts from the levels at `last`, to find out those at `wanted`.
    pub fn new(instrument: InstrumentId, levels: Levels, last: Sequence, wanted: Sequence) -> Self {
        Self {
            instrument,
            levels,
            sums: BTreeMap::new(),
            next: wanted.next(),
            last,
            changes: LevelChanges::default(),
        }
    }

    /// The command that must be summed up next; none once the levels are those of the past.
    pub fn wants(&self) -> Option<Sequence> {
        (self.next <= self.last).then_some(self.next)
    }

    /// Sums up a command.
    pub fn sum_up(&mut self, events: &[Event]) {
        for (key, change) in changes_of(&mut self.changes, self.instrument, events) {
            let sum = self.sums.entry(key).or_default();
            *sum = sum.plus(change);
        }
        self.next = self.next.next();
        if self.wants().is_none() {
            for (key, sum) in std::mem::take(&mut self.sums) {
                self.levels.apply(key.side, key.price, sum.reversed());
            }
        }
    }

    /// Walks forward over a command and tells the levels that it changed.
    pub fn advance(&mut self, events: &[Event]) -> Vec<LevelNow> {
        let changes = changes_of(&mut self.changes, self.instrument, events);
        apply_changes(&mut self.levels, &changes)
    }
}

/// True if a command changed the levels of an instrument.
pub(super) fn changes_book(instrument: InstrumentId, events: &[Event]) -> bool {
    !changes_of(&mut LevelChanges::default(), instrument, events).is_empty()
}

fn changes_of(changes: &mut LevelChanges, instrument: InstrumentId, events: &[Event]) -> Vec<(LevelKey, LevelChange)> {
    changes.clear();
    for event in events {
        changes.add(event);
    }
    let own = changes.sums().iter().filter(|(key, _)| key.instrument == instrument);
    own.copied().collect()
}
