//! Runs the fault harness against a freshly built node.

use anyhow::{Context, Result, bail};

use crate::run;

/// `faults kill|power-loss|group …`; what follows is handed on.
pub fn run(arguments: &[String]) -> Result<bool> {
    let Some((what, rest)) = arguments.split_first() else {
        bail!("say which faults: kill, power-loss or group");
    };
    if !matches!(what.as_str(), "kill" | "power-loss" | "group") {
        bail!("there are no faults {what:?}, only kill, power-loss and group");
    }
    build_and_run(what, rest)
}

/// Builds the node and the harness, and runs a part of that.
pub fn build_and_run(what: &str, rest: &[String]) -> Result<bool> {
    let messages = run::output(run::cargo().args([
        "build",
        "--locked",
        "--package",
        "node",
        "--package",
        "faults",
        "--bins",
        "--message-format",
        "json-render-diagnostics",
    ]))?;
    let built = |name: &str| -> Result<String> {
        messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(str::to_owned))
            .with_context(|| format!("cargo built no program {name}"))
    };
    let (meridian, faults) = (built("meridian")?, built("faults")?);
    run::succeeds(
        std::process::Command::new(faults)
            .arg(what)
            .args(["--meridian", &meridian])
            .args(rest),
    )
}
