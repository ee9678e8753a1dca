//! `meridian bench load`: an open-loop load generator.
//!
//! Requests are sent at times that were fixed before, whatever the answers do, and latency counts from when a request
//! was due. What a slow exchange keeps waiting is thereby measured, not left out.
//!
//! ```text
//!  schedule: times ─┐
//!  flow: requests ──┴─> requests: bytes ──> driver: epoll, one thread ──> records ──> step: figures
//! ```

mod arguments;
mod burst;
mod campaign;
mod connect;
mod driver;
mod elsewhere;
mod flow;
mod journal;
mod lookup;
mod market;
mod oracle;
mod own_node;
mod processes;
mod progress;
mod records;
mod requests;
mod resend;
mod schedule;
mod session;
mod step;
pub mod table;
mod timeline;
mod told;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use harness::work_folder;

pub use arguments::{AuthenticationName, LoadArguments};
pub use burst::{BurstArguments, measure as measure_burst};
pub use campaign::{Campaign, Target};
pub use connect::{connect, connect_one};
pub use flow::{Flow, Mix};
pub use market::{ACCOUNTS_MAX, DEPOSIT, Market, MarketSize, QUOTE, Trader, epoch_ms, new_run};
pub use own_node::OwnNode;
pub use processes::Processes;
pub use requests::FIRST_ID;

use crate::results::{self, Check, Series};

/// Rates grow so much from step to step while they are held.
const GROWTH: f64 = 1.6;
/// How many faults are shown.
const FAULTS_SHOWN: usize = 20;
/// How often a rate is tried that isn't held.
pub const TRIES: usize = 3;
/// How often the knee is looked for between the last rate that was held and the first that wasn't.
const SEARCHES: u32 = 2;

/// Starts a node of its own, measures, stops it, and looks whether it kept what it acknowledged.
///
/// # Errors
/// What kept it from measuring, and every answer that was not as promised.
pub fn run(arguments: &LoadArguments) -> Result<()> {
    arguments.check()?;
    let work = work_folder("load")?;
    let result = match arguments.elsewhere.target(&work) {
        Ok(Some(target)) => measure_on(arguments, &target),
        Ok(None) => measure(arguments, &work),
        Err(error) => Err(error),
    };
    harness::remove_work_folder(&work)?;
    let series = result?;
    if let Some(path) = &arguments.out {
        std::fs::write(path, serde_json::to_string_pretty(&series)?)?;
    }
    Ok(())
}

/// Sends a burst to a node of its own.
///
/// # Errors
/// What kept it from measuring, and every answer that was not as promised.
pub fn run_burst(arguments: &BurstArguments) -> Result<()> {
    burst::run(arguments)
}

/// The program to measure.
fn program(arguments: &LoadArguments) -> Result<PathBuf> {
    match &arguments.program {
        Some(program) => Ok(program.clone()),
        None => Ok(std::env::current_exe()?),
    }
}

/// A series on a node of its own, in this folder.
///
/// # Errors
/// What kept it from measuring, and every answer that was not as promised.
pub fn measure(arguments: &LoadArguments, work: &Path) -> Result<Series> {
    let size = MarketSize {
        traders: arguments.sessions,
        instruments: arguments.instruments,
        key_types: arguments.key_types(),
    };
    let node = OwnNode::start(&program(arguments)?, work, arguments.settings.as_deref(), size)?;
    let target = node.target(work);
    let mut campaign = Campaign::new(arguments, &target);
    let mut series = climb(arguments, &mut campaign, results::Target::Meridian)?;
    let installation = node.stop()?;
    let check = campaign.check_with_journal(&installation)?;
    println!("{}", say_check(&check));
    series.check = Some(check);
    fail_on_faults(&campaign.into_faults(), Some(&check))?;
    Ok(series)
}

/// A series on a target that runs already.
///
/// # Errors
/// What kept it from measuring, and every answer that was not as promised.
pub fn measure_on(arguments: &LoadArguments, target: &Target) -> Result<Series> {
    let mut campaign = Campaign::new(arguments, target);
    let mut series = climb(arguments, &mut campaign, target.kind)?;
    let check = campaign.check_by_looking_up()?;
    println!(
        "{} acknowledged orders were looked up by their names: {} are there as acknowledged, {} are missing, {} are others.",
        check.acknowledged, check.found, check.missing, check.doubled
    );
    series.check = Some(check);
    fail_on_faults(&campaign.into_faults(), Some(&check))?;
    Ok(series)
}

fn say_check(check: &Check) -> String {
    format!(
        "{} requests were answered with a place in the log; in the journal {} of them are there, {} are missing, and {} \
         are there that should not be.",
        check.acknowledged, check.found, check.missing, check.doubled
    )
}

fn fail_on_faults(faults: &[String], check: Option<&Check>) -> Result<()> {
    for fault in faults.iter().take(FAULTS_SHOWN) {
        eprintln!("not as promised: {fault}");
    }
    if faults.len() > FAULTS_SHOWN {
        eprintln!("and {} more", faults.len() - FAULTS_SHOWN);
    }
    if !faults.is_empty() || check.is_some_and(|check| !check.passed()) {
        bail!("the exchange did not keep what it promises: see above");
    }
    Ok(())
}

/// Tries the rates that were asked for, or rising ones until the knee lies between two that are close.
fn climb(arguments: &LoadArguments, campaign: &mut Campaign<'_>, target: results::Target) -> Result<Series> {
    let mut steps = Vec::new();
    println!("{}", table::titles());
    if !arguments.rates.is_empty() {
        for rate in &arguments.rates {
            steps.push(campaign.step(*rate)?);
        }
    } else {
        // A neighbour of the machine may spoil a step: a rate counts as held if it is in one of a few tries. All are kept.
        let mut step = |rate: f64| -> Result<bool> {
            for _ in 0..TRIES {
                let step = campaign.step(rate)?;
                let held = step.is_sustained();
                steps.push(step);
                if held {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let mut held = 0.0;
        let mut rate = arguments.first_rate;
        while step(rate)? {
            held = rate;
            rate *= GROWTH;
        }
        let mut too_much = rate;
        for _ in 0..if held > 0.0 { SEARCHES } else { 0 } {
            rate = f64::sqrt(held * too_much);
            if step(rate)? {
                held = rate;
            } else {
                too_much = rate;
            }
        }
    }
    Ok(Series {
        description: arguments.description(target),
        steps,
        check: None,
    })
}
