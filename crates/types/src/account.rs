//! Accounts, their balances and their API keys.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountId, AssetId, KeyId};
use crate::money::Amount;

/// An account: an opaque number and whether it may trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Whether it may trade.
    pub status: AccountStatus,
}

/// Whether an account may trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum AccountStatus {
    /// It trades.
    Active,
    /// It may only cancel.
    CancelOnly,
    /// Killed: nothing is taken from it; its orders were cancelled.
    Suspended,
}

/// What an account holds of one asset. The total is `available` + `held`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Whose.
    pub account: AccountId,
    /// Of what.
    pub asset: AssetId,
    /// Free to trade or withdraw.
    pub available: Amount,
    /// Set aside for open orders.
    pub held: Amount,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes(pub u8);

impl Scopes {
    /// See the account's own orders, fills and balances.
    pub const READ: Self = Self(1);
    /// Place, replace and cancel orders.
    pub const TRADE: Self = Self(2);
    /// The operators' requests.
    pub const ADMIN: Self = Self(4);

    /// True if all of `wanted` are among these.
    pub fn contains(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// These and `other`.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How requests of a key are verified.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyMaterial {
    /// An Ed25519 public key (RFC 8032), 32 bytes.
    Ed25519([u8; 32]),
    /// An HMAC-SHA256 secret, sealed by the gateway before it was sequenced; the engine can't read it.
    HmacSha256 {
        /// The sealed secret: nonce, ciphertext, tag. At most [`crate::limits::SEALED_SECRET_BYTES_MAX`] bytes.
        sealed: Vec<u8>,
    },
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519(_) => "Ed25519(..)",
            Self::HmacSha256 { .. } => "HmacSha256(..)",
        })
    }
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its id, which travels in the `Meridian-Key` header.
    pub id: KeyId,
    /// For which account it acts. Admin keys act for [`AccountId::OPERATOR`].
    pub account: AccountId,
    /// What it may do.
    pub scopes: Scopes,
    /// How its requests are verified.
    pub material: KeyMaterial,
    /// False once revoked; a revoked key is kept, so that its id is never reused.
    pub active: bool,
}
