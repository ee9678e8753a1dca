//! How much is let in.

use gateway::GatewayConfig;
use gateway::rate_limits::{BucketConfig, RateLimitsConfig};
use http::{HeaderMap, Request};
use serde_json::json;

use crate::support::{Node, cluster, limit, node, node_with, send};

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers[name].to_str().unwrap()
}

/// A node with small buckets that take long to fill.
fn small(per_key: u32, per_address: u32) -> Node {
    let bucket = |burst| BucketConfig { burst, per_second: 1 };
    let mut config = GatewayConfig::new(cluster());
    config.rate_limits = RateLimitsConfig {
        per_key: bucket(per_key),
        per_address: bucket(per_address),
        buckets_max: 100,
    };
    node_with(config)
}

#[tokio::test]
async fn answers_say_what_is_left() {
    let node = node();
    let [key, _] = node.with_market().await;
    let first = node.get(&key, "/v1/balances").await;
    assert_eq!(header(&first.headers, "ratelimit-policy"), "\"key\";q=2000;w=2");
    assert_eq!(header(&first.headers, "ratelimit"), "\"key\";r=1999;t=1");
    let limits = node.get(&key, "/v1/limits").await;
    assert_eq!(limits.body["rate_limits"][0]["name"], "key");
    assert_eq!(limits.body["rate_limits"][0]["burst"], 2_000);
    assert_eq!(limits.body["request_window_ms"], "86400000");
    assert_eq!(limits.body["request_horizon"], "1789913600000000000");
    assert_eq!(limits.body["open_orders"], 0);
    node.place(&key, &limit("o-1", "buy", "100", "1")).await;
    assert_eq!(node.get(&key, "/v1/limits").await.body["open_orders"], 1);
    let request = Request::builder()
        .uri("/v1/time")
        .body(axum::body::Body::empty())
        .unwrap();
    let time = send(&node.public, request).await;
    assert_eq!(header(&time.headers, "ratelimit-policy"), "\"address\";q=500;w=5");
}

#[tokio::test]
async fn a_key_is_limited_by_itself() {
    let node = small(13, 3);
    // The operator's key makes the market: 10 requests, and each of the others has a bucket of its own.
    let [key, other] = node.with_market().await;
    for index in 0..13 {
        assert_eq!(node.get(&key, "/v1/balances").await.status, 200, "{index}");
    }
    let refused = node.place(&key, &limit("o-1", "buy", "100", "1")).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, "rate_limited"));
    assert_eq!(refused.body["field"], "key");
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.body["retry_after_ms"].as_u64().unwrap() <= 1_000);
    assert!(header(&refused.headers, "ratelimit").starts_with("\"key\";r=0;t="));
    assert_eq!(node.get(&other, "/v1/balances").await.status, 200);
}

#[tokio::test]
async fn a_batch_counts_by_its_items() {
    let node = small(13, 3);
    let [key, _] = node.with_market().await;
    let items = vec![json!({"place": limit("b", "buy", "100", "1")}); 13];
    let batch = node.draft("POST", "/v1/orders/batch", &json!({"items": items}).to_string());
    assert_eq!(node.call(&key, &batch).await.status, 200);
    assert_eq!(node.call(&key, &batch).await.status, 429);
}

#[tokio::test]
async fn whoever_cannot_sign_is_limited_by_address() {
    let node = small(1_000, 3);
    let [key, _] = node.with_market().await;
    let draft = node.draft("GET", "/v1/balances", "");
    let forged = || {
        let mut request = node.signed(&key, &draft);
        request
            .headers_mut()
            .insert("meridian-signature", "00".parse().unwrap());
        request
    };
    for _ in 0..3 {
        assert_eq!(send(&node.public, forged()).await.code(), "signature_wrong");
    }
    let refused = send(&node.public, forged()).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, "rate_limited"));
    assert_eq!(refused.body["field"], "address");
}
