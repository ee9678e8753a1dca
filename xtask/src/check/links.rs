//! Relative links in Markdown files lead to a file that exists, and to a heading in it if they name one.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use crate::run;
use crate::summary::Outcome;

/// Follows every relative link.
pub fn check() -> Result<Outcome> {
    let files = run::files(&[".md"])?;
    let mut faults = Vec::new();
    let mut links = 0;
    for file in &files {
        let text = std::fs::read_to_string(file)?;
        for (line, target) in links_of(&text) {
            links += 1;
            if let Some(fault) = fault_of(file, &target) {
                faults.push(format!("{}:{line}: {fault}", file.display()));
            }
        }
    }
    Ok(Outcome::from_faults(
        faults,
        format!("{links} links in {} files", files.len()),
    ))
}

/// What is wrong with a link to `target` that stands in `file`.
fn fault_of(file: &Path, target: &str) -> Option<String> {
    let (path, anchor) = target
        .split_once('#')
        .map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let to = if path.is_empty() {
        file.to_path_buf()
    } else {
        normal(&file.parent().unwrap_or(Path::new("")).join(path))
    };
    if !to.exists() {
        return Some(format!("leads to {}, which does not exist", to.display()));
    }
    let anchor = anchor?;
    let text = std::fs::read_to_string(&to).ok()?;
    (!anchors_of(&text).contains(anchor)).then(|| format!("{} has no heading #{anchor}", to.display()))
}

fn normal(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            other => result.push(other),
        }
    }
    result
}

/// The targets of the inline links to places in the repository, with their lines. Code is left out.
fn links_of(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Every second part of a line that is split at backticks is code.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("x");
        let mut rest = prose.as_str();
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !target.is_empty() {
                found.push((number + 1, target.to_owned()));
            }
        }
    }
    found
}

/// The anchors that the headings of a Markdown file make.
pub(super) fn anchors_of(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let heading = line.trim_start_matches('#');
        if in_code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let anchor = anchor_of(heading.trim());
        let mut distinct = anchor.clone();
        let mut count = 0;
        while !anchors.insert(distinct.clone()) {
            count += 1;
            distinct = format!("{anchor}-{count}");
        }
    }
    anchors
}

fn anchor_of(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_anchors_are_found() {
        let text = "# One `two`, three\nsee [a](b.md#c) and [d](#one-two-three), not `[x](y)`\n```\n[no](z)\n```\n# Same\n# Same\n";
        let targets: Vec<_> = links_of(text)
            .into_iter()
            .map(|(line, target)| format!("{line} {target}"))
            .collect();
        assert_eq!(targets, ["2 b.md#c", "2 #one-two-three"]);
        let anchors: Vec<_> = anchors_of(text).into_iter().collect();
        assert_eq!(anchors, ["one-two-three", "same", "same-1"]);
        assert_eq!(normal(Path::new("docs/../a/./b")), Path::new("a/b"));
    }
}
