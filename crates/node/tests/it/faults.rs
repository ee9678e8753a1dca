//! The node killed, and its power cut, under load: the short form of `cargo xtask faults`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use faults::group::{self, GroupFault, GroupPlan, GroupReport, What, Whom};
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

/// What faults of a group need, besides a program.
#[derive(Clone, Copy, Default)]
struct Needs {
    network: bool,
    disks: bool,
    gateways: usize,
}

/// A round for each of these faults of a group of three.
fn group(name: &str, faults: &[(What, Whom)], needs: Needs) {
    let missing = [
        needs.network.then(Network::unavailable).flatten(),
        needs.disks.then(powerloss::unavailable).flatten().map(str::to_owned),
    ];
    if let Some(why) = missing.into_iter().flatten().next() {
        // Past the harness, which would keep it to itself.
        writeln!(std::io::stderr(), "SKIPPED node::faults::{name}: {why}").expect("standard error is open");
        return;
    }
    let work = work_folder(name).expect("temporary files can be made");
    let plan = GroupPlan {
        meridian: PathBuf::from(env!("CARGO_BIN_EXE_meridian")),
        work: work.clone(),
        rounds: faults.len() as u64,
        seed: 1,
        answers_max: 200,
        faults: faults
            .iter()
            .map(|(what, whom)| GroupFault::new(*what, *whom))
            .collect(),
        network: needs.network,
        disks: needs.disks,
        gateways: needs.gateways,
        calm: Duration::ZERO,
    };
    let report = group::run(&plan, &mut |_| {});
    let GroupReport { rounds, broken, .. } = report.unwrap_or_else(|error| panic!("in {}: {error}", work.display()));
    assert_eq!(broken, Vec::<String>::new(), "in {}", work.display());
    assert_eq!(rounds.len(), faults.len());
    remove_work_folder(&work).expect("the nodes are gone");
}

#[test]
fn a_group_that_loses_its_leader_keeps_every_promise() {
    let faults = [(What::Kill, Whom::Leader), (What::Stop, Whom::Leader)];
    group("group", &faults, Needs::default());
}

#[test]
fn a_group_whose_lines_are_cut_and_slow_keeps_every_promise() {
    let faults = [(What::Cut, Whom::Leader), (What::Delay, Whom::Leader)];
    let needs = Needs {
        network: true,
        ..Needs::default()
    };
    group("cut-off", &faults, needs);
}

#[test]
fn a_group_with_a_bad_disk_keeps_every_promise() {
    let faults = [(What::DiskSlow, Whom::Leader), (What::DiskFull, Whom::Leader)];
    let needs = Needs {
        disks: true,
        ..Needs::default()
    };
    group("bad-disk", &faults, needs);
}

#[test]
fn a_group_behind_gateways_keeps_every_promise() {
    let faults = [(What::Kill, Whom::Gateway), (What::Kill, Whom::Leader)];
    let needs = Needs {
        gateways: 2,
        ..Needs::default()
    };
    group("gateways", &faults, needs);
}
