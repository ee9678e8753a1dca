//! Several requests in one, each under its own id and with its own outcome. REST and WebSocket share it.

use futures_util::future::join_all;
use tokio::time::Instant;
use types::limits::BATCH_REQUEST_ITEMS_MAX;
use types::{Command, RequestId, Timestamp};
use wire::errors::Refusal;
use wire::json::{self, BatchItem};

use crate::auth::Caller;
use crate::failure::Failure;
use crate::gateway::Shared;
use crate::handle::Pending;
use crate::intake;

/// A batch whose items were handed over, one after another.
pub(crate) struct Batch {
    items: Vec<ItemUnderWay>,
}

/// An item that was handed over, or was refused.
struct ItemUnderWay {
    is_new_order: bool,
    submitted: Result<(RequestId, Pending), Failure>,
}

/// Refuses a batch without items or with too many.
pub(crate) fn check(items: &[BatchItem]) -> Result<(), Failure> {
    if (1..=BATCH_REQUEST_ITEMS_MAX).contains(&items.len()) {
        return Ok(());
    }
    let detail = format!("a batch has 1 to {BATCH_REQUEST_ITEMS_MAX} items");
    Err(Failure::new(Refusal::BodyInvalid).field("items").detail(detail))
}

impl Batch {
    /// Hands the items over, in their order; their first byte and the whole of them came in at these times. All together
    /// wait for the view no longer than one alone would.
    pub async fn submit(
        shared: &Shared,
        caller: &Caller,
        items: &[BatchItem],
        (received_at, read_at): (Timestamp, Timestamp),
    ) -> Self {
        let view_deadline = Instant::now() + shared.config.view_timeout;
        let mut under_way = Vec::with_capacity(items.len());
        for item in items {
            let command = command_of_item(shared, caller, item, received_at);
            let command = within(view_deadline, command).await;
            under_way.push(submit_item(shared, item, command, read_at, items.len() == 1));
        }
        Self { items: under_way }
    }

    /// Waits for what becomes of each item. Of all at the same time, so that one time-out bounds the whole.
    /// With it, when the last one of them had been applied, if any was.
    pub async fn finish(self, shared: &Shared) -> (Vec<json::BatchItemAnswer>, Option<Timestamp>) {
        let items = self.items.into_iter();
        let finished = join_all(items.map(|item| finish_item(shared, item))).await;
        let (answers, applied_at): (Vec<_>, Vec<_>) = finished.into_iter().unzip();
        (answers, applied_at.into_iter().max().flatten())
    }
}

/// What an item needs of the view. Behind the deadline it is still taken if there is nothing to wait for.
async fn within<T>(deadline: Instant, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let done = tokio::time::timeout_at(deadline, work).await;
    done.unwrap_or_else(|_| Err(Refusal::ViewBehind.into()))
}

fn submit_item(
    shared: &Shared,
    item: &BatchItem,
    command: Result<Command, Failure>,
    read_at: Timestamp,
    alone: bool,
) -> ItemUnderWay {
    let submitted = command.and_then(|command| {
        let request_id = command.request_id;
        Ok((request_id, shared.submit(command, read_at, alone)?))
    });
    let id = item_id(item);
    ItemUnderWay {
        is_new_order: item.place.is_some(),
        submitted: submitted.map_err(|failure| failure.request_id(id)),
    }
}

fn item_id(item: &BatchItem) -> &str {
    let place = item.place.as_ref().map(|place| &place.client_order_id);
    let replace = item.replace.as_ref().map(|replace| &replace.request_id);
    let cancel = item.cancel.as_ref().map(|cancel| &cancel.request_id);
    place.or(replace).or(cancel).map_or("", String::as_str)
}

async fn command_of_item(
    shared: &Shared,
    caller: &Caller,
    item: &BatchItem,
    at: Timestamp,
) -> Result<Command, Failure> {
    match (&item.place, &item.replace, &item.cancel) {
        (Some(place), None, None) if place.validate_only => {
            Err(intake::contradiction("validate_only", "a batch executes its items"))
        }
        (Some(place), None, None) => {
            let placed = intake::place(shared, caller, &place.into(), at).await;
            placed.map(|(command, _)| command)
        }
        (None, Some(replace), None) => {
            let target = intake::target(replace.order_id.as_deref(), replace.client_order_id.as_deref())?;
            intake::replace(shared, caller, target, &replace.into(), at).await
        }
        (None, None, Some(cancel)) => {
            let target = intake::target(cancel.order_id.as_deref(), cancel.client_order_id.as_deref())?;
            intake::cancel(caller, target, &cancel.into(), at)
        }
        _ => {
            let detail = "exactly one of place, replace and cancel is given";
            Err(intake::contradiction("items", detail))
        }
    }
}

async fn finish_item(shared: &Shared, item: ItemUnderWay) -> (json::BatchItemAnswer, Option<Timestamp>) {
    let mut applied_at = None;
    let answered = match item.submitted {
        Ok((request_id, pending)) => answer_item(shared, request_id, pending, &mut applied_at).await,
        Err(failure) => {
            shared.metrics.outcome(failure.problem().outcome);
            Err(failure)
        }
    };
    let answer = match answered {
        Ok(answer) => json::BatchItemAnswer {
            status: if item.is_new_order && !answer.repeat { 201 } else { 200 },
            answer: Some(answer),
            problem: None,
        },
        Err(failure) => json::BatchItemAnswer {
            status: failure.problem().status,
            answer: None,
            problem: Some(failure.into_problem()),
        },
    };
    (answer, applied_at)
}

async fn answer_item(
    shared: &Shared,
    request_id: RequestId,
    pending: Pending,
    applied_at: &mut Option<Timestamp>,
) -> Result<json::OrderAnswer, Failure> {
    let finished = shared.finish(request_id, Ok(pending)).await;
    *applied_at = finished.applied_at;
    shared.order_answer(&finished.executed?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn items_behind_the_deadline_are_taken_only_if_they_need_not_wait() {
        let deadline = Instant::now();
        let ready = within(deadline, async { Ok(7) }).await;
        assert_eq!(ready.ok(), Some(7));
        for _ in 0..20 {
            let waits = within(deadline, std::future::pending::<Result<(), Failure>>()).await;
            assert_eq!(
                waits.unwrap_err().problem().code,
                Failure::new(Refusal::ViewBehind).problem().code
            );
        }
    }
}
