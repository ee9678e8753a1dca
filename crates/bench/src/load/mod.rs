//! `meridian bench load`: an open-loop load generator.
//!
//! Requests are sent at times that were fixed before, whatever the answers do, and latency counts from when a request
//! was due. What a slow exchange keeps waiting is thereby measured, not left out.
//!
//! ```text
//!  schedule: times ─┐
//!  flow: requests ──┴─> requests: bytes ──> driver: epoll, one thread ──> records ──> step: figures
//! ```

pub mod arguments;
mod connect;
mod driver;
mod flow;
mod market;
mod own_node;
mod processes;
mod progress;
mod records;
mod requests;
mod schedule;
mod session;
mod step;
mod table;

use std::path::Path;

use anyhow::Result;
use harness::work_folder;

pub use arguments::LoadArguments;
use flow::Flow;
use market::MarketSize;
use own_node::OwnNode;
use step::{Run, run as run_step};

use crate::random::Random;
use crate::results::{Series, StageReading, Target};

/// Rates grow so much from step to step while they are held.
const GROWTH: f64 = 1.6;
/// How often the knee is looked for between the last rate that was held and the first that wasn't.
const SEARCHES: u32 = 2;

/// Starts a node of its own, measures, stops it.
///
/// # Errors
/// What kept it from measuring, and every answer that was not as promised.
pub fn run(arguments: &LoadArguments) -> Result<()> {
    arguments.check()?;
    let work = work_folder("load")?;
    let result = measure(arguments, &work);
    harness::remove_work_folder(&work)?;
    let series = result?;
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&series)?)?;
    }
    Ok(())
}

fn measure(arguments: &LoadArguments, work: &Path) -> Result<Series> {
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?,
    };
    let size = MarketSize {
        traders: arguments.sessions,
        instruments: arguments.instruments,
        key_type: arguments.key_type(),
    };
    let node = OwnNode::start(&program, work, arguments.settings.as_deref(), size)?;
    let mut random = Random(arguments.seed);
    let mut flow = Flow::new(
        arguments.mix,
        random.any(),
        arguments.sessions,
        node.market.accounts(),
        arguments.instruments,
        arguments.open_orders,
    );
    println!("{}", table::titles());
    let mut series = Series {
        description: arguments.description(Target::Meridian),
        steps: Vec::new(),
        check: None,
    };
    let mut step = |rate: f64| -> Result<bool> {
        let before = StageReading::parse(&node.metrics()?)?;
        let mut run = run_step(
            &arguments.plan(rate),
            &mut flow,
            &node.market,
            &node.processes(),
            &mut random,
        )?;
        run.step.stages = StageReading::parse(&node.metrics()?)?.since(&before);
        println!("{}", table::line(&run));
        say_faults(&run);
        let held = run.step.is_sustained();
        series.steps.push(run.step);
        Ok(held)
    };
    climb(arguments, &mut step)?;
    node.stop()?;
    Ok(series)
}

/// Tries the rates that were asked for, or rising ones until the knee is between two that are close.
fn climb(arguments: &LoadArguments, step: &mut impl FnMut(f64) -> Result<bool>) -> Result<()> {
    if !arguments.rates.is_empty() {
        for rate in &arguments.rates {
            step(*rate)?;
        }
        return Ok(());
    }
    let mut held = 0.0;
    let mut rate = arguments.first_rate;
    while step(rate)? {
        held = rate;
        rate *= GROWTH;
    }
    let mut too_much = rate;
    for _ in 0..SEARCHES {
        if held == 0.0 {
            break;
        }
        rate = f64::sqrt(held * too_much);
        if step(rate)? {
            held = rate;
        } else {
            too_much = rate;
        }
    }
    Ok(())
}

fn say_faults(run: &Run) {
    for fault in &run.records.faults {
        println!("    FAULT: {fault}");
    }
    if run.records.faults_count > 0 {
        println!("    {} faults in all", run.records.faults_count);
    }
    if !run.records.codes.is_empty() {
        let codes: Vec<String> = run
            .records
            .codes
            .iter()
            .map(|(code, count)| format!("{code} {count}"))
            .collect();
        println!("    not executed: {}", codes.join(", "));
    }
}
