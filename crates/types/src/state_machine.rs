//! What `replica` replicates: the exchange here, the region lease later.

use serde::{Serialize, de::DeserializeOwned};

use crate::ids::Position;
use crate::time::Timestamp;

/// A deterministic state machine: the same commands at the same positions and stamps give the same state everywhere.
pub trait StateMachine {
    /// What it is asked.
    type Command: Clone + Serialize + DeserializeOwned;
    /// What came of it.
    type Event;
    /// Its whole state as plain data, for snapshots.
    type Snapshot: Serialize + DeserializeOwned;

    /// Executes one command and appends at least one event. Must not panic, whatever the command says.
    fn apply(
        &mut self,
        position: Position,
        sequenced_at: Timestamp,
        command: &Self::Command,
        events: &mut Vec<Self::Event>,
    );

    /// Tells of a command that will be applied soon, after those that were told of before: time to fetch memory. A hint
    /// without effect on the state; to be given about [`Self::PREPARED_COMMANDS`] commands ahead.
    fn prepare(&mut self, command: &Self::Command) {
        let _ = command;
    }

    /// How many commands ahead of `apply` a `prepare` is of most use.
    const PREPARED_COMMANDS: usize = 24;

    /// Takes the place of `apply` for a command that the operator quarantined: a reject, with the same effect on the
    /// memory of requests as any other.
    fn apply_quarantined(
        &mut self,
        position: Position,
        sequenced_at: Timestamp,
        command: &Self::Command,
        events: &mut Vec<Self::Event>,
    );

    /// The hash of the state, kept up to date by each change: O(1).
    fn state_hash(&self) -> u64;

    /// The same hash computed from the whole state: what `state_hash` must equal.
    fn recompute_state_hash(&self) -> u64;

    /// When the next deadline is due, if there is one: by then a clock command must have been sequenced.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// When the gateway read the command's first byte.
    fn received_at(command: &Self::Command) -> Timestamp;

    /// The command that lets time pass.
    fn clock_command(now: Timestamp) -> Self::Command;

    /// The whole state as plain data.
    fn snapshot(&self) -> Self::Snapshot;

    /// The state machine of a snapshot, or what is wrong with it.
    fn restore(snapshot: Self::Snapshot) -> Result<Self, String>
    where
        Self: Sized;
}
