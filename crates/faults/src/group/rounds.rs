//! Rounds: load, a fault of one node, its end, and the checks.

mod upgrade;

pub use upgrade::{Roll, UpgradePlan, UpgradeReport, upgrade};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{ClientError, Credentials, RestClient};
use harness::{
    Group, GroupOptions, Network, Node, Operator, Trader, are_equal, connect, leader_of, remove_work_folder,
};
use powerloss::{Mounted, Random, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use wire::json::{ClusterStatus, NumberText, TimeText};

use super::deck::Deck;
use super::prober::Prober;
use super::report::{GroupReport, RoundReport};
use super::sessions::{Round, Session};
use super::{GroupFault, Whom};
use crate::clients::impatient;
use crate::history::History;
use crate::load::Load;
use crate::rounds::{Answers, SMALL_FILES, Told};

/// Sessions of a few keys ask as fast as they are answered, mostly at one node while another is away.
const NO_RATE: &str = r#"
[gateway]
requests_per_key_burst = 100000
requests_per_key_per_second = 100000
"#;
/// Voters of the group.
const VOTERS: usize = 3;
/// Rounds of a group. Then its journals are compared, and a new group begins: what a round takes grows with what its group
/// has done.
const ROUNDS_PER_GROUP: u64 = 50;
/// Accounts that trade in a round. Each begins at another node.
pub(super) const TRADERS: usize = 3;
/// Sessions of each in a round.
const SESSIONS: Sessions = Sessions { rest: 2, websocket: 1 };
/// Sessions that place and read at every node.
const WATCHERS: usize = 2;
/// How long the group may take to answer enough requests before anything happens to it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// How long the load goes on once the fault is over.
const LOAD_AFTER: Duration = Duration::from_millis(300);
/// How long the nodes may take to become equal.
const EQUAL_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait between two looks at the group.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long what still runs may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(5);
/// How long a request of this run is valid.
const VALID_NS: u64 = 3_600_000_000_000;

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
    /// What may happen. Faults of the network are passed over without one, and those of gateways where there are none.
    pub faults: Vec<GroupFault>,
    /// Whether the nodes get network namespaces.
    pub network: bool,
    /// Whether their folders are on disks that can lose power. Faults of disks are passed over without them.
    pub disks: bool,
    /// Gateways before the voters. If there are any, clients use nothing else.
    pub gateways: usize,
    /// How long the group is put under full load before anything happens to it: whoever is elected then is elected without
    /// a cause.
    pub calm: Duration,
}

/// Sessions of an account, by how they speak. One over REST has one request under way, one over WebSocket several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sessions {
    pub(super) rest: usize,
    pub(super) websocket: usize,
}

/// Runs rounds until one breaks a promise, or all are done. `progress` is told of each.
///
/// # Errors
/// What keeps the harness itself from working, and that it was told to stop: then nodes, mounts and namespaces are gone.
pub fn run(plan: &GroupPlan, progress: &mut dyn FnMut(&GroupReport)) -> io::Result<GroupReport> {
    Network::remove_left_behind()?;
    powerloss::unmount_left_behind()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut run = Run::new(plan)?;
    let result = runtime.block_on(async {
        let mut stop = signal(SignalKind::terminate())?;
        tokio::select! {
            result = run.all(progress) => result,
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
            _ = stop.recv() => Err(interrupted()),
        }
    });
    // What still waits for a node that is gone needs not be waited for.
    runtime.shutdown_timeout(ENDED_WITHIN);
    result.map(|()| run.report)
}

fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "told to stop; what was made is taken away")
}

/// Groups, one after the other.
struct Run {
    plan: GroupPlan,
    deck: Deck,
    random: Random,
    report: GroupReport,
    network: Option<Arc<Network>>,
}

impl Run {
    fn new(plan: &GroupPlan) -> io::Result<Self> {
        let network = match plan.network {
            true => Some(Arc::new(Network::new(VOTERS + plan.gateways)?)),
            false => None,
        };
        let faults = plan.faults.iter().copied();
        let faults: Vec<GroupFault> = faults
            .filter(|fault| network.is_some() || !fault.needs_network())
            .filter(|fault| plan.disks || !fault.needs_disk())
            .filter(|fault| plan.gateways > 0 || fault.whom != Whom::Gateway)
            .collect();
        if faults.is_empty() {
            return Err(io::Error::other("none of these faults can be made here"));
        }
        Ok(Self {
            plan: plan.clone(),
            deck: Deck::new(faults),
            random: Random::new(plan.seed),
            report: GroupReport::default(),
            network,
        })
    }

    async fn all(&mut self, progress: &mut dyn FnMut(&GroupReport)) -> io::Result<()> {
        let mut done = 0;
        for group in 1.. {
            let work = self.plan.work.join(format!("group-{group}"));
            let mut rounds = Rounds::new(self, &work)?;
            rounds.open().await?;
            if group == 1 && !self.plan.calm.is_zero() {
                rounds.calm(self.plan.calm).await?;
            }
            let last = self.plan.rounds.min(done + ROUNDS_PER_GROUP);
            while done < last && rounds.report.broken.is_empty() {
                done += 1;
                let fault = self.deck.next(&mut rounds.random);
                let fault = fault.ok_or_else(|| io::Error::other("there is no fault"))?;
                rounds.round(done, fault).await?;
                progress(&rounds.report);
            }
            rounds.compare_journals().await?;
            if !rounds.report.broken.is_empty() {
                rounds.keep_evidence(&work)?;
            }
            (self.random, self.report) = (rounds.random.clone(), std::mem::take(&mut rounds.report));
            self.report.groups = group;
            drop(rounds);
            if !self.report.broken.is_empty() || done >= self.plan.rounds {
                return Ok(());
            }
            remove_work_folder(&work)?;
        }
        Ok(())
    }
}

/// A group, and what is done with it.
pub(super) struct Rounds {
    pub(super) plan: GroupPlan,
    pub(super) random: Random,
    pub(super) group: Group,
    pub(super) nodes: Vec<Option<Node>>,
    admin: Option<Credentials>,
    pub(super) report: GroupReport,
    /// Dropped after the nodes, which use them.
    pub(super) disks: Vec<Mounted>,
    pub(super) network: Option<Arc<Network>>,
}

impl Rounds {
    fn new(run: &Run, work: &Path) -> io::Result<Self> {
        let (plan, network) = (&run.plan, run.network.as_deref());
        let mut disks = Vec::new();
        let mut data = Vec::new();
        for node in 1..=VOTERS + plan.gateways {
            let disk = work.join(format!("disk-{node}"));
            std::fs::create_dir_all(&disk)?;
            if plan.disks {
                disks.push(Mounted::new(Store::default(), &disk)?);
            }
            data.push(disk.join("data"));
        }
        let settings = format!("{SMALL_FILES}{NO_RATE}");
        let options = GroupOptions {
            gateways: plan.gateways,
            relays: network.is_some(),
        };
        let group = Group::new(&plan.meridian, &data, work, &settings, network, options)?;
        Ok(Self {
            plan: plan.clone(),
            random: run.random.clone(),
            group,
            nodes: Vec::new(),
            admin: None,
            report: run.report.clone(),
            disks,
            network: run.network.clone(),
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

    pub(super) async fn operator(&mut self, node: usize) -> io::Result<Operator> {
        let admin = self.admin()?;
        self.group.operator(node, &admin).await
    }

    /// What is on the disks goes with them, unless it is copied.
    fn keep_evidence(&self, work: &Path) -> io::Result<()> {
        for (disk, node) in self.disks.iter().zip(1..) {
            disk.store().export(&work.join(format!("evidence-{node}")))?;
        }
        Ok(())
    }

    /// The nodes that clients use.
    pub(super) fn used(&self) -> std::ops::Range<usize> {
        match self.plan.gateways {
            0 => 0..VOTERS,
            _ => VOTERS..self.group.nodes.len(),
        }
    }

    /// What each node says of the group.
    async fn statuses(&self) -> io::Result<Vec<Result<ClusterStatus, ClientError>>> {
        let admin = self.admin()?;
        let mut asked = JoinSet::new();
        for (index, node) in self.group.nodes.iter().enumerate() {
            let (address, admin) = (node.admin, admin.clone());
            asked.spawn(async move {
                let status = match connect(address, impatient()).await {
                    Ok(rest) => rest.with_credentials(admin).read("/v1/admin/cluster").await,
                    Err(error) => Err(error),
                };
                (index, status)
            });
        }
        let mut statuses = asked.join_all().await;
        statuses.sort_by_key(|(index, _)| *index);
        Ok(statuses.into_iter().map(|(_, status)| status).collect())
    }

    /// Waits until the group has a leader and all nodes are equal. Gives the leader, its term, and what is applied.
    pub(super) async fn wait_until_equal(&self) -> io::Result<Result<(usize, u64, u64), String>> {
        let until = Instant::now() + EQUAL_WITHIN;
        loop {
            let statuses = self.statuses().await?;
            if are_equal(&statuses)
                && let Some(Ok(status)) = statuses.first()
                && let Some(leader) = leader_of(status)
            {
                let number = |text: &NumberText| text.number().unwrap_or_default();
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

    async fn round(&mut self, number: u64, fault: GroupFault) -> io::Result<()> {
        let began_at = Instant::now();
        let (leader, term) = match self.wait_until_equal().await? {
            Ok((leader, term, _)) => (leader, term),
            Err(what) => return self.broke(number, what),
        };
        let traders = self.traders(leader).await?;
        let (history, answers) = (Arc::<Mutex<History>>::default(), self.answers());
        let round = self.begin_round().await?;
        let valid_until = TimeText::from(round.nodes[0].clock().now().plus_ns(VALID_NS));
        let prober = self.prober(number, &traders, &history, &valid_until).await?;
        let prefix = format!("r{number}");
        let sessions = self.load(&prefix, &round, &traders, &history, &answers, SESSIONS);
        let enough = tokio::time::timeout(ANSWERED_WITHIN, answers.enough.notified());
        if enough.await.is_err() {
            round.stop();
            return self.broke(number, "the group stopped answering without a fault".into());
        }
        // Any moment of what is under way then is as good as any other.
        tokio::time::sleep(Duration::from_micros(self.random.number() % 3_000)).await;
        let now = self.operator(leader).await?;
        let now = now.cluster().await.map_err(io::Error::other)?;
        let leader = leader_of(&now).unwrap_or(leader);
        let term_before = now.term.number().unwrap_or_default();
        let node = self.node_for(fault, leader);
        let fault_at = Instant::now();
        let outcome = self.fault(fault, node, &round, prober).await?;
        let healed_at = Instant::now();
        tokio::time::sleep(LOAD_AFTER).await;
        round.stop();
        sessions.await?;
        let recovered = match outcome {
            Ok(recovered) => recovered,
            Err(what) => return self.broke(number, format!("{fault}: {what}")),
        };
        let history = history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (term_after, equal_after) = match self.wait_until_equal().await? {
            Ok((_, term, _)) => (term, healed_at.elapsed()),
            Err(what) => return self.broke(number, format!("{fault}: {what}")),
        };
        let (loaded, faulty) = (fault_at - began_at, healed_at - fault_at);
        let first = recovered.iter().copied().flatten().min();
        let everywhere = recovered.iter().copied().collect::<Option<Vec<_>>>();
        self.check_round(number, fault, &round, &recovered)?;
        let requests = history.requests().count() as u64;
        self.report.requests += requests;
        self.report.unanswered += history.unanswered().count() as u64;
        self.report.reads += round.reads.load(std::sync::atomic::Ordering::Acquire);
        self.report.forgotten += round.forgotten.load(std::sync::atomic::Ordering::Acquire);
        let settling_at = Instant::now();
        let (name, forgetful) = (format!("round {number}: {fault}"), fault.forgets().then_some(node));
        self.settle(&name, &traders, history, forgetful).await?;
        self.report.rounds.push(RoundReport {
            fault,
            node: node as u64 + 1,
            recovered_after: first,
            all_recovered_after: everywhere.and_then(|times| times.into_iter().max()),
            equal_after: Some(equal_after),
            false_elections: term_before - term,
            elections: term_after - term_before,
            attempts_failed: round.attempts_failed(),
            failures: round.failures(),
            requests,
            before_fault: loaded,
            faulty,
            settled_within: settling_at.elapsed(),
            took: began_at.elapsed(),
        });
        Ok(())
    }

    /// What the sessions themselves noticed.
    fn check_round(
        &mut self,
        number: u64,
        fault: GroupFault,
        round: &Round,
        recovered: &[Option<Duration>],
    ) -> io::Result<()> {
        if recovered.iter().any(Option::is_none) {
            let what = format!("{fault}: a surviving node answered no order: {recovered:?}");
            self.broke(number, what)?;
        }
        if fault.is_planned() && round.attempts_failed() > 0 {
            let failures = round.failures().join("; ");
            self.broke(number, format!("{fault}: a planned change failed requests: {failures}"))?;
        }
        let broken = round.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for what in broken {
            self.broke(number, format!("{fault}: {what}"))?;
        }
        Ok(())
    }

    fn admin(&self) -> io::Result<Credentials> {
        let admin = self.admin.clone();
        admin.ok_or_else(|| io::Error::other("there is no admin key yet"))
    }

    fn answers(&mut self) -> Arc<Answers> {
        Answers::new(1 + self.random.below(self.plan.answers_max))
    }

    /// Whom the fault hits, now that this node leads.
    fn node_for(&mut self, fault: GroupFault, leader: usize) -> usize {
        match fault.whom {
            Whom::Leader => leader,
            Whom::Follower => (leader + 1 + self.random.below(VOTERS - 1)) % VOTERS,
            Whom::Gateway => VOTERS + self.random.below(self.plan.gateways.max(1)),
        }
    }

    pub(super) fn broke(&mut self, round: u64, what: String) -> io::Result<()> {
        self.report.broken.push(format!("round {round}: {what}"));
        Ok(())
    }

    /// New accounts: some to trade, then one to watch and one to probe.
    pub(super) async fn traders(&mut self, leader: usize) -> io::Result<Vec<Trader>> {
        let mut operator = self.operator(leader).await?;
        operator.cancel_everything().await.map_err(io::Error::other)?;
        let mut traders = Vec::new();
        for _ in 0..TRADERS + 2 {
            traders.push(operator.new_trader().await.map_err(io::Error::other)?);
        }
        Ok(traders)
    }

    pub(super) async fn begin_round(&self) -> io::Result<Arc<Round>> {
        let mut rests: Vec<RestClient> = Vec::new();
        for node in &self.group.nodes[self.used()] {
            rests.push(connect(node.public, impatient()).await.map_err(io::Error::other)?);
        }
        let numbers = self.used().map(|node| node + 1).collect();
        Ok(Round::new(rests, numbers))
    }

    async fn prober(
        &self,
        number: u64,
        traders: &[Trader],
        history: &Arc<Mutex<History>>,
        valid_until: &TimeText,
    ) -> io::Result<Prober> {
        let nodes = self.group.nodes[self.used()].iter();
        let addresses: Vec<_> = nodes.map(|node| node.public).collect();
        let trader = &traders[TRADERS + 1];
        let prefix = format!("r{number}-probe");
        let (credentials, account) = (&trader.credentials, trader.account.0);
        Prober::new(&addresses, credentials, account, history, prefix, valid_until.clone()).await
    }

    /// Begins to send requests. Gives what ends with the last session.
    pub(super) fn load(
        &mut self,
        prefix: &str,
        round: &Arc<Round>,
        traders: &[Trader],
        history: &Arc<Mutex<History>>,
        answers: &Arc<Answers>,
        each: Sessions,
    ) -> JoinHandle<()> {
        let nodes = self.group.nodes[self.used()].iter();
        let addresses: Vec<_> = nodes.map(|node| node.public).collect();
        let valid_until = TimeText::from(round.nodes[0].clock().now().plus_ns(VALID_NS));
        let mut sessions = JoinSet::new();
        let told = |trader: &Trader| Told {
            account: trader.account.0,
            history: Arc::clone(history),
            answers: Arc::clone(answers),
        };
        for (trader_index, trader) in traders[..TRADERS].iter().enumerate() {
            for session in 0..each.rest + each.websocket {
                let prefix = format!("{prefix}-{trader_index}-{session}");
                let load = Load::new(self.random.number(), prefix, valid_until.clone());
                let at = (trader_index + session) % addresses.len();
                let client = Session::new(round, at, &trader.credentials, told(trader));
                if session < each.rest {
                    sessions.spawn(client.over_rest(load));
                } else {
                    sessions.spawn(client.over_websocket(load, addresses.clone()));
                }
            }
        }
        let watcher = &traders[TRADERS];
        for index in 0..WATCHERS {
            let at = index % addresses.len();
            let client = Session::new(round, at, &watcher.credentials, told(watcher));
            let prefix = format!("{prefix}-watch-{index}");
            sessions.spawn(client.watch(prefix, self.random.number(), valid_until.clone()));
        }
        tokio::spawn(async move {
            sessions.join_all().await;
        })
    }
}
