//! `meridian journal` against the journals of real nodes: whole, torn, damaged, without a mark, with a quarantined command.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use types::{Event, RejectReason, Sequence};

use crate::world::{World, history, order, published, replayed};

/// A folder of a node that has stopped.
struct Bench {
    _folder: TempDir,
    data: PathBuf,
    last: Sequence,
    hash: u64,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let world = World::create(&data);
        let trader = world.key("trader");
        for round in 0..5 {
            world.submit(
                (round * 40..round * 40 + 40)
                    .map(|index| order(&trader, index))
                    .collect(),
            );
        }
        let (last, hash) = replayed(&world.node);
        drop(world.stop());
        Self {
            _folder: folder,
            data,
            last,
            hash,
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
        command.arg("journal").args(arguments).arg("--data").arg(&self.data);
        command.output().unwrap()
    }

    #[track_caller]
    fn says(&self, arguments: &[&str], words: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for words in words {
            assert!(said.contains(words), "{words:?} is not in {said}");
        }
        said
    }

    #[track_caller]
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let before = self.bytes();
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        for words in words {
            assert!(said.contains(words), "{words:?} is not in {said}");
        }
        assert!(self.bytes() == before, "what is refused changes nothing");
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.says(arguments, &[])).unwrap()
    }

    fn batches(&self) -> Vec<Value> {
        let dumped = self.says(&["dump", "--json"], &[]);
        dumped.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn segment(&self, batch: &Value) -> PathBuf {
        self.data
            .join(format!("journal/{:012}.journal", batch["segment"].as_u64().unwrap()))
    }

    /// The segments' bytes.
    fn bytes(&self) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = std::fs::read_dir(self.data.join("journal"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }
}

fn offset(batch: &Value) -> u64 {
    batch["offset"].as_u64().unwrap()
}

fn open(path: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn a_whole_journal_is_told_as_it_is() {
    let bench = Bench::new();
    bench.says(
        &["verify"],
        &["whole: everything that is known to have been acknowledged is there"],
    );
    let report = bench.json(&["verify", "--json"]);
    assert_eq!(
        (&report["verdict"], &report["torn_tail"]),
        (&"whole".into(), &Value::Null)
    );
    assert_eq!(report["last_sequence"], bench.last.0);
    assert_eq!(report["mark_sequence"], bench.last.0);

    let batches = bench.batches();
    let sequences: Vec<u64> = batches
        .iter()
        .flat_map(|batch| {
            let first = batch["header"]["first_sequence"].as_u64().unwrap();
            first..first + batch["commands"].as_array().unwrap().len() as u64
        })
        .collect();
    assert!(sequences.into_iter().eq(1..=bench.last.0), "each command once");
    let last = bench.last.to_string();
    let one = bench.says(&["dump", "--from", &last, "--to", &last], &["\"order-199\"", "Place"]);
    assert_eq!(one.lines().filter(|line| line.starts_with("index")).count(), 1, "{one}");

    let report = bench.json(&["replay", "--json"]);
    assert_eq!(report["last_sequence"], bench.last.0);
    assert_eq!(report["state_hash"], format!("{:016x}", bench.hash));
    bench.says(&["replay"], &["the hashes that the node wrote down all agree"]);
    bench.refuses(&["remark", "--yes"], &["the mark is there"]);
}

#[test]
fn a_torn_tail_is_told_and_cut_by_the_next_start() {
    let bench = Bench::new();
    // The beginning of a record behind the last one, as a write that was cut off leaves it.
    let batches = bench.batches();
    let last = batches.last().unwrap();
    let file = open(&bench.segment(last));
    let mut header = [0; 96];
    file.read_exact_at(&mut header, offset(last)).unwrap();
    let length = u64::from(u32::from_le_bytes(header[8..12].try_into().unwrap()));
    let behind = offset(last) + (96 + length).next_multiple_of(8);
    file.write_all_at(&header[..60], behind).unwrap();

    bench.says(
        &["verify"],
        &["something torn that was never acknowledged", &behind.to_string()],
    );
    assert_ne!(bench.json(&["verify", "--json"])["torn_tail"], Value::Null);
    let report = bench.json(&["replay", "--json"]);
    assert_eq!(report["state_hash"], format!("{:016x}", bench.hash));

    let world = World::open(&bench.data);
    assert_eq!(replayed(&world.node), (bench.last, bench.hash));
    drop(world.stop());
    assert_eq!(bench.json(&["verify", "--json"])["torn_tail"], Value::Null);
}

#[test]
fn damage_is_refused_by_name_and_changes_nothing() {
    let bench = Bench::new();
    let batches = bench.batches();
    let damaged = &batches[batches.len() - 2];
    let place = offset(damaged) + 100;
    let path = bench.segment(damaged);
    let file = open(&path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ 1], place).unwrap();
    let words = [
        format!("the record of index {} (sequence ", damaged["index"]),
        "is damaged".to_owned(),
        path.file_name().unwrap().to_str().unwrap().to_owned(),
        "Nothing was changed".to_owned(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    bench.refuses(&["verify"], &words);
    bench.refuses(&["verify", "--json"], &words);
    bench.refuses(&["replay"], &words);
    file.write_all_at(&byte, place).unwrap();
    bench.says(&["verify"], &["whole"]);
}

#[test]
fn a_lost_mark_is_written_anew_only_when_the_operator_says_so() {
    let bench = Bench::new();
    std::fs::remove_file(bench.data.join("journal/mark")).unwrap();
    for command in ["verify", "replay"] {
        bench.refuses(&[command], &["mark is missing", "meridian journal remark"]);
    }
    let end = format!("sequence {}", bench.last);
    bench.refuses(&["remark"], &["Say --yes", &end]);
    bench.says(&["remark", "--yes"], &["The mark now says", &end]);
    bench.says(&["verify"], &["whole"]);
    let world = World::open(&bench.data);
    assert_eq!(replayed(&world.node), (bench.last, bench.hash));
}

#[test]
fn a_quarantined_command_is_a_reject_in_every_replay() {
    let bench = Bench::new();
    let (first, last) = ("20", bench.last.to_string());
    bench.refuses(&["quarantine", first], &["it was applied"]);
    bench.refuses(&["quarantine", "100000"], &["the journal holds no command there"]);
    bench.says(&["quarantine", &last], &["becomes a reject", "\"order-199\""]);
    let hash = bench.json(&["replay", "--json"])["state_hash"].clone();
    assert_ne!(hash, format!("{:016x}", bench.hash));

    // A command that makes the engine panic never reaches the event log; this one did.
    std::fs::remove_dir_all(bench.data.join("events")).unwrap();
    let world = World::open(&bench.data);
    let (at, replayed_hash) = replayed(&world.node);
    assert_eq!((at, format!("{replayed_hash:016x}").into()), (bench.last, hash));
    let batches = history(&*published(&world.node));
    assert!(matches!(
        batches.last().unwrap().events[..],
        [
            ..,
            Event::Rejected {
                reason: RejectReason::Quarantined,
                ..
            }
        ]
    ));
    // It goes on from there, and what it does then is replayed the same.
    let trader = world.key("trader");
    let next = world.submit(vec![order(&trader, 1_000)]);
    let header = next[0].batch.header;
    assert_eq!((header.hashed_through, header.state_hash), (at, replayed_hash));
    let (at, live) = replayed(&world.node);
    drop(world.stop());
    let report = bench.json(&["replay", "--json"]);
    assert_eq!(report["last_sequence"], at.0);
    assert_eq!(report["state_hash"], format!("{live:016x}"));
    bench.refuses(&["quarantine", &last], &["it was applied"]);
}
