//! A running node: recovers what is on disk, starts the threads in order, serves, and stops in the opposite order.
//!
//! ```text
//!  start:  lock ─> snapshot ─> journal replayed ─> event log checked, gaps filled ─> views ─> core ─> publisher ─> sockets
//!  stop:   sockets, open requests ─> core drained ─> publisher drained, event log flushed ─> snapshots ─> lock
//! ```

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::Exchange;
use gateway::handle::{CoreHandle, History, MemberStatus, NotAccepting};
use gateway::sealing::{SEALING_KEY_BYTES, SealingKey};
use gateway::view::{View, ViewLimits};
use gateway::{Gateway, GatewayConfig, NamedRegion};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use types::{Epoch, Incarnation, Position, Sequence, StateMachine, Timestamp};
use wire::journal::Identity;

use crate::config::{Config, Idle, NodeRole};
use crate::core::{CoreEnd, CoreSettings, NoPeers, Peers, Recovered};
use crate::data_folder::{DataFolder, DataFolderError};
use crate::event_log::{EventLog, EventLogConfig, EventLogWriteError, Writer};
use crate::figures::{self, DiskStatus, DiskWatch, Figures, Shortage, Sources};
use crate::group::{self, Group, GroupError};
use crate::journal::{JournalError, JournalHandle};
use crate::listeners::Listeners;
use crate::operations::{self, Operations};
use crate::publisher::{self, PublishReceiver, Publisher, PublisherStatus};
use crate::recovery::{REPAIRING, Recovery, journal_settings, recover};
use crate::rejoin::{self, NextLife};
use crate::replay::ReplayError;
use crate::sites::region::{RegionError, RegionRuntime};
use crate::snapshots::{Maker, MakerRequest, MakerStatus, SnapshotFolder, keep_evidence};
use crate::threads::{Role, Threads};
use crate::tls_files::{TlsFiles, TlsFilesError};

/// The file whose presence says that a replay of the journal came to another state than the live one.
const EVIDENCE: &str = "DIVERGED";
/// The key that seals the secrets of HMAC keys.
pub const SEALING_KEY: &str = "sealing.key";

/// The core that runs an exchange.
type Core = crate::core::Core<Exchange>;

/// For how long a core's thread that spins looks for work at a time: longer than it ever waits.
const SPIN: Duration = Duration::from_secs(1);
/// How often it is looked whether a thread that serves connections is held up by the disk...
const STALL_LOOK: Duration = Duration::from_millis(25);
/// ... for at least this long.
const STALL: Duration = Duration::from_millis(10);

/// Requests that may wait for the thread that makes snapshots.
const MAKER_REQUESTS_MAX: usize = 8;

/// The epoch of a cluster that was never promoted.
pub const EPOCH: Epoch = Epoch(1);

/// Why a node can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    /// The evidence of a state that differed is still there.
    #[error(
        "start the node: its state once differed from its journal. {} says how; keep a copy of the whole folder, and \
         remove that file only when you know why",
        .0.display()
    )]
    Diverged(PathBuf),
    /// The event log.
    #[error(transparent)]
    Events(#[from] EventLogWriteError),
    /// Recovery.
    #[error("recover the state: {0}")]
    Replay(#[from] ReplayError),
    /// A snapshot.
    #[error("recover the state: {0}")]
    Snapshot(#[from] crate::snapshots::SnapshotFileError),
    /// The journal.
    #[error("recover the state: {0}")]
    Journal(#[from] JournalError),
    /// The views.
    #[error("recover the views: {0}")]
    View(#[from] gateway::handle::HistoryError),
    /// The group.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The region.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsFilesError),
    /// A thread.
    #[error("start the thread {0}: {1}")]
    Thread(&'static str, std::io::Error),
}

/// A node whose core runs. It answers nobody before [`Node::serve`].
pub struct Node {
    /// Its links to others, if it was told of any.
    group: Option<Group>,
    /// Its part in its region, if there are several.
    region: Option<RegionRuntime>,
    /// Turns true when the node must start again, from a snapshot that its leader sent.
    again: watch::Receiver<bool>,
    /// Released last.
    folder: DataFolder,
    core: Arc<Core>,
    core_thread: JoinHandle<CoreEnd>,
    events: Arc<EventLog>,
    journal_segment_bytes: u64,
    gateway: Gateway,
    tls: Option<TlsFiles>,
    threads: Arc<Threads>,
    publisher: Worker<PublisherStatus>,
    maker: Worker<MakerStatus>,
    /// Dropped to end the thread that makes snapshots.
    maker_requests: Sender<MakerRequest>,
    disk: Worker<DiskStatus>,
    /// Dropped to end the thread that watches the disk.
    disk_stop: Sender<()>,
}

/// A thread, and where it tells how it is doing.
struct Worker<S> {
    thread: JoinHandle<()>,
    status: Arc<S>,
}

/// A node that has stopped.
#[derive(Debug)]
pub struct Stopped {
    /// Its folder, still locked.
    pub folder: DataFolder,
    /// How its core came to its end.
    pub end: CoreEnd,
    /// Who belonged to its group.
    members: Vec<MemberStatus>,
    /// The last sequence that it had.
    applied: Sequence,
}

impl Stopped {
    /// True if the node is to start again, from a snapshot that its leader sent.
    pub fn begins_anew(&self) -> bool {
        matches!(self.end, CoreEnd::Installed | CoreEnd::BeginsLife { .. })
    }

    /// Who the node is when it starts again, and its folder: if its group begins a new life, what is void is kept aside.
    ///
    /// # Errors
    /// The disk. The next start goes on with it.
    pub fn begin_anew(self, identity: Identity, config: &Config) -> Result<(DataFolder, Identity), StartError> {
        let Self {
            folder,
            end,
            members,
            applied,
            ..
        } = self;
        if let CoreEnd::BeginsLife {
            incarnation,
            founder,
            kept,
        } = end
        {
            let life = NextLife::new(&identity, incarnation, founder, kept, applied);
            life.with_members(&members).announce(&folder)?;
        }
        let identity = rejoin::go_on(&folder, identity, config)?;
        Ok((folder, identity))
    }

    /// The error that ended the core before it was asked to stop, if one did.
    pub fn graceful(self) -> anyhow::Result<()> {
        if self.end.is_graceful() {
            return Ok(());
        }
        Err(anyhow::Error::new(self.end).context("run the core to its end"))
    }
}

impl Node {
    /// Recovers what the folder holds and starts the core.
    pub fn start(folder: DataFolder, identity: Identity, config: &Config) -> Result<Self, StartError> {
        let evidence = folder.file(EVIDENCE);
        if evidence.exists() {
            return Err(StartError::Diverged(evidence));
        }
        operations::metrics();
        let sealing = sealing_key(&folder, &identity)?;
        let tls = TlsFiles::load(&config.tls)?;
        let snapshots = SnapshotFolder {
            folder: folder.snapshots(),
            identity,
            founder: folder.founder(),
        };
        snapshots.prepare()?;
        let mut writer = Writer::open(event_log_config(&folder, identity, config))?;
        let settings = journal_settings(&folder, identity, config);
        let Recovery { recovered, repairing } = recover(&folder, &settings, &snapshots, &mut writer)?;
        let membership = recovered.membership().clone();
        let engine_version = StateMachine::engine_version(recovered.machine());
        let group = group::prepare(
            &config.peers,
            config.node.role.into(),
            identity,
            &membership,
            &snapshots,
            folder.file(REPAIRING),
        )?;
        let events = writer.log();
        let view = view_of(&recovered, &events)?;
        let tables = vec![recovered.machine().largest_table(), view.largest_table()];
        if let Err(error) = pages::back_soon(tables) {
            tracing::warn!(%error, "the first orders will wait until the pages of large tables are found");
        }

        let (publish, queue) = publisher::queue();
        let threads = Arc::<Threads>::default();
        let (mut region, part) = RegionRuntime::prepare(&folder, identity, config, &threads)?.unzip();
        let mut core_settings = core_settings(config);
        if part.is_some() {
            core_settings.epoch = None;
        }
        // A gateway begins with nothing each time, and its leader is to know that.
        core_settings.repairing = repairing || core_settings.gateway;
        let peers: Box<dyn Peers> = match &group {
            Some(group) => Box::new(group.peers()),
            None => Box::new(NoPeers),
        };
        let (tell_again, again) = watch::channel(false);
        let ended = move |end: &CoreEnd| {
            tell_again.send_replace(matches!(end, CoreEnd::Installed | CoreEnd::BeginsLife { .. }));
        };
        let started = Core::start(
            &core_settings,
            recovered,
            publish,
            peers,
            part,
            figures::observer(),
            ended,
        );
        let (core, core_thread) = started.map_err(|error| StartError::Thread("core", error))?;
        if membership.is_lone_voter(identity.node) && region.is_none() {
            wait_until_accepting(&core, &core_thread);
        }
        let handle: Arc<dyn CoreHandle> = Arc::clone(&core) as _;
        let history: Arc<dyn History> = Arc::clone(&events) as _;
        let mut settings = gateway_config(&identity, config);
        settings.regions = named_regions(config);
        settings.tls = tls.as_ref().map(TlsFiles::tls);
        let gateway = Gateway::new(settings, Arc::clone(&handle), history, view, sealing);

        let parts = Parts {
            core: Arc::clone(&core),
            journal: Arc::new(core.journal().clone()),
            events: Arc::clone(&events),
            snapshots,
            threads,
            blocks: Arc::new(Blocks {
                core: Arc::clone(&core),
                reasons: Mutex::default(),
            }),
        };
        let publisher = parts.start_publisher(writer, queue, &gateway)?;
        let (maker_requests, requests) = bounded(MAKER_REQUESTS_MAX);
        let maker = parts.start_maker(config, evidence, Arc::clone(&publisher.status), requests)?;
        let (disk_stop, stopped) = bounded(0);
        let disk = parts.start_disk_watch(config, &folder, Arc::clone(&publisher.status), stopped)?;
        let group = group.map(|group| {
            let (maker, threads) = (maker_requests.clone(), Arc::clone(&parts.threads));
            group.start(&core, &membership, engine_version, maker, threads)
        });
        let group = group.transpose()?;
        if let Some(region) = &mut region {
            region.start(&core, &folder)?;
        }
        Ok(Self {
            group,
            region,
            again,
            folder,
            core,
            core_thread,
            events,
            journal_segment_bytes: config.journal.segment_size.0,
            gateway,
            tls,
            threads: parts.threads,
            publisher,
            maker,
            maker_requests,
            disk,
            disk_stop,
        })
    }

    /// The core.
    pub fn core(&self) -> Arc<dyn CoreHandle> {
        Arc::clone(&self.core) as _
    }

    /// The journal, to read from.
    pub fn journal(&self) -> &JournalHandle {
        self.core.journal()
    }

    /// The event log.
    pub fn events(&self) -> Arc<EventLog> {
        Arc::clone(&self.events)
    }

    /// The data folder.
    pub fn folder(&self) -> &DataFolder {
        &self.folder
    }

    /// How the publisher is doing.
    pub fn publisher_status(&self) -> &PublisherStatus {
        &self.publisher.status
    }

    /// How far the snapshots are.
    pub fn maker_status(&self) -> &MakerStatus {
        &self.maker.status
    }

    /// Makes a snapshot now, if one is due, and waits for it. The node does so by itself too.
    pub fn snapshot_if_due(&self) {
        let (done, wait) = bounded(1);
        if self.maker_requests.send(MakerRequest::IfDue(done)).is_ok() {
            // An error says that the thread ended; then there is no snapshot.
            let _ = wait.recv();
        }
    }

    /// Serves until `stop` turns true, or the node must start again, and the open requests have ended.
    pub async fn serve(&self, listeners: Listeners, stop: watch::Receiver<bool>) -> std::io::Result<()> {
        let mut stop = either(stop, self.again.clone());
        let public = TcpListener::from_std(listeners.public)?;
        let admin = TcpListener::from_std(listeners.admin)?;
        let (over, operations_over) = watch::channel(false);
        let operations = self.serve_operations(listeners.operations, stop.clone(), operations_over)?;
        let gateway = self.gateway.clone();
        let (public_stop, admin_stop) = (stop.clone(), stop.clone());
        let sessions = async {
            let _ = stop.wait_for(|stop| *stop).await;
            gateway.stop();
        };
        let renewing = self.tls.clone().map(|files| tokio::spawn(files.follow()));
        tokio::join!(
            gateway.serve_public(public, public_stop),
            gateway.serve_admin(admin, admin_stop),
            sessions
        );
        over.send_replace(true);
        join("operations", operations);
        if let Some(renewing) = renewing {
            renewing.abort();
        }
        Ok(())
    }

    /// Serves health and metrics on a thread of its own until `over` turns true, whatever holds the others up. It also
    /// sees to it that one of these is not missed for long: a thread that runs a command itself waits for the disk, and
    /// may be the one that would have listened to the sockets; another one, which sleeps, is woken to do so.
    fn serve_operations(
        &self,
        listener: std::net::TcpListener,
        stop: watch::Receiver<bool>,
        mut over: watch::Receiver<bool>,
    ) -> std::io::Result<JoinHandle<()>> {
        let (gateway, router) = (self.gateway.clone(), self.operations().router());
        let (core, workers) = (Arc::clone(&self.core), Handle::current());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = async move {
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the operations port can't be served"),
            };
            let mut look = tokio::time::interval(STALL_LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let watch = async {
                loop {
                    look.tick().await;
                    if core.inline_for().is_some_and(|waits| waits >= STALL) {
                        workers.spawn(async {});
                    }
                }
            };
            tokio::select! {
                _ = over.wait_for(|over| *over) => {}
                () = watch => {}
                () = async {
                    gateway.serve_operations(listener, router, stop).await;
                    std::future::pending().await
                } => {}
            }
        };
        let work = move || runtime.block_on(serve);
        std::thread::Builder::new().name("operations".into()).spawn(work)
    }

    fn operations(&self) -> Operations {
        let core = self.core();
        let view = Arc::clone(self.gateway.view());
        let journal = self.core.journal().clone();
        let segment_bytes = self.journal_segment_bytes;
        let counted = Arc::clone(&self.core);
        let figures = Figures::new(Sources {
            commands_inline: Box::new(move || counted.figures().inline),
            core: Arc::clone(&core),
            events: self.events(),
            view: Arc::clone(&view),
            publisher: Arc::clone(&self.publisher.status),
            snapshots: Arc::clone(&self.maker.status),
            // The open segment and the next one are made at full length. Spares are not counted.
            journal_bytes: Box::new(move || journal.closed_bytes_behind(Sequence(0)) + 2 * segment_bytes),
            disk: Arc::clone(&self.disk.status),
        });
        Operations {
            caught_up: {
                let core = Arc::clone(&core);
                Arc::new(move || core.status().last_applied <= view.position().sequence)
            },
            threads: Arc::clone(&self.threads),
            refresh: Arc::new(move || figures.refresh()),
            core,
        }
    }

    /// Stops taking commands, lets what was taken come to its end, and brings everything into its file.
    pub fn stop(self) -> Stopped {
        let members = self.core.group().members;
        self.core.stop();
        let end = join("core", self.core_thread).unwrap_or(CoreEnd::PanickedElsewhere);
        if let Some(region) = self.region {
            region.stop();
        }
        if let Some(group) = self.group {
            group.stop();
        }
        // The last handle on the publisher's queue went with the core's thread.
        join("publisher", self.publisher.thread);
        self.maker.status.stop();
        drop((self.maker_requests, self.disk_stop));
        join("snapshots", self.maker.thread);
        join("disk", self.disk.thread);
        tracing::info!(sequence = self.events.last().0, "stopped");
        Stopped {
            applied: self.events.last(),
            folder: self.folder,
            end,
            members,
        }
    }
}

/// What the threads behind the core work with.
struct Parts {
    core: Arc<Core>,
    journal: Arc<JournalHandle>,
    events: Arc<EventLog>,
    snapshots: SnapshotFolder,
    threads: Arc<Threads>,
    blocks: Arc<Blocks>,
}

impl Parts {
    fn spawn(&self, role: Role, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
        let thread = self.threads.spawn(role, work);
        thread.map_err(|error| StartError::Thread(role.name(), error))
    }

    fn start_publisher(
        &self,
        writer: Writer,
        queue: PublishReceiver,
        gateway: &Gateway,
    ) -> Result<Worker<PublisherStatus>, StartError> {
        let status = Arc::new(PublisherStatus::default());
        let (gateway, core) = (gateway.clone(), Arc::clone(&self.core));
        let publisher = Publisher {
            writer,
            queue,
            applied: Box::new(move || core.status().last_applied),
            snapshots: self.snapshots.clone(),
            journal: Arc::clone(&self.journal),
            publish: Box::new(move |batch| {
                // The gateway tells of a gap itself; the publisher leaves none.
                let _ = gateway.publish(batch);
            }),
            status: Arc::clone(&status),
        };
        let thread = self.spawn(Role::Publisher, move || publisher.run::<Exchange>())?;
        Ok(Worker { thread, status })
    }

    fn start_maker(
        &self,
        config: &Config,
        evidence: PathBuf,
        publisher: Arc<PublisherStatus>,
        requests: Receiver<MakerRequest>,
    ) -> Result<Worker<MakerStatus>, StartError> {
        let status = Arc::new(MakerStatus::default());
        let blocks = Arc::clone(&self.blocks);
        let maker = Maker {
            snapshots: self.snapshots.clone(),
            journal: Arc::clone(&self.journal),
            events: Arc::clone(&self.events),
            journal_bytes: config.snapshots.journal_size.0,
            keeps_journal: config.journal.keep_all,
            pressure: Box::new(move || publisher.pressure()),
            has_elsewhere: has_elsewhere(&self.core),
            status: Arc::clone(&status),
            diverged: Box::new(move |error| {
                blocks.set(NotAccepting::StateDiverged, true);
                keep_evidence(&evidence, error);
            }),
        };
        let thread = self.spawn(Role::Snapshots, move || maker.run::<Exchange>(&requests))?;
        Ok(Worker { thread, status })
    }

    fn start_disk_watch(
        &self,
        config: &Config,
        folder: &DataFolder,
        publisher: Arc<PublisherStatus>,
        stop: Receiver<()>,
    ) -> Result<Worker<DiskStatus>, StartError> {
        let status = Arc::new(DiskStatus::default());
        let blocks = Arc::clone(&self.blocks);
        let watch = DiskWatch {
            path: folder.path().to_owned(),
            config: config.disk.clone(),
            status: Arc::clone(&status),
            changed: Box::new(move |shortage| {
                publisher.set_pressure(shortage != Shortage::None);
                blocks.set(NotAccepting::DiskFull, shortage == Shortage::Refuse);
            }),
        };
        let thread = self.spawn(Role::Disk, move || watch.run(&stop))?;
        Ok(Worker { thread, status })
    }
}

/// What the other region has for certain, of a region that is active.
fn has_elsewhere(core: &Arc<Core>) -> Box<dyn Fn() -> Option<Sequence> + Send> {
    let core = Arc::downgrade(core);
    Box::new(move || {
        let core = core.upgrade()?;
        let region = core.region()?;
        let active = region
            .lease
            .as_ref()
            .is_some_and(|lease| lease.active == Some(region.region));
        active.then(|| core.both_through())
    })
}

/// Why the node itself lets the core take no commands; there may be several reasons at the same time.
struct Blocks {
    core: Arc<Core>,
    reasons: Mutex<Vec<NotAccepting>>,
}

impl Blocks {
    fn set(&self, reason: NotAccepting, holds: bool) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.retain(|other| *other != reason);
        if holds {
            reasons.push(reason);
        }
        self.core.block(reasons.first().copied());
    }
}

fn join<T>(name: &str, thread: JoinHandle<T>) -> Option<T> {
    let ended = thread.join();
    if ended.is_err() {
        tracing::error!(thread = name, "the thread panicked");
    }
    ended.ok()
}

/// Turns true when either does.
fn either(mut one: watch::Receiver<bool>, mut other: watch::Receiver<bool>) -> watch::Receiver<bool> {
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        let waits = |receiver: &mut watch::Receiver<bool>| receiver.borrow_and_update().to_owned();
        loop {
            if waits(&mut one) || waits(&mut other) {
                tell.send_replace(true);
                return;
            }
            // A sender that is gone says nothing any more.
            tokio::select! {
                Ok(()) = one.changed() => {}
                Ok(()) = other.changed() => {}
                () = tell.closed() => return,
            }
        }
    });
    told
}

/// A lone voter leads as soon as it has written its term's first entry. If the core ends instead, or the disk has no room
/// for that entry, its handle says why, and queries are served.
fn wait_until_accepting(core: &Core, thread: &JoinHandle<CoreEnd>) {
    let disk = [Err(NotAccepting::DiskFull), Err(NotAccepting::DiskFailed)];
    let waits = |accepting: Result<(), NotAccepting>| accepting.is_err() && !disk.contains(&accepting);
    while waits(core.status().accepting) && !thread.is_finished() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn core_settings(config: &Config) -> CoreSettings {
    let spin = match config.core.idle {
        Idle::Park => Duration::ZERO,
        Idle::Spin => SPIN,
    };
    // With one thread for all connections, nobody would serve the others while it waits for the disk.
    let inline_sync_max = match config.node.worker_threads() {
        1 => Duration::ZERO,
        _ => Duration::from_micros(config.core.inline_sync_us_max),
    };
    CoreSettings {
        epoch: Some(EPOCH),
        spin,
        processor: config.core.processor,
        inline_sync_max,
        gateway: config.node.role == NodeRole::Gateway,
        repairing: false,
    }
}

fn view_of(recovered: &Recovered<Exchange>, events: &EventLog) -> Result<Arc<View>, StartError> {
    let mut facts = Vec::new();
    recovered.machine().facts(&mut facts);
    let applied = recovered.applied();
    let position = Position {
        group: recovered.journal().identity().group,
        epoch: applied.epoch.max(EPOCH),
        sequence: applied.sequence,
    };
    let view = View::new(ViewLimits::default(), &facts, position);
    view.refill(events)?;
    Ok(Arc::new(view))
}

fn event_log_config(folder: &DataFolder, identity: Identity, config: &Config) -> EventLogConfig {
    let events = &config.events;
    EventLogConfig {
        folder: folder.events(),
        // It goes on over the lives of a group: what is void is cut off it.
        identity: Identity {
            incarnation: Incarnation(1),
            ..identity
        },
        segment_bytes: events.segment_size.0,
        bytes_max: events.size_max.0,
        keep_ns: u64::from(events.keep_hours) * 3_600 * Timestamp::SECOND,
        recent_bytes_max: events.memory_size_max.as_usize(),
    }
}

fn named_regions(config: &Config) -> Vec<NamedRegion> {
    let sites = config.sites.sites();
    let regions = sites.into_iter().flat_map(|sites| sites.regions);
    let named = regions.map(|(id, site)| NamedRegion {
        id,
        name: site.name,
        url: site.url,
    });
    named.collect()
}

fn gateway_config(identity: &Identity, config: &Config) -> GatewayConfig {
    let mut settings = GatewayConfig::new(identity.cluster);
    settings.connections_max = config.gateway.connections_max;
    settings.rate_limits.per_key.burst = config.gateway.requests_per_key_burst;
    settings.rate_limits.per_key.per_second = config.gateway.requests_per_key_per_second;
    settings.rate_limits.per_address.burst = config.gateway.requests_per_address_burst;
    settings.rate_limits.per_address.per_second = config.gateway.requests_per_address_per_second;
    let proxies = config.gateway.proxy_protocol_from.iter();
    settings.proxy_protocol_from = proxies.map(|address| address.to_canonical()).collect();
    settings
}

fn sealing_key(folder: &DataFolder, identity: &Identity) -> Result<SealingKey, StartError> {
    let path = folder.file(SEALING_KEY);
    let bytes = std::fs::read(&path).map_err(|error| DataFolderError::Io {
        path: path.clone(),
        error,
    })?;
    let bytes: [u8; SEALING_KEY_BYTES] = bytes.try_into().map_err(|_| DataFolderError::Damaged {
        path,
        reason: format!("it does not have {SEALING_KEY_BYTES} bytes"),
    })?;
    Ok(SealingKey::new(&bytes, identity.cluster))
}
