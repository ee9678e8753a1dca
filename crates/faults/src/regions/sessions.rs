//! Clients of two regions: what one node doesn't answer is asked again, under its id, at the next one of either region.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{Credentials, RestClient, RetryPolicy};
use wire::json::DurableIn;

use crate::clients::{final_answer, send};
use crate::history::{Asked, Final};
use crate::load::Load;
use crate::rounds::Told;

/// How long a request is tried at one node after the other. Then it stays unanswered until all is whole again.
const TRIED_FOR: Duration = Duration::from_secs(60);
/// How long to wait after all nodes were tried once.
const WAIT: Duration = Duration::from_millis(20);
/// How long a session thinks between an answer and its next request.
const THINKS: Duration = Duration::from_millis(3);

/// A client that is known not to wait for what is gone: longer than any answer of a region that is well takes.
pub(super) fn hasty() -> RetryPolicy {
    RetryPolicy {
        attempt_timeout: Duration::from_secs(1),
        give_up_after: Duration::ZERO,
        ..RetryPolicy::default()
    }
}

/// A request that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) at: Instant,
    pub(super) session: usize,
    pub(super) epoch: u32,
}

/// What the sessions of a round share.
#[derive(Debug, Default)]
pub(super) struct Round {
    stop: AtomicBool,
    acknowledged: Mutex<Vec<Acknowledged>>,
    /// The ids of acknowledged requests that are durable in both regions, as was said.
    in_both: Mutex<Vec<(u32, String)>>,
}

impl Round {
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// All acknowledgements in the order of their times.
    pub(super) fn acknowledged(&self) -> Vec<Acknowledged> {
        let mut all = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_by_key(|one| one.at);
        all
    }

    pub(super) fn in_both(&self) -> Vec<(u32, String)> {
        self.in_both.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, session: usize, account: u32, asked: &Asked, answer: &Final) {
        let Some(position) = answer.position() else { return };
        let one = Acknowledged {
            at: Instant::now(),
            session,
            epoch: position.epoch,
        };
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(one);
        if matches!(answer, Final::Executed(answer) if answer.durable_in == DurableIn::Both) {
            let id = asked.request_id().to_owned();
            self.in_both
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((account, id));
        }
    }
}

/// A session of an account. It stays at a node as long as that answers.
pub(super) struct Session {
    pub(super) round: Arc<Round>,
    pub(super) number: usize,
    /// Its nodes in the order in which they are tried.
    pub(super) nodes: Vec<RestClient>,
    pub(super) at: usize,
    pub(super) told: Told,
}

impl Session {
    /// A session of an account that begins at one of these nodes.
    pub(super) fn new(
        round: &Arc<Round>,
        number: usize,
        nodes: &[RestClient],
        at: usize,
        credentials: &Credentials,
        told: Told,
    ) -> Self {
        let own = nodes.iter().map(|node| node.with_credentials(credentials.clone()));
        Self {
            round: Arc::clone(round),
            number,
            nodes: own.collect(),
            at,
            told,
        }
    }

    /// One request after the other until the round is over.
    pub(super) async fn run(mut self, mut load: Load) {
        while !self.round.is_over() {
            let asked = self.told.ask(&mut load);
            self.bring_to_end(&asked).await;
            tokio::time::sleep(THINKS).await;
        }
    }

    async fn bring_to_end(&mut self, asked: &Asked) {
        let until = Instant::now() + TRIED_FOR;
        let mut tried = 0;
        while Instant::now() < until {
            if let Ok(answer) = final_answer(send(&self.nodes[self.at], asked).await) {
                self.round.note(self.number, self.told.account, asked, &answer);
                return self.told.answer(asked, answer);
            }
            self.at = (self.at + 1) % self.nodes.len();
            tried += 1;
            if tried % self.nodes.len() == 0 {
                if self.round.is_over() {
                    return;
                }
                tokio::time::sleep(WAIT).await;
            }
        }
    }
}
