//! `faults upgrade`.

use std::path::PathBuf;
use std::process::ExitCode;

use faults::group::{Roll, UpgradePlan, UpgradeReport, upgrade};
use harness::{remove_work_folder, work_folder};

/// Runs it.
pub fn main(arguments: &[String]) -> ExitCode {
    let result = wanted(arguments).and_then(|plan| {
        println!("seed {}; files in {}", plan.seed, plan.work.display());
        let report = upgrade(&plan, &mut progress).map_err(|error| error.to_string())?;
        Ok(finish(&plan, &report))
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::from(2)
        }
    }
}

fn wanted(arguments: &[String]) -> Result<UpgradePlan, String> {
    let mut plan = UpgradePlan {
        old: None,
        new: PathBuf::new(),
        work: PathBuf::new(),
        seed: std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs()),
    };
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--meridian" => plan.new = PathBuf::from(value),
            "--from" => plan.old = Some(PathBuf::from(value)),
            "--work" => plan.work = PathBuf::from(value),
            "--seed" => plan.seed = value.parse().map_err(|_| format!("--seed {value}: not a number"))?,
            _ => return Err(format!("there is no option {name}")),
        }
    }
    if plan.new.as_os_str().is_empty() {
        return Err("--meridian is needed: the program to run".into());
    }
    if plan.work.as_os_str().is_empty() {
        plan.work = work_folder("upgrade").map_err(|error| error.to_string())?;
    }
    Ok(plan)
}

fn progress(roll: &Roll) {
    let away: Vec<String> = roll
        .away
        .iter()
        .map(|away| format!("{} ms", away.as_millis()))
        .collect();
    println!(
        "{}: {} requests, {} failed at other nodes; nodes away for {}",
        roll.name,
        roll.requests,
        roll.attempts_failed,
        if away.is_empty() {
            "no time".to_owned()
        } else {
            away.join(", ")
        }
    );
}

fn finish(plan: &UpgradePlan, report: &UpgradeReport) -> bool {
    for broken in &report.broken {
        println!("BROKEN  {broken}");
    }
    let requests: u64 = report.rolls.iter().map(|roll| roll.requests).sum();
    let failed: u64 = report.rolls.iter().map(|roll| roll.attempts_failed).sum();
    let said = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    println!("\n== summary");
    println!("requests                         {requests}");
    println!("failed at other nodes            {failed}");
    println!("switched on while mixed          {}", said(&report.refused_while_mixed));
    println!("used before it was in force      {}", said(&report.refused_before));
    println!("older program behind the switch  {}", said(&report.older_said));
    println!("entries the same in all journals {}", report.entries_compared);
    println!("broken promises                  {}", report.broken.len());
    if report.broken.is_empty() {
        // The next run makes a new folder anyhow.
        let _ = remove_work_folder(&plan.work);
        return true;
    }
    println!(
        "again with: --seed {} (files are kept in {})",
        plan.seed,
        plan.work.display()
    );
    false
}
