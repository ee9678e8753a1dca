//! `meridian demo --nodes 3`: several nodes of one group, each a process of its own, with a simulated market on all of them.
//!
//! ```text
//!  processes ── ended, started again ──┐
//!  watchers, one a node ── statuses ──>├──> what is said        and, until all are voters: members added
//!  signals ── stop ────────────────────┘
//! ```

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use client::{ClientError, Credentials, Endpoint, Endpoints, RestClient, RetryPolicy, new_request_id};
use http::Method;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};
use types::Timestamp;
use wire::journal::NodeId;
use wire::json::{ClusterStatus, MemberRequest, MemberRole, NewMemberRole};

use super::demo::config;
use super::say::{say, say_line};
use super::when::time_of_day;
use super::{DemoArguments, signals};
use crate::config::Config;
use crate::demo::market;
use crate::demo::nodes::{Nodes, id_of};
use crate::demo::processes::{AWAY, Change, Processes};
use crate::logging;

/// How often a node is asked who leads.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How often it is looked whether a process ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the group may take to form.
const FORM_WAIT: Duration = Duration::from_secs(60);
/// A node that lacks fewer entries of the log than this keeps up.
const LAG_ENTRIES_MAX: u64 = 100;
/// The folder in which commands look for a demo by themselves.
const DATA_DEFAULT: &str = "meridian-data";

/// Runs the command.
pub fn run(arguments: &DemoArguments) -> Result<()> {
    let config = config(&arguments.data);
    logging::start(&config.logs);
    let runtime = super::run::runtime(&config.node)?;
    let stop = runtime.block_on(async { signals::stop_on_signals() })?;
    let nodes = open(arguments, &config)?;
    let folders = (0..nodes.addresses.len()).map(|index| (id_of(index), nodes.node_folder(index)));
    let processes = Processes::start(folders).context("start the nodes")?;
    let (statuses, heard) = mpsc::channel(nodes.addresses.len());
    let mut demo = Demo {
        data: arguments.data.clone(),
        admin: nodes.file.admin().credentials().context("use the operator's key")?,
        leads: None,
        lost: None,
        returning: BTreeSet::new(),
        adding: None,
        market: None,
        stop: stop.clone(),
        nodes,
        processes,
    };
    let ran = runtime.block_on(async {
        demo.watch_nodes(&statuses)?;
        demo.run(heard, stop).await
    });
    if let Some(market) = demo.market.take() {
        market.abort();
    }
    for node in demo.processes.stop() {
        eprintln!("meridian: node {} did not stop in time and was killed", node.0);
    }
    ran
}

fn open(arguments: &DemoArguments, config: &Config) -> Result<Nodes> {
    let count = arguments.nodes.parse().context("understand --nodes")?;
    Nodes::open(&arguments.data, count, arguments.first_port, config)
}

/// A demo of several nodes that runs.
struct Demo {
    /// The folder, as it was named.
    data: std::path::PathBuf,
    nodes: Nodes,
    processes: Processes,
    admin: Credentials,
    /// Who was last seen to lead, and in which term.
    leads: Option<(NodeId, u64)>,
    /// The leader whose process ended, and when that was seen, until another one leads.
    lost: Option<(NodeId, Instant)>,
    /// Who was started again, until it keeps up.
    returning: BTreeSet<NodeId>,
    /// A member that is being added.
    adding: Option<JoinHandle<()>>,
    /// Once the group is whole.
    market: Option<JoinHandle<()>>,
    stop: watch::Receiver<bool>,
}

impl Demo {
    /// Asks each node on its own, for as long as the demo runs.
    fn watch_nodes(&self, statuses: &mpsc::Sender<ClusterStatus>) -> Result<()> {
        for node in &self.nodes.addresses {
            let endpoint = Endpoint::parse(&format!("http://{}", node.admin))?;
            tokio::spawn(watch_node(endpoint, self.admin.clone(), statuses.clone()));
        }
        Ok(())
    }

    async fn run(&mut self, mut heard: mpsc::Receiver<ClusterStatus>, mut stop: watch::Receiver<bool>) -> Result<()> {
        let started_at = Instant::now();
        let mut looks = interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                _ = looks.tick() => {
                    for change in self.processes.look(Instant::now())? {
                        self.process_changed(change)?;
                    }
                }
                Some(status) = heard.recv() => self.heard(&status)?,
            }
            if self.market.is_none() && started_at.elapsed() > FORM_WAIT {
                let logs = self.nodes.path().join("node-*/log");
                bail!(
                    "the nodes did not form a group within {} s; what they say of it is in {}",
                    FORM_WAIT.as_secs(),
                    logs.display()
                );
            }
        }
    }

    fn process_changed(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Ended { node, process, status } => {
                self.returning.remove(&node);
                let mut what = "";
                if self.leads.is_some_and(|(leader, _)| leader == node) {
                    self.lost = Some((node, Instant::now()));
                    what = ", which led,";
                }
                let (node, how, away) = (node.0, how_it_ended(status), AWAY.as_secs());
                say_now(&format!(
                    "node {node} (process {process}){what} {how}; it is started again in {away} s"
                ))
            }
            Change::Started { node, process } => {
                self.returning.insert(node);
                say_now(&format!("node {} is started again, process {process}", node.0))
            }
            Change::NotStarted { node, error } => say_now(&format!(
                "node {} can't be started, and is tried again: {error}",
                node.0
            )),
        }
    }

    /// Takes what a node says of its group. Only of itself a node knows for sure that it leads.
    fn heard(&mut self, status: &ClusterStatus) -> Result<()> {
        let node = NodeId(status.node);
        let term = status.term.number().unwrap_or_default();
        if status.leader != Some(node.0) || self.leads.is_some_and(|(_, known)| term < known) {
            return Ok(());
        }
        if self.leads != Some((node, term)) {
            self.leads = Some((node, term));
            let since = match self.lost.take() {
                Some((lost, at)) => format!(", {:.1} s after node {} ended", at.elapsed().as_secs_f64(), lost.0),
                None => String::new(),
            };
            if self.market.is_some() {
                say_now(&format!("node {} leads (term {term}){since}", node.0))?;
            }
        }
        if self.market.is_none() {
            return self.form(status);
        }
        for member in keeping_up(status) {
            if self.returning.remove(&member) {
                say_now(&format!("node {} keeps up again", member.0))?;
            }
        }
        Ok(())
    }

    /// Does what the group still lacks, one thing at a time; when it is whole, the market begins.
    fn form(&mut self, status: &ClusterStatus) -> Result<()> {
        match lacking(status, self.nodes.addresses.len()) {
            Lacking::Nothing => {
                self.returning.clear();
                self.begin()
            }
            Lacking::Vote => Ok(()),
            Lacking::Member(_) if self.adding.as_ref().is_some_and(|adding| !adding.is_finished()) => Ok(()),
            Lacking::Member(index) => {
                let request = MemberRequest {
                    node: id_of(index).0,
                    address: self.nodes.addresses[index].peers.to_string(),
                    role: NewMemberRole::Voter,
                };
                let urls = self.nodes.file.admin.as_deref().unwrap_or_default();
                let adding = add(Endpoints::parse(urls)?, self.admin.clone(), request);
                self.adding = Some(tokio::spawn(async move {
                    // What lacks is seen again, and tried again.
                    if let Err(error) = adding.await {
                        tracing::info!(%error, "a node was not added");
                    }
                }));
                Ok(())
            }
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.greet()?;
        let urls = self.nodes.file.public.as_deref().unwrap_or_default();
        let market = market::run(Endpoints::parse(urls)?, self.nodes.file.clone(), self.stop.clone());
        self.market = Some(tokio::spawn(market));
        Ok(())
    }

    fn greet(&self) -> Result<()> {
        let program = std::env::args().next().unwrap_or_else(|| "meridian".to_owned());
        let file = &self.nodes.file;
        let trader = file.participant("trader").context("find the trader's key")?;
        let (leader, term) = self.leads.context("know who leads")?;
        let process = |node| {
            self.processes
                .id(node)
                .map_or_else(|| "-".to_owned(), |id| id.to_string())
        };
        let mut table = String::new();
        for (index, addresses) in self.nodes.addresses.iter().enumerate() {
            let (node, public, admin) = (id_of(index), addresses.public, addresses.admin);
            table += &format!(
                "  {id:<4}  {process:<7}  {public:<21}  {admin:<21}  {operations}/metrics\n",
                id = node.0,
                process = process(node),
                public = format!("http://{public}"),
                admin = format!("http://{admin}"),
                operations = format_args!("http://{}", addresses.operations),
            );
        }
        let demo = if self.data == Path::new(DATA_DEFAULT) {
            String::new()
        } else {
            format!(" --demo {}", self.data.display())
        };
        say(format_args!(
            "Meridian demo, cluster {cluster} of {count} nodes, data in {data}\n\n  \
             node  process  clients                operators              operations\n{table}\n\
             Node {leader} leads (term {term}). Any node takes requests; the others pass them on to the one that leads.\n\n\
             You trade as account {account} with key {key}; it has USD, BTC, ETH and AAPL. In another terminal, in this \
             folder:\n\n  \
             {program} watch BTC-USD{demo}\n  \
             {program} order place BTC-USD buy 0.1 --price 48000{demo}\n  \
             {program} cluster status{demo}\n\n\
             Pull the plug of the node that leads, and see trading go on; it comes back after {away} s:\n\n  \
             kill -9 {leader_process}\n\n\
             From elsewhere, the same after:\n\n  \
             export MERIDIAN_URL={urls}\n  \
             export MERIDIAN_CLUSTER={cluster} MERIDIAN_KEY={key} MERIDIAN_SECRET={secret}\n\n\
             The other keys, the operator's too, are in {file}; what a node logs is in\n\
             {logs}. Ctrl-C stops all nodes; the data stays.\n\n",
            cluster = file.cluster_id,
            count = self.nodes.addresses.len(),
            data = self.data.display(),
            leader = leader.0,
            leader_process = process(leader),
            account = trader.account,
            key = trader.key,
            secret = trader.secret,
            away = AWAY.as_secs(),
            urls = file.public.as_deref().unwrap_or_default(),
            file = self.data.join("demo.toml").display(),
            logs = self.data.join("node-N/log").display(),
        ))
    }
}

/// Tells what one node says of its group, again and again, as long as somebody hears it.
async fn watch_node(endpoint: Endpoint, admin: Credentials, statuses: mpsc::Sender<ClusterStatus>) {
    // One attempt: that there is no answer is an answer here.
    let policy = RetryPolicy {
        attempt_timeout: Duration::from_secs(1),
        give_up_after: Duration::ZERO,
        ..RetryPolicy::default()
    };
    let mut client: Option<RestClient> = None;
    while !statuses.is_closed() {
        let answer = match &client {
            Some(client) => client.read("/v1/admin/cluster").await,
            None => match RestClient::connect(endpoint.clone(), Some(admin.clone()), policy).await {
                Ok(connected) => client.insert(connected).read("/v1/admin/cluster").await,
                Err(error) => Err(error),
            },
        };
        if let Ok(status) = answer
            && statuses.send(status).await.is_err()
        {
            return;
        }
        sleep(ASK_EVERY).await;
    }
}

async fn add(admin: Endpoints, credentials: Credentials, request: MemberRequest) -> Result<(), ClientError> {
    let client = RestClient::connect(admin, Some(credentials), RetryPolicy::default()).await?;
    let path = "/v1/admin/cluster/members";
    let _: ClusterStatus = client
        .change(Method::POST, path, &new_request_id(), Some(&request))
        .await?;
    Ok(())
}

/// What a group lacks.
#[derive(Debug, PartialEq, Eq)]
enum Lacking {
    /// It is whole.
    Nothing,
    /// A member that doesn't vote yet.
    Vote,
    /// The node of this index.
    Member(usize),
}

/// What a group of so many nodes lacks. Who is there catches up before the next one is added.
fn lacking(status: &ClusterStatus, count: usize) -> Lacking {
    if status.members.iter().any(|member| member.role == MemberRole::Learner) {
        return Lacking::Vote;
    }
    let is_member = |index: &usize| status.members.iter().any(|member| member.node == id_of(*index).0);
    match (0..count).find(|index| !is_member(index)) {
        Some(index) => Lacking::Member(index),
        None => Lacking::Nothing,
    }
}

/// Who is heard of and has nearly all of the log.
fn keeping_up(status: &ClusterStatus) -> Vec<NodeId> {
    let members = status.members.iter().filter(|member| {
        let lag = member.lag.as_ref().and_then(|lag| lag.number());
        member.heard == Some(true) && lag.is_some_and(|lag| lag < LAG_ENTRIES_MAX)
    });
    members.map(|member| NodeId(member.node)).collect()
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(0)) => "ended in order".to_owned(),
        (None, code) => format!("ended with exit code {}; its log says why", code.unwrap_or_default()),
    }
}

/// Says something with the time (UTC) at which it was seen.
fn say_now(text: &str) -> Result<()> {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = time_of_day(Timestamp(u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)));
    let seconds = now.split('.').next().unwrap_or(&now);
    say_line(format_args!("{seconds} {text}"))
}

#[cfg(test)]
mod tests {
    use wire::json::ClusterMember;

    use super::*;

    fn status(members: &[(u64, MemberRole)]) -> ClusterStatus {
        let members = members.iter().map(|(node, role)| ClusterMember {
            node: *node,
            role: *role,
            address: String::new(),
            matched: None,
            lag: None,
            heard: None,
            engine_version_max: None,
        });
        ClusterStatus {
            node: 1,
            leader: Some(1),
            group: 0,
            epoch: 1,
            term: 1.into(),
            applied: 1.into(),
            repairing: false,
            engine_version: 1,
            members: members.collect(),
        }
    }

    #[test]
    fn members_are_added_one_after_the_other() {
        use MemberRole::{Learner, Voter};
        for (members, wanted) in [
            (&[(1, Voter)][..], Lacking::Member(1)),
            (&[(1, Voter), (2, Learner)], Lacking::Vote),
            (&[(1, Voter), (2, Voter)], Lacking::Member(2)),
            (&[(1, Voter), (2, Voter), (3, Learner)], Lacking::Vote),
            (&[(1, Voter), (2, Voter), (3, Voter)], Lacking::Nothing),
        ] {
            assert_eq!(lacking(&status(members), 3), wanted, "{members:?}");
        }
    }
}
