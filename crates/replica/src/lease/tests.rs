//! The lease's state machine as a table of commands, and the clocks on both ends.

use types::{EngineVersion, Epoch, Incarnation, Position, RegionId, Sequence, StateMachine as _, Timestamp};
use wire::journal::NodeId;
use wire::site::{
    Durability, DurabilityChange, EPOCHS_MAX, LEASE_NS_MAX, LEASE_NS_MIN, LeaseCommand, LeaseRefusal, LeaseState,
    PromotedBy, RegionLife, Renewal,
};

use super::*;

const A: RegionId = RegionId(1);
const B: RegionId = RegionId(2);
const LEASE_NS: u64 = 4_000_000_000;

fn found(region: RegionId) -> LeaseCommand {
    let lease_ns = LEASE_NS;
    LeaseCommand::Found { region, lease_ns }
}

fn renewal(region: RegionId, epoch: u32, committed: u64) -> Renewal {
    Renewal {
        region,
        epoch: Epoch(epoch),
        lease_ns: LEASE_NS,
        committed: Sequence(committed),
        committed_at: Timestamp(committed),
        change: None,
        after: None,
    }
}

fn renew(region: RegionId, epoch: u32, committed: u64) -> LeaseCommand {
    LeaseCommand::Renew(renewal(region, epoch, committed))
}

fn begun(region: RegionId, epoch: u32, after: u64) -> LeaseCommand {
    LeaseCommand::Renew(Renewal {
        after: Some(Sequence(after)),
        ..renewal(region, epoch, after)
    })
}

fn change(region: RegionId, epoch: u32, renewals: u64, durability: Durability) -> LeaseCommand {
    LeaseCommand::Renew(Renewal {
        change: Some(DurabilityChange { renewals, durability }),
        ..renewal(region, epoch, 100)
    })
}

fn long(lease_ns: u64) -> LeaseCommand {
    LeaseCommand::Renew(Renewal {
        lease_ns,
        ..renewal(A, 1, 100)
    })
}

/// Of a region whose log ends at `at` of epoch `epoch_at`, in place of the holder of `epoch`.
fn promote(region: RegionId, epoch: u32, renewals: u64, epoch_at: u32, at: u64) -> LeaseCommand {
    LeaseCommand::Promote {
        region,
        epoch: Epoch(epoch),
        renewals,
        epoch_at: Epoch(epoch_at),
        at: Sequence(at),
        lag_max: Some(10),
        by_operator: false,
    }
}

fn by_operator(mut command: LeaseCommand) -> LeaseCommand {
    if let LeaseCommand::Promote { by_operator, .. } = &mut command {
        *by_operator = true;
    }
    command
}

fn hand_over(region: RegionId, epoch: u32, renewals: u64, to: RegionId, at: u64) -> LeaseCommand {
    LeaseCommand::HandOver {
        region,
        epoch: Epoch(epoch),
        renewals,
        to,
        at: Sequence(at),
    }
}

fn begin_life(region: RegionId, incarnation: u32) -> LeaseCommand {
    LeaseCommand::BeginLife {
        region,
        incarnation: Incarnation(incarnation),
        founder: NodeId(7),
    }
}

/// Applies rows of commands with what is to come of each, and answers with the state behind them. What is refused changes
/// nothing, and `check` foretells it.
#[track_caller]
fn run(rows: &[(LeaseCommand, Result<(), LeaseRefusal>)]) -> LeaseState {
    let mut machine = LeaseMachine::default();
    for (row, (command, expected)) in rows.iter().enumerate() {
        let before = machine.state().clone();
        let foretold = check(&before, command);
        let position = Position {
            group: wire::site::LEASE_GROUP,
            epoch: Epoch(1),
            sequence: Sequence(row as u64 + 1),
        };
        let mut events = Vec::new();
        machine.apply(position, Timestamp(1), command, &mut events);
        assert_eq!(events.len(), 1, "row {row}");
        assert_eq!(events[0].done, *expected, "row {row}: {command:?}");
        assert_eq!(foretold, *expected, "row {row}: {command:?}, foretold");
        let gives = !matches!(command, LeaseCommand::Clock | LeaseCommand::BeginLife { .. });
        assert_eq!(events[0].renews, gives && expected.is_ok(), "row {row}");
        if expected.is_err() {
            assert_eq!(*machine.state(), before, "row {row}: what is refused changes nothing");
        }
    }
    let state = machine.snapshot();
    let restored = LeaseMachine::restore(state.clone(), EngineVersion::FIRST).unwrap();
    assert_eq!(restored.state_hash(), machine.state_hash());
    state
}

#[test]
fn nobody_is_active_before_one_founds_and_then_only_that_one() {
    let state = run(&[
        (renew(A, 0, 0), Err(LeaseRefusal::NotActive)),
        (promote(B, 0, 0, 0, 0), Err(LeaseRefusal::NotActive)),
        (hand_over(A, 0, 0, B, 0), Err(LeaseRefusal::NotActive)),
        (
            LeaseCommand::Found {
                region: A,
                lease_ns: LEASE_NS_MIN - 1,
            },
            Err(LeaseRefusal::LeaseLength),
        ),
        (LeaseCommand::Clock, Ok(())),
        (found(A), Ok(())),
        (found(A), Err(LeaseRefusal::Founded)),
        (found(B), Err(LeaseRefusal::Founded)),
        (promote(A, 1, 0, 1, 0), Err(LeaseRefusal::IsActive)),
    ]);
    assert_eq!(
        (state.active, state.epoch, state.lease_ns),
        (Some(A), Epoch(1), LEASE_NS)
    );
    assert_eq!(
        (state.began_after(), state.epochs[0].by),
        (Some(Sequence(0)), PromotedBy::Founding)
    );
}

#[test]
fn the_holder_renews_and_nobody_else() {
    let state = run(&[
        (found(A), Ok(())),
        (renew(B, 1, 5), Err(LeaseRefusal::NotActive)),
        (renew(A, 2, 5), Err(LeaseRefusal::NotActive)),
        (renew(A, 0, 5), Err(LeaseRefusal::NotActive)),
        (long(LEASE_NS_MIN - 1), Err(LeaseRefusal::LeaseLength)),
        (long(LEASE_NS_MAX + 1), Err(LeaseRefusal::LeaseLength)),
        (long(LEASE_NS_MAX), Ok(())),
        (begun(A, 1, 1), Err(LeaseRefusal::Began)),
        (begun(A, 1, 0), Ok(())),
        (change(A, 1, 1, Durability::Both), Err(LeaseRefusal::Renewed)),
        (change(A, 1, 3, Durability::Both), Err(LeaseRefusal::Renewed)),
        (change(A, 1, 2, Durability::Both), Ok(())),
        (change(A, 1, 2, Durability::Degraded), Err(LeaseRefusal::Renewed)),
        (renew(A, 1, 105), Ok(())),
    ]);
    assert_eq!(
        (state.renewals, state.committed, state.committed_at),
        (4, Sequence(105), Timestamp(105))
    );
    assert_eq!((state.durability, state.lease_ns), (Durability::Both, LEASE_NS));
}

#[test]
fn a_standby_is_promoted_if_it_lacks_little_and_has_nothing_void() {
    let state = run(&[
        (found(A), Ok(())),
        (renew(A, 1, 100), Ok(())),
        (promote(B, 2, 1, 1, 100), Err(LeaseRefusal::NotActive)),
        (promote(B, 1, 0, 1, 100), Err(LeaseRefusal::Renewed)),
        (promote(B, 1, 1, 1, 89), Err(LeaseRefusal::Lags { lag: 11 })),
        (promote(B, 1, 1, 1, 90), Ok(())),
        // Its beginning is not known, so nothing of it is, and the first may come back as it was.
        (promote(A, 2, 0, 1, 104), Ok(())),
    ]);
    assert_eq!((state.active, state.epoch), (Some(A), Epoch(3)));
    let state = run(&[
        (found(A), Ok(())),
        (renew(A, 1, 100), Ok(())),
        (promote(B, 1, 1, 1, 90), Ok(())),
        (renew(A, 1, 101), Err(LeaseRefusal::NotActive)),
        (begun(B, 2, 90), Ok(())),
        // Those that were active before went on to 104, of which all behind 90 is void.
        (
            promote(A, 2, 1, 1, 104),
            Err(LeaseRefusal::Forked { kept: Sequence(90) }),
        ),
        (
            by_operator(promote(A, 2, 1, 1, 104)),
            Err(LeaseRefusal::Forked { kept: Sequence(90) }),
        ),
        (promote(A, 2, 1, 1, 90), Ok(())),
    ]);
    assert_eq!((state.active, state.epoch, state.renewals), (Some(A), Epoch(3), 0));
    let by: Vec<_> = state
        .epochs
        .iter()
        .map(|start| (start.epoch.0, start.after, start.by))
        .collect();
    assert_eq!(
        by,
        [
            (1, Some(Sequence(0)), PromotedBy::Founding),
            (2, Some(Sequence(90)), PromotedBy::Lapse),
            (3, None, PromotedBy::Lapse),
        ]
    );
}

#[test]
fn an_operator_may_promote_what_lacks_much() {
    let state = run(&[
        (found(A), Ok(())),
        (change(A, 1, 0, Durability::Degraded), Ok(())),
        (promote(B, 1, 1, 1, 100), Err(LeaseRefusal::Degraded)),
        (by_operator(promote(B, 1, 0, 1, 1)), Err(LeaseRefusal::Renewed)),
        (by_operator(promote(B, 1, 1, 1, 1)), Ok(())),
    ]);
    assert_eq!(state.epochs[1].by, PromotedBy::Operator);
    assert_eq!(state.durability, Durability::Degraded);
}

#[test]
fn the_lease_is_handed_over_and_the_new_standby_is_not_waited_for_yet() {
    let state = run(&[
        (found(A), Ok(())),
        (change(A, 1, 0, Durability::Both), Ok(())),
        (hand_over(B, 1, 1, A, 100), Err(LeaseRefusal::NotActive)),
        (hand_over(A, 1, 0, B, 100), Err(LeaseRefusal::Renewed)),
        (hand_over(A, 1, 1, A, 100), Err(LeaseRefusal::IsActive)),
        (hand_over(A, 1, 1, B, 100), Ok(())),
        (hand_over(A, 1, 1, B, 100), Err(LeaseRefusal::NotActive)),
        (renew(A, 1, 100), Err(LeaseRefusal::NotActive)),
        (begun(B, 2, 100), Ok(())),
    ]);
    assert_eq!((state.active, state.durability), (Some(B), Durability::Degraded));
    assert_eq!(
        (state.epochs[1].by, state.began_after()),
        (PromotedBy::SwitchOver, Some(Sequence(100)))
    );
    // What was not waited for before is not owed.
    let state = run(&[(found(A), Ok(())), (hand_over(A, 1, 0, B, 0), Ok(()))]);
    assert_eq!(state.durability, Durability::Region);
}

#[test]
fn a_region_begins_a_new_life_once_from_each_and_not_while_it_is_active() {
    let state = run(&[
        (found(A), Ok(())),
        (begin_life(A, 1), Err(LeaseRefusal::IsActive)),
        (begin_life(B, 2), Err(LeaseRefusal::OtherLife)),
        (begin_life(B, 1), Ok(())),
        (begin_life(B, 1), Err(LeaseRefusal::OtherLife)),
        (begin_life(B, 2), Ok(())),
    ]);
    let life = RegionLife {
        incarnation: Incarnation(3),
        founder: NodeId(7),
    };
    assert_eq!(state.lives.get(&B), Some(&life));
    assert_eq!(state.lives.get(&A), None);
}

#[test]
fn the_beginnings_that_are_remembered_are_bounded() {
    let mut machine = LeaseMachine::default();
    let mut apply = |command: &LeaseCommand| {
        let position = Position {
            group: wire::site::LEASE_GROUP,
            epoch: Epoch(1),
            sequence: Sequence(1),
        };
        let mut events = Vec::new();
        machine.apply(position, Timestamp(1), command, &mut events);
        assert_eq!(events[0].done, Ok(()), "{command:?}");
        machine.state().clone()
    };
    let mut state = apply(&found(A));
    for turn in 0..EPOCHS_MAX {
        let (from, to) = if turn % 2 == 0 { (A, B) } else { (B, A) };
        state = apply(&hand_over(from, state.epoch.0, 0, to, 0));
    }
    assert_eq!(state.epochs.len(), EPOCHS_MAX);
    assert_eq!(state.epochs[0].epoch, Epoch(2));
    let too_many = LeaseState {
        epochs: [state.epochs.clone(), state.epochs.clone()].concat(),
        ..state
    };
    assert!(LeaseMachine::restore(too_many, EngineVersion::FIRST).is_err());
}

#[test]
fn each_state_has_a_hash_of_its_own() {
    let mut hashes = std::collections::BTreeSet::new();
    let rows = [(found(A), Ok(())), (renew(A, 1, 1), Ok(())), (renew(A, 1, 2), Ok(()))];
    for count in 0..=rows.len() {
        let state = run(&rows[..count]);
        hashes.insert(LeaseMachine::restore(state, EngineVersion::FIRST).unwrap().state_hash());
    }
    assert_eq!(hashes.len(), rows.len() + 1);
}

#[test]
fn the_leader_counts_from_its_election_or_the_last_renewal_and_tells_only_while_it_leads() {
    let mut guard = LeaseGuard::default();
    let at = |ms: u64| Elapsed(ms * 1_000_000);
    let left = |guard: &LeaseGuard, ms| {
        let ns = guard.remaining_ns(at(ms), LEASE_NS, 1_000);
        ns.map(|ns| ns / 1_000_000)
    };
    assert_eq!(left(&guard, 0), None);
    guard.renewed(at(50));
    assert_eq!(left(&guard, 60), None, "a follower");
    guard.leads(at(1_000), true);
    assert_eq!(left(&guard, 1_000), Some(4_004));
    guard.leads(at(2_000), true);
    assert_eq!(left(&guard, 2_000), Some(3_004), "it led already");
    guard.renewed(at(3_000));
    assert_eq!(left(&guard, 7_003), Some(1));
    assert_eq!(left(&guard, 7_004), Some(0));
    assert_eq!(left(&guard, 100_000), Some(0));
    guard.leads(at(100_001), false);
    assert_eq!(left(&guard, 100_001), None);
    guard.leads(at(100_002), true);
    assert_eq!(left(&guard, 100_002), Some(4_004), "elected again");
    assert_eq!(guard.remaining_ns(at(100_002), u64::MAX, 1_000_000), Some(u64::MAX));
}

#[test]
fn the_holder_counts_from_what_it_sent_and_only_of_its_epoch() {
    let mut holder = Holder::default();
    let (one, two) = (Epoch(1), Epoch(2));
    assert!(!holder.holds(one, Elapsed(0)));
    holder.granted(one, Elapsed(100), 50);
    assert!(holder.holds(one, Elapsed(149)) && !holder.holds(one, Elapsed(150)));
    assert!(!holder.holds(two, Elapsed(120)));
    assert_eq!(
        (holder.remaining_ns(Elapsed(120)), holder.remaining_ns(Elapsed(151))),
        (30, 0)
    );
    // An answer that comes late takes nothing back.
    holder.granted(one, Elapsed(90), 50);
    assert!(holder.holds(one, Elapsed(149)));
    holder.granted(two, Elapsed(110), 10);
    assert!(holder.holds(two, Elapsed(119)) && !holder.holds(one, Elapsed(119)));
    holder.granted(one, Elapsed(300), 50);
    assert!(!holder.holds(one, Elapsed(301)), "an earlier epoch is over");
    assert!(holder.holds(two, Elapsed(119)));
    holder.lost();
    assert!(!holder.holds(two, Elapsed(111)));
    assert_eq!(holder.remaining_ns(Elapsed(111)), 0);
}

#[test]
fn a_holder_is_fenced_before_the_leader_of_the_group_promotes() {
    // The holder's clock is slow and the leader's fast, both as much as the bound allows between them.
    let drift_ppm = 1_000;
    for (sent_at, applied_at) in [(0, 0), (0, 110_000_000), (5, 6)] {
        let mut holder = Holder::default();
        holder.granted(Epoch(1), Elapsed(sent_at), LEASE_NS);
        let mut guard = LeaseGuard::default();
        guard.leads(Elapsed(0), true);
        guard.renewed(Elapsed(applied_at));
        // When the leader may promote, the holder has counted less than the leader by the drift, and that is enough.
        let whole = LeaseGuard::whole_ns(LEASE_NS, drift_ppm);
        let promotes_at = Elapsed(applied_at + whole);
        assert_eq!(guard.remaining_ns(promotes_at, LEASE_NS, drift_ppm), Some(0));
        assert_ne!(
            guard.remaining_ns(Elapsed(promotes_at.0 - 1), LEASE_NS, drift_ppm),
            Some(0)
        );
        let holders = Elapsed(applied_at + whole * 1_000_000 / (1_000_000 + u64::from(drift_ppm)));
        assert!(!holder.holds(Epoch(1), holders));
    }
}
