//! `sim`: runs seeds. `cargo xtask sim` builds it as released and calls it.

use std::process::ExitCode;

use sim::{Mutation, RegionMutation, RegionsSwept, Violation};

const USAGE: &str = "\
usage: sim [OPTION...]

  --seeds N          run so many seeds (100)
  --from SEED        beginning with this one (0)
  --seed SEED        run this one alone, twice, and say what happened
  --regions          of two regions and a witness, not of one group
  --mutation NAME    with a fault of the driver that must be noticed
  --mutations        each fault of the driver must be noticed within --seeds
  --until-caught     succeed if a seed fails: the program itself was made wrong on purpose";

/// What is asked.
struct Asked {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    regions: bool,
    mutation: Option<String>,
    mutations: bool,
    until_caught: bool,
}

fn main() -> ExitCode {
    // What panics is told by the run that it belongs to.
    std::panic::set_hook(Box::new(|_| {}));
    let asked = match parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("sim: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let fine = if asked.regions {
        regions(&asked)
    } else {
        one_group(&asked)
    };
    match fine {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn one_group(asked: &Asked) -> Result<bool, String> {
    let named = |name: &String| {
        let known = Mutation::ALL.iter().find(|mutation| mutation.name() == name);
        known.copied().ok_or(format!("there is no mutation {name:?}"))
    };
    let mutation = asked.mutation.as_ref().map(named).transpose()?;
    Ok(if let Some(seed) = asked.seed {
        run_one(seed, mutation)
    } else if asked.mutations {
        run_mutations(asked)
    } else if asked.until_caught {
        until_caught(asked)
    } else {
        run_many(asked, mutation)
    })
}

fn regions(asked: &Asked) -> Result<bool, String> {
    let named = |name: &String| {
        let known = RegionMutation::ALL.iter().find(|mutation| mutation.name() == name);
        known
            .copied()
            .ok_or(format!("there is no mutation {name:?} of regions"))
    };
    let mutation = asked.mutation.as_ref().map(named).transpose()?;
    Ok(if let Some(seed) = asked.seed {
        one_of_regions(seed, mutation)
    } else if asked.mutations {
        mutations_of_regions(asked)
    } else if asked.until_caught {
        let swept = sim::sweep_regions(asked.from, asked.seeds, None, &|_| {});
        told_whether_caught(swept.seeds, swept.failed.as_ref())
    } else {
        many_of_regions(asked, mutation)
    })
}

fn many_of_regions(asked: &Asked, mutation: Option<RegionMutation>) -> bool {
    let swept: RegionsSwept = sim::sweep_regions(asked.from, asked.seeds, mutation, &progress(asked.seeds));
    println!(
        "{} seeds of two regions, {} commands, {} faults; the slowest healed in {} ms, seed {:#x}",
        swept.seeds, swept.commands, swept.faults, swept.healed_ms_max.0, swept.healed_ms_max.1
    );
    if let Some((seed, violation)) = &swept.failed {
        println!("\n{}", sim::explain_regions(*seed, violation, mutation));
        return false;
    }
    println!("{}", swept.coverage.table());
    nothing_is_missing(&swept.coverage.missing(), swept.seeds)
}

fn one_of_regions(seed: u64, mutation: Option<RegionMutation>) -> bool {
    let report = sim::run_regions(seed, mutation, false);
    let again = sim::run_regions(seed, mutation, true);
    println!(
        "seed {seed:#x} of two regions: {} commands, {} faults, {} events, healed in {} ms, trace {:08x}",
        report.commands, report.faults, report.events, report.healed_ms, report.trace_hash
    );
    if report.trace_hash != again.trace_hash {
        println!("the second run went another way: {:08x}", again.trace_hash);
        return false;
    }
    match &report.violation {
        Some(violation) => println!("{}", sim::explain_regions(seed, violation, mutation)),
        None => again.lines.iter().for_each(|line| println!("{line}")),
    }
    report.violation.is_none()
}

fn mutations_of_regions(asked: &Asked) -> bool {
    let mut survived = 0;
    for mutation in RegionMutation::ALL {
        let swept = sim::sweep_regions(asked.from, asked.seeds, Some(*mutation), &|_| {});
        survived += u32::from(swept.failed.is_none());
        let failed = swept.failed.as_ref();
        tell_of_mutation(
            swept.seeds,
            mutation.name(),
            mutation.what(),
            failed.map(|(_, how)| how.invariant),
        );
    }
    survived == 0
}

fn tell_of_mutation(seeds: u64, name: &str, what: &str, caught: Option<&str>) {
    match caught {
        Some(invariant) => println!("caught in {seeds:>5} seeds  {name:<26} {invariant}"),
        None => println!("SURVIVED {seeds:>5} seeds  {name:<26} {what}"),
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked {
        seeds: 100,
        from: 0,
        seed: None,
        regions: false,
        mutation: None,
        mutations: false,
        until_caught: false,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--seeds" => asked.seeds = number(&value()?)?,
            "--from" => asked.from = number(&value()?)?,
            "--seed" => asked.seed = Some(number(&value()?)?),
            "--regions" => asked.regions = true,
            "--mutation" => asked.mutation = Some(value()?),
            "--mutations" => asked.mutations = true,
            "--until-caught" => asked.until_caught = true,
            other => return Err(format!("there is no option {other:?}")),
        }
    }
    Ok(asked)
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text:?} is not a number"))
}

/// A line that is written over by the next one.
fn progress(seeds: u64) -> impl Fn(u64) + Sync {
    move |done| {
        if done.is_multiple_of((seeds / 100).max(10)) || done == seeds {
            eprint!("\r{done} of {seeds} seeds");
            if done == seeds {
                eprintln!();
            }
        }
    }
}

fn run_many(asked: &Asked, mutation: Option<Mutation>) -> bool {
    let swept = sim::sweep(asked.from, asked.seeds, mutation, &progress(asked.seeds));
    println!(
        "{} seeds, {} commands, {} faults",
        swept.seeds, swept.commands, swept.faults
    );
    if let Some((seed, violation)) = &swept.failed {
        println!("\n{}", sim::explain(*seed, violation, mutation));
        return false;
    }
    println!("{}", swept.coverage.table());
    nothing_is_missing(&swept.coverage.missing(), swept.seeds)
}

/// So few seeds don't come past everything.
const SEEDS_FOR_COVERAGE: u64 = 500;

fn nothing_is_missing(missing: &[String], seeds: u64) -> bool {
    for what in missing {
        println!("never met: {what}");
    }
    missing.is_empty() || seeds < SEEDS_FOR_COVERAGE
}

fn run_one(seed: u64, mutation: Option<Mutation>) -> bool {
    let report = sim::run(seed, mutation, false);
    let again = sim::run(seed, mutation, true);
    println!(
        "seed {seed:#x}: {} commands, {} faults, {} events, trace {:08x}",
        report.commands, report.faults, report.events, report.trace_hash
    );
    if report.trace_hash != again.trace_hash {
        println!("the second run went another way: {:08x}", again.trace_hash);
        return false;
    }
    match &report.violation {
        Some(violation) => println!("{}", sim::explain(seed, violation, mutation)),
        None => again.lines.iter().for_each(|line| println!("{line}")),
    }
    report.violation.is_none()
}

fn run_mutations(asked: &Asked) -> bool {
    let mut survived = 0;
    for mutation in Mutation::ALL {
        let swept = sim::sweep(asked.from, asked.seeds, Some(*mutation), &|_| {});
        survived += u32::from(swept.failed.is_none());
        let failed = swept.failed.as_ref();
        tell_of_mutation(
            swept.seeds,
            mutation.name(),
            mutation.what(),
            failed.map(|(_, how)| how.invariant),
        );
    }
    survived == 0
}

fn until_caught(asked: &Asked) -> bool {
    let swept = sim::sweep(asked.from, asked.seeds, None, &|_| {});
    told_whether_caught(swept.seeds, swept.failed.as_ref())
}

fn told_whether_caught(seeds: u64, failed: Option<&(u64, Violation)>) -> bool {
    match failed {
        Some((_, violation)) => println!("caught in {seeds} seeds: {}", violation.invariant),
        None => println!("survived {seeds} seeds"),
    }
    failed.is_some()
}
