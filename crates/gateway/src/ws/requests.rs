//! What a session does with each message.

use std::pin::Pin;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use serde::Deserialize;
use types::limits::CANCEL_AFTER_NS_MAX;
use types::{Action, Position, Scopes, Timestamp};
use wire::errors::Refusal;
use wire::json::{self, BatchItem, CancelRef, NewOrderRef, Problem, ReplaceRef};
use wire::signing;
use wire::ws::{self, ClientMessage, ID_MAX, Login, Reply, Request, ServerMessage, Subscribe, Unsubscribe};

use super::session::{Done, Session};
use super::under_way::Kind;
use crate::answer::Executed;
use crate::auth::{self, Caller};
use crate::batch::{self, Batch};
use crate::failure::Failure;
use crate::gateway::Shared;
use crate::incoming::parse_request_id;
use crate::intake;
use crate::rest::validate;
use crate::streams::{StreamName, to_text};
use crate::view::PrivateStream;

/// Milliseconds in nanoseconds.
const MILLISECOND_NS: u64 = 1_000_000;

/// Enough of a message that isn't valid to reply to it.
#[derive(Deserialize)]
struct IdOnly {
    id: u64,
}

impl Session {
    /// Handles one text message.
    pub(super) async fn on_text(&mut self, text: &str) {
        let received_at = self.received_at();
        if text.trim_ascii_start().starts_with('[') {
            return self.refuse_message("", "it is a list".to_owned());
        }
        let message: ClientMessage = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(error) => return self.refuse_message(text, error.to_string()),
        };
        let id = message.id;
        if id > ID_MAX {
            return self.refuse_message("", format!("id is above {ID_MAX}"));
        }
        let Some(request) = message.into_request() else {
            return self.refuse_message(text, "exactly one request is given".to_owned());
        };
        let cost = match &request {
            Request::Batch(batch) => u32::try_from(batch.items.len()).unwrap_or(u32::MAX).max(1),
            _ => 1,
        };
        if let Err(failure) = self.charge(cost) {
            return self.reply_problem(id, failure.into_problem());
        }
        let handled = match request {
            Request::Login(login) => self.on_login(id, &login).await,
            Request::Subscribe(subscribe) => self.on_subscribe(id, &subscribe).await,
            Request::Unsubscribe(unsubscribe) => self.on_unsubscribe(id, &unsubscribe).await,
            Request::Place(order) => self.on_place(id, &(&order).into(), received_at).await,
            Request::Replace(change) => self.on_replace(id, &(&change).into(), received_at).await,
            Request::Cancel(cancel) => self.on_cancel(id, &(&cancel).into(), received_at),
            Request::CancelAll(cancel) => self.on_cancel_all(id, &cancel, received_at).await,
            Request::CancelAfter(request) => self.on_cancel_after(id, &request, received_at),
            Request::Batch(batch) => self.on_batch(id, &batch.items, received_at).await,
        };
        if let Err(failure) = handled {
            self.reply_problem(id, failure.into_problem());
        }
    }

    /// Counts a request against the key, or against the address of who isn't logged in.
    pub(super) fn charge(&mut self, count: u32) -> Result<(), Failure> {
        let charged = match self.caller {
            Some(caller) => self.shared.rate_limits.charge_key(caller.key, count),
            None => self.shared.rate_limits.charge_address(self.peer()),
        };
        charged.map(drop).map_err(|standing| {
            self.shared.metrics.rate_limited.increment(1);
            standing.failure()
        })
    }

    fn refuse_message(&mut self, text: &str, detail: String) {
        let charged = self.charge(1);
        let invalid = Failure::new(Refusal::MessageInvalid).detail(detail);
        let problem = charged.err().unwrap_or(invalid).into_problem();
        match serde_json::from_str::<IdOnly>(text) {
            Ok(IdOnly { id }) if id <= ID_MAX => self.reply_problem(id, problem),
            _ => self.output.push(to_text(&ServerMessage::Problem(problem))),
        }
    }

    pub(super) fn reply_problem(&mut self, id: u64, problem: Problem) {
        self.output.push(reply_text(Reply::of_problem(id, problem)));
    }

    fn caller(&self, scope: Scopes) -> Result<Caller, Failure> {
        let caller = self.caller.ok_or_else(|| Failure::new(Refusal::LoginRequired))?;
        if !caller.scopes.contains(scope) {
            return Err(Failure::new(Refusal::ScopeMissing));
        }
        Ok(caller)
    }

    async fn on_login(&mut self, id: u64, login: &Login) -> Result<(), Failure> {
        if self.caller.is_some() {
            return Err(Failure::new(Refusal::LoginRepeated));
        }
        let key = login.key.parse();
        let key_id = key.map_err(|_| Failure::new(Refusal::AuthHeaderInvalid).field("key"))?;
        let signature = signing::from_hex(&login.signature);
        let signature = signature.ok_or_else(|| Failure::new(Refusal::AuthHeaderInvalid).field("signature"))?;
        let key = self.shared.active_key(key_id).await?;
        let text = signing::login_text(&self.shared.config.cluster_id, key_id, &self.nonce);
        let verified = self
            .shared
            .verifiers
            .verify(&key, &self.shared.sealing, &signature, text.as_bytes());
        if let Err(failure) = verified {
            self.shared.metrics.refused_signatures.increment(1);
            return Err(failure.field("signature"));
        }
        self.shared.rate_limits.refund_address(self.peer());
        self.caller = Some(auth::caller(&key, Scopes::default())?);
        self.output.push(reply_text(Reply {
            id,
            status: 200,
            session: Some(ws::Session {
                key: key_id.to_string(),
                account_id: key.account.to_string(),
                scopes: json::Scope::list(key.scopes),
            }),
            ..Reply::default()
        }));
        Ok(())
    }

    async fn on_subscribe(&mut self, id: u64, subscribe: &Subscribe) -> Result<(), Failure> {
        let name = self.stream_name(subscribe.channel, subscribe.symbol.as_deref()).await?;
        let from = subscribe.from.as_ref().map(position_of).transpose()?;
        let depth = subscribe.depth.map_or(usize::MAX, |depth| depth as usize);
        if subscribe.depth.is_some() && subscribe.channel != ws::Channel::Book {
            return Err(intake::contradiction("depth", "only a book has a depth"));
        }
        if subscribe.freshness.is_some() && !matches!(name, StreamName::Private(..)) {
            let detail = "only the account's own streams take it";
            return Err(intake::contradiction("freshness", detail));
        }
        let freshness = subscribe.freshness.unwrap_or_default();
        self.open_stream(id, name, from, depth, freshness).map_err(Failure::new)
    }

    async fn on_unsubscribe(&mut self, id: u64, unsubscribe: &Unsubscribe) -> Result<(), Failure> {
        let name = self
            .stream_name(unsubscribe.channel, unsubscribe.symbol.as_deref())
            .await?;
        let removed = self.subscriptions.remove(name, &self.shared.view);
        let detail = "the session does not follow it";
        let subscription = removed.ok_or_else(|| Failure::new(Refusal::ChannelUnknown).detail(detail))?;
        self.output.push(reply_text(Reply {
            id,
            status: 200,
            subscription: Some(subscription),
            ..Reply::default()
        }));
        Ok(())
    }

    async fn stream_name(&mut self, channel: ws::Channel, symbol: Option<&str>) -> Result<StreamName, Failure> {
        let stream = match (channel, symbol) {
            (ws::Channel::Book | ws::Channel::Trades, None) => {
                return Err(intake::contradiction("symbol", "this channel needs one"));
            }
            (ws::Channel::Book, Some(symbol)) => {
                return Ok(StreamName::Book(intake::instrument(&self.shared, symbol).await?.id));
            }
            (ws::Channel::Trades, Some(symbol)) => {
                return Ok(StreamName::Trades(intake::instrument(&self.shared, symbol).await?.id));
            }
            (_, Some(_)) => return Err(intake::contradiction("symbol", "this channel takes none")),
            (ws::Channel::Orders, None) => PrivateStream::Orders,
            (ws::Channel::Fills, None) => PrivateStream::Fills,
            (ws::Channel::Balances, None) => PrivateStream::Balances,
        };
        Ok(StreamName::Private(self.caller(Scopes::READ)?.account, stream))
    }

    async fn on_place(&mut self, id: u64, order: &NewOrderRef<'_>, received_at: Timestamp) -> Result<(), Failure> {
        let caller = self.caller(Scopes::TRADE)?;
        let named = |failure: Failure| failure.request_id(order.client_order_id);
        let placed = intake::place(&self.shared, &caller, order, received_at).await;
        let (command, instrument) = placed.map_err(named)?;
        if !order.validate_only {
            self.hand_over(id, command, Kind::Place);
            return Ok(());
        }
        let validated = validate::new_order(&self.shared, &caller, &command, &instrument).await;
        let validation = validated.map_err(named)?.body;
        self.output.push(reply_text(Reply {
            id,
            status: 200,
            validation: Some(validation),
            ..Reply::default()
        }));
        Ok(())
    }

    async fn on_replace(&mut self, id: u64, change: &ReplaceRef<'_>, received_at: Timestamp) -> Result<(), Failure> {
        let caller = self.caller(Scopes::TRADE)?;
        let named = |failure: Failure| failure.request_id(change.request_id);
        let target = intake::target(change.order_id, change.client_order_id).map_err(named)?;
        let command = intake::replace(&self.shared, &caller, target, change, received_at).await;
        self.hand_over(id, command.map_err(named)?, Kind::Order);
        Ok(())
    }

    fn on_cancel(&mut self, id: u64, cancel: &CancelRef<'_>, received_at: Timestamp) -> Result<(), Failure> {
        let caller = self.caller(Scopes::TRADE)?;
        let named = |failure: Failure| failure.request_id(cancel.request_id);
        let target = intake::target(cancel.order_id, cancel.client_order_id).map_err(named)?;
        let command = intake::cancel(&caller, target, cancel, received_at).map_err(named)?;
        self.hand_over(id, command, Kind::Order);
        Ok(())
    }

    async fn on_cancel_all(&mut self, id: u64, cancel: &ws::CancelAll, received_at: Timestamp) -> Result<(), Failure> {
        let caller = self.caller(Scopes::TRADE)?;
        let request_id = parse_request_id(&cancel.request_id, "request_id")?;
        let instrument = match &cancel.symbol {
            Some(symbol) => Some(intake::instrument(&self.shared, symbol).await?.id),
            None => None,
        };
        let valid_until =
            intake::optional_time(cancel.valid_until.as_ref().map(|time| time.0.as_str()), "valid_until")?;
        let action = Action::CancelAll(types::CancelAll { instrument });
        let command = intake::command(&caller, request_id, valid_until, received_at, action);
        self.hand_over(id, command, Kind::CancelAll);
        Ok(())
    }

    fn on_cancel_after(&mut self, id: u64, request: &ws::CancelAfter, received_at: Timestamp) -> Result<(), Failure> {
        let caller = self.caller(Scopes::TRADE)?;
        let request_id = parse_request_id(&request.request_id, "request_id")?;
        let valid_until =
            intake::optional_time(request.valid_until.as_ref().map(|time| time.0.as_str()), "valid_until")?;
        // What is too far is refused by the exchange; here it must only not wrap around.
        let after_ns = request
            .after_ms
            .saturating_mul(MILLISECOND_NS)
            .min(CANCEL_AFTER_NS_MAX + 1);
        let action = Action::CancelAfter(types::CancelAfter { after_ns });
        let command = intake::command(&caller, request_id, valid_until, received_at, action);
        self.hand_over(id, command, Kind::CancelAfter);
        Ok(())
    }

    /// Hands the items of a batch over, one after another; the reply comes when the last one is answered.
    async fn on_batch(&mut self, id: u64, items: &[BatchItem], received_at: Timestamp) -> Result<(), Failure> {
        let caller = self.caller(Scopes::TRADE)?;
        batch::check(items)?;
        let batch = Batch::submit(&self.shared, &caller, items, (received_at, self.read_at)).await;
        let shared = Arc::clone(&self.shared);
        self.start(received_at, async move {
            let (items, applied_at) = batch.finish(&shared).await;
            let text = reply_text(Reply {
                id,
                status: 200,
                batch: Some(json::BatchAnswer { items }),
                ..Reply::default()
            });
            (text, applied_at)
        });
        Ok(())
    }

    /// Starts what ends as the reply to a request, and tells when the command behind it had been applied, if it was.
    pub(super) fn start(
        &mut self,
        received_at: Timestamp,
        reply: impl Future<Output = (Utf8Bytes, Option<Timestamp>)> + Send + 'static,
    ) {
        self.working += 1;
        let done: Pin<Box<dyn Future<Output = Done> + Send>> = Box::pin(async move {
            let (text, applied_at) = reply.await;
            Done::Reply(text, applied_at.map(|applied_at| (received_at, applied_at)))
        });
        self.work.push(done);
    }
}

/// The reply to a command that was executed, now or before.
pub(super) async fn reply_to(shared: &Shared, id: u64, executed: &Executed, kind: Kind) -> Result<Reply, Failure> {
    let mut reply = Reply {
        id,
        status: 200,
        ..Reply::default()
    };
    match kind {
        Kind::Place | Kind::Order => {
            reply.order = Some(shared.order_answer(executed).await?);
            if matches!(kind, Kind::Place) && !executed.repeat {
                reply.status = 201;
            }
        }
        Kind::CancelAll | Kind::CancelAfter => reply = executed_reply(shared, id, executed, kind),
    }
    Ok(reply)
}

/// The reply to a command about more than one order that was executed.
pub(super) fn executed_reply(shared: &Shared, id: u64, executed: &Executed, kind: Kind) -> Reply {
    let mut reply = Reply {
        id,
        status: 200,
        ..Reply::default()
    };
    if kind == Kind::CancelAll {
        reply.cancel_all = Some(shared.cancel_all_answer(executed));
    } else {
        reply.cancel_after = Some(shared.cancel_after_answer(executed));
    }
    reply
}

pub(super) fn reply_text(reply: Reply) -> Utf8Bytes {
    to_text(&ServerMessage::Reply(reply))
}

fn position_of(position: &json::Position) -> Result<Position, Failure> {
    let invalid = || Failure::new(Refusal::NumberInvalid).field("from");
    position.position().ok_or_else(invalid)
}
