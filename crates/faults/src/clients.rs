//! What the fault harness does as a client: always through the reference client, never by a back door.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use client::{ClientError, Credentials, Endpoint, RestClient, RetryPolicy, WsClient};
use harness::Trader;
use http::Method;
use tokio::task::JoinSet;
use wire::json::{self, OrderAnswer};

use crate::history::{Asked, Final, History};
use crate::oracle::ObservedAccount;

/// Items of a page.
const PAGE: u32 = 500;
/// Who reads orders at the same time.
const READERS: usize = 16;
/// How long a node may go on refusing for a while what is asked again.
const TRIED_FOR: Duration = Duration::from_secs(60);
/// How long to wait until it is asked again.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// One attempt: what isn't answered stays so.
pub(crate) fn impatient() -> RetryPolicy {
    RetryPolicy {
        attempt_timeout: Duration::from_secs(2),
        give_up_after: Duration::ZERO,
        ..RetryPolicy::default()
    }
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

/// Asks until there is a final answer. The client itself does that, but not for the items of a batch.
pub(crate) async fn bring_to_end(rest: &RestClient, asked: &Asked) -> Result<Final, ClientError> {
    let until = Instant::now() + TRIED_FOR;
    loop {
        match final_answer(send(rest, asked).await) {
            Err(ClientError::Refused(_)) if Instant::now() < until => tokio::time::sleep(ASK_EVERY).await,
            ended => return ended,
        }
    }
}

/// All that the client of an account finds: each order that it may have, all fills, the balances. Where there are several
/// nodes, each is asked for some of it: all must have come to rest, and know of everything by now.
pub(crate) async fn observe(
    rests: &[RestClient],
    trader: &Trader,
    history: &History,
) -> Result<ObservedAccount, ClientError> {
    let own = rests
        .iter()
        .map(|rest| rest.with_credentials(trader.credentials.clone()));
    let rests: Vec<RestClient> = own.collect();
    // From here on each knows of all that was answered before, so that what follows needs no leader's word.
    for rest in &rests {
        rest.balances().await?;
    }
    let fills = fills(&rests[0]).await?;
    let mut orders: BTreeMap<String, json::Order> = BTreeMap::new();
    for order in rests[0].open_orders(None).await? {
        orders.insert(order.client_order_id.clone(), order);
    }
    let asked = history.requests().filter(|request| request.account == trader.account.0);
    let ids = asked.map(|request| request.asked.client_order_id().to_owned());
    let ids = ids.chain(fills.iter().map(|fill| fill.client_order_id.clone()));
    let ids: BTreeSet<String> = ids.filter(|id| !orders.contains_key(id)).collect();
    let ids: Vec<String> = ids.into_iter().collect();
    let mut readers = JoinSet::new();
    for (index, some) in ids.chunks(ids.len().div_ceil(READERS).max(1)).enumerate() {
        readers.spawn(orders_of(rests[index % rests.len()].clone(), some.to_vec()));
    }
    while let Some(found) = readers.join_next().await {
        let found = found.map_err(|error| ClientError::NotUnderstood(error.to_string()))??;
        orders.extend(found.into_iter().map(|order| (order.client_order_id.clone(), order)));
    }
    Ok(ObservedAccount {
        deposits: trader.deposits.clone(),
        orders: orders.into_values().collect(),
        fills,
        balances: rests[0].balances().await?.balances,
    })
}

/// Those of these orders that there are.
async fn orders_of(rest: RestClient, ids: Vec<String>) -> Result<Vec<json::Order>, ClientError> {
    let mut orders = Vec::new();
    for id in ids {
        let target = format!("/v1/orders/by-client-id/{id}?freshness=stale");
        match rest.read::<json::Order>(&target).await {
            Ok(order) => orders.push(order),
            Err(error) if error.code() == Some("order_not_found") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(orders)
}

/// All fills of an account.
pub(crate) async fn fills(rest: &RestClient) -> Result<Vec<json::Fill>, ClientError> {
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
