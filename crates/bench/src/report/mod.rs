//! The document that a run becomes: `performance.md`, its pictures, and the aims that the figures are held against.
//!
//! ```text
//!  results.json ──┐
//!                 ├──> performance.md, performance/*.svg
//!  notes.md ──────┘    (prose that people write: why a figure is what it is)
//! ```
//!
//! No figure is typed by hand, and the same results give the same bytes.

pub mod aims;
mod document;
mod figures;
mod format;
mod notes;
mod tables;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use types::Timestamp;

use crate::results::Results;
use notes::Notes;

/// The folder beside `performance.md` that holds the rest.
const FOLDER: &str = "performance";
/// What was measured, in that folder.
const RESULTS_FILE: &str = "results.json";
/// What people write, in that folder. It is read and never written.
const NOTES_FILE: &str = "notes.md";

/// Writes the document again from what a run has measured.
#[derive(Debug, Args)]
pub struct RenderArguments {
    /// The results of a run.
    #[arg(long)]
    results: PathBuf,
    /// The folder for `performance.md` and `performance/`.
    #[arg(long)]
    out: PathBuf,
}

/// Renders without measuring.
///
/// # Errors
/// As [`Results::read`] and [`write`].
pub fn run(arguments: &RenderArguments) -> Result<()> {
    write(&Results::read(&arguments.results)?, &arguments.out)
}

/// The aims and their verdicts, for a terminal, and where everything is.
pub fn summary(results: &Results, out: &Path) -> String {
    let mut text = String::new();
    for aim in aims::aims_of(results) {
        text.push_str(&format!(
            "{:<62}  {}\n    aim: {}; measured: {}\n",
            aim.name, aim.verdict, aim.wanted, aim.measured
        ));
    }
    text.push_str(&format!(
        "\nWritten: {} and {}\n",
        out.join(format!("{FOLDER}.md")).display(),
        out.join(FOLDER).display()
    ));
    text
}

/// A time in milliseconds since 1970 as `2026-01-31 12:34`, UTC.
pub fn utc_minute(epoch_ms: u64) -> String {
    let minutes = epoch_ms / 60_000;
    let (year, month, day) = Timestamp(epoch_ms.saturating_mul(Timestamp::SECOND / 1_000)).date();
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}",
        minutes / 60 % 24,
        minutes % 60
    )
}

/// Writes the document, its pictures and the results into a folder.
///
/// # Errors
/// What the disk says, and notes under a heading that the document has not.
pub fn write(results: &Results, out: &Path) -> Result<()> {
    let folder = out.join(FOLDER);
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let notes = Notes::read(&folder.join(NOTES_FILE))?;
    results.write(&folder.join(RESULTS_FILE))?;
    let figures = figures::of(results);
    for figure in &figures {
        let path = folder.join(&figure.file);
        std::fs::write(&path, figure.sheet.render()).with_context(|| format!("failed to write {}", path.display()))?;
    }
    let path = out.join(format!("{FOLDER}.md"));
    std::fs::write(&path, document::render(results, &notes, &figures))
        .with_context(|| format!("failed to write {}", path.display()))
}
