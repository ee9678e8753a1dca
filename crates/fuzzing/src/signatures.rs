//! What a signature is over, and the headers that carry it.

use types::{ClusterId, KeyId};
use wire::signing::{SignedRequest, from_hex, login_text, to_hex};

/// Any header values, one a line: cluster, key, timestamp, window, request id, method, target, signature.
pub fn signatures(bytes: &[u8]) {
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
