//! What sites say to each other: who is active (the lease), and what the standby follows.
//!
//! The sites of a cluster are its regions and the witness. One small Raft group, with one voter in each of three sites,
//! holds the [`LeaseState`]; its log carries [`LeaseCommand`]s. Messages travel as postcard in a frame of kind `control`.
//! A field is never taken away; a new variant goes behind the others and is sent only to who speaks the version that
//! brought it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use types::{Epoch, GroupId, Incarnation, RegionId, Sequence, Timestamp};

use crate::journal::{Chain, NodeId};

/// The group that holds the lease.
pub const LEASE_GROUP: GroupId = GroupId(u16::MAX);
/// How many beginnings of epochs the lease's state remembers.
pub const EPOCHS_MAX: usize = 1_024;
/// The shortest lease, in nanoseconds.
pub const LEASE_NS_MIN: u64 = 500_000_000;
/// The longest lease, in nanoseconds.
pub const LEASE_NS_MAX: u64 = 120_000_000_000;
/// The most bytes of batches that one message carries before they are compressed, but for one batch that alone is larger.
pub const FOLLOW_BYTES_MAX: usize = 256 << 10;

/// Where a region's log stands, as other regions see it: the same for the same log everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    /// The epoch of the last batch, and
    pub epoch: Epoch,
    /// its last sequence (0: none), and
    pub sequence: Sequence,
    /// the chain behind it.
    pub chain: Chain,
}

/// In how many regions what is answered is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Durability {
    /// Answers wait for the active region alone.
    #[default]
    Region,
    /// Answers wait for the standby too, which therefore has all of them.
    Both,
    /// They are to, and do not at the moment: the standby may lack some.
    Degraded,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Region => "region",
            Self::Both => "both",
            Self::Degraded => "degraded",
        })
    }
}

/// Why a region became active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PromotedBy {
    /// It was the first.
    Founding,
    /// The active region let its lease lapse.
    Lapse,
    /// The same, and an operator asked for it, whatever the standby may lack.
    Operator,
    /// The active region handed over.
    SwitchOver,
}

impl fmt::Display for PromotedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Founding => "founding",
            Self::Lapse => "lapse of the lease",
            Self::Operator => "an operator, after a lapse of the lease",
            Self::SwitchOver => "switch-over",
        })
    }
}

/// An epoch, and where it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochStart {
    /// Which.
    pub epoch: Epoch,
    /// The region that is active in it.
    pub region: RegionId,
    /// The last sequence before it; none as long as nothing may be sequenced in it.
    pub after: Option<Sequence>,
    /// Why it began.
    pub by: PromotedBy,
}

/// A region's present life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionLife {
    /// Which life.
    pub incarnation: Incarnation,
    /// The node that its group began with.
    pub founder: NodeId,
}

/// Who is active: what the lease group agrees on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    /// The active region; none before the first.
    pub active: Option<RegionId>,
    /// The present epoch (0: none yet).
    pub epoch: Epoch,
    /// How long a renewal holds, in nanoseconds, as the holder counts.
    pub lease_ns: u64,
    /// How often the lease was renewed in this epoch.
    pub renewals: u64,
    /// What the active region had committed when it renewed last, and
    pub committed: Sequence,
    /// when that was stamped.
    pub committed_at: Timestamp,
    /// What answers wait for.
    pub durability: Durability,
    /// The beginnings of the last `EPOCHS_MAX` epochs.
    pub epochs: Vec<EpochStart>,
    /// The regions that did not stay in their first life.
    pub lives: BTreeMap<RegionId, RegionLife>,
}

impl LeaseState {
    /// Up to where a log whose last batch is of this epoch and sequence agrees with that of the present epoch.
    pub fn kept(&self, epoch: Epoch, sequence: Sequence) -> Sequence {
        let oldest = self.epochs.first().map(|start| start.epoch).unwrap_or_default();
        if self.epochs.len() == EPOCHS_MAX && epoch.0 + 1 < oldest.0 {
            // Too long ago for it to be known.
            return Sequence(0);
        }
        let later = self.epochs.iter().filter(|start| start.epoch > epoch);
        later
            .filter_map(|start| start.after)
            .fold(sequence, |kept, after| kept.min(after))
    }

    /// Where the present epoch begins, once that is known.
    pub fn began_after(&self) -> Option<Sequence> {
        let present = self.epochs.last().filter(|start| start.epoch == self.epoch);
        present.and_then(|start| start.after)
    }
}

/// What the lease group is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseCommand {
    /// Nothing: a log that is asked to let time pass does so.
    Clock,
    /// Become the first active region.
    Found {
        /// Which.
        region: RegionId,
        /// How long a renewal holds.
        lease_ns: u64,
    },
    /// Stay active.
    Renew(Renewal),
    /// Become active in place of a region whose lease has lapsed. Proposed only by a lease leader that has waited for
    /// that to be certain.
    Promote {
        /// Which.
        region: RegionId,
        /// The epoch to end.
        epoch: Epoch,
        /// How often the lease had been renewed when the wait ended: another renewal since makes it void.
        renewals: u64,
        /// The last batch of its log.
        epoch_at: Epoch,
        /// The last sequence of its log.
        at: Sequence,
        /// How many sequences it may lack of what the active region had committed; none: however many.
        lag_max: Option<u64>,
        /// True if an operator asked for it.
        by_operator: bool,
    },
    /// Give the lease to another region, which has all that this one sequenced.
    HandOver {
        /// Who gives it.
        region: RegionId,
        /// The epoch to end.
        epoch: Epoch,
        /// How often the lease had been renewed: another renewal since makes it void.
        renewals: u64,
        /// Who gets it.
        to: RegionId,
        /// The last sequence of both.
        at: Sequence,
    },
    /// Begin a new life of a region's group, with one node that has nothing that is void.
    BeginLife {
        /// Which region.
        region: RegionId,
        /// The life to end.
        incarnation: Incarnation,
        /// The node to begin with.
        founder: NodeId,
    },
}

impl LeaseCommand {
    /// The region that it speaks for.
    pub fn region(&self) -> Option<RegionId> {
        match self {
            Self::Clock => None,
            Self::Renew(renewal) => Some(renewal.region),
            Self::Found { region, .. }
            | Self::Promote { region, .. }
            | Self::HandOver { region, .. }
            | Self::BeginLife { region, .. } => Some(*region),
        }
    }
}

/// What the active region says when it renews its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewal {
    /// Which region.
    pub region: RegionId,
    /// The epoch in which it is active.
    pub epoch: Epoch,
    /// How long the renewal is to hold, in nanoseconds.
    pub lease_ns: u64,
    /// What it has committed.
    pub committed: Sequence,
    /// When that was stamped.
    pub committed_at: Timestamp,
    /// What its answers wait for from when this is granted; none: the same as before.
    pub change: Option<DurabilityChange>,
    /// The last sequence before its epoch: fixed by the first renewal that says so.
    pub after: Option<Sequence>,
}

/// Answers are to wait for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurabilityChange {
    /// How often the lease had been renewed: another renewal since makes this one void, so that none that comes late
    /// undoes a newer change.
    pub renewals: u64,
    /// What they wait for.
    pub durability: Durability,
}

/// Why the lease group did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseRefusal {
    /// There is an active region already.
    Founded,
    /// The region is not active in this epoch.
    NotActive,
    /// The region is active.
    IsActive,
    /// The lease was renewed meanwhile: what was asked is void, and may be asked again.
    Renewed,
    /// The lease has not lapsed.
    Held {
        /// For how long it certainly holds, in nanoseconds.
        remaining_ns: u64,
    },
    /// The region's log has what the present epoch does not: it must begin a new life first.
    Forked {
        /// The last sequence that is kept.
        kept: Sequence,
    },
    /// The region lacks more than may be lost without an operator's word.
    Lags {
        /// How many sequences.
        lag: u64,
    },
    /// The region may lack what was answered while the standby was not waited for; only an operator may promote it.
    Degraded,
    /// The epoch's beginning was told otherwise before.
    Began,
    /// The region is in another life.
    OtherLife,
    /// The lease is too short or too long.
    LeaseLength,
    /// This voter does not lead the lease group.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// Too much is being asked at the moment.
    Busy,
}

impl fmt::Display for LeaseRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Founded => f.write_str("there is an active region already"),
            Self::NotActive => f.write_str("the region is not active in this epoch"),
            Self::IsActive => f.write_str("the region is active"),
            Self::Renewed => f.write_str("the lease was renewed meanwhile; ask again"),
            Self::Held { remaining_ns } => {
                let ms = remaining_ns / 1_000_000;
                write!(f, "the active region's lease holds for another {ms} ms")
            }
            Self::Forked { kept } => write!(
                f,
                "the region's log has what the present epoch does not, behind sequence {kept}; it must rejoin first"
            ),
            Self::Lags { lag } => write!(
                f,
                "the region lacks {lag} commands that the active region had committed; an operator may promote it"
            ),
            Self::Degraded => f.write_str(
                "the active region answered without waiting for this one; an operator may promote it nevertheless",
            ),
            Self::Began => f.write_str("the epoch's beginning was told otherwise before"),
            Self::OtherLife => f.write_str("the region is in another life"),
            Self::LeaseLength => f.write_str("the lease is too short or too long"),
            Self::NotLeader { .. } => f.write_str("this voter does not lead the lease group"),
            Self::Busy => f.write_str("too much is asked of the lease group"),
        }
    }
}

/// What a voter of the lease group says of the lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// The state, as far as this voter has applied the group's log.
    pub state: LeaseState,
    /// The voter that leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// True if it leads itself.
    pub leads: bool,
    /// For how long nobody else can become active against the holder's will, in nanoseconds: only its leader knows; 0 of
    /// the others.
    pub remaining_ns: u64,
}

/// Something that one site says to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SiteMessage {
    /// Asks a voter of the lease group: for its view alone, or to do something first.
    LeaseAsk {
        /// Names the question for whoever asks.
        id: u64,
        /// What to do.
        command: Option<LeaseCommand>,
    },
    /// Its answer.
    LeaseAnswer {
        /// The question.
        id: u64,
        /// Whether it was done; of a look always.
        done: Result<(), LeaseRefusal>,
        /// How the lease is now.
        view: LeaseView,
    },
    /// The state of the lease for a voter that lacks too much of its log, with consensus's own message, as a frame.
    LeaseSnapshot {
        /// The message.
        frame: Vec<u8>,
        /// The state that it speaks of.
        state: LeaseState,
    },
    /// A standby asks for what the active region has committed.
    FollowFrom {
        /// Its region.
        region: RegionId,
        /// Names this stream: what comes of an earlier one is passed over.
        stream: u64,
        /// Where its log stands.
        place: LogPlace,
        /// The newest epoch that it knows of.
        epoch: Epoch,
    },
    /// Batches of the active region in their order; empty ones say that it lives.
    Batches {
        /// The stream.
        stream: u64,
        /// The epoch in which the sender is active.
        epoch: Epoch,
        /// What the active region has committed, and
        committed: Sequence,
        /// when that was stamped.
        committed_at: Timestamp,
        /// The last sequence before the first of these batches.
        after: Sequence,
        /// The batches as they stand in the journal, each behind its length as a u32 (LE); compressed as an LZ4 block
        /// behind the length of all as a u32 (LE). Empty: none.
        batches: Vec<u8>,
    },
    /// How far the standby's own majority is.
    Followed {
        /// The stream.
        stream: u64,
        /// The newest epoch that the standby knows of.
        epoch: Epoch,
        /// The last batch of its log that its majority has.
        place: LogPlace,
    },
    /// Whoever was asked does not serve this stream.
    NotServed {
        /// The stream.
        stream: u64,
        /// Why.
        why: NotServed,
    },
    /// The active region has handed over: whoever hears this looks at the lease at once.
    LeaseMoved {
        /// To which epoch.
        epoch: Epoch,
    },
}

/// Why a stream is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotServed {
    /// This node does not lead the active region.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<NodeId>,
    },
    /// Its journal no longer has what would follow.
    Retired {
        /// The first sequence that it has.
        first: Sequence,
    },
    /// The asker's log is another one.
    Forked {
        /// The last sequence at which both may agree.
        kept: Sequence,
    },
    /// Its disk.
    Unreadable,
}

/// Writes a message.
pub fn encode(message: &SiteMessage) -> Vec<u8> {
    postcard::to_allocvec(message).expect("plain data can always be written")
}

/// Reads one; none if the bytes are none that this program knows.
pub fn decode(bytes: &[u8]) -> Option<SiteMessage> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}
