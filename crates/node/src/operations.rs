//! The operations port: health for probes and load balancers, metrics for Prometheus. Keep it off the internet.

use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use gateway::handle::{CoreHandle, NotAccepting};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use wire::errors::{ErrorCode, Refusal};

use crate::threads::Threads;

/// What the operations port tells of.
#[derive(Clone)]
pub struct Operations {
    /// The core.
    pub core: Arc<dyn CoreHandle>,
    /// Whether all that the core has applied can also be seen, but for what is on its way.
    pub caught_up: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The threads behind the core.
    pub threads: Arc<Threads>,
    /// Brings the gauges up to date.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
}

/// The process's metrics. The first call installs them.
pub fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another part of the process records metrics; /metrics stays empty");
        }
        handle
    })
}

impl Operations {
    /// The port's routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .route("/health/active", get(active))
            .route("/metrics", get(render_metrics))
            .with_state(self)
    }
}

/// What clients are told instead of an answer.
pub fn code_of(refusal: impl Into<Refusal>) -> &'static str {
    ErrorCode::Refusal(refusal.into()).entry().code
}

/// The process answers.
async fn live() -> Response {
    Json(json!({"status": "live"})).into_response()
}

/// Requests that come here are served. `degraded`: they are, but somebody must look.
async fn ready(State(operations): State<Operations>) -> Response {
    let status = operations.core.status();
    let panicked = operations.threads.panicked().first().copied();
    let (code, reason) = match (status.accepting, panicked) {
        (Err(reason), _) => (code_of(reason), reason.sentence()),
        (Ok(()), Some(role)) if role.is_vital() => (code_of(Refusal::ViewBehind), role.lost()),
        (Ok(()), panicked) if (operations.caught_up)() => {
            let sequence = status.last_applied.to_string();
            let body = match panicked {
                Some(role) => json!({"status": "degraded", "sequence": sequence, "reason": role.lost()}),
                None => json!({"status": "ready", "sequence": sequence}),
            };
            return Json(body).into_response();
        }
        (Ok(()), _) => (code_of(Refusal::ViewBehind), "The views are behind what was executed."),
    };
    let body = json!({"status": "not_ready", "code": code, "reason": reason});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

/// An order that comes here reaches the active leader: this node, or the one that it passes orders on to.
async fn active(State(operations): State<Operations>) -> Response {
    let (status, group) = (operations.core.status(), operations.core.group());
    let (code, why) = match (status.accepting, group.leader) {
        (Err(reason), _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Some((code_of(reason), reason.sentence())),
        ),
        (Ok(()), None) => {
            let why = (code_of(Refusal::NoLeader), "Nobody leads the group at the moment.");
            (StatusCode::SERVICE_UNAVAILABLE, Some(why))
        }
        (Ok(()), Some(_)) if operations.core.region().is_some_and(|region| region.mode != "active") => {
            let why = NotAccepting::NotActive;
            (StatusCode::SERVICE_UNAVAILABLE, Some((code_of(why), why.sentence())))
        }
        (Ok(()), Some(_)) => (StatusCode::OK, None),
    };
    let body = json!({
        "active": code == StatusCode::OK,
        "node": group.node,
        "leader": group.leader,
        "group": status.group,
        "incarnation": status.incarnation,
        "epoch": status.epoch,
        "term": group.term.0.to_string(),
        "code": why.map(|(code, _)| code),
        "reason": why.map(|(_, sentence)| sentence),
    });
    (code, Json(body)).into_response()
}

async fn render_metrics(State(operations): State<Operations>) -> Response {
    (operations.refresh)();
    let mut text = metrics().render();
    operations.core.stages().render(&mut text);
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use gateway::handle::{CoreStatus, GroupStatus, SubmitError};
    use gateway::stages::Stages;
    use gateway::waiting::Waiter;
    use types::{Command, Epoch, GroupId, Incarnation, Sequence, Timestamp};
    use wire::journal::{LogIndex, NodeId, Term};

    use super::*;
    use crate::threads::Role;

    /// Whether it takes commands, and who leads its group, of which it is node 2.
    struct TestCore {
        accepting: Result<(), NotAccepting>,
        leader: Option<u64>,
    }

    impl CoreHandle for TestCore {
        fn hand_over(&self, _: Command, _: Waiter) -> Result<(), SubmitError> {
            unreachable!("health checks submit nothing")
        }

        fn status(&self) -> CoreStatus {
            CoreStatus {
                accepting: self.accepting,
                group: GroupId(0),
                incarnation: Incarnation(1),
                epoch: Epoch(1),
                last_applied: Sequence(7),
                queued_count: 0,
                clock_error_bound_ns: 0,
            }
        }

        fn group(&self) -> GroupStatus {
            GroupStatus {
                leader: self.leader.map(NodeId),
                term: Term(9),
                ..GroupStatus::lone(NodeId(2), LogIndex(7))
            }
        }

        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn stages(&self) -> &Arc<Stages> {
            unreachable!("health checks look at no stages")
        }
    }

    fn operations(accepting: Result<(), NotAccepting>, leader: Option<u64>) -> Operations {
        Operations {
            core: Arc::new(TestCore { accepting, leader }),
            caught_up: Arc::new(|| true),
            threads: Arc::default(),
            refresh: Arc::new(|| {}),
        }
    }

    async fn body_of(response: Response) -> serde_json::Value {
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn active_is_who_reaches_the_leader() {
        let not = |code: &str| (503, false, json!(code));
        for (accepting, leader, wanted) in [
            (Ok(()), Some(2), (200, true, json!(null))),
            (Ok(()), Some(1), (200, true, json!(null))),
            (Ok(()), None, not("no_leader")),
            (Err(NotAccepting::DiskFull), Some(2), not("disk_full")),
            (Err(NotAccepting::NotLeader), None, not("not_leader")),
        ] {
            let response = active(State(operations(accepting, leader))).await;
            let status = response.status().as_u16();
            let body = body_of(response).await;
            let told = (status, body["active"] == true, body["code"].clone());
            assert_eq!(told, wanted, "{body}");
            assert_eq!(body["reason"].is_string(), status == 503, "{body}");
            assert_eq!((&body["node"], &body["leader"]), (&json!(2), &json!(leader)), "{body}");
            assert_eq!((&body["epoch"], &body["term"]), (&json!(1), &json!("9")), "{body}");
        }
    }

    #[tokio::test]
    async fn a_panicked_thread_shows() {
        let operations = operations(Ok(()), Some(2));
        let threads = Arc::clone(&operations.threads);
        let ask = async || {
            let response = ready(State(operations.clone())).await;
            let code = response.status().as_u16();
            let body = body_of(response).await;
            (
                code,
                body["status"].as_str().unwrap().to_owned(),
                body["reason"].clone(),
            )
        };
        assert_eq!(ask().await, (200, "ready".to_owned(), json!(null)));
        for (role, code, status) in [(Role::Snapshots, 200, "degraded"), (Role::Publisher, 503, "not_ready")] {
            threads
                .spawn(role, || panic!("on purpose"))
                .unwrap()
                .join()
                .unwrap_err();
            assert_eq!(ask().await, (code, status.to_owned(), json!(role.lost())));
        }
    }
}
