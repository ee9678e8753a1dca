//! Who leads, who belongs to the group, and what a node says of it that does not lead.

use std::time::Duration;

use gateway::GatewayConfig;
use gateway::handle::NotAccepting;
use serde_json::{Value, json};
use wire::journal::NodeId;
use wire::membership::{ChangeRefusal, MembershipChange};

use crate::support::{Answer, Mode, Node, cluster, limit, node, node_with, send};

const MEMBERS: &str = "/v1/admin/cluster/members";
const LEADER: &str = "/v1/admin/cluster/leader";

fn in_group(leader: Option<u64>) -> Node {
    let node = node();
    node.core.join_group(leader);
    node
}

#[track_caller]
fn check_not_leader(answer: &Answer, leader: &Value) {
    assert_eq!(
        (answer.status.as_u16(), answer.code()),
        (421, "not_leader"),
        "{}",
        answer.body
    );
    assert_eq!(answer.body["outcome"], "not_executed");
    assert_eq!(answer.body["applies_to"], "attempt");
    assert_eq!(&answer.body["leader"], leader);
}

#[tokio::test]
async fn a_request_that_is_not_to_be_passed_on_is_told_who_leads() {
    let node = node();
    let [key, _] = node.with_market().await;
    let order = limit("o-1", "buy", "100", "1").to_string();
    let batch = json!({"items": [{"place": limit("o-2", "buy", "100", "1")}]}).to_string();
    let drafts = || {
        let mut place = node.draft("POST", "/v1/orders", &order);
        place.signed_id = Some("o-1".into());
        let replace = node.change_draft(
            "PATCH",
            "/v1/orders/by-client-id/o-1",
            "r-1",
            &json!({"quantity": "0.50"}),
        );
        let cancel = node.change_draft("DELETE", "/v1/orders/by-client-id/o-1", "c-1", &Value::Null);
        let all = node.change_draft("DELETE", "/v1/orders", "c-2", &Value::Null);
        let after = node.change_draft("POST", "/v1/cancel-after", "c-3", &json!({"after_ms": 5_000}));
        [
            place,
            replace,
            cancel,
            all,
            after,
            node.draft("POST", "/v1/orders/batch", &batch),
        ]
    };
    for (leader, told) in [(Some(3), json!(3)), (None, Value::Null)] {
        node.core.join_group(leader);
        // The first one is placed, so that its replacement gets as far as the core.
        for mut draft in drafts() {
            if draft.method == "PATCH" {
                node.core.join_group(Some(2));
                node.place(&key, &limit("o-1", "buy", "100", "1")).await;
                node.core.join_group(leader);
            }
            draft.forward = Some("never");
            let answer = node.call(&key, &draft).await;
            check_not_leader(&answer, &told);
            assert_eq!(
                answer.body["retry_after_ms"].is_u64(),
                leader.is_none(),
                "waiting helps if nobody leads"
            );
        }
    }
    node.core.join_group(Some(2));
    for mut draft in drafts() {
        draft.forward = Some("never");
        let answer = node.call(&key, &draft).await;
        assert!(answer.status.is_success(), "the leader takes it: {}", answer.body);
    }
    node.core.join_group(Some(3));
    let passed_on = node.place(&key, &limit("o-3", "buy", "100", "1")).await;
    assert_eq!(passed_on.status, 201, "what may be passed on is: {}", passed_on.body);
    let mut wrong = node.draft("POST", "/v1/orders", &limit("o-4", "buy", "100", "1").to_string());
    wrong.signed_id = Some("o-4".into());
    wrong.forward = Some("always");
    let answer = node.call(&key, &wrong).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, "header_invalid"));
    assert_eq!(answer.body["request_id"], "o-4");
}

#[tokio::test]
async fn what_could_not_be_passed_on_is_worth_another_try() {
    let node = node();
    let [key, _] = node.with_market().await;
    node.core.join_group(Some(3));
    for mode in [
        Mode::Refuse(NotAccepting::NotLeader),
        Mode::RefuseLater(NotAccepting::NotLeader),
    ] {
        node.core.set_mode(mode);
        let answer = node.place(&key, &limit("o-1", "buy", "100", "1")).await;
        check_not_leader(&answer, &json!(3));
        assert_eq!(answer.body["retry_after_ms"], 1_000);
    }
}

#[tokio::test]
async fn the_group_is_shown_as_far_as_the_node_knows_it() {
    let node = in_group(Some(2));
    let answer = node.administer("GET", "/v1/admin/cluster", "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let member = |node: u64, role: &str, matched: &str, lag: &str, heard: bool| {
        let address = format!("node-{node}:7414");
        json!({
            "node": node, "role": role, "address": address, "matched": matched, "lag": lag, "heard": heard,
            "engine_version_max": 2,
        })
    };
    let members = [
        // What is on its disk may be ahead of what is applied.
        member(1, "voter", "101", "0", true),
        member(2, "voter", "100", "0", true),
        member(3, "learner", "40", "60", false),
    ];
    let wanted = json!({
        "node": 2, "leader": 2, "group": 0, "epoch": 1, "term": "7", "applied": "100", "repairing": false,
        "engine_version": 1, "members": members,
    });
    assert_eq!(answer.body, wanted);

    node.core.join_group(None);
    let follower = node.administer("GET", "/v1/admin/cluster", "").await.body;
    assert_eq!(follower["leader"], Value::Null);
    for (index, heard) in [(0, Value::Null), (1, json!(true)), (2, Value::Null)] {
        let member = &follower["members"][index];
        assert_eq!((&member["heard"], &member["lag"]), (&heard, &Value::Null), "{member}");
    }
    node.core.group.lock().unwrap().status = None;
    let alone = node.administer("GET", "/v1/admin/cluster", "").await.body;
    assert_eq!(
        (&alone["leader"], &alone["members"][0]["lag"]),
        (&json!(1), &json!("0"))
    );
}

#[tokio::test]
async fn members_are_added_once() {
    let node = in_group(Some(2));
    let add = async |body: Value| node.administer("POST", MEMBERS, &body.to_string()).await;
    let taken = add(json!({"node": 4, "address": "node-4:7414", "role": "voter"})).await;
    assert_eq!((taken.status.as_u16(), &taken.body["node"]), (202, &json!(2)));
    let gateway = add(json!({"node": 5, "address": "[::1]:7414", "role": "gateway"})).await;
    assert_eq!(gateway.status, 202);
    // Node 1 is a voter and node 3 is on its way to be one.
    for node in [1, 3] {
        let there = add(json!({"node": node, "address": format!("node-{node}:7414"), "role": "voter"})).await;
        assert_eq!(there.status, 200, "{}", there.body);
    }
    let moved = add(json!({"node": 1, "address": "elsewhere:7414", "role": "voter"})).await;
    let other = add(json!({"node": 1, "address": "node-1:7414", "role": "gateway"})).await;
    assert_eq!(
        (moved.status.as_u16(), other.status.as_u16()),
        (202, 202),
        "the core decides"
    );
    let change = |node, address: &str, gateway| MembershipChange::Add {
        node: NodeId(node),
        address: address.into(),
        gateway,
    };
    let wanted = [
        change(4, "node-4:7414", false),
        change(5, "[::1]:7414", true),
        change(1, "elsewhere:7414", false),
        change(1, "node-1:7414", true),
    ];
    assert_eq!(node.core.group.lock().unwrap().changes, wanted);
}

#[tokio::test]
async fn what_can_not_be_a_member_is_refused_before_the_core_hears_of_it() {
    let node = in_group(Some(2));
    let long = format!("{}:1", "x".repeat(254));
    for (body, status, code) in [
        (
            json!({"node": 0, "address": "a:1", "role": "voter"}),
            400,
            "body_invalid",
        ),
        (json!({"node": 4, "address": "a", "role": "voter"}), 400, "body_invalid"),
        (
            json!({"node": 4, "address": ":1", "role": "voter"}),
            400,
            "body_invalid",
        ),
        (
            json!({"node": 4, "address": "a:0", "role": "voter"}),
            400,
            "body_invalid",
        ),
        (
            json!({"node": 4, "address": "a:65536", "role": "voter"}),
            400,
            "body_invalid",
        ),
        (
            json!({"node": 4, "address": "http://a:1", "role": "voter"}),
            400,
            "body_invalid",
        ),
        (
            json!({"node": 4, "address": "a b:1", "role": "voter"}),
            400,
            "body_invalid",
        ),
        (
            json!({"node": 4, "address": "a:1", "role": "learner"}),
            400,
            "body_invalid",
        ),
        (
            json!({"node": 4, "address": long, "role": "voter"}),
            422,
            "address_too_long",
        ),
    ] {
        let answer = node.administer("POST", MEMBERS, &body.to_string()).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{body}");
    }
    for path in ["0", "x", "01", "-1"] {
        let answer = node.administer("DELETE", &format!("{MEMBERS}/{path}"), "").await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "path_invalid"), "{path}");
    }
    let body = json!({"node": 4, "address": "a:1", "role": "voter"}).to_string();
    let [trader, _] = node.with_market().await;
    let draft = node.draft("POST", MEMBERS, &body);
    let trader = send(&node.admin, node.signed(&trader, &draft)).await;
    assert_eq!(trader.code(), "scope_missing");
    assert!(node.core.group.lock().unwrap().changes.is_empty());
}

/// The requests that only the leader takes.
fn changes() -> [(&'static str, String, String); 3] {
    let add = json!({"node": 4, "address": "a:1", "role": "voter"}).to_string();
    [
        ("POST", MEMBERS.to_owned(), add),
        ("DELETE", format!("{MEMBERS}/1"), String::new()),
        ("POST", LEADER.to_owned(), json!({"to": 1}).to_string()),
    ]
}

#[tokio::test]
async fn who_does_not_lead_says_who_does() {
    let node = in_group(Some(3));
    for (method, target, body) in changes() {
        let answer = node.administer(method, &target, &body).await;
        check_not_leader(&answer, &json!(3));
        assert_eq!(answer.body["detail"], "Node 3 leads.");
        assert_eq!(answer.body["retry_after_ms"], Value::Null);
    }
    let already = node.administer("POST", LEADER, &json!({"to": 3}).to_string()).await;
    assert_eq!(already.status, 200, "{}", already.body);
    node.core.join_group(None);
    for (method, target, body) in changes() {
        check_not_leader(&node.administer(method, &target, &body).await, &Value::Null);
    }
    let group = node.core.group.lock().unwrap();
    assert!(group.changes.is_empty() && group.transfers.is_empty());
}

#[tokio::test]
async fn each_refusal_of_the_core_has_its_code() {
    let node = in_group(Some(2));
    for (refusal, status, code) in [
        (ChangeRefusal::NotLeader, 421, "not_leader"),
        (ChangeRefusal::UnderWay, 409, "change_under_way"),
        (ChangeRefusal::Unknown, 404, "unknown_member"),
        (ChangeRefusal::OtherRole, 409, "other_role"),
        (ChangeRefusal::IsLeader, 409, "is_leader"),
        (ChangeRefusal::TooMuch, 422, "too_many_members"),
        (ChangeRefusal::NoQuorum, 409, "no_quorum"),
    ] {
        node.core.group.lock().unwrap().refuses = Some(refusal);
        for (method, target, body) in changes() {
            let answer = node.administer(method, &target, &body).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{target}");
            assert_eq!(answer.body["outcome"], "not_executed");
        }
    }
}

#[tokio::test]
async fn a_change_without_an_answer_is_of_unknown_outcome() {
    let mut config = GatewayConfig::new(cluster());
    config.answer_timeout = Duration::from_millis(20);
    let node = node_with(config);
    node.core.join_group(Some(2));
    node.core.group.lock().unwrap().mute = true;
    let answer = node.administer("DELETE", &format!("{MEMBERS}/1"), "").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (504, "outcome_unknown"));
    assert_eq!(answer.body["outcome"], "unknown");
}

#[tokio::test]
async fn leadership_is_handed_over() {
    let node = in_group(Some(2));
    for body in [json!({"to": 1}), json!({"to": null}), json!({})] {
        let answer = node.administer("POST", LEADER, &body.to_string()).await;
        assert_eq!(answer.status, 202, "{body}: {}", answer.body);
    }
    let itself = node.administer("POST", LEADER, &json!({"to": 2}).to_string()).await;
    assert_eq!(itself.status, 200);
    let removed = node.administer("DELETE", &format!("{MEMBERS}/1"), "").await;
    assert_eq!(removed.status, 202);
    let group = node.core.group.lock().unwrap();
    assert_eq!(group.transfers, [Some(NodeId(1)), None, None]);
    assert_eq!(group.changes, [MembershipChange::Remove(NodeId(1))]);
}
