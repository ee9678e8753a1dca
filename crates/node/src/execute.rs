//! The node's own requests: the first commands of a new cluster, and those that set up a demo. Sequenced like all others,
//! each under an id of its own, so that a start that was cut off can simply be done again.

use std::time::Duration;

use gateway::handle::{Applied, CoreHandle, History, SubmitError};
use types::{AccountId, Action, Command, Event, KeyId, RejectReason, RequestId};

/// How long a full queue is given to empty.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
const BUSY_TRIES: u32 = 500;

/// Why one of the node's own requests was not executed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// It was not sequenced.
    #[error("execute {0}: {1}")]
    Submit(RequestId, SubmitError),
    /// The core ended without an answer.
    #[error("execute {0}: the core ended before it answered")]
    Unknown(RequestId),
    /// It was refused.
    #[error("execute {}: {}", .0, .1.sentence())]
    Rejected(RequestId, RejectReason),
    /// Its first answer is no longer in the event log.
    #[error("execute {0}: it was executed before, and its answer can't be read: {1}")]
    Forgotten(RequestId, String),
}

/// Executes an operator's action and gives its answer: the first one, if it was executed before. Blocks; not for a
/// runtime's own threads.
pub fn execute(
    core: &dyn CoreHandle,
    history: &dyn History,
    key: KeyId,
    request_id: &str,
    action: Action,
) -> Result<Event, ExecuteError> {
    let request_id: RequestId = request_id.parse().expect("the node's own ids are well formed");
    let command = Command {
        account: AccountId::OPERATOR,
        key,
        request_id,
        valid_until: None,
        received_at: core.now(),
        action,
    };
    let applied = submit(core, request_id, &command)?;
    match &applied.events()[0] {
        Event::Rejected { reason, .. }
        | Event::Repeated {
            reason: Some(reason), ..
        } => Err(ExecuteError::Rejected(request_id, *reason)),
        Event::Repeated { original, .. } => {
            let forgotten = |error: String| ExecuteError::Forgotten(request_id, error);
            let batches = history
                .read(original.sequence, 1)
                .map_err(|error| forgotten(error.to_string()))?;
            let batch = batches
                .first()
                .ok_or_else(|| forgotten("it is not there yet".to_owned()))?;
            let index = original.sequence.0 - batch.header.first_sequence.0;
            let index = usize::try_from(index).expect("a batch is bounded");
            Ok(batch.events_of(index)[0].clone())
        }
        event => Ok(event.clone()),
    }
}

fn submit(core: &dyn CoreHandle, request_id: RequestId, command: &Command) -> Result<Applied, ExecuteError> {
    let mut tries = 0;
    loop {
        let answer = core.submit(command.clone()).and_then(|pending| {
            let answer = pending.blocking_recv();
            answer.map_or(Ok(None), |applied| applied.map(Some))
        });
        match answer {
            Ok(applied) => return applied.ok_or(ExecuteError::Unknown(request_id)),
            Err(SubmitError::Busy { .. }) if tries < BUSY_TRIES => {
                tries += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(error) => return Err(ExecuteError::Submit(request_id, error)),
        }
    }
}
