//! Operators' requests about the version of the exchange's behaviour.
//!
//! To raise it is a command like any other, but only the leader takes it up, and only once every member has greeted it with a
//! program that reads that version: an older one could not go on behind the command.

use std::sync::Arc;

use axum::Json;
use types::{Action, EngineVersion, Scopes};
use wire::errors::Refusal;
use wire::json;

use super::admin;
use crate::failure::Failure;
use crate::gateway::Shared;
use crate::handle::GroupStatus;
use crate::incoming::Incoming;

/// The version of the exchange's behaviour
///
/// What is in force, and what each member of the group reads, as the node that is asked knows it. Ask the leader.
#[utoipa::path(get, path = "/v1/admin/engine-version", tag = "rules", operation_id = "engine_version", security(("signature" = [])),
    responses((status = 200, description = "The versions.", body = json::EngineVersionStatus), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn status(incoming: Incoming) -> Result<Json<json::EngineVersionStatus>, Failure> {
    incoming.query(&[])?;
    incoming.verify(Scopes::ADMIN).await?;
    let group = incoming.shared.core.group();
    let members = group.members.iter().map(|member| json::EngineVersionMember {
        node: member.node.0,
        role: member.role.into(),
        engine_version_max: member.engine_version_max.map(|version| version.0),
    });
    Ok(Json(json::EngineVersionStatus {
        engine_version: incoming.shared.view.reference().engine_version().0,
        engine_version_max: read_by_all(&group).map(|version| version.0),
        members: members.collect(),
    }))
}

/// Switch on newer behaviour
///
/// It can't be taken back, and no older program can go on from there. Only the leader takes it, and only while every member,
/// and every node of the other region, is connected and reads the version.
#[utoipa::path(post, path = "/v1/admin/engine-version", tag = "rules", operation_id = "set_engine_version", security(("signature" = [])),
    params(("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::EngineVersionRequest,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn set(incoming: Incoming) -> admin::Answer {
    admin::execute(
        &incoming,
        async |shared: &Arc<Shared>, request: json::EngineVersionRequest| {
            let version = EngineVersion(request.version);
            if version <= EngineVersion::FIRST {
                let failure = Failure::new(Refusal::BodyInvalid).field("version");
                return Err(failure.detail("version 1 is what every group begins with"));
            }
            let group = shared.leading()?;
            let other = shared.core.region().map(|region| region.other_reads);
            match read_by_all(&group) {
                _ if other.is_some_and(|reads| reads.is_none_or(|reads| reads < version)) => {
                    let failure = Failure::new(Refusal::EngineVersionNotRead);
                    Err(failure.detail("A node of the other region is not connected, or does not read it."))
                }
                Some(all) if version <= all => Ok(Action::SetEngineVersion { version }),
                _ => Err(Failure::new(Refusal::EngineVersionNotRead).detail(who_lacks(&group, version))),
            }
        },
    )
    .await
}

/// The newest version that every member reads, if each is connected.
fn read_by_all(group: &GroupStatus) -> Option<EngineVersion> {
    let each = group.members.iter().map(|member| member.engine_version_max);
    each.collect::<Option<Vec<_>>>()?.into_iter().min()
}

fn who_lacks(group: &GroupStatus, version: EngineVersion) -> String {
    let lacks = group
        .members
        .iter()
        .filter_map(|member| match member.engine_version_max {
            None => Some(format!("node {} is not connected", member.node)),
            Some(reads) if reads < version => Some(format!("node {} reads versions up to {reads}", member.node)),
            Some(_) => None,
        });
    format!("{}.", lacks.collect::<Vec<_>>().join(", "))
}
