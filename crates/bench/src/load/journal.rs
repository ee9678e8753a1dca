//! The durable record of a node of one's own: its journal, read by the program's own tool after the node has stopped.
//!
//! It is complete (each command that was ever sequenced stands there) and independent of the answers, which the node gave
//! from memory.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use harness::Installation;
use serde::Deserialize;

use super::oracle::Oracle;

/// A line of `meridian journal dump --json`.
#[derive(Deserialize)]
struct Batch<'a> {
    header: Header,
    #[serde(borrow)]
    commands: Vec<Sequenced<'a>>,
}

#[derive(Deserialize)]
struct Header {
    first_sequence: u64,
}

#[derive(Deserialize)]
struct Sequenced<'a> {
    account: u32,
    request_id: &'a str,
}

/// Shows the oracle each command of the journal.
///
/// # Errors
/// If the journal can't be read to its end.
pub fn show(installation: &Installation, oracle: &mut Oracle<'_>) -> Result<()> {
    let mut dump = Command::new(&installation.meridian)
        .args(["journal", "dump", "--json", "--data"])
        .arg(&installation.data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to run meridian journal dump")?;
    let mut lines = BufReader::with_capacity(1 << 20, dump.stdout.take().context("its output is piped")?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        let batch: Batch<'_> =
            serde_json::from_slice(&line).context("a line of the journal's dump is not understood")?;
        for (sequence, command) in (batch.header.first_sequence..).zip(&batch.commands) {
            oracle.saw(sequence, command.account, command.request_id);
        }
        line.clear();
    }
    let status = dump.wait()?;
    ensure!(status.success(), "meridian journal dump ended with {status}");
    // The tool reads as far as there are records; this one says whether that is all that was acknowledged.
    let data = installation.data.to_string_lossy();
    installation.command(&["journal", "verify", "--data", &data])?;
    Ok(())
}
