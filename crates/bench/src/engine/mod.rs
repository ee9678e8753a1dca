//! The engine on one thread, without disk and network.

mod book;
mod exchange;
mod flow;
mod matcher;
mod report;

use anyhow::ensure;
use clap::Args;

/// What `meridian bench engine` takes.
#[derive(Debug, Args)]
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
    let books = book::measure_all(arguments)?;
    let exchanges = exchange::measure_all(arguments)?;
    let wanted = arguments.shape.as_deref().unwrap_or("");
    ensure!(books.len() + exchanges.len() > 0, "no shape's name contains {wanted:?}");
    if arguments.json {
        let rows: Vec<book::Row> = books.into_iter().chain(exchanges).collect();
        println!("{}", report::json(arguments, &rows));
        return Ok(());
    }
    if !books.is_empty() {
        print!("{}", report::table(arguments, report::BOOK_ONLY, &books));
    }
    if !exchanges.is_empty() {
        print!("{}", report::table(arguments, &exchange::about(arguments), &exchanges));
    }
    Ok(())
}
