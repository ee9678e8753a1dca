//! What is looked at once the load is over and all nodes are equal.

use std::io;

use client::RestClient;
use harness::{BASE, QUOTE, Trader, connect, patient};
use tokio::task::JoinSet;

use super::journals;
use super::rounds::Rounds;
use crate::clients::{bring_to_end, fills, observe};
use crate::history::{History, Request};
use crate::oracle::{Observed, check};

/// Answered requests that are asked once more when the group is whole again.
const ASKED_AGAIN: usize = 10;
/// Requests that are asked again at the same time.
const AT_ONCE: usize = 16;

impl Rounds {
    /// Brings every request to its end, and checks what clients find at any node. One that has begun anew knows less of the
    /// past, and what it tells of it must be true all the same.
    pub(super) async fn settle(
        &mut self,
        name: &str,
        traders: &[Trader],
        history: History,
        forgetful: Option<usize>,
    ) -> io::Result<()> {
        let rests = self.patient_clients().await?;
        // What was answered before it began anew, it can't answer again: `answer_unavailable` sends clients to another.
        let knowing = rests.iter().enumerate().filter(|(node, _)| Some(*node) != forgetful);
        let knowing: Vec<RestClient> = knowing.map(|(_, rest)| rest.clone()).collect();
        let history = self.ask_again(name, &knowing, traders, history).await?;
        let mut observed = Observed {
            base: BASE.to_owned(),
            quote: QUOTE.to_owned(),
            ..Observed::default()
        };
        for trader in traders {
            let found = observe(&knowing, trader, &history).await.map_err(io::Error::other)?;
            for (node, rest) in rests.iter().enumerate() {
                let rest = rest.with_credentials(trader.credentials.clone());
                let balances = rest.balances().await.map_err(io::Error::other)?.balances;
                let fills = fills(&rest).await.map_err(io::Error::other)?;
                let are_true = match forgetful == Some(node) {
                    // The newest come first.
                    true => found.fills.starts_with(&fills),
                    false => fills == found.fills,
                };
                if balances != found.balances || !are_true {
                    let (account, node) = (trader.account.0, node + 1);
                    let what = format!("nodes {node} and 1 tell account {account} different things");
                    self.report.broken.push(format!("{name}: {what}"));
                }
            }
            observed.accounts.insert(trader.account.0, found);
        }
        let broken = check(&history, &observed).into_iter();
        self.report.broken.extend(broken.map(|what| format!("{name}: {what}")));
        Ok(())
    }

    pub(super) async fn patient_clients(&self) -> io::Result<Vec<RestClient>> {
        let mut rests = Vec::new();
        for node in &self.group.nodes {
            rests.push(connect(node.public, patient()).await.map_err(io::Error::other)?);
        }
        Ok(rests)
    }

    /// Asks every unanswered request again, at any node, until it is answered, and then once more; and some of the answered
    /// ones.
    pub(super) async fn ask_again(
        &mut self,
        name: &str,
        rests: &[RestClient],
        traders: &[Trader],
        mut history: History,
    ) -> io::Result<History> {
        let all = history.requests().cloned();
        let (answered, unanswered): (Vec<Request>, Vec<Request>) = all.partition(|request| request.answer.is_some());
        let mut later = unanswered.clone();
        for _ in 0..ASKED_AGAIN.min(answered.len()) {
            let request = answered[self.random.below(answered.len())].clone();
            if !later.iter().any(|other| other.asked == request.asked) {
                later.push(request);
            }
        }
        // One after the other, so that what comes later is known to.
        for requests in [unanswered, later] {
            for some in requests.chunks(AT_ONCE) {
                self.ask_at_once(name, rests, traders, some, &mut history).await?;
            }
        }
        self.report.repeats += history.repeats();
        Ok(history)
    }

    async fn ask_at_once(
        &mut self,
        name: &str,
        rests: &[RestClient],
        traders: &[Trader],
        requests: &[Request],
        history: &mut History,
    ) -> io::Result<()> {
        let mut asked = JoinSet::new();
        for request in requests.iter().cloned() {
            let trader = traders.iter().find(|trader| trader.account.0 == request.account);
            let trader = trader.ok_or_else(|| io::Error::other("a request of nobody"))?;
            let rest = &rests[self.random.below(rests.len())];
            let own = rest.with_credentials(trader.credentials.clone());
            asked.spawn(async move {
                let answer = bring_to_end(&own, &request.asked).await;
                (request.account, request.asked, answer)
            });
        }
        for (account, asked, answer) in asked.join_all().await {
            match answer {
                Ok(answer) => history.answer(account, asked.request_id(), answer),
                Err(error) => self.report.broken.push(format!(
                    "{name}: account {account}, {asked:?}: no final answer afterwards: {error}"
                )),
            }
        }
        Ok(())
    }

    /// Ends all nodes at the same moment and compares the voters' journals.
    pub(super) async fn compare_journals(&mut self) -> io::Result<()> {
        let through = match self.wait_until_equal().await? {
            Ok((_, _, applied)) => applied,
            Err(what) => {
                self.report.broken.push(format!("at the end: {what}"));
                return Ok(());
            }
        };
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.kill()?;
        }
        let (compared, broken) = journals::compare(&self.group.nodes[..self.group.voters()], through)?;
        self.report.entries_compared += compared;
        let broken = broken.into_iter().map(|what| format!("at the end: {what}"));
        self.report.broken.extend(broken);
        Ok(())
    }
}
