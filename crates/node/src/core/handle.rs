//! The core, as everybody else sees it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use gateway::handle::{
    CoreHandle, CoreStatus, GroupStatus, NotAccepting, ReadFrom, RegionOperation, RegionStatus, SubmitError,
};
use gateway::stages::Stages;
use gateway::waiting::Waiter;
use replica::{Replica, Settings};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use types::limits::{CANCELS_QUEUED_EXTRA, COMMANDS_QUEUED_MAX};
use types::{Action, Command, Epoch, Event, GroupId, Incarnation, Sequence, StateMachine, Timestamp};
use wire::journal::NodeId;
use wire::membership::{ChangeRefusal, MembershipChange, Role};
use wire::site::LeaseRefusal;

use super::forward::Moment;
use super::group::{CoreEvent, Peers};
use super::member::Member;
use super::pace::Pace;
use super::region::{InRegion, RegionPart, SiteEvent};
use super::seat::Seat;
use super::state::{CoreState, Inline};
use super::thread::CoreThread;
use super::{Clock, CoreEnd, CoreSettings, Recovered};
use crate::journal::{JournalHandle, SyncFigures, SyncJob};
use crate::processors;
use crate::publisher::{PublishBell, PublishSender};

/// When a full queue is worth another try.
const RETRY_AFTER_MS: u64 = 20;
/// What is said of a full queue.
pub(super) const BUSY: SubmitError = SubmitError::Busy {
    retry_after_ms: RETRY_AFTER_MS,
};
/// Wake-ups that may be queued beside commands.
const WAKES_MAX: usize = 16;
/// Events that may be queued. Whoever brings another one waits.
const EVENTS_QUEUED_MAX: usize = 4_096;
/// Ticks without a leader until a node stands for election, at least. A leader's heartbeat comes with each tick; this many
/// may be late when processors and disks are busy.
const ELECTION_TICKS_MIN: usize = 15;
/// Ticks by which nodes differ in that, so that two seldom stand at the same time: more than a vote takes.
const ELECTION_TICKS_STEP: usize = 2;
/// Into how many steps node ids are told apart.
const ELECTION_STEPS: u64 = 8;

/// After how many ticks without a leader a node stands for election.
fn election_ticks(node: NodeId) -> usize {
    let step = usize::try_from(node.0 % ELECTION_STEPS).expect("it is below ELECTION_STEPS");
    ELECTION_TICKS_MIN + ELECTION_TICKS_STEP * step
}

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

/// What whoever runs the core and its handles share.
#[derive(Debug)]
pub(super) struct Shared {
    /// 0 while it takes commands, otherwise one more than the index of the reason in [`NotAccepting::ALL`].
    own: AtomicU8,
    /// The same, as others wish it.
    blocked: AtomicU8,
    pub(super) stopping: AtomicBool,
    pub(super) last_applied: AtomicU64,
    /// The epoch in which the active region sequences, as far as this node knows.
    pub(super) epoch: AtomicU32,
    /// Up to where everything is durable in both regions.
    pub(super) both_through: AtomicU64,
    /// True while the node is the group's only voter.
    pub(super) lone: AtomicBool,
    group: Mutex<GroupStatus>,
    pub(super) figures: Figures,
    pub(super) stages: Arc<Stages>,
    pub(super) pace: Pace,
    pub(super) clock: Clock,
}

/// Counters that whoever runs the core writes.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) batches: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) inline: AtomicU64,
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
    /// Those of them that were run by the thread that brought them.
    pub inline: u64,
    /// Batches that the publisher's full queue did not take.
    pub publisher_dropped: u64,
    /// What the journal has cost.
    pub journal: SyncFigures,
}

impl Shared {
    pub(super) fn set_accepting(&self, accepting: Result<(), NotAccepting>) {
        self.own.store(code_of(accepting), Ordering::Release);
    }

    pub(super) fn set_group(&self, status: GroupStatus) {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// When something is answered now.
    pub(super) fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            both_through: Sequence(self.both_through.load(Ordering::Acquire)),
        }
    }

    fn accepting(&self) -> Result<(), NotAccepting> {
        reason_of(self.own.load(Ordering::Acquire))?;
        if self.stopping.load(Ordering::Acquire) {
            return Err(NotAccepting::Stopping);
        }
        self.blocked()
    }

    /// Why the node itself lets the core take no commands, if it does not.
    pub(super) fn blocked(&self) -> Result<(), NotAccepting> {
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
pub struct Core<M: StateMachine> {
    shared: Arc<Shared>,
    seat: Arc<Seat<CoreState<M>>>,
    queue: Sender<Message>,
    events: Sender<CoreEvent>,
    publisher: PublishBell,
    journal: JournalHandle,
    group: GroupId,
    incarnation: Incarnation,
    /// True of a region among several.
    in_region: bool,
    region: Mutex<Option<RegionStatus>>,
}

impl<M> Core<M>
where
    M: StateMachine<Command = Command, Event = Event> + Send + 'static,
{
    /// Starts the core and its threads. What it applies goes to `publish` as long as that has room. `observe` looks at the state
    /// machine about once a second, and must be done with it in no time. `ended` is told, on the core
    /// thread, how it came to its end.
    pub fn start(
        settings: &CoreSettings,
        recovered: Recovered<M>,
        publish: PublishSender,
        peers: Box<dyn Peers>,
        region: Option<RegionPart>,
        observe: impl FnMut(&M) + Send + 'static,
        ended: impl FnOnce(&CoreEnd) + Send + 'static,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<CoreEnd>)> {
        let Recovered {
            applier,
            journal,
            suffix,
        } = recovered;
        let handle = journal.handle();
        let identity = *handle.identity();
        let replica_settings = Settings {
            identity,
            epoch: settings.epoch,
            repairing: settings.repairing,
            election_ticks: election_ticks(identity.node),
        };
        let applied = applier.applied();
        let lone = applier.membership().is_lone_voter(identity.node);
        let (syncer, jobs) = bounded::<SyncJob>(1);
        let (events, happened) = bounded(EVENTS_QUEUED_MAX);
        let member = Member::new(
            identity.node,
            Clock::default().now(),
            applier.membership(),
            settings.gateway,
            peers,
            syncer,
        );
        start_syncs(jobs, events.clone())?;
        let region = region.map(|part| InRegion::new(part, Clock::default().now()));
        let region_status = region.as_ref().map(InRegion::status);
        let shared = Arc::new(Shared {
            own: AtomicU8::new(code_of(Err(NotAccepting::Starting))),
            blocked: AtomicU8::new(0),
            stopping: AtomicBool::new(false),
            last_applied: AtomicU64::new(applied.sequence.0),
            epoch: AtomicU32::new(settings.epoch.unwrap_or(applied.epoch).0),
            both_through: AtomicU64::new(0),
            lone: AtomicBool::new(lone),
            group: Mutex::new(GroupStatus::lone(identity.node, applied.index)),
            figures: Figures::default(),
            stages: Arc::default(),
            pace: Pace::new(settings.inline_sync_max),
            clock: Clock::default(),
        });
        let (queue, received) = bounded(COMMANDS_QUEUED_MAX + CANCELS_QUEUED_EXTRA + WAKES_MAX);
        let (hard_state, publisher) = (journal.hard_state(), publish.bell().clone());
        let replica = Replica::new(&replica_settings, applier, hard_state, suffix);
        let (state, unable) = match replica {
            Ok(replica) => {
                let observe = Box::new(observe);
                let state = CoreState::new(replica, journal, publish, Arc::clone(&shared), member, region, observe);
                (Some(state), None)
            }
            Err(reason) => (None, Some(CoreEnd::Stop(reason))),
        };
        let seat = Arc::new(Seat::new(state));
        let core = Arc::new(Self {
            shared: Arc::clone(&shared),
            seat: Arc::clone(&seat),
            queue,
            events,
            publisher,
            journal: handle,
            group: identity.group,
            incarnation: identity.incarnation,
            in_region: region_status.is_some(),
            region: Mutex::new(region_status),
        });
        let thread = CoreThread::new(
            Arc::clone(&seat),
            received,
            happened,
            Arc::clone(&shared),
            settings.spin,
        );
        let processor = settings.processor;
        let work = move || {
            processors::pin_to(processor.as_slice());
            // A panic anywhere else than in a step is an end as well, and must be told like every other.
            let run = || unable.unwrap_or_else(|| thread.run());
            let end = catch_unwind(AssertUnwindSafe(run)).unwrap_or(CoreEnd::PanickedElsewhere);
            // Who waits and the publisher learn of the end by what is dropped here.
            drop(seat.take().take());
            finish(&shared, end, ended)
        };
        let thread = std::thread::Builder::new().name("core".into()).spawn(work)?;
        Ok((core, thread))
    }

    /// Takes no more commands, executes what is queued, makes all durable, and ends.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.journal.give_up_waiting();
        self.wake();
    }

    /// Tells the core that something happened. Waits while `EVENTS_QUEUED_MAX` are queued. False once the core has ended.
    pub fn tell(&self, event: CoreEvent) -> bool {
        self.events.send(event).is_ok()
    }

    /// The same without waiting: while so many are queued it is not told.
    pub fn tell_at_once(&self, event: CoreEvent) {
        let _ = self.events.try_send(event);
    }

    /// Takes no commands until this is called with none: what others know, such as that the disk is nearly full.
    pub fn block(&self, why: Option<NotAccepting>) {
        self.shared
            .blocked
            .store(code_of(why.map_or(Ok(()), Err)), Ordering::Release);
    }

    /// How the region is, for whoever asks.
    pub fn set_region(&self, status: RegionStatus) {
        *self.region.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// For how long a thread that brought a command has been running it, if one does.
    pub fn inline_for(&self) -> Option<Duration> {
        self.shared.pace.inline_for()
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
            inline: load(&figures.inline),
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

/// Starts the thread that syncs what the core's thread appended, in a group of several voters. It ends with the core.
fn start_syncs(jobs: Receiver<SyncJob>, events: Sender<CoreEvent>) -> std::io::Result<()> {
    let work = move || {
        for job in jobs {
            if events.send(CoreEvent::Synced(job.run())).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("journal-sync".into()).spawn(work)?;
    Ok(())
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
        | Action::SetRules(_)
        | Action::SetEngineVersion { .. } => false,
    }
}

impl<M> Core<M>
where
    M: StateMachine<Command = Command, Event = Event> + Send + 'static,
{
    /// Runs a command on this thread if the core is idle and there is more to gain than to lose by it; gives it back if not.
    #[expect(
        clippy::result_large_err,
        reason = "a command is handed back by value, without an allocation, to be queued"
    )]
    fn run_inline(&self, command: Command, waiter: Waiter) -> Result<(), (Command, Waiter)> {
        if !self.shared.lone.load(Ordering::Acquire) || !self.shared.pace.comes(self.seat.queued()) {
            return Err((command, waiter));
        }
        let Some(mut sitting) = self.seat.take_if_idle() else {
            return Err((command, waiter));
        };
        let Some(state) = sitting.as_mut() else {
            return Err((command, waiter));
        };
        self.shared.pace.begins_inline();
        let ran = state.run_inline(command, waiter);
        self.shared.pace.ends();
        drop(sitting);
        match ran {
            Inline::Done => {}
            Inline::Wake => self.wake(),
            Inline::Queue(command, waiter) => return Err((command, waiter)),
        }
        self.wake_publisher();
        Ok(())
    }

    /// Wakes the publisher once the task that runs here has sent the answer and has nothing further to do.
    fn wake_publisher(&self) {
        if !self.publisher.is_wanted() {
            return;
        }
        match Handle::try_current() {
            // It runs on this thread as soon as the task yields.
            Ok(runtime) => {
                let publisher = self.publisher.clone();
                runtime.spawn(async move { publisher.ring() });
            }
            Err(_) => self.publisher.ring(),
        }
    }

    fn wake(&self) {
        // A full queue wakes the core's thread as well.
        let _ = self.queue.try_send(Message::Wake);
    }

    /// Queues a command for the core's own thread, if there is room for one of its kind.
    fn enqueue(&self, command: Command, waiter: Waiter) -> Result<(), SubmitError> {
        let lowers_risk = lowers_risk(&command.action);
        let extra = if lowers_risk { CANCELS_QUEUED_EXTRA } else { 0 };
        if !self.seat.count_queued(COMMANDS_QUEUED_MAX + extra) {
            waiter.dismiss();
            return Err(BUSY);
        }
        self.queue.try_send(Message::Command(command, waiter)).map_err(|error| {
            self.seat.uncount_queued(1);
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
}

impl<M> CoreHandle for Core<M>
where
    M: StateMachine<Command = Command, Event = Event> + Send + 'static,
{
    fn hand_over(&self, command: Command, waiter: Waiter) -> Result<(), SubmitError> {
        if let Err(why) = self.shared.accepting() {
            waiter.dismiss();
            return Err(SubmitError::NotAccepting(why));
        }
        match self.run_inline(command, waiter) {
            Ok(()) => Ok(()),
            Err((command, waiter)) => self.enqueue(command, waiter),
        }
    }

    fn hand_over_together(&self, command: Command, waiter: Waiter) -> Result<(), SubmitError> {
        if let Err(why) = self.shared.accepting() {
            waiter.dismiss();
            return Err(SubmitError::NotAccepting(why));
        }
        self.enqueue(command, waiter)
    }

    fn status(&self) -> CoreStatus {
        CoreStatus {
            accepting: self.shared.accepting(),
            group: self.group,
            incarnation: self.incarnation,
            epoch: Epoch(self.shared.epoch.load(Ordering::Acquire)),
            last_applied: Sequence(self.shared.last_applied.load(Ordering::Acquire)),
            queued_count: self.seat.queued(),
            clock_error_bound_ns: self.shared.clock.error_bound_ns(),
        }
    }

    fn read_from(&self) -> ReadFrom {
        if !self.in_region && self.shared.lone.load(Ordering::Acquire) {
            return ReadFrom::Own;
        }
        let (tell, told) = oneshot::channel();
        // If there is no room, or no core, the sender is gone, which says as much as no leader.
        let _ = self.events.try_send(CoreEvent::Read(tell));
        ReadFrom::Group(told)
    }

    fn group(&self) -> GroupStatus {
        self.shared.group.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_members(&self, change: MembershipChange) -> oneshot::Receiver<Result<(), ChangeRefusal>> {
        let (tell, told) = oneshot::channel();
        let _ = self.events.try_send(CoreEvent::Change(change, tell));
        told
    }

    fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), ChangeRefusal> {
        let group = self.group();
        if group.leader != Some(group.node) {
            return Err(ChangeRefusal::NotLeader);
        }
        if let Some(to) = to
            && !group
                .members
                .iter()
                .any(|member| member.node == to && member.role == Role::Voter)
        {
            return Err(ChangeRefusal::Unknown);
        }
        let _ = self.events.try_send(CoreEvent::TransferLeadership(to));
        Ok(())
    }

    fn region(&self) -> Option<RegionStatus> {
        self.region.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn both_through(&self) -> Sequence {
        Sequence(self.shared.both_through.load(Ordering::Acquire))
    }

    fn operate_region(&self, operation: RegionOperation) -> oneshot::Receiver<Result<Epoch, LeaseRefusal>> {
        let (tell, told) = oneshot::channel();
        let _ = self
            .events
            .try_send(CoreEvent::Site(SiteEvent::Operate(operation, tell)));
        told
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn stages(&self) -> &Arc<Stages> {
        &self.shared.stages
    }
}
