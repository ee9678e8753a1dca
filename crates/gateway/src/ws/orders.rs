//! The order path of a session: requests about one order, from the message to the core, and from what the core tells to
//! the reply. Nothing here waits, and once a session has had as many requests under way as it ever has, nothing here
//! allocates for an order that is executed.

use std::sync::Arc;

use types::{Command, Event, RequestId, Scopes, Timestamp};
use wire::errors::{ErrorCode, Refusal};
use wire::json::{CancelRef, NewOrderRef, Outcome, Problem, ReplaceRef};
use wire::ws::{OrderRequest, Reply, order_reply, problem_reply};

use super::output::Built;
use super::requests::{executed_reply, reply_text};
use super::session::Session;
use super::under_way::{Kind, Request};
use super::{TICK, requests};
use crate::answer::Executed;
use crate::auth::Caller;
use crate::failure::Failure;
use crate::handle::{Applied, SubmitError};
use crate::incoming::parse_request_id;
use crate::intake;
use crate::stages::Stage;
use crate::waiting::{Letter, Waiter};

/// A request about one order that can be handed over at once.
struct Ready {
    id: u64,
    /// The command, or why there is none.
    command: Result<Command, Failure>,
    kind: Kind,
}

impl Session {
    /// Handles a request about one order. False, and nothing done, if the message is another one or may have to wait.
    pub(super) fn on_order_text(&mut self, text: &str) -> bool {
        self.read_at = self.shared.core.now();
        let Some((id, request)) = OrderRequest::read(text) else {
            return false;
        };
        // Who may not trade is told so on the long way.
        let Some(caller) = self.caller.filter(|caller| caller.scopes.contains(Scopes::TRADE)) else {
            return false;
        };
        let received_at = self.received_at();
        let ready = match &request {
            OrderRequest::Place(order) => self.place_now(id, &caller, order, received_at),
            OrderRequest::Replace(change) => self.replace_now(id, &caller, change, received_at),
            OrderRequest::Cancel(cancel) => Some(cancel_now(id, &caller, cancel, received_at)),
        };
        let Some(ready) = ready else {
            return false;
        };
        if let Err(failure) = self.charge(1) {
            self.reply_problem(id, failure.into_problem());
            return true;
        }
        match ready.command {
            Ok(command) => self.hand_over(ready.id, command, ready.kind),
            Err(failure) => self.reply_problem(id, failure.into_problem()),
        }
        true
    }

    /// None if the instrument is not known, or the order is only to be validated.
    fn place_now(&self, id: u64, caller: &Caller, order: &NewOrderRef<'_>, received_at: Timestamp) -> Option<Ready> {
        let reference = self.shared.view.reference_now();
        let instrument = reference.instrument_by_symbol(order.symbol)?;
        if order.validate_only {
            return None;
        }
        let request_id = parse_request_id(order.client_order_id, "client_order_id");
        let command =
            request_id.and_then(|request_id| intake::place_in(instrument, caller, request_id, order, received_at));
        Some(Ready {
            id,
            command: command.map_err(|failure| failure.request_id(order.client_order_id)),
            kind: Kind::Place,
        })
    }

    /// None if the order, or the instrument that is named, is not known.
    fn replace_now(&self, id: u64, caller: &Caller, change: &ReplaceRef<'_>, received_at: Timestamp) -> Option<Ready> {
        let request_id = parse_request_id(change.request_id, "request_id").ok()?;
        let target = intake::target(change.order_id, change.client_order_id).ok()?;
        let reference = self.shared.view.reference_now();
        let instrument = match change.symbol {
            Some(symbol) => reference.instrument_by_symbol(symbol)?,
            None => {
                let order = self.shared.view.open_order(caller.account, &target)?;
                reference.instrument(order.instrument)?
            }
        };
        let command = intake::replace_in(instrument, caller, request_id, target, change, received_at);
        Some(Ready {
            id,
            command: command.map_err(|failure| failure.request_id(change.request_id)),
            kind: Kind::Order,
        })
    }

    /// Hands a command over; its reply comes when it is executed.
    pub(super) fn hand_over(&mut self, id: u64, command: Command, kind: Kind) {
        let (request_id, received_at) = (command.request_id, command.received_at);
        let ticks_max = self.shared.config.answer_timeout.as_millis() / TICK.as_millis();
        let request = Request {
            id,
            kind,
            request_id,
            received_at,
            late_at: self.ticks + 2 + u64::try_from(ticks_max).unwrap_or(u64::MAX / 2),
        };
        let token = self.under_way.insert(request);
        let now = self.shared.core.now();
        let waiter = Waiter::in_mailbox(&self.mailbox, token, now);
        match self.shared.core.hand_over(command, waiter) {
            Ok(()) => {
                let stages = &self.shared.stages;
                stages.record(Stage::Read, self.read_at.since_ns(received_at));
                stages.record(Stage::Verify, now.since_ns(self.read_at));
            }
            Err(error) => {
                self.under_way.remove(token);
                self.refuse_command(id, &request_id, error);
            }
        }
    }

    /// Replies to what the core has told.
    pub(super) fn on_letter(&mut self, letter: Letter) {
        let Some(request) = self.under_way.remove(letter.token) else {
            // It was late, and its outcome was said to be unknown.
            return;
        };
        match letter.answer {
            Some(Ok(applied)) => self.on_applied(&request, applied),
            Some(Err(error)) => self.refuse_command(request.id, &request.request_id, error),
            None => self.reply_unknown(&request),
        }
    }

    /// Says that the outcome of what is late is unknown.
    pub(super) fn give_up_late(&mut self) {
        while let Some(request) = self.under_way.remove_late(self.ticks) {
            self.reply_unknown(&request);
        }
    }

    fn reply_unknown(&mut self, request: &Request) {
        let failure = Failure::new(Refusal::OutcomeUnknown);
        self.reply_failure(request.id, failure.request_id(request.request_id.as_str()));
    }

    /// Replies to a command that was not taken.
    fn refuse_command(&mut self, id: u64, request_id: &RequestId, error: SubmitError) {
        let SubmitError::Busy { retry_after_ms } = error else {
            return self.reply_failure(id, self.shared.not_taken(error).request_id(request_id.as_str()));
        };
        // There are many of these at a time, just when there is no time for them.
        self.shared.metrics.outcome(Outcome::NotExecuted);
        if self.busy.text.is_empty() || self.busy.retry_after_ms != retry_after_ms {
            let problem = Failure::from(error).into_problem();
            let mut text = serde_json::to_vec(&problem).expect("a problem is plain data");
            assert_eq!(text.pop(), Some(b'}'), "a problem is an object");
            text.extend_from_slice(b",\"request_id\":\"");
            self.busy.retry_after_ms = retry_after_ms;
            self.busy.text = text;
        }
        let status = ErrorCode::Refusal(Refusal::Busy).entry().http_status;
        let mut problem = std::mem::take(&mut self.busy.text);
        let length = problem.len();
        problem.extend_from_slice(request_id.as_bytes());
        problem.extend_from_slice(b"\"}");
        self.output.write(|out| problem_reply(out, id, status, &problem));
        problem.truncate(length);
        self.busy.text = problem;
    }

    fn reply_failure(&mut self, id: u64, failure: Failure) {
        let problem: Problem = failure.into_problem();
        self.shared.metrics.outcome(problem.outcome);
        self.reply_problem(id, problem);
    }

    fn on_applied(&mut self, request: &Request, applied: Applied) {
        let first = applied.events().first();
        if let Some(Event::Repeated { .. }) = first {
            // What came of it the first time may have to be read.
            return self.start_repeat(*request, applied);
        }
        let is_executed = !matches!(first, Some(Event::Rejected { .. }) | None);
        self.output.add_built(Built {
            received_at: request.received_at,
            applied_at: applied.applied_at,
            built_at: applied.applied_at,
        });
        if is_executed && matches!(request.kind, Kind::Place | Kind::Order) {
            self.shared.metrics.outcome(Outcome::Executed);
            return self.reply_order(request, &applied);
        }
        match Executed::first(request.request_id, applied).checked() {
            Ok(executed) => {
                self.shared.metrics.outcome(Outcome::Executed);
                let reply = executed_reply(&self.shared, request.id, &executed, request.kind);
                self.output.push(reply_text(reply));
            }
            Err(failure) => {
                let failure = failure.request_id(request.request_id.as_str());
                self.reply_failure(request.id, failure);
            }
        }
    }

    /// Replies to a request about one order that was executed now.
    fn reply_order(&mut self, request: &Request, applied: &Applied) {
        let status = if request.kind == Kind::Place { 201 } else { 200 };
        let (shared, output) = (&self.shared, &mut self.output);
        let written = shared.with_order_answer(&request.request_id, applied, |parts| {
            output.write(|out| order_reply(out, request.id, status, parts));
        });
        if let Err(failure) = written {
            self.reply_problem(request.id, failure.into_problem());
        }
    }

    /// Replies to a repeat once it is known what came of it the first time.
    fn start_repeat(&mut self, request: Request, applied: Applied) {
        let shared = Arc::clone(&self.shared);
        self.start(request.received_at, async move {
            let applied_at = applied.applied_at;
            let executed = shared.what_came_of(request.request_id, applied).await;
            let reply = match executed {
                Ok(executed) => requests::reply_to(&shared, request.id, &executed, request.kind).await,
                Err(failure) => Err(failure),
            };
            let reply = reply.unwrap_or_else(|failure| {
                let failure = failure.request_id(request.request_id.as_str());
                Reply::of_problem(request.id, failure.into_problem())
            });
            (reply_text(reply), Some(applied_at))
        });
    }
}

fn cancel_now(id: u64, caller: &Caller, cancel: &CancelRef<'_>, received_at: Timestamp) -> Ready {
    let target = intake::target(cancel.order_id, cancel.client_order_id);
    let command = target.and_then(|target| intake::cancel(caller, target, cancel, received_at));
    Ready {
        id,
        command: command.map_err(|failure| failure.request_id(cancel.request_id)),
        kind: Kind::Order,
    }
}
