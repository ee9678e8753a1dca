//! The program, as a process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::Credentials;
use rustix::process::{Pid, Signal, kill_process};

/// How long a node may take until it is ready.
const READY_SECONDS: u64 = 60;
/// The name of each cluster that is made here.
pub(crate) const CLUSTER_ID: &str = "harness";
/// How long to wait between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long an answer of its operations port may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where the program is, and where it keeps what.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The program.
    pub meridian: PathBuf,
    /// Its data folder.
    pub data: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// What it says goes here.
    pub log: PathBuf,
    /// Clients' port.
    pub public: SocketAddr,
    /// Operators' port.
    pub admin: SocketAddr,
    /// The port of health and metrics.
    pub operations: SocketAddr,
    /// The network namespace that it runs in, if not the one of whoever starts it.
    pub namespace: Option<String>,
}

impl Installation {
    /// Chooses free ports and writes a configuration; `settings` are further sections of it, such as limits.
    ///
    /// # Errors
    /// What the disk or the network says.
    pub fn new(meridian: &Path, data: &Path, work: &Path, settings: &str) -> io::Result<Self> {
        let listeners = [0; 3].map(|_| TcpListener::bind(("127.0.0.1", 0)));
        let [public, admin, operations] = listeners.map(|listener| listener.and_then(|listener| listener.local_addr()));
        let installation = Self {
            meridian: meridian.to_owned(),
            data: data.to_owned(),
            config: work.join("meridian.toml"),
            log: work.join("meridian.log"),
            public: public?,
            admin: admin?,
            operations: operations?,
            namespace: None,
        };
        installation.configure(settings)?;
        Ok(installation)
    }

    /// Writes its configuration again; a node that runs keeps to the old one.
    ///
    /// # Errors
    /// What the disk says.
    pub fn configure(&self, settings: &str) -> io::Result<()> {
        let text = format!(
            "[listen]\npublic = \"{public}\"\nadmin = \"{admin}\"\noperations = \"{operations}\"\n\
             [node]\ndata = {data:?}\n{settings}",
            data = self.data,
            public = self.public,
            admin = self.admin,
            operations = self.operations,
        );
        std::fs::write(&self.config, text)
    }

    /// Makes the data folder; gives the operator's first key.
    ///
    /// # Errors
    /// What the program said.
    pub fn init(&self) -> io::Result<Credentials> {
        let data = self.data.to_string_lossy();
        let said = self.command(&["init", "--data", &data, "--cluster-id", CLUSTER_ID])?;
        let value = |name: &str| {
            let line = said.lines().find_map(|line| line.trim().strip_prefix(name));
            line.map(|value| value.trim_start_matches([' ', ':', '=']).trim().to_owned())
        };
        let (Some(key), Some(secret)) = (value("key"), value("secret")) else {
            return Err(io::Error::other(format!("init printed no key and secret: {said}")));
        };
        Credentials::parse(&key, &secret).map_err(io::Error::other)
    }

    /// Makes the data folder of a further node of a cluster, with a copy of the sealing key of its first one.
    ///
    /// # Errors
    /// What the program said.
    pub fn init_further(&self, node: u64, sealing_key: &Path) -> io::Result<()> {
        self.init_with(node, sealing_key, &[])
    }

    /// The same for the first node of a further region.
    ///
    /// # Errors
    /// What the program said.
    pub fn init_first_of_region(&self, node: u64, sealing_key: &Path) -> io::Result<()> {
        self.init_with(node, sealing_key, &["--first-of-region"])
    }

    fn init_with(&self, node: u64, sealing_key: &Path, more: &[&str]) -> io::Result<()> {
        let (data, sealing_key) = (self.data.to_string_lossy(), sealing_key.to_string_lossy());
        let (id, node) = (CLUSTER_ID, node.to_string());
        let further = ["--node", &node, "--sealing-key", &sealing_key];
        self.command(&[&["init", "--data", &data, "--cluster-id", id], &further[..], more].concat())?;
        Ok(())
    }

    /// Runs a command of the program to its end. Gives what it printed.
    ///
    /// # Errors
    /// What it said, if it failed.
    pub fn command(&self, arguments: &[&str]) -> io::Result<String> {
        let output = Command::new(&self.meridian)
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let error = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!(
            "meridian {} ended with {}: {text}{error}",
            arguments.join(" "),
            output.status
        )))
    }

    /// The last line of its log that has this text.
    ///
    /// # Errors
    /// If there is none.
    pub fn last_log_line(&self, text: &str) -> io::Result<String> {
        let log = std::fs::read_to_string(&self.log)?;
        let line = log.lines().rev().find(|line| line.contains(text));
        line.map(str::to_owned)
            .ok_or_else(|| io::Error::other(format!("the log never says {text:?}")))
    }

    /// Starts the node. It isn't ready yet.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(&self) -> io::Result<Node> {
        self.start_as("run", &[])
    }

    /// Starts the program by its configuration as something else than a node, such as a witness.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start_as(&self, command: &str, arguments: &[&str]) -> io::Result<Node> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut process = match &self.namespace {
            // It becomes the program, so that the child is the node itself.
            Some(namespace) => {
                let mut process = Command::new("ip");
                process.args(["netns", "exec", namespace]).arg(&self.meridian);
                process
            }
            None => Command::new(&self.meridian),
        };
        let child = process
            .arg(command)
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Node {
            child,
            operations: self.operations,
            log: self.log.clone(),
        })
    }
}

/// A running node. It is killed when dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    operations: SocketAddr,
    log: PathBuf,
}

impl Node {
    /// Waits until it takes requests.
    ///
    /// # Errors
    /// If it ends, or isn't ready in time: with the end of its log.
    pub fn wait_until_ready(&mut self) -> io::Result<()> {
        self.wait_until_ready_within(Duration::from_secs(READY_SECONDS))
    }

    /// As [`Node::wait_until_ready`], for a start that may take so long.
    ///
    /// # Errors
    /// If it ends, or isn't ready in time: with the end of its log.
    pub fn wait_until_ready_within(&mut self, within: Duration) -> io::Result<()> {
        let until = Instant::now() + within;
        loop {
            if self.is_ready()? {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(self.not_ready(within));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// What the operations port answers: status and body.
    ///
    /// # Errors
    /// If it doesn't.
    pub fn operations(&self, path: &str) -> io::Result<(u16, String)> {
        get(self.operations, path)
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// `kill -9`, without waiting until it is gone: for when several are to go at once.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn begin_to_kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Asks it to end, and waits for it; true if it ended as one that was asked to.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn stop(mut self) -> io::Result<bool> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        Ok(self.child.wait()?.success())
    }

    /// Asks it to end, and waits for so long; true if it ended as one that was asked to.
    ///
    /// # Errors
    /// What the operating system says, or that it still runs: then it is killed.
    pub fn stop_within(mut self, within: Duration) -> io::Result<bool> {
        self.signal(Signal::TERM)?;
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(self.failed(&format!("the node did not stop within {} s", within.as_secs())))
    }

    /// Asks it to end, and waits for nothing: see [`Node::ended`].
    ///
    /// # Errors
    /// What the operating system says.
    pub fn ask_to_stop(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Whether it has ended, and if so, whether as one that was asked to.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn ended(&mut self) -> io::Result<Option<bool>> {
        Ok(self.child.try_wait()?.map(|status| status.success()))
    }

    /// True once it takes requests.
    ///
    /// # Errors
    /// If it has ended: with the end of its log.
    pub fn is_ready(&mut self) -> io::Result<bool> {
        if let Some(status) = self.child.try_wait()? {
            return Err(self.failed(&format!("the node ended with {status}")));
        }
        Ok(get(self.operations, "/health/ready").is_ok_and(|(status, _)| status == 200))
    }

    /// True once its operations port answers, whatever it may be able to do.
    ///
    /// # Errors
    /// If it has ended: with the end of its log.
    pub fn is_live(&mut self) -> io::Result<bool> {
        if let Some(status) = self.child.try_wait()? {
            return Err(self.failed(&format!("the node ended with {status}")));
        }
        Ok(get(self.operations, "/health/live").is_ok_and(|(status, _)| status == 200))
    }

    /// Halts the process where it is, as a machine that stands still.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it run on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("the process has no id"))?;
        Ok(kill_process(id, signal)?)
    }

    /// The id of its process.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// True if it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// That it was not ready in time, with the end of its log.
    pub fn not_ready(&self, within: Duration) -> io::Error {
        self.failed(&format!("the node was not ready within {} s", within.as_secs()))
    }

    fn failed(&self, what: &str) -> io::Error {
        io::Error::other(format!("{what}; its log ends:\n{}", end_of(&self.log)))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log.
fn end_of(log: &Path) -> String {
    let mut text = String::new();
    let read = File::open(log).and_then(|mut file| file.read_to_string(&mut text));
    if let Err(error) = read {
        return format!("(unreadable: {error})");
    }
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A plain `GET`: the operations port is not part of the API that the reference client speaks.
fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not HTTP: {answer}")))?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// An empty folder for a run, among the temporary files.
///
/// # Errors
/// What the disk says.
pub fn work_folder(name: &str) -> io::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("meridian-{name}-{}", std::process::id()));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Takes the folder away again.
///
/// # Errors
/// What the disk says.
pub fn remove_work_folder(folder: &Path) -> io::Result<()> {
    std::fs::remove_dir_all(folder)
}
