//! `meridian bench growth`: what size costs. Memory, latency at a fixed rate, and the time of a start, by the number of
//! sessions, instruments, accounts and open orders, and by the size of the journal.
//!
//! Everything that there is many of is made through the public API, as customers and operators would make it: only many
//! requests at once. Each study has a node of its own.
//!
//! ```text
//!  fill: accounts, deposits ── admin REST, pipelined ──┐
//!        orders ────────────── WebSocket batches ──────┼──> node ──> load at a fixed rate, memory, restart
//! ```

mod fill;
mod fleet;
mod restart;
mod subject;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::load::{Campaign, LoadArguments, connect_one, new_run};
use crate::protocol::Protocol;
use crate::results::{Growth, GrowthCurve, GrowthPoint};
use fill::RestingOrders;
use subject::{Made, Subject};

/// Measures what size costs.
#[derive(Clone, Debug, Args)]
pub struct GrowthArguments {
    /// Every size by so much, such as 0.01 for a quick look.
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// The rate at which latency is measured, in orders a second.
    #[arg(long, default_value_t = 5_000.0)]
    pub rate: f64,
    /// How long latency is measured at each size.
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// What to study; left out: everything.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Study>,
    /// Measure this build of the program instead of the one that runs.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// Write the figures to this file, as JSON.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// What can be many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Study {
    /// Sessions that send at the same time.
    Sessions,
    /// Instruments that are traded.
    Instruments,
    /// Accounts, and then open orders on the same exchange, and starts from a snapshot of all that.
    Orders,
    /// Commands in the journal that a start must apply again.
    Recovery,
}

/// When a node makes snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Snapshots {
    /// Not during a study.
    Never,
    /// As soon as the journal has a closed segment.
    Soon,
}

/// Below this scale all commands fit into the journal's first segment, of which no snapshot is made while it is written.
const SNAPSHOT_SCALE_MIN: f64 = 0.2;
/// The sizes of a full study.
const SESSIONS: [u64; 5] = [1, 10, 100, 500, 2_000];
const INSTRUMENTS: [u64; 4] = [1, 10, 100, 1_000];
const ACCOUNTS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const OPEN_ORDERS: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 5_000_000];
const COMMANDS: [u64; 4] = [250_000, 500_000, 1_000_000, 2_000_000];

/// Sessions of a load where it is not their number that is studied.
const SESSIONS_USUAL: usize = 64;
/// Instruments of the study of sessions: each of many traders is given money of each of their assets.
const INSTRUMENTS_OF_SESSIONS: usize = 4;
/// Instruments of the studies of accounts, orders and journals.
const INSTRUMENTS_USUAL: usize = 50;
/// How many orders the load itself keeps open.
const LOAD_OPEN_ORDERS: usize = 2_000;
/// How long the load runs at each size before it counts.
const WARM_UP_SECONDS: f64 = 2.0;

/// Measures, prints what came out.
///
/// # Errors
/// What kept it from measuring.
pub fn run(arguments: &GrowthArguments) -> Result<()> {
    ensure!(
        arguments.scale > 0.0 && arguments.scale <= 1.0,
        "--scale takes more than 0 and up to 1"
    );
    ensure!(
        (1.0..=1_000_000.0).contains(&arguments.rate) && (0.1..=600.0).contains(&arguments.seconds),
        "--rate takes 1 to 1,000,000 and --seconds 0.1 to 600"
    );
    let growth = measure(arguments)?;
    if let Some(path) = &arguments.out {
        std::fs::write(path, serde_json::to_string_pretty(&growth)?)?;
    }
    Ok(())
}

/// All studies that were asked for.
///
/// # Errors
/// What kept it from measuring.
pub fn measure(arguments: &GrowthArguments) -> Result<Growth> {
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?,
    };
    let mut growth = Growth {
        command: arguments.command(),
        ..Growth::default()
    };
    let asked = |study| arguments.only.is_empty() || arguments.only.contains(&study);
    if asked(Study::Sessions) {
        growth
            .curves
            .push(in_work_folder(|work| arguments.sessions(&program, work))?);
    }
    if asked(Study::Instruments) {
        growth
            .curves
            .push(in_work_folder(|work| arguments.instruments(&program, work))?);
    }
    if asked(Study::Orders) {
        in_work_folder(|work| arguments.orders(&program, work, &mut growth))?;
    }
    if asked(Study::Recovery) {
        in_work_folder(|work| {
            let counts = arguments.scaled(&COMMANDS);
            growth.recoveries = restart::recoveries(&program, work, &arguments.settings(Snapshots::Never), &counts)?;
            Ok(())
        })?;
    }
    Ok(growth)
}

/// A folder for one study, which is gone after it: the next one has the disk for itself.
fn in_work_folder<T>(study: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let work = harness::work_folder("growth")?;
    let result = study(&work);
    harness::remove_work_folder(&work)?;
    result
}

impl GrowthArguments {
    fn command(&self) -> String {
        let mut command = "meridian bench growth".to_owned();
        if self.scale < 1.0 {
            command += &format!(" --scale {}", self.scale);
        }
        command
    }

    /// Sizes by the scale, each once.
    fn scaled(&self, sizes: &[u64]) -> Vec<u64> {
        let scaled = sizes
            .iter()
            .map(|size| ((*size as f64 * self.scale).round() as u64).max(1));
        let mut scaled: Vec<u64> = scaled.collect();
        scaled.dedup();
        scaled
    }

    /// Settings of a node that keeps to its own ideas but for snapshots: one holds a second state while it is made, so
    /// the studies of memory are without. Segments are small, so that a few commands close one.
    fn settings(&self, snapshots: Snapshots) -> String {
        let journal_size = match snapshots {
            Snapshots::Never => "1024 GiB",
            Snapshots::Soon => "1 MiB",
        };
        format!("[snapshots]\njournal_size = \"{journal_size}\"\n[journal]\nsegment_size = \"4 MiB\"\n")
    }

    /// How the load is sent by so many sessions.
    fn load(&self, sessions: usize) -> LoadArguments {
        LoadArguments {
            sessions,
            open_orders: LOAD_OPEN_ORDERS,
            seconds: self.seconds,
            warm_up: WARM_UP_SECONDS.min(self.seconds),
            ..crate::default_arguments()
        }
    }

    /// Load at the fixed rate on a subject as it is now.
    fn latency(&self, campaign: &mut Campaign<'_>, made: Made) -> Result<GrowthPoint> {
        let step = campaign.step(self.rate)?;
        Ok(GrowthPoint {
            count: made.count,
            made: made.made,
            made_in_seconds: made.seconds,
            rss_bytes: made.rss_bytes,
            grown_bytes: made.grown_bytes,
            node_cpu_us_per_request: step.node_cpu_us_per_request,
            latency: step.latency,
            floors: step.floors,
        })
    }

    fn curve(&self, of: &str) -> GrowthCurve {
        GrowthCurve {
            of: of.to_owned(),
            offered_per_second: self.rate,
            points: Vec::new(),
        }
    }

    /// Memory is that of sessions that are logged in and idle; latency that of a load which all of them send together.
    fn sessions(&self, program: &Path, work: &Path) -> Result<GrowthCurve> {
        let counts = self.scaled(&SESSIONS);
        let most = counts.last().copied().unwrap_or(1) as usize;
        let subject = Subject::start(program, work, "", most, INSTRUMENTS_OF_SESSIONS)?;
        let mut idle = Vec::new();
        let mut all_made = Vec::new();
        for count in counts {
            all_made.push(subject.grow(count, count - idle.len() as u64, |subject| {
                for session in idle.len()..count as usize {
                    idle.push(connect_one(Protocol::WebSocket, &subject.market, session)?);
                }
                Ok(())
            })?);
        }
        drop(idle);
        let mut curve = self.curve("sessions");
        for made in all_made {
            let load = self.load(made.count as usize);
            self.latency_anew(&subject, work, &load, made, &mut curve)?;
        }
        subject.stop()?;
        Ok(curve)
    }

    /// Measures with a load that begins anew, under other names, and leaves the books empty.
    fn latency_anew(
        &self,
        subject: &Subject,
        work: &Path,
        load: &LoadArguments,
        made: Made,
        curve: &mut GrowthCurve,
    ) -> Result<()> {
        let mut target = subject.target(work);
        target.market.names.run = new_run();
        let mut campaign = Campaign::new(load, &target);
        add(curve, self.latency(&mut campaign, made)?);
        finish(campaign)?;
        subject.cancel_everything()
    }

    fn instruments(&self, program: &Path, work: &Path) -> Result<GrowthCurve> {
        let mut subject = Subject::start(program, work, "", SESSIONS_USUAL, 1)?;
        let load = self.load(SESSIONS_USUAL);
        let mut curve = self.curve("instruments");
        for count in self.scaled(&INSTRUMENTS) {
            let made = subject.grow_instruments(count)?;
            self.latency_anew(&subject, work, &load, made, &mut curve)?;
        }
        subject.stop()?;
        Ok(curve)
    }

    /// Accounts first, then orders, on the same exchange, and at last its starts.
    fn orders(&self, program: &Path, work: &Path, growth: &mut Growth) -> Result<()> {
        let settings = self.settings(Snapshots::Never);
        let mut subject = Subject::start(program, work, &settings, SESSIONS_USUAL, INSTRUMENTS_USUAL)?;
        let target = subject.target(work);
        let load = self.load(SESSIONS_USUAL);
        let mut campaign = Campaign::new(&load, &target);
        let mut accounts = self.curve("accounts");
        for count in self.scaled(&ACCOUNTS) {
            let made = subject.grow_accounts(count)?;
            add(&mut accounts, self.latency(&mut campaign, made)?);
        }
        let mut orders = self.curve("open orders");
        let mut resting = RestingOrders::new(INSTRUMENTS_USUAL);
        for count in self.scaled(&OPEN_ORDERS) {
            let made = subject.grow_orders(&mut resting, count)?;
            let mut point = self.latency(&mut campaign, made)?;
            point.count = subject.open_orders()?;
            add(&mut orders, point);
        }
        finish(campaign)?;
        growth.curves.push(accounts);
        growth.curves.push(orders);
        if self.scale < SNAPSHOT_SCALE_MIN {
            return subject.stop();
        }
        growth.snapshot_start = Some(restart::from_snapshot(subject, &self.settings(Snapshots::Soon))?);
        Ok(())
    }
}

/// Ends a load; what was not as promised is an error.
fn finish(campaign: Campaign<'_>) -> Result<()> {
    let faults = campaign.into_faults();
    ensure!(
        faults.is_empty(),
        "the exchange did not keep what it promises: {}",
        faults.join("; ")
    );
    Ok(())
}

fn add(curve: &mut GrowthCurve, point: GrowthPoint) {
    println!(
        "{:>10} {:<12} {:>9.1} MiB   p50 {:>8.1} µs   p99 {:>9.1} µs   node {:>6.1} µs a request   made in {:.1} s",
        point.count,
        curve.of,
        point.rss_bytes as f64 / f64::from(1 << 20),
        point.latency.p50_ns as f64 / 1e3,
        point.latency.p99_ns as f64 / 1e3,
        point.node_cpu_us_per_request,
        point.made_in_seconds
    );
    curve.points.push(point);
}
