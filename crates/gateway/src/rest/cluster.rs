//! Operators' requests about the group: who belongs to it, and who leads. They are no commands of the exchange: the log of
//! consensus has them, the leader alone takes them, and asked again they change nothing more.

use axum::Json;
use http::StatusCode;
use types::Scopes;
use wire::errors::Refusal;
use wire::journal::NodeId;
use wire::json::{self, NumberText};
use wire::membership::{ADDRESS_BYTES_MAX, MembershipChange, Role};

use crate::failure::Failure;
use crate::gateway::Shared;
use crate::handle::{GroupStatus, MemberStatus};
use crate::incoming::{Incoming, PathPart};

type Answer = Result<(StatusCode, Json<json::ClusterStatus>), Failure>;

/// The group, as the node that is asked knows it
#[utoipa::path(get, path = "/v1/admin/cluster", tag = "cluster", operation_id = "cluster", security(("signature" = [])),
    responses((status = 200, description = "The group.", body = json::ClusterStatus), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn status(incoming: Incoming) -> Result<Json<json::ClusterStatus>, Failure> {
    incoming.query(&[])?;
    incoming.verify(Scopes::ADMIN).await?;
    Ok(Json(as_json(&incoming.shared)))
}

/// A new member, or a new address of one that is there
///
/// Only the leader takes it. A voter begins as a learner and is promoted once it has caught up.
#[utoipa::path(post, path = "/v1/admin/cluster/members", tag = "cluster", operation_id = "add_member", security(("signature" = [])),
    request_body = json::MemberRequest,
    responses(
        (status = 202, description = "It was taken up; the group shows when it is done.", body = json::ClusterStatus),
        (status = 200, description = "It is like that already.", body = json::ClusterStatus),
        (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn add_member(incoming: Incoming) -> Answer {
    let shared = &incoming.shared;
    incoming.query(&[])?;
    let request: json::MemberRequest = incoming.json()?;
    check(&request)?;
    incoming.verify(Scopes::ADMIN).await?;
    let group = shared.leading()?;
    if group.members.iter().any(|member| is_it(member, &request)) {
        return Ok((StatusCode::OK, Json(as_json(shared))));
    }
    let add = MembershipChange::Add {
        node: NodeId(request.node),
        address: request.address,
        gateway: request.role == json::NewMemberRole::Gateway,
    };
    change(shared, add).await
}

/// A member goes
///
/// Only the leader takes it, and not for itself: leadership is handed over first.
#[utoipa::path(delete, path = "/v1/admin/cluster/members/{node}", tag = "cluster", operation_id = "remove_member", security(("signature" = [])),
    params(("node" = u64, Path, description = "Its node id.")),
    responses((status = 202, description = "It was taken up; the group shows when it is done.", body = json::ClusterStatus), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove_member(node: PathPart, incoming: Incoming) -> Answer {
    incoming.query(&[])?;
    let node = NumberText(node.0).number().filter(|node| *node > 0);
    let node =
        node.ok_or_else(|| Failure::new(Refusal::PathInvalid).detail("a node id is a whole number from 1 on"))?;
    if !incoming.body.is_empty() {
        return Err(Failure::new(Refusal::BodyInvalid).detail("this request has no body"));
    }
    incoming.verify(Scopes::ADMIN).await?;
    incoming.shared.leading()?;
    change(&incoming.shared, MembershipChange::Remove(NodeId(node))).await
}

/// Hand leadership over
///
/// Only the leader takes it.
#[utoipa::path(post, path = "/v1/admin/cluster/leader", tag = "cluster", operation_id = "transfer_leadership", security(("signature" = [])),
    request_body = json::LeaderRequest,
    responses(
        (status = 202, description = "It was taken up; the group shows when it is done.", body = json::ClusterStatus),
        (status = 200, description = "That node leads already.", body = json::ClusterStatus),
        (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn transfer_leadership(incoming: Incoming) -> Answer {
    let shared = &incoming.shared;
    incoming.query(&[])?;
    let request: json::LeaderRequest = incoming.json()?;
    incoming.verify(Scopes::ADMIN).await?;
    let to = request.to.map(NodeId);
    if to.is_some() && shared.core.group().leader == to {
        return Ok((StatusCode::OK, Json(as_json(shared))));
    }
    shared.leading()?;
    let asked = shared.core.transfer_leadership(to);
    asked.map_err(|refusal| shared.not_changed(refusal))?;
    Ok((StatusCode::ACCEPTED, Json(as_json(shared))))
}

/// Refuses what can't be a member.
fn check(request: &json::MemberRequest) -> Result<(), Failure> {
    let wrong = |field: &str, detail: &str| Failure::new(Refusal::BodyInvalid).field(field).detail(detail);
    if request.node == 0 {
        return Err(wrong("node", "a node id is a whole number from 1 on"));
    }
    if request.address.len() > ADDRESS_BYTES_MAX {
        return Err(Failure::new(Refusal::AddressTooLong).field("address"));
    }
    let parts = request.address.rsplit_once(':');
    let is_whole = parts.is_some_and(|(host, port)| {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
        let port = NumberText(port.to_owned()).number();
        !host.is_empty() && host.bytes().all(is_plain) && port.is_some_and(|port| (1..=65_535).contains(&port))
    });
    if !is_whole {
        return Err(wrong("address", "it is not of the form host:port"));
    }
    Ok(())
}

/// True of the member that a request asks for.
fn is_it(member: &MemberStatus, request: &json::MemberRequest) -> bool {
    let has_role = match request.role {
        json::NewMemberRole::Voter => matches!(member.role, Role::Voter | Role::Learner),
        json::NewMemberRole::Gateway => member.role == Role::Gateway,
    };
    member.node.0 == request.node && member.address == request.address && has_role
}

async fn change(shared: &Shared, change: MembershipChange) -> Answer {
    let answer = shared.core.change_members(change);
    match tokio::time::timeout(shared.config.answer_timeout, answer).await {
        Ok(Ok(Ok(()))) => Ok((StatusCode::ACCEPTED, Json(as_json(shared)))),
        Ok(Ok(Err(refusal))) => Err(shared.not_changed(refusal)),
        // It is late, or the node is on its way down.
        Err(_) | Ok(Err(_)) => Err(Refusal::OutcomeUnknown.into()),
    }
}

/// The group as JSON.
fn as_json(shared: &Shared) -> json::ClusterStatus {
    let (group, status) = (shared.core.group(), shared.core.status());
    json::ClusterStatus {
        node: group.node.0,
        leader: group.leader.map(|leader| leader.0),
        group: status.group.0,
        epoch: status.epoch.0,
        term: group.term.0.into(),
        applied: group.applied.0.into(),
        repairing: group.repairing,
        engine_version: group.engine_version.0,
        members: group
            .members
            .iter()
            .map(|member| member_as_json(&group, member))
            .collect(),
    }
}

fn member_as_json(group: &GroupStatus, member: &MemberStatus) -> json::ClusterMember {
    let is_known = group.leads() || member.node == group.node;
    json::ClusterMember {
        node: member.node.0,
        role: member.role.into(),
        address: member.address.clone(),
        matched: member.matched.map(|matched| matched.0.into()),
        lag: group.lag_of(member).map(Into::into),
        heard: is_known.then_some(member.heard),
        engine_version_max: member.engine_version_max.map(|version| version.0),
    }
}
