//! The operations port: health for probes and load balancers, metrics for Prometheus. Keep it off the internet.

use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use gateway::handle::CoreHandle;
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

/// An order that comes here reaches the active leader.
async fn active(State(operations): State<Operations>) -> Response {
    let status = operations.core.status();
    let (code, reason) = match status.accepting {
        Ok(()) => (StatusCode::OK, None),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, Some(reason.to_string())),
    };
    let body = json!({
        "active": code == StatusCode::OK,
        "group": status.group,
        "incarnation": status.incarnation,
        "epoch": status.epoch,
        "reason": reason,
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
    use gateway::handle::{CoreStatus, SubmitError};
    use gateway::stages::Stages;
    use gateway::waiting::Waiter;
    use types::{Command, Epoch, GroupId, Incarnation, Sequence, Timestamp};

    use super::*;
    use crate::threads::Role;

    struct Accepting;

    impl CoreHandle for Accepting {
        fn hand_over(&self, _: Command, _: Waiter) -> Result<(), SubmitError> {
            unreachable!("health checks submit nothing")
        }

        fn status(&self) -> CoreStatus {
            CoreStatus {
                accepting: Ok(()),
                group: GroupId(0),
                incarnation: Incarnation(1),
                epoch: Epoch(1),
                last_applied: Sequence(7),
                queued_count: 0,
                clock_error_bound_ns: 0,
            }
        }

        fn now(&self) -> Timestamp {
            Timestamp(0)
        }

        fn stages(&self) -> &Arc<Stages> {
            unreachable!("health checks look at no stages")
        }
    }

    #[tokio::test]
    async fn a_panicked_thread_shows() {
        let threads = Arc::new(Threads::default());
        let operations = Operations {
            core: Arc::new(Accepting),
            caught_up: Arc::new(|| true),
            threads: Arc::clone(&threads),
            refresh: Arc::new(|| {}),
        };
        let ask = async || {
            let response = ready(State(operations.clone())).await;
            let code = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
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
