//! The demo of several nodes: any of them takes orders, the one that leads may be killed, and none is left behind.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// By when all of a test is over.
const PATIENCE: Duration = Duration::from_secs(60);

fn meridian(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    for variable in ["URL", "ADMIN_URL", "KEY", "SECRET", "CLUSTER"] {
        command.env_remove(format!("MERIDIAN_{variable}"));
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap()).unwrap()
}

/// A node as the greeting shows it.
struct Node {
    id: String,
    process: u32,
    public: String,
}

struct Demo {
    process: Child,
    lines: Receiver<String>,
    over_at: Instant,
    data: PathBuf,
    _folder: TempDir,
}

impl Demo {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        // Apart from the ports that other demos try first, and from those that the system gives away.
        let first_port = (20_000 + std::process::id() % 1_000 * 10).to_string();
        let arguments = ["demo", "--nodes", "3", "--first-port", &first_port, "--data"];
        let mut process = meridian(&arguments).arg(&data).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                let _ = send.send(line.unwrap());
            }
        });
        Self {
            process,
            lines,
            over_at: Instant::now() + PATIENCE,
            data,
            _folder: folder,
        }
    }

    /// The next line with these words, and those before it.
    #[track_caller]
    fn read_until(&self, words: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let left = self.over_at.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            seen.push(line.unwrap_or_else(|_| panic!("nothing with {words:?} came in time, but {seen:#?}")));
            if seen.last().unwrap().contains(words) {
                return seen;
            }
        }
    }

    /// Places an order by way of these nodes.
    #[track_caller]
    fn place(&self, nodes: &[&Node]) {
        let urls: Vec<&str> = nodes.iter().map(|node| node.public.as_str()).collect();
        let order = ["order", "place", "BTC-USD", "buy", "0.1", "--price", "48000"];
        let output = meridian(&order)
            .args(["--url", &urls.join(","), "--demo"])
            .arg(&self.data)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let refused = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("open"), "{said}{refused}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Its nodes see that it is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The rows of the greeting's table.
fn nodes_in(greeting: &[String]) -> Vec<Node> {
    let rows = greeting.iter().filter(|line| line.contains("/metrics"));
    let nodes = rows.map(|row| {
        let mut words = row.split_whitespace().map(str::to_owned);
        let mut word = || words.next().unwrap();
        Node {
            id: word(),
            process: word().parse().unwrap(),
            public: word(),
        }
    });
    nodes.collect()
}

#[test]
fn a_demo_of_three_nodes_trades_on_when_its_leader_is_killed_and_leaves_no_process_behind() {
    let mut demo = Demo::start();
    let greeting = demo.read_until("Ctrl-C stops all nodes");
    let nodes = nodes_in(&greeting);
    assert_eq!(nodes.len(), 3, "{greeting:#?}");
    demo.place(&[&nodes[1]]);

    // On a machine that stalls another one may lead by now.
    let mut said = greeting;
    said.extend(demo.lines.try_iter());
    let leads = said.iter().rev().find(|line| line.contains(" leads (term ")).unwrap();
    let is_leader = |node: &&Node| leads.to_lowercase().contains(&format!("node {} leads", node.id));
    let leader = nodes.iter().find(is_leader).unwrap();
    let others: Vec<&Node> = nodes.iter().filter(|node| !is_leader(node)).collect();
    kill_process(pid(leader.process), Signal::KILL).unwrap();
    demo.place(&others);

    demo.read_until(&format!("node {} (process {})", leader.id, leader.process));
    let started = demo.read_until(&format!("node {} is started again, process ", leader.id));
    let again = started.last().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    demo.read_until(&format!("node {} keeps up again", leader.id));
    demo.place(&[leader]);

    kill_process(pid(demo.process.id()), Signal::INT).unwrap();
    assert_eq!(demo.process.wait().unwrap().code(), Some(0));
    for process in others.iter().map(|node| node.process).chain([leader.process, again]) {
        let found = test_kill_process(pid(process));
        assert!(found.is_err(), "process {process} is still there");
    }
    assert!(Instant::now() < demo.over_at);
}

#[test]
fn a_folder_with_another_number_of_nodes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let address = "\"127.0.0.1:1\"";
    let node = format!("[[node]]\npublic = {address}\nadmin = {address}\noperations = {address}\npeers = {address}\n");
    std::fs::write(folder.path().join("nodes.toml"), node.repeat(3)).unwrap();
    for count in ["1", "5"] {
        let demo = meridian(&["demo", "--nodes", count, "--data"])
            .arg(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&demo.stderr);
        assert!(
            demo.status.code() == Some(1) && said.contains("start it with --nodes 3"),
            "{said}"
        );
    }
}
