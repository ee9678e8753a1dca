//! Orders: taken, refused, repeated, changed, cancelled.

use gateway::handle::NotAccepting;
use serde_json::{Value, json};

use crate::support::{Mode, Node, TestKey, limit, node};

async fn market() -> (Node, TestKey, TestKey) {
    let node = node();
    let [a, b] = node.with_market().await;
    (node, a, b)
}

#[tokio::test]
async fn an_order_is_answered_with_its_place_its_times_and_its_fills() {
    let (node, maker, taker) = market().await;
    let placed = node.place(&maker, &limit("m-1", "sell", "100.50", "0.30")).await;
    assert_eq!(placed.status, 201, "{}", placed.body);
    let body = &placed.body;
    assert_eq!(body["outcome"], "executed");
    assert_eq!(body["applies_to"], "order");
    assert_eq!(body["repeat"], false);
    assert_eq!(body["durable_in"], "region");
    assert_eq!(body["fills"], json!([]));
    let order = &body["order"];
    assert_eq!(order["status"], "open");
    assert_eq!(order["price"], "100.5");
    assert_eq!(order["quantity"], "0.30");
    assert_eq!(order["filled_quantity"], "0.00");
    assert_eq!(order["time_in_force"], "gtc");
    let position = &body["position"];
    let sequence = position["sequence"].as_str().unwrap();
    assert_eq!(order["order_id"], format!("0.1.{sequence}"));
    for time in ["received_at", "sequenced_at", "committed_at", "clock_error_bound_ns"] {
        assert!(body["times"][time].is_string(), "{time}");
    }

    let taken = node.place(&taker, &limit("t-1", "buy", "101", "0.10")).await;
    assert_eq!(taken.status, 201);
    assert_eq!(taken.body["order"]["status"], "filled");
    assert_eq!(taken.body["order"]["filled_notional"], "10.0500");
    let fill = &taken.body["fills"][0];
    assert_eq!(fill["price"], "100.5");
    assert_eq!(fill["quantity"], "0.10");
    assert_eq!(fill["role"], "taker");
    assert_eq!(fill["fee"], "0.0051");
    assert_eq!(fill["fee_asset"], "USD");

    let rest = node
        .place(
            &taker,
            &json!({
                "client_order_id": "t-2", "symbol": "BTC-USD", "side": "buy", "type": "market", "quantity": "1",
            }),
        )
        .await;
    assert_eq!(rest.body["order"]["status"], "cancelled", "{}", rest.body);
    assert_eq!(rest.body["order"]["close_reason"], "unfilled");
    assert_eq!(rest.body["order"]["filled_quantity"], "0.20");
    assert_eq!(rest.body["cancelled_quantity"], "0.80");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let (node, key, _) = market().await;
    let with = |name: &str, value: Value| {
        let mut order = limit("x-1", "buy", "100.0", "0.10");
        order[name] = value;
        order
    };
    let without = |name: &str| {
        let mut order = limit("x-1", "buy", "100.0", "0.10");
        order.as_object_mut().unwrap().remove(name);
        order
    };
    for (order, status, code) in [
        (with("price", json!("100.25")), 422, "price_off_tick"),
        (with("price", json!("1e2")), 400, "decimal_invalid"),
        (with("price", json!("")), 400, "decimal_invalid"),
        (with("price", json!("0.0000000000000000001")), 400, "decimal_invalid"),
        (with("price", json!(100)), 400, "body_invalid"),
        (with("price", json!(100.5)), 400, "body_invalid"),
        (with("quantity", json!("0.005")), 422, "quantity_off_lot"),
        (with("quantity", json!("99999999999999999999")), 400, "decimal_invalid"),
        (with("symbol", json!("ETH-USD")), 404, "symbol_unknown"),
        (with("symbol", json!("btc-usd")), 404, "symbol_unknown"),
        (with("side", json!("Buy")), 400, "body_invalid"),
        (with("unknown", json!(1)), 400, "body_invalid"),
        (with("client_order_id", json!("")), 400, "request_id_invalid"),
        (with("client_order_id", json!("a b")), 400, "request_id_invalid"),
        (with("time_in_force", json!("gtd")), 400, "fields_contradict"),
        (with("expires_at", json!("1")), 400, "fields_contradict"),
        (with("type", json!("market")), 400, "fields_contradict"),
        (with("valid_until", json!("01")), 400, "number_invalid"),
        (without("price"), 400, "fields_contradict"),
        (without("quantity"), 400, "body_invalid"),
        (without("side"), 400, "body_invalid"),
        (without("client_order_id"), 400, "body_invalid"),
    ] {
        let answer = node.place(&key, &order).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{order}");
        assert_eq!(answer.body["applies_to"], "attempt", "{order}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    // None of those used the id up.
    let taken = node.place(&key, &limit("x-1", "buy", "100.0", "0.10")).await;
    assert_eq!(taken.status, 201);
}

#[tokio::test]
async fn bodies_are_one_json_object_with_each_key_once() {
    let (node, key, _) = market().await;
    let good = limit("x-1", "buy", "100.0", "0.10").to_string();
    for body in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        r#"["x-1","BTC-USD","buy","limit",null,null,"100.0","0.10",false,null,null,false]"#.to_owned(),
        "null".to_owned(),
        format!("{good}{good}"),
        format!("{good} x"),
        good.replacen('{', "{\"side\":\"buy\",", 1),
        good.replacen("\"side\"", "\"si\\u0064e\":\"sell\",\"side\"", 1),
        "[".repeat(10_000),
        "\u{feff}".to_owned() + &good,
    ] {
        let mut draft = node.draft("POST", "/v1/orders", &body);
        draft.signed_id = Some("x-1".to_owned());
        let answer = node.call(&key, &draft).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (400, "body_invalid"),
            "{body:.60}"
        );
    }
    let draft = node.draft("POST", "/v1/orders", &" ".repeat(70_000));
    let answer = node.call(&key, &draft).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (413, "body_too_large"));
}

#[tokio::test]
async fn what_the_exchange_refuses_is_final() {
    let (node, key, _) = market().await;
    for (id, price, quantity, status, code) in [
        ("r-1", "100", "1000", 422, "quantity_too_large"),
        ("r-2", "0.5", "0.01", 422, "notional_too_small"),
        ("r-3", "100000", "99", 422, "insufficient_funds"),
        ("r-4", "0", "1", 422, "price_out_of_range"),
        ("r-5", "-1", "1", 422, "price_out_of_range"),
    ] {
        let answer = node.place(&key, &limit(id, "buy", price, quantity)).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{id}");
        assert_eq!(answer.body["applies_to"], "order");
        assert_eq!(answer.body["request_id"], id);
        assert!(answer.body["position"]["sequence"].is_string());
        let again = node.place(&key, &limit(id, "buy", price, quantity)).await;
        assert_eq!((again.status.as_u16(), again.code()), (status, code), "{id}");
        assert_eq!(again.body["repeat"], true);
        assert_eq!(again.body["position"], answer.body["position"]);
        assert_eq!(again.body["times"], answer.body["times"]);
    }
}

#[tokio::test]
async fn the_same_request_again_gets_the_first_answer_and_the_order_as_it_is_now() {
    let (node, maker, taker) = market().await;
    let order = limit("m-1", "sell", "100", "0.30");
    let first = node.place(&maker, &order).await;
    node.core.advance_ms(1_000);
    let again = node.place(&maker, &order).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.body["repeat"], true);
    for part in ["position", "times", "fills", "order", "durable_in"] {
        assert_eq!(again.body[part], first.body[part], "{part}");
    }
    let other = node.place(&maker, &limit("m-1", "sell", "100", "0.31")).await;
    assert_eq!((other.status.as_u16(), other.code()), (422, "request_id_reused"));
    assert_eq!(other.body["applies_to"], "attempt");

    node.place(&taker, &limit("t-1", "buy", "100", "0.10")).await;
    let partly = node.place(&maker, &order).await;
    assert_eq!(partly.body["order"]["filled_quantity"], "0.10");
    assert_eq!(partly.body["fills"], json!([]), "the first answer had none");
    node.place(&taker, &limit("t-2", "buy", "100", "0.20")).await;
    let whole = node.place(&maker, &order).await;
    assert_eq!(whole.body["order"]["status"], "filled");
    assert_eq!(whole.body["position"], first.body["position"]);
    let taken = node.place(&taker, &limit("t-1", "buy", "100", "0.10")).await;
    assert_eq!(
        taken.body["fills"].as_array().map(Vec::len),
        Some(1),
        "a taker's fills are told again"
    );

    let cancelled = limit("m-2", "sell", "200", "0.10");
    node.place(&maker, &cancelled).await;
    node.change(&maker, "DELETE", "/v1/orders/by-client-id/m-2", "c-1", &Value::Null)
        .await;
    let now = node.place(&maker, &cancelled).await;
    assert_eq!(now.body["order"]["status"], "cancelled");
    assert_eq!(now.body["order"]["close_reason"], "requested");
}

#[tokio::test]
async fn an_unanswered_request_is_unknown_and_executes_once() {
    let (node, key, _) = market().await;
    let order = limit("u-1", "buy", "100", "0.10");
    node.core.set_mode(Mode::Mute);
    let unknown = node.place(&key, &order).await;
    assert_eq!((unknown.status.as_u16(), unknown.code()), (504, "outcome_unknown"));
    assert_eq!(unknown.body["outcome"], "unknown");
    assert_eq!(unknown.body["request_id"], "u-1");
    node.core.set_mode(Mode::Execute);
    let known = node.place(&key, &order).await;
    assert_eq!((known.status.as_u16(), &known.body["repeat"]), (200, &json!(true)));
    assert_eq!(
        node.get(&key, "/v1/orders").await.body["orders"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_core_that_takes_nothing_says_why() {
    let (node, key, _) = market().await;
    let order = limit("n-1", "buy", "100", "0.10");
    node.core.set_mode(Mode::Busy);
    let busy = node.place(&key, &order).await;
    assert_eq!((busy.status.as_u16(), busy.code()), (503, "busy"));
    assert_eq!(busy.body["retry_after_ms"], 20);
    assert_eq!(busy.headers["retry-after"], "1");
    let batch = json!({"items": [{"place": order}]});
    for reason in NotAccepting::ALL {
        // Refused at once, or when it was queued already: the client is told the same.
        for mode in [Mode::Refuse(reason), Mode::RefuseLater(reason)] {
            node.core.set_mode(mode);
            let answer = node.place(&key, &order).await;
            let status = if reason == NotAccepting::NotLeader { 421 } else { 503 };
            assert_eq!(answer.status, status, "{reason}");
            assert_eq!(answer.body["title"], reason.sentence());
            assert_eq!(answer.body["outcome"], "not_executed");
            assert_eq!(answer.body["applies_to"], "attempt");
            assert!(answer.headers.contains_key("retry-after"));
            let answers = node
                .call(&key, &node.draft("POST", "/v1/orders/batch", &batch.to_string()))
                .await;
            let problem = &answers.body["items"][0]["problem"];
            assert_eq!(problem["title"], reason.sentence(), "{}", answers.body);
            assert_eq!(problem["applies_to"], "attempt");
        }
    }
    node.core.set_mode(Mode::Execute);
    assert_eq!(node.place(&key, &order).await.status, 201, "the id was not used up");
}

#[tokio::test]
async fn orders_are_changed_and_cancelled() {
    let (node, key, other) = market().await;
    let placed = node.place(&key, &limit("o-1", "buy", "100", "1")).await;
    let order_id = placed.body["order"]["order_id"].as_str().unwrap().to_owned();
    let target = format!("/v1/orders/{order_id}");
    let smaller = json!({"quantity": "0.5"});
    let changed = node.change(&key, "PATCH", &target, "p-1", &smaller).await;
    assert_eq!(
        (changed.status.as_u16(), &changed.body["priority_kept"]),
        (200, &json!(true)),
        "{}",
        changed.body
    );
    assert_eq!(changed.body["order"]["quantity"], "0.50");
    let again = node.change(&key, "PATCH", &target, "p-1", &smaller).await;
    assert_eq!(again.body["repeat"], true);
    let dearer = node
        .change(
            &key,
            "PATCH",
            "/v1/orders/by-client-id/o-1",
            "p-2",
            &json!({"price": "101"}),
        )
        .await;
    assert_eq!(dearer.body["priority_kept"], false, "{}", dearer.body);
    assert_eq!(dearer.body["order"]["price"], "101.0");
    let off = node
        .change(&key, "PATCH", &target, "p-3", &json!({"price": "101.1"}))
        .await;
    assert_eq!(off.code(), "price_off_tick");
    let not_theirs = node.change(&other, "PATCH", &target, "p-1", &smaller).await;
    assert_eq!(not_theirs.code(), "order_not_found");
    let no_id = node.call(&key, &node.draft("DELETE", &target, "")).await;
    assert_eq!((no_id.status.as_u16(), no_id.code()), (400, "request_id_missing"));

    let cancelled = node.change(&key, "DELETE", &target, "c-1", &Value::Null).await;
    assert_eq!(cancelled.body["order"]["status"], "cancelled", "{}", cancelled.body);
    assert_eq!(cancelled.body["cancelled_quantity"], "0.50");
    let again = node.change(&key, "DELETE", &target, "c-1", &Value::Null).await;
    assert_eq!((again.status.as_u16(), &again.body["repeat"]), (200, &json!(true)));
    let twice = node.change(&key, "DELETE", &target, "c-2", &Value::Null).await;
    assert_eq!(
        (twice.status.as_u16(), twice.code()),
        (409, "order_closed"),
        "{}",
        twice.body
    );
    let replaced = node.change(&key, "PATCH", &target, "p-1", &smaller).await;
    assert_eq!(replaced.body["repeat"], true, "{}", replaced.body);
    assert_eq!(replaced.body["order"]["status"], "cancelled");
}

#[tokio::test]
async fn cancelling_an_unknown_client_id_burns_it() {
    let (node, key, _) = market().await;
    let target = "/v1/orders/by-client-id/late";
    let burnt = node.change(&key, "DELETE", target, "c-1", &Value::Null).await;
    assert_eq!(burnt.status, 200, "{}", burnt.body);
    assert_eq!(burnt.body["client_order_id_burnt"], true);
    assert_eq!(burnt.body["order"], Value::Null);
    let late = node.place(&key, &limit("late", "buy", "100", "0.1")).await;
    assert_eq!((late.status.as_u16(), late.code()), (409, "request_id_burnt"));
    assert_eq!(late.body["applies_to"], "order");
}

#[tokio::test]
async fn all_orders_are_cancelled_at_once_or_at_a_deadline() {
    let (node, key, _) = market().await;
    for index in 0..3 {
        node.place(&key, &limit(&format!("o-{index}"), "buy", "100", "0.1"))
            .await;
    }
    let all = node
        .change(&key, "DELETE", "/v1/orders?symbol=BTC-USD", "all", &Value::Null)
        .await;
    assert_eq!(all.body["count"], 3, "{}", all.body);
    assert_eq!(all.body["order_ids"].as_array().unwrap().len(), 3);
    let again = node
        .change(&key, "DELETE", "/v1/orders?symbol=BTC-USD", "all", &Value::Null)
        .await;
    assert_eq!((&again.body["count"], &again.body["repeat"]), (&json!(3), &json!(true)));

    let body = json!({"after_ms": 1_000});
    let set = node.change(&key, "POST", "/v1/cancel-after", "dead", &body).await;
    assert_eq!(set.status, 200, "{}", set.body);
    assert_eq!(set.body["deadline"], "1790000001000000000");
    let off = node
        .change(&key, "POST", "/v1/cancel-after", "off", &json!({"after_ms": 0}))
        .await;
    assert_eq!(off.body["deadline"], Value::Null);
    let far = node
        .change(&key, "POST", "/v1/cancel-after", "far", &json!({"after_ms": u64::MAX}))
        .await;
    assert_eq!((far.status.as_u16(), far.code()), (422, "deadline_too_far"));
}

#[tokio::test]
async fn a_batch_has_an_outcome_for_each_item() {
    let (node, key, _) = market().await;
    let body = json!({"items": [
        {"place": limit("b-1", "buy", "100", "0.1")},
        {"place": limit("b-2", "buy", "100.1", "0.1")},
        {"place": limit("b-3", "buy", "100", "9999")},
        {"cancel": {"request_id": "b-4", "client_order_id": "b-1"}},
        {"cancel": {"request_id": "b-5"}},
        {},
    ]});
    let answer = node
        .call(&key, &node.draft("POST", "/v1/orders/batch", &body.to_string()))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let statuses: Vec<_> = answer.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            let code = item["problem"]["code"].as_str().or(item["answer"]["outcome"].as_str());
            (item["status"].as_u64().unwrap(), code.unwrap().to_owned())
        })
        .collect();
    let expected = [
        (201, "executed"),
        (422, "price_off_tick"),
        (422, "quantity_too_large"),
        (200, "executed"),
        (400, "fields_contradict"),
        (400, "fields_contradict"),
    ];
    assert_eq!(statuses, expected.map(|(status, code)| (status, code.to_owned())));
    assert_eq!(answer.body["items"][1]["problem"]["request_id"], "b-2");
    let again = node
        .call(&key, &node.draft("POST", "/v1/orders/batch", &body.to_string()))
        .await;
    assert_eq!(again.body["items"][0]["answer"]["repeat"], true);
    assert_eq!(again.body["items"][0]["status"], 200);
    assert_eq!(again.body["items"][0]["answer"]["order"]["status"], "cancelled");
    for items in [json!([]), Value::Array(vec![json!({}); 101])] {
        let draft = node.draft("POST", "/v1/orders/batch", &json!({"items": items}).to_string());
        assert_eq!(node.call(&key, &draft).await.code(), "body_invalid");
    }
}

#[tokio::test]
async fn validation_executes_nothing() {
    let (node, key, _) = market().await;
    let with = |name: &str, value: Value| {
        let mut order = limit("v-1", "buy", "100.0", "0.10");
        order["validate_only"] = json!(true);
        order[name] = value;
        order
    };
    let good = node.place(&key, &with("side", json!("buy"))).await;
    assert_eq!(
        (good.status.as_u16(), &good.body["valid"]),
        (200, &json!(true)),
        "{}",
        good.body
    );
    assert_eq!(good.body["outcome"], "not_executed");
    assert_eq!(good.body["notional"], "10.0000");
    for (order, code) in [
        (with("quantity", json!("101")), "quantity_too_large"),
        (with("price", json!("0.5")), "notional_too_small"),
        (with("price", json!("90000000")), "insufficient_funds"),
        (with("price", json!("9000000000")), "notional_too_large"),
        (with("valid_until", json!("1")), "valid_until_passed"),
        (with("price", json!("100.1")), "price_off_tick"),
    ] {
        let answer = node.place(&key, &order).await;
        assert_eq!(
            (answer.code(), &answer.body["applies_to"]),
            (code, &json!("attempt")),
            "{order}"
        );
        assert_eq!(answer.body["position"], Value::Null);
    }
    assert_eq!(node.get(&key, "/v1/orders").await.body["orders"], json!([]));
    let placed = node.place(&key, &limit("v-1", "buy", "100.0", "0.10")).await;
    assert_eq!(placed.status, 201, "the id was not used up");
}
