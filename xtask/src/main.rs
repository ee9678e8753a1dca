//! The project's own commands. `cargo xtask check` runs every check and changes nothing; `cargo xtask test` runs every
//! test; both end with a summary. CI calls only those two.

mod check;
mod faults;
mod fuzz;
mod performance;
mod run;
mod sim;
mod summary;
mod test;
mod upgrade;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <command>

  check [NAME...]      every check, or those named: format, edges, text, links, alerts, licences, clippy, docs
  test                 every test of the workspace
  faults kill          kill the node at random moments under load, and check what it promised
  faults power-loss    the same, losing what was not synced
      [--rounds N] [--seed N] [--without-fdatasync]
  faults group         three nodes under load, one of which fails
      [--rounds N] [--seed N] [--only FAULT]... [--disks] [--loopback] [--calm SECONDS] [--report FILE]
  faults gateways      the same with clients at two gateways before them
  faults regions       two regions and a witness, one of which is lost, hands over or is cut off
      [--mode async|sync] [--nodes 1|3] [--lease-ms N] [--only FAULT] [--report FILE]
      (all of them: [--release], built as released)
  sim                  the simulator: the group of nodes on virtual time, disks and links
      [--seeds N] [--from SEED]    so many seeds (100), beginning with this one
      [--seed SEED]                one seed alone, and what happens
      [--mutations [NAME...]]      faults put in on purpose, each of which it must notice
  upgrade              three nodes of an older build are upgraded one by one under load, and back, and again
      --from COMMIT|PROGRAM [--seed N]
  fuzz [NAME...]       the fuzz targets, or those named (needs a nightly toolchain and cargo-fuzz)
      [--seconds N]    for so long each
  performance          measure everything, and write docs/performance.md and its pictures
      [--short]        in a short form, whose figures mean little
      [--out DIR]      into another folder than docs";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<bool> {
    let Some((command, rest)) = arguments.split_first() else {
        println!("{USAGE}");
        return Ok(true);
    };
    std::env::set_current_dir(run::root())?;
    match command.as_str() {
        "check" => check::run(rest),
        "test" => test::run(rest),
        "faults" => faults::run(rest),
        "sim" => sim::run(rest),
        "upgrade" => upgrade::run(rest),
        "fuzz" => fuzz::run(rest),
        "performance" => performance::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(true)
        }
        other => bail!("there is no command {other:?}\n\n{USAGE}"),
    }
}
