//! Measures everything and writes `docs/performance.md`.

use anyhow::{Context, Result, bail};

use crate::run;

/// Where the document goes.
const OUT: &str = "docs";

/// `performance [--short] …`; what follows is handed on to `meridian bench all`.
pub fn run(arguments: &[String]) -> Result<bool> {
    let mut arguments = arguments.to_vec();
    let out = run::take_option(&mut arguments, "--out")?.unwrap_or_else(|| OUT.to_owned());
    let mut build = run::cargo();
    build.args([
        "build",
        "--locked",
        "--release",
        "--package",
        "node",
        "--bins",
        "--message-format",
        "json-render-diagnostics",
    ]);
    // What was measured stands in the document. A build from an archive has no commit to tell.
    if let Some(commit) = commit() {
        build.env("MERIDIAN_BUILD_COMMIT", commit);
    }
    build.env("MERIDIAN_BUILD_COMPILER", compiler()?);
    let messages = run::output(&mut build)?;
    let meridian = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "meridian")
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .context("cargo built no program meridian")?;
    run::succeeds(
        std::process::Command::new(meridian)
            .args(["bench", "all", "--out", &out])
            .args(arguments),
    )
}

/// The commit, and whether there is more than it.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // A new document is no change of the program.
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"])?;
    Some(if changed.is_empty() {
        commit
    } else {
        format!("{commit} with changes")
    })
}

fn compiler() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = run::output(std::process::Command::new(rustc).arg("--version"))?;
    match text.trim() {
        "" => bail!("rustc told no version"),
        text => Ok(text.to_owned()),
    }
}
