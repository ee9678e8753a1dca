//! Runs the fault harness against a freshly built node.

use std::os::unix::process::CommandExt as _;

use anyhow::{Context, Result, bail};

use crate::run;

/// `faults kill|power-loss|group|gateways|regions …`; what follows is handed on, but for `--release`, by which it is built.
pub fn run(arguments: &[String]) -> Result<bool> {
    let Some((what, rest)) = arguments.split_first() else {
        bail!("say which faults: kill, power-loss, group, gateways or regions");
    };
    if !matches!(what.as_str(), "kill" | "power-loss" | "group" | "gateways" | "regions") {
        bail!("there are no faults {what:?}, only kill, power-loss, group, gateways and regions");
    }
    build_and_run(what, rest)
}

/// Builds the node and the harness, and runs a part of that.
pub fn build_and_run(what: &str, rest: &[String]) -> Result<bool> {
    let (release, rest): (Vec<&String>, Vec<&String>) = rest.iter().partition(|argument| *argument == "--release");
    let mut build = run::cargo();
    let messages = run::output(
        build
            .args([
                "build",
                "--locked",
                "--package",
                "node",
                "--package",
                "faults",
                "--bins",
                "--message-format",
                "json-render-diagnostics",
            ])
            .args(release),
    )?;
    let built = |name: &str| -> Result<String> {
        messages
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(str::to_owned))
            .with_context(|| format!("cargo built no program {name}"))
    };
    let (meridian, faults) = (built("meridian")?, built("faults")?);
    let mut command = std::process::Command::new(faults);
    command.arg(what).args(["--meridian", &meridian]).args(rest);
    // It becomes the harness, so that whoever ends this ends that, and nothing is left behind.
    Err(command.exec()).context("start the fault harness")
}
