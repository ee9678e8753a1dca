//! The node killed, and its power cut, under load: the short form of `cargo xtask faults`.

use std::io::Write as _;
use std::path::PathBuf;

use faults::group::{self, GroupFault, GroupPlan, GroupReport};
use faults::{Fault, Plan, Report, run};
use harness::{Network, remove_work_folder, work_folder};
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

/// A round for each of these faults of a group of three.
fn group(name: &str, faults: &[GroupFault], network: bool) {
    let work = work_folder(name).expect("temporary files can be made");
    for (seed, fault) in (1..).zip(faults) {
        let plan = GroupPlan {
            meridian: PathBuf::from(env!("CARGO_BIN_EXE_meridian")),
            work: work.join(fault.name()),
            rounds: 1,
            seed,
            answers_max: 200,
            faults: vec![*fault],
            network,
            disks: false,
        };
        std::fs::create_dir_all(&plan.work).expect("the folder is there");
        let report = group::run(&plan, &mut |_| {});
        let GroupReport { rounds, broken, .. } =
            report.unwrap_or_else(|error| panic!("in {}: {error}", work.display()));
        assert_eq!(broken, Vec::<String>::new(), "in {}", work.display());
        assert_eq!(rounds.len(), 1);
    }
    remove_work_folder(&work).expect("the nodes are gone");
}

#[test]
fn a_group_that_loses_its_leader_keeps_every_promise() {
    let faults = [GroupFault::KillLeader, GroupFault::StopLeader];
    group("group", &faults, false);
}

#[test]
fn a_group_whose_leader_is_cut_off_keeps_every_promise() {
    if let Some(why) = Network::unavailable() {
        // Past the harness, which would keep it to itself.
        writeln!(std::io::stderr(), "SKIPPED node::faults::cut_off: {why}").expect("standard error is open");
        return;
    }
    group("cut-off", &[GroupFault::CutLeader], true);
}
