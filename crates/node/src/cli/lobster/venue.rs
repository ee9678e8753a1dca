//! Where the record is replayed: a fresh instrument of its own, two accounts with money, and three sessions.

use anyhow::{Context as _, Result, ensure};
use client::{BookMirror, Credentials, RestClient, Secret, StreamEvent, WsClient, new_request_id};
use http::Method;
use tokio::sync::mpsc;
use types::Decimal;
use wire::json::{
    AdminAnswer, AssetRequest, DecimalText, InstrumentRequest, InstrumentRules, InstrumentStatus,
    InstrumentStatusRequest, KeyRequest, KeyType, Scope, TransferRequest,
};
use wire::signing::to_hex;
use wire::ws::{Channel, Subscribe};

use super::super::connection::{ConnectionArguments, policy};

/// The record's prices are dollars x 10,000: one of them is one tick.
pub const TICK: Decimal = Decimal::new(1, 4);
/// One share.
pub const LOT: Decimal = Decimal::new(1, 0);

/// The instrument and the sessions that trade it.
pub struct Venue {
    pub symbol: String,
    /// Owns all that rests.
    pub maker: WsClient,
    /// What happens to the maker's orders.
    pub maker_events: mpsc::Receiver<StreamEvent>,
    /// Executes against them: another account, since nobody trades with itself.
    pub taker: WsClient,
    /// The market data, which needs no credentials.
    pub book_events: mpsc::Receiver<StreamEvent>,
    pub book: BookMirror,
    /// Requests that a key may send in a second.
    pub requests_per_second: u32,
    admin: RestClient,
    /// Its session lives as long as it does.
    _market: WsClient,
}

impl Venue {
    /// Makes everything with the operator's key.
    pub async fn open(connection: &ConnectionArguments) -> Result<Self> {
        let admin = connection.admin_client().await?;
        let tag = new_request_id()[..8].to_uppercase();
        let (base, quote, symbol) = (format!("SHARE-{tag}"), format!("USD-{tag}"), format!("LOBSTER-{tag}"));
        create_instrument(&admin, &base, &quote, &symbol).await?;
        let maker = account(&admin, &base, &quote).await?;
        let taker = account(&admin, &base, &quote).await?;
        let instrument = connection.public_client().await?.instrument(&symbol).await?;
        let limits = connection.public_client().await?.with_credentials(maker.clone());
        let limits = limits.limits().await?;
        let endpoint = connection.endpoint()?;
        let (maker, maker_events) = WsClient::connect(endpoint.clone(), Some(maker), policy()).await?;
        let (taker, taker_events) = WsClient::connect(endpoint.clone(), Some(taker), policy()).await?;
        let (market, book_events) = WsClient::connect(endpoint, None, policy()).await?;
        drop(taker_events);
        follow(&maker, Channel::Fills, None).await?;
        follow(&market, Channel::Book, Some(&symbol)).await?;
        let by_key = limits.rate_limits.iter().find(|policy| policy.name == "key");
        Ok(Self {
            symbol,
            maker,
            maker_events,
            taker,
            book_events,
            book: BookMirror::new(&instrument.rules)?,
            requests_per_second: by_key.map_or(u32::MAX, |policy| policy.per_second),
            admin,
            _market: market,
        })
    }

    /// Closes the instrument, which cancels what still rests.
    pub async fn close(self) -> Result<()> {
        let path = format!("/v1/admin/instruments/{}/status", self.symbol);
        let status = InstrumentStatus::Closed;
        set_status(&self.admin, &path, status).await
    }
}

async fn follow(client: &WsClient, channel: Channel, symbol: Option<&str>) -> Result<()> {
    let subscribe = Subscribe {
        channel,
        symbol: symbol.map(str::to_owned),
        depth: None,
        from: None,
        freshness: None,
    };
    client.subscribe(subscribe).await.context("follow a stream")?;
    Ok(())
}

async fn create_instrument(admin: &RestClient, base: &str, quote: &str, symbol: &str) -> Result<()> {
    for (name, decimals) in [(base, 0), (quote, 4)] {
        let request = AssetRequest {
            symbol: name.to_owned(),
            decimals,
        };
        admin.admin("/v1/admin/assets", &new_request_id(), &request).await?;
    }
    let text = |text: &str| DecimalText(text.to_owned());
    let request = InstrumentRequest {
        symbol: symbol.to_owned(),
        base: base.to_owned(),
        quote: quote.to_owned(),
        rules: InstrumentRules {
            tick_size: DecimalText(TICK.to_string()),
            lot_size: DecimalText(LOT.to_string()),
            quantity_min: text("1"),
            quantity_max: text("100000000"),
            notional_min: text("0"),
            notional_max: text("1000000000000"),
            collar_ppm: 0,
            reference_price: None,
            maker_fee_ppm: 0,
            taker_fee_ppm: 0,
        },
    };
    admin
        .admin("/v1/admin/instruments", &new_request_id(), &request)
        .await?;
    let path = format!("/v1/admin/instruments/{symbol}/status");
    set_status(admin, &path, InstrumentStatus::Trading).await
}

async fn set_status(admin: &RestClient, path: &str, status: InstrumentStatus) -> Result<()> {
    let request = InstrumentStatusRequest { status };
    let _: AdminAnswer = admin
        .change(Method::PUT, path, &new_request_id(), Some(&request))
        .await?;
    Ok(())
}

/// An account with enough of both assets for any record, and a key for it.
async fn account(admin: &RestClient, base: &str, quote: &str) -> Result<Credentials> {
    let answer: AdminAnswer = admin
        .change(Method::POST, "/v1/admin/accounts", &new_request_id(), None::<&()>)
        .await?;
    let account = answer
        .account
        .context("the exchange made an account but does not name it")?;
    for (asset, amount) in [(base, "10000000000"), (quote, "10000000000000")] {
        let request = TransferRequest {
            account_id: account.account_id.clone(),
            asset: asset.to_owned(),
            amount: DecimalText(amount.to_owned()),
        };
        admin.admin("/v1/admin/deposits", &new_request_id(), &request).await?;
    }
    let secret = Secret::generate_ed25519();
    let request = KeyRequest {
        account_id: account.account_id,
        scopes: vec![Scope::Read, Scope::Trade],
        key_type: KeyType::Ed25519,
        public_key: secret.public_key().map(|key| to_hex(&key)),
    };
    let answer = admin.admin("/v1/admin/keys", &new_request_id(), &request).await?;
    let key = answer.key.context("the exchange made a key but does not name it")?;
    ensure!(key.active, "the exchange made a key that is not active");
    Ok(Credentials {
        key: key.key_id.parse()?,
        secret,
    })
}
