//! A Postgres of its own for one run: made, configured, started and ended here, reached only through a socket in its
//! folder. No server that runs on the machine already is touched.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::{Client, Config, NoTls};

/// The role that owns everything.
const ROLE: &str = "peer";
/// The database: the one that every new server has.
const DATABASE: &str = "postgres";
/// How long a start may take, with the recovery after a crash.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long an end may take, with its last checkpoint.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How long to wait between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A socket's whole path fits in 107 bytes (unix(7)); the server adds `/.s.PGSQL.5432` and a lock beside it.
const SOCKET_FOLDER_BYTES_MAX: usize = 80;
/// Connections beside those of the service's pool: whoever sets up and checks.
const OTHER_CONNECTIONS: usize = 8;

/// What differs from the server's defaults, and why. `fsync`, `full_page_writes` and `synchronous_commit` stay on: an
/// order is acknowledged when its commit is on the disk, as at Meridian.
const SETTINGS: &[(&str, &str)] = &[
    // Durable before it is answered, with the cheapest call for it. These are the defaults; they are said to be seen.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("wal_sync_method", "fdatasync"),
    // Everything that is touched stays in memory.
    ("shared_buffers", "1GB"),
    ("huge_pages", "try"),
    // No replica reads this log, so it holds only what recovery needs.
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("wal_buffers", "64MB"),
    // No checkpoint falls into a run; the one before it is asked for.
    ("checkpoint_timeout", "1h"),
    ("max_wal_size", "32GB"),
    // Room for the log is made before and used again, never while an order waits.
    ("min_wal_size", "4GB"),
    // Hot rows are pruned as they are updated; the vacuum comes often, so that it never has much to do.
    ("autovacuum_naptime", "15s"),
    ("autovacuum_vacuum_cost_delay", "2ms"),
    // Each statement is planned once: all of them look rows up by their whole key.
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
    ("random_page_cost", "1.1"),
    // Nothing is told that nobody reads.
    ("track_activities", "off"),
    ("update_process_title", "off"),
    ("log_checkpoints", "off"),
    // Only through the socket in its folder.
    ("listen_addresses", "''"),
];

/// Where the programs `initdb` and `postgres` are, or how to get them.
///
/// # Errors
/// If they are nowhere: with the command that installs them.
pub fn programs() -> Result<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let told = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output();
    if let Ok(told) = told {
        folders.push(String::from_utf8_lossy(&told.stdout).trim().into());
    }
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut installed: Vec<PathBuf> = installed.map(|entry| entry.path().join("bin")).collect();
    // The newest first, by number: 9.6 is older than 15.
    installed.sort_by_key(|folder| std::cmp::Reverse(version_of(folder)));
    folders.extend(installed);
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let complete = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
    folders.into_iter().find(complete).context(
        "there is no Postgres server on this machine (looked by pg_config, in /usr/lib/postgresql and along PATH); \
         install it with: apt-get install -y postgresql",
    )
}

/// The version in `/usr/lib/postgresql/15/bin`; 0 if there is none.
fn version_of(folder: &Path) -> u32 {
    let name = folder
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy();
    let major = name.split('.').next().unwrap_or_default();
    major.parse().unwrap_or(0)
}

/// The user that the server runs as: it refuses to run as root.
#[derive(Clone, Copy, Debug)]
struct User {
    id: u32,
    group: u32,
}

impl User {
    /// None where this program is not root, and the server runs as whoever runs it.
    fn instead_of_root() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = std::fs::read_to_string("/etc/passwd").context("failed to read /etc/passwd")?;
        let named = |name: &str| {
            let mut fields = users
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?
                .split(':');
            let (id, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(Self { id, group })
        };
        let user = named("postgres").or_else(|| named("nobody"));
        user.map(Some)
            .context("a Postgres server refuses to run as root, and there is no user postgres or nobody")
    }
}

/// A folder with a database in it, and the server while it runs.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    user: Option<User>,
    data: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    running: Option<Child>,
}

impl Server {
    /// Makes a new database in a folder that is not there yet, for a service with so many connections. `settings` are
    /// further lines `name = value` of its configuration, which win over the ones of this module.
    ///
    /// # Errors
    /// If Postgres is not installed, or what `initdb` said.
    pub fn create(folder: &Path, connections: usize, settings: &[String]) -> Result<Self> {
        let programs = programs()?;
        let user = User::instead_of_root()?;
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let mut socket = folder.clone();
        if socket.as_os_str().len() > SOCKET_FOLDER_BYTES_MAX {
            socket = std::env::temp_dir().join(format!("meridian-peer-{}", std::process::id()));
            std::fs::create_dir_all(&socket).with_context(|| format!("failed to make {}", socket.display()))?;
        }
        for folder in [&folder, &socket] {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
            if let Some(user) = user {
                chown(folder, Some(user.id), Some(user.group))?;
            }
        }
        let server = Self {
            programs,
            user,
            data: folder.join("data"),
            log: folder.join("postgres.log"),
            socket,
            running: None,
        };
        server.initialise()?;
        server.configure(connections, settings)?;
        Ok(server)
    }

    fn initialise(&self) -> Result<()> {
        let mut command = self.command("initdb");
        command
            .arg("--pgdata")
            .arg(&self.data)
            // Ids are compared as bytes, not by a language's rules.
            .args(["--locale=C", "--encoding=UTF8", "--auth=trust", "--username", ROLE]);
        let output = command.output().context("failed to start initdb")?;
        ensure!(
            output.status.success(),
            "initdb failed with {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn configure(&self, connections: usize, settings: &[String]) -> Result<()> {
        let mut text = format!(
            "max_connections = {}\nunix_socket_directories = '{}'\n",
            connections + OTHER_CONNECTIONS,
            self.socket.display()
        );
        for (name, value) in SETTINGS {
            text.push_str(&format!("{name} = {value}\n"));
        }
        for setting in settings {
            text.push_str(&format!("{setting}\n"));
        }
        // Read after postgresql.conf, so the file that the server made stays as it is.
        let path = self.data.join("postgresql.auto.conf");
        std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    /// One of the server's programs, as its user and without variables that would change what it does.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null());
        if let Some(user) = self.user {
            command.uid(user.id).gid(user.group);
        }
        command
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// If it ends or doesn't answer in time: with the end of its log.
    pub async fn start(&mut self) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(&self.data)
            .stdout(log.try_clone()?)
            .stderr(log)
            // A signal to this program's group, such as Ctrl-C, is not for the server: it ends when it is told to.
            .process_group(0)
            .spawn()
            .context("failed to start postgres")?;
        let child = self.running.insert(child);
        let until = Instant::now() + START_WITHIN;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!("postgres ended with {status}; its log ends:\n{}", end_of(&self.log));
            }
            if connect(&self.socket).await.is_ok() {
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "postgres did not start; its log ends:\n{}",
                end_of(&self.log)
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Where its socket is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process that the others of the server are children of, while it runs.
    #[cfg(test)]
    pub fn process(&self) -> Option<u32> {
        self.running.as_ref().map(Child::id)
    }

    /// Ends it in good order: open transactions are rolled back, the rest is written out.
    ///
    /// # Errors
    /// If it doesn't end in time; then it was killed.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.running.take() else {
            return Ok(());
        };
        // A "fast shutdown" in its documentation.
        signal(&child, Signal::INT)?;
        let until = Instant::now() + STOP_WITHIN;
        while child.try_wait()?.is_none() {
            if Instant::now() > until {
                child.kill()?;
                child.wait()?;
                bail!(
                    "postgres did not end in time and was killed; its log ends:\n{}",
                    end_of(&self.log)
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `stop`.
        let _ = self.stop();
        if !self.data.starts_with(&self.socket) {
            let _ = std::fs::remove_dir_all(&self.socket);
        }
    }
}

/// How to reach the server whose socket is in this folder.
pub(super) fn address(socket: &Path) -> Config {
    let mut config = Config::new();
    config.host_path(socket).user(ROLE).dbname(DATABASE);
    config
}

/// A connection beside the pool.
///
/// # Errors
/// What the server or the network says.
pub(super) async fn connect(socket: &Path) -> Result<Client> {
    let (client, connection) = address(socket)
        .connect(NoTls)
        .await
        .context("failed to connect to postgres")?;
    // It ends with the client; what goes wrong on it is told to whoever asks the client.
    tokio::spawn(connection);
    Ok(client)
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let id = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .context("a process has no id")?;
    kill_process(id, signal).context("failed to signal postgres")
}

/// The last lines of a log.
fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_else(|error| format!("(unreadable: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
