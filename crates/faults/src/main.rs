//! `faults group|gateways --meridian PROGRAM [--rounds N] [--seed N] [--answers N] [--only FAULT]… [--calm SECONDS]
//! [--gateways N] [--loopback] [--disks] [--report FILE] [--work FOLDER]`, or
//! `faults kill|power-loss --meridian PROGRAM [--rounds N] [--seed N] [--answers N] [--without-fdatasync] [--work FOLDER]`
//! or `faults regions --meridian PROGRAM [--nodes 1|3] [--mode async|sync] [--lease-ms N] [--each-way-ms N] [--rounds N]
//! [--seed N] [--answers N] [--only FAULT]… [--report FILE] [--work FOLDER]`
//! or `faults upgrade --meridian PROGRAM [--from OLDER] [--seed N] [--work FOLDER]`
//!
//! Started by `cargo xtask faults`.

use std::path::PathBuf;
use std::process::ExitCode;

use faults::{Fault, Plan, Report, run};
use harness::{remove_work_folder, work_folder};
use powerloss::Syncs;

mod group_command;
mod regions_command;
mod upgrade_command;

/// Gateways of `faults gateways`, unless it is told another number.
const GATEWAYS: usize = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first().map(|(what, rest)| (what.as_str(), rest)) {
        Some(("group", rest)) => return group_command::main(0, rest),
        Some(("regions", rest)) => return regions_command::main(rest),
        Some(("gateways", rest)) => return group_command::main(GATEWAYS, rest),
        _ => {}
    }
    if let Some(("upgrade", rest)) = arguments.split_first().map(|(what, rest)| (what.as_str(), rest)) {
        return upgrade_command::main(rest);
    }
    let result = plan(&arguments).and_then(|plan| {
        if let Fault::PowerLoss(_) = plan.fault
            && let Some(why) = powerloss::unavailable()
        {
            println!("SKIPPED faults::power_loss: {why}");
            return Ok(true);
        }
        println!(
            "seed {}, {} rounds; files in {}",
            plan.seed,
            plan.rounds,
            plan.work.display()
        );
        let report = run(&plan, &mut |report| progress(&plan, report)).map_err(|error| error.to_string())?;
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

fn plan(arguments: &[String]) -> Result<Plan, String> {
    let (what, rest) = arguments
        .split_first()
        .ok_or("say which faults: kill, power-loss, group, gateways or regions")?;
    let mut plan = Plan {
        meridian: PathBuf::new(),
        work: PathBuf::new(),
        fault: match what.as_str() {
            "kill" => Fault::Kill,
            "power-loss" => Fault::PowerLoss(Syncs::Honest),
            other => {
                return Err(format!(
                    "there are no faults {other:?}, only kill, power-loss, group, gateways and regions"
                ));
            }
        },
        rounds: 20,
        seed: std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs()),
        answers_max: 1000,
    };
    let mut rest = rest.iter();
    while let Some(name) = rest.next() {
        if name == "--without-fdatasync" {
            plan.fault = match plan.fault {
                Fault::Kill => return Err("--without-fdatasync is for power-loss: a killed node needs no sync".into()),
                Fault::PowerLoss(_) => Fault::PowerLoss(Syncs::IgnoredForFiles),
            };
            continue;
        }
        let value = rest.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name} {value}: not a number"))
        };
        match name.as_str() {
            "--meridian" => plan.meridian = PathBuf::from(value),
            "--work" => plan.work = PathBuf::from(value),
            "--rounds" => plan.rounds = number()?,
            "--seed" => plan.seed = number()?,
            "--answers" => plan.answers_max = number()?.max(1) as usize,
            _ => return Err(format!("there is no option {name}")),
        }
    }
    if plan.meridian.as_os_str().is_empty() {
        return Err("--meridian is needed: the program to run".into());
    }
    if plan.work.as_os_str().is_empty() {
        plan.work = work_folder(what).map_err(|error| error.to_string())?;
    }
    Ok(plan)
}

fn progress(plan: &Plan, report: &Report) {
    if report.rounds.is_multiple_of(10) || report.rounds == plan.rounds {
        println!(
            "round {}/{}: {} requests, {} unanswered at the fault, {} broken promise(s)",
            report.rounds,
            plan.rounds,
            report.requests,
            report.unanswered,
            report.broken.len()
        );
    }
}

fn finish(plan: &Plan, report: &Report) -> bool {
    for broken in &report.broken {
        println!("BROKEN  {broken}");
    }
    println!("\n== summary");
    println!("rounds                           {}", report.rounds);
    println!("requests                         {}", report.requests);
    println!("unanswered when the fault came   {}", report.unanswered);
    println!("  of them executed before it     {}", report.executed_before);
    println!("answers that repeated another    {}", report.repeats);
    println!("faults while the node started    {}", report.faults_at_start);
    println!("journals replayed and compared   {}", report.hashes_compared);
    if let Fault::PowerLoss(_) = plan.fault {
        println!("losses after errors of the disk  {}", report.disk_failures);
        println!("files that lost something        {}", report.files_cut);
        println!("names that changed               {}", report.names_cut);
    }
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
