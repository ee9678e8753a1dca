//! What the operator does to open a market, always through the reference client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use client::{ClientError, Credentials, Endpoint, RestClient, RetryPolicy, Secret};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use types::AccountId;
use wire::json::{self, DecimalText, InstrumentRules, InstrumentStatus, KeyType, Scope};

/// The instrument that is traded where one is enough.
pub const SYMBOL: &str = "AAA-BBB";
/// The asset that is traded there.
pub const BASE: &str = "AAA";
/// The asset that it is paid with.
pub const QUOTE: &str = "BBB";
/// What each account gets of each asset.
const DEPOSIT: &str = "100000.00";

/// How long to try when the answer must be found: longer than any start of the node.
pub fn patient() -> RetryPolicy {
    RetryPolicy {
        attempt_timeout: Duration::from_secs(10),
        give_up_after: Duration::from_secs(60),
        wait_first: Duration::from_millis(5),
        wait_longest: Duration::from_millis(200),
        ..RetryPolicy::default()
    }
}

/// A client that isn't anybody yet.
///
/// # Errors
/// What the client says.
pub async fn connect(address: SocketAddr, policy: RetryPolicy) -> Result<RestClient, ClientError> {
    RestClient::connect(Endpoint::parse(&format!("http://{address}"))?, None, policy).await
}

/// The operator.
#[derive(Debug)]
pub struct Operator {
    rest: RestClient,
    name: String,
    count: u64,
}

/// An account, and the key that trades for it.
#[derive(Clone, Debug)]
pub struct Trader {
    /// Its number.
    pub account: AccountId,
    /// The key.
    pub credentials: Credentials,
    /// What it was given, by asset.
    pub deposits: BTreeMap<String, DecimalText>,
}

impl Operator {
    /// Signs in with an operator's key.
    ///
    /// # Errors
    /// What the client says.
    pub async fn connect(address: SocketAddr, admin: Credentials) -> Result<Self, ClientError> {
        Self::named("operator", address, admin).await
    }

    /// As [`Operator::connect`]; what it asks goes by this name, which no other operator with its key has.
    ///
    /// # Errors
    /// What the client says.
    pub async fn named(name: &str, address: SocketAddr, admin: Credentials) -> Result<Self, ClientError> {
        let rest = connect(address, patient()).await?.with_credentials(admin);
        Ok(Self {
            rest,
            name: name.to_owned(),
            count: 0,
        })
    }

    /// The group, as the node that is asked knows it.
    ///
    /// # Errors
    /// What the client says.
    pub async fn cluster(&self) -> Result<json::ClusterStatus, ClientError> {
        self.rest.read("/v1/admin/cluster").await
    }

    /// Lets a node into the group, as a voter to be.
    ///
    /// # Errors
    /// What the client says.
    pub async fn add_voter(&mut self, node: u64, address: String) -> Result<json::ClusterStatus, ClientError> {
        self.add_member(node, address, json::NewMemberRole::Voter).await
    }

    /// Lets a node into the group.
    ///
    /// # Errors
    /// What the client says.
    pub async fn add_member(
        &mut self,
        node: u64,
        address: String,
        role: json::NewMemberRole,
    ) -> Result<json::ClusterStatus, ClientError> {
        let request = json::MemberRequest { node, address, role };
        self.ask(Method::POST, "/v1/admin/cluster/members", Some(&request))
            .await
    }

    /// Has the leader hand leadership over.
    ///
    /// # Errors
    /// What the client says.
    pub async fn transfer_leadership(&mut self, to: Option<u64>) -> Result<json::ClusterStatus, ClientError> {
        let request = json::LeaderRequest { to };
        self.ask(Method::POST, "/v1/admin/cluster/leader", Some(&request)).await
    }

    /// The region, as the node that is asked knows it.
    ///
    /// # Errors
    /// What the client says.
    pub async fn region(&self) -> Result<json::RegionStatus, ClientError> {
        self.rest.read("/v1/admin/region").await
    }

    /// Has the active region hand over to the other one. Its leader must be asked.
    ///
    /// # Errors
    /// What the client says.
    pub async fn switch_over(&mut self) -> Result<json::RegionOperated, ClientError> {
        self.ask(Method::POST, "/v1/admin/region/switch-over", None::<&()>)
            .await
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.count += 1;
        let id = format!("{}-{}", self.name, self.count);
        self.rest.change(method, path, &id, body).await
    }

    /// A new asset of eight decimals.
    ///
    /// # Errors
    /// What the client says.
    pub async fn new_asset(&mut self, symbol: &str) -> Result<(), ClientError> {
        let request = json::AssetRequest {
            symbol: symbol.to_owned(),
            decimals: 8,
        };
        let _: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/assets", Some(&request)).await?;
        Ok(())
    }

    /// A new instrument that trades: ticks of 0.01, lots of 0.1, around a price of 100.
    ///
    /// # Errors
    /// What the client says.
    pub async fn new_instrument(&mut self, symbol: &str, base: &str, quote: &str) -> Result<(), ClientError> {
        let text = |text: &str| DecimalText(text.to_owned());
        let request = json::InstrumentRequest {
            symbol: symbol.to_owned(),
            base: base.to_owned(),
            quote: quote.to_owned(),
            rules: InstrumentRules {
                tick_size: text("0.01"),
                lot_size: text("0.1"),
                quantity_min: text("0.1"),
                quantity_max: text("1000000"),
                notional_min: text("0.01"),
                notional_max: text("100000000"),
                collar_ppm: 500_000,
                reference_price: Some(text("100.00")),
                maker_fee_ppm: -50,
                taker_fee_ppm: 173,
            },
        };
        let _: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/instruments", Some(&request)).await?;
        let path = format!("/v1/admin/instruments/{symbol}/status");
        let request = json::InstrumentStatusRequest {
            status: InstrumentStatus::Trading,
        };
        let _: json::AdminAnswer = self.ask(Method::PUT, &path, Some(&request)).await?;
        Ok(())
    }

    /// Two assets and an instrument that trades.
    ///
    /// # Errors
    /// What the client says.
    pub async fn open_market(&mut self) -> Result<(), ClientError> {
        self.new_asset(BASE).await?;
        self.new_asset(QUOTE).await?;
        self.new_instrument(SYMBOL, BASE, QUOTE).await
    }

    /// A new account, without money or a key.
    ///
    /// # Errors
    /// What the client says.
    pub async fn new_account(&mut self) -> Result<AccountId, ClientError> {
        let answer: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/accounts", None::<&()>).await?;
        let account = answer.account.ok_or_else(|| missing("account"))?.account_id;
        account.parse().map_err(|_| missing("account's number"))
    }

    /// A new key that trades for an account.
    ///
    /// # Errors
    /// What the client says.
    pub async fn new_key(&mut self, account: AccountId, key_type: KeyType) -> Result<Credentials, ClientError> {
        self.new_key_of(account, vec![Scope::Read, Scope::Trade], key_type)
            .await
    }

    async fn new_key_of(
        &mut self,
        account: AccountId,
        scopes: Vec<Scope>,
        key_type: KeyType,
    ) -> Result<Credentials, ClientError> {
        let own = (key_type == KeyType::Ed25519).then(Secret::generate_ed25519);
        let public_key = own.as_ref().and_then(Secret::public_key);
        let request = json::KeyRequest {
            account_id: account.to_string(),
            scopes,
            key_type,
            public_key: public_key.map(|key| wire::signing::to_hex(&key)),
        };
        let answer: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/keys", Some(&request)).await?;
        let key = answer.key.ok_or_else(|| missing("key"))?.key_id;
        let secret = match own {
            Some(own) => own.reveal(),
            None => format!("hmac:{}", answer.secret.ok_or_else(|| missing("secret"))?),
        };
        Credentials::parse(&key, &secret).map_err(|error| ClientError::Usage(error.to_string()))
    }

    /// Gives an account money.
    ///
    /// # Errors
    /// What the client says.
    pub async fn deposit(&mut self, account: AccountId, asset: &str, amount: &str) -> Result<(), ClientError> {
        let request = json::TransferRequest {
            account_id: account.to_string(),
            asset: asset.to_owned(),
            amount: DecimalText(amount.to_owned()),
        };
        let _: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/deposits", Some(&request)).await?;
        Ok(())
    }

    /// A new account with money and a key.
    ///
    /// # Errors
    /// What the client says.
    pub async fn new_trader(&mut self) -> Result<Trader, ClientError> {
        let account = self.new_account().await?;
        let credentials = self.new_key(account, KeyType::Ed25519).await?;
        let mut deposits = BTreeMap::new();
        for asset in [BASE, QUOTE] {
            self.deposit(account, asset, DEPOSIT).await?;
            deposits.insert(asset.to_owned(), DecimalText(DEPOSIT.to_owned()));
        }
        Ok(Trader {
            account,
            credentials,
            deposits,
        })
    }

    /// A new operator's key.
    ///
    /// # Errors
    /// What the client says.
    pub async fn new_operator_key(&mut self, key_type: KeyType) -> Result<Credentials, ClientError> {
        self.new_key_of(AccountId(0), vec![Scope::Admin], key_type).await
    }

    /// Cancels all orders, so that the book is empty.
    ///
    /// # Errors
    /// What the client says.
    pub async fn cancel_everything(&mut self) -> Result<(), ClientError> {
        self.cancel_all_of(SYMBOL).await
    }

    /// Cancels all orders of an instrument.
    ///
    /// # Errors
    /// What the client says.
    pub async fn cancel_all_of(&mut self, symbol: &str) -> Result<(), ClientError> {
        let request = json::CancelAllForRequest {
            account_id: None,
            symbol: Some(symbol.to_owned()),
        };
        let _: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/cancel-all", Some(&request)).await?;
        Ok(())
    }
}

fn missing(what: &str) -> ClientError {
    ClientError::NotUnderstood(format!("the answer has no {what}"))
}
