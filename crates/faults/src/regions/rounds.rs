//! Rounds: load, a fault of a site, its end, and the checks.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::{Credentials, RestClient};
use harness::{Network, Node, Regions, RegionsOptions, RegionsProcesses, Trader, connect};
use powerloss::Random;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use wire::json::{RegionStatus, TimeText};

use super::report::{RegionRound, RegionsReport};
use super::sessions::{Acknowledged, Round, Session, hasty};
use super::whole::{LOOK_EVERY, Whole};
use super::{RegionFault, RegionsPlan};
use crate::history::History;
use crate::load::Load;
use crate::rounds::{Answers, Told};

/// Sessions of a few keys ask as fast as they are answered; small files, so that much happens to them.
const SETTINGS: &str = r#"
[gateway]
requests_per_key_burst = 100000
requests_per_key_per_second = 100000
requests_per_address_burst = 100000
requests_per_address_per_second = 100000
[journal]
segment_size = "4 MiB"
[snapshots]
journal_size = "1 MiB"
[events]
segment_size = "1 MiB"
[disk]
free_alarm = "2 MiB"
free_min = "1 MiB"
"#;
/// Rounds of the same regions. Then their states are compared, and others begin.
const ROUNDS_PER_WORLD: u64 = 10;
/// Accounts that trade in a round.
const TRADERS: usize = 2;
/// Sessions of each that begin at the near region.
const NEAR: usize = 4;
/// Sessions of each that begin at the far one.
const FAR: usize = 1;
/// How long the regions may take to answer enough requests before anything happens.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// How long after a fault the first answer of the new epoch is waited for.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);
/// How long the load goes on once it is over.
const LOAD_AFTER: Duration = Duration::from_millis(1_000);
/// For how long a link is cut, or the standby away: longer than answers wait for it.
const AWAY: Duration = Duration::from_secs(3);
/// How long a request of this run is valid.
const VALID_NS: u64 = 3_600_000_000_000;
/// How long what still runs may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// Runs rounds until one breaks a promise, or all are done. `progress` is told of each.
///
/// # Errors
/// What keeps the harness itself from working, and that it was told to stop: then nodes and namespaces are gone.
pub fn run(plan: &RegionsPlan, progress: &mut dyn FnMut(&RegionsReport)) -> io::Result<RegionsReport> {
    Network::remove_left_behind()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut report = RegionsReport::default();
    let result = runtime.block_on(async {
        let mut stop = signal(SignalKind::terminate())?;
        tokio::select! {
            result = all(plan, &mut report, progress) => result,
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
            _ = stop.recv() => Err(interrupted()),
        }
    });
    // What still waits for a node that is gone needs not be waited for.
    runtime.shutdown_timeout(ENDED_WITHIN);
    result.map(|()| report)
}

fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "told to stop; what was made is taken away")
}

async fn all(
    plan: &RegionsPlan,
    report: &mut RegionsReport,
    progress: &mut dyn FnMut(&RegionsReport),
) -> io::Result<()> {
    let network = Network::new(Regions::places(plan.nodes))?;
    let mut random = Random::new(plan.seed);
    let mut done = 0;
    while done < plan.rounds && report.broken.is_empty() {
        report.worlds += 1;
        let work = plan.work.join(format!("world-{}", report.worlds));
        let mut world = World::new(plan, &work, &network, random.clone(), std::mem::take(report)).await?;
        let last = plan.rounds.min(done + ROUNDS_PER_WORLD);
        while done < last && world.report.broken.is_empty() {
            let fault = plan.faults[usize::try_from(done).unwrap_or(0) % plan.faults.len()];
            done += 1;
            world.round(done, fault, &network).await?;
            progress(&world.report);
        }
        world.compare_states().await?;
        (random, *report) = (world.random.clone(), std::mem::take(&mut world.report));
        drop(world);
        if report.broken.is_empty() {
            // It grows with every pair.
            harness::remove_work_folder(&work)?;
        }
    }
    Ok(())
}

/// Two regions and a witness that run.
pub(super) struct World {
    pub(super) regions: Regions,
    pub(super) processes: RegionsProcesses,
    pub(super) random: Random,
    pub(super) report: RegionsReport,
    /// An operator's client of each node.
    pub(super) admins: Vec<RestClient>,
    admin: Credentials,
    answers_max: usize,
}

/// What the active region told while its standby was away.
#[derive(Debug, Default)]
struct Watched {
    lag_max: u64,
    degraded: bool,
}

impl World {
    async fn new(
        plan: &RegionsPlan,
        work: &Path,
        network: &Network,
        random: Random,
        report: RegionsReport,
    ) -> io::Result<Self> {
        let options = RegionsOptions {
            nodes: plan.nodes,
            sync: plan.sync,
            lease_ms: plan.lease_ms,
            each_way: plan.each_way,
            settings: SETTINGS.to_owned(),
        };
        let mut regions = Regions::new(&plan.meridian, work, network, options)?;
        let admin = regions.init()?;
        let processes = regions.start(&admin).await?;
        let mut operator = regions.operator(0, &admin).await?;
        operator.open_market().await.map_err(io::Error::other)?;
        let mut admins = Vec::new();
        for node in &regions.nodes {
            let rest = connect(node.admin, hasty()).await.map_err(io::Error::other)?;
            admins.push(rest.with_credentials(admin.clone()));
        }
        Ok(Self {
            regions,
            processes,
            random,
            report,
            admins,
            admin,
            answers_max: plan.answers_max,
        })
    }

    async fn round(&mut self, number: u64, fault: RegionFault, network: &Network) -> io::Result<()> {
        let began_at = Instant::now();
        let name = format!("round {number}, {fault}");
        let before = match self.wait_until_whole().await? {
            Ok(whole) => whole,
            Err(what) => return self.broke(&name, [format!("before it: {what}")]),
        };
        let mut operator = self.regions.operator(before.leader, &self.admin).await?;
        // Whoever trades now trades with each other alone.
        operator.cancel_everything().await.map_err(io::Error::other)?;
        let mut traders = Vec::new();
        for _ in 0..TRADERS {
            traders.push(operator.new_trader().await.map_err(io::Error::other)?);
        }
        let (round, history) = (Arc::<Round>::default(), Arc::<Mutex<History>>::default());
        let answers = Answers::new(1 + self.random.below(self.answers_max));
        let sessions = self
            .load(number, before.active, &round, &traders, &history, &answers)
            .await?;
        let enough = tokio::time::timeout(ANSWERED_WITHIN, answers.enough.notified()).await;
        if enough.is_err() {
            self.broke(&name, ["too few answers before the fault".to_owned()])?;
        }
        let fault_at = Instant::now();
        let mut watched = Watched::default();
        self.begin(fault, &before, network).await?;
        if fault.moves() {
            if fault == RegionFault::SwitchOver
                && let Err(error) = operator.switch_over().await
            {
                self.broke(&name, [format!("it was not handed over: {error}")])?;
            }
            self.wait_for_epoch(&round, before.epoch).await;
        } else {
            self.watch(&before, &mut watched).await;
        }
        if !fault.loses_region() {
            self.end(fault, &before, network)?;
        }
        tokio::time::sleep(LOAD_AFTER).await;
        round.stop();
        sessions.await?;
        if fault.loses_region() {
            self.end(fault, &before, network)?;
        }
        let ended_at = Instant::now();
        let after = match self.wait_until_whole().await? {
            Ok(whole) => whole,
            Err(what) => return self.broke(&name, [format!("after it: {what}")]),
        };
        let whole_after = ended_at.elapsed();
        let history = history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let settled = self.settle(&after, &round, &traders, history).await?;
        let acknowledged = round.acknowledged();
        let mut broken = settled.broken;
        broken.extend(wrong_move(fault, &before, &after, settled.void));
        if fault.hides_standby() && self.regions.options.sync && !watched.degraded {
            broken.push("the standby was away, and it is not on record".to_owned());
        }
        let new_epoch = |one: &&Acknowledged| one.epoch > before.epoch;
        let news: Vec<&Acknowledged> = acknowledged.iter().filter(new_epoch).collect();
        let since = |one: &Acknowledged| one.at.saturating_duration_since(fault_at);
        let first_of = |session| news.iter().find(|one| one.session == session).map(|one| since(one));
        let firsts = (0..TRADERS * (NEAR + FAR)).filter_map(first_of);
        if fault.moves() && news.is_empty() {
            broken.push("nothing was acknowledged in a new epoch".to_owned());
        }
        self.report.rounds.push(RegionRound {
            fault,
            recovered_after: news.first().map(|one| since(one)),
            all_recovered_after: firsts.max(),
            pause: longest_pause(&acknowledged, fault_at),
            requests: settled.requests,
            acknowledged: acknowledged.len() as u64,
            missing: settled.missing,
            void: settled.void,
            doubled: settled.doubled,
            new_life: after.lives != before.lives,
            lag_max: watched.lag_max,
            degraded: watched.degraded,
            whole_after,
            took: began_at.elapsed(),
        });
        self.broke(&name, broken)
    }

    fn broke(&mut self, name: &str, what: impl IntoIterator<Item = String>) -> io::Result<()> {
        let what = what.into_iter().map(|what| format!("{name}: {what}"));
        self.report.broken.extend(what);
        Ok(())
    }

    /// Starts the sessions: most begin at the region that is active, and all know every node.
    async fn load(
        &mut self,
        number: u64,
        near: usize,
        round: &Arc<Round>,
        traders: &[Trader],
        history: &Arc<Mutex<History>>,
        answers: &Arc<Answers>,
    ) -> io::Result<JoinHandle<()>> {
        let mut nodes = Vec::new();
        for node in self.regions.nodes_of(near) {
            nodes.push(connect(self.regions.nodes[node].public, hasty()).await);
        }
        for node in self.regions.nodes_of(1 - near) {
            nodes.push(connect(self.regions.from_afar(node), hasty()).await);
        }
        let nodes: Result<Vec<RestClient>, _> = nodes.into_iter().collect();
        let nodes = nodes.map_err(io::Error::other)?;
        let valid_until = TimeText::from(nodes[0].clock().now().plus_ns(VALID_NS));
        let mut sessions = JoinSet::new();
        let of_region = self.regions.options.nodes;
        for (trader_index, trader) in traders.iter().enumerate() {
            for session in 0..NEAR + FAR {
                let prefix = format!("{number}-{trader_index}-{session}");
                let load = Load::new(self.random.number(), prefix, valid_until.clone());
                let within = (trader_index + session) % of_region;
                let at = within + if session < NEAR { 0 } else { of_region };
                let told = Told {
                    account: trader.account.0,
                    history: Arc::clone(history),
                    answers: Arc::clone(answers),
                };
                let of_all = trader_index * (NEAR + FAR) + session;
                let session = Session::new(round, of_all, &nodes, at, &trader.credentials, told);
                sessions.spawn(session.run(load));
            }
        }
        Ok(tokio::spawn(async move {
            sessions.join_all().await;
        }))
    }

    async fn begin(&mut self, fault: RegionFault, before: &Whole, network: &Network) -> io::Result<()> {
        let (own, others) = (self.regions.nodes_of(before.active), self.others(before.active));
        if fault.loses_region() {
            self.regions.swallow(before.active);
        }
        match fault {
            RegionFault::KillRegion => self.kill(own)?,
            RegionFault::KillStandby => self.kill(self.regions.nodes_of(1 - before.active))?,
            RegionFault::KillWitness => {
                if let Some(witness) = self.processes.witness.take() {
                    witness.kill()?;
                }
            }
            RegionFault::CutRegion => {
                network.lose_from_here(&own.clone().collect::<Vec<_>>())?;
                network.lose(&pairs(own, &others))?;
            }
            RegionFault::PartitionRegion => network.lose(&pairs(own, &others))?,
            RegionFault::CutLink => {
                let standby: Vec<usize> = self.regions.nodes_of(1 - before.active).collect();
                network.lose(&pairs(own, &standby))?;
            }
            RegionFault::SwitchOver => {}
        }
        Ok(())
    }

    /// Undoes it.
    fn end(&mut self, fault: RegionFault, before: &Whole, network: &Network) -> io::Result<()> {
        let (own, others) = (self.regions.nodes_of(before.active), self.others(before.active));
        match fault {
            RegionFault::KillRegion => self.start(own)?,
            RegionFault::KillStandby => self.start(self.regions.nodes_of(1 - before.active))?,
            RegionFault::KillWitness => {
                self.processes.witness = Some(self.regions.witness.start_as("witness", &[])?);
            }
            RegionFault::CutRegion => {
                network.heal_from_here(&own.clone().collect::<Vec<_>>())?;
                network.heal(&pairs(own, &others))?;
            }
            RegionFault::PartitionRegion => network.heal(&pairs(own, &others))?,
            RegionFault::CutLink => {
                let standby: Vec<usize> = self.regions.nodes_of(1 - before.active).collect();
                network.heal(&pairs(own, &standby))?;
            }
            RegionFault::SwitchOver => {}
        }
        Ok(())
    }

    /// The places of all that are not of this region, the witness among them.
    fn others(&self, region: usize) -> Vec<usize> {
        let own = self.regions.nodes_of(region);
        let all = 0..Regions::places(self.regions.options.nodes);
        all.filter(|place| !own.contains(place)).collect()
    }

    fn kill(&mut self, nodes: std::ops::Range<usize>) -> io::Result<()> {
        let killed: Vec<Node> = nodes.filter_map(|node| self.processes.nodes[node].take()).collect();
        killed.iter().try_for_each(Node::begin_to_kill)?;
        killed.into_iter().try_for_each(Node::kill)
    }

    fn start(&mut self, nodes: std::ops::Range<usize>) -> io::Result<()> {
        for node in nodes {
            self.processes.nodes[node] = Some(self.regions.nodes[node].start()?);
        }
        Ok(())
    }

    /// Waits until something is acknowledged in an epoch after this one, as long as that may take.
    async fn wait_for_epoch(&self, round: &Round, epoch: u32) {
        let until = Instant::now() + RECOVERED_WITHIN;
        while Instant::now() < until {
            if round.acknowledged().last().is_some_and(|last| last.epoch > epoch) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks at what the active region tells for as long as the other site is away: longer than a lease.
    async fn watch(&self, before: &Whole, watched: &mut Watched) {
        let lease = Duration::from_millis(self.regions.options.lease_ms);
        let until = Instant::now() + AWAY.max(lease + lease / 2);
        while Instant::now() < until {
            let told: Result<RegionStatus, _> = self.admins[before.leader].read("/v1/admin/region").await;
            if let Ok(told) = told {
                let lag = told.standby.and_then(|lag| lag.sequences.number()).unwrap_or(0);
                watched.lag_max = watched.lag_max.max(lag);
                watched.degraded |= told.durability == "degraded";
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Each way between one of these and one of those.
fn pairs(these: std::ops::Range<usize>, those: &[usize]) -> Vec<(usize, usize)> {
    let both = |this: usize| those.iter().flat_map(move |that| [(this, *that), (*that, this)]);
    these.flat_map(both).collect()
}

/// The longest time from one acknowledgement to the next, of those that end after the fault.
fn longest_pause(acknowledged: &[Acknowledged], fault_at: Instant) -> Duration {
    let pauses = acknowledged.windows(2).filter(|two| two[1].at >= fault_at);
    let pauses = pauses.map(|two| two[1].at.duration_since(two[0].at));
    pauses.max().unwrap_or_default()
}

/// What is wrong with who is active afterwards, and in which lives.
fn wrong_move(fault: RegionFault, before: &Whole, after: &Whole, void: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let lost = before.active;
    let (wanted, epoch) = match fault.moves() {
        true => (1 - before.active, before.epoch + 1),
        false => (before.active, before.epoch),
    };
    if (after.active, after.epoch) != (wanted, epoch) {
        wrong.push(format!("region {} is active in epoch {}", after.active, after.epoch));
    }
    if after.lives[1 - lost] != before.lives[1 - lost] {
        wrong.push("the region that was not lost began a new life".to_owned());
    }
    let lives = after.lives[lost] - before.lives[lost];
    let most = u32::from(fault.loses_region());
    if lives > most || (void > 0 && lives != 1) {
        wrong.push(format!("{lives} new lives with {void} void requests"));
    }
    if void > 0 && !fault.loses_region() {
        wrong.push(format!("{void} acknowledged requests are void"));
    }
    wrong
}
