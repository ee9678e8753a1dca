//! Books alone: matching, without accounts, money and request memory.

use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use engine::book::{Book, FastBook, PlainBook};

use super::EngineArguments;
use super::flow::{Flow, Shape};
use super::matcher::Matcher;
use crate::clock::{Taken, measure};

/// The books, and how they are given their commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The plain book.
    Plain,
    /// The fast book.
    Fast,
    /// The fast book, which is told of a few commands at a time, as the core's batches allow.
    FastBatched,
}

/// How many commands it is told of at a time.
const BATCH: usize = 16;

impl Which {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Fast => "fast",
            Self::FastBatched => "fast, batched",
        }
    }
}

/// What was measured of one book on one shape.
pub struct Row {
    /// The shape's name.
    pub shape: &'static str,
    /// Which book.
    pub book: Which,
    /// Commands in each round.
    pub commands: usize,
    /// Orders that rested when the measurement began.
    pub resting: usize,
    /// Each round.
    pub rounds: Vec<Taken>,
    /// What came of it; the same for every round and both books.
    pub checksum: u64,
}

impl Row {
    /// The median of the rounds, on the wall's clock.
    pub fn wall_median(&self) -> Duration {
        median(self.rounds.iter().map(|taken| taken.wall).collect())
    }

    /// The median of the rounds, in processor time.
    pub fn processor_median(&self) -> Duration {
        median(self.rounds.iter().map(|taken| taken.processor).collect())
    }

    /// The shortest round, on the wall's clock.
    pub fn wall_best(&self) -> Duration {
        self.rounds.iter().map(|taken| taken.wall).min().unwrap_or_default()
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Measures every shape that was asked for.
pub fn measure_all(arguments: &EngineArguments) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let wanted = arguments.shape.as_deref().unwrap_or("");
    for shape in Shape::ALL.into_iter().filter(|shape| shape.name().contains(wanted)) {
        rows.extend(measure_shape(arguments, shape)?);
    }
    Ok(rows)
}

fn measure_shape(arguments: &EngineArguments, shape: Shape) -> anyhow::Result<Vec<Row>> {
    let flow = shape.flow(arguments.seed, arguments.commands);
    let books = [Which::Plain, Which::Fast, Which::FastBatched];
    let books = books
        .into_iter()
        .filter(|book| arguments.book.is_none_or(|only| only == *book));
    let row = |book| Row {
        shape: shape.name(),
        book,
        commands: flow.measured.len(),
        resting: 0,
        rounds: Vec::new(),
        checksum: 0,
    };
    let mut rows: Vec<Row> = books.map(row).collect();
    for round in 0..arguments.rounds {
        for row in &mut rows {
            let (resting, taken, checksum) = match row.book {
                Which::Plain => run::<PlainBook>(&flow, 1),
                Which::Fast => run::<FastBook>(&flow, 1),
                Which::FastBatched => run::<FastBook>(&flow, BATCH),
            };
            ensure!(
                round == 0 || checksum == row.checksum,
                "two rounds of {} differ",
                row.shape
            );
            row.resting = resting;
            row.checksum = checksum;
            row.rounds.push(taken);
        }
    }
    let same = rows.iter().all(|row| row.checksum == rows[0].checksum);
    ensure!(same, "the books differ on {}", shape.name());
    Ok(rows)
}

/// One round. Making the book and taking the checksum of what rests is not measured.
fn run<B: Book>(flow: &Flow, together: usize) -> (usize, Taken, u64) {
    let mut matcher = Matcher::<B>::new(flow.slots);
    for command in &flow.setup {
        matcher.execute(command, |_| ());
    }
    let resting = matcher.book.len();
    let ((), taken) = measure(|| match together {
        1 => flow
            .measured
            .iter()
            .for_each(|command| matcher.execute(command, |_| ())),
        _ => flow
            .measured
            .chunks(together)
            .for_each(|commands| matcher.execute_together(commands)),
    });
    (resting, taken, matcher.checksum())
}
