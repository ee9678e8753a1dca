//! `meridian bench load` from end to end: what it sends is answered, found in the journal, and answered the same when it
//! is sent again. How long anything takes is of no account here.

use std::process::Command;

use serde_json::Value;

/// Runs a short load; gives what was counted at its only rate, and of the check.
#[track_caller]
fn load(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("series.json");
    let output = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["bench", "load", "--rates", "400", "--seconds", "1", "--warm-up", "0.2"])
        .args(["--instruments", "2", "--open-orders", "100", "--out"])
        .arg(&out)
        .args(arguments)
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap()
}

#[track_caller]
fn answers_everything(arguments: &[&str]) {
    let series = load(arguments);
    let step = &series["steps"][0];
    let count = |name: &str| step[name].as_u64().unwrap();
    assert!(count("sent") > 200, "{arguments:?}");
    assert_eq!(count("executed") + count("rejected"), count("sent"), "{arguments:?}");
    assert!(
        count("executed") > count("sent") / 2,
        "most of what is asked makes sense: {arguments:?}"
    );
    let check = &series["check"];
    let checked = |name: &str| check[name].as_u64().unwrap();
    assert!(
        checked("acknowledged") >= count("sent"),
        "what was sent before counts as well"
    );
    assert_eq!(checked("found"), checked("acknowledged"));
    assert_eq!((checked("missing"), checked("doubled")), (0, 0));
}

#[test]
fn a_load_over_websocket_is_answered_and_kept() {
    answers_everything(&["--protocol", "websocket", "--sessions", "5", "--auth", "ed25519"]);
    answers_everything(&[
        "--protocol",
        "websocket",
        "--sessions",
        "2",
        "--batch",
        "10",
        "--schedule",
        "constant",
    ]);
}

#[test]
fn a_load_over_rest_is_answered_and_kept() {
    answers_everything(&["--protocol", "rest", "--sessions", "8"]);
    let microbursts = ["--schedule", "microbursts", "--burst-size", "20"];
    answers_everything(
        &[
            &["--protocol", "rest", "--sessions", "4", "--auth", "ed25519"],
            &microbursts[..],
        ]
        .concat(),
    );
}
