//! What an account sees of itself: fills, balances, limits, and its cancel-after deadline.

use axum::Json;
use types::limits::{BATCH_REQUEST_ITEMS_MAX, CANCEL_AFTER_NS_MAX, REQUEST_BYTES_MAX};
use types::{AccountId, Action, Balance, CancelAfter, FillId, Scopes};
use wire::json::{self, Freshness, Role};
use wire::signing::WINDOW_MS_MAX;

use crate::failure::Failure;
use crate::freshness::{self, Answered};
use crate::gateway::Shared;
use crate::incoming::Incoming;
use crate::intake;
use crate::view::fills_page;

const MILLISECOND_NS: u64 = 1_000_000;

/// Cancel all of the account's orders at a deadline, unless another request moves it
#[utoipa::path(post, path = "/v1/cancel-after", tag = "orders", operation_id = "cancel_after", security(("signature" = [])),
    params(("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::CancelAfterRequest,
    responses((status = 200, description = "The deadline.", body = json::CancelAfterAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn cancel_after(incoming: Incoming) -> Result<Json<json::CancelAfterAnswer>, Failure> {
    let shared = &incoming.shared;
    incoming.query(&[])?;
    let request: json::CancelAfterRequest = incoming.json()?;
    let request_id = incoming.request_id()?;
    let caller = incoming.verify(Scopes::TRADE).await?;
    let valid_until = intake::optional_time(request.valid_until.as_ref().map(|time| time.0.as_str()), "valid_until")?;
    // What is too far is refused by the exchange; here it must only not wrap around.
    let after_ns = request
        .after_ms
        .saturating_mul(MILLISECOND_NS)
        .min(CANCEL_AFTER_NS_MAX + 1);
    let action = Action::CancelAfter(CancelAfter { after_ns });
    let command = intake::command(&caller, request_id, valid_until, incoming.received_at, action);
    let executed = incoming.execute(command).await?;
    Ok(Json(shared.cancel_after_answer(&executed)))
}

/// The account's fills, the newest first
#[utoipa::path(get, path = "/v1/fills", tag = "account", operation_id = "fills", security(("signature" = [])),
    params(
        ("limit" = Option<u32>, Query, description = "Items of a page, 1 to 500; left out: 100."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before."),
        ("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "A page.", body = json::Fills), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn fills(incoming: Incoming) -> Result<Answered<json::Fills>, Failure> {
    let shared = &incoming.shared;
    let query = incoming.query(&["limit", "cursor", freshness::QUERY_KEY])?;
    let (limit, before): (usize, Option<FillId>) = (query.limit()?, query.cursor()?);
    let freshness = freshness::asked_for(&query)?;
    let caller = incoming.verify(Scopes::READ).await?;
    shared.be_fresh(&caller, freshness).await?;
    let page = fills_page(&shared.view, &shared.past, caller.account, before, limit).await?;
    let next_cursor = page
        .items
        .last()
        .filter(|_| page.more)
        .map(|last| last.fill_id.to_string());
    let fills = page.items.iter().filter_map(|fill| {
        let position = fill.fill_id.position;
        let scale = shared.scale(fill.trade.instrument, position)?;
        let role = if fill.is_maker { Role::Maker } else { Role::Taker };
        Some(json::Fill::new(&fill.trade, role, position, fill.sequenced_at, &scale))
    });
    let body = json::Fills {
        fills: fills.collect(),
        next_cursor,
        position: page.position.into(),
    };
    Ok(Answered {
        body,
        position: page.position,
        freshness,
    })
}

/// The account's balances
#[utoipa::path(get, path = "/v1/balances", tag = "account", operation_id = "balances", security(("signature" = [])),
    params(("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "The balances.", body = json::Balances), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn balances(incoming: Incoming) -> Result<Answered<json::Balances>, Failure> {
    let freshness = freshness::asked_for(&incoming.query(&[freshness::QUERY_KEY])?)?;
    let caller = incoming.verify(Scopes::READ).await?;
    incoming.shared.be_fresh(&caller, freshness).await?;
    Ok(balances_of(&incoming.shared, caller.account, freshness))
}

/// An account's balances as JSON.
pub(super) fn balances_of(shared: &Shared, account: AccountId, freshness: Freshness) -> Answered<json::Balances> {
    let (position, balances) = shared.view.balances(account);
    let balances = balances.iter().filter_map(|balance| balance_as_json(shared, balance));
    let body = json::Balances {
        account_id: account.to_string(),
        balances: balances.collect(),
        position: position.into(),
    };
    Answered {
        body,
        position,
        freshness,
    }
}

/// A balance as JSON.
pub(super) fn balance_as_json(shared: &Shared, balance: &Balance) -> Option<json::Balance> {
    let asset = shared.view.reference().asset(balance.asset)?;
    Some(json::Balance::new(balance, &asset))
}

/// The limits that hold for the caller
#[utoipa::path(get, path = "/v1/limits", tag = "account", operation_id = "limits", security(("signature" = [])),
    params(("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "The limits.", body = json::Limits), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn limits(incoming: Incoming) -> Result<Answered<json::Limits>, Failure> {
    let freshness = freshness::asked_for(&incoming.query(&[freshness::QUERY_KEY])?)?;
    let shared = &incoming.shared;
    let caller = incoming.verify(Scopes::READ).await?;
    shared.be_fresh(&caller, freshness).await?;
    let position = shared.view_position();
    let rules = shared.view.reference().rules();
    let horizon = shared.core.now().0.saturating_sub(rules.request_window_ns);
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let buckets = [
        shared.rate_limits.key_standing(caller.key),
        shared.rate_limits.address_standing(incoming.peer),
    ];
    let body = json::Limits {
        rate_limits: buckets.iter().map(|standing| standing.policy()).collect(),
        request_window_ms: (rules.request_window_ns / MILLISECOND_NS).into(),
        request_horizon: types::Timestamp(horizon).into(),
        request_memory_bytes_max: rules.request_memory_bytes_max.into(),
        request_bytes_max: small(REQUEST_BYTES_MAX),
        batch_items_max: small(BATCH_REQUEST_ITEMS_MAX),
        signature_window_ms_max: u32::try_from(WINDOW_MS_MAX).unwrap_or(u32::MAX),
        open_orders_max: rules.open_orders_per_account_max,
        open_orders: small(shared.view.open_order_count(caller.account)),
        rules_version: rules.version,
    };
    Ok(Answered {
        body,
        position,
        freshness,
    })
}
