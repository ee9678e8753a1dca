//! The engine on one thread, without disk and network.

mod book;
mod flow;
mod matcher;
mod report;

use clap::Args;

/// What `meridian-bench engine` takes.
#[derive(Args)]
pub struct EngineArguments {
    /// Commands measured per shape and round.
    #[arg(long, default_value_t = 1_000_000)]
    commands: u32,
    /// How often each measurement is repeated, both books in turn; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only the shapes whose names contain this.
    #[arg(long)]
    shape: Option<String>,
    /// Only this book.
    #[arg(long, value_enum)]
    book: Option<book::Which>,
    /// Seed of the flows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it and prints what came out.
pub fn run(arguments: &EngineArguments) -> anyhow::Result<()> {
    let rows = book::measure_all(arguments)?;
    if arguments.json {
        println!("{}", report::json(arguments, &rows));
    } else {
        print!("{}", report::table(arguments, &rows));
    }
    Ok(())
}
