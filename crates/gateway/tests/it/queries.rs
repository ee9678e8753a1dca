//! Lists, books, balances.

use serde_json::{Value, json};

use crate::support::{Answer, Node, TestKey, limit, node, send};

async fn public(node: &Node, target: &str) -> Answer {
    let request = http::Request::builder().uri(target).body(axum::body::Body::empty());
    send(&node.public, request.unwrap()).await
}

/// Follows the cursors of a list, and says each page's ids.
async fn pages(node: &Node, key: &TestKey, target: &str, list: &str, id: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = node.get(key, &format!("{target}{cursor}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let items = answer.body[list].as_array().unwrap();
        pages.push(items.iter().map(|item| item[id].as_str().unwrap().to_owned()).collect());
        match answer.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn lists_are_paged_by_cursor() {
    let node = node();
    let [maker, taker] = node.with_market().await;
    for index in 0..5 {
        node.place(&maker, &limit(&format!("m-{index}"), "sell", "100", "0.10"))
            .await;
    }
    let open = pages(&node, &maker, "/v1/orders?limit=2", "orders", "client_order_id").await;
    assert_eq!(open, [vec!["m-0", "m-1"], vec!["m-2", "m-3"], vec!["m-4"]]);
    assert_eq!(
        pages(&node, &maker, "/v1/orders?limit=5", "orders", "client_order_id")
            .await
            .len(),
        1
    );

    node.place(&taker, &limit("t-1", "buy", "100", "0.30")).await;
    node.place(&taker, &limit("t-2", "buy", "100", "0.20")).await;
    let fills = pages(&node, &maker, "/v1/fills?limit=2", "fills", "client_order_id").await;
    assert_eq!(fills, [vec!["m-4", "m-3"], vec!["m-2", "m-1"], vec!["m-0"]]);
    let trades = pages(
        &node,
        &maker,
        "/v1/instruments/BTC-USD/trades?limit=3",
        "trades",
        "fill_id",
    )
    .await;
    let counts: Vec<usize> = trades.iter().map(Vec::len).collect();
    assert_eq!(counts, [3, 2]);
    for wrong in ["cursor=x", "cursor=0.1", "limit=0", "limit=501", "depth=5"] {
        let answer = node.get(&maker, &format!("/v1/fills?{wrong}")).await;
        let code = if wrong.starts_with("cursor") {
            "cursor_invalid"
        } else {
            "query_invalid"
        };
        assert_eq!((answer.status.as_u16(), answer.code()), (400, code), "{wrong}");
    }
}

#[tokio::test]
async fn an_order_is_found_open_and_closed() {
    let node = node();
    let [key, other] = node.with_market().await;
    let placed = node.place(&key, &limit("o-1", "sell", "100", "0.10")).await;
    let order_id = placed.body["order"]["order_id"].as_str().unwrap();
    let by_id = format!("/v1/orders/{order_id}");
    for target in [&*by_id, "/v1/orders/by-client-id/o-1"] {
        assert_eq!(node.get(&key, target).await.body, placed.body["order"]);
        assert_eq!(
            node.get(&other, target).await.code(),
            "order_not_found",
            "another account's"
        );
    }
    node.place(&other, &limit("t-1", "buy", "100", "0.10")).await;
    for target in [&*by_id, "/v1/orders/by-client-id/o-1"] {
        let found = node.get(&key, target).await;
        assert_eq!(found.body["status"], "filled", "{}", found.body);
        assert_eq!(found.body["filled_notional"], "10.0000");
    }
    for wrong in ["/v1/orders/1", "/v1/orders/0.1.02", "/v1/orders/by-client-id/%20"] {
        let answer = node.get(&key, wrong).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (400, "path_invalid"),
            "{wrong}"
        );
    }
    assert_eq!(node.get(&key, "/v1/orders/0.1.99999").await.code(), "order_not_found");
}

#[tokio::test]
async fn the_book_and_the_balances_follow_at_once() {
    let node = node();
    let [key, _] = node.with_market().await;
    let placed = node.place(&key, &limit("o-1", "buy", "100", "1")).await;
    node.place(&key, &limit("o-2", "buy", "99.5", "2")).await;
    node.place(&key, &limit("o-3", "sell", "101", "3")).await;
    let book = public(&node, "/v1/instruments/BTC-USD/book?depth=1").await;
    assert_eq!(
        book.body["bids"],
        json!([{"price": "100.0", "quantity": "1.00", "orders": 1}])
    );
    assert_eq!(
        book.body["asks"],
        json!([{"price": "101.0", "quantity": "3.00", "orders": 1}])
    );
    assert!(book.body["position"]["sequence"].is_string());
    let balances = node.get(&key, "/v1/balances").await;
    assert_eq!(
        balances.body["balances"][0],
        json!({
            "asset": "BTC", "available": "7.00000000", "held": "3.00000000", "total": "10.00000000",
        })
    );
    assert_eq!(placed.body["order"]["status"], "open");
    for (target, status) in [
        ("/v1/instruments/BTC-USD/book?depth=0", 400),
        ("/v1/instruments/BTC-USD/book?depth=1001", 400),
        ("/v1/instruments/XYZ/book", 404),
        ("/v1/instruments/XYZ", 404),
        ("/v1/instruments/XYZ/trades", 404),
    ] {
        assert_eq!(public(&node, target).await.status, status, "{target}");
    }
}

#[tokio::test]
async fn a_query_waits_for_the_callers_own_writes() {
    let node = node();
    let [key, _] = node.with_market().await;
    node.core.withhold.store(true, std::sync::atomic::Ordering::SeqCst);
    node.place(&key, &limit("o-1", "buy", "100", "1")).await;
    let query = node.get(&key, "/v1/orders");
    let release = async {
        tokio::task::yield_now().await;
        node.core.release();
    };
    let (answer, ()) = tokio::join!(query, release);
    assert_eq!(
        answer.body["orders"].as_array().map(Vec::len),
        Some(1),
        "{}",
        answer.body
    );
}

#[tokio::test]
async fn time_and_instruments_need_no_signature() {
    let node = node();
    node.with_market().await;
    let time = public(&node, "/v1/time").await;
    assert_eq!(time.body["cluster_id"], "test");
    assert_eq!(time.body["now"], "1790000000000000000");
    let list = public(&node, "/v1/instruments").await;
    let one = public(&node, "/v1/instruments/BTC-USD").await;
    assert_eq!(list.body["instruments"], json!([one.body]));
    assert_eq!(one.body["rules"]["tick_size"], "0.5");
    assert_eq!(one.body["rules"]["notional_max"], "10000000.0000");
    assert_eq!(list.body["next_cursor"], Value::Null);
    for (method, target, status, code) in [
        ("GET", "/v1/nothing", 404, "route_unknown"),
        ("POST", "/v1/time", 405, "method_unsupported"),
        ("GET", "/v1/time?x=1", 400, "query_invalid"),
        ("GET", "/v1/ws", 400, "upgrade_invalid"),
        ("GET", "/v1/orders", 401, "auth_header_missing"),
        ("GET", "/v1/admin/assets", 404, "route_unknown"),
    ] {
        let request = http::Request::builder().method(method).uri(target);
        let answer = send(&node.public, request.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{target}");
    }
}
