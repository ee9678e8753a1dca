//! The service: the part of Meridian's REST API that changes single orders, with the same bodies, headers and answers.
//!
//! It matches nothing: every order rests, or, if it must not, is cancelled at once. It has no streams, no book, no batches
//! and no rate limits either. All of that is work that Meridian does in the same comparison and this service is spared.

use std::collections::HashMap;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, SemaphorePermit};
use types::limits::REQUEST_BYTES_MAX;
use types::{
    AccountId, Amount, ClusterId, Decimal, DecimalError, InstrumentId, Order, OrderId, OrderStatus, OrderType,
    Position, Price, Quantity, RejectReason, RequestId, SelfTradePrevention, TimeInForce, Timestamp,
};
use wire::errors::Refusal;
use wire::json::{self, AppliesTo, DecimalText, DurableIn, Outcome, Scale};

use super::market::{self, LOT_SIZE, TICK_SIZE};
use super::refused::Refused;
use super::schema;
use super::server;
use super::signature::{Keys, Request, request_id, sha256};
use super::store::{Change, Changed, NewOrder, Placed, Store, StoredOrder};

/// Requests that may be under way at once, most of them waiting for a connection to the database.
const REQUESTS_MAX: usize = 8_192;

/// What all requests share.
pub(super) struct Service {
    keys: Keys,
    numbers: HashMap<String, InstrumentId>,
    scales: HashMap<InstrumentId, Scale>,
    store: Store,
    under_way: Semaphore,
}

impl Service {
    /// Reads keys and instruments, and opens so many connections to the database.
    pub async fn open(socket: &FilePath, cluster: ClusterId, connections: usize) -> Result<Arc<Self>> {
        let client = server::connect(socket).await?;
        let keys = schema::keys(&client).await.context("failed to read the keys")?;
        let instruments = schema::instruments(&client)
            .await
            .context("failed to read the instruments")?;
        let (mut numbers, mut scales) = (HashMap::new(), HashMap::new());
        for (number, symbol) in instruments {
            let instrument = InstrumentId(u32::try_from(number)?);
            scales.insert(instrument, market::scale(symbol.parse()?));
            numbers.insert(symbol, instrument);
        }
        Ok(Arc::new(Self {
            keys: Keys::new(cluster, keys),
            numbers,
            scales,
            store: Store::connect(socket, connections).await?,
            under_way: Semaphore::new(REQUESTS_MAX),
        }))
    }

    /// The routes.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/v1/time", get(time))
            .route("/v1/orders", post(place))
            .route(
                "/v1/orders/by-client-id/{client_order_id}",
                patch(replace).delete(cancel).get(look_up),
            )
            .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
            .with_state(self)
    }

    /// A place among the requests under way; without one the request is refused and nothing waits.
    fn enter(&self) -> Result<SemaphorePermit<'_>, Refused> {
        self.under_way.try_acquire().map_err(|_| Refused::new(Refusal::Busy))
    }

    /// What every answer about an order says.
    fn answer(&self, request: &RequestId, stored: &StoredOrder, received_at: Timestamp) -> json::OrderAnswer {
        let order = &stored.order;
        json::OrderAnswer {
            outcome: Outcome::Executed,
            applies_to: AppliesTo::Order,
            repeat: false,
            request_id: request.to_string(),
            order: Some(self.order(stored)),
            fills: Vec::new(),
            cancelled_quantity: None,
            priority_kept: None,
            client_order_id_burnt: None,
            position: order.order_id.0.into(),
            durable_in: DurableIn::Region,
            times: json::Times {
                received_at: received_at.into(),
                sequenced_at: order.placed_at.into(),
                committed_at: Some(now().into()),
                clock_error_bound_ns: 0.into(),
            },
        }
    }

    fn order(&self, stored: &StoredOrder) -> json::Order {
        let scale = &self.scales[&stored.order.instrument];
        json::Order::new(&stored.order, scale, stored.close_reason)
    }

    fn new_order(
        &self,
        order: &json::NewOrder,
        client_order_id: RequestId,
        account: AccountId,
        now: Timestamp,
    ) -> Result<Order, Refused> {
        let instrument = self.numbers.get(&order.symbol).copied();
        let instrument = instrument.ok_or_else(|| Refused::new(Refusal::SymbolUnknown).field("symbol"))?;
        if order.validate_only || order.expires_at.is_some() {
            return Err(not_at_the_peer("validate_only and expires_at"));
        }
        check_valid_until(order.valid_until.as_ref(), now)?;
        let limit = match order.order_type {
            json::OrderType::Limit => order.price.as_ref(),
            // There is never anything that it could trade with.
            json::OrderType::Market => return Err(Refused::new(RejectReason::NoLiquidity)),
        };
        let limit = limit.ok_or_else(|| Refused::new(Refusal::FieldsContradict).field("price"))?;
        let time_in_force = match order.time_in_force.unwrap_or(json::TimeInForce::Gtc) {
            json::TimeInForce::Gtc => TimeInForce::Gtc,
            json::TimeInForce::Ioc => TimeInForce::Ioc,
            json::TimeInForce::Fok => return Err(Refused::new(RejectReason::FokNotFillable)),
            json::TimeInForce::Gtd | json::TimeInForce::Day => return Err(not_at_the_peer("gtd and day")),
        };
        let prevention = order.self_trade_prevention;
        Ok(Order {
            order_id: OrderId(Position::default()),
            account,
            client_order_id,
            instrument,
            side: order.side.into(),
            order_type: OrderType::Limit,
            time_in_force,
            price: price(limit)?,
            quantity: quantity(&order.quantity)?,
            filled: Quantity(0),
            filled_notional: Amount(0),
            fee: Amount(0),
            post_only: order.post_only,
            self_trade_prevention: prevention.map_or(SelfTradePrevention::CancelNewest, Into::into),
            status: match time_in_force {
                TimeInForce::Ioc => OrderStatus::Cancelled,
                _ => OrderStatus::Open,
            },
            placed_at: now,
        })
    }
}

async fn time(State(service): State<Arc<Service>>) -> Json<json::ServerTime> {
    Json(json::ServerTime {
        now: now().into(),
        clock_error_bound_ns: 0.into(),
        cluster_id: service.keys.cluster().to_string(),
        group: 0,
        epoch: 1,
        last_sequence: 0.into(),
    })
}

async fn place(
    State(service): State<Arc<Service>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let received_at = now();
    let _place = service.enter()?;
    let request: json::NewOrder = parse(&body)?;
    let id: RequestId = request
        .client_order_id
        .parse()
        .map_err(|_| Refused::new(Refusal::RequestIdInvalid))?;
    let body_sha256 = sha256(&body);
    let signed = Request {
        method: "POST",
        target: target(&uri),
        headers: &headers,
        request_id: &request.client_order_id,
        body_sha256: &body_sha256,
    };
    let account = service.keys.verify(&signed, received_at)?;
    let named = |refused: Refused| refused.request_id(id.as_str());
    let order = service.new_order(&request, id, account, received_at).map_err(named)?;
    let hold = market::hold(order.side, order.price, order.quantity).map_err(|reason| named(reason.into()))?;
    let content = i64::from_le_bytes(*body_sha256.first_chunk().expect("32 bytes are more than 8"));
    let mut new = NewOrder { order, hold, content };
    let placed = service.store.place(&new).await.map_err(|error| named(error.into()))?;
    match placed {
        Placed::Now(order_id) => {
            new.order.order_id = order_id;
            let answer = service.placed(&id, &new, received_at);
            Ok((StatusCode::CREATED, Json(answer)).into_response())
        }
        Placed::Unfunded => Err(named(Refused::new(RejectReason::InsufficientFunds).repeat(false))),
        Placed::Before(stored) if stored.content != content => Err(named(Refused::new(RejectReason::RequestIdReused))),
        Placed::Before(stored) if stored.is_unfunded => {
            Err(named(Refused::new(RejectReason::InsufficientFunds).repeat(true)))
        }
        Placed::Before(stored) => {
            let mut answer = service.answer(&id, &stored, received_at);
            answer.repeat = true;
            Ok(Json(answer).into_response())
        }
    }
}

impl Service {
    /// The answer to an order that was placed now.
    fn placed(&self, id: &RequestId, new: &NewOrder, received_at: Timestamp) -> json::OrderAnswer {
        let is_closed = new.order.status == OrderStatus::Cancelled;
        let stored = StoredOrder {
            order: new.order,
            close_reason: is_closed.then_some(types::CloseReason::Unfilled),
            is_unfunded: false,
            content: new.content,
            changed_by: None,
        };
        let mut answer = self.answer(id, &stored, received_at);
        answer.cancelled_quantity = is_closed.then(|| DecimalText::of_steps(LOT_SIZE, new.order.quantity.0));
        answer
    }

    /// The account, the order and the request's id of a request whose path names the order.
    fn verify(
        &self,
        method: &str,
        uri: &Uri,
        headers: &HeaderMap,
        (id, request_id): (&str, &str),
        body: &[u8],
    ) -> Result<(AccountId, RequestId), Refused> {
        let signed = Request {
            method,
            target: target(uri),
            headers,
            request_id,
            body_sha256: &sha256(body),
        };
        let account = self.keys.verify(&signed, now())?;
        let id = id.parse().map_err(|_| Refused::new(Refusal::PathInvalid))?;
        Ok((account, id))
    }

    /// Why an order was not changed, unless it was by the same request before.
    fn unchanged(
        &self,
        found: Option<Box<StoredOrder>>,
        by: &RequestId,
        change: &Change,
    ) -> Result<Box<StoredOrder>, Refused> {
        let Some(stored) = found.filter(|stored| !stored.is_unfunded) else {
            return Err(Refused::new(RejectReason::OrderUnknown));
        };
        if stored.changed_by.as_deref() == Some(by.as_str()) {
            return Ok(stored);
        }
        let order = &stored.order;
        if order.status != OrderStatus::Open {
            return Err(Refused::new(RejectReason::OrderClosed));
        }
        let price = change.price.unwrap_or(order.price);
        let quantity = change.quantity.unwrap_or(order.quantity);
        if (price, quantity) == (order.price, order.quantity) {
            return Err(Refused::new(RejectReason::NothingToChange));
        }
        market::hold(order.side, price, quantity)?;
        Err(Refused::new(RejectReason::InsufficientFunds))
    }
}

async fn cancel(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<json::OrderAnswer>, Refused> {
    let received_at = now();
    let _place = service.enter()?;
    let request = request_id(&headers)?;
    let (account, id) = service.verify("DELETE", &uri, &headers, (&id, request.as_str()), &[])?;
    let named = |refused: Refused| refused.request_id(request.as_str());
    let changed = service.store.cancel(account, &id, &request).await;
    let (stored, repeat) = match changed.map_err(|error| named(error.into()))? {
        Changed::Now(stored) => (stored, false),
        Changed::Not(found) => {
            let found = service.unchanged(found, &request, &Change::default());
            (found.map_err(named)?, true)
        }
        Changed::TooLarge => return Err(named(Refused::new(Refusal::InternalError))),
    };
    let mut answer = service.answer(&request, &stored, received_at);
    answer.repeat = repeat;
    answer.cancelled_quantity = Some(DecimalText::of_steps(LOT_SIZE, stored.order.quantity.0));
    Ok(Json(answer))
}

async fn replace(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<json::OrderAnswer>, Refused> {
    let received_at = now();
    let _place = service.enter()?;
    let replace: json::Replace = parse(&body)?;
    let request = request_id(&headers)?;
    let (account, id) = service.verify("PATCH", &uri, &headers, (&id, request.as_str()), &body)?;
    let named = |refused: Refused| refused.request_id(request.as_str());
    let change = change_of(&replace, received_at).map_err(named)?;
    let changed = service.store.replace(account, &id, &request, &change).await;
    let (stored, repeat) = match changed.map_err(|error| named(error.into()))? {
        Changed::Now(stored) => (stored, false),
        Changed::Not(found) => (service.unchanged(found, &request, &change).map_err(named)?, true),
        Changed::TooLarge => return Err(named(Refused::new(RejectReason::NotionalTooLarge))),
    };
    let mut answer = service.answer(&request, &stored, received_at);
    answer.repeat = repeat;
    Ok(Json(answer))
}

async fn look_up(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<json::Order>, Refused> {
    let _place = service.enter()?;
    let (account, id) = service.verify("GET", &uri, &headers, (&id, ""), &[])?;
    let found = service
        .store
        .find(account, &id)
        .await?
        .filter(|stored| !stored.is_unfunded);
    let stored = found.ok_or_else(|| Refused::new(Refusal::OrderNotFound))?;
    Ok(Json(service.order(&stored)))
}

fn change_of(replace: &json::Replace, now: Timestamp) -> Result<Change, Refused> {
    check_valid_until(replace.valid_until.as_ref(), now)?;
    let change = Change {
        price: replace.price.as_ref().map(price).transpose()?,
        quantity: replace.quantity.as_ref().map(quantity).transpose()?,
        post_only: replace.post_only,
    };
    // What stays as it is was in range, so one stands for it here; their product is the table's to check.
    market::hold(
        types::Side::Sell,
        change.price.unwrap_or(Price(1)),
        change.quantity.unwrap_or(Quantity(1)),
    )?;
    Ok(change)
}

fn check_valid_until(valid_until: Option<&json::TimeText>, now: Timestamp) -> Result<(), Refused> {
    let Some(text) = valid_until else { return Ok(()) };
    match text.time() {
        None => Err(Refused::new(Refusal::NumberInvalid).field("valid_until")),
        Some(time) if time < now => Err(Refused::new(RejectReason::ValidUntilPassed)),
        Some(_) => Ok(()),
    }
}

fn price(text: &DecimalText) -> Result<Price, Refused> {
    steps(text, TICK_SIZE, "price", Refusal::PriceOffTick).map(Price)
}

fn quantity(text: &DecimalText) -> Result<Quantity, Refused> {
    steps(text, LOT_SIZE, "quantity", Refusal::QuantityOffLot).map(Quantity)
}

fn steps(text: &DecimalText, step: Decimal, field: &str, off_step: Refusal) -> Result<i64, Refused> {
    text.in_steps(step).map_err(|error| {
        let refusal = match error {
            DecimalError::NotAMultiple => off_step,
            DecimalError::Syntax | DecimalError::TooLarge => Refusal::DecimalInvalid,
        };
        Refused::new(refusal).field(field)
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| Refused::new(Refusal::BodyInvalid).detail(error.to_string()))
}

fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str)
}

fn not_at_the_peer(what: &str) -> Refused {
    Refused::new(Refusal::FieldsContradict).detail(format!("the peer takes no {what}"))
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
