//! The nodes of a demo as processes of this program: each ends with the demo, and one that ended before is started again.
//!
//! Each one's standard input is a pipe that nobody writes to. The demo holds its other end, so that however the demo ends,
//! the node is told.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use wire::journal::NodeId;

/// How long a node that ended stays away.
pub const AWAY: Duration = Duration::from_secs(5);
/// How long a node may take to end when it is told to.
const STOP_WAIT: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const STOP_LOOK: Duration = Duration::from_millis(20);

/// What happened to a node's process.
#[derive(Debug)]
pub enum Change {
    /// It ended.
    Ended {
        /// Whose it was.
        node: NodeId,
        /// Its id.
        process: u32,
        /// How it ended.
        status: ExitStatus,
    },
    /// There is another one.
    Started {
        /// Whose it is.
        node: NodeId,
        /// Its id.
        process: u32,
    },
    /// There is none; it will be tried again.
    NotStarted {
        /// Whose it would have been.
        node: NodeId,
        /// Why.
        error: io::Error,
    },
}

/// The processes. They end with this value.
pub struct Processes {
    program: PathBuf,
    nodes: Vec<NodeProcess>,
}

struct NodeProcess {
    node: NodeId,
    folder: PathBuf,
    state: State,
}

enum State {
    Running(Child),
    Away { until: Instant },
}

impl Processes {
    /// Starts one a node, from the configuration in its folder, with its log there.
    pub fn start(folders: impl IntoIterator<Item = (NodeId, PathBuf)>) -> io::Result<Self> {
        let mut processes = Self {
            program: std::env::current_exe()?,
            nodes: Vec::new(),
        };
        for (node, folder) in folders {
            let state = State::Running(spawn(&processes.program, &folder)?);
            processes.nodes.push(NodeProcess { node, folder, state });
        }
        Ok(processes)
    }

    /// The id of a node's process, if it has one.
    pub fn id(&self, node: NodeId) -> Option<u32> {
        let found = self.nodes.iter().find(|process| process.node == node)?;
        match &found.state {
            State::Running(child) => Some(child.id()),
            State::Away { .. } => None,
        }
    }

    /// Looks which ended, and starts those that were away for long enough.
    pub fn look(&mut self, now: Instant) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        for process in &mut self.nodes {
            let node = process.node;
            match &mut process.state {
                State::Running(child) => {
                    let id = child.id();
                    if let Some(status) = child.try_wait()? {
                        process.state = State::Away { until: now + AWAY };
                        let process = id;
                        changes.push(Change::Ended { node, process, status });
                    }
                }
                State::Away { until } if *until <= now => match spawn(&self.program, &process.folder) {
                    Ok(child) => {
                        let id = child.id();
                        process.state = State::Running(child);
                        changes.push(Change::Started { node, process: id });
                    }
                    Err(error) => {
                        *until = now + AWAY;
                        changes.push(Change::NotStarted { node, error });
                    }
                },
                State::Away { .. } => {}
            }
        }
        Ok(changes)
    }

    /// Tells all to stop, and returns those that had to be killed.
    pub fn stop(mut self) -> Vec<NodeId> {
        let give_up_at = Instant::now() + STOP_WAIT;
        for child in self.running() {
            drop(child.1.stdin.take());
        }
        while Instant::now() < give_up_at && self.running().any(|(_, child)| matches!(child.try_wait(), Ok(None))) {
            std::thread::sleep(STOP_LOOK);
        }
        let late = self
            .running()
            .filter_map(|(node, child)| matches!(child.try_wait(), Ok(None)).then_some(node));
        late.collect()
    }

    fn running(&mut self) -> impl Iterator<Item = (NodeId, &mut Child)> {
        self.nodes.iter_mut().filter_map(|process| match &mut process.state {
            State::Running(child) => Some((process.node, child)),
            State::Away { .. } => None,
        })
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in self.running() {
            // A process that was waited for is not signalled: its id may be another one's by now.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(program: &Path, folder: &Path) -> io::Result<Child> {
    let log = folder.join("log");
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    Command::new(program)
        .args(["run", "--until-input-ends", "--config"])
        .arg(folder.join("meridian.toml"))
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A terminal's Ctrl-C reaches the demo alone, which stops its nodes in order.
        .process_group(0)
        .spawn()
}
