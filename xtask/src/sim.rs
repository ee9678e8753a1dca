//! Runs the simulator, built as released; or proves that it sees, with faults that are put in on purpose.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;

/// Where the sources are copied to and changed.
const COPY: &str = "target/mutations/source";
const TARGET: &str = "target/mutations/target";
/// In how many seeds a mutation must be noticed, unless another number is asked for.
const SEEDS: &str = "3000";

/// What is simulated, and which file lists the faults that are put into the sources.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    OneGroup,
    Regions,
}

impl Kind {
    const ALL: [Self; 2] = [Self::OneGroup, Self::Regions];

    fn mutations(self) -> &'static str {
        match self {
            Self::OneGroup => "crates/sim/mutations.toml",
            Self::Regions => "crates/sim/mutations-regions.toml",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::OneGroup => &[],
            Self::Regions => &["--regions"],
        }
    }
}

/// `sim [--regions] [--seeds N] [--from SEED] | --seed SEED | --mutations [NAME...]`. Without `--regions` mutations of both
/// kinds are run.
pub fn run(arguments: &[String]) -> Result<bool> {
    let mut arguments = arguments.to_vec();
    if take_flag(&mut arguments, "--mutations") {
        let kinds: &[Kind] = if take_flag(&mut arguments, "--regions") {
            &[Kind::Regions]
        } else {
            &Kind::ALL
        };
        let seeds = run::take_option(&mut arguments, "--seeds")?.unwrap_or_else(|| SEEDS.into());
        return run_mutations(kinds, &seeds, &arguments);
    }
    let mut sim =
        Command::new(build(run::cargo().arg("build"), Path::new("."))?.context("the simulator does not build")?);
    run::succeeds(sim.args(&arguments))
}

fn take_flag(arguments: &mut Vec<String>, flag: &str) -> bool {
    let at = arguments.iter().position(|argument| argument == flag);
    at.map(|at| arguments.remove(at)).is_some()
}

/// Builds the simulator of the workspace in `folder`. Answers with the program; none if it doesn't build.
fn build(cargo: &mut Command, folder: &Path) -> Result<Option<PathBuf>> {
    let messages = cargo
        .current_dir(folder)
        .args(["--release", "--locked", "--package", "sim", "--bin", "sim"])
        .args(["--message-format", "json-render-diagnostics"]);
    let Ok(messages) = run::output(messages) else {
        return Ok(None);
    };
    let program = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "sim")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    Ok(Some(program.context("cargo built no program sim")?))
}

struct Edit {
    file: PathBuf,
    old: String,
    new: String,
}

struct Mutation {
    name: String,
    what: String,
    edits: Vec<Edit>,
}

/// Those of the driver, then those of the sources.
fn run_mutations(kinds: &[Kind], seeds: &str, names: &[String]) -> Result<bool> {
    let mut fine = true;
    if names.is_empty() {
        let sim = build(run::cargo().arg("build"), Path::new("."))?.context("the simulator does not build")?;
        for kind in kinds {
            let mut all = Command::new(&sim);
            all.args(kind.options()).args(["--mutations", "--seeds", seeds]);
            fine &= run::succeeds(&mut all)?;
        }
    }
    let mut mutations = Vec::new();
    for kind in kinds {
        mutations.extend(read_mutations(*kind)?.into_iter().map(|mutation| (*kind, mutation)));
    }
    if let Some(name) = names
        .iter()
        .find(|name| mutations.iter().all(|(_, mutation)| mutation.name != **name))
    {
        bail!("there is no mutation {name:?} in crates/sim/mutations*.toml");
    }
    let asked = |(_, mutation): &&(Kind, Mutation)| names.is_empty() || names.contains(&mutation.name);
    for (kind, mutation) in mutations.iter().filter(asked) {
        fine &= is_caught(*kind, mutation, seeds)?;
    }
    Ok(fine)
}

fn is_caught(kind: Kind, mutation: &Mutation, seeds: &str) -> Result<bool> {
    copy_sources(mutation)?;
    let target = run::root().canonicalize()?.join(TARGET);
    let mut cargo = run::cargo();
    cargo.args(["build", "--quiet"]).env("CARGO_TARGET_DIR", target);
    let Some(sim) = build(&mut cargo, Path::new(COPY))? else {
        bail!("the mutation {:?} does not build", mutation.name);
    };
    let mut until_caught = Command::new(sim);
    until_caught
        .args(kind.options())
        .args(["--until-caught", "--seeds", seeds]);
    let output = until_caught.output()?;
    let caught = output.status.success();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{:<32} {}", mutation.name, said.trim());
    if !caught {
        println!("SURVIVED {}", mutation.what);
    }
    Ok(caught)
}

fn read_mutations(kind: Kind) -> Result<Vec<Mutation>> {
    let path = kind.mutations();
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| format!("failed to read {path}"))?;
    let listed = table.get("mutation").and_then(toml::Value::as_array);
    listed
        .context("there are no mutations")?
        .iter()
        .map(mutation_of)
        .collect()
}

fn mutation_of(value: &toml::Value) -> Result<Mutation> {
    let text = |value: &toml::Value, key: &str| -> Result<String> {
        let text = value.get(key).and_then(toml::Value::as_str);
        Ok(text
            .with_context(|| format!("{key} is missing in a mutation"))?
            .to_owned())
    };
    let edits = value.get("edits").and_then(toml::Value::as_array);
    let edits = edits.context("a mutation has no edits")?.iter().map(|edit| {
        Ok(Edit {
            file: text(edit, "file")?.into(),
            old: text(edit, "old")?,
            new: text(edit, "new")?,
        })
    });
    Ok(Mutation {
        name: text(value, "name")?,
        what: text(value, "what")?,
        edits: edits.collect::<Result<_>>()?,
    })
}

/// Copies the workspace with one mutation. What did not change keeps its time, so that it is not built again.
fn copy_sources(mutation: &Mutation) -> Result<()> {
    for edit in &mutation.edits {
        if !edit.file.exists() {
            bail!("{:?}: there is no {}", mutation.name, edit.file.display());
        }
    }
    let files = run::files(&[""])?;
    remove_what_is_gone(Path::new(COPY), &files)?;
    for file in files {
        let is_built =
            ["crates", "xtask"].iter().any(|folder| file.starts_with(folder)) || !file.to_string_lossy().contains('/');
        if !is_built || !file.is_file() {
            continue;
        }
        let mut bytes = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let edits: Vec<&Edit> = mutation.edits.iter().filter(|edit| edit.file == file).collect();
        if !edits.is_empty() {
            let mut text = String::from_utf8(bytes)?;
            for edit in edits {
                let found = text.matches(&edit.old).count();
                if found != 1 {
                    bail!(
                        "{:?}: its text stands {found} times in {}",
                        mutation.name,
                        file.display()
                    );
                }
                text = text.replace(&edit.old, &edit.new);
            }
            bytes = text.into_bytes();
        }
        let copy = Path::new(COPY).join(&file);
        if fs::read(&copy).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(folder) = copy.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&copy, bytes).with_context(|| format!("failed to write {}", copy.display()))?;
    }
    Ok(())
}

/// A file that is no longer in the workspace would still be built.
fn remove_what_is_gone(folder: &Path, files: &[PathBuf]) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            remove_what_is_gone(&path, files)?;
        } else if path
            .strip_prefix(COPY)
            .is_ok_and(|file| files.binary_search(&file.to_path_buf()).is_err())
        {
            fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mutation_finds_its_place() {
        std::env::set_current_dir(run::root()).unwrap();
        let read = |kind: Kind| read_mutations(kind).unwrap();
        let mutations: Vec<Mutation> = Kind::ALL.into_iter().flat_map(read).collect();
        assert!(mutations.len() >= 20);
        for mutation in mutations {
            for file in mutation.edits.iter().map(|edit| &edit.file) {
                let mut text = fs::read_to_string(file).unwrap();
                for edit in mutation.edits.iter().filter(|edit| edit.file == *file) {
                    assert_eq!(
                        text.matches(&edit.old).count(),
                        1,
                        "{} in {}",
                        mutation.name,
                        file.display()
                    );
                    text = text.replace(&edit.old, &edit.new);
                }
            }
        }
    }
}
