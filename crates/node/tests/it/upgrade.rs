//! All nodes of a group are started again one by one under load, and then newer behaviour is switched on: the short form of
//! `cargo xtask upgrade`, with one program.

use std::path::PathBuf;

use faults::group::{UpgradePlan, UpgradeReport, upgrade};
use harness::{remove_work_folder, work_folder};

#[test]
fn nobody_notices_that_all_nodes_are_started_again_and_that_newer_behaviour_is_switched_on() {
    let work = work_folder("rolling").expect("temporary files can be made");
    let plan = UpgradePlan {
        old: None,
        new: PathBuf::from(env!("CARGO_BIN_EXE_meridian")),
        work: work.clone(),
        seed: 1,
    };
    let report = upgrade(&plan, &mut |_| {}).unwrap_or_else(|error| panic!("in {}: {error}", work.display()));
    let UpgradeReport {
        rolls,
        broken,
        entries_compared,
        ..
    } = report;
    assert_eq!(broken, Vec::<String>::new(), "in {}", work.display());
    assert_eq!(rolls.len(), 2);
    assert!(rolls[0].away.len() == 3 && entries_compared > 0);
    remove_work_folder(&work).expect("the nodes are gone");
}
