//! The operators' requests.

use serde_json::{Value, json};

use crate::support::{limit, node, rules, send};

#[tokio::test]
async fn operators_requests_execute_once_too() {
    let node = node();
    let [key, _] = node.with_market().await;
    let deposit = json!({"account_id": "2", "asset": "USD", "amount": "5.25"});
    let first = node.operated("POST", "/v1/admin/deposits", "d-1", &deposit).await;
    assert_eq!(first["balance"]["available"], "1000005.2500");
    let again = node.operated("POST", "/v1/admin/deposits", "d-1", &deposit).await;
    assert_eq!(again["repeat"], true);
    assert_eq!(again["position"], first["position"]);
    assert_eq!(again["balance"], first["balance"]);
    let other = json!({"account_id": "2", "asset": "USD", "amount": "5.26"});
    let reused = node.operate("POST", "/v1/admin/deposits", "d-1", &other).await;
    assert_eq!((reused.status.as_u16(), reused.code()), (422, "request_id_reused"));
    let out = json!({"account_id": "2", "asset": "USD", "amount": "0.25"});
    node.operated("POST", "/v1/admin/withdrawals", "w-1", &out).await;
    let balances = node.get(&key, "/v1/balances").await;
    assert_eq!(balances.body["balances"][1]["total"], "1000005.0000");
    let seen = node.draft("GET", "/v1/admin/accounts/2/balances", "");
    let seen = send(&node.admin, node.signed(&node.operator, &seen)).await;
    assert_eq!(seen.body["balances"], balances.body["balances"]);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let node = node();
    node.with_market().await;
    let rules_with = |name: &str, value: Value| {
        let mut rules = rules();
        rules[name] = value;
        rules
    };
    let instrument = |rules: Value| json!({"symbol": "X-USD", "base": "BTC", "quote": "USD", "rules": rules});
    for (target, body, status, code) in [
        (
            "/v1/admin/assets",
            json!({"symbol": "usd", "decimals": 2}),
            400,
            "body_invalid",
        ),
        (
            "/v1/admin/assets",
            json!({"symbol": "EUR", "decimals": 13}),
            422,
            "rules_invalid",
        ),
        (
            "/v1/admin/assets",
            json!({"symbol": "EUR", "decimals": 256}),
            400,
            "body_invalid",
        ),
        (
            "/v1/admin/assets",
            json!({"symbol": "USD", "decimals": 2}),
            409,
            "symbol_taken",
        ),
        (
            "/v1/admin/instruments",
            instrument(rules_with("tick_size", json!("0"))),
            422,
            "quantity_off_lot",
        ),
        (
            "/v1/admin/instruments",
            instrument(rules_with("lot_size", json!("x"))),
            400,
            "decimal_invalid",
        ),
        (
            "/v1/admin/instruments",
            instrument(rules_with("quantity_min", json!("0.001"))),
            422,
            "quantity_off_lot",
        ),
        (
            "/v1/admin/instruments",
            instrument(rules_with("notional_min", json!("0.00001"))),
            422,
            "amount_off_unit",
        ),
        (
            "/v1/admin/instruments",
            instrument(rules_with("maker_fee_ppm", json!(-600))),
            422,
            "rules_invalid",
        ),
        (
            "/v1/admin/deposits",
            json!({"account_id": "2", "asset": "USD", "amount": "0.00001"}),
            422,
            "amount_off_unit",
        ),
        (
            "/v1/admin/deposits",
            json!({"account_id": "2", "asset": "USD", "amount": "-1"}),
            422,
            "amount_out_of_range",
        ),
        (
            "/v1/admin/deposits",
            json!({"account_id": "2", "asset": "EUR", "amount": "1"}),
            404,
            "symbol_unknown",
        ),
        (
            "/v1/admin/deposits",
            json!({"account_id": "02", "asset": "USD", "amount": "1"}),
            400,
            "body_invalid",
        ),
        (
            "/v1/admin/deposits",
            json!({"account_id": "77", "asset": "USD", "amount": "1"}),
            404,
            "account_unknown",
        ),
        ("/v1/admin/cancel-all", json!({}), 400, "fields_contradict"),
        (
            "/v1/admin/keys",
            json!({"account_id": "2", "scopes": ["read"], "type": "ed25519"}),
            400,
            "fields_contradict",
        ),
        (
            "/v1/admin/keys",
            json!({"account_id": "2", "scopes": ["read"], "type": "ed25519", "public_key": "00"}),
            400,
            "body_invalid",
        ),
        (
            "/v1/admin/keys",
            json!({"account_id": "2", "scopes": ["admin"], "type": "hmac_sha256"}),
            422,
            "key_invalid",
        ),
        (
            "/v1/admin/keys",
            json!({"account_id": "2", "scopes": ["all"], "type": "hmac_sha256"}),
            400,
            "body_invalid",
        ),
    ] {
        // The exchange's own refusals use the id up, so each row has another.
        let id = format!(
            "wrong-{}",
            body.to_string().len() * 1_000 + target.len() + usize::from(status)
        );
        let answer = node.operate("POST", target, &id, &body).await;
        let (tick_zero, known) = (body["rules"]["tick_size"] == "0", [code, "rules_invalid"]);
        if tick_zero {
            assert!(known.contains(&answer.code()), "{}", answer.body);
            continue;
        }
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (status, code),
            "{target} {body}"
        );
    }
}

#[tokio::test]
async fn an_instrument_is_halted_changed_and_closed() {
    let node = node();
    let [key, _] = node.with_market().await;
    node.place(&key, &limit("o-1", "buy", "100", "1")).await;
    let status = "/v1/admin/instruments/BTC-USD/status";
    let halted = node.operated("PUT", status, "halt", &json!({"status": "halted"})).await;
    assert_eq!(halted["instrument"]["status"], "halted");
    assert_eq!(
        node.place(&key, &limit("o-2", "buy", "100", "1")).await.code(),
        "instrument_halted"
    );
    let mut finer = rules();
    finer["tick_size"] = json!("0.1");
    let target = "/v1/admin/instruments/BTC-USD/rules";
    let refused = node.operate("PUT", target, "rules-1", &finer).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "not_halted_and_empty"));
    let cancelled = node
        .operated("POST", "/v1/admin/cancel-all", "all", &json!({"symbol": "BTC-USD"}))
        .await;
    assert_eq!(cancelled["cancelled_count"], 1);
    let changed = node.operated("PUT", target, "rules-2", &finer).await;
    assert_eq!(changed["instrument"]["rules"]["tick_size"], "0.1");
    node.operated("PUT", status, "trade", &json!({"status": "trading"}))
        .await;
    let fine = node.place(&key, &limit("o-3", "buy", "100.1", "1")).await;
    assert_eq!(fine.body["order"]["price"], "100.1");
    let old = node.get(&key, "/v1/orders/by-client-id/o-1").await;
    assert_eq!(
        old.body["price"], "100.0",
        "told in the ticks of its time: {}",
        old.body
    );
    node.operated("PUT", status, "close", &json!({"status": "closed"}))
        .await;
    assert_eq!(
        node.place(&key, &limit("o-4", "buy", "100", "1")).await.code(),
        "instrument_closed"
    );
    let closed = node.get(&key, "/v1/orders/by-client-id/o-3").await;
    assert_eq!(closed.body["close_reason"], "operator");
}

#[tokio::test]
async fn a_suspended_account_trades_no_more() {
    let node = node();
    let [key, _] = node.with_market().await;
    node.place(&key, &limit("o-1", "buy", "100", "1")).await;
    let suspended = node
        .operated(
            "PUT",
            "/v1/admin/accounts/2/status",
            "stop",
            &json!({"status": "suspended"}),
        )
        .await;
    assert_eq!(suspended["account"], json!({"account_id": "2", "status": "suspended"}));
    let refused = node.place(&key, &limit("o-2", "buy", "100", "1")).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "account_suspended"));
    assert_eq!(node.get(&key, "/v1/orders").await.body["orders"], json!([]));
}

#[tokio::test]
async fn rules_carry_their_version() {
    let node = node();
    let draft = node.draft("GET", "/v1/admin/rules", "");
    let mut rules = send(&node.admin, node.signed(&node.operator, &draft)).await.body;
    assert_eq!(rules["version"], 1);
    rules["accounts_max"] = json!(5_000);
    let stale = node.operate("PUT", "/v1/admin/rules", "r-1", &rules).await;
    assert_eq!(stale.code(), "rules_invalid");
    rules["version"] = json!(2);
    let set = node.operated("PUT", "/v1/admin/rules", "r-2", &rules).await;
    assert_eq!(set["rules"], rules);
    let lists = [
        "/v1/admin/accounts?limit=1",
        "/v1/admin/keys?limit=1",
        "/v1/admin/assets",
        "/v1/admin/instruments",
    ];
    for list in lists {
        let draft = node.draft("GET", list, "");
        assert_eq!(
            send(&node.admin, node.signed(&node.operator, &draft)).await.status,
            200,
            "{list}"
        );
    }
}
