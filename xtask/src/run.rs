//! Running other programs, and finding files.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The repository's root.
pub fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
    manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A `cargo` of the same toolchain as the one that runs this, without the variables that it set for this program alone.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs it with its output on the terminal; true if it succeeded.
pub fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command
        .status()
        .with_context(|| format!("failed to start {command:?}"))?;
    Ok(status.success())
}

/// Its standard output; an error if it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed with {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// True if the program can be started at all.
pub fn exists(program: &mut Command) -> bool {
    program
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The value of `--name VALUE` among the arguments, taken out of them.
pub fn take_option(arguments: &mut Vec<String>, name: &str) -> Result<Option<String>> {
    let Some(at) = arguments.iter().position(|argument| argument == name) else {
        return Ok(None);
    };
    if at + 1 >= arguments.len() {
        bail!("{name} needs a value");
    }
    arguments.remove(at);
    Ok(Some(arguments.remove(at)))
}

/// Files of the repository with one of these endings, sorted, as paths from its root: those that git tracks or would
/// track, or, outside of a git checkout, all but those in the folders that builds and runs make.
pub fn files(endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let mut files = match git.stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)?.lines().map(PathBuf::from).collect(),
        _ => {
            let mut found = Vec::new();
            walk(Path::new("."), &mut found)?;
            found
        }
    };
    files.retain(|file| file.exists() && endings.iter().any(|ending| file.to_string_lossy().ends_with(ending)));
    files.sort();
    files.dedup();
    Ok(files)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if !name.starts_with("target") && name != ".git" && name != "meridian-data" {
                walk(&path, found)?;
            }
        } else {
            found.push(path.strip_prefix("./").map_or(path.clone(), Path::to_path_buf));
        }
    }
    Ok(())
}
