//! Sealing of HMAC secrets: what is sequenced, and so ends up in journals, snapshots and the event log, is ciphertext.
//!
//! The sealing key stays with the node: whoever has the data folder without it can't sign as anybody.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use secrecy::{ExposeSecret, SecretBox};
use types::ClusterId;
use types::limits::SEALED_SECRET_BYTES_MAX;
use wire::signing::HMAC_SHA256_BYTES;

/// The length of the key in its file, in bytes.
pub const SEALING_KEY_BYTES: usize = 32;

const TAG_BYTES: usize = 16;
const _: () = assert!(NONCE_LEN + HMAC_SHA256_BYTES + TAG_BYTES <= SEALED_SECRET_BYTES_MAX);

/// A secret of an HMAC key. Wiped when dropped, never shown by `Debug`.
pub type HmacSecret = SecretBox<[u8; HMAC_SHA256_BYTES]>;

/// What seals the secrets of a cluster's HMAC keys: AES-256-GCM, bound to the cluster's id.
pub struct SealingKey {
    key: LessSafeKey,
    cluster_id: ClusterId,
}

/// Why a secret was not sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// The system gave no random bytes.
    #[error("draw random bytes from the system")]
    Random,
    /// The bytes were not sealed by this key for this cluster.
    #[error("open a sealed secret: it was not sealed by this node's key for this cluster")]
    NotSealedHere,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

impl SealingKey {
    /// The key of these bytes.
    pub fn new(bytes: &[u8; SEALING_KEY_BYTES], cluster_id: ClusterId) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("the length is that of an AES-256 key");
        Self {
            key: LessSafeKey::new(key),
            cluster_id,
        }
    }

    /// Fresh random bytes for a key's file.
    pub fn generate() -> Result<SecretBox<[u8; SEALING_KEY_BYTES]>, SealingError> {
        random_secret()
    }

    /// A fresh random secret for an HMAC key.
    pub fn generate_secret() -> Result<HmacSecret, SealingError> {
        random_secret()
    }

    /// Seals a secret: nonce, ciphertext, tag.
    pub fn seal(&self, secret: &HmacSecret) -> Result<Vec<u8>, SealingError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealingError::Random)?;
        let mut sealed = secret.expose_secret().to_vec();
        let bound = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(bound, self.context(), &mut sealed)
            .map_err(|_| SealingError::Random)?;
        sealed.splice(0..0, nonce);
        Ok(sealed)
    }

    /// Opens a sealed secret.
    pub fn unseal(&self, sealed: &[u8]) -> Result<HmacSecret, SealingError> {
        let (nonce, ciphertext) = sealed
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealingError::NotSealedHere)?;
        let mut buffer = ciphertext.to_vec();
        let opened = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), self.context(), &mut buffer)
            .map_err(|_| SealingError::NotSealedHere)?;
        let opened: [u8; HMAC_SHA256_BYTES] = (&*opened).try_into().map_err(|_| SealingError::NotSealedHere)?;
        Ok(SecretBox::new(Box::new(opened)))
    }

    fn context(&self) -> Aad<Vec<u8>> {
        let mut context = b"meridian hmac secret 1 ".to_vec();
        context.extend_from_slice(self.cluster_id.as_bytes());
        Aad::from(context)
    }
}

fn random_secret() -> Result<SecretBox<[u8; 32]>, SealingError> {
    let mut bytes = Box::new([0; 32]);
    rand::fill(&mut *bytes).map_err(|_| SealingError::Random)?;
    Ok(SecretBox::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_where_it_was_sealed() {
        let key = SealingKey::new(&[7; 32], "one".parse().unwrap());
        let secret = SealingKey::generate_secret().unwrap();
        let sealed = key.seal(&secret).unwrap();
        assert_eq!(key.unseal(&sealed).unwrap().expose_secret(), secret.expose_secret());
        assert_ne!(sealed, key.seal(&secret).unwrap(), "nonces differ");

        let other_cluster = SealingKey::new(&[7; 32], "two".parse().unwrap());
        let other_key = SealingKey::new(&[8; 32], "one".parse().unwrap());
        for wrong in [&other_cluster, &other_key] {
            assert_eq!(wrong.unseal(&sealed).err(), Some(SealingError::NotSealedHere));
        }
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert_eq!(key.unseal(&altered).err(), Some(SealingError::NotSealedHere), "{index}");
        }
        for cut in 0..sealed.len() {
            assert!(key.unseal(&sealed[..cut]).is_err(), "{cut}");
        }
    }
}
