//! The gateway: what all of its handlers share, and its two routers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, watch};
use types::{AccountId, AppliedBatch, Key, KeyId, OrderTarget, Position};
use wire::errors::Refusal;

use crate::auth::Verifiers;
use crate::config::GatewayConfig;
use crate::failure::Failure;
use crate::handle::{CoreHandle, History};
use crate::metrics::GatewayMetrics;
use crate::past::Past;
use crate::rate_limits::RateLimits;
use crate::sealing::SealingKey;
use crate::stages::Stages;
use crate::view::{SequenceGap, View};

/// The gateway. Cheap to clone; every clone is the same gateway.
#[derive(Clone)]
pub struct Gateway(pub(crate) Arc<Shared>);

/// What all handlers share.
pub(crate) struct Shared {
    pub config: GatewayConfig,
    pub core: Arc<dyn CoreHandle>,
    pub past: Past,
    pub view: Arc<View>,
    pub sealing: SealingKey,
    pub verifiers: Verifiers,
    pub rate_limits: RateLimits,
    pub metrics: GatewayMetrics,
    pub stages: Arc<Stages>,
    /// How many more WebSocket sessions there may be.
    pub sessions: Arc<Semaphore>,
    /// True once the node stops: sessions end themselves.
    pub stopping: watch::Sender<bool>,
    diverged: AtomicBool,
}

impl Gateway {
    /// A gateway before the core, with a view that holds the present state.
    pub fn new(
        config: GatewayConfig,
        core: Arc<dyn CoreHandle>,
        history: Arc<dyn History>,
        view: Arc<View>,
        sealing: SealingKey,
    ) -> Self {
        let rate_limits = RateLimits::new(&config.rate_limits);
        let sessions = Arc::new(Semaphore::new(config.connections_max));
        Self(Arc::new(Shared {
            config,
            stages: Arc::clone(core.stages()),
            core,
            past: Past::new(history),
            view,
            sealing,
            verifiers: Verifiers::default(),
            rate_limits,
            metrics: GatewayMetrics::new(),
            sessions,
            stopping: watch::Sender::new(false),
            diverged: AtomicBool::new(false),
        }))
    }

    /// Takes a batch that the event log has. Called by the publisher's thread, one batch after another.
    pub fn publish(&self, batch: &Arc<AppliedBatch>) -> Result<(), SequenceGap> {
        let result = self.0.view.publish(batch);
        if result.is_err() && !self.0.diverged.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the view missed a batch; queries stay behind until the publisher has sent what is missing"
            );
        }
        result
    }

    /// The view, for the publisher and for metrics.
    pub fn view(&self) -> &Arc<View> {
        &self.0.view
    }

    /// How many WebSocket sessions are open.
    pub fn sessions_open(&self) -> usize {
        self.0.config.connections_max - self.0.sessions.available_permits()
    }

    /// Tells every session that the node stops. The listeners' own loops are told by their own signal.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }
}

impl Shared {
    /// Waits until the view has what the core had executed when this was called: then a query sees what this node has
    /// answered.
    pub async fn catch_up(&self) -> Result<(), Failure> {
        self.wait_for(self.core.status().last_applied).await
    }

    /// A key that is active. One that isn't known yet may have been made a moment ago.
    pub async fn active_key(&self, id: KeyId) -> Result<Arc<Key>, Failure> {
        let mut key = self.view.key(id);
        if key.is_none() {
            self.be_latest().await?;
            key = self.view.key(id);
        }
        let refused = || Failure::new(Refusal::KeyNotAccepted).field(wire::signing::HEADER_KEY);
        key.filter(|key| key.active).ok_or_else(refused)
    }

    /// An account's order as it is now, open or closed; none if it is not known (any more).
    pub async fn order_now(
        &self,
        account: AccountId,
        target: &OrderTarget,
    ) -> Result<Option<(types::Order, Option<types::CloseReason>)>, Failure> {
        if let Some(order) = self.view.open_order(account, target) {
            return Ok(Some((order, None)));
        }
        let ended = crate::view::closed_order(&self.view, &self.past, account, target).await?;
        Ok(ended.map(|ended| (ended.order, ended.close_reason)))
    }

    /// The position of the newest command in the view, for answers to queries.
    pub fn view_position(&self) -> Position {
        self.view.position()
    }
}
