//! `meridian bench burst`: ten times the sustainable rate for one second, amid a normal load.
//!
//! The clients are as many machines would be: they send on whatever the answers do, through sockets with small buffers,
//! and each keeps a bounded queue of what its socket doesn't take. Beyond that bound a client gives its oldest request
//! up, which then was never sent: an order that old is worth nothing to it. Whatever was sent must have one answer.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;
use harness::work_folder;

use super::arguments::LoadArguments;
use super::campaign::Campaign;
use super::market::{MarketSize, get};
use super::own_node::OwnNode;
use super::processes::Processes;
use super::schedule::times;
use super::step::{Plan, Run};
use super::timeline::{self, SLOT_MS};
use super::{climb, fail_on_faults, program, results, say_check};
use crate::results::{Burst, Schedule};

/// By how much the burst exceeds what can be sustained.
const FACTOR: f64 = 10.0;
/// The part of the sustainable rate that is normal.
const NORMAL: f64 = 0.5;
/// Normal load until everything is warm, then until the burst, the burst, and normal load behind it, in seconds.
const WARM_UP_SECONDS: u64 = 2;
const BEFORE_SECONDS: u64 = 3;
const BURST_SECONDS: u64 = 1;
const AFTER_SECONDS: u64 = 6;
const SECOND_NS: u64 = 1_000_000_000;
/// How often the node is asked how long its queue is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Sends ten times the sustainable rate for one second, and measures until everything is normal again.
#[derive(Clone, Debug, Args)]
pub struct BurstArguments {
    /// How the load is sent.
    #[command(flatten)]
    pub load: LoadArguments,
    /// The rate that can be sustained, in requests a second; left out: it is looked for first.
    #[arg(long)]
    pub sustainable: Option<f64>,
    /// How many messages a client keeps that its socket doesn't take.
    #[arg(long, default_value_t = 64)]
    pub client_queue: usize,
    /// The send buffer of a client's socket, in bytes.
    #[arg(long, default_value_t = 16 << 10)]
    pub send_buffer: usize,
}

/// Starts a node of its own, measures, stops it, and looks whether it kept what it acknowledged.
///
/// # Errors
/// What kept it from measuring, and every answer that was not as promised.
pub fn run(arguments: &BurstArguments) -> Result<()> {
    arguments.load.check()?;
    let work = work_folder("burst")?;
    let result = measure(arguments, &work);
    harness::remove_work_folder(&work)?;
    let burst = result?;
    if let Some(path) = &arguments.load.out {
        std::fs::write(path, serde_json::to_string_pretty(&burst)?)?;
    }
    Ok(())
}

/// A burst on a node of its own, in this folder.
///
/// # Errors
/// What kept it from measuring, and every answer that was not as promised.
pub fn measure(arguments: &BurstArguments, work: &Path) -> Result<Burst> {
    let load = &arguments.load;
    let size = MarketSize {
        traders: load.sessions,
        instruments: load.instruments,
        key_types: load.key_types(),
    };
    let node = OwnNode::start(&program(load)?, work, load.settings.as_deref(), size)?;
    let target = node.target(work);
    let mut campaign = Campaign::new(load, &target);
    let sustainable = match arguments.sustainable {
        Some(rate) => rate,
        None => {
            let series = climb(load, &mut campaign, target.kind)?;
            let Some(knee) = series.knee() else {
                bail!("not even {} requests a second can be sustained", load.first_rate);
            };
            knee.offered_per_second
        }
    };
    ensure!(sustainable >= 1.0, "--sustainable takes 1 or more");
    let plan = plan(arguments, sustainable);
    let rss_before = target.processes.usage()?.resident_bytes;
    let watch = Watch::start(target.operations, &target.processes);
    let times = burst_times(&plan, load.batch, &mut campaign.new_random());
    let run = campaign.run(&plan, &times);
    let (queue_depth_max, rss_max) = watch.end();
    let run = run?;
    campaign.note(&run);
    let installation = node.stop()?;
    let check = campaign.check_with_journal(&installation)?;
    let burst = Burst {
        check: Some(check),
        queue_depth_max,
        rss_bytes: (rss_before, rss_max),
        ..figures(arguments, &plan, &run)
    };
    print!("{}", timeline::table(&burst, run.records.given_up));
    println!("{}", say_check(&check));
    fail_on_faults(&campaign.into_faults(), Some(&check))?;
    let unanswered: u64 = burst.slots.iter().map(|slot| slot.unanswered).sum();
    ensure!(unanswered == 0, "{unanswered} requests that were sent have no answer");
    Ok(burst)
}

fn plan(arguments: &BurstArguments, sustainable: f64) -> Plan {
    Plan {
        warm_up: Duration::from_secs(WARM_UP_SECONDS),
        seconds: Duration::from_secs(BEFORE_SECONDS + BURST_SECONDS + AFTER_SECONDS),
        client_queue: Some(arguments.client_queue),
        send_buffer: Some(arguments.send_buffer),
        ..arguments.load.plan(sustainable * NORMAL)
    }
}

/// When messages are due: at the normal rate, far above it for a second, and at the normal rate again.
fn burst_times(plan: &Plan, batch: Option<usize>, random: &mut crate::random::Random) -> Vec<u64> {
    let normal = plan.per_second / batch.unwrap_or(1) as f64;
    let mut all = Vec::new();
    let mut start = 0;
    for (seconds, rate) in [
        (WARM_UP_SECONDS + BEFORE_SECONDS, normal),
        (BURST_SECONDS, normal / NORMAL * FACTOR),
        (AFTER_SECONDS, normal),
    ] {
        let part = times(Schedule::Poisson, rate, seconds * SECOND_NS, random);
        all.extend(part.into_iter().map(|at| start + at));
        start += seconds * SECOND_NS;
    }
    all
}

fn figures(arguments: &BurstArguments, plan: &Plan, run: &Run) -> Burst {
    let from_ns = WARM_UP_SECONDS * SECOND_NS;
    let slots = timeline::slots(&run.requests, &run.records, from_ns);
    let burst_ms = (BEFORE_SECONDS * 1_000, (BEFORE_SECONDS + BURST_SECONDS) * 1_000);
    let normal = timeline::latency(
        &run.requests,
        &run.records,
        from_ns,
        from_ns + BEFORE_SECONDS * SECOND_NS,
    );
    let normal_p99_ns = normal.value_at_quantile(0.99);
    let mut description = arguments.load.description(results::Target::Meridian);
    description.command = format!("meridian bench burst --sustainable {:.0}", plan.per_second / NORMAL);
    Burst {
        description,
        normal_per_second: plan.per_second,
        burst_per_second: plan.per_second / NORMAL * FACTOR,
        burst_ms,
        normal_again_after_ms: timeline::normal_again_after_ms(&slots, burst_ms.1, normal_p99_ns),
        slots,
        slot_ms: SLOT_MS,
        normal_p99_ns,
        queue_depth_max: 0,
        rss_bytes: (0, 0),
        check: None,
    }
}

/// Asks the node how long its queue is and how much memory it has, from another thread.
struct Watch {
    thread: JoinHandle<(u64, u64)>,
    ends: std::sync::Arc<AtomicBool>,
}

impl Watch {
    fn start(operations: Option<SocketAddr>, processes: &Processes) -> Self {
        let ends = std::sync::Arc::new(AtomicBool::new(false));
        let (processes, until) = (processes.clone(), std::sync::Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            let (mut depth, mut resident) = (0, 0);
            while !until.load(Ordering::Relaxed) {
                let metrics = operations.and_then(|address| get(address, "/metrics").ok());
                depth = depth.max(metrics.map_or(0, |(_, text)| queue_depth(&text)));
                resident = resident.max(processes.usage().map_or(0, |usage| usage.resident_bytes));
                std::thread::sleep(LOOK_EVERY);
            }
            (depth, resident)
        });
        Self { thread, ends }
    }

    /// The longest queue and the most memory that were seen.
    fn end(self) -> (u64, u64) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn queue_depth(metrics: &str) -> u64 {
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("meridian_core_queue_depth "));
    line.and_then(|value| value.trim().parse::<f64>().ok())
        .map_or(0, |depth| depth as u64)
}
