//! The rows as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::EngineArguments;
use super::book::{Row, Which};

fn per_second(row: &Row, taken: Duration) -> f64 {
    row.commands as f64 / taken.as_secs_f64()
}

fn ns_each(row: &Row, taken: Duration) -> f64 {
    taken.as_nanos() as f64 / row.commands as f64
}

/// How many times faster than the plain book on the same shape.
fn ratio(row: &Row, rows: &[Row]) -> Option<f64> {
    let plain = rows
        .iter()
        .find(|other| other.shape == row.shape && other.book == Which::Plain)?;
    Some(plain.wall_median().as_secs_f64() / row.wall_median().as_secs_f64())
}

/// What the table of the books' rows is about.
pub const BOOK_ONLY: &str = "\
Book only, one thread.
\"batched\": 16 commands are known ahead, and their memory is asked for when the book is larger than the caches.
";

/// For people.
pub fn table(arguments: &EngineArguments, about: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "{about}{} commands a shape, median of {} rounds; seed {}. A command is a command, however many fills it causes.\n\
         The checksums of both books are equal.\n\n\
         {:<19} {:<14} {:>9} {:>12} {:>9} {:>9} {:>12} {:>7}\n",
        arguments.commands,
        arguments.rounds,
        arguments.seed,
        "shape",
        "book",
        "resting",
        "commands/s",
        "ns each",
        "cpu ns",
        "best round/s",
        "ratio",
    );
    for row in rows {
        let ratio = ratio(row, rows).map_or(String::from("-"), |ratio| format!("{ratio:.1}x"));
        writeln!(
            text,
            "{:<19} {:<14} {:>9} {:>12.0} {:>9.1} {:>9.1} {:>12.0} {:>7}",
            row.shape,
            row.book.name(),
            row.resting,
            per_second(row, row.wall_median()),
            ns_each(row, row.wall_median()),
            ns_each(row, row.processor_median()),
            per_second(row, row.wall_best()),
            ratio,
        )
        .expect("a string takes any text");
    }
    text
}

/// For programs.
pub fn json(arguments: &EngineArguments, rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        let rounds: Vec<Value> = row
            .rounds
            .iter()
            .map(|taken| json!({"wall_ns": taken.wall.as_nanos() as u64, "processor_ns": taken.processor.as_nanos() as u64}))
            .collect();
        json!({
            "shape": row.shape,
            "book": row.book.name(),
            "commands": row.commands,
            "resting": row.resting,
            "commands_per_second": per_second(row, row.wall_median()),
            "ns_per_command": ns_each(row, row.wall_median()),
            "processor_ns_per_command": ns_each(row, row.processor_median()),
            "ratio_to_plain": ratio(row, rows),
            "rounds": rounds,
            "checksum": format!("{:016x}", row.checksum),
        })
    });
    json!({"measured": "engine", "seed": arguments.seed, "rows": rows.collect::<Vec<_>>()})
}
