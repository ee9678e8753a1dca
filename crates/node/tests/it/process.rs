//! The program itself: what it refuses, and how it ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn meridian(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    meridian(arguments).output().unwrap()
}

fn refused(arguments: &[&str], said: &str) {
    let output = output(arguments);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && message.contains(said),
        "{arguments:?}: {message}"
    );
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn write_config(path: &Path, data: &Path) {
    let listen = "[listen]\npublic = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\noperations = \"127.0.0.1:0\"\n";
    std::fs::write(path, format!("[node]\ndata = {data:?}\n{listen}")).unwrap();
}

/// Tells a process to stop and waits for its end.
fn terminate(mut child: Child) -> Option<i32> {
    let id = i32::try_from(child.id()).unwrap();
    let id = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap().code()
}

/// Asks the operations port that a log line names.
fn check_operations(serving: &str) {
    let address = serving.split("operations=").nth(1).unwrap();
    let address = address.split(' ').next().unwrap();
    for (path, said) in [
        ("/health/live", "\"live\""),
        ("/health/ready", "\"ready\""),
        ("/health/active", "\"epoch\":1"),
        ("/metrics", "meridian_sequence 1"),
        ("/metrics", "meridian_journal_sync_seconds_bucket"),
    ] {
        let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address:?}: {error}"));
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(said),
            "{path}: {answer}"
        );
    }
}

#[test]
fn the_default_configuration_is_printed() {
    let output = output(&["config", "print-default"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), node::config::DEFAULT);
}

#[test]
fn a_reader_who_leaves_is_no_fault() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = meridian(&["config", "print-default"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
}

#[test]
fn init_makes_a_folder_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let made = output(&["init", "--data", text(&data), "--cluster-id", "my-exchange"]);
    let said = String::from_utf8(made.stdout).unwrap();
    assert!(
        made.status.success() && said.contains("my-exchange") && said.contains("ed25519:"),
        "{said}"
    );
    refused(&["init", "--data", text(&data)], "there is something in it already");
    refused(&["demo", "--data", text(&data)], "belongs to a cluster that is no demo");
    refused(
        &[
            "init",
            "--data",
            text(&folder.path().join("x")),
            "--cluster-id",
            "No Name",
        ],
        "as the cluster's id",
    );

    let config = folder.path().join("meridian.toml");
    refused(&["run", "--config", text(&config)], "read the configuration");
    write_config(&config, &folder.path().join("nothing"));
    refused(&["run", "--config", text(&config)], "make it with `meridian init`");
    write_config(&config, &data);
    let mut node = meridian(&["run", "--config", text(&config)])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let logs = BufReader::new(node.stderr.take().unwrap());
    let mut lines = logs.lines().map(Result::unwrap);
    let serving = lines.find(|line| line.contains("serving")).unwrap();
    check_operations(&serving);
    refused(&["run", "--config", text(&config)], "another process uses it");
    assert_eq!(terminate(node), Some(0));
    assert!(lines.any(|line| line.contains("stopped")));

    let other = std::fs::read_to_string(&config).unwrap() + "[cluster]\nid = \"another\"\n";
    std::fs::write(&config, other).unwrap();
    refused(
        &["run", "--config", text(&config)],
        "but the configuration says another",
    );
}

#[test]
fn a_demo_ends_in_order_and_is_no_node() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut demo = meridian(&["demo", "--data", text(&data)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let greeting = lines.next().unwrap().unwrap();
    assert!(greeting.starts_with("Meridian demo, cluster demo-"), "{greeting}");
    assert_eq!(terminate(demo), Some(0));
    let config = folder.path().join("meridian.toml");
    write_config(&config, &data);
    refused(&["run", "--config", text(&config)], "belongs to a demo");
}
