//! A voter of the lease group, with a thread for consensus and one for its disk.
//!
//! ```text
//!  other sites ──> inbox ──> seat (consensus, the guard's clock) ──> sends
//!                              │ jobs               ^ done
//!                              v                    │
//!                            store: append, fsync, make anew
//! ```
//!
//! The disk has a thread to itself, so that a slow sync keeps nobody from being heard. Each queue is bounded: what does not
//! fit is dropped, which consensus and whoever asks take for a lost message.

mod seat;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use replica::lease::Elapsed;
use replica::{Now, Record, StopReason, Ticket};
use rustix::time::{ClockId, clock_gettime};
use types::RegionId;
use wire::journal::{Identity, LogIndex, NodeId};
use wire::membership::Membership;
use wire::peer::RaftMessage;
use wire::site::{LeaseView, SiteMessage};

use self::seat::{Action, Moment, Seat, Shown};
use super::store::{Kept, Store, StoreError};
use crate::core::Clock;
use crate::threads::{Role, Threads};

/// How often consensus is told that time passes. A message takes 55 ms between the sites that it is made for.
const TICK: Duration = Duration::from_millis(50);
/// What sites say that waits to be heard.
const INBOX_MAX: usize = 1_024;
/// What waits for the disk. When it is full the seat waits too.
const JOBS_MAX: usize = 256;
/// How long a voter that stops waits for another to lead.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);
/// Ticks between two looks at the clock's error bound.
const TICKS_PER_CLOCK_REFRESH: u32 = 20;

/// How a message gets to another site. Never waits.
pub trait SiteSender: Send + Sync {
    /// Sends it, or drops it. False if it is certain that it does not come.
    fn send(&self, to: NodeId, message: &SiteMessage) -> bool;
    /// The same for consensus's own.
    fn send_raft(&self, to: NodeId, message: RaftMessage) -> bool;
}

/// How a voter is set up.
#[derive(Clone, Debug)]
pub struct VoterConfig {
    /// Its folder; [`super::store::found`] makes that of a new one.
    pub folder: PathBuf,
    /// Who it is, in the lease group.
    pub identity: Identity,
    /// The voters, itself among them.
    pub voters: Vec<NodeId>,
    /// The one that leads if it can.
    pub witness: NodeId,
    /// By how much clocks that count elapsed time may differ, in parts per million.
    pub drift_ppm: u32,
    /// Which region each node is of: it may ask for that one alone.
    pub region_of: BTreeMap<NodeId, RegionId>,
    /// Where a panic of a thread shows.
    pub threads: Arc<Threads>,
}

/// Why a voter does not start.
#[derive(Debug, thiserror::Error)]
pub enum VoterError {
    /// What it kept.
    #[error("start the lease voter: {0}")]
    Store(#[from] StoreError),
    /// The log.
    #[error("start the lease voter: {0}")]
    Log(#[from] StopReason),
    /// The system.
    #[error("start the lease voter: start its threads: {0}")]
    Thread(#[from] io::Error),
    /// It is none.
    #[error("start the lease voter: node {0} is none of sites.lease_voters")]
    NoVoter(NodeId),
}

/// How a voter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterStatus {
    /// What it says of the lease.
    pub view: LeaseView,
    /// True while it has no vote, because it may have lost something.
    pub is_repairing: bool,
    /// Why it stopped by itself, if it did.
    pub failed: Option<String>,
}

/// A voter of the lease group that runs.
pub struct Voter {
    shared: Arc<Shared>,
    region_of: BTreeMap<NodeId, RegionId>,
    inbox: Sender<Heard>,
    stop: Mutex<Option<Sender<()>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Voter")
    }
}

struct Shared {
    drift_ppm: u32,
    shown: Mutex<Shown>,
    failed: Mutex<Option<String>>,
}

/// What comes from elsewhere.
enum Heard {
    Raft(NodeId, RaftMessage),
    Message(NodeId, SiteMessage),
    Unreachable(NodeId),
}

/// What the disk is to do, in this order.
enum Job {
    Append(Vec<Record>),
    Truncate(LogIndex),
    Sync(Ticket),
    /// Put this state in the place of the entries up to it.
    Compact(Box<Kept>),
    /// Put it in the place of everything.
    Install(Box<Kept>),
}

/// What the disk has done.
enum Done {
    Persisted { ticket: Ticket, is_large: bool },
    Compacted,
    Installed(Box<Kept>),
    Failed(StoreError),
}

impl Voter {
    /// Opens the store and starts.
    pub fn start(config: VoterConfig, links: Weak<dyn SiteSender>) -> Result<Arc<Self>, VoterError> {
        let VoterConfig {
            folder,
            identity,
            voters,
            witness,
            drift_ppm,
            region_of,
            threads,
        } = config;
        if !voters.contains(&identity.node) {
            return Err(VoterError::NoVoter(identity.node));
        }
        let membership = Membership::of_voters(voters.iter().copied());
        let (store, kept) = Store::open(&folder, identity, &membership)?;
        let seat = Seat::new(identity, &voters, witness, drift_ppm, kept)?;
        let shared = Arc::new(Shared {
            drift_ppm,
            shown: Mutex::new(seat.shown()),
            failed: Mutex::default(),
        });
        let (inbox, heard) = bounded(INBOX_MAX);
        let (jobs, to_do) = bounded(JOBS_MAX);
        // At most one of each job, so it is bounded too, and the disk never waits for the seat.
        let (is_done, done) = unbounded();
        let (stop, stopped) = bounded(0);
        let disk = threads.spawn(Role::Lease, move || keep(store, &to_do, &is_done))?;
        let run = Run {
            seat,
            links,
            shared: Arc::clone(&shared),
            clock: Clock::default(),
            jobs: Some(jobs),
            actions: Vec::new(),
            is_compacting: false,
            ticks: 0,
        };
        let voter = threads.spawn(Role::Lease, move || run.run(&heard, &done, stopped))?;
        Ok(Arc::new(Self {
            shared,
            region_of,
            inbox,
            stop: Mutex::new(Some(stop)),
            threads: Mutex::new(vec![voter, disk]),
        }))
    }

    /// Hears consensus's own message. Never waits.
    pub fn raft(&self, from: NodeId, message: RaftMessage) {
        let _ = self.inbox.try_send(Heard::Raft(from, message));
    }

    /// Hears what another site says, or this one; what is not for a voter is passed over. Never waits.
    pub fn message(&self, from: NodeId, message: SiteMessage) {
        if let SiteMessage::LeaseAsk {
            command: Some(command), ..
        } = &message
            && self.region_of.get(&from).copied() != command.region()
        {
            tracing::error!(%from, ?command, "a node asks for what is not its region's; it is passed over");
            return;
        }
        if matches!(
            message,
            SiteMessage::LeaseAsk { .. } | SiteMessage::LeaseSnapshot { .. }
        ) {
            let _ = self.inbox.try_send(Heard::Message(from, message));
        }
    }

    /// Hears that a link came up or went down. Never waits.
    pub fn link(&self, peer: NodeId, is_up: bool) {
        if !is_up {
            let _ = self.inbox.try_send(Heard::Unreachable(peer));
        }
    }

    /// What it says of the lease.
    pub fn view(&self) -> LeaseView {
        lock(&self.shared.shown).view(elapsed(), self.shared.drift_ppm)
    }

    /// How it is.
    pub fn status(&self) -> VoterStatus {
        let failed = lock(&self.shared.failed).clone();
        let is_repairing = lock(&self.shared.shown).is_repairing;
        VoterStatus {
            view: self.view(),
            is_repairing,
            failed,
        }
    }

    /// Lets another lead, and ends. What it promised is on disk.
    pub fn stop(&self) {
        lock(&self.stop).take();
        let threads = std::mem::take(&mut *lock(&self.threads));
        // The voter's own thread may be the last to let go of the links, and so of this.
        let own = std::thread::current().id();
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != own) {
            // Its panic was told already.
            let _ = thread.join();
        }
    }
}

impl Drop for Voter {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Time that passed since some moment of the system's life, that of its suspension included.
pub fn elapsed() -> Elapsed {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Elapsed(seconds * 1_000_000_000 + nanoseconds)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does the jobs, until there will be no more or one fails.
fn keep(mut store: Store, jobs: &Receiver<Job>, done: &Sender<Done>) {
    for job in jobs {
        let result = match job {
            Job::Append(records) => store.append(&records).map(|()| None),
            Job::Truncate(after) => store.truncate(after).map(|()| None),
            Job::Sync(ticket) => store.sync().map(|()| {
                let is_large = store.is_large();
                Some(Done::Persisted { ticket, is_large })
            }),
            Job::Compact(kept) => {
                let Kept {
                    point,
                    state,
                    repairing,
                    ..
                } = *kept;
                store.compact(point, state, repairing).map(|()| Some(Done::Compacted))
            }
            Job::Install(kept) => {
                let (point, state) = (kept.point.clone(), kept.state.clone());
                let installed = store.install(point, state, kept.hard_state, kept.repairing);
                installed.map(|()| Some(Done::Installed(kept)))
            }
        };
        let said = match result {
            Ok(None) => continue,
            Ok(Some(said)) => said,
            // Nothing after it may count, so nothing after it is done.
            Err(error) => Done::Failed(error),
        };
        let has_failed = matches!(said, Done::Failed(_));
        if done.send(said).is_err() || has_failed {
            return;
        }
    }
}

/// What the voter's own thread has.
struct Run {
    seat: Seat,
    links: Weak<dyn SiteSender>,
    shared: Arc<Shared>,
    clock: Clock,
    /// None once nothing further is done.
    jobs: Option<Sender<Job>>,
    actions: Vec<Action>,
    is_compacting: bool,
    ticks: u32,
}

impl Run {
    fn run(mut self, heard: &Receiver<Heard>, done: &Receiver<Done>, mut stopped: Receiver<()>) {
        let mut next_tick = Instant::now() + TICK;
        let mut leaves_by: Option<Instant> = None;
        while self.jobs.is_some() {
            let left = next_tick.saturating_duration_since(Instant::now());
            select! {
                recv(heard) -> heard => match heard {
                    Ok(heard) => self.hear(heard),
                    // Whoever it belongs to is gone without a word.
                    Err(_) => return,
                },
                recv(done) -> done => match done {
                    Ok(done) => self.disk_did(done),
                    Err(_) => self.fail("its thread for the disk has ended"),
                },
                recv(stopped) -> _ => {
                    stopped = never();
                    leaves_by = Some(Instant::now() + LEAVE_WITHIN);
                    self.seat.leave(self.moment(), &mut self.actions);
                }
                default(left) => {}
            }
            if Instant::now() >= next_tick {
                // After a pause it goes on from here.
                next_tick = Instant::now() + TICK;
                self.tick();
            }
            self.act();
            *lock(&self.shared.shown) = self.seat.shown();
            if leaves_by.is_some_and(|by| !self.seat.leads() || Instant::now() >= by) {
                return;
            }
        }
    }

    fn moment(&self) -> Moment {
        let now = Now {
            utc: self.clock.now(),
            clock_error_bound_ns: self.clock.error_bound_ns(),
        };
        let elapsed = elapsed();
        Moment { elapsed, now }
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(TICKS_PER_CLOCK_REFRESH) {
            self.clock.refresh();
        }
        self.seat.tick(self.moment(), &mut self.actions);
    }

    fn hear(&mut self, heard: Heard) {
        let moment = self.moment();
        match heard {
            Heard::Raft(from, message) => self.seat.raft(moment, from, message, &mut self.actions),
            Heard::Message(from, message) => self.seat.message(moment, from, message, &mut self.actions),
            Heard::Unreachable(peer) => self.seat.unreachable(moment, peer, &mut self.actions),
        }
    }

    fn disk_did(&mut self, done: Done) {
        match done {
            Done::Persisted { ticket, is_large } => {
                self.seat.persisted(self.moment(), ticket, &mut self.actions);
                if is_large && !self.is_compacting {
                    self.compact();
                }
            }
            Done::Compacted => self.is_compacting = false,
            Done::Installed(kept) => {
                let begun = self.seat.installed(*kept);
                if let Err(reason) = begun {
                    self.fail(&reason.to_string());
                }
            }
            Done::Failed(error) => self.fail(&error.to_string()),
        }
    }

    /// Does what the seat wants done.
    fn act(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Append(records) => self.job(Job::Append(records)),
                Action::Truncate(after) => self.job(Job::Truncate(after)),
                Action::Sync(ticket) => self.job(Job::Sync(ticket)),
                Action::Install(kept) => self.job(Job::Install(kept)),
                Action::Repaired => {
                    tracing::info!("this voter of the lease group has again what it lost; it votes");
                    self.compact();
                }
                Action::Send(to, message) => {
                    if let Some(links) = self.links.upgrade() {
                        links.send(to, &message);
                    }
                }
                Action::SendRaft(to, message) => {
                    if let Some(links) = self.links.upgrade() {
                        links.send_raft(to, message);
                    }
                }
                Action::Stop(reason) => self.fail(&reason.to_string()),
            }
        }
    }

    fn compact(&mut self) {
        self.is_compacting = true;
        self.job(Job::Compact(Box::new(self.seat.to_keep())));
    }

    fn job(&mut self, job: Job) {
        // If that thread has ended, it has said why.
        let _ = self.jobs.as_ref().map(|jobs| jobs.send(job));
    }

    /// Nothing further is done: what this voter can't keep it must not promise.
    fn fail(&mut self, why: &str) {
        tracing::error!("the lease voter stopped: {why}; the other two go on without it");
        *lock(&self.shared.failed) = Some(why.to_owned());
        self.jobs = None;
        self.actions.clear();
        self.seat.end();
    }
}
