//! The group that a node belongs to. What operators ask of it is no command of the exchange: it has no request id, and
//! asked again it changes nothing more.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::scalar::NumberText;
use crate::membership::Role;

/// The group, as the node that answers knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// The node that answers.
    pub node: u64,
    /// Who leads; null: nobody, for now.
    pub leader: Option<u64>,
    /// The group.
    pub group: u16,
    /// The epoch in which the group sequences.
    pub epoch: u32,
    /// The term of the group's consensus.
    pub term: NumberText,
    /// The last entry of the log that the node that answers has applied.
    pub applied: NumberText,
    /// True while the node that answers gets back from its peers what its disk lost.
    pub repairing: bool,
    /// The version of the exchange's behaviour that is in force where the node that answers stands.
    #[serde(default = "first_engine_version")]
    pub engine_version: u16,
    /// The members, by node.
    pub members: Vec<ClusterMember>,
}

/// What is in force at a node of a release that doesn't say so.
fn first_engine_version() -> u16 {
    types::EngineVersion::FIRST.0
}

/// A member of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterMember {
    /// Its node id.
    pub node: u64,
    /// What it does.
    pub role: MemberRole,
    /// Where its peers reach it; empty of a lone node that never said.
    pub address: String,
    /// The last entry of the log that it has on its disk; null where the node that answers doesn't know, because it does
    /// not lead.
    pub matched: Option<NumberText>,
    /// How many entries that is behind what the leader has applied; null likewise.
    pub lag: Option<NumberText>,
    /// Whether it was heard of within the time after which an election begins; null likewise.
    pub heard: Option<bool>,
    /// The newest engine version that its program reads; null while the node that answers has no link to it.
    pub engine_version_max: Option<u16>,
}

/// Which version of the exchange's behaviour is in force, and which there could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineVersionStatus {
    /// What is in force where the node that answers stands.
    pub engine_version: u16,
    /// The newest that every member of the group reads, so that it can be switched on; null while the node that answers has no
    /// link to one of them.
    pub engine_version_max: Option<u16>,
    /// The members, by node.
    pub members: Vec<EngineVersionMember>,
}

/// What a member of the group reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineVersionMember {
    /// Its node id.
    pub node: u64,
    /// What it does.
    pub role: MemberRole,
    /// The newest engine version that its program reads; null while the node that answers has no link to it.
    pub engine_version_max: Option<u16>,
}

/// Another version of the exchange's behaviour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineVersionRequest {
    /// What is to be in force: above what is now.
    #[schema(minimum = 2)]
    pub version: u16,
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Its durable copy of the log counts, and it votes.
    Voter,
    /// It catches up, and becomes a voter then.
    Learner,
    /// It takes clients, follows the log in memory alone, and never counts.
    Gateway,
}

impl MemberRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Voter, Self::Learner, Self::Gateway];
}

impl From<Role> for MemberRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Voter => Self::Voter,
            Role::Learner => Self::Learner,
            Role::Gateway => Self::Gateway,
        }
    }
}

/// What a new member is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NewMemberRole {
    /// A voter. It begins as a learner, and the leader promotes it once it has caught up.
    Voter,
    /// A gateway.
    Gateway,
}

/// A new member, or a new address of one that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// Its node id, at least 1, which no member ever had.
    #[schema(minimum = 1)]
    pub node: u64,
    /// Where its peers reach it, as `host:port`, at most 255 bytes.
    #[schema(examples("node-4.example:7414"), max_length = 255)]
    pub address: String,
    /// What it is to be.
    pub role: NewMemberRole,
}

/// Who is to lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaderRequest {
    /// A voter; null: the one that has most of the log.
    #[serde(default)]
    #[schema(minimum = 1)]
    pub to: Option<u64>,
}
