//! Rounds: load, a fault of one node, its end, and the checks.

mod upgrade;

pub use upgrade::{Roll, UpgradePlan, UpgradeReport, upgrade};

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{Credentials, RestClient};
use harness::{BASE, Group, Network, Node, Operator, QUOTE, Trader, are_equal, connect, leader_of, patient};
use powerloss::{Mounted, Random, Store, Syncs};
use tokio::task::{JoinHandle, JoinSet};
use wire::json::{ClusterStatus, TimeText};

use super::GroupFault;
use super::journals;
use super::prober::Prober;
use super::report::{GroupReport, RoundReport};
use super::sessions::{Round, Session};
use crate::clients::{fills, final_answer, impatient, observe, send};
use crate::history::History;
use crate::load::Load;
use crate::oracle::{Observed, check};
use crate::rounds::{Answers, SMALL_FILES, Told};

/// Sessions of a few keys ask as fast as they are answered, mostly at one node while another is away.
const NO_RATE: &str = r#"
[gateway]
requests_per_key_burst = 100000
requests_per_key_per_second = 100000
"#;
/// Nodes of the group.
const NODES: usize = 3;
/// Accounts that trade in a round. Each begins at another node.
const TRADERS: usize = 3;
/// Sessions of each over REST, each with one request under way. Besides, each has one over WebSocket.
const REST_SESSIONS: usize = 2;
/// Sessions that place and read at every node.
const WATCHERS: usize = 2;
/// How long the group may take to answer enough requests before anything happens to it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// How long a node stands still or is cut off.
const FAULT_LASTS: Duration = Duration::from_secs(2);
/// How long a killed node stays away at the most, in milliseconds.
const AWAY_MS_MAX: u64 = 2_000;
/// How long a node may take to end when asked to.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
/// How long a node may take until it is ready again.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long the load goes on once the fault is over.
const LOAD_AFTER: Duration = Duration::from_millis(300);
/// How long the nodes may take to become equal.
const EQUAL_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait between two looks at the group.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Answered requests that are asked once more when the group is whole again.
const ASKED_AGAIN: usize = 10;

/// What to do.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// The program.
    pub meridian: PathBuf,
    /// An empty folder for everything that the run makes.
    pub work: PathBuf,
    /// How often.
    pub rounds: u64,
    /// Makes the choices.
    pub seed: u64,
    /// The most requests that are answered in a round before the fault.
    pub answers_max: usize,
    /// What may happen. Faults of the network are passed over without one.
    pub faults: Vec<GroupFault>,
    /// Whether the nodes get network namespaces.
    pub network: bool,
    /// Whether their folders are on disks that can lose power. Faults of disks are passed over without them.
    pub disks: bool,
}

/// Runs rounds until one breaks a promise, or all are done. `progress` is told of each.
///
/// # Errors
/// What keeps the harness itself from working.
pub fn run(plan: &GroupPlan, progress: &mut dyn FnMut(&GroupReport)) -> io::Result<GroupReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut rounds = Rounds::new(plan)?;
    runtime.block_on(async {
        rounds.open().await?;
        for round in 1..=plan.rounds {
            rounds.round(round).await?;
            progress(&rounds.report);
            if !rounds.report.broken.is_empty() {
                break;
            }
        }
        rounds.compare_journals().await?;
        Ok(rounds.report.clone())
    })
}

struct Rounds {
    plan: GroupPlan,
    faults: Vec<GroupFault>,
    random: Random,
    group: Group,
    nodes: Vec<Option<Node>>,
    admin: Option<Credentials>,
    report: GroupReport,
    /// Dropped after the nodes, which use them.
    disks: Vec<Mounted>,
    /// Dropped last: the nodes run in it.
    network: Option<Network>,
}

impl Rounds {
    fn new(plan: &GroupPlan) -> io::Result<Self> {
        let network = if plan.network { Some(Network::new(NODES)?) } else { None };
        let faults = plan.faults.iter().copied();
        let faults: Vec<GroupFault> = faults
            .filter(|fault| network.is_some() || !fault.needs_network())
            .filter(|fault| plan.disks || !fault.needs_disk())
            .collect();
        if faults.is_empty() {
            return Err(io::Error::other("none of these faults can be made here"));
        }
        let mut disks = Vec::new();
        let mut data = Vec::new();
        for node in 1..=NODES {
            let disk = plan.work.join(format!("disk-{node}"));
            std::fs::create_dir_all(&disk)?;
            if plan.disks {
                disks.push(Mounted::new(Store::default(), &disk)?);
            }
            data.push(disk.join("data"));
        }
        let settings = format!("{SMALL_FILES}{NO_RATE}");
        let group = Group::new(&plan.meridian, &data, &plan.work, &settings, network.as_ref())?;
        Ok(Self {
            plan: plan.clone(),
            faults,
            random: Random::new(plan.seed),
            group,
            nodes: Vec::new(),
            admin: None,
            report: GroupReport::default(),
            disks,
            network,
        })
    }

    /// Makes the group and the market.
    async fn open(&mut self) -> io::Result<()> {
        let admin = self.group.init()?;
        self.nodes = self.group.start(&admin).await?.into_iter().map(Some).collect();
        self.admin = Some(admin);
        let mut operator = self.operator(0).await?;
        operator.open_market().await.map_err(io::Error::other)
    }

    async fn operator(&mut self, node: usize) -> io::Result<Operator> {
        let admin = self.admin.clone();
        let admin = admin.ok_or_else(|| io::Error::other("there is no admin key yet"))?;
        self.group.operator(node, &admin).await
    }

    /// What each node says of the group.
    async fn statuses(&self) -> io::Result<Vec<Result<ClusterStatus, client::ClientError>>> {
        let admin = self.admin.as_ref();
        let admin = admin.ok_or_else(|| io::Error::other("there is no admin key yet"))?;
        let mut statuses = Vec::new();
        for node in &self.group.nodes {
            let status = match connect(node.admin, impatient()).await {
                Ok(rest) => rest.with_credentials(admin.clone()).read("/v1/admin/cluster").await,
                Err(error) => Err(error),
            };
            statuses.push(status);
        }
        Ok(statuses)
    }

    /// Waits until the group has a leader and all nodes are equal. Gives the leader, its term, and what is applied.
    async fn wait_until_equal(&self) -> io::Result<Result<(usize, u64, u64), String>> {
        let until = Instant::now() + EQUAL_WITHIN;
        loop {
            let statuses = self.statuses().await?;
            if are_equal(&statuses)
                && let Some(Ok(status)) = statuses.first()
                && let Some(leader) = leader_of(status)
            {
                let number = |text: &wire::json::NumberText| text.number().unwrap_or_default();
                return Ok(Ok((leader, number(&status.term), number(&status.applied))));
            }
            if Instant::now() > until {
                let within = EQUAL_WITHIN.as_secs();
                return Ok(Err(format!(
                    "the nodes did not become equal within {within} s: {statuses:?}"
                )));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn round(&mut self, number: u64) -> io::Result<()> {
        let (leader, term) = match self.wait_until_equal().await? {
            Ok((leader, term, _)) => (leader, term),
            Err(what) => return self.broke(number, what),
        };
        let traders = self.traders(leader).await?;
        let (history, answers) = (Arc::<Mutex<History>>::default(), self.answers());
        let rests = self.clients().await?;
        let round = Round::new(rests);
        let valid_until = TimeText::from(round.nodes[0].clock().now().plus_ns(3_600_000_000_000));
        let sessions = self.load(number, &round, &traders, &history, &answers, &valid_until);
        let prober = self.prober(number, &traders, &history, &valid_until).await?;
        if tokio::time::timeout(ANSWERED_WITHIN, answers.enough.notified())
            .await
            .is_err()
        {
            round.stop();
            return self.broke(number, "the group stopped answering without a fault".into());
        }
        // Any moment of what is under way then is as good as any other.
        tokio::time::sleep(Duration::from_micros(self.random.number() % 3_000)).await;
        let now = self.group.operator(leader, &self.admin()?).await?;
        let now = now.cluster().await.map_err(io::Error::other)?;
        let leader = leader_of(&now).unwrap_or(leader);
        let term_before = now.term.number().unwrap_or_default();
        let fault = self.faults[self.random.below(self.faults.len())];
        let node = if fault.is_of_leader() {
            leader
        } else {
            self.follower_of(leader)
        };
        let outcome = self.fault(fault, node, &round, prober).await?;
        let healed_at = Instant::now();
        tokio::time::sleep(LOAD_AFTER).await;
        round.stop();
        sessions.await?;
        let (recovered, broken) = match outcome {
            Ok(recovered) => (recovered, None),
            Err(what) => (Vec::new(), Some(what)),
        };
        if let Some(what) = broken {
            return self.broke(number, format!("{}: {what}", fault.name()));
        }
        let history = history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (term_after, equal_after) = match self.wait_until_equal().await? {
            Ok((_, term, _)) => (term, healed_at.elapsed()),
            Err(what) => return self.broke(number, format!("{}: {what}", fault.name())),
        };
        let requests = history.requests().count() as u64;
        self.report.rounds.push(RoundReport {
            fault,
            node: node as u64 + 1,
            recovered_after: recovered.iter().copied().flatten().min(),
            all_recovered_after: recovered
                .iter()
                .copied()
                .max()
                .flatten()
                .filter(|_| recovered.iter().all(Option::is_some)),
            equal_after: Some(equal_after),
            false_elections: term_before - term,
            elections: term_after - term_before,
            attempts_failed: round.attempts_failed(),
            failures: round.failures(),
            requests,
        });
        if recovered.iter().any(Option::is_none) {
            self.broke(
                number,
                format!("{}: a surviving node answered no order: {recovered:?}", fault.name()),
            )?;
        }
        if fault.is_planned() && round.attempts_failed() > 0 {
            let failures = round.failures().join("; ");
            self.broke(
                number,
                format!("{}: a planned change failed requests: {failures}", fault.name()),
            )?;
        }
        self.report.requests += requests;
        self.report.unanswered += history.unanswered().count() as u64;
        self.report.reads += round.reads.load(std::sync::atomic::Ordering::Acquire);
        let broken = round.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for what in broken {
            self.broke(number, format!("{}: {what}", fault.name()))?;
        }
        self.settle(number, fault, &traders, history).await
    }

    fn admin(&self) -> io::Result<Credentials> {
        let admin = self.admin.clone();
        admin.ok_or_else(|| io::Error::other("there is no admin key yet"))
    }

    fn answers(&mut self) -> Arc<Answers> {
        Answers::new(1 + self.random.below(self.plan.answers_max))
    }

    fn follower_of(&mut self, leader: usize) -> usize {
        (leader + 1 + self.random.below(NODES - 1)) % NODES
    }

    fn broke(&mut self, round: u64, what: String) -> io::Result<()> {
        self.report.broken.push(format!("round {round}: {what}"));
        Ok(())
    }

    /// New accounts: some to trade, then one to watch and one to probe.
    async fn traders(&mut self, leader: usize) -> io::Result<Vec<Trader>> {
        let mut operator = self.operator(leader).await?;
        operator.cancel_everything().await.map_err(io::Error::other)?;
        let mut traders = Vec::new();
        for _ in 0..TRADERS + 2 {
            traders.push(operator.new_trader().await.map_err(io::Error::other)?);
        }
        Ok(traders)
    }

    async fn clients(&self) -> io::Result<Vec<RestClient>> {
        let mut rests = Vec::new();
        for node in &self.group.nodes {
            rests.push(connect(node.public, impatient()).await.map_err(io::Error::other)?);
        }
        Ok(rests)
    }

    async fn prober(
        &self,
        number: u64,
        traders: &[Trader],
        history: &Arc<Mutex<History>>,
        valid_until: &TimeText,
    ) -> io::Result<Prober> {
        let addresses: Vec<_> = self.group.nodes.iter().map(|node| node.public).collect();
        let trader = &traders[TRADERS + 1];
        let prefix = format!("r{number}-probe");
        let (credentials, account) = (&trader.credentials, trader.account.0);
        Prober::new(&addresses, credentials, account, history, prefix, valid_until.clone()).await
    }

    /// Begins to send requests. Gives what ends with the last session.
    fn load(
        &mut self,
        number: u64,
        round: &Arc<Round>,
        traders: &[Trader],
        history: &Arc<Mutex<History>>,
        answers: &Arc<Answers>,
        valid_until: &TimeText,
    ) -> JoinHandle<()> {
        let addresses: Vec<_> = self.group.nodes.iter().map(|node| node.public).collect();
        let mut sessions = JoinSet::new();
        let told = |trader: &Trader| Told {
            account: trader.account.0,
            history: Arc::clone(history),
            answers: Arc::clone(answers),
        };
        for (trader_index, trader) in traders[..TRADERS].iter().enumerate() {
            for session in 0..=REST_SESSIONS {
                let prefix = format!("r{number}-{trader_index}-{session}");
                let load = Load::new(self.random.number(), prefix, valid_until.clone());
                let at = (trader_index + session) % NODES;
                let client = Session::new(round, at, &trader.credentials, told(trader));
                if session == REST_SESSIONS {
                    sessions.spawn(client.over_websocket(load, addresses.clone()));
                } else {
                    sessions.spawn(client.over_rest(load));
                }
            }
        }
        let watcher = &traders[TRADERS];
        for index in 0..WATCHERS {
            let client = Session::new(round, index % NODES, &watcher.credentials, told(watcher));
            let prefix = format!("r{number}-watch-{index}");
            sessions.spawn(client.watch(prefix, self.random.number(), valid_until.clone()));
        }
        tokio::spawn(async move {
            sessions.join_all().await;
        })
    }

    /// The fault comes, lasts, and goes. Gives how long each surviving node took to answer, or what broke.
    async fn fault(
        &mut self,
        fault: GroupFault,
        node: usize,
        round: &Round,
        prober: Prober,
    ) -> io::Result<Result<Vec<Option<Duration>>, String>> {
        let all = (0..NODES).filter(|other| *other != node || fault == GroupFault::TransferLeadership);
        let survivors: Vec<usize> = all.collect();
        let pairs = self.pairs(fault, node);
        let is_transfer = fault == GroupFault::TransferLeadership;
        // Of a transfer no node may notice anything.
        round.fault_at(if is_transfer { NODES } else { node });
        let mut stopping = None;
        match fault {
            GroupFault::KillLeader | GroupFault::KillFollower => {
                if let Some(running) = self.nodes[node].take() {
                    running.kill()?;
                }
            }
            GroupFault::LeaderPower | GroupFault::FollowerPower => {
                if let Some(running) = self.nodes[node].take() {
                    running.kill()?;
                }
                self.disks[node].cut(self.random.number());
            }
            GroupFault::LeaderDiskFails => self.disks[node].set_syncs(Syncs::Failing),
            GroupFault::LeaderDiskFull => {
                let mut store = self.disks[node].store();
                let bytes = store.bytes();
                store.set_bytes_max(Some(bytes));
            }
            GroupFault::PauseLeader | GroupFault::PauseFollower => self.running(node)?.pause()?,
            GroupFault::StopLeader | GroupFault::StopFollower => {
                let running = self.nodes[node].take();
                let running = running.ok_or_else(|| io::Error::other("the node doesn't run"))?;
                stopping = Some(tokio::task::spawn_blocking(move || running.stop_within(STOPPED_WITHIN)));
            }
            GroupFault::TransferLeadership => {
                let mut operator = self.operator(node).await?;
                if let Err(error) = operator.transfer_leadership(None).await {
                    return Ok(Err(format!("leadership was not handed over: {error}")));
                }
            }
            _ => self.network()?.lose(&pairs)?,
        }
        let fault_at = Instant::now();
        let probe = tokio::spawn(prober.probe(survivors, fault_at));
        let ended = self.end_fault(fault, node, &pairs, stopping).await?;
        let recovered = probe.await?;
        Ok(ended.map(|()| recovered))
    }

    async fn end_fault(
        &mut self,
        fault: GroupFault,
        node: usize,
        pairs: &[(usize, usize)],
        stopping: Option<JoinHandle<io::Result<bool>>>,
    ) -> io::Result<Result<(), String>> {
        match fault {
            GroupFault::TransferLeadership => {
                tokio::time::sleep(LOAD_AFTER).await;
                return Ok(Ok(()));
            }
            GroupFault::PauseLeader | GroupFault::PauseFollower => {
                tokio::time::sleep(FAULT_LASTS).await;
                self.running(node)?.resume()?;
                return Ok(Ok(()));
            }
            GroupFault::LeaderDiskFull => {
                tokio::time::sleep(FAULT_LASTS).await;
                self.disks[node].store().set_bytes_max(None);
                if self.nodes[node].as_mut().is_some_and(Node::is_running) {
                    return Ok(Ok(()));
                }
            }
            GroupFault::LeaderDiskFails => {
                tokio::time::sleep(FAULT_LASTS).await;
                if let Some(running) = self.nodes[node].take() {
                    running.kill()?;
                }
                self.disks[node].set_syncs(Syncs::Honest);
            }
            GroupFault::LeaderPower | GroupFault::FollowerPower | GroupFault::KillLeader | GroupFault::KillFollower => {
                let away = self.random.number() % AWAY_MS_MAX;
                tokio::time::sleep(Duration::from_millis(away)).await;
            }
            GroupFault::StopLeader | GroupFault::StopFollower => {
                if let Some(stopping) = stopping {
                    match stopping.await? {
                        Ok(true) => {}
                        Ok(false) => return Ok(Err("the node ended with an error when asked to end".into())),
                        Err(error) => return Ok(Err(error.to_string())),
                    }
                }
            }
            _ => {
                tokio::time::sleep(FAULT_LASTS).await;
                self.network()?.heal(pairs)?;
                return Ok(Ok(()));
            }
        }
        let started = self.group.nodes[node].start()?;
        let waited = tokio::task::spawn_blocking(move || {
            let mut started = started;
            let ready = started.wait_until_ready_within(READY_WITHIN);
            (started, ready)
        });
        let (started, ready) = waited.await?;
        self.nodes[node] = Some(started);
        Ok(ready.map_err(|error| error.to_string()))
    }

    fn running(&self, node: usize) -> io::Result<&Node> {
        let running = self.nodes[node].as_ref();
        running.ok_or_else(|| io::Error::other("the node doesn't run"))
    }

    fn network(&self) -> io::Result<&Network> {
        let network = self.network.as_ref();
        network.ok_or_else(|| io::Error::other("there is no network to cut"))
    }

    /// Who doesn't hear whom.
    fn pairs(&self, fault: GroupFault, node: usize) -> Vec<(usize, usize)> {
        let others = || (0..NODES).filter(move |other| *other != node);
        let sends = others().map(|other| (node, other));
        let receives = others().map(|other| (other, node));
        match fault {
            GroupFault::CutLeader | GroupFault::CutFollower => sends.chain(receives).collect(),
            GroupFault::LeaderCannotSend => sends.collect(),
            GroupFault::LeaderCannotReceive => receives.collect(),
            _ => Vec::new(),
        }
    }

    /// Brings every request to its end, and checks what clients find.
    async fn settle(&mut self, number: u64, fault: GroupFault, traders: &[Trader], history: History) -> io::Result<()> {
        let mut rests = Vec::new();
        for node in &self.group.nodes {
            rests.push(connect(node.public, patient()).await.map_err(io::Error::other)?);
        }
        let name = format!("round {number}: {}", fault.name());
        let history = self.ask_again(&name, &rests, traders, history).await?;
        self.report.repeats += history.repeats();
        let at = self.random.below(NODES);
        let mut observed = Observed {
            base: BASE.to_owned(),
            quote: QUOTE.to_owned(),
            ..Observed::default()
        };
        for trader in traders {
            let found = observe(&rests[at], trader, &history).await.map_err(io::Error::other)?;
            for (node, rest) in rests.iter().enumerate() {
                let rest = rest.with_credentials(trader.credentials.clone());
                let balances = rest.balances().await.map_err(io::Error::other)?.balances;
                let fills = fills(&rest).await.map_err(io::Error::other)?;
                if balances != found.balances || fills != found.fills {
                    let account = trader.account.0;
                    let what = format!(
                        "nodes {} and {} tell account {account} different things",
                        node + 1,
                        at + 1
                    );
                    self.report.broken.push(format!("{name}: {what}"));
                }
            }
            observed.accounts.insert(trader.account.0, found);
        }
        let broken = check(&history, &observed).into_iter();
        self.report.broken.extend(broken.map(|what| format!("{name}: {what}")));
        Ok(())
    }

    /// Asks every unanswered request again, at any node, until it is answered, and then once more; and some of the answered
    /// ones.
    async fn ask_again(
        &mut self,
        name: &str,
        rests: &[RestClient],
        traders: &[Trader],
        mut history: History,
    ) -> io::Result<History> {
        let (answered, unanswered): (Vec<_>, Vec<_>) = history
            .requests()
            .cloned()
            .partition(|request| request.answer.is_some());
        let mut again = [unanswered.clone(), unanswered].concat();
        for _ in 0..ASKED_AGAIN.min(answered.len()) {
            again.push(answered[self.random.below(answered.len())].clone());
        }
        for request in again {
            let (account, asked) = (request.account, request.asked);
            let trader = traders.iter().find(|trader| trader.account.0 == account);
            let trader = trader.ok_or_else(|| io::Error::other("a request of nobody"))?;
            let rest = &rests[self.random.below(rests.len())];
            let own = rest.with_credentials(trader.credentials.clone());
            match final_answer(send(&own, &asked).await) {
                Ok(answer) => history.answer(account, asked.request_id(), answer),
                Err(error) => self.report.broken.push(format!(
                    "{name}: account {account}, {asked:?}: no final answer afterwards: {error}"
                )),
            }
        }
        Ok(history)
    }

    /// Ends all nodes at the same moment and compares their journals.
    async fn compare_journals(&mut self) -> io::Result<()> {
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
        let (compared, broken) = journals::compare(&self.group.nodes, through)?;
        self.report.entries_compared = compared;
        let broken = broken.into_iter().map(|what| format!("at the end: {what}"));
        self.report.broken.extend(broken);
        Ok(())
    }
}
