//! What a seed decides: how the regions are set up, how clocks run, and what goes wrong when.

use std::fmt;

use replica::region::OnStandbyLoss;

use super::coverage::Point;
use crate::events::{MILLISECOND, SECOND, Time};
use crate::random::Dice;

/// How far the clocks that count elapsed time are from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drift {
    /// Each is at one end of what is allowed or at the other.
    AtTheBound,
    /// Somewhere between.
    Within,
    /// Further apart than is allowed: what rests on clocks does not hold, and everything else must.
    Beyond,
}

/// How the regions are set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Nodes of the first region and of the second.
    pub(super) nodes: [u64; 2],
    pub(super) sync: bool,
    pub(super) on_standby_loss: OnStandbyLoss,
    pub(super) automatic: bool,
    pub(super) lag_max: Option<u64>,
    pub(super) lease_ns: u64,
    pub(super) drift_ppm: u32,
    pub(super) degrade_after_ns: u64,
    pub(super) drift: Drift,
    /// One way between two sites, in virtual nanoseconds: the regions, the first and the witness, the second and it.
    pub(super) ways: [Time; 3],
    /// Applied entries between two snapshots.
    pub(super) snapshot_every: u64,
    /// Bytes of batches that are under way to the standby at most.
    pub(super) window_bytes: usize,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// All nodes of the active region are gone at once, what they had not synced too.
    ActiveRegionLost,
    /// The same of the standby.
    StandbyRegionLost,
    /// The same of either, and soon after its end of the other.
    OneRegionAfterTheOther,
    /// No node of one region reaches one of the other.
    RegionsApart,
    /// A region reaches nobody.
    RegionCutOff,
    /// A region does not reach the witness.
    RegionFromWitness,
    /// In one direction nothing gets from one site to another, or to any.
    OneWay,
    /// The witness is gone.
    WitnessLost,
    Drop,
    Duplicate,
    Reorder,
    /// One direction between two sites takes much longer.
    Slow,
    /// A node reaches nobody in its region, or nobody at all.
    NodeCutOff,
    PowerLoss,
    Kill,
    /// A process stands still and goes on, past its lease.
    Pause,
    /// The same, between the look at the lease and the answers.
    PauseInTheCheck,
    /// A leader of the standby stands still while the active region is lost.
    StandbyLeaderPaused,
    SlowDisk,
    ClockStep,
    /// The voters of the lease group start again, one or all.
    VotersRestart,
    SwitchOver,
    /// The active region is lost in the middle of it.
    SwitchOverThenLoss,
    /// An operator promotes the other region.
    Promote,
    /// The active region lets its lease lapse for a while.
    Demote,
    /// A node of the active region is away while that region is lost and returns; it comes late, in its old life.
    LateNode,
    /// The standby is away until answers don't wait for it, and returns shortly before the active region is lost.
    DegradedThenLost,
    /// The disks of the active region are slow and it reaches nobody: what it sequenced last is committed once it learns
    /// that another region is active.
    SlowAndCutOff,
    /// The journal of the active region's leader no longer has its beginning.
    JournalRetired,
}

impl FaultKind {
    /// With how often each is drawn.
    const ALL: &'static [(Self, u64)] = &[
        (Self::ActiveRegionLost, 10),
        (Self::StandbyRegionLost, 5),
        (Self::OneRegionAfterTheOther, 5),
        (Self::RegionsApart, 6),
        (Self::RegionCutOff, 8),
        (Self::RegionFromWitness, 4),
        (Self::OneWay, 6),
        (Self::WitnessLost, 5),
        (Self::Drop, 3),
        (Self::Duplicate, 3),
        (Self::Reorder, 4),
        (Self::Slow, 6),
        (Self::NodeCutOff, 5),
        (Self::PowerLoss, 8),
        (Self::Kill, 6),
        (Self::Pause, 6),
        (Self::PauseInTheCheck, 4),
        (Self::StandbyLeaderPaused, 3),
        (Self::SlowDisk, 2),
        (Self::ClockStep, 3),
        (Self::VotersRestart, 6),
        (Self::SwitchOver, 8),
        (Self::SwitchOverThenLoss, 5),
        (Self::Promote, 5),
        (Self::Demote, 4),
        (Self::LateNode, 4),
        (Self::DegradedThenLost, 5),
        (Self::SlowAndCutOff, 6),
        (Self::JournalRetired, 2),
    ];

    /// What it counts as, once it has come about.
    pub(super) fn point(self) -> Point {
        match self {
            Self::ActiveRegionLost => Point::ActiveRegionLost,
            Self::StandbyRegionLost => Point::StandbyRegionLost,
            Self::OneRegionAfterTheOther => Point::OneRegionAfterTheOther,
            Self::RegionsApart => Point::RegionsApart,
            Self::RegionCutOff => Point::RegionCutOff,
            Self::RegionFromWitness => Point::RegionFromWitness,
            Self::OneWay => Point::OneWay,
            Self::WitnessLost => Point::WitnessLost,
            Self::Drop => Point::Drop,
            Self::Duplicate => Point::Duplicate,
            Self::Reorder => Point::Reorder,
            Self::Slow => Point::Slow,
            Self::NodeCutOff => Point::NodeCutOff,
            Self::PowerLoss => Point::PowerLoss,
            Self::Kill => Point::Kill,
            Self::Pause => Point::Pause,
            Self::PauseInTheCheck => Point::PauseInTheCheck,
            Self::StandbyLeaderPaused => Point::StandbyLeaderPaused,
            Self::SlowDisk => Point::SlowDisk,
            Self::ClockStep => Point::ClockStep,
            Self::VotersRestart => Point::VotersRestart,
            Self::SwitchOver => Point::SwitchOver,
            Self::SwitchOverThenLoss => Point::SwitchOverThenLoss,
            Self::Promote => Point::Promote,
            Self::Demote => Point::Demote,
            Self::LateNode => Point::LateNode,
            Self::DegradedThenLost => Point::DegradedThenLost,
            Self::SlowAndCutOff => Point::SlowAndCutOff,
            Self::JournalRetired => Point::JournalRetired,
        }
    }
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) at: Time,
    pub(super) lasts: Time,
    /// Whom it hits: a random number.
    pub(super) whom: u64,
    /// How it does: a random number.
    pub(super) how: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at / MILLISECOND, self.lasts / MILLISECOND);
        write!(f, "{at:>6} ms  {:?}, for {lasts} ms", self.kind)
    }
}

/// What a seed has happen.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) setup: Setup,
    pub(super) faults: Vec<Fault>,
    /// When the faults are over at the latest.
    pub(super) ends: Time,
}

/// No fault comes later than this.
const FAULTS_END: Time = 13 * SECOND;

impl Plan {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed, 13);
        let setup = setup(&mut dice);
        let mut faults = Vec::new();
        for _ in 0..dice.between(8, 13) {
            faults.push(Fault {
                kind: draw(&mut dice),
                at: dice.between(1_200, FAULTS_END / MILLISECOND) * MILLISECOND,
                lasts: dice.between(100, 3_500) * MILLISECOND,
                whom: dice.next(),
                how: dice.next(),
            });
        }
        faults.sort_by_key(|fault| fault.at);
        Self {
            setup,
            faults,
            ends: FAULTS_END + 2 * SECOND,
        }
    }
}

fn setup(dice: &mut Dice) -> Setup {
    Setup {
        nodes: dice.pick(&[[3, 3], [3, 3], [3, 3], [3, 1], [1, 3], [1, 1]]),
        sync: !dice.one_in(3),
        on_standby_loss: dice.pick(&[OnStandbyLoss::Degrade, OnStandbyLoss::Degrade, OnStandbyLoss::Stop]),
        automatic: !dice.one_in(4),
        lag_max: dice.pick(&[None, Some(10_000), Some(10_000), Some(20), Some(2)]),
        lease_ns: dice.pick(&[500, 700, 1_000, 1_500]) * MILLISECOND,
        drift_ppm: dice.pick(&[1_000, 20_000, 100_000]),
        degrade_after_ns: dice.between(250, 900) * MILLISECOND,
        drift: dice.pick(&[
            Drift::AtTheBound,
            Drift::AtTheBound,
            Drift::AtTheBound,
            Drift::Within,
            Drift::Beyond,
        ]),
        ways: [0; 3].map(|_| dice.between(15_000, 60_000) * 1_000),
        snapshot_every: dice.between(20, 120),
        window_bytes: dice.pick(&[2 << 10, 16 << 10, 8 << 20]),
    }
}

fn draw(dice: &mut Dice) -> FaultKind {
    let all: u64 = FaultKind::ALL.iter().map(|(_, weight)| weight).sum();
    let mut at = dice.below(all);
    for (kind, weight) in FaultKind::ALL {
        if at < *weight {
            return *kind;
        }
        at -= weight;
    }
    unreachable!("the weights add up")
}
