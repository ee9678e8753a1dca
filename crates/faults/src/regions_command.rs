//! `faults regions`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use faults::regions::{RegionFault, RegionsPlan, RegionsReport, run};
use harness::{Network, remove_work_folder, work_folder};

/// Runs it.
pub fn main(arguments: &[String]) -> ExitCode {
    let result = wanted(arguments).and_then(|(plan, file)| {
        if let Some(why) = Network::unavailable() {
            println!("SKIPPED faults::regions: {why}");
            return Ok(true);
        }
        println!(
            "seed {}, {} rounds, {} nodes a region, {}, lease {} ms, {} ms each way; files in {}",
            plan.seed,
            plan.rounds,
            plan.nodes,
            if plan.sync { "sync" } else { "async" },
            plan.lease_ms,
            plan.each_way.as_millis(),
            plan.work.display()
        );
        let report = run(&plan, &mut |report| {
            progress(&plan, report);
            // What has been seen so far stays, should the run be ended.
            write_report(file.as_ref(), &plan, report).unwrap_or_else(|error| eprintln!("faults: {error}"));
        })
        .map_err(|error| error.to_string())?;
        write_report(file.as_ref(), &plan, &report)?;
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

fn write_report(file: Option<&PathBuf>, plan: &RegionsPlan, report: &RegionsReport) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    let text = format!("{:#}\n", report.as_json(plan));
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn wanted(arguments: &[String]) -> Result<(RegionsPlan, Option<PathBuf>), String> {
    let mut plan = RegionsPlan {
        meridian: PathBuf::new(),
        work: PathBuf::new(),
        nodes: 3,
        sync: false,
        lease_ms: 4_000,
        each_way: Duration::from_millis(55),
        rounds: 14,
        seed: std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs()),
        answers_max: 400,
        faults: Vec::new(),
    };
    let mut report = None;
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
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
            "--lease-ms" => plan.lease_ms = number()?,
            "--each-way-ms" => plan.each_way = Duration::from_millis(number()?),
            "--nodes" => {
                plan.nodes = number()? as usize;
                if !matches!(plan.nodes, 1 | 3) {
                    return Err(format!("--nodes {value}: a region has 1 or 3"));
                }
            }
            "--mode" => {
                plan.sync = match value.as_str() {
                    "sync" => true,
                    "async" => false,
                    _ => return Err(format!("--mode {value}: it is async or sync")),
                }
            }
            "--only" => plan.faults.push(
                RegionFault::from_name(value)
                    .ok_or_else(|| format!("there is no fault {value:?}, only {}", names().join(", ")))?,
            ),
            _ => return Err(format!("there is no option {name}")),
        }
    }
    if plan.meridian.as_os_str().is_empty() {
        return Err("--meridian is needed: the program to run".into());
    }
    if plan.faults.is_empty() {
        plan.faults = RegionFault::ALL.to_vec();
    }
    if plan.work.as_os_str().is_empty() {
        plan.work = work_folder("regions").map_err(|error| error.to_string())?;
    }
    Ok((plan, report))
}

fn names() -> Vec<String> {
    RegionFault::ALL.iter().map(ToString::to_string).collect()
}

fn progress(plan: &RegionsPlan, report: &RegionsReport) {
    let Some(round) = report.rounds.last() else { return };
    println!(
        "round {}/{}: {}, answers after {:?} (all sessions {:?}), longest pause {} ms, {} requests, {} acknowledged, {} missing, \
         {} void, {} doubled, new life: {}, lag up to {}, degraded: {}, whole after {} ms, {} broken promise(s); {} ms",
        report.rounds.len(),
        plan.rounds,
        round.fault,
        round.recovered_after.unwrap_or_default(),
        round.all_recovered_after.unwrap_or_default(),
        round.pause.as_millis(),
        round.requests,
        round.acknowledged,
        round.missing,
        round.void,
        round.doubled,
        round.new_life,
        round.lag_max,
        round.degraded,
        round.whole_after.as_millis(),
        report.broken.len(),
        round.took.as_millis(),
    );
}

fn finish(plan: &RegionsPlan, report: &RegionsReport) -> bool {
    for broken in report.broken.iter().take(40) {
        println!("BROKEN  {broken}");
    }
    println!("\n== summary");
    println!("rounds                            {}", report.rounds.len());
    println!("pairs of regions                  {}", report.worlds);
    println!("states replayed and compared      {}", report.states_compared);
    println!(
        "fault             rounds  answers after, median    max  all sessions  pause, median    max  acknowledged  missing  \
         void  most  doubled  new lives  lag, most  whole after (ms)"
    );
    for (fault, summary) in report.summaries() {
        println!(
            "{:<17} {:>6}  {:>21}  {:>5}  {:>12}  {:>13}  {:>5}  {:>12}  {:>7}  {:>4}  {:>4}  {:>7}  {:>9}  {:>9}  {:>11}",
            fault,
            summary.rounds,
            summary.recovered_ms_median,
            summary.recovered_ms_max,
            summary.all_recovered_ms_max,
            summary.pause_ms_median,
            summary.pause_ms_max,
            summary.acknowledged,
            summary.missing,
            summary.void,
            summary.void_max,
            summary.doubled,
            summary.new_lives,
            summary.lag_max,
            summary.whole_ms_max,
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
