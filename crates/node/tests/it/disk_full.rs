//! A disk that fills up under the running program: a small file system of its own, another file that takes all its room.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::{Credentials, Endpoint, RestClient, RetryPolicy};
use http::Method;
use node::demo::DemoKey;
use wire::json::{AppliesTo, BatchAnswer, Outcome};

use crate::world::{World, order};

/// Clients that place orders at the same time.
const CLIENTS: usize = 8;
/// Orders in one request.
const TOGETHER: usize = 50;
/// What the other file leaves free: less than a segment, so that the making of the next one fails half-way.
const LEFT_BYTES: u64 = 3 << 19;

/// A file system of 48 MiB in memory.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
            .arg(folder.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Ok(Self(folder)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount: {error}")),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Takes all room but `left` bytes.
    fn fill(&self, left: u64) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.ballast())
            .unwrap();
        let zeros = [0; 4096];
        loop {
            match file.write_all(&zeros) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        let bytes = file.metadata().unwrap().len();
        file.set_len(bytes.saturating_sub(left)).unwrap();
    }

    fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// The program, serving.
struct Process {
    child: Child,
    public: String,
    operations: String,
}

impl Process {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .args(["run", "--config", config.to_str().unwrap()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut said = Vec::new();
        let mut heard = lines.by_ref().inspect(|line| said.push(line.clone()));
        let serving = heard.find(|line| line.contains("serving"));
        let serving = serving.unwrap_or_else(|| panic!("it does not serve: {}", said.join("\n")));
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| {
            let field = serving.split_whitespace().find_map(|word| word.strip_prefix(name));
            field.unwrap_or_else(|| panic!("no {name} in {serving}")).to_owned()
        };
        Self {
            public: address("public="),
            operations: address("operations="),
            child,
        }
    }

    /// What the operations port says, its status line too.
    fn operations(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.operations).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Waits until it says this of its readiness.
    fn wait_until_ready_says(&self, words: &str) {
        let mut last = String::new();
        for _ in 0..2_000 {
            last = self.operations("/health/ready");
            if last.contains(words) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{last}");
    }

    /// It says everywhere that the disk is full.
    fn check_full(&self) {
        self.wait_until_ready_says("\"disk_full\"");
        let ready = self.operations("/health/ready");
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("disk"), "{ready}");
        let metrics = self.operations("/metrics");
        for line in ["meridian_accepting 0", "meridian_not_accepting{reason=\"disk_full\"} 1"] {
            assert!(metrics.contains(line), "{metrics}");
        }
    }

    async fn client(&self, key: &DemoKey) -> RestClient {
        let endpoint = Endpoint::parse(&format!("http://{}", self.public)).unwrap();
        let credentials = Credentials::parse(&key.key.to_string(), &key.secret).unwrap();
        let policy = RetryPolicy {
            give_up_after: Duration::ZERO,
            attempt_timeout: Duration::from_secs(30),
            ..RetryPolicy::default()
        };
        RestClient::connect(endpoint, Some(credentials), policy).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What became of the orders that were placed.
#[derive(Debug, Default)]
struct Outcomes {
    executed: BTreeSet<String>,
    refused: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

impl Outcomes {
    fn extend(&mut self, other: Self) {
        self.executed.extend(other.executed);
        self.refused.extend(other.refused);
        self.unknown.extend(other.unknown);
    }

    /// Places orders that rest nowhere, in one request: it answers for each of them.
    async fn place(&mut self, client: &RestClient, ids: &[String]) {
        let items = ids.iter().map(|id| {
            serde_json::json!({"place": {
                "client_order_id": id, "symbol": "BTC-USD", "side": "buy", "type": "limit", "time_in_force": "ioc",
                "price": "49500.00", "quantity": "0.0010",
            }})
        });
        let body = serde_json::json!({"items": items.collect::<Vec<_>>()});
        let answer = client.change(Method::POST, "/v1/orders/batch", "", Some(&body)).await;
        let answer: BatchAnswer = answer.unwrap();
        for (id, item) in ids.iter().zip(answer.items) {
            let Some(problem) = item.problem else {
                assert_eq!(item.answer.unwrap().outcome, Outcome::Executed);
                self.executed.insert(id.clone());
                continue;
            };
            if problem.outcome == Outcome::Unknown {
                self.unknown.insert(id.clone());
                continue;
            }
            assert_eq!(
                (problem.status, problem.code.as_str()),
                (503, "disk_full"),
                "{problem:?}"
            );
            assert_eq!(problem.outcome, Outcome::NotExecuted);
            assert_eq!(problem.applies_to, AppliesTo::Attempt);
            assert!(problem.retry_after_ms.is_some());
            self.refused.insert(id.clone());
        }
    }
}

/// Places orders from several clients until each of them was refused some times.
fn load(process: &Process, key: &DemoKey) -> Outcomes {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = process.client(key).await;
        let clients = (0..CLIENTS).map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut outcomes = Outcomes::default();
                let mut index = 0;
                while outcomes.refused.len() < 2 * TOGETHER {
                    // Long ids fill the journal sooner.
                    let ids: Vec<_> = (index..index + TOGETHER)
                        .map(|index| format!("full-{number}-{index:056}"))
                        .collect();
                    outcomes.place(&client, &ids).await;
                    index += TOGETHER;
                }
                outcomes
            })
        });
        let mut all = Outcomes::default();
        for client in clients.collect::<Vec<_>>() {
            all.extend(client.await.unwrap());
        }
        all
    })
}

/// A data folder whose last segment is nearly full, and the key of who trades there.
fn nearly_full_segment(data: &Path) -> DemoKey {
    let world = World::create(data);
    let trader = world.key("trader");
    let used = || {
        let paths = std::fs::read_dir(data.join("journal")).unwrap();
        let segments = paths.map(|entry| entry.unwrap().path());
        let begun = segments.filter(|path| path.extension().is_some_and(|extension| extension == "journal"));
        let begun = begun.filter_map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let last = bytes.iter().rposition(|byte| *byte != 0)?;
            Some((path, last))
        });
        begun.max().unwrap().1
    };
    let mut index = 0;
    while !(1_400_000..1_900_000).contains(&used()) {
        world.submit((index..index + 2_000).map(|index| order(&trader, index)).collect());
        index += 2_000;
    }
    drop(world.stop());
    // What makes it a demo's, which `run` refuses.
    std::fs::remove_file(data.join("demo.toml")).unwrap();
    trader
}

/// The request ids that the journal holds, and that the journal is whole.
fn journal_ids(data: &Path) -> Vec<String> {
    let journal = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
            .arg("journal")
            .args(arguments)
            .args(["--json", "--data", data.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(journal(&["verify"]).contains("\"verdict\":\"whole\""));
    let dump = journal(&["dump"]);
    let batches = dump
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let ids = batches.flat_map(|batch| {
        let commands = batch["commands"].as_array().unwrap().clone();
        commands
            .into_iter()
            .map(|command| command["request_id"].as_str().unwrap().to_owned())
    });
    ids.collect()
}

#[test]
fn a_full_disk_loses_nothing_and_is_left_again() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            // Past the capture of the test's output.
            writeln!(
                std::io::stderr(),
                "SKIPPED node::disk_full: no file system of its own: {why}"
            )
            .unwrap();
            return;
        }
    };
    let data = disk.0.path().join("data");
    let key = nearly_full_segment(&data);
    let config = tempfile::NamedTempFile::new().unwrap();
    let limits = "burst = 1000000\n";
    let text = format!(
        "[node]\ndata = {data:?}\n\
         [listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"\n\
         [gateway]\nrequests_per_key_{limits}requests_per_address_{limits}\
         requests_per_key_per_second = 1000000\nrequests_per_address_per_second = 1000000\n\
         [journal]\nsegment_size = \"4 MiB\"\n[disk]\nfree_alarm = \"2 KiB\"\nfree_min = \"1 KiB\"\n"
    );
    std::fs::write(config.path(), text).unwrap();

    // It fills up while orders come in, in the middle of the making of the next segment.
    let process = Process::start(config.path());
    process.wait_until_ready_says("\"ready\"");
    wait_for_next_segment(&data);
    disk.fill(LEFT_BYTES);
    let mut outcomes = load(&process, &key);
    process.check_full();
    assert!(!outcomes.executed.is_empty(), "{outcomes:?}");
    assert!(
        outcomes.unknown.is_empty(),
        "what is sequenced has room: {:?}",
        outcomes.unknown
    );

    // Killed and started on the full disk it serves queries and says the same, and takes orders once there is room.
    drop(process);
    disk.fill(0);
    let process = Process::start(config.path());
    process.check_full();
    disk.free();
    process.wait_until_ready_says("\"ready\"");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = process.client(&key).await;
        // A refused attempt does not use the id up.
        let again = outcomes.refused.pop_first().unwrap();
        let ids = ["after-1".to_owned(), "after-2".to_owned(), again];
        outcomes.place(&client, &ids).await;
        assert!(ids.iter().all(|id| outcomes.executed.contains(id)));
        client.balances().await.unwrap();
    });
    drop(process);

    let ids = journal_ids(&data);
    let once: BTreeSet<&String> = ids.iter().collect();
    for id in &outcomes.executed {
        assert!(once.contains(id), "{id} was acknowledged and is lost");
        assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "{id}");
    }
    for id in &outcomes.refused {
        assert!(!once.contains(id), "{id} was refused before it was sequenced");
    }
}

/// Waits until the segment behind the one that is written to is there.
fn wait_for_next_segment(data: &Path) {
    let is_prepared = || {
        let paths = std::fs::read_dir(data.join("journal")).unwrap();
        let mut names: Vec<_> = paths.map(|entry| entry.unwrap().path()).collect();
        names.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
        let newest = names.into_iter().max().unwrap();
        std::fs::read(newest).unwrap().iter().take(4096).all(|byte| *byte == 0)
    };
    while !is_prepared() {
        std::thread::sleep(Duration::from_millis(5));
    }
}
