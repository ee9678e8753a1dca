//! `meridian-bench`: how fast the parts are, each figure with what it is compared to in the same run.

mod answer;
mod clock;
mod engine;
mod random;

use clap::{Parser, Subcommand};

/// As in the program `meridian` itself.
#[global_allocator]
static ALLOCATOR: pages::HugePages = pages::HugePages;

/// Measures Meridian.
#[derive(Parser)]
#[command(name = "meridian-bench", version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What one answer costs at light load, against the floor.
    Answer(answer::AnswerArguments),
    /// How many commands a second the engine takes, on one thread.
    Engine(engine::EngineArguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().what {
        What::Answer(arguments) => answer::run(&arguments),
        What::Engine(arguments) => engine::run(&arguments),
    }
}
