//! What the command line says of a load.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use wire::json::KeyType;

use super::elsewhere::ElsewhereArguments;
use super::flow::Mix;
use super::step::Plan;
use crate::protocol::Protocol;
use crate::results::{self, Authentication, Schedule, SeriesDescription, Target};

/// Measures latency at rising load, until it can't be held.
#[derive(Clone, Debug, Args)]
pub struct LoadArguments {
    /// How requests reach the exchange.
    #[arg(long, value_enum, default_value_t = Protocol::WebSocket)]
    pub protocol: Protocol,
    /// What requests, or the logins of sessions, are signed with.
    #[arg(long = "auth", value_enum, default_value_t = AuthenticationName::Hmac)]
    pub authentication: AuthenticationName,
    /// Connections, each with a key of its own; up to 256 have an account of their own as well.
    #[arg(long, default_value_t = 64)]
    pub sessions: usize,
    /// Instruments that are traded.
    #[arg(long, default_value_t = 10)]
    pub instruments: usize,
    /// What is asked.
    #[arg(long, value_enum, default_value_t = Mix::Realistic)]
    pub mix: Mix,
    /// About how many orders rest, in the realistic mix.
    #[arg(long, default_value_t = 10_000)]
    pub open_orders: usize,
    /// When requests are due.
    #[arg(long, value_enum, default_value_t = ScheduleName::Poisson)]
    pub schedule: ScheduleName,
    /// How many requests come at once, with `--schedule microbursts`.
    #[arg(long, default_value_t = 100)]
    pub burst_size: u32,
    /// Send WebSocket messages that carry so many requests each.
    #[arg(long)]
    pub batch: Option<usize>,
    /// The rates to try, in requests a second, in this order; left out: rising until the knee is found.
    #[arg(long, value_delimiter = ',')]
    pub rates: Vec<f64>,
    /// Where to begin if no rates are given.
    #[arg(long, default_value_t = 2_000.0)]
    pub first_rate: f64,
    /// How long each rate is measured.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// How long each rate is sent before that.
    #[arg(long, default_value_t = 2.0)]
    pub warm_up: f64,
    /// How long the generator rests between two looks, in microseconds; left out: as suits the rate. Latency counts it.
    #[arg(long)]
    pub look_every_us: Option<u64>,
    /// What the randomness begins with: the same seed makes the same requests at the same times.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// An exchange that runs already.
    #[command(flatten)]
    pub elsewhere: ElsewhereArguments,
    /// Measure this build of the program instead of the one that runs.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// A file with more of the node's configuration: first keys of `[node]`, then further sections.
    #[arg(long)]
    pub settings: Option<PathBuf>,
    /// Write the figures to this file, as JSON.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// What requests are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthenticationName {
    /// HMAC-SHA256.
    Hmac,
    /// Ed25519.
    Ed25519,
}

/// When requests are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleName {
    /// At equal distances.
    Constant,
    /// Independent of each other.
    Poisson,
    /// Many at once, then none for a while.
    Microbursts,
}

/// How long answers are waited for after the last message was due.
const DRAIN: Duration = Duration::from_secs(10);
/// No step is longer.
const SECONDS_MAX: f64 = 600.0;
/// More sessions than a node takes connections.
const SESSIONS_MAX: usize = 4_000;
/// Requests in a batch.
const BATCH_MAX: usize = 100;

impl LoadArguments {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// What, and what would.
    pub fn check(&self) -> Result<()> {
        ensure!(
            (1..=SESSIONS_MAX).contains(&self.sessions),
            "--sessions takes 1 to {SESSIONS_MAX}"
        );
        ensure!((1..=1_000).contains(&self.instruments), "--instruments takes 1 to 1000");
        ensure!(self.burst_size > 0, "--burst-size takes 1 or more");
        let batch_fits = self.batch.is_none_or(|batch| (1..=BATCH_MAX).contains(&batch));
        ensure!(batch_fits, "--batch takes 1 to {BATCH_MAX}");
        for (name, value) in [("--seconds", self.seconds), ("--warm-up", self.warm_up)] {
            ensure!((0.0..=SECONDS_MAX).contains(&value), "{name} takes 0 to {SECONDS_MAX}");
        }
        ensure!(self.seconds > 0.0, "--seconds takes more than 0");
        for rate in self.rates.iter().chain([&self.first_rate]) {
            ensure!(
                (1.0..=10_000_000.0).contains(rate),
                "a rate is between 1 and 10,000,000 a second"
            );
        }
        Ok(())
    }

    /// A step at this rate.
    pub fn plan(&self, per_second: f64) -> Plan {
        Plan {
            protocol: self.protocol,
            schedule: self.schedule(),
            per_second,
            warm_up: Duration::from_secs_f64(self.warm_up),
            seconds: Duration::from_secs_f64(self.seconds),
            sessions: self.sessions,
            batch: self.batch,
            look_every: self.look_every_us.map(Duration::from_micros),
            client_queue: None,
            send_buffer: None,
            drain: DRAIN,
        }
    }

    fn schedule(&self) -> Schedule {
        match self.schedule {
            ScheduleName::Constant => Schedule::Constant,
            ScheduleName::Poisson => Schedule::Poisson,
            ScheduleName::Microbursts => Schedule::Microbursts {
                requests: self.burst_size,
            },
        }
    }

    /// The kind of the keys.
    pub fn key_types(&self) -> &'static [KeyType] {
        match self.authentication {
            AuthenticationName::Hmac => &[KeyType::HmacSha256],
            AuthenticationName::Ed25519 => &[KeyType::Ed25519],
        }
    }

    /// What is sent how, for the results.
    pub fn description(&self, target: Target) -> SeriesDescription {
        let protocol = match (self.protocol, self.batch) {
            (Protocol::WebSocket, None) => results::Protocol::WebSocket,
            (Protocol::WebSocket, Some(_)) => results::Protocol::WebSocketBatch,
            (Protocol::Rest, _) => results::Protocol::Rest,
        };
        let (authentication, signed) = match self.authentication {
            AuthenticationName::Hmac => (Authentication::Hmac, "HMAC"),
            AuthenticationName::Ed25519 => (Authentication::Ed25519, "Ed25519"),
        };
        let name = match (self.protocol, self.batch) {
            (Protocol::WebSocket, None) => format!("WebSocket, {} sessions", self.sessions),
            (Protocol::WebSocket, Some(items)) => format!("WebSocket, batches of {items}, {} sessions", self.sessions),
            (Protocol::Rest, None) => format!("REST, {signed}, {} connections", self.sessions),
            (Protocol::Rest, Some(items)) => {
                format!("REST, {signed}, batches of {items}, {} connections", self.sessions)
            }
        };
        SeriesDescription {
            name,
            target,
            protocol,
            authentication,
            sessions: u32::try_from(self.sessions).expect("sessions are few"),
            items_per_message: u32::try_from(self.batch.unwrap_or(1)).expect("batches are small"),
            mix: self.mix.to_string(),
            schedule: self.schedule(),
            command: self.command(),
        }
    }

    /// The command that measures this again.
    fn command(&self) -> String {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map_or(String::new(), |value| value.get_name().to_owned())
        };
        let mut command = format!(
            "meridian bench load --protocol {} --auth {} --sessions {} --mix {} --schedule {} --seconds {}",
            name(self.protocol.to_possible_value()),
            name(self.authentication.to_possible_value()),
            self.sessions,
            name(self.mix.to_possible_value()),
            name(self.schedule.to_possible_value()),
            self.seconds,
        );
        if let Some(batch) = self.batch {
            command += &format!(" --batch {batch}");
        }
        if !self.rates.is_empty() {
            let rates: Vec<String> = self.rates.iter().map(f64::to_string).collect();
            command += &format!(" --rates {}", rates.join(","));
        }
        command
    }
}
