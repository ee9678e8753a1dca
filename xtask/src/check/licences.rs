//! Every package that is built in has a licence that `deny.toml` allows.
//!
//! `cargo deny` does it where it is installed, and checks the bans too. Otherwise the same list is compared with what
//! `cargo metadata` says.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run;
use crate::summary::Outcome;

/// Checks licences, by `cargo deny` if it is there.
pub fn check() -> Result<Outcome> {
    if run::exists(run::cargo().args(["deny", "--version"])) {
        let passed = run::succeeds(run::cargo().args(["deny", "--log-level", "error", "check", "licenses", "bans"]))?;
        return Ok(if passed {
            Outcome::Passed("cargo deny check licenses bans".to_owned())
        } else {
            Outcome::Failed(vec!["cargo deny check licenses bans failed".to_owned()])
        });
    }
    let allowed = allowed_in(&std::fs::read_to_string("deny.toml")?)?;
    let text = run::output(run::cargo().args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let mut faults = Vec::new();
    for package in packages {
        let name = format!(
            "{} {}",
            package["name"].as_str().unwrap_or("?"),
            package["version"].as_str().unwrap_or("?")
        );
        match package["license"].as_str() {
            None => faults.push(format!("{name}: names no licence")),
            Some(expression) if !allows(expression, &allowed) => {
                faults.push(format!("{name}: {expression} is not allowed by deny.toml"));
            }
            Some(_) => {}
        }
    }
    Ok(Outcome::from_faults(
        faults,
        format!("{} packages (cargo deny is not installed)", packages.len()),
    ))
}

fn allowed_in(deny: &str) -> Result<Vec<String>> {
    let deny: toml::Table = deny.parse()?;
    let list = deny
        .get("licenses")
        .and_then(|licences| licences.get("allow"))
        .and_then(|allow| allow.as_array())
        .context("deny.toml has no licenses.allow")?;
    Ok(list
        .iter()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect())
}

/// Evaluates an SPDX expression: `OR` needs one side, `AND` both. A slash is an old way of saying `OR`.
fn allows(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    either(&words, &mut at, allowed) && at == words.len()
}

fn either(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut result = both(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        result |= both(words, at, allowed);
    }
    result
}

fn both(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut result = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        result &= one(words, at, allowed);
    }
    result
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let result = either(words, at, allowed);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return result && closed;
    }
    let mut name = (*word).to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "ISC"].map(str::to_owned);
        let table = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("MIT/Unlicense", true),
            ("ISC AND (Apache-2.0 OR ISC)", true),
            ("ISC AND (Apache-2.0 OR ISC) AND OpenSSL", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("(MIT", false),
            ("", false),
        ];
        for (expression, expected) in table {
            assert_eq!(allows(expression, &allowed), expected, "{expression}");
        }
    }
}
