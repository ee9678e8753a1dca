//! A command is quarantined in a group: on all nodes, or the one that lacks it is kept out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::{ClientError, Credentials};
use harness::{Group, GroupOptions, Installation, Node, remove_work_folder, work_folder};
use wire::json::ClusterStatus;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

async fn cluster(group: &mut Group, node: usize, admin: &Credentials) -> Option<ClusterStatus> {
    group.operator(node, admin).await.ok()?.cluster().await.ok()
}

/// Asks the leader until it says so.
async fn wait(group: &mut Group, admin: &Credentials, is_so: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        for node in 0..2 {
            if let Some(status) = cluster(group, node, admin).await
                && status.leader == Some(status.node)
                && is_so(&status)
            {
                return status;
            }
        }
        assert!(Instant::now() < until, "it never came about");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn heard(status: &ClusterStatus) -> usize {
    status
        .members
        .iter()
        .filter(|member| member.heard == Some(true))
        .count()
}

fn quarantine(installation: &Installation, sequence: u64) -> String {
    let (data, sequence) = (installation.data.to_string_lossy(), sequence.to_string());
    let said = installation.command(&["journal", "quarantine", &sequence, "--as-others", "--data", &data]);
    said.unwrap_or_else(|error| panic!("{error}"))
}

fn last_sequence(installation: &Installation) -> u64 {
    let data = installation.data.to_string_lossy();
    let said = installation
        .command(&["journal", "replay", "--json", "--data", &data])
        .unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let last = &said["last_sequence"];
    last.as_str()
        .map_or_else(|| last.as_u64().unwrap(), |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_lacks_a_quarantine_is_kept_out_until_it_has_it() {
    let work = work_folder("quarantine").unwrap();
    let data: Vec<PathBuf> = (1..=3).map(|node| work.join(format!("data-{node}"))).collect();
    let meridian = PathBuf::from(env!("CARGO_BIN_EXE_meridian"));
    let mut group = Group::new(&meridian, &data, &work, "", None, GroupOptions::default()).unwrap();
    let admin = group.init().unwrap();
    let nodes = group.start(&admin).await.unwrap();
    for node in nodes {
        assert!(node.stop_within(PATIENCE).unwrap());
    }

    // The operator's next command but one, on two of three nodes: no command of this program panics, so one is chosen that
    // is still to come.
    let sequence = (0..3).map(|node| last_sequence(&group.nodes[node])).max().unwrap() + 2;
    for installation in &group.nodes[..2] {
        assert!(quarantine(installation, sequence).contains("quarantined here too"));
    }
    let mut nodes: Vec<Node> = group.nodes.iter().map(|node| node.start().unwrap()).collect();
    let status = wait(&mut group, &admin, |status| heard(status) == 2).await;
    assert_eq!(status.members.len(), 3);
    let until = Instant::now() + PATIENCE;
    while group.nodes[2].last_log_line("has quarantined").is_err() {
        assert!(Instant::now() < until, "node 3 is not told why it is kept out");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let said = group.nodes[2].last_log_line("has quarantined").unwrap();
    for words in [
        "no command",
        &format!("at sequence {sequence}"),
        "meridian journal quarantine",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }

    // With it, all three reject the command, and remain the same.
    assert!(nodes.remove(2).stop_within(PATIENCE).unwrap());
    quarantine(&group.nodes[2], sequence);
    nodes.push(group.nodes[2].start().unwrap());
    let status = wait(&mut group, &admin, |status| heard(status) == 3).await;
    let leader = usize::try_from(status.node).unwrap() - 1;
    let mut operator = group.operator(leader, &admin).await.unwrap();
    let mut rejected = 0;
    for asset in ["AAA", "BBB", "CCC", "DDD"] {
        match operator.new_asset(asset).await {
            Ok(()) => {}
            Err(ClientError::Refused(problem)) if problem.code == "quarantined" => rejected += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(rejected, 1);
    let applied = wait(&mut group, &admin, |status| heard(status) == 3).await.applied;
    let until = Instant::now() + PATIENCE;
    for node in 0..3 {
        while cluster(&mut group, node, &admin)
            .await
            .is_none_or(|status| status.applied.number() < applied.number())
        {
            assert!(Instant::now() < until, "node {} stays behind", node + 1);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    for node in nodes {
        assert!(node.stop_within(PATIENCE).unwrap());
    }
    let hashes: Vec<String> = group
        .nodes
        .iter()
        .map(|node| {
            let data = node.data.to_string_lossy();
            let said = node.command(&["journal", "replay", "--json", "--data", &data]).unwrap();
            let said: serde_json::Value = serde_json::from_str(&said).unwrap();
            format!("{} {}", said["last_sequence"], said["state_hash"])
        })
        .collect();
    assert!(hashes.windows(2).all(|two| two[0] == two[1]), "{hashes:?}");
    remove_work_folder(&work).unwrap();
}
