//! Orders: place, replace, cancel, look up.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use types::{Action, CancelAll, Order, OrderId, OrderTarget, Scopes};
use wire::errors::Refusal;
use wire::json::{self, write::order_answer};

use super::validate;
use crate::answer::Executed;
use crate::batch::{self, Batch};
use crate::failure::Failure;
use crate::freshness::{self, Answered};
use crate::gateway::Shared;
use crate::incoming::{Incoming, PathPart};
use crate::intake;

/// Room for the answer to a request about one order without fills.
const ANSWER_BYTES: usize = 1_024;

/// Place an order
///
/// Executes once however often it is sent: the same request again gets the first answer, with `repeat` true.
#[utoipa::path(post, path = "/v1/orders", tag = "orders", operation_id = "place_order", security(("signature" = [])),
    request_body = json::NewOrder,
    responses(
        (status = 201, description = "It was executed now.", body = json::OrderAnswer),
        (status = 200, description = "It was executed before, or was only to be validated (then the body is a ValidationAnswer).", body = json::OrderAnswer),
        (status = "default", description = "It was not executed, or that is not known.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn place(incoming: Incoming) -> Result<Response, Failure> {
    let shared = &incoming.shared;
    incoming.query(&[])?;
    let order: json::NewOrder = incoming.json()?;
    let caller = incoming.verify_new_order(&order.client_order_id).await?;
    let named = |failure: Failure| failure.request_id(&order.client_order_id);
    let placed = intake::place(shared, &caller, &(&order).into(), incoming.received_at).await;
    let (command, instrument) = placed.map_err(named)?;
    if order.validate_only {
        let answer = validate::new_order(shared, &caller, &command, &instrument);
        return Ok(answer.await.map_err(named)?.into_response());
    }
    let executed = incoming.execute(command).await?;
    answer(shared, &executed, status_of_placed(&executed)).await
}

/// The answer to a request about one order. That to a repeat may have to be looked up.
async fn answer(shared: &Shared, executed: &Executed, status: StatusCode) -> Result<Response, Failure> {
    if executed.repeat {
        let answer = shared.order_answer(executed).await?;
        return Ok((status, Json(answer)).into_response());
    }
    let mut body = Vec::with_capacity(ANSWER_BYTES);
    shared.with_order_answer(&executed.request_id, &executed.applied, |parts| {
        order_answer(&mut body, parts)
    })?;
    let content_type = HeaderValue::from_static("application/json");
    Ok((status, [(CONTENT_TYPE, content_type)], body).into_response())
}

fn status_of_placed(executed: &Executed) -> StatusCode {
    if executed.repeat {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    }
}

/// The account's open orders, the oldest first
#[utoipa::path(get, path = "/v1/orders", tag = "orders", operation_id = "open_orders", security(("signature" = [])),
    params(
        ("symbol" = Option<String>, Query, description = "Only those of this instrument."),
        ("limit" = Option<u32>, Query, description = "Items of a page, 1 to 500; left out: 100."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before."),
        ("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "A page.", body = json::Orders), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(incoming: Incoming) -> Result<Answered<json::Orders>, Failure> {
    let shared = &incoming.shared;
    let query = incoming.query(&["symbol", "limit", "cursor", freshness::QUERY_KEY])?;
    let (limit, after): (usize, Option<OrderId>) = (query.limit()?, query.cursor()?);
    let freshness = freshness::asked_for(&query)?;
    let caller = incoming.verify(Scopes::READ).await?;
    shared.be_fresh(&caller, freshness).await?;
    let instrument = match query.text("symbol") {
        Some(symbol) => Some(intake::known_instrument(shared, symbol)?.id),
        None => None,
    };
    let page = shared.view.open_orders(caller.account, instrument, after, limit);
    let next_cursor = page
        .items
        .last()
        .filter(|_| page.more)
        .map(|last| last.order_id.to_string());
    let orders = page.items.iter().map(|order| as_json(shared, order, None));
    let body = json::Orders {
        orders: orders.collect::<Result<_, _>>()?,
        next_cursor,
        position: page.position.into(),
    };
    Ok(Answered {
        body,
        position: page.position,
        freshness,
    })
}

fn as_json(shared: &Shared, order: &Order, reason: Option<types::CloseReason>) -> Result<json::Order, Failure> {
    let scale = shared.scale(order.instrument, order.order_id.0);
    let scale = scale.ok_or_else(|| Failure::new(Refusal::InternalError))?;
    Ok(json::Order::new(order, &scale, reason))
}

/// Cancel all of the account's orders, or those of one instrument
#[utoipa::path(delete, path = "/v1/orders", tag = "orders", operation_id = "cancel_all_orders", security(("signature" = [])),
    params(
        ("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once."),
        ("symbol" = Option<String>, Query, description = "Only those of this instrument."),
        ("valid_until" = Option<String>, Query, description = "Refuse it when sequenced after this, in nanoseconds since 1970.")),
    responses((status = 200, description = "They were cancelled.", body = json::CancelAllAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn cancel_all(incoming: Incoming) -> Result<Json<json::CancelAllAnswer>, Failure> {
    let shared = &incoming.shared;
    let query = incoming.query(&["symbol", "valid_until"])?;
    let valid_until = query.valid_until()?;
    let request_id = incoming.request_id()?;
    let caller = incoming.verify(Scopes::TRADE).await?;
    let instrument = match query.text("symbol") {
        Some(symbol) => Some(intake::instrument(shared, symbol).await?.id),
        None => None,
    };
    let action = Action::CancelAll(CancelAll { instrument });
    let command = intake::command(&caller, request_id, valid_until, incoming.received_at, action);
    let executed = incoming.execute(command).await?;
    Ok(Json(shared.cancel_all_answer(&executed)))
}

/// One order, open or closed
#[utoipa::path(get, path = "/v1/orders/{order_id}", tag = "orders", operation_id = "order", security(("signature" = [])),
    params(
        ("order_id" = String, Path, description = "The order's id."),
        ("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "The order.", body = json::Order), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn get(order_id: PathPart, incoming: Incoming) -> Result<Answered<json::Order>, Failure> {
    look_up(&incoming, by_order_id(&order_id)?).await
}

/// One order by what the client called it, open or closed
#[utoipa::path(get, path = "/v1/orders/by-client-id/{client_order_id}", tag = "orders", operation_id = "order_by_client_id", security(("signature" = [])),
    params(
        ("client_order_id" = String, Path, description = "What the client called it."),
        ("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "The order.", body = json::Order), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn get_by_client_id(
    client_id: PathPart,
    incoming: Incoming,
) -> Result<Answered<json::Order>, Failure> {
    look_up(&incoming, by_client_id(&client_id)?).await
}

fn by_order_id(part: &PathPart) -> Result<OrderTarget, Failure> {
    part.parse().map(OrderTarget::OrderId)
}

fn by_client_id(part: &PathPart) -> Result<OrderTarget, Failure> {
    part.parse().map(OrderTarget::ClientOrderId)
}

async fn look_up(incoming: &Incoming, target: OrderTarget) -> Result<Answered<json::Order>, Failure> {
    let shared = &incoming.shared;
    let freshness = freshness::asked_for(&incoming.query(&[freshness::QUERY_KEY])?)?;
    let caller = incoming.verify(Scopes::READ).await?;
    shared.be_fresh(&caller, freshness).await?;
    // Before the order is looked up, so that it is at least as new as that.
    let position = shared.view_position();
    let found = shared.order_now(caller.account, &target).await?;
    let (order, reason) = found.ok_or_else(|| Failure::new(Refusal::OrderNotFound))?;
    Ok(Answered {
        body: as_json(shared, &order, reason)?,
        position,
        freshness,
    })
}

/// Change an order's price, quantity or both
///
/// A smaller quantity at the same price keeps its place in the queue; everything else loses it.
#[utoipa::path(patch, path = "/v1/orders/{order_id}", tag = "orders", operation_id = "replace_order", security(("signature" = [])),
    params(
        ("order_id" = String, Path, description = "The order's id."),
        ("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::Replace,
    responses((status = 200, description = "It was changed.", body = json::OrderAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn replace(order_id: PathPart, incoming: Incoming) -> Result<Response, Failure> {
    replace_target(&incoming, by_order_id(&order_id)?).await
}

/// Change an order by what the client called it
#[utoipa::path(patch, path = "/v1/orders/by-client-id/{client_order_id}", tag = "orders", operation_id = "replace_order_by_client_id", security(("signature" = [])),
    params(
        ("client_order_id" = String, Path, description = "What the client called it."),
        ("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::Replace,
    responses((status = 200, description = "It was changed.", body = json::OrderAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn replace_by_client_id(client_id: PathPart, incoming: Incoming) -> Result<Response, Failure> {
    replace_target(&incoming, by_client_id(&client_id)?).await
}

async fn replace_target(incoming: &Incoming, target: OrderTarget) -> Result<Response, Failure> {
    let shared = &incoming.shared;
    incoming.query(&[])?;
    let body: json::Replace = incoming.json()?;
    let request_id = incoming.request_id()?;
    let caller = incoming.verify(Scopes::TRADE).await?;
    let change = json::ReplaceItem {
        request_id: request_id.to_string(),
        price: body.price,
        quantity: body.quantity,
        post_only: body.post_only,
        valid_until: body.valid_until,
        ..json::ReplaceItem::default()
    };
    let command = intake::replace(shared, &caller, target, &(&change).into(), incoming.received_at).await;
    let command = command.map_err(|failure| failure.request_id(request_id.as_str()))?;
    let executed = incoming.execute(command).await?;
    answer(shared, &executed, StatusCode::OK).await
}

/// Cancel an order
#[utoipa::path(delete, path = "/v1/orders/{order_id}", tag = "orders", operation_id = "cancel_order", security(("signature" = [])),
    params(
        ("order_id" = String, Path, description = "The order's id."),
        ("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once."),
        ("valid_until" = Option<String>, Query, description = "Refuse it when sequenced after this, in nanoseconds since 1970.")),
    responses((status = 200, description = "It was cancelled.", body = json::OrderAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn cancel(order_id: PathPart, incoming: Incoming) -> Result<Response, Failure> {
    cancel_target(&incoming, by_order_id(&order_id)?).await
}

/// Cancel an order by what the client called it
///
/// If there is no such order its client order id is burnt: an order under it will never execute.
#[utoipa::path(delete, path = "/v1/orders/by-client-id/{client_order_id}", tag = "orders", operation_id = "cancel_order_by_client_id", security(("signature" = [])),
    params(
        ("client_order_id" = String, Path, description = "What the client called it."),
        ("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once."),
        ("valid_until" = Option<String>, Query, description = "Refuse it when sequenced after this, in nanoseconds since 1970.")),
    responses((status = 200, description = "It was cancelled, or its id burnt.", body = json::OrderAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn cancel_by_client_id(client_id: PathPart, incoming: Incoming) -> Result<Response, Failure> {
    cancel_target(&incoming, by_client_id(&client_id)?).await
}

async fn cancel_target(incoming: &Incoming, target: OrderTarget) -> Result<Response, Failure> {
    let shared = &incoming.shared;
    let valid_until = incoming.query(&["valid_until"])?.valid_until()?;
    let request_id = incoming.request_id()?;
    let caller = incoming.verify(Scopes::TRADE).await?;
    let action = Action::Cancel(target);
    let command = intake::command(&caller, request_id, valid_until, incoming.received_at, action);
    let executed = incoming.execute(command).await?;
    answer(shared, &executed, StatusCode::OK).await
}

/// Several requests in one, each under its own id and with its own outcome
#[utoipa::path(post, path = "/v1/orders/batch", tag = "orders", operation_id = "batch", security(("signature" = [])),
    request_body = json::BatchRequest,
    responses((status = 200, description = "What became of each item.", body = json::BatchAnswer), (status = "default", description = "The batch as a whole was not taken.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn batch(incoming: Incoming) -> Result<Json<json::BatchAnswer>, Failure> {
    incoming.query(&[])?;
    let request: json::BatchRequest = incoming.json()?;
    batch::check(&request.items)?;
    let caller = incoming.verify_batch(request.items.len()).await?;
    incoming.reaches_leader()?;
    let arrival = (incoming.received_at, incoming.read_at);
    let batch = Batch::submit(&incoming.shared, &caller, &request.items, arrival).await;
    let (items, applied_at) = batch.finish(&incoming.shared).await;
    incoming.was_applied(applied_at);
    Ok(Json(json::BatchAnswer { items }))
}
