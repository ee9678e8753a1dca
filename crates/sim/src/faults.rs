//! Faults: which there are, and when a seed has them happen.

use crate::coverage::Point;
use crate::events::{MILLISECOND, SECOND, Time};
use crate::random::Dice;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    PowerLoss,
    PowerLossOfAll,
    PowerLossAtWrite,
    Kill,
    RollingRestart,
    Partition,
    OneWay,
    Isolated,
    Drop,
    Delay,
    Duplicate,
    Reorder,
    SlowDisk,
    Pause,
    ClockStep,
    ClockDrift,
    ClockUnsure,
    BitRot,
    MemberAdded,
    GatewayAdded,
    MemberRemoved,
    HandOver,
    SnapshotAndTrim,
}

impl FaultKind {
    /// With how often each is drawn.
    const ALL: &'static [(Self, u64)] = &[
        (Self::PowerLoss, 10),
        (Self::PowerLossOfAll, 4),
        (Self::PowerLossAtWrite, 10),
        (Self::Kill, 6),
        (Self::RollingRestart, 3),
        (Self::Partition, 6),
        (Self::OneWay, 6),
        (Self::Isolated, 8),
        (Self::Drop, 4),
        (Self::Delay, 4),
        (Self::Duplicate, 4),
        (Self::Reorder, 4),
        (Self::SlowDisk, 6),
        (Self::Pause, 6),
        (Self::ClockStep, 4),
        (Self::ClockDrift, 3),
        (Self::ClockUnsure, 3),
        (Self::BitRot, 6),
        (Self::MemberAdded, 5),
        (Self::GatewayAdded, 2),
        (Self::MemberRemoved, 4),
        (Self::HandOver, 5),
        (Self::SnapshotAndTrim, 6),
    ];

    pub(crate) fn point(self) -> Option<Point> {
        Some(match self {
            Self::PowerLoss => Point::PowerLoss,
            Self::PowerLossOfAll => Point::PowerLossOfAll,
            // Told when the write comes.
            Self::PowerLossAtWrite => return None,
            Self::Kill => Point::Kill,
            Self::RollingRestart => Point::RollingRestart,
            Self::Partition => Point::Partition,
            Self::OneWay => Point::OneWay,
            Self::Isolated => Point::Isolated,
            Self::Drop => Point::Drop,
            Self::Delay => Point::Delay,
            Self::Duplicate => Point::Duplicate,
            Self::Reorder => Point::Reorder,
            Self::SlowDisk => Point::SlowDisk,
            Self::Pause => Point::Pause,
            Self::ClockStep => Point::ClockStep,
            Self::ClockDrift => Point::ClockDrift,
            Self::ClockUnsure => Point::ClockUnsureFault,
            // These are told when they come about.
            Self::BitRot | Self::MemberAdded | Self::GatewayAdded | Self::MemberRemoved => return None,
            Self::HandOver => Point::HandOver,
            Self::SnapshotAndTrim => Point::SnapshotAndTrim,
        })
    }
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) at: Time,
    pub(crate) lasts: Time,
    /// Whom it hits: a random number. One of three hits whoever leads then.
    pub(crate) whom: u64,
    /// How it does: a random number.
    pub(crate) how: u64,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (at, lasts) = (self.at / MILLISECOND, self.lasts / MILLISECOND);
        write!(f, "{at:>6} ms  {:?}, for {lasts} ms", self.kind)
    }
}

/// What a seed has go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) voters: u64,
    pub(crate) segment_bytes: usize,
    pub(crate) faults: Vec<Fault>,
    /// When the faults are over at the latest.
    pub(crate) ends: Time,
}

impl Schedule {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed, 3);
        let voters = dice.pick(&[3, 3, 3, 3, 3, 3, 5, 5, 1, 2]);
        let segment_bytes = dice.pick(&[16 << 10, 32 << 10, 64 << 10]);
        let ends = 10 * SECOND;
        let mut faults = Vec::new();
        for _ in 0..dice.between(11, 18) {
            faults.push(Fault {
                kind: draw(&mut dice),
                at: dice.between(200, 9_000) * MILLISECOND,
                lasts: dice.between(30, 1_500) * MILLISECOND,
                whom: dice.next(),
                how: dice.next(),
            });
        }
        faults.sort_by_key(|fault| fault.at);
        Self {
            voters,
            segment_bytes,
            faults,
            ends,
        }
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
