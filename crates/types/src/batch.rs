//! Batches: the commands that one log entry carries, and what came of them.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::ids::{Epoch, GroupId, Incarnation, Position, Sequence};
use crate::time::Timestamp;

/// What the leader says of a batch when it sequences it. Travels in the journal record in front of the commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchHeader {
    /// The group whose log it is.
    pub group: GroupId,
    /// Which life of the group.
    pub incarnation: Incarnation,
    /// The epoch of the region that sequenced it.
    pub epoch: Epoch,
    /// The sequence of its first command; the others follow without a gap.
    pub first_sequence: Sequence,
    /// How many commands, at least 1.
    pub count: u32,
    /// When it was sequenced: the stamp of all of its commands. Never before that of an earlier batch.
    pub sequenced_at: Timestamp,
    /// By how much the leader's clock may have been off UTC then, in nanoseconds.
    pub clock_error_bound_ns: u64,
    /// Up to which sequence the leader had seen the promised durability when it sequenced this batch (0: none), and
    pub committed_through: Sequence,
    /// when it had seen that.
    pub committed_at: Timestamp,
    /// The last sequence that the leader had applied when it sequenced this batch (0: none), and
    pub hashed_through: Sequence,
    /// the hash of its state then, against which every replay and every replica compares its own.
    pub state_hash: u64,
}

impl BatchHeader {
    /// The position of the batch's command of this index.
    pub fn position(&self, index: u32) -> Position {
        let sequence = Sequence(self.first_sequence.0 + u64::from(index));
        Position {
            group: self.group,
            epoch: self.epoch,
            sequence,
        }
    }

    /// The sequence of its last command.
    pub fn last_sequence(&self) -> Sequence {
        Sequence(self.first_sequence.0 + u64::from(self.count) - 1)
    }
}

/// A committed and applied batch: what answers, streams and the event log are made from. Shared, never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedBatch<E = Event> {
    /// What the leader said of it.
    pub header: BatchHeader,
    /// When this node saw it committed; none for a batch that was replayed.
    pub committed_at: Option<Timestamp>,
    /// One entry a command, in sequence.
    pub commands: Vec<AppliedCommand>,
    /// The events of all its commands, in sequence.
    pub events: Vec<E>,
}

/// One command of an applied batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedCommand {
    /// When the gateway read its first byte.
    pub received_at: Timestamp,
    /// Index in the batch's `events` just behind its last one; its first one follows the previous command's last.
    pub events_end: u32,
}

impl<E> AppliedBatch<E> {
    /// The events of the batch's command of this index.
    pub fn events_of(&self, index: usize) -> &[E] {
        let start = if index == 0 {
            0
        } else {
            self.commands[index - 1].events_end as usize
        };
        &self.events[start..self.commands[index].events_end as usize]
    }
}
