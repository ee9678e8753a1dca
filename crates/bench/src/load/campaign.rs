//! Steps on one target, one after the other: what is open and what was told goes on from step to step.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use types::AccountId;

use super::arguments::LoadArguments;
use super::flow::Flow;
use super::lookup::look_up;
use super::market::{Market, get};
use super::oracle::Oracle;
use super::processes::Processes;
use super::resend::send_some_again;
use super::step::{Plan, Run, run_times};
use super::told::{AllTold, Fate};
use super::{journal, schedule, table};
use crate::floor::{Floor, RECORD_BYTES};
use crate::random::Random;
use crate::results::{self, Check, Floors, StageReading};

/// How many samples of the floor are taken between two steps, and how many before them are thrown away.
const FLOOR_SAMPLES: u32 = 1_000;
const FLOOR_WARM_UP: u32 = 100;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Target {
    /// Who answers. A peer's answers are not compared with a journal.
    pub kind: results::Target,
    /// Where the load goes.
    pub market: Market,
    /// What is measured of it while it runs.
    pub processes: Processes,
    /// Where its metrics are.
    pub operations: Option<SocketAddr>,
    /// Where the floor's file is made: on the disk that the target writes to.
    pub work: PathBuf,
}

/// Steps on one target.
pub struct Campaign<'a> {
    arguments: &'a LoadArguments,
    target: &'a Target,
    flow: Flow,
    random: Random,
    told: AllTold,
    /// What was not as promised, in words.
    faults: Vec<String>,
}

/// A generator that is later than this at p99, or busier, is part of what was measured.
const LATE_NS: u64 = 2_000_000;
const BUSY_CPUS: f64 = 0.9;
/// How many faults are kept.
const FAULTS_MAX: usize = 100;

impl<'a> Campaign<'a> {
    /// Begins with empty books.
    pub fn new(arguments: &'a LoadArguments, target: &'a Target) -> Self {
        let mut random = Random(arguments.seed);
        let flow = Flow::new(
            arguments.mix,
            random.any(),
            arguments.sessions,
            target.market.accounts(),
            target.market.names.symbols.len(),
            arguments.open_orders,
        );
        Self {
            arguments,
            target,
            flow,
            random,
            told: AllTold::default(),
            faults: Vec::new(),
        }
    }

    /// Runs a step at this rate, shows its line, and takes the floors behind it.
    ///
    /// # Errors
    /// If it can't be sent.
    pub fn step(&mut self, per_second: f64) -> Result<results::Step> {
        let plan = self.arguments.plan(per_second);
        let messages_per_second = per_second / plan.batch.unwrap_or(1) as f64;
        let duration = u64::try_from((plan.warm_up + plan.seconds).as_nanos())?;
        let times = schedule::times(plan.schedule, messages_per_second, duration, &mut self.random);
        let mut run = self.run(&plan, &times)?;
        run.step.floors = Some(self.floors(&run)?.without_curves());
        println!("{}", table::line(&run));
        self.note(&run);
        Ok(run.step)
    }

    /// Randomness that differs from that of the steps.
    pub fn new_random(&mut self) -> Random {
        Random(self.random.any())
    }

    /// Runs messages at these times, and remembers what was told.
    ///
    /// # Errors
    /// If it can't be sent.
    pub fn run(&mut self, plan: &Plan, times: &[u64]) -> Result<Run> {
        let before = self.stages()?;
        let Self {
            target, flow, random, ..
        } = self;
        let mut run = run_times(plan, times, flow, &target.market, &target.processes, random)?;
        run.step.stages = self.stages()?.since(&before);
        self.told.add(&self.target.market, &run.requests, &run.records);
        if self.target.kind == results::Target::Meridian {
            let market = &self.target.market;
            let told = &mut self.told;
            let differences = send_some_again(plan.protocol, market, &run.requests, &run.records, told)?;
            self.faults.extend(differences);
        }
        Ok(run)
    }

    fn stages(&self) -> Result<StageReading> {
        match self.target.operations {
            Some(address) => StageReading::parse(&get(address, "/metrics")?.1),
            None => Ok(StageReading::default()),
        }
    }

    /// The floors with messages as large as those of a run, on the machine as it is now: idle.
    fn floors(&self, run: &Run) -> Result<Floors> {
        let request_bytes = run.requests.bytes.len() / run.requests.len().max(1);
        let answer_bytes = run.records.answer_bytes / run.records.answers.max(1);
        let file = self.target.work.join("floor");
        let mut floor = Floor::new(&file, request_bytes, usize::try_from(answer_bytes)?, RECORD_BYTES)?;
        for sample in 0..FLOOR_WARM_UP + FLOOR_SAMPLES {
            floor.take(sample >= FLOOR_WARM_UP)?;
        }
        Ok(floor.floors())
    }

    /// Shows why requests were not executed, and keeps what should never be.
    pub fn note(&mut self, run: &Run) {
        let records = &run.records;
        if !records.codes.is_empty() {
            let codes = records.codes.iter().map(|(code, count)| format!("{code} {count}"));
            println!("          not executed: {}", codes.collect::<Vec<_>>().join(", "));
        }
        let late_ns = run.generator.lateness.value_at_quantile(0.99);
        if late_ns > LATE_NS || run.step.generator_cpus > BUSY_CPUS {
            println!(
                "          the generator itself was a bottleneck: late by {} us at p99, {:.0}% of a processor",
                late_ns / 1_000,
                run.step.generator_cpus * 100.0
            );
        }
        self.faults.extend(records.faults.iter().cloned());
        let more = records.faults_count.saturating_sub(records.faults.len() as u64);
        if more > 0 {
            self.faults.push(format!("and {more} more of this kind"));
        }
        self.faults.truncate(FAULTS_MAX);
    }

    /// Compares what was told with the journal of a node that has stopped.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn check_with_journal(&mut self, installation: &harness::Installation) -> Result<Check> {
        let mut oracle = Oracle::new(&self.told, &self.target.market.names);
        journal::show(installation, &mut oracle)?;
        let (check, differences) = oracle.finish();
        self.faults.extend(differences);
        Ok(check)
    }

    /// Looks acknowledged orders up, at most [`super::lookup::SAMPLE`] of them.
    ///
    /// # Errors
    /// If the target doesn't answer.
    pub fn check_by_looking_up(&mut self) -> Result<Check> {
        let (check, differences) = look_up(&self.target.market, &self.told)?;
        self.faults.extend(differences);
        Ok(check)
    }

    /// The orders whose placing was acknowledged, by account and id.
    pub fn acknowledged_orders(&self) -> Vec<(AccountId, String)> {
        let placed = (0..).zip(&self.told.requests);
        let placed = placed.filter(|(_, told)| told.places && matches!(told.fate, Fate::Executed(_)));
        let names = &self.target.market.names;
        placed
            .map(|(number, told)| (AccountId(told.account), names.request_id(number)))
            .collect()
    }

    /// What was not as promised.
    pub fn into_faults(self) -> Vec<String> {
        self.faults
    }
}
