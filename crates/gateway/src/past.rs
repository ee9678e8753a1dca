//! Reads of the event log from async code: from memory at once, from disk on a blocking thread, few at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;
use types::{AppliedBatch, Event, Sequence};

use crate::handle::{History, HistoryError};

/// How many reads of streams, and how many of queries, may block on the disk at the same time. They have places of their
/// own, so that many clients who resume from long ago don't hold up who looks for one order.
const BLOCKING_READS_MAX: usize = 4;

/// The event log for async code.
#[derive(Clone)]
pub struct Past {
    history: Arc<dyn History>,
    stream_permits: Arc<Semaphore>,
    query_permits: Arc<Semaphore>,
}

impl Past {
    /// Reads from this log.
    pub fn new(history: Arc<dyn History>) -> Self {
        Self {
            history,
            stream_permits: Arc::new(Semaphore::new(BLOCKING_READS_MAX)),
            query_permits: Arc::new(Semaphore::new(BLOCKING_READS_MAX)),
        }
    }

    /// The log itself.
    pub fn history(&self) -> &dyn History {
        &*self.history
    }

    /// As [`History::read`], for a stream, without blocking the caller's thread.
    pub async fn read(&self, from: Sequence, bytes_max: usize) -> Result<Vec<Arc<AppliedBatch>>, HistoryError> {
        self.read_with(&self.stream_permits, from, bytes_max).await
    }

    /// The command at a sequence; none if the log does not reach as far.
    pub async fn command(&self, sequence: Sequence) -> Result<Option<PastCommand>, HistoryError> {
        let batches = self.read_with(&self.query_permits, sequence, 1).await?;
        Ok(batches
            .into_iter()
            .next()
            .and_then(|batch| PastCommand::find(batch, sequence)))
    }

    async fn read_with(
        &self,
        permits: &Arc<Semaphore>,
        from: Sequence,
        bytes_max: usize,
    ) -> Result<Vec<Arc<AppliedBatch>>, HistoryError> {
        if self.history.is_recent(from) {
            return self.history.read(from, bytes_max);
        }
        let permit = Arc::clone(permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let history = Arc::clone(&self.history);
        let read = tokio::task::spawn_blocking(move || {
            let batches = history.read(from, bytes_max);
            drop(permit);
            batches
        });
        read.await
            .unwrap_or_else(|error| Err(HistoryError::Io(error.to_string())))
    }
}

/// A command of the past: which of its batch's.
#[derive(Clone, Debug)]
pub struct PastCommand {
    /// Its batch.
    pub batch: Arc<AppliedBatch>,
    /// Its index in the batch.
    pub index: usize,
}

impl PastCommand {
    /// The command at a sequence, if the batch has it.
    pub fn find(batch: Arc<AppliedBatch>, sequence: Sequence) -> Option<Self> {
        let index = sequence.0.checked_sub(batch.header.first_sequence.0)?;
        let index = usize::try_from(index)
            .ok()
            .filter(|index| *index < batch.commands.len())?;
        Some(Self { batch, index })
    }

    /// What came of it.
    pub fn events(&self) -> &[Event] {
        self.batch.events_of(self.index)
    }
}
