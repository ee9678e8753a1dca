//! A node as one of a region: what its core, its voter of the lease group and the links to other sites say to each other.

use std::io;
use std::sync::{Arc, OnceLock, Weak};

use engine::Exchange;
use gateway::handle::RegionStatus;
use replica::lease::Elapsed;
use replica::region::{OnStandbyLoss, RegionSettings};
use types::{Epoch, Incarnation, Sequence, Timestamp};
use wire::journal::NodeId;
use wire::peer::RaftMessage;
use wire::site::{LeaseRefusal, LeaseView, LogPlace, SiteMessage};

use super::follow::{FollowServer, batches_of};
use super::voter::Voter;
use super::{SiteInbox, SiteLinks, elapsed};
use crate::config::{DurabilityConfig, PromotionConfig, Sites, SitesConfig, StandbyLossConfig};
use crate::core::{CoreEvent, RegionPart, SiteEvent};
use crate::journal::JournalHandle;

/// The core that runs an exchange.
type Core = crate::core::Core<Exchange>;

/// What the links' threads, the core and the voter share.
#[derive(Default)]
pub struct RegionShared {
    links: OnceLock<Weak<SiteLinks>>,
    core: OnceLock<Weak<Core>>,
    voter: OnceLock<Arc<Voter>>,
    follow: OnceLock<FollowServer>,
}

impl RegionShared {
    fn links(&self) -> Option<Arc<SiteLinks>> {
        self.links.get().and_then(Weak::upgrade)
    }

    fn tell(&self, event: SiteEvent) {
        if let Some(core) = self.core.get().and_then(Weak::upgrade) {
            core.tell(CoreEvent::Site(event));
        }
    }

    /// The links that it sends through.
    pub fn set_links(&self, links: &Arc<SiteLinks>) {
        let _ = self.links.set(Arc::downgrade(links));
    }

    /// The voter of this node, if it has one.
    pub fn set_voter(&self, voter: Arc<Voter>) {
        let _ = self.voter.set(voter);
    }

    /// The core that runs.
    pub fn set_core(&self, core: &Arc<Core>) {
        let _ = self.core.set(Arc::downgrade(core));
    }

    /// Starts the stream to the standby, for when this region is active.
    ///
    /// # Errors
    /// If the system has no room for its thread.
    pub fn start_following(self: &Arc<Self>, journal: JournalHandle) -> io::Result<()> {
        let shared = Arc::downgrade(self);
        let send = Box::new(move |to: NodeId, message: &SiteMessage| {
            let links = shared.upgrade().and_then(|shared| shared.links());
            links.is_some_and(|links| links.send(to, message))
        });
        let _ = self.follow.set(FollowServer::start(journal, send)?);
        Ok(())
    }

    /// Ends what it started.
    pub fn stop(&self) {
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
                committed_at,
                batches,
                ..
            } => match batches_of(&batches) {
                Some(batches) => self.tell(SiteEvent::Batches {
                    from,
                    stream,
                    committed,
                    committed_at,
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

    fn link(&self, _peer: NodeId, _is_up: bool) {}
}

/// The core's way to other sites.
pub struct CoreSites(pub Arc<RegionShared>);

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

    fn status(&self, status: RegionStatus) {
        if let Some(core) = self.0.core.get().and_then(Weak::upgrade) {
            core.set_region(status);
        }
    }
}

/// What the core of a region is started with; none if the configuration names no region for this node.
pub fn region_part(
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
