//! `faults group` and `faults gateways`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use faults::group::{GroupFault, GroupPlan, GroupReport, run};
use harness::{Network, remove_work_folder, work_folder};

/// What is asked besides the plan.
struct Wanted {
    plan: GroupPlan,
    report: Option<PathBuf>,
}

/// Runs it.
pub fn main(gateways: usize, arguments: &[String]) -> ExitCode {
    let result = wanted(gateways, arguments).and_then(|wanted| {
        let plan = &wanted.plan;
        println!(
            "seed {}, {} rounds; files in {}",
            plan.seed,
            plan.rounds,
            plan.work.display()
        );
        let report = run(plan, &mut |report| progress(plan, report)).map_err(|error| error.to_string())?;
        if let Some(file) = &wanted.report {
            let text = format!("{:#}\n", report.as_json(plan.seed));
            std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(finish(plan, &report))
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

fn wanted(gateways: usize, arguments: &[String]) -> Result<Wanted, String> {
    let mut plan = GroupPlan {
        meridian: PathBuf::new(),
        work: PathBuf::new(),
        rounds: 20,
        seed: std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs()),
        answers_max: 1000,
        faults: Vec::new(),
        network: true,
        disks: false,
        gateways,
        calm: Duration::ZERO,
    };
    let mut report = None;
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        if name == "--loopback" {
            plan.network = false;
            continue;
        }
        if name == "--disks" {
            if let Some(why) = powerloss::unavailable() {
                return Err(format!("--disks: {why}"));
            }
            plan.disks = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || {
            let number = value.parse::<u64>();
            number.map_err(|_| format!("{name} {value}: not a number"))
        };
        match name.as_str() {
            "--meridian" => plan.meridian = PathBuf::from(value),
            "--work" => plan.work = PathBuf::from(value),
            "--report" => report = Some(PathBuf::from(value)),
            "--rounds" => plan.rounds = number()?,
            "--seed" => plan.seed = number()?,
            "--answers" => plan.answers_max = number()?.max(1) as usize,
            "--gateways" => plan.gateways = number()? as usize,
            "--calm" => plan.calm = Duration::from_secs(number()?),
            "--only" => plan.faults.push(
                GroupFault::from_name(value)
                    .ok_or_else(|| format!("there is no fault {value:?}, only {}", names().join(", ")))?,
            ),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    if plan.meridian.as_os_str().is_empty() {
        return Err("--meridian is needed: the program to run".into());
    }
    if plan.faults.is_empty() {
        plan.faults = match plan.gateways {
            0 => GroupFault::of_voters(),
            _ => GroupFault::with_gateways(),
        };
    }
    if plan.network
        && let Some(why) = Network::unavailable()
    {
        println!("SKIPPED faults::group, those of the network: {why}");
        plan.network = false;
    }
    if plan.work.as_os_str().is_empty() {
        plan.work = work_folder(if gateways > 0 { "gateways" } else { "group" }).map_err(|error| error.to_string())?;
    }
    Ok(Wanted { plan, report })
}

fn names() -> Vec<String> {
    let all = GroupFault::of_voters().into_iter().chain(GroupFault::with_gateways());
    all.map(|fault| fault.to_string()).collect()
}

fn progress(plan: &GroupPlan, report: &GroupReport) {
    let Some(round) = report.rounds.last() else { return };
    println!(
        "round {}/{}: {} of node {}, answers after {:?} (everywhere {:?}), equal after {:?}, {} requests, {} failed attempts, \
         {} election(s), {} without a fault, {} broken promise(s); {} ms, of them {} before the fault, {} of it, {} checks",
        report.rounds.len(),
        plan.rounds,
        round.fault,
        round.node,
        round.recovered_after.unwrap_or_default(),
        round.all_recovered_after.unwrap_or_default(),
        round.equal_after.unwrap_or_default(),
        round.requests,
        round.attempts_failed,
        round.elections,
        round.false_elections,
        report.broken.len(),
        round.took.as_millis(),
        round.before_fault.as_millis(),
        round.faulty.as_millis(),
        round.settled_within.as_millis(),
    );
}

fn finish(plan: &GroupPlan, report: &GroupReport) -> bool {
    for broken in &report.broken {
        println!("BROKEN  {broken}");
    }
    println!("\n== summary");
    println!("rounds                            {}", report.rounds.len());
    println!(
        "a round took, median              {} ms",
        report.round_median().as_millis()
    );
    println!("groups, one after the other       {}", report.groups);
    println!("requests                          {}", report.requests);
    println!("unanswered when all was whole     {}", report.unanswered);
    println!("answers that repeated another     {}", report.repeats);
    println!("reads after acknowledged changes  {}", report.reads);
    println!("  at a gateway without a past     {}", report.forgotten);
    println!("entries the same in all journals  {}", report.entries_compared);
    println!("elections without a fault         {}", report.false_elections());
    if let Some(calm) = &report.calm {
        println!(
            "full load without a fault         {} s, {} requests, {} election(s), {} failed attempts",
            calm.lasted.as_secs(),
            calm.requests,
            calm.elections,
            calm.attempts_failed
        );
    }
    println!(
        "fault                  rounds  answers after, median  max  everywhere  equal after  failed attempts (ms)"
    );
    for (fault, summary) in report.summaries() {
        println!(
            "{:<22} {:>6}  {:>21}  {:>3}  {:>10}  {:>11}  {:>15}",
            fault,
            summary.rounds,
            summary.recovered_ms_median,
            summary.recovered_ms_max,
            summary.all_recovered_ms_max,
            summary.equal_ms_max,
            summary.attempts_failed
        );
    }
    println!("broken promises                   {}", report.broken.len());
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
