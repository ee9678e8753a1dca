//! Changes of the membership, as entries of the log.

use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState};
use wire::journal::NodeId;
use wire::membership::{ADDRESS_BYTES_MAX, ChangeRefusal, MEMBERS_MAX, Member, Membership, MembershipChange, Role};

/// The members as consensus knows them.
pub(crate) fn conf_state(membership: &Membership) -> ConfState {
    let mut state = ConfState::default();
    for (node, member) in membership.iter() {
        match member.role {
            Role::Voter => state.voters.push(node.0),
            Role::Learner | Role::Gateway => state.learners.push(node.0),
        }
    }
    state
}

/// The change as an entry says it, if it makes sense for this membership.
pub(crate) fn entry_of(change: &MembershipChange, membership: &Membership) -> Result<ConfChange, ChangeRefusal> {
    let (kind, node, member) = match change {
        MembershipChange::Add { node, address, gateway } => {
            if address.len() > ADDRESS_BYTES_MAX || *node == NodeId(0) {
                return Err(ChangeRefusal::TooMuch);
            }
            let role = match membership.get(*node) {
                Some(known) if (known.role == Role::Gateway) != *gateway => return Err(ChangeRefusal::OtherRole),
                Some(known) => known.role,
                None if membership.len() >= MEMBERS_MAX => return Err(ChangeRefusal::TooMuch),
                None if *gateway => Role::Gateway,
                None => Role::Learner,
            };
            let kind = match role {
                Role::Voter => ConfChangeType::AddNode,
                Role::Learner | Role::Gateway => ConfChangeType::AddLearnerNode,
            };
            let address = address.clone();
            (kind, *node, Some(Member { role, address }))
        }
        MembershipChange::Promote(node) => {
            let known = membership.get(*node).ok_or(ChangeRefusal::Unknown)?;
            if known.role != Role::Learner {
                return Err(ChangeRefusal::OtherRole);
            }
            let member = Member {
                role: Role::Voter,
                address: known.address.clone(),
            };
            (ConfChangeType::AddNode, *node, Some(member))
        }
        MembershipChange::Remove(node) => {
            membership.get(*node).ok_or(ChangeRefusal::Unknown)?;
            (ConfChangeType::RemoveNode, *node, None)
        }
    };
    let mut entry = ConfChange::default();
    entry.set_change_type(kind);
    entry.node_id = node.0;
    if let Some(member) = member {
        entry.context = member.encode().into();
    }
    Ok(entry)
}

/// Reads an entry that changes the membership.
pub(crate) fn decode(payload: &[u8]) -> Option<ConfChange> {
    let mut change = ConfChange::default();
    change.merge_from_bytes(payload).ok()?;
    Some(change)
}

/// Makes the change. None if it is not one of [`entry_of`].
pub(crate) fn make(change: &ConfChange, membership: &mut Membership) -> Option<()> {
    let node = NodeId(change.node_id);
    match change.get_change_type() {
        ConfChangeType::RemoveNode => membership.remove(node),
        kind @ (ConfChangeType::AddNode | ConfChangeType::AddLearnerNode) => {
            let member = Member::decode(&change.context)?;
            if (member.role == Role::Voter) != (kind == ConfChangeType::AddNode) {
                return None;
            }
            membership.set(node, member);
        }
    }
    Some(())
}
