//! A real record of an hour of orders, replayed on the program. The record may not be redistributed, so it is not in
//! the repository; without it the test says so and passes.

use std::path::PathBuf;

use serde_json::Value;

use crate::running::RunningNode;

/// Where the record may be: in this variable's folder, or in this folder of one that the repository lies in.
const VARIABLE: &str = "MERIDIAN_LOBSTER_DATA";
const FOLDER: &str = "shared/data/nasdaq-aapl-2012-06-21";

fn record() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os(VARIABLE) {
        return Some(folder.into());
    }
    let ancestors = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut folders = ancestors.ancestors().map(|folder| folder.join(FOLDER));
    folders.find(|folder| folder.is_dir())
}

#[test]
fn an_hour_of_real_orders_leaves_the_book_of_the_record() {
    let Some(folder) = record() else {
        println!("SKIPPED: there is no {FOLDER} beside or above the repository, and {VARIABLE} is not set.");
        return;
    };
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let node = RunningNode::start();
    let output = node.ask(&[
        "replay",
        "lobster",
        "--json",
        "--messages",
        &file("messages.csv"),
        "--orderbook",
        &file("top_of_book.csv"),
        "--initial-book",
        &file("initial_book_50_levels.csv"),
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| report[name].as_u64().unwrap();
    for (name, wanted) in [
        ("rows", 91_997),
        ("node_equals_plain", 91_997),
        ("plain_equals_record", 91_907),
        ("node_equals_record", 91_907),
        ("record_differs_first", 54_606),
        ("record_differs_last", 54_765),
        ("executions", 4_067),
        ("hit_named_order", 4_058),
        ("hit_unnamed_order", 0),
        ("hit_other_order", 9),
        ("filled_otherwise", 0),
        ("refused", 0),
    ] {
        assert_eq!(number(name), wanted, "{name}");
    }
}
