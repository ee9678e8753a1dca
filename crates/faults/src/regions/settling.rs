//! What is looked at once the load is over and all is well again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use client::RestClient;
use harness::{BASE, QUOTE, Trader, connect, patient};
use serde_json::Value;
use tokio::task::JoinSet;

use super::rounds::World;
use super::sessions::Round;
use super::whole::Whole;
use crate::clients::{bring_to_end, observe};
use crate::history::{Asked, Final, History, Request};
use crate::oracle::{Observed, check};

/// Requests that are asked again at the same time.
const AT_ONCE: usize = 16;
/// Answered requests that are asked once more.
const ASKED_AGAIN: usize = 10;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) requests: u64,
    /// Acknowledged orders that are not there.
    pub(super) missing: u64,
    /// Acknowledged requests behind the beginning of the epoch after theirs.
    pub(super) void: u64,
    pub(super) doubled: u64,
    pub(super) broken: Vec<String>,
}

impl World {
    /// Brings every request to its end at the active region, and looks for each that was acknowledged.
    pub(super) async fn settle(
        &mut self,
        whole: &Whole,
        round: &Round,
        traders: &[Trader],
        mut history: History,
    ) -> io::Result<Settled> {
        let mut settled = Settled::default();
        let mut rests = Vec::new();
        for node in self.regions.nodes_of(whole.active) {
            let rest = connect(self.regions.nodes[node].public, patient()).await;
            rests.push(rest.map_err(io::Error::other)?);
        }
        let is_void = |request: &Request| request.answer.as_ref().is_some_and(|answer| is_void(answer, whole));
        let void: BTreeSet<(u32, String)> = history
            .requests()
            .filter(|request| is_void(request))
            .map(key_of)
            .collect();
        settled.void = void.len() as u64;
        for id in round.in_both().iter().filter(|id| void.contains(id)) {
            let what = format!(
                "account {}, request {}: is in both regions, as was said, and void",
                id.0, id.1
            );
            settled.broken.push(what);
        }
        let (answered, unanswered): (Vec<Request>, Vec<Request>) = history
            .requests()
            .filter(|request| !is_void(request))
            .cloned()
            .partition(|request| request.answer.is_some());
        let mut later = unanswered.clone();
        for _ in 0..ASKED_AGAIN.min(answered.len()) {
            later.push(answered[self.random.below(answered.len())].clone());
        }
        for requests in [unanswered, later] {
            for some in requests.chunks(AT_ONCE) {
                let broken = self.ask_again(&rests, traders, some, &mut history).await?;
                settled.broken.extend(broken);
            }
        }
        settled.requests = history.requests().count() as u64;
        settled.doubled = history.faults().len() as u64;
        settled.broken.extend(history.faults().iter().cloned());
        self.look_for_all(&mut settled, &rests, traders, &history, &void)
            .await?;
        Ok(settled)
    }

    async fn look_for_all(
        &self,
        settled: &mut Settled,
        rests: &[RestClient],
        traders: &[Trader],
        history: &History,
        void: &BTreeSet<(u32, String)>,
    ) -> io::Result<()> {
        // As if what is void had never been asked for.
        let mut left = History::default();
        for request in history.requests().filter(|request| !void.contains(&key_of(request))) {
            left.ask(request.account, request.asked.clone());
            if let Some(answer) = &request.answer {
                left.answer(request.account, request.asked.request_id(), answer.clone());
            }
        }
        let mut observed = Observed {
            base: BASE.to_owned(),
            quote: QUOTE.to_owned(),
            ..Observed::default()
        };
        for trader in traders {
            // Those that are void are looked for as well.
            let found = observe(rests, trader, history).await.map_err(io::Error::other)?;
            let there: BTreeSet<&str> = found
                .orders
                .iter()
                .map(|order| order.client_order_id.as_str())
                .collect();
            let own = history.requests().filter(|request| request.account == trader.account.0);
            for request in own.filter(|request| is_acknowledged_order(request)) {
                let is_there = there.contains(request.asked.client_order_id());
                settled.missing += u64::from(!is_there);
                if is_there == void.contains(&key_of(request)) {
                    let (id, position) = (
                        request.asked.request_id(),
                        request.answer.as_ref().and_then(Final::position),
                    );
                    let what = if is_there {
                        "is void and there"
                    } else {
                        "was acknowledged and is missing"
                    };
                    settled.broken.push(format!("order {id}, {position:?}: {what}"));
                }
            }
            observed.accounts.insert(trader.account.0, found);
        }
        settled.broken.extend(check(&left, &observed));
        Ok(())
    }

    async fn ask_again(
        &mut self,
        rests: &[RestClient],
        traders: &[Trader],
        requests: &[Request],
        history: &mut History,
    ) -> io::Result<Vec<String>> {
        let mut asked = JoinSet::new();
        for request in requests.iter().cloned() {
            let trader = traders.iter().find(|trader| trader.account.0 == request.account);
            let trader = trader.ok_or_else(|| io::Error::other("a request of nobody"))?;
            let own = rests[self.random.below(rests.len())].with_credentials(trader.credentials.clone());
            asked.spawn(async move {
                let answer = bring_to_end(&own, &request.asked).await;
                (request, answer)
            });
        }
        let mut broken = Vec::new();
        for (request, answer) in asked.join_all().await {
            match answer {
                Ok(answer) => history.answer(request.account, request.asked.request_id(), answer),
                Err(error) => broken.push(format!("{:?}: no final answer afterwards: {error}", request.asked)),
            }
        }
        Ok(broken)
    }

    /// Ends all nodes and replays their journals: each must come to the same state at the same sequence.
    pub(super) async fn compare_states(&mut self) -> io::Result<()> {
        if let Err(what) = self.wait_until_whole().await? {
            self.report.broken.push(format!("at the end: {what}"));
            return Ok(());
        }
        for node in self.processes.nodes.iter_mut().filter_map(Option::take) {
            node.kill()?;
        }
        let mut states: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
        for (node, installation) in self.regions.nodes.iter().enumerate() {
            let id = self.regions.id_of(node);
            let data = installation.data.to_string_lossy();
            match installation.command(&["journal", "replay", "--json", "--data", &data]) {
                Ok(said) => {
                    let said: Value = serde_json::from_str(&said)?;
                    let state = (said["last_sequence"].to_string(), said["state_hash"].to_string());
                    states.entry(state).or_default().push(id);
                    self.report.states_compared += 1;
                }
                Err(error) => {
                    let what = format!("at the end: node {id}: its journal can't be replayed: {error}");
                    self.report.broken.push(what);
                }
            }
        }
        if states.len() > 1 {
            let what = format!("at the end: nodes came to different states: {states:?}");
            self.report.broken.push(what);
        }
        Ok(())
    }
}

fn key_of(request: &Request) -> (u32, String) {
    (request.account, request.asked.request_id().to_owned())
}

/// True of an order that was taken, whatever became of it.
fn is_acknowledged_order(request: &Request) -> bool {
    matches!(request.asked, Asked::Place(_))
        && matches!(&request.answer, Some(Final::Executed(answer)) if answer.order.is_some())
}

/// True if the answer's place lies behind where the next epoch began.
fn is_void(answer: &Final, whole: &Whole) -> bool {
    let Some(position) = answer.position() else {
        return false;
    };
    let Some(sequence) = position.sequence.number() else {
        return false;
    };
    let later = whole.epochs.iter().filter(|(epoch, _)| *epoch > position.epoch);
    let next = later.min_by_key(|(epoch, _)| *epoch);
    next.is_some_and(|(_, after)| after.is_none_or(|after| sequence > after))
}
