//! The node killed, and its power cut, under load: the short form of `cargo xtask faults`.

use std::io::Write as _;
use std::path::PathBuf;

use faults::{Fault, Plan, Report, run};
use harness::{remove_work_folder, work_folder};
use powerloss::Syncs;

fn rounds(name: &str, fault: Fault, rounds: u64, seed: u64) -> Option<Report> {
    if let Fault::PowerLoss(_) = fault
        && let Some(why) = powerloss::unavailable()
    {
        // Past the harness, which would keep it to itself.
        writeln!(std::io::stderr(), "SKIPPED node::faults::{name}: {why}").expect("standard error is open");
        return None;
    }
    let work = work_folder(name).expect("temporary files can be made");
    let plan = Plan {
        meridian: PathBuf::from(env!("CARGO_BIN_EXE_meridian")),
        work: work.clone(),
        fault,
        rounds,
        seed,
        answers_max: 400,
    };
    let report = run(&plan, &mut |_| {}).unwrap_or_else(|error| panic!("in {}: {error}", work.display()));
    // What broke a promise is kept to be looked at, unless it was to be broken.
    if report.broken.is_empty() || fault == Fault::PowerLoss(Syncs::IgnoredForFiles) {
        remove_work_folder(&work).expect("the node is gone, and the disk unmounted");
    }
    Some(report)
}

#[test]
fn a_killed_node_keeps_every_promise() {
    let report = rounds("kill", Fault::Kill, 8, 1).expect("a kill needs nothing");
    assert_eq!(report.broken, Vec::<String>::new());
    assert!(report.unanswered > 0 && report.repeats > 0, "{report:?}");
}

#[test]
fn a_node_that_lost_its_power_keeps_every_promise() {
    let Some(report) = rounds("power-loss", Fault::PowerLoss(Syncs::Honest), 6, 2) else {
        return;
    };
    assert_eq!(report.broken, Vec::<String>::new());
    assert!(report.files_cut > 0, "{report:?}");
}

/// The test above proves something only if it fails without the syncs.
#[test]
fn without_fdatasync_promises_are_broken() {
    let Some(report) = rounds("lying", Fault::PowerLoss(Syncs::IgnoredForFiles), 20, 3) else {
        return;
    };
    assert!(!report.broken.is_empty(), "{report:?}");
}
