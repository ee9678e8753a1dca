//! What all parts of an edge share: what was heard, what follows from it, and how many connections each node has.
//!
//! One lock, held for a few comparisons and never across an await.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::figures::{Figures, Refused};
use crate::follow::{Answer, Decision, Follow, Heard, Keep, NodeIndex};

/// How long a node that took no connection is passed over; doubled each time.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest of that.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What a node's operations port said, in full, or why it said nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It answered.
    Answer {
        /// What counts.
        answer: Answer,
        /// Which life of its group it is of.
        incarnation: Option<u64>,
        /// The leader's term, as the node writes it.
        term: Option<String>,
        /// Why it is not active, in its own words.
        reason: Option<String>,
    },
    /// It did not.
    Nothing {
        /// Why not.
        why: String,
    },
}

/// A node as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Its public address.
    pub address: SocketAddr,
    /// Where its health is asked.
    pub health: SocketAddr,
    /// Whether it counts as there.
    pub up: bool,
    /// Whether new connections go to it.
    pub open: bool,
    /// Open connections.
    pub connections: usize,
    /// What it last said of itself.
    pub active: Option<bool>,
    /// The epoch that it last said.
    pub epoch: Option<u64>,
    /// The incarnation that it last said.
    pub incarnation: Option<u64>,
    /// The term that it last said.
    pub term: Option<String>,
    /// Why it is not active, or why it did not answer.
    pub reason: Option<String>,
    /// Questions without an answer since the last one.
    pub failures: u32,
    /// How long ago it was last heard, in milliseconds.
    pub heard_ms_ago: Option<u64>,
}

/// A region as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct RegionStatus {
    /// Its name.
    pub name: String,
    /// Whether it is followed.
    pub active: bool,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
}

/// What `/status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The region that is followed.
    pub active_region: Option<String>,
    /// The highest epoch that was seen.
    pub epoch: Option<u64>,
    /// Why that region is followed, or none is: a name.
    pub basis: &'static str,
    /// The same as a sentence.
    pub why: &'static str,
    /// Two regions say that they are active at the same epoch.
    pub epoch_conflict: bool,
    /// The region that DNS answers with.
    pub dns_region: Option<String>,
    /// The regions.
    pub regions: Vec<RegionStatus>,
}

/// A node, beside what was heard.
#[derive(Debug)]
struct Slot {
    region: String,
    address: SocketAddr,
    health: SocketAddr,
    connections: usize,
    dials_failed: u32,
    passed_over_until: Option<Instant>,
    last: Option<(Report, Instant)>,
    /// What open connections have to expect.
    keep: watch::Sender<Keep>,
}

/// What is under the lock.
#[derive(Debug)]
struct Inner {
    follow: Follow,
    decision: Decision,
    slots: Vec<Slot>,
    /// Where the search for the least busy node begins, so that equals take turns.
    turn: usize,
}

/// What all parts of an edge share.
#[derive(Debug)]
pub struct Board {
    inner: Mutex<Inner>,
    figures: Arc<Figures>,
    region_names: Vec<String>,
}

impl Board {
    /// Nothing was heard yet.
    pub(crate) fn new(config: &Config, figures: Arc<Figures>) -> Self {
        let regions: Vec<(String, usize)> = config
            .regions
            .iter()
            .map(|region| (region.name.clone(), region.nodes.len()))
            .collect();
        let mut follow = Follow::new(&regions, config.health.failures_max);
        let decision = follow.decide();
        let nodes = config.regions.iter();
        let nodes = nodes.flat_map(|region| region.nodes.iter().map(|node| (region.name.clone(), *node)));
        let slots = nodes.map(|(region, node)| Slot {
            region,
            address: node.address,
            health: node.health,
            connections: 0,
            dials_failed: 0,
            passed_over_until: None,
            last: None,
            keep: watch::channel(Keep::Lost).0,
        });
        Self {
            inner: Mutex::new(Inner {
                follow,
                decision,
                slots: slots.collect(),
                turn: 0,
            }),
            figures,
            region_names: regions.into_iter().map(|(name, _)| name).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock leaves it half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what came of asking a node, and acts on what follows: connections that must not stay are told.
    pub(crate) fn heard(&self, node: NodeIndex, report: Report, now: Instant) {
        let mut inner = self.lock();
        let heard = match &report {
            Report::Answer { answer, .. } => Heard::Answer(*answer),
            Report::Nothing { .. } => {
                self.figures.probes_failed[node.0].increment(1);
                Heard::Nothing
            }
        };
        let inner = &mut *inner;
        inner.slots[node.0].last = Some((report, now));
        inner.follow.heard(node, heard);
        let decision = inner.follow.decide();
        self.figures.node_up[node.0].set(u8::from(inner.follow.answer(node).is_some()));
        if decision == inner.decision {
            return;
        }
        self.figures.decided(&inner.decision, &decision);
        self.log(inner, &decision);
        for (slot, keep) in inner.slots.iter().zip(&decision.keep) {
            slot.keep.send_if_modified(|was| std::mem::replace(was, *keep) != *keep);
        }
        inner.decision = decision;
    }

    fn log(&self, inner: &Inner, decision: &Decision) {
        let before = &inner.decision;
        if (before.region, before.basis, before.epoch) != (decision.region, decision.basis, decision.epoch) {
            let region = decision.region.map(|region| &*self.region_names[region.0]);
            let (epoch, why) = (decision.epoch, decision.basis.sentence());
            tracing::info!(region, epoch, why, "what is followed has changed");
        }
        if decision.conflict && !before.conflict {
            tracing::error!(
                epoch = decision.epoch,
                "two regions say that they are active at the same epoch"
            );
        }
        for (slot, (was, is)) in inner.slots.iter().zip(before.keep.iter().zip(&decision.keep)) {
            let (region, node) = (&slot.region, slot.address);
            match (was, is) {
                (Keep::Lost, Keep::Yes | Keep::Superseded) => tracing::info!(region, %node, "a node answers"),
                (Keep::Yes | Keep::Superseded, Keep::Lost) => tracing::warn!(region, %node, "a node is lost"),
                _ => {}
            }
        }
    }

    /// Takes the least busy node for a new connection, but none of `tried`.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn take(self: &Arc<Self>, tried: &[NodeIndex], now: Instant) -> Result<Lease, Refused> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let count = inner.slots.len();
        let turn = inner.turn;
        let slots = &inner.slots;
        let free = |node: &&NodeIndex| slots[node.0].passed_over_until.is_none_or(|until| until <= now);
        let candidates = inner.decision.open_to.iter().filter(|node| !tried.contains(node));
        let best = candidates
            .filter(free)
            .min_by_key(|node| (slots[node.0].connections, (node.0 + count - turn) % count))
            .copied();
        let refused = if tried.is_empty() {
            Refused::NoNode
        } else {
            Refused::Dial
        };
        let node = best.ok_or(refused)?;
        inner.turn = (node.0 + 1) % count;
        let slot = &mut inner.slots[node.0];
        slot.connections += 1;
        Ok(Lease {
            board: Arc::clone(self),
            node,
            region: inner.follow.region_of(node).0,
            address: slot.address,
            keep: slot.keep.subscribe(),
        })
    }

    /// The region whose addresses DNS answers with, and whether it is so only because none is known to be active.
    pub(crate) fn dns_region(&self) -> (Option<usize>, u64, bool) {
        let inner = self.lock();
        let decision = &inner.decision;
        let region = decision.region.or(decision.last_region).map(|region| region.0);
        let is_static = decision.open_to.is_empty() && region.is_some();
        (region, decision.epoch.unwrap_or(0), is_static)
    }

    /// Whether a new connection would find a node.
    pub(crate) fn is_open(&self) -> bool {
        !self.lock().decision.open_to.is_empty()
    }

    /// Everything, for people.
    pub fn status(&self) -> Status {
        let now = Instant::now();
        let inner = self.lock();
        let decision = &inner.decision;
        let name = |region: usize| self.region_names[region].clone();
        let regions = self.region_names.iter().enumerate().map(|(region, name)| RegionStatus {
            name: name.clone(),
            active: decision.region.is_some_and(|active| active.0 == region),
            nodes: (0..inner.slots.len())
                .map(NodeIndex)
                .filter(|node| inner.follow.region_of(*node).0 == region)
                .map(|node| inner.node_status(node, now))
                .collect(),
        });
        Status {
            active_region: decision.region.map(|region| name(region.0)),
            epoch: decision.epoch,
            basis: decision.basis.name(),
            why: decision.basis.sentence(),
            epoch_conflict: decision.conflict,
            dns_region: decision.region.or(decision.last_region).map(|region| name(region.0)),
            regions: regions.collect(),
        }
    }
}

impl Inner {
    fn node_status(&self, node: NodeIndex, now: Instant) -> NodeStatus {
        let slot = &self.slots[node.0];
        let report = slot.last.as_ref().map(|(report, _)| report.clone());
        let (active, epoch, incarnation, term, reason) = match report {
            Some(Report::Answer {
                answer,
                incarnation,
                term,
                reason,
            }) => (Some(answer.active), Some(answer.epoch), incarnation, term, reason),
            Some(Report::Nothing { why }) => (None, None, None, None, Some(why)),
            None => (None, None, None, None, None),
        };
        let ago = |at: Instant| u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        NodeStatus {
            address: slot.address,
            health: slot.health,
            up: self.follow.answer(node).is_some(),
            open: self.decision.open_to.contains(&node),
            connections: slot.connections,
            active,
            epoch,
            incarnation,
            term,
            reason,
            failures: self.follow.failures(node),
            heard_ms_ago: slot.last.as_ref().map(|(_, at)| ago(*at)),
        }
    }
}

/// A node's place for one connection; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    board: Arc<Board>,
    pub node: NodeIndex,
    pub region: usize,
    pub address: SocketAddr,
    /// Changes when the connection must not stay.
    keep: watch::Receiver<Keep>,
}

impl Lease {
    /// Waits until the connection must not stay, and says why.
    pub async fn cut(&mut self) -> Keep {
        match self.keep.wait_for(|keep| *keep != Keep::Yes).await {
            Ok(keep) => *keep,
            // The board is gone, and this with it.
            Err(_) => Keep::Lost,
        }
    }

    /// The node took the connection.
    pub fn dialled(&self) {
        let mut inner = self.board.lock();
        let slot = &mut inner.slots[self.node.0];
        slot.dials_failed = 0;
        slot.passed_over_until = None;
    }

    /// The node did not take the connection.
    pub fn dial_failed(&self, now: Instant) {
        self.board.figures.dials_failed[self.node.0].increment(1);
        let mut inner = self.board.lock();
        let slot = &mut inner.slots[self.node.0];
        // Those that were tried at the same time count once.
        if slot.passed_over_until.is_none_or(|until| until <= now) {
            let pause = BACKOFF_MIN
                .saturating_mul(1 << slot.dials_failed.min(8))
                .min(BACKOFF_MAX);
            slot.dials_failed += 1;
            slot.passed_over_until = Some(now + pause);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.board.lock().slots[self.node.0].connections -= 1;
    }
}
