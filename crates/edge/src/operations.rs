//! The operations port: health and metrics of the edge itself, and what it follows and why. Keep it off the internet.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use crate::board::Board;
use crate::figures::Figures;
use crate::front::ACCEPT_PAUSE;

/// Connections: probes, and whoever collects metrics.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take to arrive, and how long a connection may be idle between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What the port tells of.
#[derive(Clone)]
pub(crate) struct Operations {
    pub board: Arc<Board>,
    pub figures: Arc<Figures>,
    pub stop: watch::Receiver<bool>,
}

impl Operations {
    /// Serves until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let router = self.router();
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                continue;
            };
            let router = router.clone();
            let service = service_fn(move |request| router.clone().oneshot(request));
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX);
            let serving = builder.serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                // Whoever breaks a probe off has no more to be told.
                let _ = serving.await;
                drop(permit);
            });
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .route("/status", get(status))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

/// The process answers.
async fn live() -> Response {
    Json(json!({"status": "live"})).into_response()
}

/// A new connection would find a node.
async fn ready(State(operations): State<Operations>) -> Response {
    let reason = match (*operations.stop.borrow(), operations.board.is_open()) {
        (true, _) => "It is told to stop.",
        (false, false) => "No region is active, or none of its nodes answers.",
        (false, true) => return Json(json!({"status": "ready"})).into_response(),
    };
    let body = json!({"status": "not_ready", "reason": reason});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn status(State(operations): State<Operations>) -> Response {
    Json(operations.board.status()).into_response()
}

async fn metrics(State(operations): State<Operations>) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], operations.figures.render()).into_response()
}
