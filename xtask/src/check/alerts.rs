//! The alert rules ask for metrics that are documented, and each alert has its part in the page for operators.
//!
//! The rules are YAML, but laid out line by line, so no parser is needed: `- alert: NAME` and `expr: EXPRESSION`, each on a
//! line of its own. A layout that is another one has no alerts in it, and fails.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::links::anchors_of;
use crate::run;
use crate::summary::Outcome;

const RULES: &str = "deploy/prometheus/alerts.yml";
const METRICS: &str = "docs/metrics.md";
const RUNBOOK: &str = "docs/operations.md";
/// What every metric of Meridian begins with.
const PREFIX: &str = "meridian_";
/// What Prometheus adds to the name of a histogram.
const HISTOGRAM_PARTS: &[&str] = &["_bucket", "_count", "_sum"];

/// Compares the rules with both pages.
pub fn check() -> Result<Outcome> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("failed to read {path}"));
    let (rules, metrics, runbook) = (read(RULES)?, read(METRICS)?, read(RUNBOOK)?);
    // A metric that is documented is one that some source names: the page alone proves nothing.
    let sources = run::files(&[".rs"])?;
    let sources = sources.iter().filter(|file| file.starts_with("crates"));
    let mut named = BTreeSet::new();
    for file in sources {
        named.extend(names_in(&std::fs::read_to_string(file)?));
    }
    let rules = rules_of(&rules);
    let faults = faults_of(&rules, &metrics_of(&metrics), &named, &anchors_of(&runbook));
    Ok(Outcome::from_faults(faults, format!("{} alerts", rules.len())))
}

/// An alert: its name, and the metrics that its expression asks for.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    alert: String,
    metrics: BTreeSet<String>,
}

fn faults_of(
    rules: &[Rule],
    documented: &BTreeSet<String>,
    named: &BTreeSet<String>,
    anchors: &BTreeSet<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    if rules.is_empty() {
        faults.push(format!("{RULES} has no alerts"));
    }
    for Rule { alert, metrics } in rules {
        if !anchors.contains(&alert.to_lowercase()) {
            faults.push(format!("{RUNBOOK} has no heading {alert}"));
        }
        for metric in metrics {
            let whole = HISTOGRAM_PARTS.iter().find_map(|part| metric.strip_suffix(part));
            let known = |names: &BTreeSet<String>| names.contains(metric) || whole.is_some_and(|it| names.contains(it));
            if !known(documented) {
                faults.push(format!("{alert} asks for {metric}, which is not in {METRICS}"));
            }
            if !known(named) {
                faults.push(format!("{alert} asks for {metric}, which no source names"));
            }
        }
    }
    faults
}

fn rules_of(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(alert) = line.strip_prefix("- alert: ") {
            rules.push(Rule {
                alert: alert.to_owned(),
                metrics: BTreeSet::new(),
            });
        } else if let (Some(expression), Some(rule)) = (line.strip_prefix("expr: "), rules.last_mut()) {
            rule.metrics.extend(names_in(expression));
        }
    }
    rules
}

/// The metrics that stand in the first column of a table of the page.
fn metrics_of(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| names_in(row).into_iter().next()).collect()
}

/// The metrics that a text names, in its order.
fn names_in(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with(PREFIX) && word.len() > PREFIX.len());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_missing_is_told() {
        let rules = rules_of(
            "groups:\n  - name: a\n    rules:\n      - alert: One\n        expr: rate(meridian_a_seconds_bucket[5m]) > 2\n      \
             - alert: Two\n        expr: meridian_b{x=\"y\"} > on (cluster) meridian_c\n",
        );
        let page =
            metrics_of("| metric |\n| --- |\n| `meridian_a_seconds{x}` | h |\n| `meridian_b` | as `meridian_c` |\n");
        assert_eq!(page, set(&["meridian_a_seconds", "meridian_b"]));
        let named = set(&["meridian_a_seconds", "meridian_b", "meridian_c"]);
        let faults = faults_of(&rules, &page, &named, &set(&["one", "two"]));
        assert_eq!(faults, ["Two asks for meridian_c, which is not in docs/metrics.md"]);
        let faults = faults_of(&rules[..1], &page, &set(&[]), &set(&["two"]));
        assert_eq!(
            faults,
            [
                "docs/operations.md has no heading One",
                "One asks for meridian_a_seconds_bucket, which no source names"
            ]
        );
        assert_eq!(
            faults_of(&[], &page, &named, &set(&[])),
            ["deploy/prometheus/alerts.yml has no alerts"]
        );
    }
}
