//! A state machine small enough to be right by looking at it, for tests of what goes around one.

use types::{AccountId, Command, Event, Position, RequestId, StateMachine, Timestamp};

/// Remembers how many commands came and what their request ids and stamps add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub count: u64,
    pub sum: u64,
}

impl Tally {
    fn take(&mut self, sequenced_at: Timestamp, request_id: &RequestId) {
        self.count += 1;
        for byte in request_id.as_bytes() {
            self.sum = self.sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
        self.sum = self.sum.wrapping_mul(31).wrapping_add(sequenced_at.0);
    }
}

impl StateMachine for Tally {
    type Command = Command;
    type Event = Event;
    type Snapshot = (u64, u64, String);

    fn apply(&mut self, _: Position, sequenced_at: Timestamp, command: &Command, events: &mut Vec<Event>) {
        self.take(sequenced_at, &command.request_id);
        events.push(Event::ClientOrderIdBurnt {
            account: AccountId(2),
            client_order_id: command.request_id,
        });
    }

    fn apply_quarantined(&mut self, _: Position, _: Timestamp, _: &Command, events: &mut Vec<Event>) {
        events.push(Event::ClockAdvanced);
    }

    fn state_hash(&self) -> u64 {
        self.recompute_state_hash()
    }

    fn recompute_state_hash(&self) -> u64 {
        self.sum.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.count)
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    fn received_at(command: &Command) -> Timestamp {
        command.received_at
    }

    fn clock_command(now: Timestamp) -> Command {
        Command::clock(now)
    }

    fn snapshot(&self) -> Self::Snapshot {
        (self.count, self.sum, "x".repeat(1_000))
    }

    fn restore((count, sum, _): Self::Snapshot) -> Result<Self, String> {
        Ok(Self { count, sum })
    }
}
