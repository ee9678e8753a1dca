//! The peer against a real Postgres: rows of requests, each with what it is answered and what the account holds then.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use client::{ClientError, Credentials, Endpoint, RestClient, RetryPolicy, Secret};
use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use types::{AccountId, Symbol};
use wire::json::{self, DecimalText, KeyType, OrderStatus, OrderType, Side, TimeInForce};

use super::audit::{self, Audit};
use super::schema::{self, Beginning, Key};
use super::server::{self, Server};
use super::service::Service;
use super::{CLUSTER, PeerSettings, PeerTrader, traders};

/// What each account has of each asset: 1,000 whole ones.
const DEPOSIT: i64 = 100_000_000_000;

/// A database and a service, in this process.
struct World {
    folder: PathBuf,
    server: Server,
    address: SocketAddr,
    traders: Vec<PeerTrader>,
}

/// Starts both; none where there is no Postgres, which is said.
async fn world(test: &str, key_type: KeyType) -> Option<World> {
    if let Err(why) = server::programs() {
        // Past the test harness, which keeps the output of tests that pass to itself.
        writeln!(std::io::stderr(), "SKIPPED bench::peer::{test}: {why}").expect("standard error is open");
        return None;
    }
    // Little memory, and requests that meet crosswise are not waited for as long as in a run.
    let settings = ["shared_buffers=32MB", "deadlock_timeout=20ms"].map(str::to_owned);
    let folder = harness::work_folder(&format!("peer-{test}")).unwrap();
    let mut server = Server::create(&folder.join("postgres"), 4, &settings).unwrap();
    server.start().await.unwrap();
    let (traders, keys) = traders(&PeerSettings {
        accounts: 2,
        keys: 2,
        key_type,
        ..PeerSettings::default()
    });
    let beginning = beginning(keys);
    schema::create(server.socket(), &beginning).await.unwrap();
    let service = Service::open(server.socket(), CLUSTER.parse().unwrap(), 4)
        .await
        .unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, service.router()).into_future());
    Some(World {
        folder,
        server,
        address,
        traders,
    })
}

fn beginning(keys: Vec<Key>) -> Beginning {
    Beginning {
        symbols: vec![harness::SYMBOL.to_owned()],
        keys,
        deposit: DEPOSIT,
    }
}

impl World {
    async fn client(&self, credentials: &Credentials) -> RestClient {
        let endpoint = Endpoint::parse(&format!("http://{}", self.address)).unwrap();
        let policy = RetryPolicy {
            give_up_after: Duration::from_secs(2),
            ..RetryPolicy::default()
        };
        let client = RestClient::connect(endpoint, None, policy).await.unwrap();
        client.with_credentials(credentials.clone())
    }

    async fn audit(&self, acknowledged: &[(AccountId, String)]) -> Audit {
        let acknowledged = acknowledged.iter().map(|(account, id)| (*account, id.as_str()));
        audit::run(self.server.socket(), acknowledged).await.unwrap()
    }

    /// What an account holds of the base and of the quote asset.
    async fn held(&self, account: AccountId) -> (i64, i64) {
        let client = server::connect(self.server.socket()).await.unwrap();
        let sql = "SELECT held, available + held FROM balances WHERE account_id = $1 ORDER BY asset_id";
        let rows = client.query(sql, &[&(account.0 as i32)]).await.unwrap();
        assert!(
            rows.iter().all(|row| row.get::<_, i64>(1) == DEPOSIT),
            "money came or went"
        );
        // The quote asset has the lowest number.
        (rows[1].get(0), rows[0].get(0))
    }

    /// Ends it, and takes its files away.
    fn end(mut self) {
        self.server.stop().unwrap();
        harness::remove_work_folder(&self.folder).unwrap();
    }
}

fn order(id: &str, side: Side, price: &str, quantity: &str, time_in_force: TimeInForce) -> json::NewOrder {
    json::NewOrder {
        client_order_id: id.to_owned(),
        symbol: harness::SYMBOL.to_owned(),
        side,
        order_type: OrderType::Limit,
        time_in_force: Some(time_in_force),
        expires_at: None,
        price: Some(DecimalText(price.to_owned())),
        quantity: DecimalText(quantity.to_owned()),
        post_only: false,
        self_trade_prevention: None,
        valid_until: None,
        validate_only: false,
    }
}

/// What is asked.
enum Ask {
    /// Id, side, price, quantity, how long.
    Place(&'static str, Side, &'static str, &'static str, TimeInForce),
    /// The order's id, the request's.
    Cancel(&'static str, &'static str),
    /// The order's id, the request's, the new price and quantity.
    Replace(&'static str, &'static str, Option<&'static str>, Option<&'static str>),
}

impl Ask {
    async fn send(&self, client: &RestClient) -> Result<json::OrderAnswer, ClientError> {
        match *self {
            Self::Place(id, side, price, quantity, time_in_force) => {
                let order = order(id, side, price, quantity, time_in_force);
                client.change(Method::POST, "/v1/orders", id, Some(&order)).await
            }
            Self::Cancel(id, request) => {
                let target = format!("/v1/orders/by-client-id/{id}");
                client.change(Method::DELETE, &target, request, None::<&()>).await
            }
            Self::Replace(id, request, price, quantity) => {
                let target = format!("/v1/orders/by-client-id/{id}");
                let text = |text: &str| DecimalText(text.to_owned());
                let replace = json::Replace {
                    price: price.map(text),
                    quantity: quantity.map(text),
                    ..json::Replace::default()
                };
                client.change(Method::PATCH, &target, request, Some(&replace)).await
            }
        }
    }
}

/// The answer in a word or two: the order's status, or the code of the refusal.
fn word(answer: Result<json::OrderAnswer, ClientError>) -> String {
    match answer {
        Ok(answer) => {
            let status = match answer.order.expect("every answer has its order").status {
                OrderStatus::Open => "open",
                OrderStatus::Cancelled => "cancelled",
                OrderStatus::Filled | OrderStatus::Expired => "impossible",
            };
            let repeat = if answer.repeat { "repeat " } else { "" };
            format!("{repeat}{status}")
        }
        Err(error) => error.code().map_or_else(|| error.to_string(), str::to_owned),
    }
}

#[tokio::test]
async fn requests_move_orders_and_holds() {
    let Some(world) = world("requests", KeyType::HmacSha256).await else {
        return;
    };
    let trader = world.traders[0].clone();
    let client = world.client(&trader.credentials).await;
    let (buy, sell) = (Side::Buy, Side::Sell);
    let (gtc, ioc) = (TimeInForce::Gtc, TimeInForce::Ioc);
    let bought = |price: i64, lots: i64| {
        let cost = price * lots * 100_000;
        cost + (cost * 173 + 999_999) / 1_000_000
    };
    let one = bought(10_000, 1);
    let rows = [
        (Ask::Place("b-1", buy, "100.00", "0.1", gtc), "open", (0, one)),
        (Ask::Place("b-1", buy, "100.00", "0.1", gtc), "repeat open", (0, one)),
        (
            Ask::Place("b-1", buy, "100.01", "0.1", gtc),
            "request_id_reused",
            (0, one),
        ),
        (
            Ask::Place("s-1", sell, "101.00", "2.0", gtc),
            "open",
            (200_000_000, one),
        ),
        (
            Ask::Place("i-1", buy, "100.00", "0.1", ioc),
            "cancelled",
            (200_000_000, one),
        ),
        (
            Ask::Place("i-1", buy, "100.00", "0.1", ioc),
            "repeat cancelled",
            (200_000_000, one),
        ),
        // 1,000 were deposited: 998 are left to sell.
        (
            Ask::Place("s-2", sell, "101.00", "998.1", gtc),
            "insufficient_funds",
            (200_000_000, one),
        ),
        (Ask::Place("s-3", sell, "101.00", "998.0", gtc), "open", (DEPOSIT, one)),
        (Ask::Cancel("s-3", "c-3"), "cancelled", (200_000_000, one)),
        (Ask::Cancel("s-3", "c-3"), "repeat cancelled", (200_000_000, one)),
        (Ask::Cancel("s-3", "c-4"), "order_closed", (200_000_000, one)),
        // Refused for good, though there would be funds if less were held now.
        (Ask::Cancel("s-1", "c-1"), "cancelled", (0, one)),
        (
            Ask::Place("s-2", sell, "101.00", "998.1", gtc),
            "insufficient_funds",
            (0, one),
        ),
        (Ask::Cancel("s-2", "c-5"), "order_unknown", (0, one)),
        (
            Ask::Place("i-2", sell, "101.00", "1000.1", ioc),
            "insufficient_funds",
            (0, one),
        ),
        (
            Ask::Replace("b-1", "r-1", Some("50.00"), None),
            "open",
            (0, bought(5_000, 1)),
        ),
        (
            Ask::Replace("b-1", "r-1", Some("50.00"), None),
            "repeat open",
            (0, bought(5_000, 1)),
        ),
        (
            Ask::Replace("b-1", "r-2", Some("50.00"), None),
            "nothing_to_change",
            (0, bought(5_000, 1)),
        ),
        (
            Ask::Replace("b-1", "r-3", None, Some("0.3")),
            "open",
            (0, bought(5_000, 3)),
        ),
        (
            Ask::Replace("b-1", "r-4", Some("99.99"), Some("0.7")),
            "open",
            (0, bought(9_999, 7)),
        ),
        (
            Ask::Replace("b-1", "r-5", None, Some("10.1")),
            "insufficient_funds",
            (0, bought(9_999, 7)),
        ),
        (
            Ask::Replace("b-1", "r-6", Some("1000000.00"), Some("1000000.0")),
            "notional_too_large",
            (0, bought(9_999, 7)),
        ),
        (
            Ask::Replace("b-1", "r-7", Some("1.001"), None),
            "price_off_tick",
            (0, bought(9_999, 7)),
        ),
        (
            Ask::Replace("x-1", "r-8", Some("1.00"), None),
            "order_unknown",
            (0, bought(9_999, 7)),
        ),
        (Ask::Cancel("b-1", "c-6"), "cancelled", (0, 0)),
        (Ask::Replace("b-1", "r-9", Some("1.00"), None), "order_closed", (0, 0)),
    ];
    for (number, (ask, answered, held)) in rows.iter().enumerate() {
        assert_eq!(word(ask.send(&client).await), *answered, "row {number}");
        assert_eq!(world.held(trader.account).await, *held, "row {number}");
    }
    // The other account is as it was, and its ids are its own.
    let other = world.traders[1].clone();
    assert_eq!(world.held(other.account).await, (0, 0));
    let client = world.client(&other.credentials).await;
    let ask = Ask::Place("b-1", buy, "100.00", "0.1", gtc);
    assert_eq!(word(ask.send(&client).await), "open");
    let acknowledged = [
        (trader.account, "b-1"),
        (other.account, "b-1"),
        (other.account, "never"),
    ];
    let acknowledged = acknowledged.map(|(account, id)| (account, id.to_owned()));
    let audit = world.audit(&acknowledged).await;
    assert!(!audit.holds(), "one was never placed");
    let audit = Audit {
        acknowledged: 2,
        missing: 0,
        ..audit
    };
    assert!(audit.holds() && audit.open_orders == 1, "{audit:?}");
    world.end();
}

/// Several sessions ask for the same few orders at once; whoever comes first, the money adds up.
#[tokio::test]
async fn requests_that_meet_keep_the_money() {
    let Some(world) = world("meeting", KeyType::HmacSha256).await else {
        return;
    };
    let trader = world.traders[0].clone();
    let client = world.client(&trader.credentials).await;
    let mut sessions = Vec::new();
    for session in 0..8_u32 {
        let client = client.clone();
        sessions.push(tokio::spawn(async move {
            let mut words = std::collections::BTreeSet::new();
            for turn in 0..60_u32 {
                let id = format!("m-{}", turn / 2);
                let by = format!("{session}-{turn}");
                let target = format!("/v1/orders/by-client-id/{id}");
                let answer = match (session + turn) % 4 {
                    0 | 1 => {
                        let side = if turn % 4 < 2 { Side::Buy } else { Side::Sell };
                        let order = order(&id, side, "100.00", "0.1", TimeInForce::Gtc);
                        client.change(Method::POST, "/v1/orders", &id, Some(&order)).await
                    }
                    2 => {
                        let replace = json::Replace {
                            quantity: Some(DecimalText(format!("{}.0", 1 + (session + turn) % 5))),
                            ..json::Replace::default()
                        };
                        client.change(Method::PATCH, &target, &by, Some(&replace)).await
                    }
                    _ => client.change(Method::DELETE, &target, &by, None::<&()>).await,
                };
                words.insert(word(answer));
            }
            words
        }));
    }
    let mut words = std::collections::BTreeSet::new();
    for session in sessions {
        words.append(&mut session.await.unwrap());
    }
    for wanted in ["open", "cancelled", "repeat open", "order_closed"] {
        assert!(words.contains(wanted), "{words:?}");
    }
    let acknowledged: Vec<_> = (0..30).map(|number| (trader.account, format!("m-{number}"))).collect();
    let audit = world.audit(&acknowledged).await;
    assert!(audit.holds() && audit.orders == 30, "{audit:?}");
    world.end();
}

#[tokio::test]
async fn a_signature_must_fit_the_key_and_the_request() {
    let Some(world) = world("signatures", KeyType::Ed25519).await else {
        return;
    };
    let trader = world.traders[0].clone();
    let other = world.traders[1].clone();
    let ask = Ask::Place("a-1", Side::Buy, "100.00", "0.1", TimeInForce::Gtc);
    let wrong = [
        (trader.credentials.key, other.credentials.secret.clone()),
        (trader.credentials.key, Secret::generate_hmac()),
    ];
    for (key, secret) in wrong {
        let client = world.client(&Credentials { key, secret }).await;
        assert_eq!(word(ask.send(&client).await), "signature_wrong");
    }
    let stranger = Credentials {
        key: types::KeyId(77),
        secret: trader.credentials.secret.clone(),
    };
    let client = world.client(&stranger).await;
    assert_eq!(word(ask.send(&client).await), "key_not_accepted");
    assert_eq!(world.audit(&[]).await.orders, 0);
    let client = world.client(&trader.credentials).await;
    assert_eq!(word(ask.send(&client).await), "open");
    let target = client::Target::ClientOrderId("a-1".to_owned());
    let found = client.order(&target).await.unwrap();
    assert_eq!(
        (found.symbol.parse(), found.status),
        (harness::SYMBOL.parse::<Symbol>(), OrderStatus::Open)
    );
    world.end();
}

#[tokio::test]
async fn an_acknowledged_order_survives_a_kill_of_the_database() {
    let Some(mut world) = world("kill", KeyType::HmacSha256).await else {
        return;
    };
    let trader = world.traders[0].clone();
    let client = world.client(&trader.credentials).await;
    let mut placing = Vec::new();
    for session in 0..4 {
        let client = client.clone();
        placing.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for count in 0.. {
                let id = format!("k-{session}-{count}");
                let order = order(&id, Side::Sell, "100.00", "0.1", TimeInForce::Gtc);
                let answer: Result<json::OrderAnswer, _> =
                    client.change(Method::POST, "/v1/orders", &id, Some(&order)).await;
                match answer {
                    Ok(_) => acknowledged.push(id),
                    Err(_) => break,
                }
            }
            acknowledged
        }));
    }
    // In the middle of it: some were acknowledged, and more are under way.
    while world.audit(&[]).await.orders < 20 {
        tokio::task::yield_now().await;
    }
    let process = i32::try_from(world.server.process().unwrap()).unwrap();
    kill_process(Pid::from_raw(process).unwrap(), Signal::KILL).unwrap();
    let mut acknowledged = Vec::new();
    for session in placing {
        let ids = session.await.unwrap();
        acknowledged.extend(ids.into_iter().map(|id| (trader.account, id)));
    }
    world.server.stop().unwrap();
    restart(&mut world.server).await;
    let audit = world.audit(&acknowledged).await;
    assert!(audit.holds(), "{audit:?}");
    assert!(audit.acknowledged >= 16, "{audit:?}");
    world.end();
}

/// The killed server's other processes notice and end in their own time; until then a new one finds its memory in use.
async fn restart(server: &mut Server) {
    for _ in 0..100 {
        if server.start().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the database does not start again");
}
