//! WebSocket sessions, over a real socket.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use gateway::rate_limits::BucketConfig;
use gateway::sealing::SealingKey;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use types::{AccountId, Action, KeyId, KeyMaterial, NewKey, Scopes, Sequence};
use wire::signing::{login_text, to_hex};

use crate::live::{Client, Live, cluster, order};
use crate::world::ADMIN;

#[tokio::test]
async fn a_session_logs_in_once_by_its_own_nonce() {
    let live = Live::start(21).await;
    let mut client = live.connect().await;
    let refused = client.ask("place", order("a", "buy", "100.00", "1")).await;
    assert_eq!(refused["problem"]["code"], "login_required");
    assert_eq!(refused["problem"]["outcome"], "not_executed");
    assert_eq!(
        client.ask("subscribe", json!({"channel": "orders"})).await["problem"]["code"],
        "login_required"
    );

    let other = live.connect().await;
    let nonce = std::mem::replace(&mut client.nonce, other.nonce.clone());
    assert_eq!(client.log_in(2).await["problem"]["code"], "signature_wrong");
    client.nonce = nonce;
    for login in [
        json!({"key": "2", "signature": "zz"}),
        json!({"key": "2", "signature": ""}),
        json!({"key": "99", "signature": "00"}),
        json!({"key": "02", "signature": "00"}),
    ] {
        assert_eq!(client.ask("login", login.clone()).await["status"], 401, "{login}");
    }
    let reply = client.log_in(2).await;
    assert_eq!(
        reply["session"],
        json!({"key": "2", "account_id": "2", "scopes": ["read", "trade"]})
    );
    assert_eq!(client.log_in(2).await["problem"]["code"], "login_repeated");
    assert_eq!(client.place("a", "buy", "100.00", "1").await["status"], 201);
}

#[tokio::test]
async fn a_repeat_is_answered_at_once_and_a_goodbye_too() {
    let live = Live::start(23).await;
    let mut client = live.trader(2).await;
    let first = client.place("a", "buy", "100.00", "1").await;
    let started = Instant::now();
    for _ in 0..10 {
        let again = client.place("a", "buy", "100.00", "1").await;
        assert_eq!(again["order"]["repeat"], true, "{again}");
        assert_eq!(again["order"]["position"], first["order"]["position"]);
    }
    // A session looks around every half second, and each of them would have waited for that.
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(client.close().await);
}

#[tokio::test]
async fn a_secret_that_was_sealed_logs_in_too() {
    let live = Live::start(22).await;
    let secret = SealingKey::generate_secret().unwrap();
    let sealed = live.sealing.seal(&secret).unwrap();
    let new_key = NewKey {
        account: AccountId(3),
        scopes: Scopes::READ,
        material: KeyMaterial::HmacSha256 { sealed },
    };
    admin(&live, Action::CreateKey(new_key));
    let mut client = live.connect().await;
    let text = login_text(&cluster(), KeyId(6), &client.nonce);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret());
    let signature = to_hex(hmac::sign(&secret, text.as_bytes()).as_ref());
    let reply = client.ask("login", json!({"key": "6", "signature": signature})).await;
    assert_eq!(reply["session"]["account_id"], "3", "{reply}");
    assert_eq!(
        client.place("a", "buy", "100.00", "1").await["problem"]["code"],
        "scope_missing"
    );
}

fn admin(live: &Live, action: Action) {
    let mut world = live.core.world.lock().unwrap();
    let command = world.command(AccountId::OPERATOR, ADMIN, action);
    live.core.execute(&mut world, &[command]);
}

#[tokio::test]
async fn what_is_no_message_is_told_and_the_session_goes_on() {
    let live = Live::start(23).await;
    let mut client = live.connect().await;
    for text in [
        "",
        "{",
        "[]",
        r#"[5,{"key":"1","signature":"00"},null,null,null,null,null,null,null,null]"#,
        "null",
        r#"{"id":"1"}"#,
        r#"{"place":{}}"#,
        "\u{0}",
        r#"{"id":9007199254740992}"#,
    ] {
        client.send_text(text).await;
        assert_eq!(client.next().await["problem"]["code"], "message_invalid", "{text}");
    }
    for text in [
        r#"{"id":5}"#,
        r#"{"id":5,"trade":{}}"#,
        r#"{"id":5,"place":{"client_order_id":"a"}}"#,
        r#"{"id":5,"unsubscribe":{"channel":"fills"},"cancel_all":{"request_id":"r"}}"#,
        r#"{"id":5,"subscribe":{"channel":"candles"}}"#,
        r#"{"id":5,"subscribe":{"channel":"book","symbol":"BTC-USD","symbol":"ETH-USD"}}"#,
    ] {
        client.send_text(text).await;
        let reply = client.reply(5).await;
        assert_eq!(reply["problem"]["code"], "message_invalid", "{text}");
    }
    let missing = client.ask("subscribe", json!({"channel": "book"})).await;
    assert_eq!(missing["problem"]["code"], "fields_contradict");
    let unknown = client
        .ask("subscribe", json!({"channel": "book", "symbol": "XRP-USD"}))
        .await;
    assert_eq!(unknown["problem"]["code"], "symbol_unknown");
    let none = client
        .ask("unsubscribe", json!({"channel": "book", "symbol": "BTC-USD"}))
        .await;
    assert_eq!(none["status"], 404);
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_session() {
    let live = Live::start(24).await;
    let mut client = live.connect().await;
    client.send_text("x".repeat(70_000)).await;
    assert_eq!(client.next().await["problem"]["code"], "body_too_large");
    assert_eq!(client.closed().await, 1009);
}

#[tokio::test]
async fn orders_go_their_whole_way() {
    let live = Live::start(25).await;
    let mut maker = live.trader(2).await;
    let mut taker = live.trader(3).await;
    for channel in ["orders", "fills", "balances"] {
        let reply = taker.ask("subscribe", json!({"channel": channel})).await;
        assert_eq!(reply["subscription"]["channel"], channel, "{reply}");
    }
    let rested = maker.place("m-1", "sell", "100.00", "5").await;
    assert_eq!(rested["order"]["outcome"], "executed");
    assert_eq!(rested["order"]["applies_to"], "order");
    assert_eq!(rested["order"]["order"]["status"], "open");
    let replace = json!({"request_id": "m-2", "client_order_id": "m-1", "quantity": "4"});
    let replaced = maker.ask("replace", replace).await;
    assert_eq!(replaced["order"]["priority_kept"], true, "{replaced}");

    let taken = taker.place("t-1", "buy", "100.00", "3").await;
    assert_eq!(taken["status"], 201);
    assert_eq!(taken["order"]["order"]["status"], "filled");
    assert_eq!(taken["order"]["fills"][0]["quantity"], "3");
    let position = &taken["order"]["position"];
    let orders = taker.until("orders", position).await;
    let events: Vec<&Value> = orders.last().unwrap()["items"].as_array().unwrap().iter().collect();
    assert_eq!(events[0]["event"], "placed");
    assert_eq!(events[1]["event"], "traded");
    assert_eq!(events[1]["fill"]["remaining_quantity"], "0");
    let fills = taker.until("fills", position).await;
    assert_eq!(fills.last().unwrap()["items"][0], taken["order"]["fills"][0]);
    let balances = taker.until("balances", position).await;
    assert_eq!(balances[0]["snapshot"], true);
    assert_eq!(balances.last().unwrap()["items"].as_array().unwrap().len(), 2);

    let repeat = taker.place("t-1", "buy", "100.00", "3").await;
    assert_eq!(
        (&repeat["status"], &repeat["order"]["repeat"]),
        (&json!(200), &json!(true))
    );
    assert_eq!(repeat["order"]["position"], *position);
    let reused = taker.place("t-1", "buy", "100.00", "4").await;
    assert_eq!(
        (&reused["status"], &reused["problem"]["code"]),
        (&json!(422), &json!("request_id_reused"))
    );
    let refused = taker.place("t-2", "buy", "100.00", "20000").await;
    assert_eq!(refused["problem"]["applies_to"], "order");

    let valid = order("t-3", "buy", "100.00", "1");
    let mut validate_only = valid.clone();
    validate_only["validate_only"] = json!(true);
    assert_eq!(taker.ask("place", validate_only).await["validation"]["valid"], true);
    let batch = json!({"items": [
        {"place": valid}, {"place": order("t-4", "buy", "90.00", "1")}, {"cancel": {"request_id": "t-5", "client_order_id": "t-4"}},
        {"cancel": {"request_id": "t-6", "client_order_id": "t-7"}}, {}
    ]});
    let batch = taker.ask("batch", batch).await;
    let statuses: Vec<&Value> = batch["batch"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["status"])
        .collect();
    assert_eq!(statuses, [201, 201, 200, 200, 400], "{batch}");
    let burnt = taker.place("t-7", "buy", "90.00", "1").await;
    assert_eq!(burnt["problem"]["code"], "request_id_burnt");
    let after = taker
        .ask("cancel_after", json!({"request_id": "t-8", "after_ms": 60_000}))
        .await;
    assert!(after["cancel_after"]["deadline"].is_string(), "{after}");
    taker.place("t-9", "buy", "80.00", "1").await;
    let all = taker
        .ask("cancel_all", json!({"request_id": "t-10", "symbol": "BTC-USD"}))
        .await;
    assert_eq!(all["cancel_all"]["count"], 1, "{all}");
    let gone = taker
        .ask("cancel", json!({"request_id": "t-11", "order_id": "0.1.1"}))
        .await;
    assert_eq!(gone["problem"]["code"], "order_unknown");
}

#[tokio::test]
async fn requests_may_be_sent_without_waiting_and_are_answered_in_sequence() {
    let live = Live::start(26).await;
    let mut client = live.trader(2).await;
    let mut ids = Vec::new();
    for index in 0..600 {
        let order = order(&format!("p-{index}"), "buy", "10.00", "1");
        ids.push(client.send("place", order).await);
    }
    let mut sequences = Vec::new();
    for id in ids {
        let message = client.next().await;
        assert_eq!(message["reply"]["id"], id);
        assert_eq!(message["reply"]["status"], 201);
        let sequence = message["reply"]["order"]["position"]["sequence"].as_str().unwrap();
        sequences.push(sequence.parse::<u64>().unwrap());
    }
    assert!(sequences.is_sorted());
}

#[tokio::test]
async fn market_data_needs_no_login_and_resumes_where_it_stopped() {
    let live = Live::start(27).await;
    let mut maker = live.trader(2).await;
    let mut watcher = live.connect().await;
    maker.place("m-1", "sell", "101.00", "5").await;
    let book = json!({"channel": "book", "symbol": "BTC-USD"});
    watcher.ask("subscribe", book.clone()).await;
    assert_eq!(
        watcher.ask("subscribe", book.clone()).await["problem"]["code"],
        "subscription_repeated"
    );
    let snapshot = watcher.next().await["book"].clone();
    assert_eq!(snapshot["snapshot"], true);
    assert_eq!(
        snapshot["items"],
        json!([{"side": "sell", "price": "101.00", "quantity": "5", "orders": 1}])
    );
    let second = maker.place("m-2", "sell", "101.00", "2").await;
    let update = watcher.until("book", &second["order"]["position"]).await.pop().unwrap();
    assert_eq!(update["previous"], snapshot["previous"]);
    assert_eq!(update["items"][0]["quantity"], "7");
    assert_eq!(
        watcher.ask("unsubscribe", book).await["subscription"]["position"],
        update["position"]
    );

    let third = maker
        .ask("cancel", json!({"request_id": "m-3", "client_order_id": "m-1"}))
        .await;
    let mut other = live.connect().await;
    let resumed = json!({"channel": "book", "symbol": "BTC-USD", "from": update["position"]});
    let reply = other.ask("subscribe", resumed).await;
    assert_eq!(reply["subscription"]["previous"], update["position"]);
    let next = other.next().await["book"].clone();
    assert_eq!(next["position"], third["order"]["position"]);
    assert_eq!(next["previous"], update["position"]);
    let ahead = json!({"group": 0, "epoch": 1, "sequence": "999999"});
    let ahead = json!({"channel": "trades", "symbol": "BTC-USD", "from": ahead});
    assert_eq!(other.ask("subscribe", ahead).await["problem"]["code"], "position_ahead");
    let forked = json!({"channel": "trades", "symbol": "BTC-USD", "from": {"group": 0, "epoch": 7, "sequence": "5"}});
    let forked = other.ask("subscribe", forked).await;
    assert_eq!(forked["problem"]["code"], "position_forked");
    assert!(forked["problem"]["kept_position"].is_object());
}

#[tokio::test]
async fn the_accounts_own_snapshots_are_fresh_unless_they_may_be_stale() {
    let live = Live::start(28).await;
    let mut trader = live.trader(2).await;
    *live.core.reads.lock().unwrap() = Some(None);
    for channel in ["orders", "balances", "fills"] {
        let refused = trader.ask("subscribe", json!({"channel": channel})).await;
        assert_eq!(refused["problem"]["code"], "no_leader", "{channel}: {refused}");
        let stale = json!({"channel": channel, "freshness": "stale"});
        assert_eq!(trader.ask("subscribe", stale).await["status"], 200, "{channel}");
    }
    let book = json!({"channel": "book", "symbol": "BTC-USD"});
    assert_eq!(
        trader.ask("subscribe", book).await["status"],
        200,
        "market data never asks the group"
    );
    let wrong = json!({"channel": "trades", "symbol": "BTC-USD", "freshness": "stale"});
    assert_eq!(trader.ask("subscribe", wrong).await["problem"]["field"], "freshness");
}

#[tokio::test]
async fn a_stream_that_another_node_told_is_resumed_by_one_that_is_behind() {
    let live = Live::start(29).await;
    let mut trader = live.trader(2).await;
    let mut other = live.trader(3).await;
    *live.core.behind.lock().unwrap() = Some(Vec::new());
    let placed = trader.place("a-1", "sell", "101.00", "5").await;
    let position = placed["order"]["position"].clone();
    let resumed = json!({"channel": "trades", "symbol": "BTC-USD", "from": position});
    *live.core.reads.lock().unwrap() = Some(None);
    let refused = other.ask("subscribe", resumed.clone()).await;
    assert_eq!(refused["problem"]["code"], "no_leader", "{refused}");
    let sequence: u64 = position["sequence"].as_str().unwrap().parse().unwrap();
    *live.core.reads.lock().unwrap() = Some(Some(types::Sequence(sequence)));
    let id = other.send("subscribe", resumed).await;
    tokio::task::yield_now().await;
    live.core.catch_up();
    let reply = other.reply(id).await;
    assert_eq!(reply["subscription"]["position"], position, "{reply}");
}

const CHANNELS: [&str; 5] = ["orders", "fills", "balances", "book", "trades"];

/// What was told of each channel: the last position that came whole, and how many messages.
#[derive(Default)]
struct Told(BTreeMap<String, (Value, usize)>);

impl Told {
    /// Follows each channel behind what was told of it.
    async fn subscribe(&self, client: &mut Client) {
        let start = json!({"group": 0, "epoch": 1, "sequence": "0"});
        for channel in CHANNELS {
            let from = self.0.get(channel).map_or(&start, |(position, _)| position);
            let mut subscribe = json!({"channel": channel, "from": from});
            if ["book", "trades"].contains(&channel) {
                subscribe["symbol"] = json!("BTC-USD");
            }
            client.send("subscribe", subscribe).await;
        }
    }

    /// Takes a message in, if it is of a channel; each must follow on the one before.
    fn take(&mut self, message: &Value) {
        let (kind, body) = message.as_object().unwrap().iter().next().unwrap();
        if !CHANNELS.contains(&kind.as_str()) {
            return;
        }
        let (position, count) = self.0.entry(kind.clone()).or_default();
        assert_eq!(body["previous"], *position, "{kind}");
        *position = body["position"].clone();
        *count += 1;
    }

    /// Takes messages in until all channels are where they end.
    async fn finish(&mut self, client: &mut Client, ends: &[(&str, Value)]) {
        while ends
            .iter()
            .any(|(channel, end)| self.0.get(*channel).is_none_or(|(told, _)| told != end))
        {
            self.take(&client.next().await);
        }
        assert!(self.0.values().all(|(_, count)| *count > 500));
    }
}

/// Ends all streams of account 3 and BTC-USD at known positions.
async fn finish_trading(live: &Live) -> Vec<(&'static str, Value)> {
    let mut maker = live.trader(2).await;
    let mut taker = live.trader(3).await;
    taker.ask("cancel_all", json!({"request_id": "end-1"})).await;
    maker.place("end-2", "sell", "500.00", "1").await;
    let market =
        json!({"client_order_id": "end-3", "symbol": "BTC-USD", "side": "buy", "type": "market", "quantity": "1"});
    let last = taker.ask("place", market).await;
    assert_eq!(last["order"]["order"]["status"], "filled", "{last}");
    let position = last["order"]["position"].clone();
    CHANNELS.map(|channel| (channel, position.clone())).into()
}

#[tokio::test]
async fn who_reads_late_loses_nothing() {
    let live = Live::start(28).await;
    let mut client = live.trader(3).await;
    let mut told = Told::default();
    told.subscribe(&mut client).await;
    // Far more than the socket and the session's output hold, while the client reads nothing.
    for _ in 0..1_500 {
        live.core.trade();
        tokio::task::yield_now().await;
    }
    let ends = finish_trading(&live).await;
    told.finish(&mut client, &ends).await;
}

#[tokio::test]
async fn who_does_not_read_is_let_go_and_resumes() {
    let live = Live::start_with(33, |config| config.session_write_timeout = Duration::from_millis(300)).await;
    let mut client = live.connect_narrow().await;
    assert_eq!(client.log_in(3).await["status"], 200);
    let mut told = Told::default();
    told.subscribe(&mut client).await;
    // The system's own buffers may take some megabytes.
    while live.gateway.sessions_open() > 0 {
        live.core.trade();
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    for message in client.rest().await {
        told.take(&message);
    }
    let ends = finish_trading(&live).await;
    let mut client = live.trader(3).await;
    told.subscribe(&mut client).await;
    told.finish(&mut client, &ends).await;
}

#[tokio::test]
async fn a_stream_whose_place_was_retired_ends_with_advice() {
    let live = Live::start(29).await;
    for _ in 0..50 {
        live.core.trade();
    }
    live.core.world.lock().unwrap().log.retire(Sequence(100));
    let mut client = live.connect().await;
    let from = json!({"group": 0, "epoch": 1, "sequence": "50"});
    let subscribe = json!({"channel": "trades", "symbol": "BTC-USD", "from": from});
    let reply = client.ask("subscribe", subscribe).await;
    assert_eq!(reply["problem"]["code"], "history_retired");
    assert!(reply["problem"]["kept_position"].is_object(), "{reply}");
}

#[tokio::test]
async fn a_revoked_key_sees_nothing_more() {
    let live = Live::start(30).await;
    let mut client = live.trader(2).await;
    client.ask("subscribe", json!({"channel": "orders"})).await;
    client.place("a-1", "buy", "10.00", "1").await;
    admin(&live, Action::RevokeKey { key: KeyId(2) });
    let refused = client.place("a-2", "buy", "10.00", "1").await;
    assert_eq!(refused["problem"]["code"], "key_revoked");
    admin(&live, cancel_all_of(AccountId(2)));
    let ended = loop {
        let message = client.next().await;
        if let Some(ended) = message.get("ended") {
            break ended.clone();
        }
        assert!(
            message["orders"]["items"]
                .as_array()
                .is_none_or(|items| items.iter().all(|item| item["event"] != "closed"))
        );
    };
    assert_eq!(ended["channel"], "orders");
    assert_eq!(ended["problem"]["code"], "key_not_accepted");
}

fn cancel_all_of(account: AccountId) -> Action {
    Action::CancelAllFor {
        account: Some(account),
        instrument: None,
    }
}

#[tokio::test]
async fn a_session_counts_against_the_limit_of_its_key() {
    let bucket = |burst| BucketConfig { burst, per_second: 1 };
    let live = Live::start_with(31, |config| {
        config.rate_limits.per_key = bucket(3);
        config.rate_limits.per_address = bucket(50);
    })
    .await;
    let mut client = live.trader(2).await;
    let mut codes: Vec<Value> = Vec::new();
    for index in 0..4 {
        let reply = client.place(&format!("l-{index}"), "buy", "10.00", "1").await;
        codes.push(reply["problem"]["code"].clone());
        if index == 3 {
            assert!(reply["problem"]["retry_after_ms"].as_u64().unwrap() > 0);
            assert_eq!(reply["problem"]["applies_to"], "attempt");
        }
    }
    assert_eq!(codes, [Value::Null, Value::Null, Value::Null, json!("rate_limited")]);
    let mut second = live.trader(2).await;
    assert_eq!(second.place("l-9", "buy", "10.00", "1").await["status"], 429);
    let mut other: Client = live.trader(3).await;
    assert_eq!(other.place("l-1", "buy", "10.00", "1").await["status"], 201);
}

#[tokio::test]
async fn a_node_that_stops_says_so() {
    let live = Live::start(32).await;
    let mut client = live.trader(2).await;
    live.gateway.stop();
    assert_eq!(client.next().await["problem"]["code"], "node_stopping");
    assert_eq!(client.closed().await, 1001);
}
