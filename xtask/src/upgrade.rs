//! Runs a rolling upgrade from an older build to the present one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{faults, run};

/// Where older sources and their builds are kept.
const FOLDER: &str = "target/upgrade";

/// `upgrade --from COMMIT|PROGRAM …`; what follows is handed on.
pub fn run(arguments: &[String]) -> Result<bool> {
    let [option, from, rest @ ..] = arguments else {
        bail!("say from what: --from and a commit, or the path of a program");
    };
    if option != "--from" {
        bail!("--from comes first, with a commit or the path of a program");
    }
    let older = if Path::new(from).is_file() {
        PathBuf::from(from)
    } else {
        build(from)?
    };
    let older = older.canonicalize().context("failed to find the older program")?;
    faults::build_and_run(
        "upgrade",
        &[&["--from".to_owned(), older.display().to_string()], rest].concat(),
    )
}

/// Builds the program of a commit, in a worktree that is there for so long.
fn build(commit: &str) -> Result<PathBuf> {
    let source = Path::new(FOLDER).join("source");
    let target = std::env::current_dir()?.join(FOLDER).join("build");
    let source_text = source.display().to_string();
    if source.exists() {
        remove(&source_text)?;
    }
    std::fs::create_dir_all(FOLDER).with_context(|| format!("failed to make {FOLDER}"))?;
    run::output(Command::new("git").args(["worktree", "add", "--detach", &source_text, commit]))?;
    let built = run::succeeds(
        run::cargo()
            .current_dir(&source)
            .args([
                "build",
                "--locked",
                "--package",
                "node",
                "--bin",
                "meridian",
                "--target-dir",
            ])
            .arg(&target),
    );
    remove(&source_text)?;
    if !built? {
        bail!("failed to build {commit}");
    }
    Ok(target.join("debug/meridian"))
}

fn remove(source: &str) -> Result<()> {
    run::output(Command::new("git").args(["worktree", "remove", "--force", source]))?;
    Ok(())
}
