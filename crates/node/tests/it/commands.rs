//! The commands of clients and operators against a running node.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Output;

use serde_json::Value;

use crate::running::RunningNode;

#[track_caller]
fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn ends_with(output: &Output, code: i32, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{said}");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// An account with money, and its key and secret.
fn account(node: &RunningNode, key_arguments: &[&str]) -> (String, String) {
    let account = text(&json(&node.ask(&["admin", "account", "create", "--json"]))["account"]["account_id"]);
    for (asset, amount) in [("USD", "100000"), ("BTC", "10")] {
        json(&node.ask(&["admin", "deposit", &account, asset, amount, "--json"]));
    }
    let mut arguments = vec!["admin", "key", "create", &account, "--json"];
    arguments.extend(key_arguments);
    let made = json(&node.ask(&arguments));
    (text(&made["key"]["key_id"]), text(&made["secret"]))
}

fn open_instrument(node: &RunningNode) {
    for (symbol, decimals) in [("USD", "2"), ("BTC", "8")] {
        json(&node.ask(&["admin", "asset", "create", symbol, decimals, "--json"]));
    }
    let create = ["admin", "instrument", "create", "BTC-USD", "BTC", "USD", "--json"];
    json(&node.ask(&[&create[..], &["--tick", "0.01", "--lot", "1", "--collar-ppm", "0"]].concat()));
    let opened = json(&node.ask(&["admin", "instrument", "status", "BTC-USD", "trading", "--json"]));
    assert_eq!(opened["instrument"]["status"], "trading");
}

/// Sends a request as curl would, with the headers that `meridian sign` printed.
fn send(node: &RunningNode, method: &str, target: &str, headers: &Output, body: &str) -> String {
    let headers = String::from_utf8(headers.stdout.clone()).unwrap().replace('\n', "\r\n");
    let address = node.public.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let rest = format!("host: {address}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream
        .write_all(format!("{method} {target} HTTP/1.1\r\n{headers}{rest}").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn each_command_is_counted_once_in_each_stage() {
    let node = RunningNode::start();
    let counts = || {
        let metrics = node.metrics();
        let counts = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("meridian_stage_seconds_count{stage="));
        counts.map(str::to_owned).collect::<Vec<_>>()
    };
    for (index, asset) in ["USD", "BTC"].into_iter().enumerate() {
        json(&node.ask(&["admin", "asset", "create", asset, "2", "--json"]));
        let stages = [
            "read", "verify", "queue", "batch", "fsync", "apply", "answer", "write", "total",
        ];
        let expected: Vec<_> = stages
            .iter()
            .map(|stage| format!("\"{stage}\"}} {}", index + 1))
            .collect();
        // Who has an answer may ask before the node has counted that it was sent.
        while counts() != expected {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_first_day_from_the_first_asset_to_a_fill() {
    let node = RunningNode::start();
    open_instrument(&node);
    let (buyer, buyer_secret) = account(&node, &[]);
    let (seller, seller_secret) = account(&node, &["--hmac"]);
    let buy = |arguments: &[&str]| node.ask_as(&buyer, &buyer_secret, arguments);
    let sell = |arguments: &[&str]| node.ask_as(&seller, &seller_secret, arguments);

    // By hand: signed here, sent over a plain socket.
    let body =
        r#"{"client_order_id":"b-1","symbol":"BTC-USD","side":"buy","type":"limit","price":"100.00","quantity":"5"}"#;
    let headers = buy(&["sign", "POST", "/v1/orders", "--body", body]);
    let answer = send(&node, "POST", "/v1/orders", &headers, body);
    assert!(
        answer.starts_with("HTTP/1.1 201 ") && answer.contains(r#""status":"open""#),
        "{answer}"
    );
    let again = send(&node, "POST", "/v1/orders", &headers, body);
    assert!(
        again.starts_with("HTTP/1.1 200 ") && again.contains(r#""repeat":true"#),
        "{again}"
    );
    let changed = body.replace("\"5\"", "\"6\"");
    let refused = send(&node, "POST", "/v1/orders", &headers, &changed);
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");

    let sold = json(&sell(&[
        "order", "place", "BTC-USD", "sell", "2", "--price", "100", "--json",
    ]));
    assert_eq!(sold["order"]["status"], "filled");
    assert_eq!(sold["fills"][0]["quantity"], "2");
    let replaced = json(&buy(&["order", "replace", "b-1", "--quantity", "4", "--json"]));
    assert_eq!(replaced["priority_kept"], true);
    let book = json(&buy(&["book", "BTC-USD", "--json"]));
    assert_eq!(book["bids"][0]["quantity"], "2");
    let listed = String::from_utf8(buy(&["order", "list"]).stdout).unwrap();
    assert!(listed.contains("b-1") && listed.contains("open"), "{listed}");
    let cancelled = json(&buy(&["order", "cancel", "b-1", "--json"]));
    assert_eq!(cancelled["cancelled_quantity"], "2");
    let fills = json(&buy(&["fills", "--json"]));
    assert_eq!(fills["fills"][0]["role"], "maker");
    let balances = json(&buy(&["balances", "--json"]));
    assert_eq!(balances["balances"][0]["total"], "99800.00");
    let watched = buy(&["watch", "BTC-USD", "--lines", "1"]);
    assert!(String::from_utf8(watched.stdout).unwrap().contains("bid nothing"));
}

#[test]
fn each_outcome_has_its_exit_code() {
    let node = RunningNode::start();
    open_instrument(&node);
    let (key, secret) = account(&node, &[]);
    let ask = |arguments: &[&str]| node.ask_as(&key, &secret, arguments);
    let place = ["order", "place", "BTC-USD", "buy"];
    ends_with(&ask(&[&place[..], &["1"]].concat()), 1, "--price");
    ends_with(&ask(&["order", "place", "BTC-USD", "long", "1"]), 1, "`buy` or `sell`");
    ends_with(
        &ask(&[&place[..], &["1", "--price", "1000000"]].concat()),
        2,
        "insufficient_funds",
    );
    ends_with(
        &ask(&[&place[..], &["1", "--price", "1.001"]].concat()),
        2,
        "price_off_tick",
    );
    ends_with(&ask(&["order", "show", "nobody"]), 2, "order_not_found");
    ends_with(&node.ask_as(&key, "hmac:00", &["balances"]), 1, "secret");
    ends_with(&node.ask_as("999", &secret, &["balances"]), 2, "key");
    ends_with(&ask(&["admin", "account", "create"]), 2, "scope");
    let burnt = json(&ask(&["order", "cancel", "never", "--json"]));
    assert_eq!(burnt["client_order_id_burnt"], true);
    ends_with(
        &ask(&[&place[..], &["1", "--price", "1", "--id", "never"]].concat()),
        2,
        "request_id_burnt",
    );
}

#[test]
fn a_lone_node_shows_its_group() {
    let node = RunningNode::start();
    let status = json(&node.ask(&["cluster", "status", "--json"]));
    assert_eq!((&status["node"], &status["leader"]), (&1.into(), &1.into()), "{status}");
    assert_eq!(status["members"][0]["role"], "voter");
    let shown = String::from_utf8(node.ask(&["cluster", "status"]).stdout).unwrap();
    assert!(
        shown.ends_with("The group can lose none: it has one voter.\n"),
        "{shown}"
    );
    let leads = json(&node.ask(&["cluster", "transfer-leader", "--to", "1", "--json"]));
    assert_eq!(leads["leader"], 1, "it leads already");
    ends_with(
        &node.ask(&["cluster", "add", "--node", "2", "--address", "nowhere"]),
        2,
        "host:port",
    );
    ends_with(
        &node.ask(&["cluster", "add", "--node", "0", "--address", "a:1"]),
        1,
        "--node",
    );
}
