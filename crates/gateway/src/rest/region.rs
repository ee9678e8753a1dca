//! Operators' requests about regions: which one is active, and what is to change. The region's leader takes them.

use axum::Json;
use types::{Epoch, RegionId, Scopes};
use wire::errors::Refusal;
use wire::json::{self, EpochBegun, RegionLag, RegionOperated};

use crate::failure::Failure;
use crate::gateway::Shared;
use crate::handle::{Lag, RegionOperation, RegionStatus};
use crate::incoming::Incoming;

const NS_PER_MS: u64 = 1_000_000;

/// The region, as the node that is asked knows it
#[utoipa::path(get, path = "/v1/admin/region", tag = "region", operation_id = "region", security(("signature" = [])),
    responses((status = 200, description = "The region.", body = json::RegionStatus), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn status(incoming: Incoming) -> Result<Json<json::RegionStatus>, Failure> {
    incoming.query(&[])?;
    incoming.verify(Scopes::ADMIN).await?;
    Ok(Json(as_json(&incoming.shared)?))
}

/// Make the other region active, without a loss
///
/// The active region's leader takes it. It answers once the lease was handed over, or says why it was not.
#[utoipa::path(post, path = "/v1/admin/region/switch-over", tag = "region", operation_id = "switch_over", security(("signature" = [])),
    responses((status = 200, description = "The other region has the lease.", body = RegionOperated), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn switch_over(incoming: Incoming) -> Result<Json<RegionOperated>, Failure> {
    operate(incoming, RegionOperation::SwitchOver).await
}

/// Make this region active once the other one's lease has lapsed, whatever this one lacks
///
/// A standby's leader takes it. It answers once the region is active, or says why it is not.
#[utoipa::path(post, path = "/v1/admin/region/promote", tag = "region", operation_id = "promote", security(("signature" = [])),
    responses((status = 200, description = "The region is active.", body = RegionOperated), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn promote(incoming: Incoming) -> Result<Json<RegionOperated>, Failure> {
    operate(incoming, RegionOperation::Promote).await
}

/// Let the region's lease lapse, and don't make it active by itself
///
/// The region's leader takes it; it holds until that changes, or `promote` is asked of the region.
#[utoipa::path(post, path = "/v1/admin/region/demote", tag = "region", operation_id = "demote", security(("signature" = [])),
    responses((status = 200, description = "The lease is renewed no more.", body = RegionOperated), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn demote(incoming: Incoming) -> Result<Json<RegionOperated>, Failure> {
    operate(incoming, RegionOperation::Demote).await
}

async fn operate(incoming: Incoming, operation: RegionOperation) -> Result<Json<RegionOperated>, Failure> {
    let shared = &incoming.shared;
    incoming.query(&[])?;
    if !incoming.body.is_empty() {
        return Err(Failure::new(Refusal::BodyInvalid).detail("this request has no body"));
    }
    incoming.verify(Scopes::ADMIN).await?;
    as_json(shared)?;
    shared.leading()?;
    tracing::warn!(?operation, "an operator asks this of the region");
    let answer = shared.core.operate_region(operation);
    // A lease's length at the most goes by before a region is made active.
    let lease_ns = shared
        .core
        .region()
        .and_then(|region| region.lease)
        .map_or(0, |lease| lease.lease_ns);
    let within = shared.config.answer_timeout + std::time::Duration::from_nanos(2 * lease_ns);
    match tokio::time::timeout(within, answer).await {
        Ok(Ok(Ok(Epoch(epoch)))) => Ok(Json(RegionOperated {
            epoch,
            status: as_json(shared)?,
        })),
        Ok(Ok(Err(why))) => Err(Failure::new(Refusal::RegionRefused).detail(why.to_string())),
        Err(_) | Ok(Err(_)) => Err(Refusal::OutcomeUnknown.into()),
    }
}

/// The region as JSON.
fn as_json(shared: &Shared) -> Result<json::RegionStatus, Failure> {
    let RegionStatus {
        region,
        mode,
        lease,
        lease_remaining_ns,
        answers_wait,
        standby,
        behind,
        why_not,
        is_void,
        other_reads: _,
    } = shared.core.region().ok_or(Refusal::OneRegion)?;
    let (group, status) = (shared.core.group(), shared.core.status());
    let named = |id: RegionId| shared.config.regions.iter().find(|region| region.id == id);
    let name_of = |id: RegionId| named(id).map_or_else(|| id.to_string(), |region| region.name.clone());
    let lease = lease.unwrap_or_default();
    let active = lease.active;
    Ok(json::RegionStatus {
        node: group.node.0,
        leader: group.leader.map(|leader| leader.0),
        region: name_of(region),
        incarnation: status.incarnation.0,
        mode: mode.to_owned(),
        active: active.map(name_of),
        active_url: active
            .and_then(named)
            .map(|region| region.url.clone())
            .filter(|url| !url.is_empty()),
        epoch: lease.epoch.0,
        lease_ms: lease.lease_ns / NS_PER_MS,
        lease_remaining_ms: lease_remaining_ns / NS_PER_MS,
        durability: lease.durability.to_string(),
        answers_wait,
        standby: standby.map(lag),
        behind: behind.map(lag),
        why_not: why_not.map(|why| why.to_string()),
        void: is_void,
        epochs: lease
            .epochs
            .iter()
            .rev()
            .take(EPOCHS_SHOWN)
            .rev()
            .map(|start| EpochBegun {
                epoch: start.epoch.0,
                region: name_of(start.region),
                after: start.after.map(|after| after.0.into()),
                by: start.by.to_string(),
            })
            .collect(),
    })
}

/// How many epochs are shown.
const EPOCHS_SHOWN: usize = 20;

fn lag(lag: Lag) -> RegionLag {
    RegionLag {
        through: lag.through.0.into(),
        sequences: lag.sequences.into(),
        bytes: lag.bytes.into(),
        ms: lag.ns / NS_PER_MS,
        heard_ms_ago: lag.heard_ns_ago.map(|ns| ns / NS_PER_MS),
    }
}
