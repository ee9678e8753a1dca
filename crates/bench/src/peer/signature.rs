//! Who sends a request: the same headers and the same signed text as at Meridian, verified with the same library.

use std::collections::HashMap;

use aws_lc_rs::{digest, hmac, signature};
use http::HeaderMap;
use types::{AccountId, ClusterId, KeyId, RequestId, Timestamp};
use wire::errors::Refusal;
use wire::json::NumberText;
use wire::signing::{
    HEADER_KEY, HEADER_REQUEST_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, HEADER_WINDOW, SignedRequest, WINDOW_MS_DEFAULT,
    WINDOW_MS_MAX, from_hex,
};

use super::refused::Refused;
use super::schema::{Key, Material};

const MILLISECOND_NS: u64 = 1_000_000;

/// A key as it verifies.
enum Verifier {
    /// Boxed: it holds the state of two hashes.
    Hmac(Box<hmac::Key>),
    Ed25519(signature::UnparsedPublicKey<Vec<u8>>),
}

/// All keys, in memory: no request asks the database who it is from.
pub(super) struct Keys {
    cluster: ClusterId,
    keys: HashMap<KeyId, (AccountId, Verifier)>,
}

/// A request as it came, for its signature.
pub(super) struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub headers: &'a HeaderMap,
    /// A new order's `client_order_id`, or what [`request_id`] read.
    pub request_id: &'a str,
    pub body_sha256: &'a [u8; 32],
}

impl Keys {
    pub fn new(cluster: ClusterId, keys: Vec<Key>) -> Self {
        let verifier = |material| match material {
            Material::Hmac(secret) => Verifier::Hmac(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &secret))),
            Material::Ed25519(public) => {
                Verifier::Ed25519(signature::UnparsedPublicKey::new(&signature::ED25519, public))
            }
        };
        let keys = keys
            .into_iter()
            .map(|key| (key.key, (key.account, verifier(key.material))));
        Self {
            cluster,
            keys: keys.collect(),
        }
    }

    /// The account that the request is from, if its time and its signature hold.
    pub fn verify(&self, request: &Request<'_>, now: Timestamp) -> Result<AccountId, Refused> {
        let headers = request.headers;
        let key = number(headers, HEADER_KEY)?.ok_or_else(|| missing(HEADER_KEY))?;
        let timestamp_ms = number(headers, HEADER_TIMESTAMP)?.ok_or_else(|| missing(HEADER_TIMESTAMP))?;
        let window_ms = number(headers, HEADER_WINDOW)?.unwrap_or(WINDOW_MS_DEFAULT);
        let given = single(headers, HEADER_SIGNATURE)?.ok_or_else(|| missing(HEADER_SIGNATURE))?;
        let key = u32::try_from(key).map(KeyId).map_err(|_| invalid(HEADER_KEY))?;
        if !(1..=WINDOW_MS_MAX).contains(&window_ms) {
            return Err(invalid(HEADER_WINDOW));
        }
        let given = from_hex(given).ok_or_else(|| invalid(HEADER_SIGNATURE))?;
        if (now.0 / MILLISECOND_NS).abs_diff(timestamp_ms) > window_ms {
            return Err(Refused::new(Refusal::TimestampOutsideWindow).field(HEADER_TIMESTAMP));
        }
        let known = self.keys.get(&key);
        let (account, verifier) = known.ok_or_else(|| Refused::new(Refusal::KeyNotAccepted).field(HEADER_KEY))?;
        let text = SignedRequest {
            cluster: &self.cluster,
            key,
            timestamp_ms,
            window_ms,
            request_id: request.request_id,
            method: request.method,
            target: request.target,
            body_sha256: request.body_sha256,
        }
        .text();
        let holds = match verifier {
            Verifier::Hmac(secret) => hmac::verify(secret, text.as_bytes(), &given).is_ok(),
            Verifier::Ed25519(public) => public.verify(text.as_bytes(), &given).is_ok(),
        };
        if holds {
            Ok(*account)
        } else {
            Err(Refused::new(Refusal::SignatureWrong).field(HEADER_SIGNATURE))
        }
    }

    /// The cluster id that is part of every signature.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }
}

/// The `Meridian-Request-Id` header of a request that needs one.
pub(super) fn request_id(headers: &HeaderMap) -> Result<RequestId, Refused> {
    let text = single(headers, HEADER_REQUEST_ID)?;
    let text = text.ok_or_else(|| Refused::new(Refusal::RequestIdMissing).field(HEADER_REQUEST_ID))?;
    text.parse()
        .map_err(|_| Refused::new(Refusal::RequestIdInvalid).field(HEADER_REQUEST_ID))
}

/// SHA-256 of a body.
pub(super) fn sha256(body: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, body);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The value of a header that may be given once at most.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Refused::new(Refusal::AuthHeaderDuplicate).field(name));
    }
    let text = first.map(|value| value.to_str().map_err(|_| invalid(name)));
    text.transpose()
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Refused> {
    let text = single(headers, name)?;
    let number = text.map(|text| NumberText(text.to_owned()).number().ok_or_else(|| invalid(name)));
    number.transpose()
}

fn missing(name: &str) -> Refused {
    Refused::new(Refusal::AuthHeaderMissing).field(name)
}

fn invalid(name: &str) -> Refused {
    Refused::new(Refusal::AuthHeaderInvalid).field(name)
}
