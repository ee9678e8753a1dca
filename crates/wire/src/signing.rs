//! What a client signs, as text. No cryptography here: the gateway verifies and the client signs these bytes with
//! Ed25519 (RFC 8032) or HMAC-SHA256 (RFC 2104).
//!
//! A REST request is signed over these lines, joined by `\n`, without one at the end:
//!
//! ```text
//! MERIDIAN1
//! <cluster id>
//! <Meridian-Key>
//! <Meridian-Timestamp: milliseconds since 1970, UTC>
//! <Meridian-Window: milliseconds, or 5000 if the header is left out>
//! <request id, or empty>
//! <METHOD>
//! <request target as sent: path and query>
//! <SHA-256 of the body as sent, lower-case hex>
//! ```
//!
//! A WebSocket session signs the server's nonce once, over `MERIDIAN1-WEBSOCKET`, cluster id, key, nonce.
//! No line can contain a line feed, so two different requests never have the same text.

use types::{ClusterId, KeyId};

/// The first line of a signed REST request.
pub const REQUEST_VERSION: &str = "MERIDIAN1";
/// The first line of a signed WebSocket login.
pub const LOGIN_VERSION: &str = "MERIDIAN1-WEBSOCKET";

/// The header that names the key: its id as a decimal number.
pub const HEADER_KEY: &str = "meridian-key";
/// The header with the client's time in milliseconds since 1970, UTC.
pub const HEADER_TIMESTAMP: &str = "meridian-timestamp";
/// The header with the number of milliseconds by which that time may differ from the node's. May be left out.
pub const HEADER_WINDOW: &str = "meridian-window";
/// The header with the signature: the raw bytes in lower-case hex.
pub const HEADER_SIGNATURE: &str = "meridian-signature";
/// The header with the request's id.
pub const HEADER_REQUEST_ID: &str = "meridian-request-id";

/// The window that holds when the header is left out, in milliseconds.
pub const WINDOW_MS_DEFAULT: u64 = 5_000;
/// The widest window that a request may ask for, in milliseconds.
pub const WINDOW_MS_MAX: u64 = 60_000;
/// The length of an Ed25519 signature, in bytes.
pub const ED25519_SIGNATURE_BYTES: usize = 64;
/// The length of an HMAC-SHA256 tag, and of a secret that the server makes, in bytes.
pub const HMAC_SHA256_BYTES: usize = 32;
/// The length of an Ed25519 public key, and of its seed, in bytes.
pub const ED25519_KEY_BYTES: usize = 32;

/// The parts of a REST request that are signed.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// For which cluster it is meant.
    pub cluster: &'a ClusterId,
    /// By which key.
    pub key: KeyId,
    /// The client's time, in milliseconds since 1970, UTC.
    pub timestamp_ms: u64,
    /// By how much that may differ from the node's time, in milliseconds.
    pub window_ms: u64,
    /// The request's id (a new order's `client_order_id`), or empty where there is none.
    pub request_id: &'a str,
    /// The method, in capitals.
    pub method: &'a str,
    /// The request target exactly as it stands in the request line.
    pub target: &'a str,
    /// SHA-256 of the body exactly as sent; of nothing if there is none.
    pub body_sha256: &'a [u8; 32],
}

impl SignedRequest<'_> {
    /// The text to sign.
    pub fn text(&self) -> String {
        let Self {
            cluster,
            key,
            timestamp_ms,
            window_ms,
            request_id,
            method,
            target,
            body_sha256,
        } = self;
        let body = to_hex(*body_sha256);
        format!(
            "{REQUEST_VERSION}\n{cluster}\n{key}\n{timestamp_ms}\n{window_ms}\n{request_id}\n{method}\n{target}\n{body}"
        )
    }
}

/// The text that a WebSocket session signs: `nonce` is what the server sent.
pub fn login_text(cluster: &ClusterId, key: KeyId, nonce: &str) -> String {
    format!("{LOGIN_VERSION}\n{cluster}\n{key}\n{nonce}")
}

/// Bytes in lower-case hex.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes of a text in lower-case hex; none if it is anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    fn digit(byte: u8) -> Option<u8> {
        match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        }
    }
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_request_is_as_documented() {
        let request = SignedRequest {
            cluster: &"demo-1".parse().unwrap(),
            key: KeyId(7),
            timestamp_ms: 1_700_000_000_000,
            window_ms: 5_000,
            request_id: "a-1",
            method: "POST",
            target: "/v1/orders?x=%20",
            body_sha256: &[0xab; 32],
        };
        assert_eq!(
            request.text(),
            format!(
                "MERIDIAN1\ndemo-1\n7\n1700000000000\n5000\na-1\nPOST\n/v1/orders?x=%20\n{}",
                "ab".repeat(32)
            )
        );
        let login = login_text(&"demo-1".parse().unwrap(), KeyId(7), "00ff");
        assert_eq!(login, "MERIDIAN1-WEBSOCKET\ndemo-1\n7\n00ff");
    }

    #[test]
    fn hex_has_one_spelling() {
        assert_eq!(from_hex(&to_hex(&[0, 1, 0xfe, 0xff])), Some(vec![0, 1, 0xfe, 0xff]));
        assert_eq!(from_hex(""), Some(Vec::new()));
        for wrong in ["0", "0g", "AB", "0x", " 00", "ä"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
