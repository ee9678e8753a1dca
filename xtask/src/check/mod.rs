//! Every rule that a machine can check. Nothing here writes to the repository.

mod alerts;
mod edges;
mod licences;
mod links;
mod text;

use anyhow::{Result, bail};

use crate::run;
use crate::summary::{Outcome, Summary};

type Step = fn() -> Result<Outcome>;

/// The checks, cheap ones first.
const STEPS: &[(&str, Step)] = &[
    ("format", format),
    ("edges", edges::check),
    ("text", text::check),
    ("links", links::check),
    ("alerts", alerts::check),
    ("licences", licences::check),
    ("clippy", clippy),
    ("docs", docs),
];

/// Runs the checks of these names, or all; true if all passed.
pub fn run(names: &[String]) -> Result<bool> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|(step, _)| step != name)) {
        bail!("there is no check {unknown:?}");
    }
    let mut summary = Summary::default();
    for (name, step) in STEPS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            summary.step(name, step);
        }
    }
    let passed_all = summary.print();
    let (passed, failed) = summary.counts();
    println!("{passed} passed, {failed} failed, 0 skipped");
    Ok(passed_all)
}

fn format() -> Result<Outcome> {
    command(
        run::cargo().args(["fmt", "--all", "--check"]),
        "rustfmt has nothing to change",
    )
}

fn clippy() -> Result<Outcome> {
    command(
        run::cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]),
        "no warnings in any target",
    )
}

fn docs() -> Result<Outcome> {
    command(
        run::cargo()
            .args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
        "the reference builds, all its links resolve",
    )
}

fn command(command: &mut std::process::Command, what: &str) -> Result<Outcome> {
    Ok(if run::succeeds(command)? {
        Outcome::Passed(what.to_owned())
    } else {
        Outcome::Failed(vec![format!("{command:?} failed")])
    })
}
