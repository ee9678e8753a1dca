//! Regions: which one is active, and how far the other is behind. What operators ask of them is no command of the exchange.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scalar::NumberText;

/// The node's region, as that node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionStatus {
    /// The node that answers.
    pub node: u64,
    /// Who leads the region's group; null: nobody, for now.
    pub leader: Option<u64>,
    /// The region's name.
    pub region: String,
    /// Which life of its group this is.
    pub incarnation: u32,
    /// What it does: `unknown` (it doesn't know yet who is active), `standby`, `beginning` (it was made active and is about
    /// to begin), `active`, `draining` (a switch-over is under way) or `fenced` (its lease has lapsed).
    pub mode: String,
    /// The active region's name; null before any was.
    pub active: Option<String>,
    /// Where clients reach the active region, as the operator configured it.
    pub active_url: Option<String>,
    /// The present epoch.
    pub epoch: u32,
    /// How long a renewal of the lease holds, in milliseconds.
    pub lease_ms: u64,
    /// For how long it holds now, in milliseconds: of the active region's leader, otherwise 0.
    pub lease_remaining_ms: u64,
    /// What answers wait for, as it is on record: `region`, `both`, or `degraded` (they are to wait for both regions and do
    /// not at the moment).
    pub durability: String,
    /// True if answers wait for the standby now.
    pub answers_wait: bool,
    /// How far the standby is behind: of the active region's leader.
    pub standby: Option<RegionLag>,
    /// How far this region is behind: of a standby's leader.
    pub behind: Option<RegionLag>,
    /// Why it was not made active when it last asked to be.
    pub why_not: Option<String>,
    /// True if its log has something that the present epoch has not: it is about to begin a new life.
    pub void: bool,
    /// The last epochs, the newest last.
    pub epochs: Vec<EpochBegun>,
}

/// By how much a region is behind the active one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionLag {
    /// The last sequence that it has.
    pub through: NumberText,
    /// How many it lacks.
    pub sequences: NumberText,
    /// The bytes of these in the journal, about.
    pub bytes: NumberText,
    /// For how long it has lacked the first of them, in milliseconds.
    pub ms: u64,
    /// How long ago it was heard of, in milliseconds; null: never.
    pub heard_ms_ago: Option<u64>,
}

/// An epoch, and where it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EpochBegun {
    /// Which.
    pub epoch: u32,
    /// The region that is active in it.
    pub region: String,
    /// The last sequence before it; null: it has not begun yet.
    pub after: Option<NumberText>,
    /// Why it began.
    pub by: String,
}

/// What a region did that an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionOperated {
    /// The epoch from then on.
    pub epoch: u32,
    /// How the region is.
    pub status: RegionStatus,
}
