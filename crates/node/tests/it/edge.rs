//! `meridian edge` before a real node.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::running::{RunningNode, meridian};

#[test]
fn clients_reach_a_node_through_the_edge() {
    let node = RunningNode::start_with("proxy_protocol_from = [\"127.0.0.1\"]");
    let of = |url: &str| url.strip_prefix("http://").unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.toml");
    let config = format!(
        "[edge]\noperations = \"127.0.0.1:0\"\n[[front]]\nlisten = \"127.0.0.1:0\"\nproxy_protocol = true\n\
         [[region]]\nname = \"here\"\nnodes = [{{ address = \"{}\", health = \"{}\" }}]\n",
        of(&node.public),
        of(&node.operations)
    );
    std::fs::write(&path, config).unwrap();
    let mut edge = meridian(&["edge", "--config", path.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(edge.stderr.take().unwrap()).lines().map(Result::unwrap);
    let serving = lines.find(|line| line.contains("serving")).expect("the edge serves");
    let front = serving.split_once("fronts=[").unwrap().1.split_once(']').unwrap().0;
    lines
        .find(|line| line.contains("what is followed has changed"))
        .expect("the edge follows the node");
    std::thread::spawn(move || lines.for_each(drop));

    let asked = |url: &str| meridian(&["instruments", "--url", url]).output().unwrap();
    let answered = asked(&format!("http://{front}"));
    assert!(answered.status.success(), "{answered:?}");
    // Without the header nobody is let in, so it was read.
    let refused = node.metrics();
    assert!(
        refused.contains("meridian_gateway_refused_proxies_total 0"),
        "{refused}"
    );
    assert_eq!(asked(&node.public).status.code(), Some(4));
    assert!(!node.metrics().contains("meridian_gateway_refused_proxies_total 0"));

    kill_process(Pid::from_child(&edge), Signal::TERM).unwrap();
    assert!(edge.wait().unwrap().success());
}

#[test]
fn what_is_wrong_with_a_configuration_is_said_before_anything_is_bound() {
    let printed = meridian(&["edge", "--print-config"]).output().unwrap();
    let example = String::from_utf8(printed.stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.toml");
    let wrong = example
        .replace("failures_max = 3", "failures_max = 0")
        .replace("name = \"west\"", "name = \"West\"");
    std::fs::write(&path, wrong).unwrap();
    let refused = meridian(&["edge", "--config", path.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    for wanted in ["health.failures_max: 0", "region.name: \"West\""] {
        assert!(said.contains(wanted), "{said}");
    }
}
