//! What a signature is over, and the headers that carry it.

use std::sync::Arc;

use gateway::auth::{SignatureHeaders, Verifiers, check_encoding, request_id_header};
use gateway::sealing::SealingKey;
use http::{HeaderMap, HeaderName, HeaderValue};
use types::{AccountId, ClusterId, Key, KeyId, KeyMaterial, Scopes, Timestamp};
use wire::signing::{SignedRequest, WINDOW_MS_MAX, from_hex, login_text, to_hex};

/// Any bytes as header lines, as the parts of the signed text, one a line (cluster, key, timestamp, window, request id,
/// method, target), and as a signature.
pub fn signatures(bytes: &[u8]) {
    headers(bytes);
    forged(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Some(decoded) = from_hex(text) {
            assert_eq!(to_hex(&decoded), text, "hex has one spelling");
        }
        canonical(&text.split('\n').collect::<Vec<_>>());
    }
    assert_eq!(from_hex(&to_hex(bytes)).as_deref(), Some(bytes));
}

/// Two requests that differ anywhere are never signed by the same text.
fn canonical(lines: &[&str]) {
    let [cluster, key, timestamp, window, request_id, method, target, ..] = lines else {
        return;
    };
    let (Ok(cluster), Ok(key)) = (cluster.parse::<ClusterId>(), key.parse::<KeyId>()) else {
        return;
    };
    let (Ok(timestamp_ms), Ok(window_ms)) = (timestamp.parse::<u64>(), window.parse::<u64>()) else {
        return;
    };
    let request = SignedRequest {
        cluster: &cluster,
        key,
        timestamp_ms,
        window_ms,
        request_id,
        method,
        target,
        body_sha256: &[0x5a; 32],
    };
    let text = request.text();
    let found: Vec<&str> = text.split('\n').collect();
    assert_eq!(found.len(), 9, "no part can add a line");
    assert_eq!(found[5..8], [*request_id, *method, *target]);
    assert_ne!(text, login_text(&cluster, key, target), "a login is never a request");
}

/// Headers as they come, duplicates and all: what is taken is of its form.
fn headers(bytes: &[u8]) {
    let mut map = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(32) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    let _ = (request_id_header(&map), check_encoding(&map));
    let Ok(read) = SignatureHeaders::read(&map) else { return };
    assert!((1..=WINDOW_MS_MAX).contains(&read.window_ms));
    for now in [
        Timestamp(0),
        Timestamp(read.timestamp_ms.saturating_mul(1_000_000)),
        Timestamp::FAR_FUTURE,
    ] {
        let _ = read.check_time(now);
    }
    forged(&read.signature);
}

/// Nobody guesses a signature, and nothing that wasn't sealed here is opened.
fn forged(signature: &[u8]) {
    let cluster: ClusterId = "demo-1".parse().expect("it is an id");
    let sealing = SealingKey::new(&[3; 32], cluster);
    let request = SignedRequest {
        cluster: &cluster,
        key: KeyId(1),
        timestamp_ms: 1,
        window_ms: 1,
        request_id: "r",
        method: "POST",
        target: "/v1/orders",
        body_sha256: &[0; 32],
    };
    let sealed = KeyMaterial::HmacSha256 {
        sealed: signature.to_vec(),
    };
    for material in [KeyMaterial::Ed25519([9; 32]), sealed] {
        let key = Arc::new(Key {
            id: KeyId(1),
            account: AccountId(2),
            scopes: Scopes::READ,
            material,
            active: true,
        });
        let verifiers = Verifiers::default();
        for text in [request.text().as_bytes(), b""] {
            assert!(verifiers.verify(&key, &sealing, signature, text).is_err());
        }
    }
    assert!(sealing.unseal(signature).is_err());
}
