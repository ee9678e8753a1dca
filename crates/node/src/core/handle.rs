//! The core, as everybody else sees it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError, bounded};
use gateway::handle::{CoreHandle, CoreStatus, NotAccepting, SubmitError};
use gateway::stages::Stages;
use gateway::waiting::Waiter;
use replica::{Replica, Settings};
use types::limits::{CANCELS_QUEUED_EXTRA, COMMANDS_QUEUED_MAX};
use types::{Action, Command, Epoch, Event, GroupId, Incarnation, Sequence, StateMachine, Timestamp};

use super::thread::CoreThread;
use super::{Clock, CoreEnd, CoreSettings, Recovered};
use crate::journal::{JournalHandle, SyncFigures};
use crate::publisher::PublishSender;

/// When a full queue is worth another try.
const RETRY_AFTER_MS: u64 = 20;
/// What is said of a full queue.
pub(super) const BUSY: SubmitError = SubmitError::Busy {
    retry_after_ms: RETRY_AFTER_MS,
};
/// Wake-ups that may be queued beside commands.
const WAKES_MAX: usize = 16;
/// Ticks of a tenth of a second without a leader until a node stands for election.
const ELECTION_TICKS: usize = 10;

/// What is queued for the core.
#[expect(
    clippy::large_enum_variant,
    reason = "commands are queued by value, without an allocation each; a wake-up is rare"
)]
pub(super) enum Message {
    /// A command, and who waits for its answer.
    Command(Command, Waiter),
    /// Something changed in [`Shared`].
    Wake,
}

/// What the core thread and its handles share.
#[derive(Debug)]
pub(super) struct Shared {
    /// 0 while it takes commands, otherwise one more than the index of the reason in [`NotAccepting::ALL`].
    own: AtomicU8,
    /// The same, as others wish it.
    blocked: AtomicU8,
    pub(super) stopping: AtomicBool,
    pub(super) queued: AtomicUsize,
    pub(super) last_applied: AtomicU64,
    pub(super) figures: Figures,
    pub(super) stages: Arc<Stages>,
    pub(super) clock: Clock,
}

/// Counters that the core thread alone writes.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) batches: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) publisher_dropped: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) sync_ns: AtomicU64,
    pub(super) journal_bytes: AtomicU64,
    pub(super) rolls: AtomicU64,
    pub(super) roll_ns: AtomicU64,
}

/// What the core has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreFigures {
    /// Batches applied.
    pub batches: u64,
    /// Commands applied.
    pub commands: u64,
    /// Batches that the publisher's full queue did not take.
    pub publisher_dropped: u64,
    /// What the journal has cost.
    pub journal: SyncFigures,
}

impl Shared {
    pub(super) fn set_accepting(&self, accepting: Result<(), NotAccepting>) {
        self.own.store(code_of(accepting), Ordering::Release);
    }

    fn accepting(&self) -> Result<(), NotAccepting> {
        reason_of(self.own.load(Ordering::Acquire))?;
        if self.stopping.load(Ordering::Acquire) {
            return Err(NotAccepting::Stopping);
        }
        reason_of(self.blocked.load(Ordering::Acquire))
    }
}

fn code_of(accepting: Result<(), NotAccepting>) -> u8 {
    let Err(reason) = accepting else { return 0 };
    let index = NotAccepting::ALL.iter().position(|other| *other == reason);
    u8::try_from(index.expect("all are in it") + 1).expect("there are a few")
}

fn reason_of(code: u8) -> Result<(), NotAccepting> {
    let reason = usize::from(code)
        .checked_sub(1)
        .and_then(|index| NotAccepting::ALL.get(index));
    reason.map_or(Ok(()), |reason| Err(*reason))
}

/// The core's handle: the gateway submits through it, the node stops it.
#[derive(Debug)]
pub struct Core {
    shared: Arc<Shared>,
    queue: Sender<Message>,
    journal: JournalHandle,
    group: GroupId,
    incarnation: Incarnation,
    epoch: Epoch,
}

impl Core {
    /// Starts the core thread. What it applies goes to `publish` as long as that has room. `observe` looks at the state
    /// machine about once a second, and must be done with it in no time. `ended` is told, on the core
    /// thread, how it came to its end.
    pub fn start<M>(
        settings: &CoreSettings,
        recovered: Recovered<M>,
        publish: PublishSender,
        observe: impl FnMut(&M) + Send + 'static,
        ended: impl FnOnce(&CoreEnd) + Send + 'static,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<CoreEnd>)>
    where
        M: StateMachine<Command = Command, Event = Event> + Send + 'static,
    {
        let Recovered { applier, journal } = recovered;
        let handle = journal.handle();
        let identity = *handle.identity();
        let replica_settings = Settings {
            identity,
            epoch: settings.epoch,
            voters: vec![identity.node],
            election_ticks: ELECTION_TICKS,
        };
        let applied = applier.applied();
        let shared = Arc::new(Shared {
            own: AtomicU8::new(code_of(Err(NotAccepting::Starting))),
            blocked: AtomicU8::new(0),
            stopping: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            last_applied: AtomicU64::new(applied.sequence.0),
            figures: Figures::default(),
            stages: Arc::default(),
            clock: Clock::default(),
        });
        let (queue, received) = bounded(COMMANDS_QUEUED_MAX + CANCELS_QUEUED_EXTRA + WAKES_MAX);
        let core = Arc::new(Self {
            shared: Arc::clone(&shared),
            queue,
            journal: handle,
            group: identity.group,
            incarnation: identity.incarnation,
            epoch: settings.epoch,
        });
        let hard_state = journal.hard_state();
        let (spin, thread_shared) = (settings.spin, Arc::clone(&shared));
        // Made on the thread that owns it: consensus keeps a logger that can't be handed over.
        let work = move || {
            let replica = match Replica::new(&replica_settings, applier, hard_state, Vec::new()) {
                Ok(replica) => replica,
                Err(reason) => return finish(&thread_shared, CoreEnd::Stop(reason), ended),
            };
            let observe = Box::new(observe);
            let shared = Arc::clone(&thread_shared);
            let thread = CoreThread::new(replica, journal, received, publish, shared, spin, observe);
            // A panic anywhere else than in a step is an end as well, and must be told like every other.
            let run = catch_unwind(AssertUnwindSafe(|| thread.run()));
            finish(&thread_shared, run.unwrap_or(CoreEnd::PanickedElsewhere), ended)
        };
        let thread = std::thread::Builder::new().name("core".into()).spawn(work)?;
        Ok((core, thread))
    }

    /// Takes no more commands, executes what is queued, makes all durable, and ends.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.journal.give_up_waiting();
        // A full queue wakes the core as well.
        let _ = self.queue.try_send(Message::Wake);
    }

    /// Takes no commands until this is called with none: what others know, such as that the disk is nearly full.
    pub fn block(&self, why: Option<NotAccepting>) {
        self.shared
            .blocked
            .store(code_of(why.map_or(Ok(()), Err)), Ordering::Release);
    }

    /// The journal, to read from.
    pub fn journal(&self) -> &JournalHandle {
        &self.journal
    }

    /// What it has done so far.
    pub fn figures(&self) -> CoreFigures {
        let figures = &self.shared.figures;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CoreFigures {
            batches: load(&figures.batches),
            commands: load(&figures.commands),
            publisher_dropped: load(&figures.publisher_dropped),
            journal: SyncFigures {
                syncs: load(&figures.syncs),
                sync_ns: load(&figures.sync_ns),
                bytes: load(&figures.journal_bytes),
                rolls: load(&figures.rolls),
                roll_ns: load(&figures.roll_ns),
            },
        }
    }
}

fn finish(shared: &Shared, end: CoreEnd, ended: impl FnOnce(&CoreEnd)) -> CoreEnd {
    shared.set_accepting(Err(end.not_accepting()));
    if end.is_graceful() {
        tracing::info!("the core stopped");
    } else {
        tracing::error!("the core stopped: {end}");
    }
    ended(&end);
    end
}

/// True for what takes risk away: it has room of its own in the queue.
fn lowers_risk(action: &Action) -> bool {
    match action {
        Action::Cancel(_)
        | Action::CancelAll(_)
        | Action::CancelAfter(_)
        | Action::CancelAllFor { .. }
        | Action::SetInstrumentStatus { .. }
        | Action::SetAccountStatus { .. }
        | Action::RevokeKey { .. } => true,
        Action::Clock
        | Action::Place(_)
        | Action::Replace(_)
        | Action::CreateAsset { .. }
        | Action::CreateInstrument { .. }
        | Action::SetInstrumentRules { .. }
        | Action::CreateAccount
        | Action::Deposit(_)
        | Action::Withdraw(_)
        | Action::CreateKey(_)
        | Action::SetRules(_) => false,
    }
}

impl Core {
    /// Counts a command into the queue, if it has room for one of its kind.
    fn admit(&self, action: &Action) -> Result<(), SubmitError> {
        self.shared.accepting().map_err(SubmitError::NotAccepting)?;
        let extra = if lowers_risk(action) { CANCELS_QUEUED_EXTRA } else { 0 };
        if self.shared.queued.fetch_add(1, Ordering::AcqRel) >= COMMANDS_QUEUED_MAX + extra {
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            return Err(BUSY);
        }
        Ok(())
    }
}

impl CoreHandle for Core {
    fn hand_over(&self, command: Command, waiter: Waiter) -> Result<(), SubmitError> {
        if let Err(why) = self.admit(&command.action) {
            waiter.dismiss();
            return Err(why);
        }
        self.queue.try_send(Message::Command(command, waiter)).map_err(|error| {
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            let (message, why) = match error {
                TrySendError::Full(message) => (message, BUSY),
                TrySendError::Disconnected(message) => {
                    let why = self.shared.accepting().err().unwrap_or(NotAccepting::Stopping);
                    (message, SubmitError::NotAccepting(why))
                }
            };
            if let Message::Command(_, waiter) = message {
                waiter.dismiss();
            }
            why
        })
    }

    fn status(&self) -> CoreStatus {
        CoreStatus {
            accepting: self.shared.accepting(),
            group: self.group,
            incarnation: self.incarnation,
            epoch: self.epoch,
            last_applied: Sequence(self.shared.last_applied.load(Ordering::Acquire)),
            queued_count: self.shared.queued.load(Ordering::Relaxed),
            clock_error_bound_ns: self.shared.clock.error_bound_ns(),
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn stages(&self) -> &Arc<Stages> {
        &self.shared.stages
    }
}
