//! A node as one of a region: what its core, its voter of the lease group and the links to other sites say to each other.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use engine::Exchange;
use gateway::handle::{CoreHandle as _, RegionStatus};
use replica::lease::Elapsed;
use replica::region::{OnStandbyLoss, RegionSettings};
use tokio::sync::oneshot::error::TryRecvError;
use types::{EngineVersion, Epoch, Incarnation, Sequence, Timestamp};
use wire::journal::{Identity, NodeId};
use wire::membership::MembershipChange;
use wire::peer::RaftMessage;
use wire::site::{LeaseRefusal, LeaseView, LogPlace, SiteMessage};

use super::follow::{FollowServer, batches_of};
use super::store::LEASE;
use super::voter::{Voter, VoterConfig, VoterError, elapsed};
use super::{SiteInbox, SiteLinks, SiteLinksConfig, SiteLinksError, lease_identity};
use crate::config::{Config, DurabilityConfig, PromotionConfig, Sites, SitesConfig, StandbyLossConfig};
use crate::core::{CoreEvent, RegionPart, SiteEvent};
use crate::data_folder::DataFolder;
use crate::journal::JournalHandle;
use crate::rejoin::{self, FormerMember};
use crate::threads::Threads;

/// The core that runs an exchange.
type Core = crate::core::Core<Exchange>;

/// How often it is looked whether the founder has members to take in.
const TAKE_IN_EVERY: Duration = Duration::from_millis(500);
/// For how long a change of the members is waited for.
const CHANGE_WITHIN: Duration = Duration::from_secs(5);

/// Why a node can't take its part in a region.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// It has no certificate.
    #[error("take part in the region: the configuration has no [peers] certificate, private_key and ca")]
    NoCertificate,
    /// The links.
    #[error("take part in the region: {0}")]
    Links(#[from] SiteLinksError),
    /// The voter.
    #[error("take part in the region: {0}")]
    Voter(#[from] VoterError),
    /// The threads.
    #[error("take part in the region: start its threads: {0}")]
    Start(#[from] io::Error),
}

/// The part of a node in its region: links to other sites, the voter, the stream to the standby.
pub struct RegionRuntime {
    shared: Arc<RegionShared>,
    links: Arc<SiteLinks>,
    stop: Sender<()>,
    stopped: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl RegionRuntime {
    /// Binds the port and starts links and voter. None if the configuration names no region for this node.
    ///
    /// # Errors
    /// The port, the certificates, what the voter kept, or the system.
    pub fn prepare(
        folder: &DataFolder,
        identity: Identity,
        config: &Config,
        threads: &Arc<Threads>,
    ) -> Result<Option<(Self, RegionPart)>, RegionError> {
        let Some(sites) = config.sites.sites().filter(|sites| sites.region.is_some()) else {
            return Ok(None);
        };
        let shared = Arc::<RegionShared>::default();
        let Some(part) = region_part(&config.sites, &sites, identity.node, identity.incarnation, &shared) else {
            return Ok(None);
        };
        let _ = shared.others.set(part.others.clone());
        let links = SiteLinksConfig {
            cluster: identity.cluster,
            node: identity.node,
            role: config.node.role.into(),
            listen: config.sites.listen,
            files: config.peers.files().ok_or(RegionError::NoCertificate)?,
            sites: sites.clone(),
            threads: Arc::clone(threads),
        };
        let links = SiteLinks::start(links, Arc::clone(&shared) as _)?;
        shared.set_links(&links);
        if sites.lease_voters.contains(&identity.node) {
            let voter = VoterConfig {
                folder: folder.file(LEASE),
                identity: lease_identity(identity.cluster, identity.node),
                voters: sites.lease_voters.clone(),
                witness: sites.witness.as_ref().map_or(identity.node, |(node, _)| *node),
                drift_ppm: config.sites.drift_ppm,
                region_of: sites.region_of(),
                threads: Arc::clone(threads),
            };
            let sender: Weak<SiteLinks> = Arc::downgrade(&links);
            shared.set_voter(Voter::start(voter, sender as _)?);
        }
        let (stop, stopped) = bounded(0);
        let runtime = Self {
            shared,
            links,
            stop,
            stopped,
            thread: None,
        };
        Ok(Some((runtime, part)))
    }

    /// Starts what needs the core, for one that runs.
    ///
    /// # Errors
    /// If the system has no room for another thread.
    pub fn start(&mut self, core: &Arc<Core>, folder: &DataFolder) -> Result<(), RegionError> {
        self.shared.start_following(core.journal().clone())?;
        self.shared.set_core(core);
        let members = rejoin::members_to_take_in(folder).unwrap_or_else(|error| {
            tracing::error!(%error, "it is not known which nodes to take in; add them by hand");
            Vec::new()
        });
        if members.is_empty() {
            return Ok(());
        }
        let (core, file, stopped) = (Arc::downgrade(core), folder.file(rejoin::MEMBERS), self.stopped.clone());
        let work = move || take_in(&core, &members, &file, &stopped);
        self.thread = Some(std::thread::Builder::new().name("take-in".into()).spawn(work)?);
        Ok(())
    }

    /// The links to other sites.
    pub fn links(&self) -> &Arc<SiteLinks> {
        &self.links
    }

    /// Ends all of it.
    pub fn stop(self) {
        drop(self.stop);
        self.shared.stop();
        self.links.stop();
        if self.thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(thread = "take-in", "the thread panicked");
        }
    }
}

/// Lets the nodes of the life before in again, one after the other, as long as this node leads.
fn take_in(core: &Weak<Core>, members: &[FormerMember], file: &Path, stopped: &Receiver<()>) {
    while stopped.recv_timeout(TAKE_IN_EVERY) == Err(RecvTimeoutError::Timeout) {
        let Some(core) = core.upgrade() else { return };
        let group = core.group();
        let is_in = |node: u64| group.members.iter().any(|member| member.node == NodeId(node));
        let Some(member) = members.iter().find(|member| !is_in(member.node)) else {
            if let Err(error) = std::fs::remove_file(file) {
                tracing::warn!(%error, path = %file.display(), "what says which nodes to take in stays");
            }
            return;
        };
        if group.leader != Some(group.node) {
            continue;
        }
        let change = MembershipChange::Add {
            node: NodeId(member.node),
            address: member.address.clone(),
            gateway: member.gateway,
        };
        let taken = core.change_members(change);
        let until = Instant::now() + CHANGE_WITHIN;
        match wait_for(taken, until) {
            Some(Ok(())) => tracing::info!(node = member.node, "taken in again"),
            Some(Err(error)) => tracing::debug!(node = member.node, %error, "not taken in yet"),
            None => {}
        }
    }
}

/// What was answered, if it was in time.
fn wait_for<T>(mut answer: tokio::sync::oneshot::Receiver<T>, until: Instant) -> Option<T> {
    loop {
        match answer.try_recv() {
            Ok(answered) => return Some(answered),
            Err(TryRecvError::Closed) => return None,
            Err(TryRecvError::Empty) if Instant::now() >= until => return None,
            Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// What the links' threads, the core and the voter share.
#[derive(Default)]
struct RegionShared {
    links: OnceLock<Weak<SiteLinks>>,
    core: OnceLock<Weak<Core>>,
    voter: OnceLock<Arc<Voter>>,
    follow: OnceLock<FollowServer>,
    /// The other region's nodes.
    others: OnceLock<Vec<NodeId>>,
}

impl RegionShared {
    fn links(&self) -> Option<Arc<SiteLinks>> {
        self.links.get().and_then(Weak::upgrade)
    }

    /// The newest engine version that all nodes of the other region read.
    fn other_reads(&self) -> Option<EngineVersion> {
        let others = self.others.get()?;
        let links = self.links()?.status();
        let reads = others.iter().map(|node| {
            let link = links.iter().find(|link| link.peer == *node)?;
            link.outgoing.connected_since?;
            Some(EngineVersion(link.hello?.reads.engine))
        });
        reads.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    fn tell(&self, event: SiteEvent) {
        if let Some(core) = self.core.get().and_then(Weak::upgrade) {
            core.tell(CoreEvent::Site(event));
        }
    }

    /// The links that it sends through.
    fn set_links(&self, links: &Arc<SiteLinks>) {
        let _ = self.links.set(Arc::downgrade(links));
    }

    /// The voter of this node, if it has one.
    fn set_voter(&self, voter: Arc<Voter>) {
        let _ = self.voter.set(voter);
    }

    /// The core that runs.
    fn set_core(&self, core: &Arc<Core>) {
        let _ = self.core.set(Arc::downgrade(core));
    }

    /// Starts the stream to the standby, for when this region is active.
    ///
    /// # Errors
    /// If the system has no room for its thread.
    fn start_following(self: &Arc<Self>, journal: JournalHandle) -> io::Result<()> {
        let shared = Arc::downgrade(self);
        let send = Box::new(move |to: NodeId, message: &SiteMessage| {
            let links = shared.upgrade().and_then(|shared| shared.links());
            links.is_some_and(|links| links.send(to, message))
        });
        let _ = self.follow.set(FollowServer::start(journal, send)?);
        Ok(())
    }

    /// Ends what it started.
    fn stop(&self) {
        if let Some(follow) = self.follow.get() {
            follow.stop();
        }
        if let Some(voter) = self.voter.get() {
            voter.stop();
        }
    }
}

impl SiteInbox for RegionShared {
    fn message(&self, from: NodeId, message: SiteMessage) {
        match message {
            SiteMessage::LeaseAsk { .. } | SiteMessage::LeaseSnapshot { .. } => match (self.voter.get(), &message) {
                (Some(voter), _) => voter.message(from, message),
                (None, SiteMessage::LeaseAsk { id, .. }) => {
                    let answer = SiteMessage::LeaseAnswer {
                        id: *id,
                        done: Err(LeaseRefusal::NotLeader { leader: None }),
                        view: LeaseView::default(),
                    };
                    if let Some(links) = self.links() {
                        let _ = links.send(from, &answer);
                    }
                }
                (None, _) => {}
            },
            SiteMessage::Batches {
                stream,
                committed,
                after,
                batches,
                ..
            } => match batches_of(&batches) {
                Some(batches) => self.tell(SiteEvent::Batches {
                    from,
                    stream,
                    committed,
                    after,
                    batches,
                }),
                None => tracing::warn!(node = from.0, "what the active region sent can't be taken apart"),
            },
            message => self.tell(SiteEvent::Message { from, message }),
        }
    }

    fn raft(&self, from: NodeId, message: RaftMessage) {
        if let Some(voter) = self.voter.get() {
            voter.raft(from, message);
        }
    }

    fn link(&self, peer: NodeId, is_up: bool) {
        if let Some(voter) = self.voter.get() {
            voter.link(peer, is_up);
        }
    }
}

/// The core's way to other sites.
struct CoreSites(Arc<RegionShared>);

impl crate::core::Sites for CoreSites {
    fn now(&self) -> Elapsed {
        elapsed()
    }

    fn send(&self, to: NodeId, message: &SiteMessage) -> bool {
        self.0.links().is_some_and(|links| links.send(to, message))
    }

    fn serve(&self, to: NodeId, stream: u64, place: LogPlace) {
        if let Some(follow) = self.0.follow.get() {
            follow.serve(to, stream, place);
        }
    }

    fn followed(&self, stream: u64, through: Sequence) {
        if let Some(follow) = self.0.follow.get() {
            follow.followed(stream, through);
        }
    }

    fn committed(&self, epoch: Option<Epoch>, through: Sequence, stamp: Timestamp) {
        if let Some(follow) = self.0.follow.get() {
            follow.committed(epoch, through, stamp);
        }
    }

    fn status(&self, mut status: RegionStatus) {
        status.other_reads = self.0.other_reads();
        if let Some(core) = self.0.core.get().and_then(Weak::upgrade) {
            core.set_region(status);
        }
    }
}

/// What the core of a region is started with; none if the configuration names no region for this node.
fn region_part(
    config: &SitesConfig,
    sites: &Sites,
    node: NodeId,
    incarnation: Incarnation,
    shared: &Arc<RegionShared>,
) -> Option<RegionPart> {
    let region = sites.region?;
    let (other, other_site) = sites.other(region)?;
    let settings = RegionSettings {
        region,
        other,
        node,
        incarnation,
        founds: sites.first_active == region,
        voters: sites.lease_voters.clone(),
        sync: config.durability == DurabilityConfig::Sync,
        automatic: config.promotion == PromotionConfig::Automatic,
        lease_ns: config.lease_ms * 1_000_000,
        drift_ppm: config.drift_ppm,
        lag_max: Some(config.promotion_lag_max),
        on_standby_loss: match config.on_standby_loss {
            StandbyLossConfig::Degrade => OnStandbyLoss::Degrade,
            StandbyLossConfig::Stop => OnStandbyLoss::Stop,
        },
        degrade_after_ns: config.degrade_after_ms * 1_000_000,
    };
    Some(RegionPart {
        settings,
        others: other_site.nodes.keys().copied().collect(),
        lag_slow_from: config.lag.slow_from,
        lag_refuse_from: config.lag.refuse_from,
        sites: Box::new(CoreSites(Arc::clone(shared))),
    })
}
