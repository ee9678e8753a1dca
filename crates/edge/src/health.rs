//! Asks each node for `GET /health/active`, over a connection of its own each time: what a client would need is a new one,
//! too. An answer is believed only if its status and its body say the same.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};

use crate::board::{Board, Report};
use crate::config::HealthConfig;
use crate::follow::{Answer, NodeIndex};

/// Bytes of an answer's body.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Bytes of its head, with what is read ahead of its body.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Characters that are kept of a node's reason.
const REASON_CHARACTERS_MAX: usize = 200;

/// What a node says of itself; it says more, which doesn't matter here.
#[derive(Debug, Deserialize)]
struct Body {
    active: bool,
    epoch: u64,
    incarnation: Option<u64>,
    term: Option<String>,
    reason: Option<String>,
}

/// Asks one node for ever.
pub(crate) async fn watch(board: Arc<Board>, node: NodeIndex, address: SocketAddr, config: HealthConfig) {
    let mut ticks = tokio::time::interval(config.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let report = match tokio::time::timeout(config.timeout(), ask(address)).await {
            Ok(Ok(report)) => report,
            Ok(Err(why)) => Report::Nothing { why },
            Err(_) => Report::Nothing {
                why: format!("no answer within {} ms", config.timeout_ms),
            },
        };
        board.heard(node, report, Instant::now());
    }
}

/// Asks once.
async fn ask(address: SocketAddr) -> Result<Report, String> {
    let said = |error: &dyn std::error::Error| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|error| said(&error))?;
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| said(&error))?;
    let request = Request::get("/health/active")
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .expect("a request of constants is one");
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| said(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("its answer broke off: {error}"))?;
        understand(status, &body.to_bytes())
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // It ends with the last byte; the answer is there then, or never will be.
        _ = connection => exchange.await,
    }
}

fn understand(status: StatusCode, body: &[u8]) -> Result<Report, String> {
    let body: Body = serde_json::from_slice(body).map_err(|error| format!("{status} and no health: {error}"))?;
    if body.active != (status == StatusCode::OK) {
        return Err(format!(
            "{status} and active: {}, which contradict each other",
            body.active
        ));
    }
    Ok(Report::Answer {
        answer: Answer {
            active: body.active,
            epoch: body.epoch,
        },
        incarnation: body.incarnation,
        term: body.term,
        reason: body
            .reason
            .map(|reason| reason.chars().take(REASON_CHARACTERS_MAX).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_fits_its_status_is_believed() {
        let node = r#"{"active":true,"node":2,"leader":1,"group":0,"incarnation":1,"epoch":3,"term":"9","code":null,"reason":null}"#;
        let standby = r#"{"active":false,"epoch":3,"reason":"It is the standby."}"#;
        let outcome = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            match understand(status, body.as_bytes()) {
                Ok(Report::Answer { answer, .. }) => Some((answer.active, answer.epoch)),
                _ => None,
            }
        };
        for (status, body, wanted) in [
            (200, node, Some((true, 3))),
            (503, standby, Some((false, 3))),
            (503, node, None),
            (200, standby, None),
            (404, node, None),
            (200, "{}", None),
            (200, r#"{"active":true,"epoch":-1}"#, None),
            (200, "<html>", None),
            (200, "", None),
        ] {
            assert_eq!(outcome(status, body), wanted, "{status} {body}");
        }
    }
}
