//! The making of a data folder and of its files, cut off by `kill -9` at each step that shows on disk.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn meridian(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn init(data: &Path) -> Output {
    meridian(&["init", "--data", data.to_str().unwrap()]).output().unwrap()
}

/// Kills the process as soon as the file is there, or when it has ended by itself.
fn kill_when(mut child: Child, file: &Path) {
    while !file.exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_init_that_was_cut_off_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let steps = [
        "LOCK",
        "sealing.key",
        "journal",
        "journal/mark.tmp",
        "journal/mark",
        "journal/000000000001.tmp",
        "journal/000000000001.journal",
        "journal/000000000002.tmp",
        "cluster.toml",
    ];
    for (number, step) in steps.iter().enumerate() {
        let data = folder.path().join(format!("data-{number}"));
        let child = meridian(&["init", "--data", data.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        kill_when(child, &data.join(step));
        let again = init(&data);
        let said = String::from_utf8(again.stderr).unwrap();
        assert!(!again.status.success(), "{step}");
        let finished = data.join("cluster.toml").exists();
        let expected = if finished {
            "already"
        } else {
            "remove it and make it again"
        };
        assert!(said.contains(expected), "{step}: {said}");
        std::fs::remove_dir_all(&data).unwrap();
    }
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
}

#[test]
fn a_start_that_was_cut_off_is_simply_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert!(init(&data).status.success());
    let config = folder.path().join("meridian.toml");
    let listen = "[listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"\n";
    std::fs::write(&config, format!("[node]\ndata = {data:?}\n{listen}")).unwrap();
    let journal = data.join("journal");
    // What a cut leaves: half a segment, half a mark beside the whole one, a prepared segment, half a quarantine.
    let leave = |name: &str, bytes: usize| std::fs::write(journal.join(name), vec![0; bytes]).unwrap();
    let cuts: [(&str, usize); 5] = [
        ("000000000002.tmp", 1 << 20),
        ("mark.tmp", 100),
        ("quarantine.tmp", 10),
        ("000000000002.journal", 64 << 20),
        ("000000000002.journal", 1 << 20),
    ];
    for (name, bytes) in cuts {
        let _ = std::fs::remove_file(journal.join("000000000002.journal"));
        leave(name, bytes);
        // Cut again, while it makes the next segment.
        let child = meridian(&["run", "--config", config.to_str().unwrap()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        kill_when(child, &journal.join("000000000002.tmp"));
        let verified = meridian(&["journal", "verify", "--data", data.to_str().unwrap()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success(), "{name}, {bytes} bytes: {said}");
    }
}
