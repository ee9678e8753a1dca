//! Who leads the group, and what is said by a node that does not.
//!
//! A node that does not lead passes commands on to the one that does; the core sees to that. What is refused here is what
//! was not to be passed on (`Meridian-Forward: never`), and what the leader alone does (changes of who belongs to the
//! group). How clients reach the leader is not known here: a member's address is for its peers.

use http::HeaderMap;
use wire::errors::Refusal;
use wire::membership::ChangeRefusal;

use crate::failure::Failure;
use crate::gateway::Shared;
use crate::handle::{GroupStatus, MemberStatus, NotAccepting, SubmitError};

/// Says whether a request may be passed on to the leader: `never`, or it is left out.
const HEADER_FORWARD: &str = "meridian-forward";

impl GroupStatus {
    /// True of the leader.
    pub fn leads(&self) -> bool {
        self.leader == Some(self.node)
    }

    /// How many entries of the log a member is behind what the leader has applied; only the leader knows.
    pub fn lag_of(&self, member: &MemberStatus) -> Option<u64> {
        let matched = member.matched.filter(|_| self.leads())?;
        Some(self.applied.0.saturating_sub(matched.0))
    }
}

/// True unless the request says that it must not be passed on to the leader.
pub(crate) fn may_forward(headers: &HeaderMap) -> Result<bool, Failure> {
    let mut values = headers.get_all(HEADER_FORWARD).iter();
    let refused = |detail: &str| {
        Failure::new(Refusal::HeaderInvalid)
            .field(HEADER_FORWARD)
            .detail(detail)
    };
    match (values.next(), values.next()) {
        (None, _) => Ok(true),
        (Some(value), None) if value == "never" => Ok(false),
        (Some(_), None) => Err(refused("it is never, or left out")),
        (Some(_), Some(_)) => Err(refused("it is given twice")),
    }
}

impl Shared {
    /// The group, if this node leads it; otherwise who does.
    pub fn leading(&self) -> Result<GroupStatus, Failure> {
        let group = self.core.group();
        if group.leads() {
            return Ok(group);
        }
        Err(not_leader(&group))
    }

    /// Why a command was not taken.
    pub fn not_taken(&self, error: SubmitError) -> Failure {
        if error == SubmitError::NotAccepting(NotAccepting::NotActive) {
            return self.not_active();
        }
        if error != SubmitError::NotAccepting(NotAccepting::NotLeader) {
            return error.into();
        }
        // It would have been passed on if that had been possible, so waiting helps.
        not_leader(&self.core.group()).retry_later()
    }

    /// The region is not active: which one is, as far as this node knows.
    fn not_active(&self) -> Failure {
        let failure = Failure::new(Refusal::RegionNotActive);
        let own = self.core.region();
        let active = own
            .as_ref()
            .and_then(|own| own.lease.as_ref())
            .and_then(|lease| lease.active);
        let other = active.filter(|active| own.is_some_and(|own| own.region != *active));
        match other.and_then(|other| self.config.regions.iter().find(|region| region.id == other)) {
            Some(region) if region.url.is_empty() => failure.detail(format!("Region {} is active.", region.name)),
            Some(region) => failure.detail(format!("Region {} is active: {}", region.name, region.url)),
            None => failure,
        }
        .retry_later()
    }

    /// Why the members were not changed, or leadership was not handed over.
    pub fn not_changed(&self, refusal: ChangeRefusal) -> Failure {
        match refusal {
            ChangeRefusal::NotLeader => not_leader(&self.core.group()),
            ChangeRefusal::UnderWay => Refusal::ChangeUnderWay.into(),
            ChangeRefusal::Unknown => Refusal::UnknownMember.into(),
            ChangeRefusal::OtherRole => Refusal::OtherRole.into(),
            ChangeRefusal::IsLeader => Refusal::IsLeader.into(),
            ChangeRefusal::TooMuch => Refusal::TooManyMembers.into(),
            ChangeRefusal::NoQuorum => Refusal::NoQuorum.into(),
        }
    }
}

/// This node does not lead. If another one does, only asking that one helps; if none does, or this one does since a moment
/// ago, waiting may.
fn not_leader(group: &GroupStatus) -> Failure {
    let failure = Failure::new(Refusal::NotLeader);
    match group.leader {
        Some(leader) if leader != group.node => failure.leader(leader).detail(format!("Node {leader} leads.")),
        Some(_) => failure.retry_later(),
        None => failure.detail("Nobody leads at the moment.").retry_later(),
    }
}
