//! Operators' requests. Every one that changes something is sequenced under its `Meridian-Request-Id`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account::Balance;
use super::market::{Instrument, InstrumentRules};
use super::scalar::{
    AccountStatus, AppliesTo, DecimalText, DurableIn, InstrumentStatus, NumberText, Outcome, Position, Times,
};

/// A new asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssetRequest {
    /// Its name, 1 to 24 of `[A-Z0-9._-]`.
    #[schema(examples("USD"))]
    pub symbol: String,
    /// Digits after the point of its smallest unit, 0 to 12.
    #[schema(maximum = 12)]
    pub decimals: u8,
}

/// A new instrument, which starts out halted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstrumentRequest {
    /// Its name, 1 to 24 of `[A-Z0-9._-]`.
    #[schema(examples("BTC-USD"))]
    pub symbol: String,
    /// What is bought and sold.
    pub base: String,
    /// What it is paid with.
    pub quote: String,
    /// Its rules.
    pub rules: InstrumentRules,
}

/// Trade, halt or close an instrument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstrumentStatusRequest {
    /// What it becomes. Closing is for good and cancels its orders.
    pub status: InstrumentStatus,
}

/// Let an account trade, only cancel, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountStatusRequest {
    /// What it becomes. `suspended` cancels its orders.
    pub status: AccountStatus,
}

/// Money in or out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// Whose balance.
    #[schema(examples("2"))]
    pub account_id: String,
    /// Of what.
    #[schema(examples("USD"))]
    pub asset: String,
    /// How much, positive.
    pub amount: DecimalText,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See the account's own orders, fills and balances.
    Read,
    /// Place, replace and cancel orders.
    Trade,
    /// The operators' requests.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::Read, Self::Trade, Self::Admin];

    /// The scope alone, as the exchange keeps it.
    pub fn bit(self) -> types::Scopes {
        match self {
            Self::Read => types::Scopes::READ,
            Self::Trade => types::Scopes::TRADE,
            Self::Admin => types::Scopes::ADMIN,
        }
    }

    /// The scopes in a set.
    pub fn list(scopes: types::Scopes) -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|scope| scopes.contains(scope.bit()))
            .collect()
    }
}

/// How requests of a key are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// Ed25519: the server keeps the public key only.
    Ed25519,
    /// HMAC-SHA256 with a secret that the server makes and shows once.
    HmacSha256,
}

/// A new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// For which account it acts; 0 for an admin key.
    #[schema(examples("2"))]
    pub account_id: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// How its requests are signed.
    #[serde(rename = "type")]
    pub key_type: KeyType,
    /// The public key of an Ed25519 key, 32 bytes in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// Cancel all orders of one account, or of one instrument, or of both together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelAllForRequest {
    /// Whose; everybody's if left out. At least one of the two is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// Of what; everything if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
}

/// The limits that requests are executed by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Raised by 1 with each change.
    pub version: u32,
    /// How long a request id is remembered at least, in nanoseconds.
    pub request_window_ns: NumberText,
    /// How many bytes the memory of request ids may take.
    pub request_memory_bytes_max: NumberText,
    /// How many orders an account may have open.
    pub open_orders_per_account_max: u32,
    /// How many orders may be open in the whole group.
    pub open_orders_max: u32,
    /// How many accounts there may be.
    pub accounts_max: u32,
    /// How many instruments there may be.
    pub instruments_max: u32,
    /// How many active keys an account may have.
    pub keys_per_account_max: u32,
    /// How many orders one command may expire or cancel on its way; the rest follows with the next command.
    pub expiries_per_command_max: u32,
}

impl From<&types::Rules> for Rules {
    fn from(rules: &types::Rules) -> Self {
        Self {
            version: rules.version,
            request_window_ns: rules.request_window_ns.into(),
            request_memory_bytes_max: rules.request_memory_bytes_max.into(),
            open_orders_per_account_max: rules.open_orders_per_account_max,
            open_orders_max: rules.open_orders_max,
            accounts_max: rules.accounts_max,
            instruments_max: rules.instruments_max,
            keys_per_account_max: rules.keys_per_account_max,
            expiries_per_command_max: rules.expiries_per_command_max,
        }
    }
}

impl Rules {
    /// The limits as the exchange keeps them, if the numbers are spelt as they should be.
    pub fn rules(&self) -> Option<types::Rules> {
        Some(types::Rules {
            version: self.version,
            request_window_ns: self.request_window_ns.number()?,
            request_memory_bytes_max: self.request_memory_bytes_max.number()?,
            open_orders_per_account_max: self.open_orders_per_account_max,
            open_orders_max: self.open_orders_max,
            accounts_max: self.accounts_max,
            instruments_max: self.instruments_max,
            keys_per_account_max: self.keys_per_account_max,
            expiries_per_command_max: self.expiries_per_command_max,
        })
    }
}

/// An asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Asset {
    /// Its name.
    pub symbol: String,
    /// Digits after the point of its smallest unit.
    pub decimals: u8,
}

impl From<&types::Asset> for Asset {
    fn from(asset: &types::Asset) -> Self {
        Self {
            symbol: asset.symbol.to_string(),
            decimals: asset.decimals,
        }
    }
}

/// All assets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assets {
    /// The assets, in the order of their creation.
    pub assets: Vec<Asset>,
    /// Up to where it knows.
    pub position: Position,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// Its id.
    #[schema(examples("2"))]
    pub account_id: String,
    /// Whether it may trade.
    pub status: AccountStatus,
}

impl From<&types::Account> for Account {
    fn from(account: &types::Account) -> Self {
        Self {
            account_id: account.id.to_string(),
            status: account.status.into(),
        }
    }
}

/// A page of accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accounts {
    /// The accounts, in the order of their creation.
    pub accounts: Vec<Account>,
    /// Give this as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
    /// Up to where the page knows.
    pub position: Position,
}

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Its id, which travels in the `Meridian-Key` header.
    #[schema(examples("1"))]
    pub key_id: String,
    /// For which account it acts.
    pub account_id: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// How its requests are signed.
    #[serde(rename = "type")]
    pub key_type: KeyType,
    /// The public key of an Ed25519 key, in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// False once revoked.
    pub active: bool,
}

impl From<&types::Key> for Key {
    fn from(key: &types::Key) -> Self {
        let (key_type, public_key) = match &key.material {
            types::KeyMaterial::Ed25519(public) => (KeyType::Ed25519, Some(crate::signing::to_hex(public))),
            types::KeyMaterial::HmacSha256 { .. } => (KeyType::HmacSha256, None),
        };
        Self {
            key_id: key.id.to_string(),
            account_id: key.account.to_string(),
            scopes: Scope::list(key.scopes),
            key_type,
            public_key,
            active: key.active,
        }
    }
}

/// A page of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Keys {
    /// The keys, in the order of their creation.
    pub keys: Vec<Key>,
    /// Give this as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
    /// Up to where the page knows.
    pub position: Position,
}

/// The answer to an operator's request. What the request made or changed is given under its own key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminAnswer {
    /// What became of the request.
    pub outcome: Outcome,
    /// What the outcome speaks of.
    pub applies_to: AppliesTo,
    /// True if the same request was answered before: this is the first answer.
    pub repeat: bool,
    /// The request's id.
    pub request_id: String,
    /// Where the request was sequenced.
    pub position: Position,
    /// Where its effects are durable.
    pub durable_in: DurableIn,
    /// When.
    pub times: Times,
    /// The asset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset: Option<Asset>,
    /// The instrument after the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<Instrument>,
    /// The account after the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// The balance after the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Balance>,
    /// The key after the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// The secret of a new HMAC key, 32 bytes in lower-case hex. Shown in the answer to its creation alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The limits after the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Rules>,
    /// The engine version that is in force now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<u16>,
    /// How many orders were cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_count: Option<u32>,
}
