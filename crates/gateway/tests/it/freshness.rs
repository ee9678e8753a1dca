//! How fresh answers are, and how they say so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway::GatewayConfig;
use http::Request;
use serde_json::json;
use types::Sequence;

use crate::support::{Answer, Node, Reads, TestKey, cluster, limit, node, node_with, send};

/// What an account sees of itself.
const OWN: [&str; 6] = [
    "/v1/orders",
    "/v1/orders/by-client-id/o-1",
    "/v1/fills",
    "/v1/balances",
    "/v1/limits",
    "/v1/orders?symbol=BTC-USD&limit=1",
];
/// What operators see.
const OPERATORS: [&str; 6] = [
    "/v1/admin/assets",
    "/v1/admin/instruments",
    "/v1/admin/accounts",
    "/v1/admin/accounts/2/balances",
    "/v1/admin/keys",
    "/v1/admin/rules",
];
/// What everybody sees.
const PUBLIC: [&str; 5] = [
    "/v1/time",
    "/v1/instruments",
    "/v1/instruments/BTC-USD",
    "/v1/instruments/BTC-USD/book",
    "/v1/instruments/BTC-USD/trades",
];

/// A node that waits for the view for only a moment, with an order of the first key.
async fn hasty() -> (Node, TestKey) {
    let mut config = GatewayConfig::new(cluster());
    config.view_timeout = Duration::from_millis(20);
    let node = node_with(config);
    let [key, _] = node.with_market().await;
    node.place(&key, &limit("o-1", "buy", "100", "1")).await;
    (node, key)
}

fn stale(target: &str) -> String {
    let separator = if target.contains('?') { '&' } else { '?' };
    format!("{target}{separator}freshness=stale")
}

async fn public(node: &Node, target: &str) -> Answer {
    let request = Request::builder().uri(target).body(axum::body::Body::empty());
    send(&node.public, request.unwrap()).await
}

#[track_caller]
fn check(target: &str, answer: &Answer, freshness: &str) {
    assert_eq!(answer.status, 200, "{target}: {}", answer.body);
    assert_eq!(answer.headers["meridian-freshness"], freshness, "{target}");
    let position = answer.headers["meridian-position"].to_str().unwrap();
    let (group_and_epoch, sequence) = position.rsplit_once('.').unwrap();
    assert_eq!(group_and_epoch, "0.1", "{target}");
    assert!(sequence.parse::<u64>().unwrap() > 0, "{target}");
    if let Some(told) = answer.body["position"].as_object() {
        assert_eq!(told["sequence"], sequence, "{target}");
    }
}

#[tokio::test]
async fn answers_say_how_fresh_they_are_and_up_to_where_they_know() {
    let (node, key) = hasty().await;
    for target in OWN {
        check(target, &node.get(&key, target).await, "linearizable");
        check(target, &node.get(&key, &stale(target)).await, "stale");
        let same = format!(
            "{target}{}freshness=linearizable",
            if target.contains('?') { '&' } else { '?' }
        );
        check(target, &node.get(&key, &same).await, "linearizable");
    }
    for target in OPERATORS {
        check(target, &node.administer("GET", target, "").await, "linearizable");
        check(target, &node.administer("GET", &stale(target), "").await, "stale");
    }
    for target in PUBLIC {
        check(target, &public(&node, target).await, "stale");
    }
    for target in [
        "/v1/balances?freshness=fresh",
        "/v1/fills?freshness=Stale",
        "/v1/orders?freshness=",
    ] {
        let answer = node.get(&key, target).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (400, "query_invalid"),
            "{target}"
        );
        assert_eq!(answer.body["field"], "freshness");
    }
}

#[tokio::test]
async fn a_read_waits_for_the_sequence_that_the_group_names() {
    let node = node();
    let [key, _] = node.with_market().await;
    node.core.set_reads(Reads::Later);
    node.core.withhold.store(true, Ordering::SeqCst);
    let query = node.get(&key, "/v1/orders");
    let told = async {
        // It asks first; what is acknowledged elsewhere before the group names a place must be in the answer.
        while node.core.group.lock().unwrap().reads_waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        node.place(&key, &limit("o-1", "buy", "100", "1")).await;
        let last = node.core_last();
        let name = node.core.group.lock().unwrap().reads_waiting.remove(0);
        name.send(Some(last)).unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        node.core.release();
        last
    };
    let (answer, last) = tokio::join!(query, told);
    assert_eq!(answer.body["orders"][0]["client_order_id"], "o-1", "{}", answer.body);
    assert_eq!(answer.headers["meridian-position"], format!("0.1.{last}"));
}

#[tokio::test]
async fn without_a_leader_only_what_may_be_stale_is_answered() {
    let (node, key) = hasty().await;
    for reads in [Reads::From(None), Reads::Later, Reads::Dropped] {
        node.core.set_reads(reads);
        for target in OWN {
            let answer = node.get(&key, target).await;
            assert_eq!(
                (answer.status.as_u16(), answer.code()),
                (503, "no_leader"),
                "{target} {reads:?}"
            );
            assert_eq!(answer.body["outcome"], "not_executed");
            assert_eq!(answer.body["retry_after_ms"], 1_000);
            check(target, &node.get(&key, &stale(target)).await, "stale");
        }
        for target in OPERATORS {
            let answer = node.administer("GET", target, "").await;
            assert_eq!(answer.code(), "no_leader", "{target} {reads:?}");
        }
        for target in PUBLIC {
            check(target, &public(&node, target).await, "stale");
        }
        let unknown = public(&node, "/v1/instruments/XYZ").await;
        assert_eq!(unknown.code(), "symbol_unknown", "market data never asks the group");
    }
}

#[tokio::test]
async fn a_view_that_does_not_get_there_in_time_is_not_shown() {
    let (node, key) = hasty().await;
    node.core.set_reads(Reads::From(Some(Sequence(1_000_000))));
    let answer = node.get(&key, "/v1/balances").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "view_behind"));
    check("stale", &node.get(&key, "/v1/balances?freshness=stale").await, "stale");
}

#[tokio::test]
async fn a_revocation_that_was_waited_for_holds() {
    let node = node();
    let [key, _] = node.with_market().await;
    node.core.set_reads(Reads::Later);
    node.core.withhold.store(true, Ordering::SeqCst);
    let query = node.get(&key, "/v1/balances");
    let revoked = async {
        while node.core.group.lock().unwrap().reads_waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        let target = format!("/v1/admin/keys/{}", key.id);
        node.operated("DELETE", &target, "revoke", &json!(null)).await;
        let name = node.core.group.lock().unwrap().reads_waiting.remove(0);
        name.send(Some(node.core_last())).unwrap();
        node.core.release();
    };
    let (answer, ()) = tokio::join!(query, revoked);
    assert_eq!((answer.status.as_u16(), answer.code()), (401, "key_not_accepted"));
}

#[tokio::test]
async fn what_is_new_elsewhere_is_known_here() {
    let node = node();
    let [key, _] = node.with_market().await;
    // The key was made, and acknowledged, on another node; this one is behind.
    node.core.withhold.store(true, Ordering::SeqCst);
    let signer = key.signer.clone();
    let body = json!({
        "account_id": "2", "scopes": ["read"], "type": "ed25519",
        "public_key": wire::signing::to_hex(&signer.public_key()),
    });
    let made = node.operated("POST", "/v1/admin/keys", "new", &body).await;
    let id = made["key"]["key_id"].as_str().unwrap().parse().unwrap();
    node.core.set_reads(Reads::From(Some(node.core_last())));
    let new = TestKey { id, signer };
    let query = node.get(&new, "/v1/balances");
    let release = async {
        tokio::task::yield_now().await;
        node.core.release();
    };
    let (answer, ()) = tokio::join!(query, release);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn validation_sees_what_was_acknowledged() {
    let (node, key) = hasty().await;
    let mut order = limit("v-1", "buy", "100", "1");
    order["validate_only"] = json!(true);
    check("validate_only", &node.place(&key, &order).await, "linearizable");
    node.core.set_reads(Reads::From(None));
    assert_eq!(node.place(&key, &order).await.code(), "no_leader");
    let placed = node.place(&key, &limit("p-1", "buy", "100", "1")).await;
    assert_eq!(placed.status, 201, "what is executed needs no fresh picture");
}
