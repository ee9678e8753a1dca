//! Who belongs to a group: replicated with its log, kept in its snapshots.
//!
//! A change of it is an entry of the log, as consensus writes it, which carries the member's [`Member`] as its context.
//! Both are postcard; a field is never taken away, and a new one is added behind the others with a new version.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::journal::NodeId;

/// The most members of a group, gateways included: each is a link and a progress that its leader keeps.
pub const MEMBERS_MAX: usize = 32;
/// Bytes of a member's address.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// The node that every group begins with.
pub const FOUNDER: NodeId = NodeId(1);
/// The version of [`Membership`]'s bytes.
const VERSION: u8 = 1;

/// What a member does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Its durable copy of the log counts, and it votes.
    Voter,
    /// It has the log, and does not count until it has caught up and becomes a voter.
    Learner,
    /// It takes clients, follows the log in memory alone, and never counts.
    Gateway,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Gateway => "gateway",
        })
    }
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it does.
    pub role: Role,
    /// Where its peers reach it, as `host:port`; empty of a lone node that never said.
    pub address: String,
}

/// The members of a group by their node ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership(BTreeMap<NodeId, Member>);

/// A change of who belongs to the group. One at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A new member, or a new address of one that is there. A voter begins as a learner, and is promoted by the leader
    /// once it has caught up.
    Add {
        /// Its id, never used before.
        node: NodeId,
        /// Where its peers reach it.
        address: String,
        /// True if it is to take clients alone.
        gateway: bool,
    },
    /// A learner that has caught up becomes a voter.
    Promote(NodeId),
    /// A member goes. Its id is not used again.
    Remove(NodeId),
}

/// Why the membership was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRefusal {
    /// This node does not lead the group.
    NotLeader,
    /// Another change is under way.
    UnderWay,
    /// There is no such member.
    Unknown,
    /// The member has another role than the change says.
    OtherRole,
    /// The leader can't be removed: hand leadership over first.
    IsLeader,
    /// There are `MEMBERS_MAX` members, or the address is too long.
    TooMuch,
    /// Too few of the voters that would be left answer at the moment.
    NoQuorum,
}

impl std::error::Error for ChangeRefusal {}

impl fmt::Display for ChangeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLeader => "this node does not lead its group; ask the leader",
            Self::UnderWay => "another change of the membership is under way; wait for it to end",
            Self::Unknown => "there is no such member",
            Self::OtherRole => "the member has another role",
            Self::IsLeader => "the leader can't be removed; hand leadership over first",
            Self::TooMuch => "the group has as many members as it can, or the address is too long",
            Self::NoQuorum => "too few of the voters that would be left answer; bring them back first",
        })
    }
}

impl Membership {
    /// What every group begins as: its node 1, alone.
    pub fn founding() -> Self {
        Self::of_voters([FOUNDER])
    }

    /// These voters, without addresses.
    pub fn of_voters(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let voter = || Member {
            role: Role::Voter,
            address: String::new(),
        };
        Self(nodes.into_iter().map(|node| (node, voter())).collect())
    }

    /// A member.
    pub fn get(&self, node: NodeId) -> Option<&Member> {
        self.0.get(&node)
    }

    /// All members, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.0.iter().map(|(node, member)| (*node, member))
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True of the membership of a node that was not yet told who belongs to its group.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The voters' ids.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        let voters = self.iter().filter(|(_, member)| member.role == Role::Voter);
        voters.map(|(node, _)| node)
    }

    /// True if this node alone decides.
    pub fn is_lone_voter(&self, node: NodeId) -> bool {
        self.voters().eq([node])
    }

    /// Adds or changes a member.
    pub fn set(&mut self, node: NodeId, member: Member) {
        self.0.insert(node, member);
    }

    /// Takes a member out.
    pub fn remove(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// As it is written into a snapshot.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(&(VERSION, self)).expect("a membership can always be written")
    }

    /// What [`Self::encode`] wrote; none if it is not that.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, membership): (u8, Self) = postcard::from_bytes(bytes).ok()?;
        let bounded = membership.len() <= MEMBERS_MAX;
        (version == VERSION && bounded).then_some(membership)
    }
}

impl Member {
    /// As a change of the membership carries it.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(&(VERSION, self)).expect("a member can always be written")
    }

    /// What [`Self::encode`] wrote; none if it is not that.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, member): (u8, Self) = postcard::from_bytes(bytes).ok()?;
        (version == VERSION && member.address.len() <= ADDRESS_BYTES_MAX).then_some(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_other_versions_are_not() {
        let mut membership = Membership::founding();
        let gateway = Member {
            role: Role::Gateway,
            address: "gateway-7.example:7414".into(),
        };
        membership.set(NodeId(7), gateway.clone());
        assert_eq!(Membership::decode(&membership.encode()), Some(membership.clone()));
        assert_eq!(Member::decode(&gateway.encode()), Some(gateway.clone()));
        let mut other = gateway.encode();
        other[0] += 1;
        assert_eq!(Member::decode(&other), None);
        assert_eq!(Membership::decode(&membership.encode()[1..]), None);
        let far = Member {
            address: "x".repeat(ADDRESS_BYTES_MAX + 1),
            ..gateway
        };
        assert_eq!(Member::decode(&far.encode()), None);
    }

    #[test]
    fn only_voters_decide() {
        let mut membership = Membership::founding();
        let member = |role| Member {
            role,
            address: String::new(),
        };
        membership.set(NodeId(2), member(Role::Learner));
        membership.set(NodeId(3), member(Role::Gateway));
        assert!(membership.is_lone_voter(NodeId(1)));
        assert!(!membership.is_lone_voter(NodeId(2)));
        membership.set(NodeId(2), member(Role::Voter));
        assert!(!membership.is_lone_voter(NodeId(1)));
    }
}
