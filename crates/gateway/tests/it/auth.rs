//! Who is let in.

use axum::body::Body;
use http::{HeaderName, Request};
use serde_json::{Value, json};

use crate::support::{Draft, Signer, TestKey, limit, node, send};

/// Sends an order whose signed form was altered, and says the status and code of the answer.
async fn check(alter_draft: impl FnOnce(&mut Draft), alter_request: impl FnOnce(&mut Request<Body>)) -> (u16, String) {
    let node = node();
    let [key, _] = node.with_market().await;
    let mut draft = node.draft("POST", "/v1/orders", &limit("a-1", "buy", "100.0", "0.10").to_string());
    draft.signed_id = Some("a-1".to_owned());
    alter_draft(&mut draft);
    let mut request = node.signed(&key, &draft);
    alter_request(&mut request);
    let answer = send(&node.public, request).await;
    if answer.status != 201 {
        assert_eq!(answer.body["outcome"], "not_executed");
        assert_eq!(answer.body["applies_to"], "attempt");
        let open = node.get(&key, "/v1/orders").await;
        assert_eq!(open.body["orders"], json!([]), "nothing was executed");
    }
    (answer.status.as_u16(), answer.code().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn what_is_signed_is_taken() {
    assert_eq!(check(|_| {}, |_| {}).await, refused(201, "none"));
    // The window may be left out, and the request id may be repeated in its header.
    let without_window = |request: &mut Request<Body>| drop(request.headers_mut().remove("meridian-window"));
    assert_eq!(check(|_| {}, without_window).await, refused(201, "none"));
    let with_id = |draft: &mut Draft| draft.request_id = Some("a-1".to_owned());
    assert_eq!(check(with_id, |_| {}).await, refused(201, "none"));
}

#[tokio::test]
async fn each_header_is_needed_once_and_in_its_form() {
    for name in ["meridian-key", "meridian-timestamp", "meridian-signature"] {
        let removed = check(|_| {}, |request| drop(request.headers_mut().remove(name))).await;
        assert_eq!(removed, refused(401, "auth_header_missing"), "{name}");
    }
    for name in [
        "meridian-key",
        "meridian-timestamp",
        "meridian-window",
        "meridian-signature",
        "meridian-request-id",
    ] {
        let repeat = |request: &mut Request<Body>| {
            let value = request.headers().get(name).cloned();
            let value = value.unwrap_or_else(|| "a-1".parse().unwrap());
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().append(name.clone(), value.clone());
            if request.headers().get_all(&name).iter().count() == 1 {
                request.headers_mut().append(name, value);
            }
        };
        assert_eq!(
            check(|_| {}, repeat).await,
            refused(401, "auth_header_duplicate"),
            "{name}"
        );
    }
    for (name, value) in [
        ("meridian-key", "x"),
        ("meridian-key", "01"),
        ("meridian-key", "4294967296"),
        ("meridian-timestamp", "1.5"),
        ("meridian-timestamp", "-1"),
        ("meridian-window", "0"),
        ("meridian-window", "60001"),
        ("meridian-signature", "zz"),
        ("meridian-signature", "AB"),
    ] {
        let name: HeaderName = name.parse().unwrap();
        let set =
            |request: &mut Request<Body>| drop(request.headers_mut().insert(name.clone(), value.parse().unwrap()));
        assert_eq!(
            check(|_| {}, set).await,
            refused(401, "auth_header_invalid"),
            "{name}: {value}"
        );
    }
}

#[tokio::test]
async fn a_stale_or_early_request_is_refused() {
    for (offset_ms, expected) in [(-5_001, 401), (-5_000, 201), (5_000, 201), (5_001, 401)] {
        let shift = |draft: &mut Draft| draft.timestamp_ms = draft.timestamp_ms.saturating_add_signed(offset_ms);
        let (status, code) = check(shift, |_| {}).await;
        assert_eq!(status, expected, "{offset_ms}");
        if status == 401 {
            assert_eq!(code, "timestamp_outside_window");
        }
    }
    let wider = |draft: &mut Draft| {
        draft.timestamp_ms -= 50_000;
        draft.window_ms = 60_000;
    };
    assert_eq!(check(wider, |_| {}).await, refused(201, "none"));
}

#[tokio::test]
async fn whatever_is_altered_breaks_the_signature() {
    let wrong = || refused(401, "signature_wrong");
    let body = limit("a-1", "buy", "100.0", "9.99").to_string();
    let alter_body = |request: &mut Request<Body>| *request.body_mut() = Body::from(body);
    assert_eq!(check(|_| {}, alter_body).await, wrong());
    let alter_space = |request: &mut Request<Body>| {
        *request.body_mut() = Body::from(format!("{} ", limit("a-1", "buy", "100.0", "0.10")));
    };
    assert_eq!(check(|_| {}, alter_space).await, wrong());
    let other_cluster = |draft: &mut Draft| draft.cluster = "other".parse().unwrap();
    assert_eq!(check(other_cluster, |_| {}).await, wrong());
    let other_id = |draft: &mut Draft| draft.signed_id = Some("a-2".to_owned());
    assert_eq!(check(other_id, |_| {}).await, wrong());
    let header = |name: &'static str, value: &'static str| {
        move |request: &mut Request<Body>| {
            let value = value.parse().unwrap();
            request.headers_mut().insert(name, value);
        }
    };
    assert_eq!(check(|_| {}, header("meridian-window", "4999")).await, wrong());
    assert_eq!(
        check(|_| {}, header("meridian-timestamp", "1790000000001")).await,
        wrong()
    );
    assert_eq!(check(|_| {}, header("meridian-signature", "00")).await, wrong());
    let other_key = check(|_| {}, header("meridian-key", "3")).await;
    assert_eq!(other_key, wrong(), "a key of another account");
    let no_key = check(|_| {}, header("meridian-key", "99")).await;
    assert_eq!(no_key, refused(401, "key_not_accepted"));
    let other_header = check(|_| {}, header("meridian-request-id", "b-1")).await;
    assert_eq!(other_header, refused(400, "request_id_mismatch"));
    let encoded = check(|_| {}, header("content-encoding", "identity")).await;
    assert_eq!(encoded, refused(415, "content_encoding_refused"));
}

#[tokio::test]
async fn the_target_is_signed_as_it_was_sent() {
    let node = node();
    let [key, _] = node.with_market().await;
    let draft = node.draft("GET", "/v1/orders?limit=5", "");
    assert_eq!(node.call(&key, &draft).await.status, 200);
    for other in [
        "/v1/orders?limit=6",
        "/v1/orders",
        "/v1/fills?limit=5",
        "/v1/orders?limit=5&cursor=0.1.1",
    ] {
        let mut request = node.signed(&key, &draft);
        *request.uri_mut() = other.parse().unwrap();
        assert_eq!(send(&node.public, request).await.code(), "signature_wrong", "{other}");
    }
    let mut request = node.signed(&key, &draft);
    *request.method_mut() = http::Method::DELETE;
    request
        .headers_mut()
        .insert("meridian-request-id", "x".parse().unwrap());
    // DELETE knows no `limit`.
    assert_eq!(send(&node.public, request).await.code(), "query_invalid");
    let encoded = node.draft("GET", "/v1/orders?limit=%35", "");
    assert_eq!(node.call(&key, &encoded).await.code(), "query_invalid");
}

#[tokio::test]
async fn scopes_and_revocation_hold() {
    let node = node();
    let [key, _] = node.with_market().await;
    let operator = node.get(&node.operator, "/v1/balances").await;
    assert_eq!((operator.status.as_u16(), operator.code()), (403, "scope_missing"));
    let draft = node.draft("GET", "/v1/admin/assets", "");
    let client = send(&node.admin, node.signed(&key, &draft)).await;
    assert_eq!((client.status.as_u16(), client.code()), (403, "scope_missing"));

    assert_eq!(node.get(&key, "/v1/balances").await.status, 200);
    let target = format!("/v1/admin/keys/{}", key.id);
    let revoked = node.operated("DELETE", &target, "revoke", &Value::Null).await;
    assert_eq!(revoked["key"]["active"], false);
    let after = node.get(&key, "/v1/balances").await;
    assert_eq!((after.status.as_u16(), after.code()), (401, "key_not_accepted"));
}

#[tokio::test]
async fn a_gateway_that_lags_cannot_let_a_revoked_key_trade() {
    let node = node();
    let [key, _] = node.with_market().await;
    node.core.withhold.store(true, std::sync::atomic::Ordering::SeqCst);
    let target = format!("/v1/admin/keys/{}", key.id);
    node.operated("DELETE", &target, "revoke", &Value::Null).await;
    let answer = node.place(&key, &limit("a-1", "buy", "100", "0.1")).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (401, "key_revoked"));
    assert!(
        answer.body["position"]["sequence"].is_string(),
        "it was sequenced: {}",
        answer.body
    );
}

#[tokio::test]
async fn hmac_keys_sign_too_and_their_secret_is_given_again_to_the_same_request() {
    let node = node();
    node.with_market().await;
    let body = json!({"account_id": "2", "scopes": ["read"], "type": "hmac_sha256"});
    let made = node.operated("POST", "/v1/admin/keys", "hmac", &body).await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    let again = node.operated("POST", "/v1/admin/keys", "hmac", &body).await;
    assert_eq!(again["repeat"], true);
    assert_eq!(again["secret"].as_str(), Some(&*secret));
    assert_eq!(again["key"], made["key"]);
    let key = TestKey {
        id: made["key"]["key_id"].as_str().unwrap().parse().unwrap(),
        signer: Signer::Hmac(wire::signing::from_hex(&secret).unwrap()),
    };
    assert_eq!(node.get(&key, "/v1/balances").await.status, 200);
    let wrong = TestKey {
        signer: Signer::Hmac(vec![0; 32]),
        ..key
    };
    assert_eq!(node.get(&wrong, "/v1/balances").await.code(), "signature_wrong");
}
