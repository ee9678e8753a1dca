//! What the harness does as a client and as the operator: always through the reference client, never by a back door.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use client::{ClientError, Credentials, Endpoint, RestClient, RetryPolicy, Secret, WsClient};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::json::{self, DecimalText, InstrumentRules, InstrumentStatus, KeyType, OrderAnswer, Scope};

use crate::history::{Account, Asked, Final, History};
use crate::load::{BASE, QUOTE, SYMBOL};
use crate::oracle::ObservedAccount;

/// What each account gets of each asset.
const DEPOSIT: &str = "100000.00";
/// Items of a page.
const PAGE: u32 = 500;

/// How long to try when the answer must be found: longer than any start of the node.
pub(crate) fn patient() -> RetryPolicy {
    RetryPolicy {
        attempt_timeout: Duration::from_secs(10),
        give_up_after: Duration::from_secs(60),
        wait_first: Duration::from_millis(5),
        wait_longest: Duration::from_millis(200),
        ..RetryPolicy::default()
    }
}

/// One attempt: what isn't answered stays so.
pub(crate) fn impatient() -> RetryPolicy {
    RetryPolicy {
        attempt_timeout: Duration::from_secs(2),
        give_up_after: Duration::ZERO,
        ..RetryPolicy::default()
    }
}

/// A client that isn't anybody yet.
pub(crate) async fn connect(address: SocketAddr, policy: RetryPolicy) -> Result<RestClient, ClientError> {
    RestClient::connect(Endpoint::parse(&format!("http://{address}"))?, None, policy).await
}

/// A WebSocket session that gives up soon after the node is gone.
pub(crate) async fn connect_websocket(address: SocketAddr, credentials: Credentials) -> Result<WsClient, ClientError> {
    let policy = RetryPolicy {
        give_up_after: Duration::from_millis(700),
        wait_first: Duration::from_millis(50),
        wait_longest: Duration::from_millis(100),
        ..impatient()
    };
    let endpoint = Endpoint::parse(&format!("http://{address}"))?;
    let (websocket, _) = WsClient::connect(endpoint, Some(credentials), policy).await?;
    Ok(websocket)
}

/// The operator.
#[derive(Debug)]
pub struct Operator {
    rest: RestClient,
    count: u64,
}

/// An account, and the key that trades for it.
#[derive(Clone, Debug)]
pub struct Trader {
    /// Its number.
    pub account: Account,
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
        let rest = connect(address, patient()).await?.with_credentials(admin);
        Ok(Self { rest, count: 0 })
    }

    async fn ask<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        self.count += 1;
        let id = format!("operator-{}", self.count);
        self.rest.change(method, path, &id, body).await
    }

    /// Two assets and an instrument that trades.
    pub async fn open_market(&mut self) -> Result<(), ClientError> {
        for symbol in [BASE, QUOTE] {
            let request = json::AssetRequest {
                symbol: symbol.to_owned(),
                decimals: 8,
            };
            let _: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/assets", Some(&request)).await?;
        }
        let text = |text: &str| DecimalText(text.to_owned());
        let request = json::InstrumentRequest {
            symbol: SYMBOL.to_owned(),
            base: BASE.to_owned(),
            quote: QUOTE.to_owned(),
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
        let path = format!("/v1/admin/instruments/{SYMBOL}/status");
        let request = json::InstrumentStatusRequest {
            status: InstrumentStatus::Trading,
        };
        let _: json::AdminAnswer = self.ask(Method::PUT, &path, Some(&request)).await?;
        Ok(())
    }

    /// A new account with money and a key.
    pub async fn new_trader(&mut self) -> Result<Trader, ClientError> {
        let answer: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/accounts", None::<&()>).await?;
        let account = answer.account.ok_or_else(|| missing("account"))?.account_id;
        let secret = Secret::generate_ed25519();
        let public_key = secret.public_key().map(|key| wire::signing::to_hex(&key));
        let request = json::KeyRequest {
            account_id: account.clone(),
            scopes: vec![Scope::Read, Scope::Trade],
            key_type: KeyType::Ed25519,
            public_key,
        };
        let answer: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/keys", Some(&request)).await?;
        let key = answer.key.ok_or_else(|| missing("key"))?.key_id;
        let mut deposits = BTreeMap::new();
        for asset in [BASE, QUOTE] {
            let request = json::TransferRequest {
                account_id: account.clone(),
                asset: asset.to_owned(),
                amount: DecimalText(DEPOSIT.to_owned()),
            };
            let _: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/deposits", Some(&request)).await?;
            deposits.insert(asset.to_owned(), DecimalText(DEPOSIT.to_owned()));
        }
        Ok(Trader {
            account: account.parse().map_err(|_| missing("account's number"))?,
            credentials: Credentials::parse(&key, &secret.reveal())
                .map_err(|error| ClientError::Usage(error.to_string()))?,
            deposits,
        })
    }

    /// Leaves the book empty for the next round.
    pub async fn cancel_everything(&mut self) -> Result<(), ClientError> {
        let request = json::CancelAllForRequest {
            account_id: None,
            symbol: Some(SYMBOL.to_owned()),
        };
        let _: json::AdminAnswer = self.ask(Method::POST, "/v1/admin/cancel-all", Some(&request)).await?;
        Ok(())
    }
}

fn missing(what: &str) -> ClientError {
    ClientError::NotUnderstood(format!("the answer has no {what}"))
}

/// Sends a request over REST, by the client's policy.
pub(crate) async fn send(rest: &RestClient, asked: &Asked) -> Result<OrderAnswer, ClientError> {
    let id = asked.request_id();
    let path = format!("/v1/orders/by-client-id/{}", asked.client_order_id());
    match asked {
        Asked::Place(order) => rest.change(Method::POST, "/v1/orders", id, Some(order)).await,
        // A plain PATCH doesn't name the instrument, and is refused before it is sequenced if there is no such order.
        Asked::Replace(replace) => {
            let item = json::BatchItem {
                replace: Some(replace.clone()),
                ..json::BatchItem::default()
            };
            let batch = json::BatchRequest { items: vec![item] };
            let answer: json::BatchAnswer = rest.change(Method::POST, "/v1/orders/batch", "", Some(&batch)).await?;
            let item = answer.items.into_iter().next().ok_or_else(|| missing("item"))?;
            match (item.answer, item.problem) {
                (Some(answer), _) => Ok(answer),
                (None, Some(problem)) => Err(ClientError::Refused(Box::new(problem))),
                (None, None) => Err(missing("answer")),
            }
        }
        Asked::Cancel(cancel) => {
            let until = cancel
                .valid_until
                .as_ref()
                .map(|until| format!("?valid_until={}", until.0));
            let path = path + until.as_deref().unwrap_or_default();
            rest.change(Method::DELETE, &path, id, None::<&()>).await
        }
    }
}

/// The final answer in what the reference client gives; why there is none otherwise.
pub(crate) fn final_answer(result: Result<OrderAnswer, ClientError>) -> Result<Final, ClientError> {
    match result {
        Ok(answer) => Ok(Final::Executed(answer)),
        Err(ClientError::Refused(problem)) if ClientError::Refused(problem.clone()).is_final() => {
            Ok(Final::Refused(*problem))
        }
        Err(error) => Err(error),
    }
}

/// All that the client of an account finds: each order that it may have, all fills, the balances.
pub(crate) async fn observe(
    rest: &RestClient,
    trader: &Trader,
    history: &History,
) -> Result<ObservedAccount, ClientError> {
    let rest = rest.with_credentials(trader.credentials.clone());
    let fills = fills(&rest).await?;
    let mut orders: BTreeMap<String, json::Order> = BTreeMap::new();
    for order in rest.open_orders(None).await? {
        orders.insert(order.client_order_id.clone(), order);
    }
    let asked = history.requests().filter(|request| request.account == trader.account);
    let ids = asked.map(|request| request.asked.client_order_id().to_owned());
    let ids = ids.chain(fills.iter().map(|fill| fill.client_order_id.clone()));
    for id in ids.collect::<std::collections::BTreeSet<_>>() {
        if orders.contains_key(&id) {
            continue;
        }
        match rest.read::<json::Order>(&format!("/v1/orders/by-client-id/{id}")).await {
            Ok(order) => {
                orders.insert(id, order);
            }
            Err(error) if error.code() == Some("order_not_found") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(ObservedAccount {
        deposits: trader.deposits.clone(),
        orders: orders.into_values().collect(),
        fills,
        balances: rest.balances().await?.balances,
    })
}

async fn fills(rest: &RestClient) -> Result<Vec<json::Fill>, ClientError> {
    let mut all = Vec::new();
    let mut target = format!("/v1/fills?limit={PAGE}");
    loop {
        let page: json::Fills = rest.read(&target).await?;
        all.extend(page.fills);
        match page.next_cursor {
            Some(cursor) => target = format!("/v1/fills?limit={PAGE}&cursor={cursor}"),
            None => return Ok(all),
        }
    }
}
