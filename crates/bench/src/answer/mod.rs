//! What one answer costs at light load: one order in flight, over WebSocket and over REST, against the floor that no
//! durable answer can beat on this machine: a loopback round trip of as many bytes plus one `fdatasync` of a journal
//! record's size. Each turn of the loop takes one sample of each, so that a noisy neighbour hits all of them alike.

mod floor;
mod peers;
mod report;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use harness::{Installation, Operator, Trader, work_folder};

use floor::{DiskFloor, LoopbackFloor};
use peers::{RestPeer, WebSocketPeer};
use report::{Report, Series};

/// Measures one answer at light load against the floor.
#[derive(Debug, Args)]
pub struct AnswerArguments {
    /// How many samples of each to take.
    #[arg(long, default_value_t = 20_000)]
    samples: u32,
    /// How many samples to throw away first.
    #[arg(long, default_value_t = 2_000)]
    warm_up: u32,
    /// The bytes of the floor's journal record: what the journal writes for one order.
    #[arg(long, default_value_t = 384)]
    record_bytes: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The limits are there, and cost what they cost, but none is reached.
const NO_LIMIT: &str = "[gateway]\nrequests_per_key_burst = 1000000\nrequests_per_key_per_second = 1000000\n";
/// Longer than any answer takes, and short enough to notice a node that hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Starts a node of its own, measures, stops it.
pub fn run(arguments: &AnswerArguments) -> Result<()> {
    let meridian = std::env::current_exe()?;
    let work = work_folder("answer")?;
    let result = measure(arguments, &meridian, &work);
    harness::remove_work_folder(&work)?;
    let report = result?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report.json())?);
    } else {
        print!("{report}");
    }
    Ok(())
}

fn measure(arguments: &AnswerArguments, meridian: &std::path::Path, work: &std::path::Path) -> Result<Report> {
    let installation = Installation::new(meridian, &work.join("data"), work, NO_LIMIT)?;
    let (node, trader) = open_market(&installation)?;
    let mut disk =
        DiskFloor::new(&work.join("floor"), arguments.record_bytes).context("failed to make the floor's file")?;
    let mut websocket = WebSocketPeer::connect(installation.public, &trader.credentials)?;
    let mut rest = RestPeer::connect(installation.public, websocket.cluster(), trader.credentials.clone())?;
    let (request_bytes, answer_bytes) = websocket.order()?;
    let mut loopback = LoopbackFloor::new(request_bytes, answer_bytes)?;

    let mut report = Report::new(request_bytes, answer_bytes, arguments.record_bytes);
    for turn in 0..arguments.warm_up + arguments.samples {
        let round_trip = timed(|| loopback.round_trip())?;
        let sync = timed(|| disk.sync())?;
        let over_websocket = timed(|| websocket.order().map(drop))?;
        let over_rest = timed(|| rest.order())?;
        if turn < arguments.warm_up {
            continue;
        }
        report.add(Series::RoundTrip, round_trip);
        report.add(Series::Sync, sync);
        report.add(Series::Floor, round_trip + sync);
        report.add(Series::WebSocket, over_websocket);
        report.add(Series::Rest, over_rest);
    }
    if !node.stop()? {
        bail!("the node did not end in good order");
    }
    Ok(report)
}

/// A running node with one instrument and one funded account.
fn open_market(installation: &Installation) -> Result<(harness::Node, Trader)> {
    let admin = installation.init()?;
    let mut node = installation.start()?;
    node.wait_until_ready()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let trader = runtime.block_on(async {
        let mut operator = Operator::connect(installation.admin, admin).await?;
        operator.open_market().await?;
        operator.new_trader().await
    })?;
    Ok((node, trader))
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
