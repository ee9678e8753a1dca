//! Who sends a request: the headers of its signature, and whether they hold.
//!
//! Nothing is normalised: what is verified are the very bytes that came. The window keeps a captured request from being
//! used for long; what keeps it from executing twice is the replicated memory of request ids, not this module.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::{digest, hmac, signature};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, HeaderName};
use secrecy::ExposeSecret;
use types::{AccountId, Key, KeyId, KeyMaterial, Scopes, Timestamp};
use wire::errors::Refusal;
use wire::signing::{
    self, HEADER_KEY, HEADER_REQUEST_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, HEADER_WINDOW, WINDOW_MS_DEFAULT,
    WINDOW_MS_MAX,
};

use crate::failure::Failure;
use crate::sealing::SealingKey;

const MILLISECOND_NS: u64 = 1_000_000;
/// Secrets that may be open at the same time.
const SECRETS_OPEN_MAX: usize = 16_384;

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account for which the key acts.
    pub account: AccountId,
    /// The key.
    pub key: KeyId,
    /// What it may do.
    pub scopes: Scopes,
}

/// The headers of a signature, each of its form, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureHeaders {
    /// The key.
    pub key: KeyId,
    /// The client's time, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// By how much it may differ from the node's.
    pub window_ms: u64,
    /// The signature.
    pub signature: Vec<u8>,
}

impl SignatureHeaders {
    /// Reads the headers of a request.
    pub fn read(headers: &HeaderMap) -> Result<Self, Failure> {
        let invalid = |name: &str| Failure::new(Refusal::AuthHeaderInvalid).field(name);
        let number = |name: &'static str| match single(headers, name)? {
            None => Ok(None),
            Some(text) => match wire::json::NumberText(text.to_owned()).number() {
                Some(number) => Ok(Some(number)),
                None => Err(invalid(name)),
            },
        };
        let missing = |name: &str| Failure::new(Refusal::AuthHeaderMissing).field(name);
        // Duplicates are told first, whatever else is wrong.
        let key = number(HEADER_KEY)?.ok_or_else(|| missing(HEADER_KEY))?;
        let timestamp_ms = number(HEADER_TIMESTAMP)?.ok_or_else(|| missing(HEADER_TIMESTAMP))?;
        let window_ms = number(HEADER_WINDOW)?.unwrap_or(WINDOW_MS_DEFAULT);
        let signature = single(headers, HEADER_SIGNATURE)?.ok_or_else(|| missing(HEADER_SIGNATURE))?;
        let key = u32::try_from(key).map_err(|_| invalid(HEADER_KEY))?;
        if window_ms == 0 || window_ms > WINDOW_MS_MAX {
            return Err(invalid(HEADER_WINDOW));
        }
        let signature = signing::from_hex(signature).ok_or_else(|| invalid(HEADER_SIGNATURE))?;
        Ok(Self {
            key: KeyId(key),
            timestamp_ms,
            window_ms,
            signature,
        })
    }

    /// Refuses a request whose time differs from the node's by more than its window.
    pub fn check_time(&self, now: Timestamp) -> Result<(), Failure> {
        let now_ms = now.0 / MILLISECOND_NS;
        if now_ms.abs_diff(self.timestamp_ms) <= self.window_ms {
            return Ok(());
        }
        let detail = format!("the node's time is {now_ms} ms");
        Err(Failure::new(Refusal::TimestampOutsideWindow)
            .field(HEADER_TIMESTAMP)
            .detail(detail))
    }
}

/// The value of a header that may be given once at most; none if it is not given.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(HeaderName::from_static(name)).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Failure::new(Refusal::AuthHeaderDuplicate).field(name));
    }
    let Some(value) = first else {
        return Ok(None);
    };
    let text = value.to_str();
    text.map(Some)
        .map_err(|_| Failure::new(Refusal::AuthHeaderInvalid).field(name))
}

/// The `Meridian-Request-Id` header, if there is one.
pub fn request_id_header(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    single(headers, HEADER_REQUEST_ID)
}

/// Refuses a request whose body is not sent as it is.
pub fn check_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(Failure::new(Refusal::ContentEncodingRefused).field("content-encoding"));
    }
    Ok(())
}

/// SHA-256 of a body.
pub fn sha256(body: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, body);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Keys that are ready to verify with: an HMAC secret is opened once, not with each request. It verifies for the very key
/// that it was opened for, and stays in memory until another one takes its place or there are too many.
#[derive(Default)]
pub struct Verifiers {
    secrets: RwLock<HashMap<KeyId, Opened>>,
}

/// An opened secret, and the key that it was opened for.
struct Opened {
    key: Arc<Key>,
    secret: hmac::Key,
}

impl Verifiers {
    /// Verifies a signature over a text, in constant time.
    pub fn verify(&self, key: &Arc<Key>, sealing: &SealingKey, signature: &[u8], text: &[u8]) -> Result<(), Failure> {
        let holds = match &key.material {
            KeyMaterial::Ed25519(public) => signature::UnparsedPublicKey::new(&signature::ED25519, public)
                .verify(text, signature)
                .is_ok(),
            KeyMaterial::HmacSha256 { sealed } => match self.verify_opened(key, signature, text) {
                Some(holds) => holds,
                None => self.open(key, sealing, sealed, signature, text)?,
            },
        };
        if holds {
            Ok(())
        } else {
            Err(Failure::new(Refusal::SignatureWrong).field(HEADER_SIGNATURE))
        }
    }

    /// Whether the signature holds; none if the key's secret is not open.
    fn verify_opened(&self, key: &Arc<Key>, signature: &[u8], text: &[u8]) -> Option<bool> {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let opened = secrets.get(&key.id).filter(|opened| Arc::ptr_eq(&opened.key, key))?;
        Some(hmac::verify(&opened.secret, text, signature).is_ok())
    }

    /// Opens a key's secret, and keeps it if the signature holds: whoever can't sign leaves nothing behind.
    fn open(
        &self,
        key: &Arc<Key>,
        sealing: &SealingKey,
        sealed: &[u8],
        signature: &[u8],
        text: &[u8],
    ) -> Result<bool, Failure> {
        let secret = sealing.unseal(sealed).map_err(|error| {
            tracing::error!(key = %key.id, %error, "a key's secret could not be opened");
            Failure::new(Refusal::KeyNotAccepted).field(HEADER_KEY)
        })?;
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret());
        let holds = hmac::verify(&secret, text, signature).is_ok();
        if holds {
            let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
            if secrets.len() >= SECRETS_OPEN_MAX {
                secrets.clear();
            }
            let key = Arc::clone(key);
            secrets.insert(key.id, Opened { key, secret });
        }
        Ok(holds)
    }
}

impl std::fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifiers(..)")
    }
}

/// The caller of a key, if the key is active and has the scope.
pub fn caller(key: &Key, scope: Scopes) -> Result<Caller, Failure> {
    if !key.scopes.contains(scope) {
        let names: Vec<_> = wire::json::Scope::list(scope)
            .into_iter()
            .map(|scope| format!("{scope:?}").to_lowercase())
            .collect();
        let detail = format!("it needs the scope {}", names.join(" and "));
        return Err(Failure::new(Refusal::ScopeMissing).field(HEADER_KEY).detail(detail));
    }
    Ok(Caller {
        account: key.account,
        key: key.id,
        scopes: key.scopes,
    })
}
