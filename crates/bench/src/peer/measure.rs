//! `meridian bench peer`: the same load on the peer, as far as it can be held and beyond, until it can't be kept up with.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use harness::work_folder;

use super::{Audit, CONNECTIONS, Peer, PeerSettings, WORKER_THREADS};
use crate::load::{ACCOUNTS_MAX, Campaign, LoadArguments, Market, Processes, Target, Trader, new_run, table};
use crate::protocol::Protocol;
use crate::protocol::request::Names;
use crate::results::{self, Check, Series, Step};

/// Rates grow so much from step to step.
const GROWTH: f64 = 1.5;
/// How often each of the two limits is looked for between the rates around it.
const SEARCHES: u32 = 2;
/// Between two checkpoints of the database no step may begin: its pages would be logged whole again.
const STEPS_MAX: usize = 40;

/// Measures the design that people have today with the same load: the rate that it holds, and the most it keeps up with.
#[derive(Clone, Debug, Args)]
pub struct PeerArguments {
    /// The load; the protocol is REST.
    #[command(flatten)]
    pub load: LoadArguments,
    /// Connections of the peer to its database.
    #[arg(long, default_value_t = CONNECTIONS)]
    pub connections: usize,
    /// Threads of the peer that serve.
    #[arg(long, default_value_t = WORKER_THREADS)]
    pub worker_threads: usize,
    /// A further setting of its database, such as `commit_delay=50`.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub database: Vec<String>,
}

/// Starts the peer with a database of its own, measures, stops both, and looks whether it kept what it acknowledged.
///
/// # Errors
/// What kept it from measuring, and every answer that was not as promised.
pub fn run(arguments: &PeerArguments) -> Result<()> {
    let work = work_folder("peer")?;
    let result = measure(arguments, &work);
    harness::remove_work_folder(&work)?;
    let series = result?;
    if let Some(path) = &arguments.load.out {
        std::fs::write(path, serde_json::to_string_pretty(&series)?)?;
    }
    Ok(())
}

/// A series on a peer of its own, in this folder.
///
/// # Errors
/// What kept it from measuring, such as that there is no Postgres here; and every answer that was not as promised.
pub fn measure(arguments: &PeerArguments, work: &Path) -> Result<Series> {
    let mut load = arguments.load.clone();
    load.protocol = Protocol::Rest;
    load.check()?;
    if load.batch.is_some() {
        bail!("the peer takes no batches");
    }
    let program = match &load.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?,
    };
    let peer = Peer::start(&program, &work.join("peer"), &settings(arguments, &load)?)?;
    let target = target(&peer, work, load.instruments);
    let mut campaign = Campaign::new(&load, &target);
    println!("{}", table::titles());
    let steps = climb(&load, |rate| campaign.step(rate))?;
    let orders = campaign.acknowledged_orders();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let audit = runtime.block_on(peer.audit(orders.iter().map(|(account, id)| (*account, id.as_str()))))?;
    peer.stop()?;
    println!("{}", say(&audit));
    let mut faults = campaign.into_faults();
    if !audit.holds() {
        faults.push(format!("the tables are not as they must be: {audit:?}"));
    }
    for fault in &faults {
        eprintln!("not as promised: {fault}");
    }
    if !faults.is_empty() {
        bail!("the peer did not keep what it promises: see above");
    }
    let mut description = load.description(results::Target::Peer);
    description.command = description.command.replace("bench load --protocol rest", "bench peer");
    Ok(Series {
        description,
        steps,
        check: Some(check_of(&audit)),
    })
}

fn settings(arguments: &PeerArguments, load: &LoadArguments) -> Result<PeerSettings> {
    let keys = u32::try_from(load.sessions).context("sessions are few")?;
    Ok(PeerSettings {
        accounts: keys.min(ACCOUNTS_MAX as u32),
        keys,
        symbols: symbols(load.instruments),
        key_type: load.key_types()[0],
        connections: arguments.connections,
        worker_threads: arguments.worker_threads,
        settings: arguments.database.clone(),
        ..PeerSettings::default()
    })
}

/// Named as at Meridian: each instrument has a base asset of its own.
fn symbols(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("A{index}-USD")).collect()
}

fn target(peer: &Peer, work: &Path, instruments: usize) -> Target {
    let trader = |trader: &super::PeerTrader| Trader {
        account: trader.account,
        credentials: trader.credentials.clone(),
    };
    Target {
        kind: results::Target::Peer,
        market: Market {
            address: peer.address(),
            host: peer.address().to_string(),
            cluster: peer.cluster(),
            names: Names {
                run: new_run(),
                symbols: symbols(instruments),
            },
            traders: peer.traders().iter().map(trader).collect(),
        },
        processes: Processes {
            // The database is its child.
            roots: vec![peer.process()],
        },
        operations: None,
        work: work.to_owned(),
    }
}

/// Tries the rates that were asked for, or rising ones until the peer can't keep up, and then rates around both limits: the
/// highest rate that it holds at a p99 below 5 ms, and the highest that it keeps up with at all.
fn climb(load: &LoadArguments, mut step: impl FnMut(f64) -> Result<Step>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    if !load.rates.is_empty() {
        for rate in &load.rates {
            steps.push(step(*rate)?);
        }
        return Ok(steps);
    }
    let mut rate = load.first_rate;
    while steps.last().is_none_or(Step::is_kept_up) && steps.len() < STEPS_MAX {
        steps.push(step(rate)?);
        rate *= GROWTH;
    }
    for is_within in [Step::is_sustained, Step::is_kept_up] {
        for _ in 0..SEARCHES {
            let within = steps.iter().filter(|step| is_within(step));
            let highest = within.map(|step| step.offered_per_second).max_by(f64::total_cmp);
            let Some(highest) = highest else { break };
            let beyond = steps.iter().filter(|step| !is_within(step));
            let beyond = beyond
                .map(|step| step.offered_per_second)
                .filter(|rate| *rate > highest);
            let Some(lowest_beyond) = beyond.min_by(f64::total_cmp) else {
                break;
            };
            steps.push(step(f64::sqrt(highest * lowest_beyond))?);
        }
    }
    steps.sort_by(|a, b| a.offered_per_second.total_cmp(&b.offered_per_second));
    Ok(steps)
}

fn check_of(audit: &Audit) -> Check {
    Check {
        acknowledged: audit.acknowledged,
        found: audit.found,
        missing: audit.missing,
        doubled: audit.doubled,
    }
}

fn say(audit: &Audit) -> String {
    format!(
        "{} orders were acknowledged; in the table {} of them are there once, {} are missing and {} are there more often. \
         {} orders are open; {} of them hold something else than they must, {} balances are not what their orders hold, \
         and {} smallest units came from nowhere.",
        audit.acknowledged,
        audit.found,
        audit.missing,
        audit.doubled,
        audit.open_orders,
        audit.wrong_holds,
        audit.wrong_balances,
        audit.created
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Percentiles;

    /// A peer that answers fast up to 5,000 a second and keeps up to 8,000.
    fn step(rate: f64) -> Step {
        let latency_ns = match rate {
            ..=5_000.0 => 1_000_000,
            ..=8_000.0 => 20_000_000,
            _ => 2_000_000_000,
        };
        Step {
            offered_per_second: rate,
            seconds: 10.0,
            sent: 1,
            executed: 1,
            latency: Percentiles {
                p50_ns: latency_ns,
                p99_ns: latency_ns,
                ..Percentiles::default()
            },
            ..Step::default()
        }
    }

    #[test]
    fn both_limits_are_looked_for() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            peer: PeerArguments,
        }
        let line = Line::parse_from(["peer"]);
        let steps = climb(&line.peer.load, |rate| Ok(step(rate))).unwrap();
        let highest = |is_within: fn(&Step) -> bool| {
            let within = steps.iter().filter(|step| is_within(step));
            within.map(|step| step.offered_per_second).fold(0.0, f64::max)
        };
        let (held, kept_up) = (highest(Step::is_sustained), highest(Step::is_kept_up));
        assert!((4_500.0..=5_000.0).contains(&held), "{held}");
        assert!((7_200.0..=8_000.0).contains(&kept_up), "{kept_up}");
        assert!(steps.is_sorted_by_key(|step| step.offered_per_second as u64));
    }
}
