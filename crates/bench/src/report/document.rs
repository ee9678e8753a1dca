//! `performance.md`: which sections it has, and what stands in each.

use super::aims::aims_of;
use super::figures::Figure;
use super::notes::Notes;
use super::{FOLDER, NOTES_FILE, RESULTS_FILE, format, tables};
use crate::peer;
use crate::results::{Results, Target};

/// A section of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What was to be shown.
    Aims,
    /// Where it ran.
    Machine,
    /// What is measured, and how.
    Method,
    /// One order in flight.
    Answers,
    /// Rising load.
    Load,
    /// What the same load meets elsewhere.
    Peer,
    /// Ten times too much for a second.
    Burst,
    /// Where the time goes.
    Stages,
    /// What size costs.
    Growth,
}

impl Section {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Aims,
        Self::Machine,
        Self::Method,
        Self::Answers,
        Self::Load,
        Self::Peer,
        Self::Burst,
        Self::Stages,
        Self::Growth,
    ];

    /// Its heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Aims => "Aims",
            Self::Machine => "Machine and build",
            Self::Method => "Method",
            Self::Answers => "One order in flight",
            Self::Load => "Rising load",
            Self::Peer => "The design that people have today",
            Self::Burst => "A burst",
            Self::Stages => "Where the time goes",
            Self::Growth => "Growth",
        }
    }

    fn body(self, results: &Results) -> String {
        match self {
            Self::Aims => tables::aims(&aims_of(results)),
            Self::Machine => tables::machine(results),
            Self::Method => METHOD.to_owned(),
            Self::Answers => results.answers.as_ref().map(tables::answers).unwrap_or_default(),
            Self::Load => tables::all_series(results, Target::Meridian),
            Self::Peer => {
                let tables = tables::all_series(results, Target::Peer);
                let tuning = if tables.is_empty() { "" } else { peer::TUNING.trim() };
                format!("{tuning}\n\n{tables}").trim().to_owned()
            }
            Self::Burst => results.bursts.iter().map(tables::burst).collect::<Vec<_>>().join("\n"),
            Self::Stages => tables::stages(results),
            Self::Growth => results.growth.as_ref().map(tables::growth).unwrap_or_default(),
        }
    }
}

const METHOD: &str = "\
Everything runs on one machine: the node, started as a user starts it, on a data folder of its own; the load generator
beside it, which takes its share of the same processors; and what it is compared with, in the same run, so that a noisy
neighbour hits all of them alike. Clients speak the public API over loopback. There is no back door.

- **Open loop.** A schedule says when each request is due, whatever became of those before. Latency counts from that time,
  not from when the request was sent, so a node that stalls is charged for every request that had to wait meanwhile.
  Requests are encoded and signed before a step begins. How far the generator was behind its own schedule is in the tables.
- **Durable.** An order is answered after `fdatasync` of the journal. Rates count answered requests: those executed, and those
  that a rule of the exchange turned down after they were journaled, such as a cancel of an order that was just filled.
- **Knee.** The highest rate at which p99 stayed below 5 ms, nothing was refused and nothing went without an answer.
- **Floor.** A loopback round trip of as many bytes as an order and its answer, and one `fdatasync` of as many bytes as the
  journal writes for it, in the same folder, one after the other. No durable answer can be quicker on the machine.
- **Check.** After a series, every order that was acknowledged is looked for in what the node then tells: it must be there,
  once, as it was answered.
- **Percentiles** come from HDR histograms of three significant digits, over all samples of a step, not averages of parts.
";

/// The document's text.
pub fn render(results: &Results, notes: &Notes, figures: &[Figure]) -> String {
    let mut text = format!(
        "# Performance\n\nMeasured {} UTC in {}{}. This page, its pictures and [results.json]({FOLDER}/{RESULTS_FILE}) \
         are written by one command, from a run\non the machine below; only the prose under \"Why\" is written by \
         people, in `{FOLDER}/{NOTES_FILE}`.\n\n```sh\n{}```\n\n",
        results.taken_at,
        format::minutes(results.took_seconds),
        if results.short {
            ", in the short form: it shows that everything works, and its figures mean little"
        } else {
            ""
        },
        commands(results)
    );
    for section in Section::ALL {
        let (body, prose) = (section.body(results), notes.of(section));
        let pictures: Vec<&Figure> = figures.iter().filter(|figure| figure.section == section).collect();
        if body.is_empty() && pictures.is_empty() && prose.is_empty() {
            continue;
        }
        text.push_str(&format!("## {}\n\n", section.heading()));
        for part in [body.trim_end()].into_iter().filter(|part| !part.is_empty()) {
            text.push_str(&format!("{part}\n\n"));
        }
        for figure in pictures {
            text.push_str(&format!("![{}]({FOLDER}/{})\n\n", figure.sheet.title, figure.file));
        }
        if !prose.is_empty() {
            text.push_str(&format!("**Why.** {prose}\n\n"));
        }
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The commands that measure it all again, and each part alone.
fn commands(results: &Results) -> String {
    let lines: Vec<(String, &str)> = vec![
        (
            "cargo xtask performance".to_owned(),
            "builds, measures everything, writes this page",
        ),
        ("cargo xtask performance --short".to_owned(), "the same in a short form"),
        (
            format!("meridian bench render --results docs/{FOLDER}/{RESULTS_FILE} --out docs"),
            "writes this page again from the results",
        ),
    ];
    let mut parts: Vec<&str> = Vec::new();
    parts.extend(results.answers.iter().map(|answers| answers.command.as_str()));
    parts.extend(results.series.iter().map(|series| series.description.command.as_str()));
    parts.extend(results.bursts.iter().map(|burst| burst.description.command.as_str()));
    parts.extend(results.growth.iter().map(|growth| growth.command.as_str()));
    let mut seen: Vec<&str> = Vec::new();
    let mut alone = String::from("# each part alone:\n");
    for part in parts {
        if !part.is_empty() && !seen.contains(&part) {
            seen.push(part);
            alone.push_str(&format!("{part}\n"));
        }
    }
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let whole: String = lines
        .iter()
        .map(|(command, what)| format!("{command:<width$}  # {what}\n"))
        .collect();
    whole + &alone
}
