//! Keys: a number that names the key to the exchange, and the secret that signs.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use aws_lc_rs::{hmac, rand};
use thiserror::Error;
use types::{KeyId, ParseIdError};
use wire::signing::{from_hex, to_hex};

/// The length of an Ed25519 seed, and of an HMAC secret that this crate makes, in bytes.
const SECRET_BYTES: usize = 32;
/// The shortest and the longest HMAC secret, in bytes.
const HMAC_SECRET_BYTES_MIN: usize = 32;
const HMAC_SECRET_BYTES_MAX: usize = 64;

/// What signs requests. Written `ed25519:HEX` (the 32 bytes of the private key, RFC 8032's seed) or `hmac:HEX`.
///
/// Never shown by `Debug`; [`Secret::reveal`] writes it out.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// An Ed25519 private key.
    Ed25519([u8; SECRET_BYTES]),
    /// A secret shared with the exchange.
    HmacSha256(Vec<u8>),
}

/// Why a text is not a secret or a pair of key and secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CredentialsError {
    /// Not of the form `ed25519:…` or `hmac:…`.
    #[error("the secret is not of the form ed25519:HEX or hmac:HEX")]
    Form,
    /// Not lower-case hex, or of the wrong length.
    #[error("the secret is not 32 bytes in lower-case hex (hmac: 32 to 64 bytes)")]
    Bytes,
    /// The key is not a number.
    #[error("the key is not a number such as 3")]
    Key,
}

impl Secret {
    /// A new Ed25519 key from the operating system's randomness.
    pub fn generate_ed25519() -> Self {
        Self::Ed25519(random_bytes())
    }

    /// A new HMAC secret from the operating system's randomness.
    pub fn generate_hmac() -> Self {
        Self::HmacSha256(random_bytes::<SECRET_BYTES>().to_vec())
    }

    /// The secret as text, for a file that only its owner can read.
    pub fn reveal(&self) -> String {
        match self {
            Self::Ed25519(seed) => format!("ed25519:{}", to_hex(seed)),
            Self::HmacSha256(secret) => format!("hmac:{}", to_hex(secret)),
        }
    }

    /// The public key that the exchange verifies with; none for HMAC.
    pub fn public_key(&self) -> Option<[u8; 32]> {
        match self {
            Self::Ed25519(seed) => {
                let public = key_pair(seed).public_key().as_ref().try_into();
                Some(public.expect("an Ed25519 public key has 32 bytes"))
            }
            Self::HmacSha256(_) => None,
        }
    }

    /// The signature of a message: 64 bytes (Ed25519) or 32 (HMAC-SHA256).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(seed) => key_pair(seed).sign(message).as_ref().to_vec(),
            Self::HmacSha256(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
        }
    }
}

impl FromStr for Secret {
    type Err = CredentialsError;

    fn from_str(text: &str) -> Result<Self, CredentialsError> {
        let (kind, encoded) = text.trim().split_once(':').ok_or(CredentialsError::Form)?;
        let bytes = from_hex(encoded).ok_or(CredentialsError::Bytes)?;
        match kind {
            "ed25519" => Ok(Self::Ed25519(bytes.try_into().map_err(|_| CredentialsError::Bytes)?)),
            "hmac" if (HMAC_SECRET_BYTES_MIN..=HMAC_SECRET_BYTES_MAX).contains(&bytes.len()) => {
                Ok(Self::HmacSha256(bytes))
            }
            "hmac" => Err(CredentialsError::Bytes),
            _ => Err(CredentialsError::Form),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519(_) => "Secret(ed25519)",
            Self::HmacSha256(_) => "Secret(hmac)",
        })
    }
}

/// A key and its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The key, as in the `Meridian-Key` header.
    pub key: KeyId,
    /// Its secret.
    pub secret: Secret,
}

impl Credentials {
    /// Takes both as text.
    pub fn parse(key: &str, secret: &str) -> Result<Self, CredentialsError> {
        let key = key.trim().parse().map_err(|ParseIdError| CredentialsError::Key)?;
        Ok(Self {
            key,
            secret: secret.parse()?,
        })
    }
}

fn key_pair(seed: &[u8; SECRET_BYTES]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed")
}

/// Bytes from the operating system.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ed25519_signs_as_in_rfc_8032() {
        // RFC 8032, section 7.1, test 2.
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let seed = from_hex(seed).unwrap();
        let secret = Secret::Ed25519(seed.try_into().unwrap());
        assert_eq!(
            to_hex(&secret.public_key().unwrap()),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        assert_eq!(
            to_hex(&secret.sign(&[0x72])),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
    }

    #[test]
    fn hmac_signs_as_in_rfc_4231() {
        // RFC 4231, section 4.2, test case 1, whose 20-byte key can only be made here, not parsed.
        let secret = Secret::HmacSha256(vec![0x0b; 20]);
        assert_eq!(
            to_hex(&secret.sign(b"Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(secret.public_key(), None);
    }

    #[test]
    fn secrets_go_through_their_text() {
        for secret in [Secret::generate_ed25519(), Secret::generate_hmac()] {
            assert_eq!(secret.reveal().parse(), Ok(secret.clone()));
            assert!(!format!("{secret:?}").contains(&secret.reveal()[8..]));
        }
        for (text, wanted) in [
            ("", CredentialsError::Form),
            ("rsa:abcd", CredentialsError::Form),
            ("ed25519:abcd", CredentialsError::Bytes),
            ("hmac:abcd", CredentialsError::Bytes),
            ("hmac:!", CredentialsError::Bytes),
        ] {
            assert_eq!(text.parse::<Secret>(), Err(wanted), "{text}");
        }
        assert_eq!(Credentials::parse("x", "hmac:").unwrap_err(), CredentialsError::Key);
    }
}
