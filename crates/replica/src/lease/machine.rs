//! The lease's state machine.

use types::{EngineVersion, Epoch, Incarnation, Position, RegionId, Sequence, StateMachine, Timestamp};
use wire::journal::crc32c;
use wire::site::{
    Durability, EPOCHS_MAX, EpochStart, LEASE_NS_MAX, LEASE_NS_MIN, LeaseCommand, LeaseRefusal, LeaseState, PromotedBy,
    RegionLife, Renewal,
};

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseEvent {
    /// Whether it was done.
    pub done: Result<(), LeaseRefusal>,
    /// True if it renewed the lease, or gave it to another.
    pub renews: bool,
}

/// Who is active, as a state machine of the lease group.
#[derive(Clone, Debug, Default)]
pub struct LeaseMachine {
    state: LeaseState,
}

impl LeaseMachine {
    /// Who is active.
    pub fn state(&self) -> &LeaseState {
        &self.state
    }
}

/// Whether a command would be done in this state.
pub fn check(state: &LeaseState, command: &LeaseCommand) -> Result<(), LeaseRefusal> {
    match *command {
        LeaseCommand::Clock => Ok(()),
        LeaseCommand::Found { lease_ns, .. } if state.active.is_none() => length(lease_ns),
        LeaseCommand::Found { .. } => Err(LeaseRefusal::Founded),
        LeaseCommand::Renew(ref renewal) => check_renewal(state, renewal),
        LeaseCommand::Promote {
            region,
            epoch,
            renewals,
            epoch_at,
            at,
            lag_max,
            by_operator,
        } => {
            if state.active == Some(region) {
                return Err(LeaseRefusal::IsActive);
            }
            if state.active.is_none() || state.epoch != epoch {
                return Err(LeaseRefusal::NotActive);
            }
            not_renewed(state, renewals)?;
            has_nothing_void(state, epoch_at, at)?;
            if by_operator {
                return Ok(());
            }
            if state.durability == Durability::Degraded {
                return Err(LeaseRefusal::Degraded);
            }
            let lag = state.committed.0.saturating_sub(at.0);
            match lag_max {
                Some(most) if lag > most => Err(LeaseRefusal::Lags { lag }),
                _ => Ok(()),
            }
        }
        LeaseCommand::HandOver {
            region,
            epoch,
            renewals,
            to,
            at,
        } => {
            holds(state, region, epoch)?;
            not_renewed(state, renewals)?;
            if to == region {
                return Err(LeaseRefusal::IsActive);
            }
            has_nothing_void(state, epoch, at)
        }
        LeaseCommand::BeginLife {
            region, incarnation, ..
        } => {
            if state.active == Some(region) {
                return Err(LeaseRefusal::IsActive);
            }
            if life(state, region) == incarnation {
                Ok(())
            } else {
                Err(LeaseRefusal::OtherLife)
            }
        }
    }
}

fn check_renewal(state: &LeaseState, renewal: &Renewal) -> Result<(), LeaseRefusal> {
    holds(state, renewal.region, renewal.epoch)?;
    if let Some(change) = renewal.change {
        not_renewed(state, change.renewals)?;
    }
    length(renewal.lease_ns)?;
    match (state.began_after(), renewal.after) {
        (Some(known), Some(said)) if known != said => Err(LeaseRefusal::Began),
        _ => Ok(()),
    }
}

fn holds(state: &LeaseState, region: RegionId, epoch: Epoch) -> Result<(), LeaseRefusal> {
    if state.active == Some(region) && state.epoch == epoch {
        Ok(())
    } else {
        Err(LeaseRefusal::NotActive)
    }
}

fn not_renewed(state: &LeaseState, renewals: u64) -> Result<(), LeaseRefusal> {
    if state.renewals == renewals {
        Ok(())
    } else {
        Err(LeaseRefusal::Renewed)
    }
}

fn length(lease_ns: u64) -> Result<(), LeaseRefusal> {
    if (LEASE_NS_MIN..=LEASE_NS_MAX).contains(&lease_ns) {
        Ok(())
    } else {
        Err(LeaseRefusal::LeaseLength)
    }
}

fn has_nothing_void(state: &LeaseState, epoch: Epoch, sequence: Sequence) -> Result<(), LeaseRefusal> {
    let kept = state.kept(epoch, sequence);
    if kept < sequence {
        return Err(LeaseRefusal::Forked { kept });
    }
    Ok(())
}

fn life(state: &LeaseState, region: RegionId) -> Incarnation {
    let known = state.lives.get(&region);
    known.map_or(Incarnation(1), |life| life.incarnation)
}

impl LeaseMachine {
    fn begin_epoch(&mut self, region: RegionId, after: Option<Sequence>, by: PromotedBy) {
        let state = &mut self.state;
        state.active = Some(region);
        state.epoch = Epoch(state.epoch.0 + 1);
        state.renewals = 0;
        if state.epochs.len() == EPOCHS_MAX {
            state.epochs.remove(0);
        }
        state.epochs.push(EpochStart {
            epoch: state.epoch,
            region,
            after,
            by,
        });
    }

    fn execute(&mut self, command: &LeaseCommand) {
        match *command {
            LeaseCommand::Clock => {}
            LeaseCommand::Found { region, lease_ns } => {
                self.state.lease_ns = lease_ns;
                self.begin_epoch(region, Some(Sequence(0)), PromotedBy::Founding);
            }
            LeaseCommand::Renew(renewal) => {
                let state = &mut self.state;
                state.lease_ns = renewal.lease_ns;
                state.renewals += 1;
                state.committed = renewal.committed;
                state.committed_at = renewal.committed_at;
                if let Some(change) = renewal.change {
                    state.durability = change.durability;
                }
                let present = state.epochs.last_mut().filter(|start| start.epoch == state.epoch);
                if let Some(start) = present.filter(|start| start.after.is_none()) {
                    start.after = renewal.after;
                }
            }
            LeaseCommand::Promote {
                region, by_operator, ..
            } => {
                let by = if by_operator {
                    PromotedBy::Operator
                } else {
                    PromotedBy::Lapse
                };
                self.begin_epoch(region, None, by);
                // Its new standby has nothing of it yet.
                self.state.durability = self.state.durability.unsure();
            }
            LeaseCommand::HandOver { to, .. } => {
                self.begin_epoch(to, None, PromotedBy::SwitchOver);
                self.state.durability = self.state.durability.unsure();
            }
            LeaseCommand::BeginLife { region, founder, .. } => {
                let incarnation = Incarnation(life(&self.state, region).0 + 1);
                self.state.lives.insert(region, RegionLife { incarnation, founder });
            }
        }
    }
}

/// What holds of a standby whose region was active a moment ago.
trait Unsure {
    fn unsure(self) -> Self;
}

impl Unsure for Durability {
    fn unsure(self) -> Self {
        match self {
            Self::Region => Self::Region,
            Self::Both | Self::Degraded => Self::Degraded,
        }
    }
}

impl StateMachine for LeaseMachine {
    type Command = LeaseCommand;
    type Event = LeaseEvent;
    type Snapshot = LeaseState;

    fn apply(&mut self, _: Position, _: Timestamp, command: &LeaseCommand, events: &mut Vec<LeaseEvent>) {
        let done = check(&self.state, command);
        if done.is_ok() {
            self.execute(command);
        }
        let renews = matches!(
            command,
            LeaseCommand::Found { .. }
                | LeaseCommand::Renew(_)
                | LeaseCommand::Promote { .. }
                | LeaseCommand::HandOver { .. }
        );
        events.push(LeaseEvent {
            done,
            renews: renews && done.is_ok(),
        });
    }

    fn apply_quarantined(&mut self, _: Position, _: Timestamp, _: &LeaseCommand, events: &mut Vec<LeaseEvent>) {
        events.push(LeaseEvent {
            done: Err(LeaseRefusal::Busy),
            renews: false,
        });
    }

    /// The state is small: its checksum is as good as a hash that each change keeps up to date.
    fn state_hash(&self) -> u64 {
        self.recompute_state_hash()
    }

    fn recompute_state_hash(&self) -> u64 {
        let bytes = postcard::to_allocvec(&self.state).expect("plain data can always be written");
        let (front, back) = bytes.split_at(bytes.len() / 2);
        (u64::from(crc32c(front)) << 32) | u64::from(crc32c(back))
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    fn received_at(_: &LeaseCommand) -> Timestamp {
        Timestamp(0)
    }

    fn clock_command(_: Timestamp) -> LeaseCommand {
        LeaseCommand::Clock
    }

    fn snapshot(&self) -> LeaseState {
        self.state.clone()
    }

    fn restore(state: LeaseState, _: EngineVersion) -> Result<Self, String> {
        if state.epochs.len() > EPOCHS_MAX {
            return Err(format!("it has {} epochs", state.epochs.len()));
        }
        Ok(Self { state })
    }
}
