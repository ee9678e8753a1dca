//! `meridian bench`: how fast the parts are and the whole is, each figure with what it is compared to in the same run.

mod all;
mod answer;
mod clock;
mod engine;
mod floor;
mod growth;
mod load;
pub mod peer;
mod pictures;
mod protocol;
mod random;
mod report;
pub mod results;

use clap::Subcommand;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Everything in one run, and performance.md with its pictures made of it.
    All(all::AllArguments),
    /// What one answer costs at light load, against the floor.
    Answer(answer::AnswerArguments),
    /// Latency at rising load, and the load that can be held.
    Load(load::LoadArguments),
    /// Ten times the sustainable load for a second, and how everything is normal again.
    Burst(load::BurstArguments),
    /// How many commands a second the engine takes, on one thread.
    Engine(engine::EngineArguments),
    /// What size costs: sessions, instruments, accounts, open orders, the journal.
    Growth(growth::GrowthArguments),
    /// Write performance.md and its pictures again from the results of a run, without measuring.
    Render(report::RenderArguments),
    /// The same load on the design that people have today: a service over Postgres.
    Peer(peer::PeerArguments),
    /// Serve the design that people have today, with a database of its own: for whoever measures it.
    #[command(hide = true)]
    PeerServe(peer::ServeArguments),
}

impl BenchCommand {
    /// Measures, and prints what came out.
    ///
    /// # Errors
    /// What kept it from measuring, and every answer that was not as promised.
    pub fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::All(arguments) => all::run(arguments),
            Self::Answer(arguments) => answer::run(arguments),
            Self::Load(arguments) => load::run(arguments),
            Self::Burst(arguments) => load::run_burst(arguments),
            Self::Engine(arguments) => engine::run(arguments),
            Self::Growth(arguments) => growth::run(arguments),
            Self::Render(arguments) => report::run(arguments),
            Self::Peer(arguments) => peer::run(arguments),
            Self::PeerServe(arguments) => peer::serve(arguments),
        }
    }
}

/// A command's arguments as they are if nothing is said.
fn default_arguments<T: clap::Args>() -> T {
    let command = T::augment_args(clap::Command::new("defaults"));
    let matches = command.get_matches_from(["defaults"]);
    T::from_arg_matches(&matches).expect("every argument has a default")
}
