//! `meridian sign`: the headers of a signed request, for curl.

use std::env;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use client::{RequestParts, SignedAt};
use serde_json::Value;
use types::ClusterId;

use super::connection::ConnectionArguments;
use super::say::say_line;

const HELP: &str = "\
Prints one header a line, which curl reads with `-H @-`. The signature holds for --window milliseconds; the body must
be sent byte for byte as it was signed, so keep it in a variable or a file:

  BODY='{\"client_order_id\":\"a-1\",\"symbol\":\"BTC-USD\",\"side\":\"buy\",\"type\":\"limit\",\"price\":\"49000.00\",\"quantity\":\"0.1\"}'
  meridian sign POST /v1/orders --body \"$BODY\" | curl -H @- --data-binary \"$BODY\" http://127.0.0.1:7411/v1/orders

  meridian sign GET /v1/orders | curl -H @- http://127.0.0.1:7411/v1/orders

  meridian sign DELETE /v1/orders/by-client-id/a-1 --request-id c-1 |
    curl -X DELETE -H @- http://127.0.0.1:7411/v1/orders/by-client-id/a-1

A new order's request id is its client_order_id, which is taken from the body. Every other request that changes
something needs --request-id; send the same one again to ask what became of the first.";

/// Arguments of `sign`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct SignArguments {
    /// The method, in capitals.
    method: String,
    /// Path and query, exactly as they will be sent.
    target: String,
    /// The body; `@FILE` reads it from a file and `@-` from standard input, byte for byte.
    #[arg(long, default_value = "")]
    body: String,
    /// The request's id.
    #[arg(long)]
    request_id: Option<String>,
    /// By how much the exchange's time may differ when the request arrives, in milliseconds.
    #[arg(long, default_value_t = wire::signing::WINDOW_MS_DEFAULT)]
    window: u64,
    /// The time to sign, in milliseconds since 1970, UTC; left out: now.
    #[arg(long)]
    timestamp: Option<u64>,
    /// The cluster's id; else MERIDIAN_CLUSTER, or that of the demo, or the exchange is asked.
    #[arg(long)]
    cluster: Option<String>,
}

/// Runs the command.
pub async fn run(connection: &ConnectionArguments, arguments: &SignArguments) -> Result<()> {
    let credentials = connection.credentials()?;
    let body = body(&arguments.body)?;
    let cluster = cluster(connection, arguments.cluster.as_deref()).await?;
    let from_body = client_order_id(&arguments.method, &arguments.target, &body);
    let request_id = match (&arguments.request_id, from_body) {
        (Some(given), Some(from_body)) if *given != from_body => {
            bail!("--request-id is {given:?}, but the body's client_order_id is {from_body:?}; they must agree")
        }
        (Some(given), _) => given.clone(),
        (None, from_body) => from_body.unwrap_or_default(),
    };
    let request = RequestParts {
        method: &arguments.method,
        target: &arguments.target,
        request_id: &request_id,
        body: &body,
    };
    let at = SignedAt {
        timestamp_ms: arguments.timestamp.unwrap_or_else(now_ms),
        window_ms: arguments.window,
    };
    if !body.is_empty() {
        say_line(format_args!("content-type: application/json"))?;
    }
    for (name, value) in credentials.headers(&cluster, &request, at) {
        say_line(format_args!("{name}: {value}"))?;
    }
    Ok(())
}

fn body(argument: &str) -> Result<Vec<u8>> {
    match argument.strip_prefix('@') {
        None => Ok(argument.as_bytes().to_vec()),
        Some("-") => {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body).context("read the body")?;
            Ok(body)
        }
        Some(file) => fs::read(PathBuf::from(file)).with_context(|| format!("read the body from {file}")),
    }
}

async fn cluster(connection: &ConnectionArguments, argument: Option<&str>) -> Result<ClusterId> {
    let variable = env::var("MERIDIAN_CLUSTER").ok().filter(|value| !value.is_empty());
    let text = argument
        .map(str::to_owned)
        .or(variable)
        .or_else(|| connection.demo_cluster());
    match text {
        Some(text) => text.parse().with_context(|| format!("{text:?} is not a cluster's id")),
        None => Ok(connection.public_client().await?.cluster()),
    }
}

/// The id of a new order is in its body.
fn client_order_id(method: &str, target: &str, body: &[u8]) -> Option<String> {
    if method != "POST" || target != "/v1/orders" {
        return None;
    }
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body.get("client_order_id")?.as_str()?.to_owned())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_orders_id_comes_from_its_body() {
        let body = br#"{"client_order_id":"a-1"}"#;
        assert_eq!(client_order_id("POST", "/v1/orders", body), Some("a-1".into()));
        for (method, target, body) in [
            ("POST", "/v1/orders/batch", &body[..]),
            ("GET", "/v1/orders", &body[..]),
            ("POST", "/v1/orders", b"{}"),
            ("POST", "/v1/orders", b"not json"),
        ] {
            assert_eq!(client_order_id(method, target, body), None);
        }
    }

    #[test]
    fn bodies_are_taken_as_they_are() {
        assert_eq!(body(" {} \n").unwrap(), b" {} \n");
        assert_eq!(body("").unwrap(), b"");
        assert!(body("@/nowhere/at/all").is_err());
    }
}
