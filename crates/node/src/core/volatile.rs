//! A core in memory alone, until the journal is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use engine::Exchange;
use gateway::handle::{Applied, CoreHandle, CoreStatus, NotAccepting, Pending, SubmitError};
use replica::LogEntry;
use tokio::sync::oneshot;
use types::limits::{BATCH_COMMANDS_MAX, COMMANDS_QUEUED_MAX};
use types::{
    AppliedBatch, AppliedCommand, BatchHeader, Command, Epoch, GroupId, Incarnation, Sequence, StateMachine, Timestamp,
};
use wire::journal::LogIndex;

use crate::replay::{JournalSource, ReplayError};

type Queued = (Command, oneshot::Sender<Applied>);

/// The handle.
pub struct VolatileCore {
    queue: Sender<Queued>,
    applied: AtomicU64,
    stopping: AtomicBool,
}

impl VolatileCore {
    /// Starts it.
    pub fn start(publisher: Sender<Arc<AppliedBatch>>) -> (Arc<Self>, JoinHandle<()>) {
        let (queue, commands) = bounded(COMMANDS_QUEUED_MAX);
        let core = Arc::new(Self {
            queue,
            applied: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        });
        let shared = Arc::clone(&core);
        let thread = std::thread::spawn(move || shared.run(&commands, &publisher));
        (core, thread)
    }

    /// Takes no more commands.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn run(&self, commands: &Receiver<Queued>, publisher: &Sender<Arc<AppliedBatch>>) {
        let mut exchange: Exchange = Exchange::default();
        let mut next = Sequence(1);
        let mut last_at = Timestamp(0);
        loop {
            let mut taken = Vec::new();
            match commands.recv_timeout(std::time::Duration::from_millis(5)) {
                Ok(command) => taken.push(command),
                Err(_) if self.stopping.load(Ordering::Relaxed) => return,
                Err(_) => {
                    let now = self.now();
                    if exchange.next_deadline().is_some_and(|deadline| deadline <= now) {
                        taken.push((Command::clock(now), oneshot::channel().0));
                    }
                }
            }
            if taken.is_empty() {
                continue;
            }
            while taken.len() < BATCH_COMMANDS_MAX
                && let Ok(command) = commands.try_recv()
            {
                taken.push(command);
            }
            let header = BatchHeader {
                group: GroupId(0),
                incarnation: Incarnation(1),
                epoch: Epoch(1),
                first_sequence: next,
                count: u32::try_from(taken.len()).expect("bounded"),
                sequenced_at: self.now().max(last_at),
                ..BatchHeader::default()
            };
            last_at = header.sequenced_at;
            let mut events = Vec::new();
            let mut ends = Vec::new();
            for (index, (command, _)) in (0..).zip(&taken) {
                exchange.apply(header.position(index), header.sequenced_at, command, &mut events);
                ends.push(AppliedCommand {
                    received_at: command.received_at,
                    events_end: u32::try_from(events.len()).expect("bounded"),
                });
            }
            next = header.last_sequence().next();
            let batch = Arc::new(AppliedBatch {
                header,
                committed_at: Some(self.now()),
                commands: ends,
                events,
            });
            self.applied.store(header.last_sequence().0, Ordering::Release);
            for (index, (_, waiter)) in taken.into_iter().enumerate() {
                let batch = Arc::clone(&batch);
                let _ = waiter.send(Applied { batch, index });
            }
            let _ = publisher.send(batch);
        }
    }
}

impl CoreHandle for VolatileCore {
    fn submit(&self, command: Command) -> Result<Pending, SubmitError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(SubmitError::NotAccepting(NotAccepting::Stopping));
        }
        let (sender, pending) = oneshot::channel();
        match self.queue.try_send((command, sender)) {
            Ok(()) => Ok(pending),
            Err(TrySendError::Full(_)) => Err(SubmitError::Busy { retry_after_ms: 10 }),
            Err(TrySendError::Disconnected(_)) => Err(SubmitError::NotAccepting(NotAccepting::Stopping)),
        }
    }

    fn status(&self) -> CoreStatus {
        CoreStatus {
            accepting: Ok(()),
            group: GroupId(0),
            incarnation: Incarnation(1),
            epoch: Epoch(1),
            last_applied: Sequence(self.applied.load(Ordering::Acquire)),
            queued_count: self.queue.len(),
            clock_error_bound_ns: 0,
        }
    }

    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// No journal.
#[derive(Debug)]
pub struct NoJournal;

impl JournalSource for NoJournal {
    fn read(
        &self,
        _: LogIndex,
        _: Sequence,
        _: &mut dyn FnMut(&LogEntry) -> Result<bool, ReplayError>,
    ) -> Result<(), ReplayError> {
        Ok(())
    }

    fn first(&self) -> Sequence {
        Sequence(1)
    }

    fn closed_through(&self) -> Sequence {
        Sequence(0)
    }

    fn closed_bytes_behind(&self, _: Sequence) -> u64 {
        0
    }

    fn retire(&self, _: Sequence) -> Result<(), ReplayError> {
        Ok(())
    }

    fn quarantined(&self) -> BTreeSet<Sequence> {
        BTreeSet::new()
    }
}
