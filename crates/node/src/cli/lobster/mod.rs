//! `meridian replay lobster`: a real order-by-order record through the public API, compared with what the record shows.
//!
//! ```text
//!  record ─> queues ─> requests ─> driver ══ WebSocket ══> node
//!     │                               │ sent rows            │ replies, book, the maker's fills
//!     └─> aggregation ─> plain top ──>└─────────> check <────┘
//! ```

mod aggregation;
mod check;
mod drive;
mod queues;
mod record;
mod venue;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::connection::ConnectionArguments;
use super::exit::Difference;
use super::table::Table;
use check::{Check, Counts, SentRow};
use drive::Driver;
use queues::Queues;
use record::Record;
use venue::Venue;

/// Rows that may be ahead of the comparison.
const ROWS_AHEAD_MAX: usize = 400;

const HELP: &str = "\
The record is sent order by order, as an operator's own new instrument with two accounts (one owns all that rests, one
executes), through the public WebSocket API. After each message the top of the node's book is compared with the record's
and with that of a plain aggregation (sums of sizes by price) of the same messages. The command fails if the node differs
from the plain aggregation on any row, fills another quantity than the record or refuses a request. How many executions
hit the very order that the record names is counted.

It needs an operator's key: that of a demo (--demo FOLDER), or --key and --secret.";

/// Arguments of `replay lobster`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct LobsterArguments {
    /// The messages: time, type, order id, size, price, direction.
    #[arg(long, value_name = "FILE")]
    messages: PathBuf,
    /// The top of the book after each message: ask, size, bid, size.
    #[arg(long, value_name = "FILE")]
    orderbook: PathBuf,
    /// One row: the levels of the book after the first message.
    #[arg(long, value_name = "FILE")]
    initial_book: PathBuf,
    /// How many levels a side to take from the initial book.
    #[arg(long, default_value_t = 50)]
    levels: usize,
    /// Times as fast as it happened; left out: as fast as it goes.
    #[arg(long)]
    speed: Option<u32>,
    /// Only the first rows.
    #[arg(long)]
    rows: Option<usize>,
}

/// What a replay found.
#[derive(Debug, Serialize)]
struct Report {
    agrees: bool,
    #[serde(flatten)]
    counts: Counts,
    elapsed_ms: u128,
    differences: Vec<String>,
    other_orders: Vec<String>,
}

/// Runs the command.
pub async fn run(connection: &ConnectionArguments, arguments: &LobsterArguments) -> Result<()> {
    let mut record = Record::read(
        &arguments.messages,
        &arguments.orderbook,
        &arguments.initial_book,
        arguments.levels,
    )?;
    let (queues, initial) = Queues::new(&record);
    if let Some(rows) = arguments.rows {
        record.messages.truncate(rows.max(1));
    }
    let mut venue = Venue::open(connection)
        .await
        .context("prepare an instrument for the replay")?;
    let (book_events, maker_events) = (
        std::mem::replace(&mut venue.book_events, mpsc::channel(1).1),
        std::mem::replace(&mut venue.maker_events, mpsc::channel(1).1),
    );
    let mut check = Check::new(venue.book.clone(), book_events, maker_events);
    let (settled_sender, settled) = watch::channel(0);
    let sessions = (venue.maker.clone(), venue.taker.clone());
    let mut driver = Driver::new(venue.symbol.clone(), sessions, venue.requests_per_second, settled);
    let replies = driver.send_all(initial.into_iter()).await?;
    check.settle(replies, 0, None).await.context("place the initial book")?;
    settled_sender.send_replace(check.counts.requests);
    let started_at = Instant::now();
    let (rows_sender, rows) = mpsc::channel(ROWS_AHEAD_MAX);
    let progress = progress_bar(record.messages.len(), connection.json);
    let driving = driver.rows(&record, queues, arguments.speed, rows_sender);
    let comparing = compare(&mut check, rows, &settled_sender, &progress);
    // What stopped the comparison says more than that the driver could not hand a row over.
    let (driven, compared) = tokio::join!(driving, comparing);
    compared.and(driven)?;
    progress.finish_and_clear();
    let elapsed = started_at.elapsed();
    let closing = venue.close().await;
    closing.context("close the replay's instrument")?;
    report(connection, check, elapsed)
}

async fn compare(
    check: &mut Check,
    mut rows: mpsc::Receiver<SentRow>,
    settled: &watch::Sender<usize>,
    progress: &ProgressBar,
) -> Result<()> {
    while let Some(row) = rows.recv().await {
        check.row(row).await?;
        settled.send_replace(check.counts.requests);
        progress.inc(1);
    }
    Ok(())
}

fn progress_bar(rows: usize, hidden: bool) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {pos}/{len} rows  {rate} a second  {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let rate = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        // A bar that can't be drawn stops nothing.
        let _ = write!(text, "{:.0}", state.per_sec());
    };
    ProgressBar::new(rows as u64).with_style(style.with_key("rate", rate))
}

fn report(connection: &ConnectionArguments, check: Check, elapsed: Duration) -> Result<()> {
    let report = Report {
        agrees: check.counts.agree(),
        counts: check.counts,
        elapsed_ms: elapsed.as_millis(),
        differences: check.differences,
        other_orders: check.other_orders,
    };
    connection.print(&report, report_text)?;
    if report.agrees { Ok(()) } else { Err(Difference.into()) }
}

fn report_text(report: &Report) -> String {
    let counts = &report.counts;
    let differing = match (counts.record_differs_first, counts.record_differs_last) {
        (Some(first), Some(last)) => format!("rows {first} to {last}"),
        _ => "none".to_owned(),
    };
    let rows_per_second = counts.rows as u128 * 1_000 / report.elapsed_ms.max(1);
    let mut table = Table::new(&["REPLAY", "#"]);
    for (name, value) in [
        ("rows", counts.rows),
        ("top of the book: node = record", counts.node_equals_record),
        (
            "top of the book: plain aggregation = record",
            counts.plain_equals_record,
        ),
        ("top of the book: node = plain aggregation", counts.node_equals_plain),
        ("executions of visible orders", counts.executions),
        (
            "... that hit the very order that the record names",
            counts.hit_named_order,
        ),
        (
            "... that hit the order which stands for unnamed ones",
            counts.hit_unnamed_order,
        ),
        ("... that hit another order", counts.hit_other_order),
        (
            "... that were filled otherwise than in the record",
            counts.filled_otherwise,
        ),
        ("requests", counts.requests),
        ("requests refused", counts.refused),
    ] {
        table.row([name.to_owned(), value.to_string()]);
    }
    let mut text = table.to_string();
    text.push_str(&format!("\nNode and record differ on: {differing}.\n"));
    text.push_str(&format!("{} ms, {rows_per_second} rows a second.\n", report.elapsed_ms));
    for (title, lines) in [
        ("Differences", &report.differences),
        ("Executions that hit another order", &report.other_orders),
    ] {
        if !lines.is_empty() {
            text.push_str(&format!("{title}:\n  {}\n", lines.join("\n  ")));
        }
    }
    text.push_str(if report.agrees {
        "The node agrees.\n"
    } else {
        "The node does NOT agree.\n"
    });
    text
}
