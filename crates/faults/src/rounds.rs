//! Rounds: load, a fault at a random moment, a restart, and the checks.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::{Credentials, PendingReply, RestClient, WsClient};
use harness::{BASE, Installation, Node, Operator, QUOTE, Trader, connect, patient};
use powerloss::{Mounted, Random, Store, Syncs};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use wire::json::TimeText;
use wire::ws::Request;

use crate::clients::{connect_websocket, final_answer, impatient, observe, send};
use crate::history::{Asked, Final, History};
use crate::load::Load;
use crate::oracle::{Observed, check};

/// Settings by which segments and snapshots follow each other quickly, and nothing of the journal is retired, so that it
/// can be replayed from nothing.
pub const SMALL_FILES: &str = r#"
[journal]
segment_size = "4 MiB"
keep_all = true
[snapshots]
journal_size = "1 MiB"
[events]
segment_size = "1 MiB"
[disk]
free_alarm = "2 MiB"
free_min = "1 MiB"
"#;

/// Accounts that trade in a round.
const TRADERS: usize = 3;
/// Sessions of each over REST, each with one request under way. Besides, each has one over WebSocket.
const REST_SESSIONS: usize = 2;
/// Requests that a WebSocket session has under way at the same time.
const UNDER_WAY: usize = 8;
/// One round in so many also loses the node while it starts.
const FAULT_AT_START_EVERY: usize = 5;
/// One power loss in so many comes shortly after syncs have begun to fail, and one after the disk has become full.
const DISK_FAILS_EVERY: usize = 4;
/// For how long a failing disk is used before its power goes.
const DISK_FAILS_FOR: Duration = Duration::from_millis(20);
/// Answered requests that are asked once more after a restart.
const ASKED_AGAIN: usize = 10;
/// Earlier rounds that are looked at again after a restart.
const EARLIER_ROUNDS: usize = 1;

/// What happens to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`; what it wrote stays.
    Kill,
    /// Its power is cut: what was not synced may go, be torn, or come in another order.
    PowerLoss(Syncs),
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program.
    pub meridian: PathBuf,
    /// An empty folder for everything that the run makes.
    pub work: PathBuf,
    /// What happens to the node.
    pub fault: Fault,
    /// How often.
    pub rounds: u64,
    /// Makes the choices.
    pub seed: u64,
    /// The most requests that are answered in a round before the fault.
    pub answers_max: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rounds that were run.
    pub rounds: u64,
    /// Requests that were made.
    pub requests: u64,
    /// Those of them that had no final answer when the fault came.
    pub unanswered: u64,
    /// Those of these that turned out to have been executed or refused before the fault.
    pub executed_before: u64,
    /// Answers that repeated an earlier one.
    pub repeats: u64,
    /// Faults while the node started.
    pub faults_at_start: u64,
    /// Power losses that followed errors of the disk.
    pub disk_failures: u64,
    /// Files that a cut took something from, and names that it changed.
    pub files_cut: u64,
    /// See `files_cut`.
    pub names_cut: u64,
    /// Restarts after which the state was compared with a replay of the journal from nothing.
    pub hashes_compared: u64,
    /// Promises that were broken; empty if all is well.
    pub broken: Vec<String>,
}

/// Runs rounds until one breaks a promise, or all are done. `progress` is told of each.
///
/// # Errors
/// What keeps the harness itself from working. A node that doesn't start again is a broken promise, not an error.
pub fn run(plan: &Plan, progress: &mut dyn FnMut(&Report)) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut rounds = Rounds::new(plan)?;
    runtime.block_on(async {
        rounds.open().await?;
        for round in 1..=plan.rounds {
            rounds.round(round).await?;
            rounds.report.rounds = round;
            progress(&rounds.report);
            if !rounds.report.broken.is_empty() {
                rounds.keep_evidence()?;
                break;
            }
        }
        Ok(rounds.report.clone())
    })
}

struct Rounds {
    plan: Plan,
    random: Random,
    installation: Installation,
    /// Dropped before the disk, which can't be unmounted while it is in use.
    node: Option<Node>,
    disk: Option<Mounted>,
    operator: Option<Operator>,
    admin: Option<Credentials>,
    earlier: Vec<(Vec<Trader>, History)>,
    report: Report,
}

impl Rounds {
    fn new(plan: &Plan) -> io::Result<Self> {
        std::fs::create_dir_all(&plan.work)?;
        let disk_folder = plan.work.join("disk");
        std::fs::create_dir_all(&disk_folder)?;
        let disk = match plan.fault {
            Fault::Kill => None,
            Fault::PowerLoss(_) => Some(Mounted::new(Store::default(), &disk_folder)?),
        };
        let installation = Installation::new(&plan.meridian, &disk_folder.join("data"), &plan.work, SMALL_FILES)?;
        Ok(Self {
            plan: plan.clone(),
            random: Random::new(plan.seed),
            installation,
            disk,
            node: None,
            operator: None,
            admin: None,
            earlier: Vec::new(),
            report: Report::default(),
        })
    }

    /// Makes the data folder and the market.
    async fn open(&mut self) -> io::Result<()> {
        self.admin = Some(self.installation.init()?);
        self.start()?;
        self.operator().await?.open_market().await.map_err(io::Error::other)?;
        if let (Some(disk), Fault::PowerLoss(syncs)) = (&self.disk, self.plan.fault) {
            disk.set_syncs(syncs);
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        let node = self.node.insert(self.installation.start()?);
        node.wait_until_ready()
    }

    async fn operator(&mut self) -> io::Result<&mut Operator> {
        if self.operator.is_none() {
            let admin = self
                .admin
                .clone()
                .ok_or_else(|| io::Error::other("there is no admin key yet"))?;
            let operator = Operator::connect(self.installation.admin, admin)
                .await
                .map_err(io::Error::other)?;
            self.operator = Some(operator);
        }
        self.operator
            .as_mut()
            .ok_or_else(|| io::Error::other("there is no operator"))
    }

    async fn round(&mut self, round: u64) -> io::Result<()> {
        let mut traders = Vec::new();
        let operator = self.operator().await?;
        operator.cancel_everything().await.map_err(io::Error::other)?;
        for _ in 0..TRADERS {
            traders.push(operator.new_trader().await.map_err(io::Error::other)?);
        }
        let history = self.load(round, &traders).await?;
        self.report.requests += history.requests().count() as u64;
        self.report.unanswered += history.unanswered().count() as u64;
        if let Err(error) = self.restart() {
            self.report.broken.push(format!("round {round}: {error}"));
            return Ok(());
        }
        let rest = connect(self.installation.public, patient())
            .await
            .map_err(io::Error::other)?;
        let history = self.ask_again(&rest, &traders, history).await?;
        self.report.repeats += history.repeats();
        self.check(round, &rest, &traders, &history).await?;
        for _ in 0..EARLIER_ROUNDS.min(self.earlier.len()) {
            let at = self.random.below(self.earlier.len());
            let (traders, history) = self.earlier.swap_remove(at);
            self.check(round, &rest, &traders, &history).await?;
            self.earlier.push((traders, history));
        }
        self.earlier.push((traders, history));
        Ok(())
    }

    /// Sends requests until some number of them has been answered; then the fault comes in the midst of the others.
    async fn load(&mut self, round: u64, traders: &[Trader]) -> io::Result<History> {
        let history = Arc::new(Mutex::new(History::default()));
        let answers = Answers::new(1 + self.random.below(self.plan.answers_max));
        let rest = connect(self.installation.public, impatient())
            .await
            .map_err(io::Error::other)?;
        let valid_until = TimeText::from(rest.clock().now().plus_ns(3_600_000_000_000));
        let mut sessions = JoinSet::new();
        for (trader_index, trader) in traders.iter().enumerate() {
            for session in 0..=REST_SESSIONS {
                let prefix = format!("r{round}-{trader_index}-{session}");
                let load = Load::new(self.random.number(), prefix, valid_until.clone());
                let told = Told {
                    account: trader.account.0,
                    history: history.clone(),
                    answers: answers.clone(),
                };
                if session == REST_SESSIONS {
                    let websocket = connect_websocket(self.installation.public, trader.credentials.clone()).await;
                    sessions.spawn(websocket_session(websocket.map_err(io::Error::other)?, load, told));
                } else {
                    let rest = rest.with_credentials(trader.credentials.clone());
                    sessions.spawn(rest_session(rest, load, told));
                }
            }
        }
        answers.enough.notified().await;
        // Any moment of what is under way then is as good as any other.
        tokio::time::sleep(Duration::from_micros(self.random.number() % 3_000)).await;
        self.disk_fails().await;
        self.fault()?;
        while let Some(result) = sessions.join_next().await {
            result.map_err(io::Error::other)?;
        }
        let history = history.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(history)
    }

    /// Now and then the disk gives an error before all ends: what isn't on it must not be acknowledged then either.
    async fn disk_fails(&mut self) {
        let Some(disk) = &self.disk else { return };
        match self.random.below(DISK_FAILS_EVERY) {
            0 => disk.set_syncs(Syncs::Failing),
            1 => {
                let mut store = disk.store();
                let bytes = store.bytes();
                store.set_bytes_max(Some(bytes));
            }
            _ => return,
        }
        self.report.disk_failures += 1;
        tokio::time::sleep(DISK_FAILS_FOR).await;
    }

    /// The node dies, and with it, where there is one, the power of its disk.
    fn fault(&mut self) -> io::Result<()> {
        if let Some(node) = self.node.take() {
            node.kill()?;
        }
        if let Some(disk) = &self.disk {
            let cut = disk.cut(self.random.number());
            self.report.files_cut += cut.files_changed as u64;
            self.report.names_cut += cut.names_changed as u64;
            disk.store().set_bytes_max(None);
            if let Fault::PowerLoss(syncs) = self.plan.fault {
                disk.set_syncs(syncs);
            }
        }
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        while self.random.below(FAULT_AT_START_EVERY) == 0 {
            self.node = Some(self.installation.start()?);
            std::thread::sleep(Duration::from_micros(self.random.number() % 100_000));
            self.fault()?;
            self.report.faults_at_start += 1;
        }
        self.start_and_compare()
    }

    /// Asks every unanswered request again until it is answered, and then once more; and some of the answered ones.
    async fn ask_again(&mut self, rest: &RestClient, traders: &[Trader], mut history: History) -> io::Result<History> {
        let unanswered: Vec<_> = history
            .unanswered()
            .map(|request| (request.account, request.asked.clone()))
            .collect();
        let answered: Vec<_> = history
            .requests()
            .filter(|request| request.answer.is_some())
            .map(|request| (request.account, request.asked.clone()))
            .collect();
        let mut again = unanswered.clone();
        for _ in 0..ASKED_AGAIN.min(answered.len()) {
            again.push(answered[self.random.below(answered.len())].clone());
        }
        let mut first = unanswered;
        // In another order than at first: nobody promised one.
        for at in (1..first.len()).rev() {
            first.swap(at, self.random.below(at + 1));
        }
        let is_first = std::iter::repeat_n(true, first.len()).chain(std::iter::repeat(false));
        for ((account, asked), is_first) in first.into_iter().chain(again).zip(is_first) {
            let trader = traders.iter().find(|trader| trader.account.0 == account);
            let trader = trader.ok_or_else(|| io::Error::other("a request of nobody"))?;
            let own = rest.with_credentials(trader.credentials.clone());
            let answer = match final_answer(send(&own, &asked).await) {
                Ok(answer) => answer,
                Err(error) => {
                    let what = format!("account {account}, {asked:?}: no final answer after the restart: {error}");
                    self.report.broken.push(what);
                    continue;
                }
            };
            let is_repeat = match &answer {
                Final::Executed(answer) => answer.repeat,
                Final::Refused(problem) => problem.repeat == Some(true),
            };
            self.report.executed_before += u64::from(is_first && is_repeat);
            history.answer(account, asked.request_id(), answer);
        }
        Ok(history)
    }

    async fn check(&mut self, round: u64, rest: &RestClient, traders: &[Trader], history: &History) -> io::Result<()> {
        let mut observed = Observed {
            base: BASE.to_owned(),
            quote: QUOTE.to_owned(),
            ..Observed::default()
        };
        for trader in traders {
            let found = observe(std::slice::from_ref(rest), trader, history)
                .await
                .map_err(io::Error::other)?;
            observed.accounts.insert(trader.account.0, found);
        }
        let broken = check(history, &observed)
            .into_iter()
            .map(|what| format!("round {round}: {what}"));
        self.report.broken.extend(broken);
        Ok(())
    }

    /// Starts the node and compares its state's hash with that of a replay of its dead predecessor's journal from
    /// nothing. The replay itself compares every hash of the live state that the journal holds.
    fn start_and_compare(&mut self) -> io::Result<()> {
        let data = self.installation.data.to_string_lossy().into_owned();
        let said = self
            .installation
            .command(&["journal", "replay", "--json", "--data", &data])?;
        let replayed: serde_json::Value = serde_json::from_str(&said)?;
        let sequence = &replayed["last_sequence"];
        let sequence = sequence.as_str().map_or_else(|| sequence.to_string(), str::to_owned);
        let hash = replayed["state_hash"].as_str().unwrap_or("no hash").to_owned();
        self.start()?;
        let recovered = self.installation.last_log_line("recovered ")?;
        let is_same = [format!("sequence={sequence} "), format!("state_hash={hash}")]
            .iter()
            .all(|part| format!("{recovered} ").contains(part.as_str()));
        if !is_same {
            return Err(io::Error::other(format!(
                "a replay comes to {sequence}, {hash}; the node: {recovered}"
            )));
        }
        self.report.hashes_compared += 1;
        Ok(())
    }

    fn keep_evidence(&self) -> io::Result<()> {
        let Some(disk) = &self.disk else { return Ok(()) };
        disk.store().export(&self.plan.work.join("evidence"))
    }
}

/// Counts answers until there are enough.
pub(crate) struct Answers {
    left: std::sync::atomic::AtomicI64,
    pub(crate) enough: Notify,
}

impl Answers {
    /// Enough is this many.
    pub(crate) fn new(enough: usize) -> Arc<Self> {
        Arc::new(Self {
            left: std::sync::atomic::AtomicI64::new(enough as i64),
            enough: Notify::new(),
        })
    }

    fn one(&self) {
        if self.left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 1 {
            self.enough.notify_one();
        }
    }
}

/// Where a session writes down what it asks and what it is told.
pub(crate) struct Told {
    pub(crate) account: u32,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) answers: Arc<Answers>,
}

impl Told {
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ask(&self, load: &mut Load) -> Asked {
        let asked = load.request();
        self.history().ask(self.account, asked.clone());
        asked
    }

    pub(crate) fn answer(&self, asked: &Asked, answer: Final) {
        self.history().answer(self.account, asked.request_id(), answer);
        self.answers.one();
    }
}

/// Asks one thing after the other until the node is gone.
async fn rest_session(rest: RestClient, mut load: Load, told: Told) {
    loop {
        let asked = told.ask(&mut load);
        match final_answer(send(&rest, &asked).await) {
            Ok(answer) => told.answer(&asked, answer),
            Err(_) => return,
        }
    }
}

/// Asks without waiting for answers, up to some number under way, until the node is gone.
async fn websocket_session(websocket: WsClient, mut load: Load, told: Told) {
    let mut under_way: VecDeque<(Asked, PendingReply)> = VecDeque::new();
    let mut is_there = true;
    loop {
        while is_there && under_way.len() < UNDER_WAY {
            let asked = told.ask(&mut load);
            let request = match asked.clone() {
                Asked::Place(order) => Request::Place(order),
                Asked::Replace(replace) => Request::Replace(replace),
                Asked::Cancel(cancel) => Request::Cancel(cancel),
            };
            match websocket.submit(request).await {
                Ok(reply) => under_way.push_back((asked, reply)),
                Err(_) => is_there = false,
            }
        }
        let Some((asked, reply)) = under_way.pop_front() else {
            return;
        };
        match final_answer(reply.wait().await.and_then(client::order_answer)) {
            Ok(answer) => told.answer(&asked, answer),
            Err(_) => is_there = false,
        }
    }
}
