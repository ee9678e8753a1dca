//! How long a group is without a leader that answers: an order every few milliseconds at each node that survives.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{Credentials, WsClient};
use tokio::task::JoinSet;
use wire::json::{TimeInForce, TimeText};
use wire::ws::Request;

use super::sessions::far_away;
use crate::clients::{final_answer, impatient};
use crate::history::{Asked, History};

/// One order in this time at each node.
const EVERY: Duration = Duration::from_millis(5);
/// After this long nothing more is sent.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// How long an answer may take that is still under way then.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// Connections that wait for the fault.
pub(crate) struct Prober {
    pub(crate) account: u32,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) valid_until: TimeText,
    pub(crate) prefix: String,
    nodes: Vec<WsClient>,
}

impl Prober {
    /// Connects to every node.
    pub(crate) async fn new(
        addresses: &[SocketAddr],
        credentials: &Credentials,
        account: u32,
        history: &Arc<Mutex<History>>,
        prefix: String,
        valid_until: TimeText,
    ) -> std::io::Result<Self> {
        let mut nodes = Vec::new();
        for address in addresses {
            let endpoint = client::Endpoint::parse(&format!("http://{address}")).map_err(std::io::Error::other)?;
            let mut policy = impatient();
            policy.attempt_timeout = ANSWER_WITHIN;
            policy.give_up_after = GIVE_UP_AFTER;
            let connected = WsClient::connect(endpoint, Some(credentials.clone()), policy).await;
            nodes.push(connected.map_err(std::io::Error::other)?.0);
        }
        Ok(Self {
            account,
            history: Arc::clone(history),
            valid_until,
            prefix,
            nodes,
        })
    }

    /// From now on, at these nodes. Gives, for each, how long it took until an order was answered that was sent from now
    /// on.
    pub(crate) async fn probe(self, survivors: Vec<usize>, fault_at: Instant) -> Vec<Option<Duration>> {
        let mut probes = JoinSet::new();
        let this = Arc::new(self);
        for node in survivors {
            probes.spawn(Arc::clone(&this).probe_node(node, fault_at));
        }
        probes.join_all().await
    }

    async fn probe_node(self: Arc<Self>, node: usize, fault_at: Instant) -> Option<Duration> {
        let first: Arc<Mutex<Option<Duration>>> = Arc::default();
        let found = |first: &Mutex<Option<Duration>>| *first.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = JoinSet::new();
        let mut ticks = tokio::time::interval(EVERY);
        let mut count = 0_u64;
        while found(&first).is_none() && fault_at.elapsed() < GIVE_UP_AFTER {
            ticks.tick().await;
            count += 1;
            let id = format!("{}-{node}-{count}", self.prefix);
            let order = far_away(id, TimeInForce::Ioc, self.valid_until.clone());
            let asked = Asked::Place(order.clone());
            self.history().ask(self.account, asked.clone());
            let Ok(reply) = self.nodes[node].submit(Request::Place(order)).await else {
                continue;
            };
            let (this, first) = (Arc::clone(&self), Arc::clone(&first));
            waiting.spawn(async move {
                let Ok(answer) = final_answer(reply.wait().await.and_then(client::order_answer)) else {
                    return;
                };
                let after = fault_at.elapsed();
                this.history().answer(this.account, asked.request_id(), answer);
                first
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(after);
            });
        }
        waiting.join_all().await;
        found(&first)
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
