//! What one answer costs at light load: one order in flight, over WebSocket and over REST, against the floor that no
//! durable answer can beat on this machine: a loopback round trip of as many bytes plus one `fdatasync` of a journal
//! record's size. Each turn of the loop takes one sample of each, so that a noisy neighbour hits all of them alike.

mod table;
mod way;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use harness::work_folder;
use wire::json::KeyType;

use crate::floor::{Floor, RECORD_BYTES, record};
use crate::load::{MarketSize, OwnNode};
use crate::protocol::Protocol;
use crate::results::{Answers, Named, Percentiles, StageReading, new_histogram};
use way::Way;

/// Measures one answer at light load against the floor.
#[derive(Clone, Debug, Args)]
pub struct AnswerArguments {
    /// How many samples of each to take.
    #[arg(long, default_value_t = 20_000)]
    pub samples: u32,
    /// How many samples to throw away first.
    #[arg(long, default_value_t = 2_000)]
    pub warm_up: u32,
    /// The bytes of the floor's journal record: what the journal writes for one order.
    #[arg(long, default_value_t = RECORD_BYTES)]
    pub record_bytes: usize,
    /// Measure this build of the program instead of the one that runs.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// Further sections of the node's configuration.
    #[arg(long)]
    pub settings: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Starts a node of its own, measures, stops it.
///
/// # Errors
/// What kept it from measuring, and any order that was not executed.
pub fn run(arguments: &AnswerArguments) -> Result<()> {
    let work = work_folder("answer")?;
    let result = measure(arguments, &work);
    harness::remove_work_folder(&work)?;
    let answers = result?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&answers)?);
    } else {
        print!("{}", table::table(&answers));
    }
    Ok(())
}

/// Measures on a node of its own, in this folder.
///
/// # Errors
/// What kept it from measuring, and any order that was not executed.
pub fn measure(arguments: &AnswerArguments, work: &Path) -> Result<Answers> {
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?,
    };
    let size = MarketSize {
        traders: 2,
        instruments: 1,
        key_types: &[KeyType::HmacSha256, KeyType::Ed25519],
    };
    let node = OwnNode::start(&program, work, arguments.settings.as_deref(), size)?;
    let market = &node.market;
    let mut ways = [
        Way::open("WebSocket", Protocol::WebSocket, market, 0)?,
        Way::open("REST, HMAC", Protocol::Rest, market, 0)?,
        Way::open("REST, Ed25519", Protocol::Rest, market, 1)?,
    ];
    let mut number = 1;
    ways[0].order(number)?;
    let (request_bytes, answer_bytes) = ways[0].sizes();
    let mut floor = Floor::new(&work.join("floor"), request_bytes, answer_bytes, arguments.record_bytes)?;
    let mut histograms = [(); 3].map(|()| new_histogram());
    let mut before = StageReading::default();
    for turn in 0..arguments.warm_up + arguments.samples {
        let counts = turn >= arguments.warm_up;
        if turn == arguments.warm_up {
            before = StageReading::parse(&node.metrics()?)?;
        }
        floor.take(counts)?;
        for (way, histogram) in ways.iter_mut().zip(&mut histograms) {
            number += 1;
            let took = way.order(number)?;
            if counts {
                record(histogram, took);
            }
        }
    }
    let stages = StageReading::parse(&node.metrics()?)?.since(&before);
    let named = ways.iter().zip(&histograms).map(|(way, histogram)| Named {
        name: way.name.to_owned(),
        latency: Percentiles::of(histogram),
    });
    let answers = Answers {
        command: format!("meridian bench answer --samples {}", arguments.samples),
        floors: floor.floors(),
        ways: named.collect(),
        stages,
    };
    drop(ways);
    node.stop()?;
    Ok(answers)
}
