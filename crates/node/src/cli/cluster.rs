//! `meridian cluster …`: who belongs to the group and who leads it, asked on the operators' listener of one of its nodes.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use client::{RestClient, RetryPolicy, new_request_id};
use http::Method;
use tokio::time::{Instant, sleep};
use wire::json::{ClusterMember, ClusterStatus, LeaderRequest, MemberRequest, MemberRole, NewMemberRole};

use super::authority::AuthorityCommand;
use super::connection::ConnectionArguments;
use super::exit::NotDoneYet;
use super::names::name_of;
use super::table::Table;

const CLUSTER: &str = "/v1/admin/cluster";
const MEMBERS: &str = "/v1/admin/cluster/members";
const LEADER: &str = "/v1/admin/cluster/leader";
/// How often a node is asked whether it is done.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How far a voter may be behind and still step in at once for one that is lost, in entries of the log.
const LAG_ENTRIES_MAX: u64 = 1_000;
/// What is not known.
const UNKNOWN: &str = "-";

/// What `cluster` can be asked.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// What needs no node.
    #[command(flatten)]
    Authority(AuthorityCommand),
    /// What a node is asked.
    #[command(flatten)]
    Group(GroupCommand),
}

/// What of `cluster` a node is asked.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Show who belongs to the group, who leads, and whether it survives the loss of a node now.
    Status,
    /// Add a node, or say where one is reached now, and wait until it counts. Ask the leader.
    Add(AddArguments),
    /// Remove a node, and wait until it is gone. Ask the leader, which can't be removed itself.
    Remove {
        /// Its node id, which is not used again.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        node: u64,
        #[command(flatten)]
        wait: WaitArguments,
    },
    /// Hand leadership over, and wait until another node leads. Ask the leader.
    TransferLeader {
        /// The voter that is to lead; left out: the one that has most of the log.
        #[arg(long, value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
        to: Option<u64>,
        #[command(flatten)]
        wait: WaitArguments,
    },
}

/// Arguments of `cluster add`.
#[derive(Debug, Args)]
pub struct AddArguments {
    /// Its node id, which no node of the group ever had.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// Where its peers reach it, HOST:PORT.
    #[arg(long)]
    address: String,
    /// It takes clients alone: it never votes, and its copy of the log never counts.
    #[arg(long)]
    gateway: bool,
    #[command(flatten)]
    wait: WaitArguments,
}

/// For how long a change is waited for.
#[derive(Debug, Args)]
pub struct WaitArguments {
    /// Don't wait until it is done.
    #[arg(long)]
    no_wait: bool,
    /// For how many seconds to wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, conflicts_with = "no_wait")]
    wait: u64,
}

/// Runs the command.
pub async fn run(connection: &ConnectionArguments, command: &ClusterCommand) -> Result<()> {
    match command {
        ClusterCommand::Authority(command) => command.run(),
        ClusterCommand::Group(command) => ask(connection, command).await,
    }
}

async fn ask(connection: &ConnectionArguments, command: &GroupCommand) -> Result<()> {
    let client = connection.admin_client().await?;
    // It is idempotent by its content; the id only names the request if its outcome stays unknown.
    let id = new_request_id();
    let status = match command {
        GroupCommand::Status => status_of_leader(connection, &client).await?,
        GroupCommand::Add(arguments) => {
            let request = member_request(arguments);
            let status = client.change(Method::POST, MEMBERS, &id, Some(&request)).await?;
            let not_yet = |status: &ClusterStatus| not_yet_added(status, &request);
            wait_for(&client, &arguments.wait, status, not_yet).await?
        }
        GroupCommand::Remove { node, wait } => {
            let path = format!("{MEMBERS}/{node}");
            let status = client.change(Method::DELETE, &path, &id, None::<&()>).await?;
            wait_for(&client, wait, status, |status| not_yet_removed(status, *node)).await?
        }
        GroupCommand::TransferLeader { to, wait } => {
            let before: ClusterStatus = client.read(CLUSTER).await?;
            let request = LeaderRequest { to: *to };
            let status = client.change(Method::POST, LEADER, &id, Some(&request)).await?;
            let not_yet = |status: &ClusterStatus| not_yet_transferred(status, before.leader, *to);
            wait_for(&client, wait, status, not_yet).await?
        }
    };
    connection.print(&status, status_text)
}

/// What the leader says of the group, if it is among the nodes that are named; else what one of them says.
async fn status_of_leader(connection: &ConnectionArguments, client: &RestClient) -> Result<ClusterStatus> {
    let status: ClusterStatus = client.read(CLUSTER).await?;
    let endpoints = connection.admin_endpoint()?;
    if !endpoints.are_several() || status.leader == Some(status.node) {
        return Ok(status);
    }
    // One attempt each: a node that does not answer is not the one that leads, or will not be for long.
    let policy = RetryPolicy {
        attempt_timeout: Duration::from_secs(1),
        give_up_after: Duration::ZERO,
        ..RetryPolicy::default()
    };
    for endpoint in endpoints.iter() {
        let credentials = Some(connection.admin_credentials()?);
        let answer = match RestClient::connect(endpoint.clone(), credentials, policy).await {
            Ok(client) => client.read::<ClusterStatus>(CLUSTER).await,
            Err(error) => Err(error),
        };
        if let Ok(status) = answer
            && status.leader == Some(status.node)
        {
            return Ok(status);
        }
    }
    Ok(status)
}

/// Asks until there is nothing left to wait for. What is waited for is said on standard error whenever it changes.
async fn wait_for(
    client: &RestClient,
    wait: &WaitArguments,
    mut status: ClusterStatus,
    not_yet: impl Fn(&ClusterStatus) -> Option<String>,
) -> Result<ClusterStatus> {
    if wait.no_wait {
        return Ok(status);
    }
    let give_up_at = Instant::now() + Duration::from_secs(wait.wait);
    let mut said = String::new();
    while let Some(why) = not_yet(&status) {
        if Instant::now() >= give_up_at {
            return Err(NotDoneYet(why).into());
        }
        if why != said {
            eprintln!("{why}");
            said = why;
        }
        sleep(ASK_EVERY).await;
        status = client.read(CLUSTER).await?;
    }
    Ok(status)
}

fn member_request(arguments: &AddArguments) -> MemberRequest {
    MemberRequest {
        node: arguments.node,
        address: arguments.address.clone(),
        role: if arguments.gateway {
            NewMemberRole::Gateway
        } else {
            NewMemberRole::Voter
        },
    }
}

fn member_of(status: &ClusterStatus, node: u64) -> Option<&ClusterMember> {
    status.members.iter().find(|member| member.node == node)
}

/// Why a new member does not count yet.
fn not_yet_added(status: &ClusterStatus, request: &MemberRequest) -> Option<String> {
    let node = request.node;
    let member = member_of(status, node).filter(|member| member.address == request.address);
    match member {
        None => Some(format!("node {node} is not a member at {} yet", request.address)),
        Some(member) if member.role == MemberRole::Learner => Some(match lag_of(member) {
            Some(lag) => format!("node {node} is a learner, {lag} entries behind"),
            None => format!("node {node} is a learner"),
        }),
        Some(_) => None,
    }
}

/// Why a member is not gone yet.
fn not_yet_removed(status: &ClusterStatus, node: u64) -> Option<String> {
    member_of(status, node).map(|_| format!("node {node} is a member still"))
}

/// Why leadership has not passed yet from `before` to whom it was to.
fn not_yet_transferred(status: &ClusterStatus, before: Option<u64>, to: Option<u64>) -> Option<String> {
    match (status.leader, to) {
        (None, _) => Some("nobody leads at the moment".to_owned()),
        (Some(leader), Some(to)) if leader == to => None,
        (Some(leader), None) if Some(leader) != before => None,
        (Some(leader), _) => Some(format!("node {leader} leads still")),
    }
}

fn lag_of(member: &ClusterMember) -> Option<u64> {
    member.lag.as_ref().and_then(|lag| lag.number())
}

fn status_text(status: &ClusterStatus) -> String {
    let mut table = Table::new(&[
        "#NODE", "ROLE", "LEADER", "ADDRESS", "#MATCHED", "#LAG", "HEARD", "#READS",
    ]);
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    for member in &status.members {
        let leads = status.leader == Some(member.node);
        let heard = member.heard.map(|heard| if heard { "yes" } else { "no" }.to_owned());
        table.row([
            member.node.to_string(),
            name_of(&member.role),
            if leads { "leads" } else { "" }.to_owned(),
            member.address.clone(),
            or_unknown(member.matched.as_ref().map(|matched| matched.0.clone())),
            or_unknown(member.lag.as_ref().map(|lag| lag.0.clone())),
            or_unknown(heard),
            or_unknown(member.engine_version_max.map(|version| version.to_string())),
        ]);
    }
    let ClusterStatus {
        node,
        group,
        epoch,
        term,
        engine_version,
        ..
    } = status;
    let repairing = if status.repairing {
        format!("Node {node} gets back from its peers what its disk lost.\n")
    } else {
        String::new()
    };
    format!(
        "Group {group}, epoch {epoch}, term {}, engine version {engine_version}, as node {node} knows it\n{table}{repairing}{}\n",
        term.0,
        resilience(status)
    )
}

/// Whether the group survives the loss of a node now, in one line.
fn resilience(status: &ClusterStatus) -> String {
    match status.leader {
        None => return "The group can lose none: nobody leads at the moment.".to_owned(),
        Some(leader) if leader != status.node => {
            return format!("Node {leader} leads: it alone can say whether the group can lose a node.");
        }
        Some(_) => {}
    }
    let voters = status.members.iter().filter(|member| member.role == MemberRole::Voter);
    let faults: Vec<Option<String>> = voters.map(fault_of).collect();
    let sound_count = faults.iter().filter(|fault| fault.is_none()).count();
    let majority = faults.len() / 2 + 1;
    let spare = sound_count.saturating_sub(majority);
    let voter_count = faults.len();
    let told: Vec<String> = faults.into_iter().flatten().collect();
    match (spare, told.is_empty()) {
        (0, true) if voter_count == 1 => "The group can lose none: it has one voter.".to_owned(),
        (0, true) => format!("The group can lose none: it has {voter_count} voters, and needs {majority}."),
        (0, false) => format!("The group can lose none: {}.", told.join(", ")),
        (1, true) => "The group can lose 1 node.".to_owned(),
        (1, false) => format!("The group can lose 1 node; {}.", told.join(", ")),
        (spare, true) => format!("The group can lose {spare} nodes."),
        (spare, false) => format!("The group can lose {spare} nodes; {}.", told.join(", ")),
    }
}

/// Why a voter could not step in for another one.
fn fault_of(voter: &ClusterMember) -> Option<String> {
    let node = voter.node;
    if voter.heard != Some(true) {
        return Some(format!("node {node} is not heard of"));
    }
    match lag_of(voter) {
        Some(lag) if lag <= LAG_ENTRIES_MAX => None,
        Some(lag) => Some(format!("node {node} is {lag} entries behind")),
        None => Some(format!("how far node {node} is behind is not known")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: GroupCommand,
    }

    fn parse(line: &str) -> Result<GroupCommand, clap::error::ErrorKind> {
        let parsed = Line::try_parse_from(["cluster"].into_iter().chain(line.split(' ')));
        parsed.map(|line| line.command).map_err(|error| error.kind())
    }

    /// A voter of each lag, the first one of which leads and answers; none: it is not heard of.
    fn voters(lags: &[Option<u64>]) -> ClusterStatus {
        let member = |(node, lag): (u64, &Option<u64>)| ClusterMember {
            node,
            role: MemberRole::Voter,
            address: format!("node-{node}:7414"),
            matched: Some((5_000 - lag.unwrap_or(0)).into()),
            lag: Some(lag.unwrap_or(0).into()),
            heard: Some(lag.is_some()),
            engine_version_max: Some(1),
        };
        ClusterStatus {
            node: 1,
            leader: Some(1),
            group: 0,
            epoch: 2,
            term: 7.into(),
            applied: 5_000.into(),
            repairing: false,
            engine_version: 1,
            members: (1..).zip(lags).map(member).collect(),
        }
    }

    #[test]
    fn commands_are_read() {
        let GroupCommand::Add(add) = parse("add --node 4 --address node-4:7414").unwrap() else {
            panic!("it is another command");
        };
        assert!((add.wait.wait, add.wait.no_wait) == (600, false));
        let voter = member_request(&add);
        assert_eq!((voter.node, voter.role), (4, NewMemberRole::Voter));
        assert_eq!(voter.address, "node-4:7414");
        let GroupCommand::Add(add) = parse("add --node 5 --address a:1 --gateway --no-wait").unwrap() else {
            panic!("it is another command");
        };
        assert_eq!(
            (member_request(&add).role, add.wait.no_wait),
            (NewMemberRole::Gateway, true)
        );
        let transfer = parse("transfer-leader");
        assert!(matches!(transfer, Ok(GroupCommand::TransferLeader { to: None, .. })));
        let transfer = parse("transfer-leader --to 3 --wait 5");
        assert!(matches!(transfer, Ok(GroupCommand::TransferLeader { to: Some(3), .. })));
        assert!(matches!(
            parse("remove --node 4"),
            Ok(GroupCommand::Remove { node: 4, .. })
        ));
        for wrong in [
            "add --node 0 --address a:1",
            "add --node 4",
            "remove",
            "remove --node x",
            "remove --node 4 --no-wait --wait 5",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn it_says_what_can_be_lost() {
        for (lags, wanted) in [
            (&[Some(0)][..], "The group can lose none: it has one voter."),
            (
                &[Some(0), Some(0)],
                "The group can lose none: it has 2 voters, and needs 2.",
            ),
            (&[Some(0), Some(0), Some(1_000)], "The group can lose 1 node."),
            (
                &[Some(0), Some(0), None],
                "The group can lose none: node 3 is not heard of.",
            ),
            (
                &[Some(0), Some(1_001), Some(0)],
                "The group can lose none: node 2 is 1001 entries behind.",
            ),
            (
                &[Some(0), None, None],
                "The group can lose none: node 2 is not heard of, node 3 is not heard of.",
            ),
            (&[Some(0); 5], "The group can lose 2 nodes."),
            (
                &[Some(0), Some(0), Some(0), Some(0), None],
                "The group can lose 1 node; node 5 is not heard of.",
            ),
        ] {
            assert_eq!(resilience(&voters(lags)), wanted);
        }
        let mut status = voters(&[Some(0); 3]);
        for (role, wanted) in [
            (
                MemberRole::Learner,
                "The group can lose none: it has 2 voters, and needs 2.",
            ),
            (
                MemberRole::Gateway,
                "The group can lose none: it has 2 voters, and needs 2.",
            ),
        ] {
            status.members[2].role = role;
            assert_eq!(resilience(&status), wanted, "only voters count");
        }
        status.leader = None;
        assert_eq!(
            resilience(&status),
            "The group can lose none: nobody leads at the moment."
        );
        status.leader = Some(3);
        let wanted = "Node 3 leads: it alone can say whether the group can lose a node.";
        assert_eq!(resilience(&status), wanted);
    }

    #[test]
    fn the_group_is_a_table() {
        let mut status = voters(&[Some(0), Some(20), None]);
        let wanted = "\
Group 0, epoch 2, term 7, engine version 1, as node 1 knows it
NODE  ROLE   LEADER  ADDRESS      MATCHED  LAG  HEARD  READS
   1  voter  leads   node-1:7414     5000    0  yes        1
   2  voter          node-2:7414     4980   20  yes        1
   3  voter          node-3:7414     5000    0  no         1
The group can lose none: node 3 is not heard of.
";
        assert_eq!(status_text(&status), wanted);
        status.leader = Some(2);
        status.repairing = true;
        status.members.truncate(1);
        status.members[0].matched = None;
        status.members[0].lag = None;
        let wanted = "\
Group 0, epoch 2, term 7, engine version 1, as node 1 knows it
NODE  ROLE   LEADER  ADDRESS      MATCHED  LAG  HEARD  READS
   1  voter          node-1:7414        -    -  yes        1
Node 1 gets back from its peers what its disk lost.
Node 2 leads: it alone can say whether the group can lose a node.
";
        assert_eq!(status_text(&status), wanted);
    }

    #[test]
    fn what_is_waited_for_is_named() {
        let mut status = voters(&[Some(0), Some(0), Some(0), Some(40)]);
        let request = |address: &str| MemberRequest {
            node: 4,
            address: address.into(),
            role: NewMemberRole::Voter,
        };
        let added = |status: &ClusterStatus| not_yet_added(status, &request("node-4:7414"));
        assert_eq!(added(&status), None);
        let elsewhere = not_yet_added(&status, &request("b:1"));
        assert_eq!(elsewhere.as_deref(), Some("node 4 is not a member at b:1 yet"));
        status.members[3].role = MemberRole::Learner;
        assert_eq!(
            added(&status).as_deref(),
            Some("node 4 is a learner, 40 entries behind")
        );
        status.members[3].lag = None;
        assert_eq!(added(&status).as_deref(), Some("node 4 is a learner"));
        status.members[3].role = MemberRole::Gateway;
        assert_eq!(added(&status), None);
        assert_eq!(not_yet_removed(&status, 4).as_deref(), Some("node 4 is a member still"));
        status.members.pop();
        assert_eq!(not_yet_removed(&status, 4), None);
        assert!(added(&status).is_some());

        for (leader, to, wanted) in [
            (Some(1), None, Some("node 1 leads still")),
            (Some(1), Some(3), Some("node 1 leads still")),
            (None, Some(3), Some("nobody leads at the moment")),
            (Some(2), Some(3), Some("node 2 leads still")),
            (Some(2), None, None),
            (Some(3), Some(3), None),
        ] {
            status.leader = leader;
            assert_eq!(
                not_yet_transferred(&status, Some(1), to).as_deref(),
                wanted,
                "{leader:?} {to:?}"
            );
        }
    }
}
