//! What `replica` replicates: the exchange here, the region lease later.

use serde::{Serialize, de::DeserializeOwned};

use crate::engine_version::EngineVersion;
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

    /// The version of its behaviour that is in force: state, which only a command raises.
    fn engine_version(&self) -> EngineVersion {
        EngineVersion::FIRST
    }

    /// The newest version that this program knows.
    const ENGINE_VERSION: EngineVersion = EngineVersion::FIRST;

    /// The newest version that it takes part in: [`Self::ENGINE_VERSION`], unless a test says otherwise. No state.
    fn engine_version_max(&self) -> EngineVersion {
        Self::ENGINE_VERSION
    }

    /// The version that the command puts into force, if it is such a command. Whoever applies the log does not go past one
    /// that this program doesn't know.
    fn sets_engine_version(command: &Self::Command) -> Option<EngineVersion> {
        let _ = command;
        None
    }

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

    /// The state machine of a snapshot, in which `engine_version` was in force, or what is wrong with it. The version stands
    /// beside the state, so that the state of the first version reads as it always did.
    fn restore(snapshot: Self::Snapshot, engine_version: EngineVersion) -> Result<Self, String>
    where
        Self: Sized;
}
