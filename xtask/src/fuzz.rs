//! Runs the fuzz targets of `fuzz/`, which is a workspace of its own because it needs a nightly toolchain.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run;

/// `fuzz [NAME...] [--seconds N]`.
pub fn run(arguments: &[String]) -> Result<bool> {
    let mut names = arguments.to_vec();
    let seconds: u64 = run::take_option(&mut names, "--seconds")?.map_or(Ok(60), |text| text.parse())?;
    if !run::exists(Command::new("cargo").args(["+nightly", "fuzz", "--version"])) {
        bail!(
            "fuzzing needs a nightly toolchain and cargo-fuzz:\n  rustup toolchain install nightly --profile minimal\n  cargo install cargo-fuzz --locked"
        );
    }
    let listed = run::output(Command::new("cargo").args(["+nightly", "fuzz", "list"]))?;
    let targets: Vec<&str> = listed
        .lines()
        .filter(|target| names.is_empty() || names.iter().any(|name| name == target))
        .collect();
    if targets.is_empty() {
        bail!("no such fuzz target; there are:\n{listed}");
    }
    let mut samples = run::cargo();
    samples.args([
        "run",
        "--quiet",
        "--locked",
        "--package",
        "fuzzing",
        "--bin",
        "samples",
        "--",
        "fuzz/corpus",
    ]);
    if !run::succeeds(&mut samples)? {
        bail!("the samples to start from could not be written");
    }
    let mut failed = 0;
    for target in &targets {
        println!("== {target}, {seconds} s");
        let passed = run::succeeds(Command::new("cargo").args([
            "+nightly",
            "fuzz",
            "run",
            // The code under test is safe Rust: what is looked for are panics and broken promises.
            "--sanitizer",
            "none",
            target,
            "--",
            &format!("-max_total_time={seconds}"),
            "-print_final_stats=1",
            "-verbosity=0",
        ]))?;
        failed += usize::from(!passed);
    }
    println!("\n{} passed, {failed} failed, 0 skipped", targets.len() - failed);
    Ok(failed == 0)
}
