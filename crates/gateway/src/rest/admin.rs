//! The operators' requests. Each that changes something is a command like any other: sequenced, durable, executed once.

use std::sync::Arc;

use axum::Json;
use serde::de::DeserializeOwned;
use types::{AccountId, Action, Event, KeyId, Scopes};
use wire::errors::Refusal;
use wire::json;

use super::{account, admin_intake as read, market};
use crate::answer::Executed;
use crate::failure::Failure;
use crate::freshness::{self, Answered};
use crate::gateway::Shared;
use crate::incoming::{Incoming, PathPart};
use crate::intake;

pub(super) type Answer = Result<Json<json::AdminAnswer>, Failure>;

/// Reads the body, checks the signature, makes the action, executes it, and tells what came of it.
pub(super) async fn execute<T, F>(incoming: &Incoming, action: F) -> Answer
where
    T: DeserializeOwned,
    F: AsyncFnOnce(&Arc<Shared>, T) -> Result<Action, Failure>,
{
    let shared = &incoming.shared;
    let valid_until = incoming.query(&["valid_until"])?.valid_until()?;
    let body: T = incoming.json()?;
    let request_id = incoming.request_id()?;
    let caller = incoming.verify(Scopes::ADMIN).await?;
    let action = action(shared, body).await;
    let action = action.map_err(|failure| failure.request_id(request_id.as_str()))?;
    let command = intake::command(&caller, request_id, valid_until, incoming.received_at, action);
    let executed = incoming.execute(command).await?;
    Ok(Json(tell(shared, &executed)))
}

/// As [`execute`], for a request without a body.
async fn execute_without_body(incoming: &Incoming, action: Action) -> Answer {
    let shared = &incoming.shared;
    let valid_until = incoming.query(&["valid_until"])?.valid_until()?;
    if !incoming.body.is_empty() {
        return Err(Failure::new(Refusal::BodyInvalid).detail("this request has no body"));
    }
    let request_id = incoming.request_id()?;
    let caller = incoming.verify(Scopes::ADMIN).await?;
    let command = intake::command(&caller, request_id, valid_until, incoming.received_at, action);
    let executed = incoming.execute(command).await?;
    Ok(Json(tell(shared, &executed)))
}

/// The answer to an operator's request that was executed.
fn tell(shared: &Shared, executed: &Executed) -> json::AdminAnswer {
    let envelope = executed.envelope();
    let mut answer = json::AdminAnswer {
        outcome: envelope.outcome,
        applies_to: envelope.applies_to,
        repeat: envelope.repeat,
        request_id: envelope.request_id,
        position: envelope.position,
        durable_in: envelope.durable_in,
        times: envelope.times,
        asset: None,
        instrument: None,
        account: None,
        balance: None,
        key: None,
        secret: None,
        rules: None,
        engine_version: None,
        cancelled_count: None,
    };
    // The first event is the command's own answer; a status that cancels orders tells of them behind it.
    let events = executed.applied.events();
    match events.first() {
        Some(Event::AssetCreated(asset)) => answer.asset = Some(asset.into()),
        Some(Event::InstrumentChanged(instrument)) => answer.instrument = market::as_json(shared, instrument).ok(),
        Some(Event::AccountChanged(account)) => answer.account = Some(account.into()),
        Some(Event::BalanceChanged { balance, .. }) => answer.balance = account::balance_as_json(shared, balance),
        Some(Event::RulesChanged(rules)) => answer.rules = Some(rules.into()),
        Some(Event::EngineVersionChanged(version)) => answer.engine_version = Some(version.0),
        Some(Event::AllCancelled { count, .. }) => answer.cancelled_count = Some(*count),
        Some(Event::KeyChanged(key)) => {
            answer.key = Some(key.into());
            if key.active {
                answer.secret = read::secret_of(&shared.sealing, key);
            }
        }
        _ => {}
    }
    answer
}

/// A new asset
#[utoipa::path(post, path = "/v1/admin/assets", tag = "assets and instruments", operation_id = "create_asset", security(("signature" = [])),
    params(("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::AssetRequest,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn create_asset(incoming: Incoming) -> Answer {
    execute(&incoming, async |_: &Arc<Shared>, request: json::AssetRequest| {
        Ok(Action::CreateAsset {
            symbol: read::symbol(&request.symbol)?,
            decimals: request.decimals,
        })
    })
    .await
}

/// All assets
#[utoipa::path(get, path = "/v1/admin/assets", tag = "assets and instruments", operation_id = "assets", security(("signature" = [])),
    params(("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "The assets.", body = json::Assets), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn assets(incoming: Incoming) -> Result<Answered<json::Assets>, Failure> {
    let freshness = freshness::asked_for(&incoming.query(&[freshness::QUERY_KEY])?)?;
    let caller = incoming.verify(Scopes::ADMIN).await?;
    incoming.shared.be_fresh(&caller, freshness).await?;
    let position = incoming.shared.view_position();
    let reference = incoming.shared.view.reference();
    let body = json::Assets {
        assets: reference.assets().iter().map(Into::into).collect(),
        position: position.into(),
    };
    Ok(Answered {
        body,
        position,
        freshness,
    })
}

/// A new instrument, which starts out halted
#[utoipa::path(post, path = "/v1/admin/instruments", tag = "assets and instruments", operation_id = "create_instrument", security(("signature" = [])),
    params(("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::InstrumentRequest,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn create_instrument(incoming: Incoming) -> Answer {
    execute(
        &incoming,
        async |shared: &Arc<Shared>, request: json::InstrumentRequest| read::instrument(shared, &request).await,
    )
    .await
}

/// Instruments, by name
#[utoipa::path(get, path = "/v1/admin/instruments", tag = "assets and instruments", operation_id = "all_instruments", security(("signature" = [])),
    params(
        ("limit" = Option<u32>, Query, description = "Items of a page, 1 to 500; left out: 100."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before."),
        ("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "A page.", body = json::Instruments), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn instruments(incoming: Incoming) -> Result<Answered<json::Instruments>, Failure> {
    let query = incoming.query(&["limit", "cursor", freshness::QUERY_KEY])?;
    let freshness = freshness::asked_for(&query)?;
    let caller = incoming.verify(Scopes::ADMIN).await?;
    incoming.shared.be_fresh(&caller, freshness).await?;
    market::page_of_instruments(&incoming.shared, &query, freshness)
}

/// New rules for an instrument
///
/// Tick and lot can change only while it is halted and its book is empty.
#[utoipa::path(put, path = "/v1/admin/instruments/{symbol}/rules", tag = "assets and instruments", operation_id = "set_instrument_rules", security(("signature" = [])),
    params(
        ("symbol" = String, Path, description = "The instrument."),
        ("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::InstrumentRules,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn set_instrument_rules(symbol: PathPart, incoming: Incoming) -> Answer {
    execute(
        &incoming,
        async |shared: &Arc<Shared>, request: json::InstrumentRules| {
            let instrument = intake::instrument(shared, &symbol.0).await?;
            read::instrument_rules(shared, &instrument, &request).await
        },
    )
    .await
}

/// Trade, halt or close an instrument
#[utoipa::path(put, path = "/v1/admin/instruments/{symbol}/status", tag = "assets and instruments", operation_id = "set_instrument_status", security(("signature" = [])),
    params(
        ("symbol" = String, Path, description = "The instrument."),
        ("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::InstrumentStatusRequest,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn set_instrument_status(symbol: PathPart, incoming: Incoming) -> Answer {
    execute(
        &incoming,
        async |shared: &Arc<Shared>, request: json::InstrumentStatusRequest| {
            let instrument = intake::instrument(shared, &symbol.0).await?;
            Ok(Action::SetInstrumentStatus {
                instrument: instrument.id,
                status: request.status.into(),
            })
        },
    )
    .await
}

/// A new account
#[utoipa::path(post, path = "/v1/admin/accounts", tag = "accounts and keys", operation_id = "create_account", security(("signature" = [])),
    params(("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn create_account(incoming: Incoming) -> Answer {
    execute_without_body(&incoming, Action::CreateAccount).await
}

/// Accounts, in the order of their creation
#[utoipa::path(get, path = "/v1/admin/accounts", tag = "accounts and keys", operation_id = "accounts", security(("signature" = [])),
    params(
        ("limit" = Option<u32>, Query, description = "Items of a page, 1 to 500; left out: 100."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before."),
        ("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "A page.", body = json::Accounts), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn accounts(incoming: Incoming) -> Result<Answered<json::Accounts>, Failure> {
    let query = incoming.query(&["limit", "cursor", freshness::QUERY_KEY])?;
    let (limit, after) = (query.limit()?, query.cursor()?);
    let freshness = freshness::asked_for(&query)?;
    let caller = incoming.verify(Scopes::ADMIN).await?;
    incoming.shared.be_fresh(&caller, freshness).await?;
    let page = incoming.shared.view.accounts(after, limit);
    let last = page.items.last().filter(|_| page.more);
    let body = json::Accounts {
        next_cursor: last.map(|account| account.id.to_string()),
        accounts: page.items.iter().map(Into::into).collect(),
        position: page.position.into(),
    };
    Ok(Answered {
        body,
        position: page.position,
        freshness,
    })
}

/// Let an account trade, only cancel, or nothing
#[utoipa::path(put, path = "/v1/admin/accounts/{account_id}/status", tag = "accounts and keys", operation_id = "set_account_status", security(("signature" = [])),
    params(
        ("account_id" = String, Path, description = "The account."),
        ("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::AccountStatusRequest,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn set_account_status(account_id: PathPart, incoming: Incoming) -> Answer {
    let account: AccountId = account_id.parse()?;
    execute(
        &incoming,
        async |_: &Arc<Shared>, request: json::AccountStatusRequest| {
            Ok(Action::SetAccountStatus {
                account,
                status: request.status.into(),
            })
        },
    )
    .await
}

/// An account's balances
#[utoipa::path(get, path = "/v1/admin/accounts/{account_id}/balances", tag = "accounts and keys", operation_id = "account_balances", security(("signature" = [])),
    params(
        ("account_id" = String, Path, description = "The account."),
        ("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "The balances.", body = json::Balances), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn balances(account_id: PathPart, incoming: Incoming) -> Result<Answered<json::Balances>, Failure> {
    let freshness = freshness::asked_for(&incoming.query(&[freshness::QUERY_KEY])?)?;
    let id: AccountId = account_id.parse()?;
    let caller = incoming.verify(Scopes::ADMIN).await?;
    incoming.shared.be_fresh(&caller, freshness).await?;
    if incoming.shared.view.account(id).is_none() && id != AccountId::FEES && id != AccountId::OPERATOR {
        return Err(Refusal::ResourceNotFound.into());
    }
    Ok(account::balances_of(&incoming.shared, id, freshness))
}

/// A new key
///
/// The answer to an `hmac_sha256` key has its secret; the same request again gets the same secret.
#[utoipa::path(post, path = "/v1/admin/keys", tag = "accounts and keys", operation_id = "create_key", security(("signature" = [])),
    params(("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::KeyRequest,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn create_key(incoming: Incoming) -> Answer {
    execute(&incoming, async |shared: &Arc<Shared>, request: json::KeyRequest| {
        read::key(shared, &request)
    })
    .await
}

/// Keys, in the order of their creation
#[utoipa::path(get, path = "/v1/admin/keys", tag = "accounts and keys", operation_id = "keys", security(("signature" = [])),
    params(
        ("limit" = Option<u32>, Query, description = "Items of a page, 1 to 500; left out: 100."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before."),
        ("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "A page.", body = json::Keys), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn keys(incoming: Incoming) -> Result<Answered<json::Keys>, Failure> {
    let query = incoming.query(&["limit", "cursor", freshness::QUERY_KEY])?;
    let (limit, after) = (query.limit()?, query.cursor()?);
    let freshness = freshness::asked_for(&query)?;
    let caller = incoming.verify(Scopes::ADMIN).await?;
    incoming.shared.be_fresh(&caller, freshness).await?;
    let page = incoming.shared.view.keys(after, limit);
    let last = page.items.last().filter(|_| page.more);
    let body = json::Keys {
        next_cursor: last.map(|key| key.id.to_string()),
        keys: page.items.iter().map(|key| (&**key).into()).collect(),
        position: page.position.into(),
    };
    Ok(Answered {
        body,
        position: page.position,
        freshness,
    })
}

/// Revoke a key
#[utoipa::path(delete, path = "/v1/admin/keys/{key_id}", tag = "accounts and keys", operation_id = "revoke_key", security(("signature" = [])),
    params(
        ("key_id" = String, Path, description = "The key."),
        ("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn revoke_key(key_id: PathPart, incoming: Incoming) -> Answer {
    let key: KeyId = key_id.parse()?;
    execute_without_body(&incoming, Action::RevokeKey { key }).await
}

/// Money comes in from outside
#[utoipa::path(post, path = "/v1/admin/deposits", tag = "money", operation_id = "deposit", security(("signature" = [])),
    params(("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::TransferRequest,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn deposit(incoming: Incoming) -> Answer {
    execute(
        &incoming,
        async |shared: &Arc<Shared>, request: json::TransferRequest| {
            read::transfer(shared, &request).await.map(Action::Deposit)
        },
    )
    .await
}

/// Money goes out
#[utoipa::path(post, path = "/v1/admin/withdrawals", tag = "money", operation_id = "withdraw", security(("signature" = [])),
    params(("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::TransferRequest,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn withdraw(incoming: Incoming) -> Answer {
    execute(
        &incoming,
        async |shared: &Arc<Shared>, request: json::TransferRequest| {
            read::transfer(shared, &request).await.map(Action::Withdraw)
        },
    )
    .await
}

/// Cancel all orders of one account, or of one instrument, or of both together
#[utoipa::path(post, path = "/v1/admin/cancel-all", tag = "orders", operation_id = "cancel_all_for", security(("signature" = [])),
    params(("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::CancelAllForRequest,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn cancel_all(incoming: Incoming) -> Answer {
    execute(
        &incoming,
        async |shared: &Arc<Shared>, request: json::CancelAllForRequest| {
            if request.account_id.is_none() && request.symbol.is_none() {
                return Err(intake::contradiction(
                    "account_id",
                    "at least one of account_id and symbol is given",
                ));
            }
            Ok(Action::CancelAllFor {
                account: request.account_id.as_deref().map(read::account_id).transpose()?,
                instrument: read::optional_instrument(shared, request.symbol.as_deref()).await?,
            })
        },
    )
    .await
}

/// The limits that requests are executed by
#[utoipa::path(get, path = "/v1/admin/rules", tag = "rules", operation_id = "rules", security(("signature" = [])),
    params(("freshness" = Option<String>, Query, description = "How fresh the answer is to be: `linearizable` (left out: that) or `stale`.")),
    responses((status = 200, description = "The limits.", body = json::Rules), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn rules(incoming: Incoming) -> Result<Answered<json::Rules>, Failure> {
    let freshness = freshness::asked_for(&incoming.query(&[freshness::QUERY_KEY])?)?;
    let caller = incoming.verify(Scopes::ADMIN).await?;
    incoming.shared.be_fresh(&caller, freshness).await?;
    let position = incoming.shared.view_position();
    Ok(Answered {
        body: (&incoming.shared.view.reference().rules()).into(),
        position,
        freshness,
    })
}

/// New limits
///
/// All of them are given; `version` is the present one plus 1.
#[utoipa::path(put, path = "/v1/admin/rules", tag = "rules", operation_id = "set_rules", security(("signature" = [])),
    params(("Meridian-Request-Id" = String, Header, description = "The id that makes it execute once.")),
    request_body = json::Rules,
    responses((status = 200, description = "It was executed.", body = json::AdminAnswer), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn set_rules(incoming: Incoming) -> Answer {
    execute(&incoming, async |_: &Arc<Shared>, request: json::Rules| {
        let rules = request.rules().ok_or_else(|| Failure::new(Refusal::NumberInvalid))?;
        Ok(Action::SetRules(rules))
    })
    .await
}
