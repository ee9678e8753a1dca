//! `sim`: runs seeds. `cargo xtask sim` builds it as released and calls it.

use std::process::ExitCode;

use sim::{Mutation, Swept};

const USAGE: &str = "\
usage: sim [OPTION...]

  --seeds N          run so many seeds (100)
  --from SEED        beginning with this one (0)
  --seed SEED        run this one alone, twice, and say what happened
  --mutation NAME    with a fault of the driver that must be noticed
  --mutations        each fault of the driver must be noticed within --seeds
  --until-caught     succeed if a seed fails: the program, or with --mutation its driver, is wrong on purpose";

/// What is asked.
struct Asked {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    mutation: Option<Mutation>,
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
    let fine = if let Some(seed) = asked.seed {
        run_one(seed, asked.mutation)
    } else if asked.mutations {
        run_mutations(&asked)
    } else if asked.until_caught {
        until_caught(&asked)
    } else {
        run_many(&asked)
    };
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked {
        seeds: 100,
        from: 0,
        seed: None,
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
            "--mutation" => {
                let name = value()?;
                let known = Mutation::ALL.iter().find(|mutation| mutation.name() == name);
                asked.mutation = Some(*known.ok_or(format!("there is no mutation {name:?}"))?);
            }
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

fn run_many(asked: &Asked) -> bool {
    let swept = sim::sweep(asked.from, asked.seeds, asked.mutation, &progress(asked.seeds));
    println!(
        "{} seeds, {} commands, {} faults",
        swept.seeds, swept.commands, swept.faults
    );
    if let Some((seed, violation)) = &swept.failed {
        println!("\n{}", sim::explain(*seed, violation, asked.mutation));
        return false;
    }
    println!("{}", swept.coverage.table());
    everything_was_met(&swept)
}

/// So few seeds don't come past everything.
const SEEDS_FOR_COVERAGE: u64 = 500;

fn everything_was_met(swept: &Swept) -> bool {
    let missing = swept.coverage.missing();
    for what in &missing {
        println!("never met: {what}");
    }
    missing.is_empty() || swept.seeds < SEEDS_FOR_COVERAGE
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
        match &swept.failed {
            Some((_, violation)) => {
                println!(
                    "caught in {:>5} seeds  {:<26} {}",
                    swept.seeds,
                    mutation.name(),
                    violation.invariant
                );
            }
            None => {
                survived += 1;
                println!(
                    "SURVIVED {:>5} seeds  {:<26} {}",
                    swept.seeds,
                    mutation.name(),
                    mutation.what()
                );
            }
        }
    }
    survived == 0
}

fn until_caught(asked: &Asked) -> bool {
    let swept = sim::sweep(asked.from, asked.seeds, asked.mutation, &|_| {});
    match &swept.failed {
        Some((_, violation)) => println!("caught in {} seeds: {}", swept.seeds, violation.invariant),
        None => println!("survived {} seeds", swept.seeds),
    }
    swept.failed.is_some()
}
