//! Which crate may depend on which. A new edge is a decision: it goes into this table first.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run;
use crate::summary::Outcome;

/// A crate and the crates of this workspace that it may depend on.
struct Allowed {
    name: &'static str,
    /// In the program itself.
    normal: &'static [&'static str],
    /// Besides, in its tests and benches.
    tests: &'static [&'static str],
}

const ALLOWED: &[Allowed] = &[
    allowed("types", &[], &[]),
    allowed("engine", &["types"], &[]),
    allowed("wire", &["types"], &[]),
    allowed("replica", &["types", "wire"], &["engine"]),
    allowed("gateway", &["types", "wire"], &["engine"]),
    allowed("client", &["types", "wire"], &[]),
    allowed(
        "node",
        &[
            "types", "engine", "wire", "replica", "gateway", "client", "pages", "bench", "edge",
        ],
        &["powerloss", "faults", "harness"],
    ),
    allowed("edge", &[], &[]),
    allowed("pages", &[], &[]),
    allowed("harness", &["types", "wire", "client"], &[]),
    allowed("bench", &["types", "wire", "client", "engine", "harness"], &[]),
    allowed("powerloss", &[], &[]),
    allowed("faults", &["types", "wire", "client", "harness", "powerloss"], &[]),
    allowed("fuzzing", &["types", "wire", "gateway"], &[]),
    allowed("sim", &["types", "engine", "replica", "wire"], &[]),
    allowed("xtask", &[], &[]),
];

/// The crates that do no I/O and know no time, and what they may therefore not use directly.
const PURE: &[&str] = &["types", "engine", "wire", "replica", "sim"];
const IMPURE: &[&str] = &[
    "axum",
    "chrono",
    "crossbeam-channel",
    "getrandom",
    "hyper",
    "libc",
    "mio",
    "quanta",
    "rand",
    "rustix",
    "socket2",
    "time",
    "tokio",
    "tracing",
];

const fn allowed(name: &'static str, normal: &'static [&'static str], tests: &'static [&'static str]) -> Allowed {
    Allowed { name, normal, tests }
}

/// Compares the manifests with the table.
pub fn check() -> Result<Outcome> {
    let text = run::output(run::cargo().args(["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let crates: BTreeMap<&str, &Value> = packages
        .iter()
        .filter_map(|package| Some((package["name"].as_str()?, package)))
        .collect();
    let mut faults = Vec::new();
    let mut edges = 0;
    for (name, package) in &crates {
        let Some(allowed) = ALLOWED.iter().find(|allowed| allowed.name == *name) else {
            faults.push(format!("{name}: not in the table of xtask/src/check/edges.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"].as_str() == Some("dev");
            if crates.contains_key(to) && dependency["path"].is_string() {
                edges += 1;
                let fine = allowed.normal.contains(&to) || (in_tests && allowed.tests.contains(&to));
                if !fine {
                    faults.push(format!("{name}: may not depend on {to}"));
                }
            } else if PURE.contains(name) && !in_tests && IMPURE.contains(&to) {
                faults.push(format!("{name}: is pure and may not use {to}"));
            }
        }
    }
    for name in PURE {
        if crates.contains_key(name) && !std::path::Path::new(&format!("crates/{name}/clippy.toml")).exists() {
            faults.push(format!(
                "{name}: is pure and needs the clippy.toml that bans I/O, clocks and hashing order"
            ));
        }
    }
    Ok(Outcome::from_faults(
        faults,
        format!("{} crates, {edges} edges between them", crates.len()),
    ))
}
