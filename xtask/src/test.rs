//! Runs every test of the workspace, and counts.
//!
//! A test that can't be run here (no root, no namespaces, no FUSE) writes `SKIPPED <name>: <why>` to standard error,
//! past the test harness, and returns. Such lines are gathered and shown at the end: nothing is left out in silence.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run;

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: Vec<String>,
    failures: Vec<String>,
}

/// Runs them; true if all passed.
pub fn run(arguments: &[String]) -> Result<bool> {
    if !arguments.is_empty() {
        bail!("test takes no arguments; use cargo test -p CRATE NAME for a part");
    }
    provide_what_is_missing();
    let mut command = run::cargo();
    command
        .args(["test", "--workspace", "--locked", "--no-fail-fast", "--quiet"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("failed to start cargo test")?;
    let stdout = child.stdout.take().context("no standard output")?;
    let stderr = child.stderr.take().context("no standard error")?;
    let from_stderr = std::thread::spawn(move || {
        let mut counts = Counts::default();
        follow(stderr, &mut std::io::stderr(), &mut counts);
        counts
    });
    let mut counts = Counts::default();
    follow(stdout, &mut std::io::stdout(), &mut counts);
    let more = from_stderr.join().expect("the reader doesn't panic");
    counts.skipped.extend(more.skipped);
    let status = child.wait()?;
    Ok(print(&mut counts, status.success()))
}

fn follow(from: impl std::io::Read, to: &mut impl Write, counts: &mut Counts) {
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        // A terminal that went away is no reason to stop the tests.
        let _ = writeln!(to, "{line}");
        counts.take(&line);
    }
}

impl Counts {
    fn take(&mut self, line: &str) {
        // A quiet harness prints a dot for each test, and other output may follow on the same line.
        if let Some(at) = line.find("SKIPPED ") {
            self.skipped.push(line[at + "SKIPPED ".len()..].to_owned());
        }
        if let Some(at) = line.find("test result: ") {
            for part in line[at..].split([';', '.']) {
                let mut words = part.split_whitespace();
                if let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) {
                    match what {
                        "passed" => self.passed += count,
                        "failed" => self.failed += count,
                        _ => {}
                    }
                }
            }
        }
        if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.failures
                .push(line["---- ".len()..line.len() - " stdout ----".len()].to_owned());
        }
    }
}

fn print(counts: &mut Counts, succeeded: bool) -> bool {
    println!("\n== summary");
    counts.skipped.sort();
    counts.skipped.dedup();
    for failure in &counts.failures {
        println!("FAILED   {failure}");
    }
    for skipped in &counts.skipped {
        println!("SKIPPED  {skipped}");
    }
    if !succeeded && counts.failed == 0 {
        println!("FAILED   cargo test: it didn't build, or a test program died");
        counts.failed = 1;
    }
    let skipped = counts.skipped.len() as u64;
    println!(
        "{} passed, {} failed, {skipped} skipped",
        counts.passed.saturating_sub(skipped),
        counts.failed
    );
    succeeded
}

/// Where a Postgres server keeps its programs, by the packages of most distributions.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Says what tests need that is not there, and installs what can be.
///
/// The power-loss tests mount a file system: as root they need only `/dev/fuse`, otherwise the helper of fuse3 too. Those
/// that cut networks make namespaces, as root, with `ip`. The
/// tests of the bench's peer run a Postgres server of their own, which any user can.
fn provide_what_is_missing() {
    let is_root = run::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !std::path::Path::new("/dev/fuse").exists() {
        println!("note: there is no /dev/fuse, so tests that lose power are skipped; on a host with it: modprobe fuse");
    } else if !is_root && !run::exists(Command::new("fusermount3").arg("--version")) {
        println!("note: tests that lose power need fusermount3: sudo apt-get install --yes fuse3");
    }
    // Only root can make network namespaces; without it these tests say that they are skipped.
    let has_ip = run::exists(Command::new("ip").arg("-V"));
    if is_root && !has_ip && !install("iproute2") {
        println!("note: tests that cut networks need ip: apt-get install --yes iproute2");
    }
    let has_postgres =
        std::path::Path::new(POSTGRES).exists() || run::exists(Command::new("postgres").arg("--version"));
    if has_postgres || (is_root && install("postgresql")) {
        return;
    }
    println!("note: tests of the bench's peer need a Postgres server: sudo apt-get install --yes postgresql");
}

/// Installs a package where `apt-get` does; true if it is there then.
fn install(package: &str) -> bool {
    if !run::exists(Command::new("apt-get").arg("--version")) {
        return false;
    }
    println!("installing {package}, which tests need");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        run::succeeds(command.stdout(Stdio::null())).unwrap_or(false)
    };
    // The list of packages may be old or not there yet.
    apt(&["install", "--yes", "--no-install-recommends", package])
        || (apt(&["update"]) && apt(&["install", "--yes", "--no-install-recommends", package]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_the_harness_says() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "..SKIPPED power_loss: no /dev/fuse",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "---- it::broken stdout ----",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            counts.take(line);
        }
        assert_eq!((counts.passed, counts.failed), (4, 1));
        assert_eq!(counts.skipped, ["power_loss: no /dev/fuse"]);
        assert_eq!(counts.failures, ["it::broken"]);
    }
}
