//! The headers of a signed request, and the login of a WebSocket session.

use aws_lc_rs::digest::{SHA256, digest};
use types::ClusterId;
use wire::signing::{
    HEADER_KEY, HEADER_REQUEST_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, HEADER_WINDOW, SignedRequest, login_text, to_hex,
};
use wire::ws::Login;

use crate::credentials::Credentials;

/// A request as it will be sent, byte for byte.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// Path and query, exactly as they will stand in the request line.
    pub target: &'a str,
    /// The request's id, or a new order's `client_order_id`; empty for a request that changes nothing.
    pub request_id: &'a str,
    /// The body; empty if there is none.
    pub body: &'a [u8],
}

/// When a request was signed, and for how long that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedAt {
    /// Milliseconds since 1970, UTC.
    pub timestamp_ms: u64,
    /// By how much the node's time may differ from that, in milliseconds.
    pub window_ms: u64,
}

impl Credentials {
    /// The headers that make the request one of this key's. Names are in lower case.
    pub fn headers(
        &self,
        cluster: &ClusterId,
        request: &RequestParts<'_>,
        at: SignedAt,
    ) -> Vec<(&'static str, String)> {
        let hash = digest(&SHA256, request.body);
        let text = SignedRequest {
            cluster,
            key: self.key,
            timestamp_ms: at.timestamp_ms,
            window_ms: at.window_ms,
            request_id: request.request_id,
            method: request.method,
            target: request.target,
            body_sha256: hash.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        }
        .text();
        let mut headers = vec![
            (HEADER_KEY, self.key.to_string()),
            (HEADER_TIMESTAMP, at.timestamp_ms.to_string()),
            (HEADER_WINDOW, at.window_ms.to_string()),
            (HEADER_SIGNATURE, to_hex(&self.secret.sign(text.as_bytes()))),
        ];
        if !request.request_id.is_empty() {
            headers.push((HEADER_REQUEST_ID, request.request_id.to_owned()));
        }
        headers
    }

    /// The login of a WebSocket session whose server sent this nonce.
    pub fn login(&self, cluster: &ClusterId, nonce: &str) -> Login {
        let text = login_text(cluster, self.key, nonce);
        Login {
            key: self.key.to_string(),
            signature: to_hex(&self.secret.sign(text.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;
    use types::KeyId;

    const BODY: &[u8] = br#"{"client_order_id":"a-1"}"#;

    fn headers_of(secret: Secret) -> Vec<(&'static str, String)> {
        let credentials = Credentials { key: KeyId(7), secret };
        let request = RequestParts {
            method: "POST",
            target: "/v1/orders",
            request_id: "a-1",
            body: BODY,
        };
        let at = SignedAt {
            timestamp_ms: 1_700_000_000_000,
            window_ms: 5_000,
        };
        credentials.headers(&"demo-1".parse().unwrap(), &request, at)
    }

    /// Computed with Python's `hashlib`, `hmac` and `cryptography` over the text that `wire::signing` documents.
    #[test]
    fn requests_are_signed_as_other_implementations_do() {
        for (secret, signature) in [
            (
                Secret::HmacSha256((0..32).collect()),
                "831033ec3b61d140e061401385c45a4e190749af71c86f14f1c5870e3eaf596c",
            ),
            (
                Secret::Ed25519(std::array::from_fn(|index| u8::try_from(index).unwrap())),
                "9cf11535bbadec51e15ed0c00554829d3587d47a24423efbe01615aea7ac6783ea5f7efd7757c3e835f24806f0a4e0d6564a9fe8d331e0a90c73c3fbbb839204",
            ),
        ] {
            let headers = headers_of(secret);
            assert_eq!(headers[0], ("meridian-key", "7".to_owned()));
            assert_eq!(headers[1], ("meridian-timestamp", "1700000000000".to_owned()));
            assert_eq!(headers[2], ("meridian-window", "5000".to_owned()));
            assert_eq!(headers[3], ("meridian-signature", signature.to_owned()));
            assert_eq!(headers[4], ("meridian-request-id", "a-1".to_owned()));
        }
    }

    #[test]
    fn a_login_signs_the_nonce() {
        let credentials = Credentials {
            key: KeyId(7),
            secret: Secret::HmacSha256((0..32).collect()),
        };
        let login = credentials.login(&"demo-1".parse().unwrap(), "00ff");
        assert_eq!(login.key, "7");
        assert_eq!(
            login.signature,
            "3947677db467d72b5f0f3248e8b403b9fc6abc97210eddcb89f68f5959739333"
        );
    }
}
