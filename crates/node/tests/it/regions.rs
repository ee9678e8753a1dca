//! A region lost, and one that hands over, under load: the short form of `cargo xtask faults regions`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use faults::regions::{RegionFault, RegionsPlan, RegionsReport, run};
use harness::{Network, remove_work_folder, work_folder};

/// A round for each of these faults, of regions of one node each.
fn regions(name: &str, sync: bool, faults: &[RegionFault]) {
    if let Some(why) = Network::unavailable() {
        // Past the harness, which would keep it to itself.
        writeln!(std::io::stderr(), "SKIPPED node::regions::{name}: {why}").expect("standard error is open");
        return;
    }
    let work = work_folder(name).expect("temporary files can be made");
    let plan = RegionsPlan {
        meridian: PathBuf::from(env!("CARGO_BIN_EXE_meridian")),
        work: work.clone(),
        nodes: 1,
        sync,
        lease_ms: 600,
        each_way: Duration::from_millis(10),
        rounds: faults.len() as u64,
        seed: 1,
        answers_max: 200,
        faults: faults.to_vec(),
    };
    let report = run(&plan, &mut |_| {});
    let RegionsReport { rounds, broken, .. } = report.unwrap_or_else(|error| panic!("in {}: {error}", work.display()));
    assert_eq!(broken, Vec::<String>::new(), "in {}", work.display());
    assert_eq!(rounds.len(), faults.len());
    remove_work_folder(&work).expect("the nodes are gone");
}

#[test]
fn a_lost_region_and_a_switch_over_keep_every_promise() {
    let faults = [RegionFault::KillRegion, RegionFault::SwitchOver];
    regions("regions", false, &faults);
}

#[test]
fn nothing_that_is_in_both_regions_is_lost() {
    regions("regions-sync", true, &[RegionFault::KillRegion]);
}
