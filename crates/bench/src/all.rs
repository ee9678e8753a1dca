//! `meridian bench all`: everything in one run, and the document that it becomes.
//!
//! ```text
//!  one in flight ─> peer ─> WebSocket ─> batches ─> REST, HMAC ─> REST, Ed25519 ─> burst ─> growth ─> performance.md
//! ```
//!
//! One part at a time, each on a node of its own, so that none pays for another.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::answer::{self, AnswerArguments};
use crate::growth::{self, GrowthArguments};
use crate::load::{self, AuthenticationName, BurstArguments, LoadArguments, epoch_ms};
use crate::peer::{self, PeerArguments};
use crate::protocol::Protocol;
use crate::report::{self, aims::REST_HMAC_RATE_MIN};
use crate::results::{self, Burst, Growth, Machine, RESULTS_VERSION, Results, Series};

/// Measures everything and writes performance.md.
#[derive(Clone, Debug, Args)]
pub struct AllArguments {
    /// The folder for `performance.md`, and `performance/` with pictures and results.
    #[arg(long)]
    pub out: PathBuf,
    /// In a form that takes a minute or two: it shows that everything works, and its figures mean little.
    #[arg(long)]
    pub short: bool,
    /// Without the service over Postgres, also where there is a Postgres.
    #[arg(long)]
    pub without_peer: bool,
    /// Without the studies of growth, which take as long as all the rest.
    #[arg(long)]
    pub without_growth: bool,
    /// Measure this build of the program instead of the one that runs.
    #[arg(long)]
    pub program: Option<PathBuf>,
}

/// How many sessions share the load: a few busy machines, and many.
const WEBSOCKET_SESSIONS: [usize; 2] = [16, 64];
/// Connections over REST: each carries one request at a time, so that with few of them requests wait for each other in the
/// client.
const REST_CONNECTIONS: usize = 256;
/// The rate that is aimed at over REST, beside those that the search comes upon: as often as the search tries one.
const REST_RATES: [f64; load::TRIES] = [REST_HMAC_RATE_MIN; load::TRIES];
/// Orders in a message of the series of batches.
const BATCH: usize = 20;
/// The rates and sessions of the short form.
const SHORT_SESSIONS: usize = 8;
const SHORT_RATES: [f64; 2] = [500.0, 1_000.0];
const SHORT_SECONDS: f64 = 1.0;
/// Where the series begin: below what each of them can hold.
const FIRST_RATE: f64 = 2_000.0;
const FIRST_RATE_OF_BATCHES: f64 = 20_000.0;
const FIRST_RATE_OF_PEER: f64 = 500.0;
/// How long each rate is measured.
const SECONDS: f64 = 5.0;

/// Measures, writes, and says where.
///
/// # Errors
/// What kept it from measuring or writing, and every answer that was not as promised.
pub fn run(arguments: &AllArguments) -> Result<()> {
    let results = measure(arguments)?;
    report::write(&results, &arguments.out)?;
    println!("\n{}", report::summary(&results, &arguments.out));
    Ok(())
}

fn measure(arguments: &AllArguments) -> Result<Results> {
    let begun = Instant::now();
    let taken_at = report::utc_minute(epoch_ms());
    let machine = in_work_folder(|work| Ok(Machine::of_this(work)))?;
    let answers = part("one order in flight", || {
        in_work_folder(|work| answer::measure(&arguments.answer(), work))
    })?;
    let mut series = Vec::new();
    let peer = match peer::programs() {
        _ if arguments.without_peer => None,
        Ok(_) => Some(part("the design that people have today", || arguments.peer())?),
        Err(missing) => {
            println!("\nThe design that people have today is left out: {missing}");
            None
        }
    };
    let peer_maximum = peer.as_ref().and_then(|peer| Some(peer.maximum()?.offered_per_second));
    for sessions in WEBSOCKET_SESSIONS {
        series.push(part(&format!("WebSocket, {sessions} sessions"), || {
            arguments.series(&LoadArguments {
                sessions: arguments.sessions(sessions),
                ..arguments.load(Protocol::WebSocket)
            })
        })?);
    }
    series.push(part("WebSocket, batches", || arguments.series(&arguments.batches()))?);
    series.push(part("REST, HMAC", || {
        let load = LoadArguments {
            sessions: arguments.sessions(REST_CONNECTIONS),
            ..arguments.load(Protocol::Rest)
        };
        let mut series = arguments.series(&load)?;
        if !arguments.short {
            let rates = peer_maximum.into_iter().chain(REST_RATES).collect();
            add_step(&mut series, arguments.series(&LoadArguments { rates, ..load })?);
        }
        Ok(series)
    })?);
    series.push(part("REST, Ed25519", || {
        arguments.series(&LoadArguments {
            authentication: AuthenticationName::Ed25519,
            ..arguments.load(Protocol::Rest)
        })
    })?);
    // What many sessions hold, since a burst comes from many.
    let sustainable = series[WEBSOCKET_SESSIONS.len() - 1].knee();
    let sustainable = sustainable.map(|step| step.offered_per_second);
    let bursts = match sustainable {
        Some(rate) => vec![part("a burst", || arguments.burst(rate))?],
        None => Vec::new(),
    };
    series.extend(peer);
    let growth = if arguments.without_growth {
        None
    } else {
        Some(part("growth", || arguments.growth())?)
    };
    Ok(Results {
        version: RESULTS_VERSION,
        taken_at,
        took_seconds: begun.elapsed().as_secs_f64(),
        short: arguments.short,
        machine,
        build: results::Build::of_this_program(),
        answers: Some(answers),
        series,
        bursts,
        growth,
    })
}

/// Says what comes, and where it failed if it did.
fn part<T>(name: &str, measure: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n== {name}");
    measure().with_context(|| format!("failed to measure {name}"))
}

fn in_work_folder<T>(measure: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let work = harness::work_folder("all")?;
    let result = measure(&work);
    harness::remove_work_folder(&work)?;
    result
}

/// The steps of another run of the same series, in the order of their rates.
fn add_step(series: &mut Series, other: Series) {
    series.steps.extend(other.steps);
    series
        .steps
        .sort_by(|a, b| a.offered_per_second.total_cmp(&b.offered_per_second));
    if let (Some(check), Some(more)) = (&mut series.check, other.check) {
        check.acknowledged += more.acknowledged;
        check.found += more.found;
        check.missing += more.missing;
        check.doubled += more.doubled;
    }
}

impl AllArguments {
    fn answer(&self) -> AnswerArguments {
        let mut answer: AnswerArguments = crate::default_arguments();
        answer.program.clone_from(&self.program);
        if self.short {
            answer.samples = 200;
            answer.warm_up = 50;
        }
        answer
    }

    fn load(&self, protocol: Protocol) -> LoadArguments {
        let load = LoadArguments {
            protocol,
            seconds: SECONDS,
            first_rate: FIRST_RATE,
            program: self.program.clone(),
            ..crate::default_arguments()
        };
        if !self.short {
            return load;
        }
        LoadArguments {
            sessions: SHORT_SESSIONS,
            instruments: 2,
            seconds: SHORT_SECONDS,
            warm_up: SHORT_SECONDS / 4.0,
            rates: SHORT_RATES.to_vec(),
            ..load
        }
    }

    fn sessions(&self, sessions: usize) -> usize {
        if self.short { SHORT_SESSIONS } else { sessions }
    }

    fn batches(&self) -> LoadArguments {
        LoadArguments {
            batch: Some(BATCH),
            first_rate: FIRST_RATE_OF_BATCHES,
            ..self.load(Protocol::WebSocket)
        }
    }

    fn series(&self, load: &LoadArguments) -> Result<Series> {
        load.check()?;
        in_work_folder(|work| load::measure(load, work))
    }

    fn peer(&self) -> Result<Series> {
        let mut peer: PeerArguments = crate::default_arguments();
        peer.load = LoadArguments {
            first_rate: FIRST_RATE_OF_PEER,
            ..self.load(Protocol::Rest)
        };
        in_work_folder(|work| peer::measure(&peer, work))
    }

    fn burst(&self, sustainable: f64) -> Result<Burst> {
        let mut burst: BurstArguments = crate::default_arguments();
        burst.load = self.load(Protocol::WebSocket);
        burst.sustainable = Some(sustainable);
        in_work_folder(|work| load::measure_burst(&burst, work))
    }

    fn growth(&self) -> Result<Growth> {
        let mut growth: GrowthArguments = crate::default_arguments();
        growth.program.clone_from(&self.program);
        if self.short {
            growth.scale = 0.002;
            growth.rate = 500.0;
            growth.seconds = SHORT_SECONDS / 2.0;
        }
        growth::measure(&growth)
    }
}
