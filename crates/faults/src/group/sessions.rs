//! Clients of a group: what one node doesn't answer is asked again, under its id, at the next one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{ClientError, Credentials, PendingReply, RestClient, WsClient};
use harness::SYMBOL;
use powerloss::Random;
use wire::json::{
    CancelItem, DecimalText, NewOrder, Order, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce, TimeText,
};
use wire::ws::Request;

use crate::clients::{connect_websocket, final_answer, send};
use crate::history::{Asked, Final};
use crate::load::Load;
use crate::rounds::Told;

/// Requests that a WebSocket session has under way at the same time.
const UNDER_WAY: usize = 8;
/// How long a request is tried at one node after the other. Then it stays unanswered until the group is whole again.
const TRIED_FOR: Duration = Duration::from_secs(15);
/// How long to wait after all nodes were tried once.
const WAIT: Duration = Duration::from_millis(20);
/// Nobody's index: no node has a fault.
const NONE: usize = usize::MAX;
/// The index of a node that clients don't use, or of none in particular: none of theirs has the fault.
pub(crate) const ELSEWHERE: usize = usize::MAX - 1;

/// What the sessions of a round share.
pub(crate) struct Round {
    /// A client of each node that clients use, of nobody yet.
    pub(crate) nodes: Vec<RestClient>,
    /// What these nodes are called.
    numbers: Vec<usize>,
    /// Whoever is set stops asking for more.
    stop: AtomicBool,
    /// The node that has the fault.
    faulty: AtomicUsize,
    /// The node that may have forgotten what was before.
    forgetful: AtomicUsize,
    /// Reads at it that found nothing of an acknowledged order.
    pub(crate) forgotten: AtomicU64,
    /// Attempts at other nodes that failed since the fault.
    failed: AtomicU64,
    /// Of these, the first few.
    failures: Mutex<Vec<String>>,
    pub(crate) reads: AtomicU64,
    pub(crate) broken: Mutex<Vec<String>>,
}

impl Round {
    pub(crate) fn new(nodes: Vec<RestClient>, numbers: Vec<usize>) -> Arc<Self> {
        Arc::new(Self {
            nodes,
            numbers,
            stop: AtomicBool::new(false),
            faulty: AtomicUsize::new(NONE),
            forgetful: AtomicUsize::new(NONE),
            forgotten: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failures: Mutex::default(),
            reads: AtomicU64::new(0),
            broken: Mutex::default(),
        })
    }

    pub(crate) fn fault_at(&self, node: usize) {
        self.faulty.store(node, Ordering::Release);
    }

    pub(crate) fn may_forget(&self, node: usize) {
        self.forgetful.store(node, Ordering::Release);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(crate) fn attempts_failed(&self) -> u64 {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The node that something is the matter with.
    fn faulty(&self) -> usize {
        self.faulty.load(Ordering::Acquire)
    }

    /// An attempt failed that was begun while `faulty_then` was the node that something was the matter with.
    fn attempt_failed(&self, node: usize, faulty_then: usize, error: &ClientError) {
        let faulty = self.faulty();
        if faulty != NONE && faulty != node && faulty_then != node {
            self.failed.fetch_add(1, Ordering::AcqRel);
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            if failures.len() < 5 {
                failures.push(format!("at node {}: {error}", self.numbers[node]));
            }
        }
    }

    fn is_broken(&self, what: String) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

/// The client of an account. It stays at a node as long as that answers.
pub(crate) struct Session {
    round: Arc<Round>,
    credentials: Credentials,
    own: Vec<RestClient>,
    at: usize,
    told: Told,
}

impl Session {
    pub(crate) fn new(round: &Arc<Round>, at: usize, credentials: &Credentials, told: Told) -> Self {
        let own = round.nodes.iter();
        Self {
            round: Arc::clone(round),
            credentials: credentials.clone(),
            own: own.map(|rest| rest.with_credentials(credentials.clone())).collect(),
            at,
            told,
        }
    }

    /// Asks until there is a final answer, at one node after the other.
    async fn bring_to_end(&mut self, asked: &Asked) -> Option<Final> {
        let until = Instant::now() + TRIED_FOR;
        let mut tried = 0;
        while Instant::now() < until {
            let faulty = self.round.faulty();
            match final_answer(send(&self.own[self.at], asked).await) {
                Ok(answer) => {
                    self.told.answer(asked, answer.clone());
                    return Some(answer);
                }
                Err(error) => self.round.attempt_failed(self.at, faulty, &error),
            }
            self.at = (self.at + 1) % self.own.len();
            tried += 1;
            if tried % self.own.len() == 0 {
                tokio::time::sleep(WAIT).await;
            }
        }
        None
    }

    /// One request after the other over REST.
    pub(crate) async fn over_rest(mut self, mut load: Load) {
        while !self.round.is_over() {
            let asked = self.told.ask(&mut load);
            self.bring_to_end(&asked).await;
        }
    }

    /// Some number of requests under way over WebSocket; what is lost with the connection is asked again over REST.
    pub(crate) async fn over_websocket(mut self, mut load: Load, addresses: Vec<std::net::SocketAddr>) {
        while !self.round.is_over() {
            match connect_websocket(addresses[self.at], self.credentials.clone()).await {
                Ok(websocket) => {
                    let lost = self.use_websocket(websocket, &mut load).await;
                    for asked in lost {
                        self.bring_to_end(&asked).await;
                    }
                }
                Err(_) => self.at = (self.at + 1) % addresses.len(),
            }
        }
    }

    /// Until the round is over, or something isn't answered. Gives what was not.
    async fn use_websocket(&mut self, websocket: WsClient, load: &mut Load) -> Vec<Asked> {
        let mut under_way: VecDeque<(Asked, usize, PendingReply)> = VecDeque::new();
        let mut lost = Vec::new();
        loop {
            while lost.is_empty() && !self.round.is_over() && under_way.len() < UNDER_WAY {
                let (asked, faulty) = (self.told.ask(load), self.round.faulty());
                match websocket.submit(over_websocket(asked.clone())).await {
                    Ok(reply) => under_way.push_back((asked, faulty, reply)),
                    Err(_) => lost.push(asked),
                }
            }
            let Some((asked, faulty, reply)) = under_way.pop_front() else {
                return lost;
            };
            match final_answer(reply.wait().await.and_then(client::order_answer)) {
                Ok(answer) => self.told.answer(&asked, answer),
                Err(error) => {
                    self.round.attempt_failed(self.at, faulty, &error);
                    lost.push(asked);
                }
            }
        }
    }

    /// Places an order, and reads it at every node: each must know of it, for the read began after the answer. Then cancels
    /// it, and no node may show it open.
    pub(crate) async fn watch(mut self, prefix: String, seed: u64, valid_until: TimeText) {
        let mut random = Random::new(seed);
        let mut count = 0_u64;
        while !self.round.is_over() {
            count += 1;
            self.at = random.below(self.own.len());
            let id = format!("{prefix}-{count}");
            let place = Asked::Place(far_away(id.clone(), TimeInForce::Gtc, valid_until.clone()));
            let cancel = Asked::Cancel(CancelItem {
                request_id: format!("{id}-cancel"),
                order_id: None,
                client_order_id: Some(id.clone()),
                valid_until: Some(valid_until.clone()),
            });
            for asked in [place, cancel] {
                self.told.history().ask(self.told.account, asked.clone());
                let Some(Final::Executed(_)) = self.bring_to_end(&asked).await else {
                    break;
                };
                let first = random.below(self.own.len());
                for step in 0..self.own.len() {
                    let node = (first + step) % self.own.len();
                    self.look(node, &id, matches!(asked, Asked::Cancel(_))).await;
                }
            }
        }
    }

    async fn look(&self, node: usize, id: &str, is_cancelled: bool) {
        let target = format!("/v1/orders/by-client-id/{id}");
        let found = self.own[node].read::<Order>(&target).await;
        let name = format!("node {}, order {id}", self.round.numbers[node]);
        match found {
            Ok(order) if is_cancelled && order.status == OrderStatus::Open => {
                self.round
                    .is_broken(format!("{name}: an acknowledged cancel is not seen: {order:?}"));
            }
            Ok(_) => {}
            Err(error) if error.code() == Some("order_not_found") => {
                if self.round.forgetful.load(Ordering::Acquire) == node {
                    self.round.forgotten.fetch_add(1, Ordering::AcqRel);
                    return;
                }
                self.round
                    .is_broken(format!("{name}: was acknowledged, and is not seen"));
            }
            // It didn't answer, which is no lie.
            Err(_) => return,
        }
        self.round.reads.fetch_add(1, Ordering::AcqRel);
    }
}

fn over_websocket(asked: Asked) -> Request {
    match asked {
        Asked::Place(order) => Request::Place(order),
        Asked::Replace(replace) => Request::Replace(replace),
        Asked::Cancel(cancel) => Request::Cancel(cancel),
    }
}

/// An order that is far from all others.
pub(crate) fn far_away(id: String, time_in_force: TimeInForce, valid_until: TimeText) -> NewOrder {
    NewOrder {
        client_order_id: id,
        symbol: SYMBOL.to_owned(),
        side: Side::Buy,
        order_type: OrderType::Limit,
        time_in_force: Some(time_in_force),
        expires_at: None,
        price: Some(DecimalText("60.00".to_owned())),
        quantity: DecimalText("0.1".to_owned()),
        post_only: false,
        self_trade_prevention: Some(SelfTradePrevention::CancelNewest),
        valid_until: Some(valid_until),
        validate_only: false,
    }
}
