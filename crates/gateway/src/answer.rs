//! From what came of a command to the answer: of a new request, and of one that came again.

use types::{
    Command, Event, InstrumentId, Order, OrderId, OrderStatus, OrderTarget, Position, Quantity, RejectReason,
    RequestId, Timestamp, Trade,
};
use wire::errors::{ErrorCode, Refusal};
use wire::json::write::OrderAnswerParts;
use wire::json::{self, AppliesTo, DurableIn, Outcome, Role, Scale, Times};

use crate::failure::Failure;
use crate::gateway::Shared;
use crate::handle::{Applied, Pending};
use crate::stages::Stage;
use crate::waiting::Waiter;

/// What came of a command: the first time that it was sequenced.
pub(crate) struct Executed {
    /// The command in its batch: that of the first time.
    pub applied: Applied,
    /// Its request id.
    pub request_id: RequestId,
    /// True if the request came again and this is what came of it the first time.
    pub repeat: bool,
    /// For a repeat: the order as it is now, if the request placed one that is still open.
    pub order_now: Option<Order>,
}

/// What came of a command that was handed over, and when it had been applied, if it was.
pub(crate) struct Finished {
    pub executed: Result<Executed, Failure>,
    pub applied_at: Option<Timestamp>,
}

/// What every answer to a sequenced request says.
pub(crate) struct Envelope {
    pub outcome: Outcome,
    pub applies_to: AppliesTo,
    pub repeat: bool,
    pub request_id: String,
    pub position: json::Position,
    pub durable_in: DurableIn,
    pub times: Times,
}

impl Shared {
    /// Hands a command over that was read as a whole at `read_at`, and waits for what comes of it.
    pub async fn execute(&self, command: Command, read_at: Timestamp) -> Finished {
        let request_id = command.request_id;
        let pending = self.submit(command, read_at, true);
        self.finish(request_id, pending).await
    }

    /// Hands a command over that was read as a whole at `read_at`, and comes alone or with others.
    pub fn submit(&self, command: Command, read_at: Timestamp, alone: bool) -> Result<Pending, Failure> {
        let (request_id, received_at) = (command.request_id, command.received_at);
        // Before it is handed over: it may be run by this thread.
        let verified_at = self.core.now();
        let (waiter, pending) = Waiter::one(verified_at);
        let submitted = if alone {
            self.core.hand_over(command, waiter)
        } else {
            self.core.hand_over_together(command, waiter)
        };
        submitted.map_err(|error| self.not_taken(error).request_id(request_id.as_str()))?;
        self.stages.record(Stage::Read, read_at.since_ns(received_at));
        self.stages.record(Stage::Verify, verified_at.since_ns(read_at));
        Ok(pending)
    }

    /// Waits for what comes of a command that was handed over.
    pub async fn finish(&self, request_id: RequestId, pending: Result<Pending, Failure>) -> Finished {
        let applied = match pending {
            Ok(pending) => self.wait(pending).await,
            Err(failure) => Err(failure),
        };
        let applied_at = applied.as_ref().ok().map(|applied| applied.applied_at);
        let executed = match applied {
            Ok(applied) => self.what_came_of(request_id, applied).await,
            Err(failure) => Err(failure),
        };
        let outcome = match &executed {
            Ok(_) => Outcome::Executed,
            Err(failure) => failure.problem().outcome,
        };
        self.metrics.outcome(outcome);
        Finished {
            executed: executed.map_err(|failure| failure.request_id(request_id.as_str())),
            applied_at,
        }
    }

    async fn wait(&self, pending: Pending) -> Result<Applied, Failure> {
        let answered = tokio::time::timeout(self.config.answer_timeout, pending).await;
        let Ok(Ok(answer)) = answered else {
            return Err(Refusal::OutcomeUnknown.into());
        };
        answer.map_err(|error| self.not_taken(error))
    }

    /// What came of a command that was applied: of a repeat, what came of it the first time.
    pub async fn what_came_of(&self, request_id: RequestId, applied: Applied) -> Result<Executed, Failure> {
        let executed = Executed::first(request_id, applied);
        match executed.applied.events().first() {
            Some(Event::Repeated {
                original,
                reason,
                order,
                ..
            }) => {
                let first = self.first_answer(*original).await;
                let Some(applied) = first.as_ref().ok().and_then(Option::as_ref) else {
                    // The reason is known even where the record is not.
                    return Err(match reason {
                        Some(reason) => reject_without_record(*reason, *original),
                        None => answer_unavailable(first.err(), *original, true),
                    });
                };
                let executed = Executed {
                    applied: applied.clone(),
                    request_id,
                    repeat: true,
                    order_now: *order,
                };
                if let Some(reason) = reason {
                    return Err(executed.reject(*reason));
                }
                Ok(executed)
            }
            _ => executed.checked(),
        }
    }

    /// What came of the command at a position, from the event log.
    async fn first_answer(&self, original: Position) -> Result<Option<Applied>, Failure> {
        self.wait_for(original.sequence).await?;
        let command = self.past.command(original.sequence).await?;
        Ok(command.map(|command| Applied {
            batch: command.batch,
            index: command.index,
            applied_at: self.core.now(),
            in_both: self.core.both_through() >= original.sequence,
        }))
    }

    /// The scale of an instrument at a position.
    pub fn scale(&self, instrument: InstrumentId, position: Position) -> Option<Scale> {
        let reference = self.view.reference_now();
        let instrument = reference.instrument_at(instrument, position.sequence)?;
        let quote = reference.asset(instrument.quote)?;
        Some(Scale::of(instrument, &quote))
    }

    /// The answer to a request about one order. It was executed: whatever fails here must not say that it wasn't.
    pub async fn order_answer(&self, executed: &Executed) -> Result<json::OrderAnswer, Failure> {
        let answer = self.tell_order(executed).await;
        answer.map_err(|cause| {
            let failure = answer_unavailable(Some(cause), executed.applied.position(), executed.repeat);
            failure.request_id(executed.request_id.as_str())
        })
    }

    /// Tells the answer to a request about one order that was executed now, and is no repeat, in its parts.
    pub fn with_order_answer(
        &self,
        request_id: &RequestId,
        applied: &Applied,
        tell: impl FnOnce(&OrderAnswerParts<'_>),
    ) -> Result<(), Failure> {
        let (position, batch) = (applied.position(), &applied.batch);
        let story = OrderStory::read(applied.events());
        let scale = story.order.map(|order| self.scale(order.instrument, position));
        if let Some(None) = scale {
            let cause = Failure::new(Refusal::InternalError);
            let failure = answer_unavailable(Some(cause), position, false);
            return Err(failure.request_id(request_id.as_str()));
        }
        let scale = scale.flatten();
        let order = story.order.as_ref().zip(scale.as_ref());
        tell(&OrderAnswerParts {
            request_id,
            order: order.map(|(order, scale)| (order, story.close_reason, scale)),
            fills: &story.fills,
            cancelled: story.cancelled,
            priority_kept: story.priority_kept,
            burnt: story.burnt,
            position,
            durable_in: applied.durable_in(),
            received_at: applied.received_at(),
            sequenced_at: batch.header.sequenced_at,
            committed_at: batch.committed_at,
            clock_error_bound_ns: batch.header.clock_error_bound_ns,
        });
        Ok(())
    }

    async fn tell_order(&self, executed: &Executed) -> Result<json::OrderAnswer, Failure> {
        let story = OrderStory::read(executed.applied.events());
        let position = executed.applied.position();
        let at = executed.applied.batch.header.sequenced_at;
        let mut answer = executed.envelope().order_answer();
        answer.client_order_id_burnt = story.burnt.then_some(true);
        answer.priority_kept = story.priority_kept;
        let Some(order) = story.order else {
            return Ok(answer);
        };
        let internal = || Failure::new(Refusal::InternalError);
        let scale = self.scale(order.instrument, position).ok_or_else(internal)?;
        answer.fills = story
            .fills
            .iter()
            .map(|trade| json::Fill::new(trade, Role::Taker, position, at, &scale))
            .collect();
        answer.cancelled_quantity = story.cancelled.map(|quantity| scale.quantity(quantity));
        let shown = if executed.repeat {
            self.as_it_is_now(executed, order, story.close_reason).await?
        } else {
            Some((order, story.close_reason))
        };
        answer.order = shown.map(|(order, close_reason)| json::Order::new(&order, &scale, close_reason));
        Ok(answer)
    }

    /// The order of a repeated request as it is now; none where its end is no longer kept.
    async fn as_it_is_now(
        &self,
        executed: &Executed,
        order: Order,
        close_reason: Option<types::CloseReason>,
    ) -> Result<Option<(Order, Option<types::CloseReason>)>, Failure> {
        if let Some(now) = executed.order_now {
            return Ok(Some((now, None)));
        }
        if order.status != OrderStatus::Open {
            return Ok(Some((order, close_reason)));
        }
        self.catch_up().await?;
        let target = OrderTarget::OrderId(order.order_id);
        self.order_now(order.account, &target).await
    }

    /// The answer to a cancel-all request.
    pub fn cancel_all_answer(&self, executed: &Executed) -> json::CancelAllAnswer {
        let mut answer = executed.envelope().cancel_all_answer();
        for event in executed.applied.events() {
            match event {
                Event::AllCancelled { count, .. } => answer.count = *count,
                Event::OrderClosed {
                    order,
                    reason: types::CloseReason::Requested | types::CloseReason::Operator,
                    ..
                } => answer.order_ids.push(order.order_id.to_string()),
                _ => {}
            }
        }
        answer
    }

    /// The answer to a cancel-after request.
    pub fn cancel_after_answer(&self, executed: &Executed) -> json::CancelAfterAnswer {
        let deadline = executed.applied.events().iter().find_map(|event| match event {
            Event::CancelAfterSet { deadline, .. } => Some(*deadline),
            _ => None,
        });
        executed
            .envelope()
            .cancel_after_answer(deadline.flatten().map(Into::into))
    }
}

impl Executed {
    /// A command that was executed now.
    pub fn first(request_id: RequestId, applied: Applied) -> Self {
        Self {
            applied,
            request_id,
            repeat: false,
            order_now: None,
        }
    }

    /// The same, unless the exchange refused it.
    pub fn checked(self) -> Result<Self, Failure> {
        match self.applied.events().first() {
            Some(Event::Rejected { reason, .. }) => Err(self.reject(*reason)),
            Some(_) => Ok(self),
            None => Err(Refusal::InternalError.into()),
        }
    }

    /// What every answer says.
    pub fn envelope(&self) -> Envelope {
        Envelope {
            outcome: Outcome::Executed,
            applies_to: AppliesTo::Order,
            repeat: self.repeat,
            request_id: self.request_id.to_string(),
            position: self.applied.position().into(),
            durable_in: self.applied.durable_in(),
            times: self.times(),
        }
    }

    fn times(&self) -> Times {
        let batch = &self.applied.batch;
        Times {
            received_at: self.applied.received_at().into(),
            sequenced_at: batch.header.sequenced_at.into(),
            committed_at: batch.committed_at.map(Into::into),
            clock_error_bound_ns: batch.header.clock_error_bound_ns.into(),
        }
    }

    fn reject(&self, reason: RejectReason) -> Failure {
        let mut problem = Failure::new(ErrorCode::from(reason)).into_problem();
        problem.repeat = self.repeat.then_some(true);
        problem.position = Some(self.applied.position().into());
        problem.durable_in = Some(self.applied.durable_in());
        problem.times = Some(self.times());
        problem.into()
    }
}

/// A request that was refused before, whose record can't be read: what the memory of requests knows of it.
fn reject_without_record(reason: RejectReason, original: Position) -> Failure {
    let mut problem = Failure::new(ErrorCode::from(reason)).into_problem();
    problem.repeat = Some(true);
    problem.position = Some(original.into());
    problem.durable_in = Some(DurableIn::Region);
    problem.into()
}

/// The request was sequenced, now or, as a `repeat` says, before; but what came of it can't be told.
fn answer_unavailable(cause: Option<Failure>, original: Position, repeat: bool) -> Failure {
    let mut problem = Failure::new(Refusal::AnswerUnavailable).into_problem();
    problem.repeat = repeat.then_some(true);
    problem.position = Some(original.into());
    problem.detail = cause.map(|cause| cause.into_problem().title);
    problem.into()
}

impl Envelope {
    fn order_answer(self) -> json::OrderAnswer {
        json::OrderAnswer {
            outcome: self.outcome,
            applies_to: self.applies_to,
            repeat: self.repeat,
            request_id: self.request_id,
            order: None,
            fills: Vec::new(),
            cancelled_quantity: None,
            priority_kept: None,
            client_order_id_burnt: None,
            position: self.position,
            durable_in: self.durable_in,
            times: self.times,
        }
    }

    fn cancel_all_answer(self) -> json::CancelAllAnswer {
        json::CancelAllAnswer {
            outcome: self.outcome,
            applies_to: self.applies_to,
            repeat: self.repeat,
            request_id: self.request_id,
            count: 0,
            order_ids: Vec::new(),
            position: self.position,
            durable_in: self.durable_in,
            times: self.times,
        }
    }

    fn cancel_after_answer(self, deadline: Option<json::TimeText>) -> json::CancelAfterAnswer {
        json::CancelAfterAnswer {
            outcome: self.outcome,
            applies_to: self.applies_to,
            repeat: self.repeat,
            request_id: self.request_id,
            deadline,
            position: self.position,
            durable_in: self.durable_in,
            times: self.times,
        }
    }
}

/// What the events of one command say of the order that the command was about.
#[derive(Default)]
struct OrderStory<'a> {
    /// The order after the command.
    order: Option<Order>,
    /// Its fills.
    fills: Vec<&'a Trade>,
    close_reason: Option<types::CloseReason>,
    cancelled: Option<Quantity>,
    priority_kept: Option<bool>,
    burnt: bool,
}

impl<'a> OrderStory<'a> {
    fn read(events: &'a [Event]) -> Self {
        let mut story = Self::default();
        let mut own: Option<OrderId> = None;
        for event in events {
            match event {
                Event::ClientOrderIdBurnt { .. } if own.is_none() => {
                    story.burnt = true;
                    return story;
                }
                Event::OrderPlaced(order) if own.is_none() => {
                    own = Some(order.order_id);
                    story.order = Some(*order);
                }
                Event::OrderReplaced {
                    order, priority_kept, ..
                } if own.is_none() => {
                    own = Some(order.order_id);
                    story.order = Some(*order);
                    story.priority_kept = Some(*priority_kept);
                }
                // Self-trade prevention took something off it.
                Event::OrderReplaced { order, .. } if own == Some(order.order_id) => story.order = Some(*order),
                Event::OrderClosed {
                    order,
                    reason,
                    cancelled_quantity,
                } if own.is_none() || own == Some(order.order_id) => {
                    own = Some(order.order_id);
                    story.order = Some(*order);
                    story.close_reason = Some(*reason);
                    story.cancelled = Some(*cancelled_quantity);
                }
                Event::Traded(trade) if own == Some(trade.taker.order_id) => {
                    story.fills.push(trade);
                    if let Some(order) = &mut story.order {
                        add_fill(order, trade);
                    }
                }
                _ => {}
            }
        }
        story
    }
}

fn add_fill(order: &mut Order, trade: &Trade) {
    order.filled.0 += trade.quantity.0;
    order.filled_notional.0 += trade.notional.0;
    order.fee.0 += trade.taker.fee.0;
    if trade.taker.remaining.0 == 0 {
        order.status = OrderStatus::Filled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_repeat_is_said_to_be_one() {
        let position = Position::default();
        for (repeat, said) in [(false, None), (true, Some(true))] {
            let failure = answer_unavailable(Some(Refusal::InternalError.into()), position, repeat);
            assert_eq!(failure.into_problem().repeat, said);
        }
    }
}
