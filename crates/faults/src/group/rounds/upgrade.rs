//! A rolling upgrade under load: from an older program to this one, back, forward again, and then to its newer behaviour.
//!
//! ```text
//!  roll ── for each node, the leader last: asked to stop, started with the other program, waited for
//!   │ sessions all the while; no attempt at another node may fail
//!   v
//!  settle ── as behind any fault: every request to its end, the oracle, all nodes the same
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::ClientError;
use harness::{BASE, QUOTE, Trader, connect, leader_of, patient};
use wire::json::{
    AdminAnswer, ClusterStatus, DecimalText, EngineVersionRequest, NewOrder, OrderAnswer, OrderStatus,
    SelfTradePrevention, Side, TimeInForce, TimeText,
};

use super::super::faulting::{READY_WITHIN, STOPPED_WITHIN};
use super::super::sessions::{ELSEWHERE, Round, far_away};
use super::super::{GroupFault, What, Whom};
use super::{ANSWERED_WITHIN, GroupPlan, LOAD_AFTER, LOOK_EVERY, Rounds, Run, SESSIONS, TRADERS, VALID_NS, VOTERS};
use crate::history::History;
use crate::rounds::Answers;

/// The version that is switched on.
const NEWEST: u16 = 2;
/// How many entries a node may be behind when the next one is stopped.
const LAG_ENTRIES_MAX: u64 = 500;
/// How long an older program may take to see that it can't go on.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);
/// How many answers come before the first node is stopped.
const ANSWERS_FIRST: usize = 200;
/// An instrument that the load doesn't trade.
const OWN_SYMBOL: &str = "OWN";
const ENGINE_VERSION: &str = "/v1/admin/engine-version";

/// What to do.
#[derive(Clone, Debug)]
pub struct UpgradePlan {
    /// The older program; none: all nodes run the newer one all the time, and are only started again.
    pub old: Option<PathBuf>,
    /// The newer program.
    pub new: PathBuf,
    /// An empty folder for everything that the run makes.
    pub work: PathBuf,
    /// Makes the choices.
    pub seed: u64,
}

/// A rolling change of the program of all nodes.
#[derive(Clone, Debug)]
pub struct Roll {
    /// What was done.
    pub name: &'static str,
    /// Requests that clients asked meanwhile.
    pub requests: u64,
    /// Attempts at other nodes than the stopped one that failed.
    pub attempts_failed: u64,
    /// How long each node was away, in the order in which they were stopped.
    pub away: Vec<Duration>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct UpgradeReport {
    /// Each rolling change, and the time in which the newer behaviour was switched on.
    pub rolls: Vec<Roll>,
    /// What the leader said when it was asked to switch on while an older program ran.
    pub refused_while_mixed: Option<String>,
    /// What an order that asks for the newer behaviour was told before.
    pub refused_before: Option<String>,
    /// What the older program said when it was started behind the switch.
    pub older_said: Option<String>,
    /// Entries that all journals hold.
    pub entries_compared: u64,
    /// Broken promises.
    pub broken: Vec<String>,
}

/// Runs it. `progress` is told of each part.
///
/// # Errors
/// What keeps the harness itself from working.
pub fn upgrade(plan: &UpgradePlan, progress: &mut dyn FnMut(&Roll)) -> io::Result<UpgradeReport> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let begins_with = plan.old.as_ref().unwrap_or(&plan.new);
    let run = Run::new(&GroupPlan {
        meridian: begins_with.clone(),
        work: plan.work.clone(),
        rounds: 1,
        seed: plan.seed,
        answers_max: ANSWERS_FIRST,
        faults: vec![GroupFault::new(What::Stop, Whom::Leader)],
        network: false,
        disks: false,
        gateways: 0,
        calm: Duration::ZERO,
    })?;
    let mut upgrade = Upgrade {
        rounds: Rounds::new(&run, &plan.work)?,
        report: UpgradeReport::default(),
    };
    runtime.block_on(async {
        upgrade.rounds.open().await?;
        let mut operator = upgrade.rounds.operator(0).await?;
        let made = operator.new_instrument(OWN_SYMBOL, BASE, QUOTE).await;
        made.map_err(io::Error::other)?;
        match &plan.old {
            Some(old) => {
                upgrade.roll("upgrade", &plan.new, progress).await?;
                upgrade.roll("rollback", old, progress).await?;
                upgrade.roll("upgrade again", &plan.new, progress).await?;
            }
            None => upgrade.roll("restart", &plan.new, progress).await?,
        }
        upgrade.switch_on(progress).await?;
        if let Some(old) = &plan.old {
            upgrade.try_older(old, &plan.new).await?;
        }
        upgrade.rounds.compare_journals().await?;
        let report = &mut upgrade.report;
        report.entries_compared = upgrade.rounds.report.entries_compared;
        report.broken.extend(upgrade.rounds.report.broken.iter().cloned());
        Ok(report.clone())
    })
}

struct Upgrade {
    rounds: Rounds,
    report: UpgradeReport,
}

/// A load that runs.
struct Loaded {
    traders: Vec<Trader>,
    round: Arc<Round>,
    history: Arc<Mutex<History>>,
    sessions: tokio::task::JoinHandle<()>,
    valid_until: TimeText,
}

impl Upgrade {
    /// Begins the load of a part, and waits until it is answered.
    async fn load(&mut self, number: u64) -> io::Result<Option<Loaded>> {
        let leader = match self.rounds.wait_until_equal().await? {
            Ok((leader, ..)) => leader,
            Err(what) => {
                self.report.broken.push(what);
                return Ok(None);
            }
        };
        let traders = self.rounds.traders(leader).await?;
        let (history, answers) = (Arc::<Mutex<History>>::default(), Answers::new(ANSWERS_FIRST));
        let round = self.rounds.begin_round().await?;
        let valid_until = TimeText::from(round.nodes[0].clock().now().plus_ns(VALID_NS));
        let prefix = format!("u{number}");
        let sessions = self
            .rounds
            .load(&prefix, &round, &traders, &history, &answers, SESSIONS);
        if tokio::time::timeout(ANSWERED_WITHIN, answers.enough.notified())
            .await
            .is_err()
        {
            self.report.broken.push("the group stopped answering".to_owned());
        }
        Ok(Some(Loaded {
            traders,
            round,
            history,
            sessions,
            valid_until,
        }))
    }

    /// Ends the load and looks at what came of it.
    async fn settle(
        &mut self,
        name: &'static str,
        loaded: Loaded,
        away: Vec<Duration>,
        progress: &mut dyn FnMut(&Roll),
    ) -> io::Result<()> {
        tokio::time::sleep(LOAD_AFTER).await;
        loaded.round.stop();
        loaded.sessions.await?;
        let history = loaded.history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let roll = Roll {
            name,
            requests: history.requests().count() as u64,
            attempts_failed: loaded.round.attempts_failed(),
            away,
        };
        progress(&roll);
        if roll.attempts_failed > 0 {
            let failures = loaded.round.failures().join("; ");
            self.report
                .broken
                .push(format!("{name}: requests failed at other nodes: {failures}"));
        }
        self.report.rolls.push(roll);
        let broken = loaded
            .round
            .broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.report
            .broken
            .extend(broken.into_iter().map(|what| format!("{name}: {what}")));
        if let Err(what) = self.rounds.wait_until_equal().await? {
            self.report.broken.push(format!("{name}: {what}"));
            return Ok(());
        }
        self.rounds.settle(name, &loaded.traders, history, None).await
    }

    /// Starts each node with another program, the leader last.
    async fn roll(&mut self, name: &'static str, program: &Path, progress: &mut dyn FnMut(&Roll)) -> io::Result<()> {
        let number = self.report.rolls.len() as u64 + 1;
        let Some(loaded) = self.load(number).await? else {
            return Ok(());
        };
        let mut away = Vec::new();
        let mut left: Vec<usize> = (0..VOTERS).collect();
        while !left.is_empty() {
            let leader = self.wait_until_all_follow().await?;
            let next = left.iter().position(|node| *node != leader).unwrap_or(0);
            let node = left.remove(next);
            away.push(self.exchange(node, program, &loaded.round).await?);
            if name == "rollback" && left.len() == VOTERS - 1 {
                self.try_to_switch_on_too_early(node, &loaded).await?;
            }
        }
        self.wait_until_all_follow().await?;
        self.settle(name, loaded, away, progress).await
    }

    /// Stops a node as planned and starts it with another program. Gives how long it was away.
    async fn exchange(&mut self, node: usize, program: &Path, round: &Round) -> io::Result<Duration> {
        round.fault_at(node);
        let since = Instant::now();
        let running = self.rounds.nodes[node].take();
        let running = running.ok_or_else(|| io::Error::other("the node doesn't run"))?;
        if !tokio::task::spawn_blocking(move || running.stop_within(STOPPED_WITHIN)).await?? {
            self.report
                .broken
                .push(format!("node {} ended with an error when asked to end", node + 1));
        }
        self.rounds.group.nodes[node].meridian = program.to_owned();
        self.start(node).await?;
        Ok(since.elapsed())
    }

    async fn start(&mut self, node: usize) -> io::Result<()> {
        let mut started = self.rounds.group.nodes[node].start()?;
        let waited = tokio::task::spawn_blocking(move || {
            let ready = started.wait_until_ready_within(READY_WITHIN);
            (started, ready)
        });
        let (started, ready) = waited.await?;
        self.rounds.nodes[node] = Some(started);
        ready
    }

    /// Waits until the leader hears all nodes and none is far behind. Gives the leader.
    async fn wait_until_all_follow(&self) -> io::Result<usize> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            let statuses = self.rounds.statuses().await?;
            let of_leader = statuses
                .iter()
                .flatten()
                .find(|status| status.leader == Some(status.node));
            if let Some(status) = of_leader
                && follow(status)
                && let Some(leader) = leader_of(status)
            {
                return Ok(leader);
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("the nodes don't follow: {statuses:?}")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn set_engine_version(&self, node: usize) -> io::Result<Result<AdminAnswer, ClientError>> {
        let rest = connect(self.rounds.group.nodes[node].admin, patient()).await;
        let rest = rest.map_err(io::Error::other)?.with_credentials(self.rounds.admin()?);
        let request = EngineVersionRequest { version: NEWEST };
        Ok(rest
            .change(http::Method::POST, ENGINE_VERSION, "switch-on", Some(&request))
            .await)
    }

    /// While one node runs the older program again and a newer one leads.
    async fn try_to_switch_on_too_early(&mut self, older: usize, loaded: &Loaded) -> io::Result<()> {
        let leader = self.wait_until_all_follow().await?;
        if leader == older {
            self.report.broken.push("the older program leads already".to_owned());
            return Ok(());
        }
        match self.set_engine_version(leader).await? {
            Err(error) if error.code() == Some("engine_version_not_read") => {
                self.report.refused_while_mixed = Some(error.to_string());
            }
            other => self.report.broken.push(format!("switched on while mixed: {other:?}")),
        }
        let id = "too-early".to_owned();
        let order = own_order(id, Side::Buy, "0.1", true, &loaded.valid_until);
        match self.place(leader, &loaded.traders[TRADERS], order).await? {
            Err(error) if error.code() == Some("engine_version_not_in_force") => {
                self.report.refused_before = Some(error.to_string());
            }
            other => self
                .report
                .broken
                .push(format!("taken before it is in force: {other:?}")),
        }
        Ok(())
    }

    async fn place(
        &self,
        node: usize,
        trader: &Trader,
        order: NewOrder,
    ) -> io::Result<Result<OrderAnswer, ClientError>> {
        let rest = connect(self.rounds.group.nodes[node].public, patient()).await;
        let rest = rest.map_err(io::Error::other)?;
        Ok(rest.with_credentials(trader.credentials.clone()).place(order).await)
    }

    /// Switches on the newer behaviour under load, and uses it at every node.
    async fn switch_on(&mut self, progress: &mut dyn FnMut(&Roll)) -> io::Result<()> {
        let number = self.report.rolls.len() as u64 + 1;
        let Some(loaded) = self.load(number).await? else {
            return Ok(());
        };
        // Of the switch no node may notice anything.
        loaded.round.fault_at(ELSEWHERE);
        let leader = self.wait_until_all_follow().await?;
        match self.set_engine_version(leader).await? {
            Ok(answer) if answer.engine_version == Some(NEWEST) => {}
            other => self.report.broken.push(format!("it can't be switched on: {other:?}")),
        }
        let again = self.set_engine_version(leader).await?;
        if !again.as_ref().is_ok_and(|answer| answer.repeat) {
            self.report
                .broken
                .push(format!("asked again it is no repeat: {again:?}"));
        }
        for node in 0..VOTERS {
            self.use_it(node, &loaded).await?;
        }
        self.settle("switched on", loaded, Vec::new(), progress).await
    }

    /// Two orders of an account, which nobody trades with: each loses what the smaller one has.
    async fn use_it(&mut self, node: usize, loaded: &Loaded) -> io::Result<()> {
        let mut operator = self.rounds.operator(node).await?;
        // An account of its own: it is in no history.
        let trader = operator.new_trader().await.map_err(io::Error::other)?;
        let until = &loaded.valid_until;
        let id = |what: &str| format!("own-{node}-{what}");
        let rests = own_order(id("rests"), Side::Sell, "0.5", false, until);
        self.wait_until_in_force(node).await?;
        let first = self.place(node, &trader, rests).await?;
        // The second one takes what the first one left, so that nothing remains.
        let smaller = own_order(id("smaller"), Side::Buy, "0.2", true, until);
        let smaller = self.place(node, &trader, smaller).await?;
        let equal = own_order(id("equal"), Side::Buy, "0.3", true, until);
        let equal = self.place(node, &trader, equal).await?;
        let is_cancelled = |answer: &Result<OrderAnswer, ClientError>| {
            let answer = answer.as_ref().ok();
            answer.is_some_and(|answer| {
                let order = answer.order.as_ref();
                answer.fills.is_empty() && order.is_some_and(|order| order.status == OrderStatus::Cancelled)
            })
        };
        let is_right = first.is_ok() && is_cancelled(&smaller) && is_cancelled(&equal);
        if !is_right {
            self.report.broken.push(format!(
                "the newer behaviour at node {}: {first:?}, {smaller:?}, {equal:?}",
                node + 1
            ));
        }
        Ok(())
    }

    /// A node hears of the switch a moment after the leader.
    async fn wait_until_in_force(&self, node: usize) -> io::Result<()> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            let statuses = self.rounds.statuses().await?;
            if statuses[node]
                .as_ref()
                .is_ok_and(|status| status.engine_version == NEWEST)
            {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("node {}: {:?}", node + 1, statuses[node])));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts a node with the older program, which must not go on; and then again with the newer one, which must.
    async fn try_older(&mut self, old: &Path, new: &Path) -> io::Result<()> {
        let leader = self.wait_until_all_follow().await?;
        let node = (leader + 1) % VOTERS;
        if let Some(running) = self.rounds.nodes[node].take() {
            tokio::task::spawn_blocking(move || running.stop_within(STOPPED_WITHIN)).await??;
        }
        self.rounds.group.nodes[node].meridian = old.to_owned();
        let said_before = std::fs::read_to_string(&self.rounds.group.nodes[node].log)?.len();
        let mut older = self.rounds.group.nodes[node].start()?;
        let until = Instant::now() + REFUSED_WITHIN;
        while older.is_running() && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if older.is_running() {
            let takes_part = older.operations("/health/ready").is_ok_and(|(status, _)| status == 200);
            if takes_part {
                self.report
                    .broken
                    .push("an older program goes on behind the switch".to_owned());
            }
        }
        drop(older);
        let log = std::fs::read_to_string(&self.rounds.group.nodes[node].log)?;
        let since = log.get(said_before..).unwrap_or_default();
        let said = since
            .lines()
            .find(|line| line.contains("ERROR") || line.starts_with("meridian:"));
        self.report.older_said = said.map(str::to_owned);
        self.rounds.group.nodes[node].meridian = new.to_owned();
        self.start(node).await?;
        self.wait_until_all_follow().await?;
        Ok(())
    }
}

/// True if the leader hears all, and none is far behind.
fn follow(status: &ClusterStatus) -> bool {
    status.members.len() == VOTERS
        && status.members.iter().all(|member| {
            let lag = member.lag.as_ref().and_then(|lag| lag.number());
            member.heard == Some(true) && lag.is_some_and(|lag| lag <= LAG_ENTRIES_MAX)
        })
}

/// An order of an instrument that nobody else trades, so that it meets only its own account's.
fn own_order(id: String, side: Side, quantity: &str, is_new: bool, valid_until: &TimeText) -> NewOrder {
    let mut order = far_away(id, TimeInForce::Gtc, valid_until.clone());
    order.symbol = OWN_SYMBOL.to_owned();
    order.side = side;
    order.price = Some(DecimalText("100.00".to_owned()));
    order.quantity = DecimalText(quantity.to_owned());
    if is_new {
        order.self_trade_prevention = Some(SelfTradePrevention::DecrementAndCancel);
    }
    order
}
