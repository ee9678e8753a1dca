//! A core that executes at once, a log in memory, and a client that signs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::Router;
use axum::body::Body;
use engine::Exchange;
use gateway::handle::{
    Applied, CoreHandle, CoreStatus, GroupStatus, History, HistoryError, MemberStatus, NotAccepting, ReadFrom,
    SubmitError,
};
use gateway::sealing::SealingKey;
use gateway::stages::Stages;
use gateway::view::{View, ViewLimits};
use gateway::waiting::{Bells, Waiter};
use gateway::{Gateway, GatewayConfig};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tower::ServiceExt as _;
use types::{
    AccountId, Action, AppliedBatch, AppliedCommand, BatchHeader, ClusterId, Command, EngineVersion, Epoch, GroupId,
    Incarnation, KeyId, KeyMaterial, NewKey, Scopes, Sequence, StateMachine as _, Timestamp,
};
use wire::journal::{LogIndex, NodeId, Term};
use wire::membership::{ChangeRefusal, MembershipChange, Role};
use wire::signing::{SignedRequest, to_hex};

/// The node's time at the start of every test: some time in 2026.
pub const START: Timestamp = Timestamp(1_790_000_000_000_000_000);

/// What the core does with the next commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Execute,
    /// Takes them, executes them, and never answers.
    Mute,
    Busy,
    Refuse(NotAccepting),
    /// Queues them, and then refuses them.
    RefuseLater(NotAccepting),
}

/// From where on the core says that a read is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    #[default]
    Own,
    /// From this sequence on; none: there is no leader.
    From(Option<Sequence>),
    /// It says so when the test does.
    Later,
    /// It is on its way down.
    Dropped,
}

/// What a test says of a core's group, and what it was asked.
#[derive(Default)]
pub struct Group {
    /// None: the node is alone.
    pub status: Option<GroupStatus>,
    pub reads: Reads,
    /// How often it was asked from where on a read is served.
    pub reads_asked: usize,
    pub reads_waiting: Vec<oneshot::Sender<Option<Sequence>>>,
    /// Why members are not changed and leadership is not handed over.
    pub refuses: Option<ChangeRefusal>,
    /// Whoever asks for a change never gets an answer.
    pub mute: bool,
    pub changes: Vec<MembershipChange>,
    pub transfers: Vec<Option<NodeId>>,
}

/// A core that executes at once, and its log.
#[derive(Default)]
pub struct TestCore {
    exchange: Mutex<Exchange>,
    log: Mutex<Vec<Arc<AppliedBatch>>>,
    now: AtomicU64,
    mode: Mutex<Mode>,
    pub group: Mutex<Group>,
    /// While true the view is not told.
    pub withhold: AtomicBool,
    /// How often the clock was asked: reads of a connection ask it.
    pub stamped_reads: AtomicU64,
    stages: Arc<Stages>,
    gateway: OnceLock<Gateway>,
}

impl TestCore {
    pub fn set_mode(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    /// Its node is 2 of 1, 2 and 3, led by that one. The leader has applied 100 entries.
    pub fn join_group(&self, leader: Option<u64>) {
        let member = |node, matched| MemberStatus {
            node: NodeId(node),
            role: if node == 3 { Role::Learner } else { Role::Voter },
            address: format!("node-{node}:7414"),
            matched: Some(LogIndex(matched)).filter(|_| leader == Some(2)),
            heard: node == 2 || leader == Some(2) && node != 3,
            engine_version_max: Some(EngineVersion(2)),
        };
        self.group.lock().unwrap().status = Some(GroupStatus {
            node: NodeId(2),
            leader: leader.map(NodeId),
            term: Term(7),
            applied: LogIndex(100),
            repairing: false,
            engine_version: EngineVersion::FIRST,
            members: vec![member(1, 101), member(2, 100), member(3, 40)],
        });
    }

    pub fn set_reads(&self, reads: Reads) {
        self.group.lock().unwrap().reads = reads;
    }

    pub fn advance_ms(&self, milliseconds: u64) {
        self.now.fetch_add(milliseconds * 1_000_000, Ordering::SeqCst);
    }

    /// Tells the view what was withheld.
    pub fn release(&self) {
        self.withhold.store(false, Ordering::SeqCst);
        let gateway = self.gateway.get().unwrap();
        for batch in self.log.lock().unwrap().iter() {
            gateway.publish(batch).unwrap();
        }
    }

    pub fn execute(&self, command: &Command) -> Applied {
        let mut exchange = self.exchange.lock().unwrap();
        let mut log = self.log.lock().unwrap();
        let header = BatchHeader {
            group: GroupId(0),
            incarnation: Incarnation(1),
            epoch: Epoch(1),
            first_sequence: Sequence(log.len() as u64 + 1),
            count: 1,
            sequenced_at: self.now(),
            clock_error_bound_ns: 1_000,
            ..BatchHeader::default()
        };
        let mut events = Vec::new();
        exchange.apply(header.position(0), header.sequenced_at, command, &mut events);
        let batch = Arc::new(AppliedBatch {
            header,
            committed_at: Some(Timestamp(header.sequenced_at.0 + 5)),
            commands: vec![AppliedCommand {
                received_at: command.received_at,
                events_end: u32::try_from(events.len()).unwrap(),
            }],
            events,
        });
        log.push(Arc::clone(&batch));
        if let Some(gateway) = self.gateway.get()
            && !self.withhold.load(Ordering::SeqCst)
        {
            gateway.publish(&batch).unwrap();
        }
        Applied {
            applied_at: batch.header.sequenced_at,
            in_both: false,
            batch,
            index: 0,
        }
    }
}

impl CoreHandle for TestCore {
    fn hand_over(&self, command: Command, waiter: Waiter) -> Result<(), SubmitError> {
        let mode = *self.mode.lock().unwrap();
        let answer = match mode {
            Mode::Execute => Ok(self.execute(&command)),
            Mode::Mute => {
                self.execute(&command);
                return Ok(());
            }
            Mode::RefuseLater(reason) => Err(SubmitError::NotAccepting(reason)),
            Mode::Busy | Mode::Refuse(_) => {
                waiter.dismiss();
                return Err(match mode {
                    Mode::Refuse(reason) => SubmitError::NotAccepting(reason),
                    _ => SubmitError::Busy { retry_after_ms: 20 },
                });
            }
        };
        let mut bells = Bells::default();
        waiter.tell(answer, &mut bells);
        bells.ring();
        Ok(())
    }

    fn status(&self) -> CoreStatus {
        CoreStatus {
            accepting: Ok(()),
            group: GroupId(0),
            incarnation: Incarnation(1),
            epoch: Epoch(1),
            last_applied: Sequence(self.log.lock().unwrap().len() as u64),
            queued_count: 0,
            clock_error_bound_ns: 1_000,
        }
    }

    fn read_from(&self) -> ReadFrom {
        let mut group = self.group.lock().unwrap();
        group.reads_asked += 1;
        let (name, named) = oneshot::channel();
        match group.reads {
            Reads::Own => return ReadFrom::Own,
            Reads::From(from) => name.send(from).unwrap(),
            Reads::Later => group.reads_waiting.push(name),
            Reads::Dropped => drop(name),
        }
        ReadFrom::Group(named)
    }

    fn group(&self) -> GroupStatus {
        let status = self.group.lock().unwrap().status.clone();
        status.unwrap_or_else(|| GroupStatus::lone(NodeId(1), LogIndex(5)))
    }

    fn change_members(&self, change: MembershipChange) -> oneshot::Receiver<Result<(), ChangeRefusal>> {
        let mut group = self.group.lock().unwrap();
        group.changes.push(change);
        let (tell, told) = oneshot::channel();
        if !group.mute {
            tell.send(group.refuses.map_or(Ok(()), Err)).unwrap();
        }
        told
    }

    fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), ChangeRefusal> {
        let mut group = self.group.lock().unwrap();
        group.transfers.push(to);
        group.refuses.map_or(Ok(()), Err)
    }

    fn now(&self) -> Timestamp {
        self.stamped_reads.fetch_add(1, Ordering::SeqCst);
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }
}

/// The log of a [`TestCore`].
struct TestHistory(Arc<TestCore>);

impl History for TestHistory {
    fn first(&self) -> Sequence {
        Sequence(1)
    }

    fn last(&self) -> Sequence {
        Sequence(self.0.log.lock().unwrap().len() as u64)
    }

    fn read(&self, from: Sequence, _bytes_max: usize) -> Result<Vec<Arc<AppliedBatch>>, HistoryError> {
        let log = self.0.log.lock().unwrap();
        let index = usize::try_from(from.0).unwrap() - 1;
        Ok(log.get(index).cloned().into_iter().collect())
    }

    fn is_recent(&self, _from: Sequence) -> bool {
        true
    }
}

/// How a client signs.
#[derive(Clone)]
pub enum Signer {
    Ed25519([u8; 32]),
    Hmac(Vec<u8>),
}

impl Signer {
    pub fn public_key(&self) -> [u8; 32] {
        let Self::Ed25519(seed) = self else {
            panic!("an HMAC key has no public key");
        };
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
        pair.public_key().as_ref().try_into().unwrap()
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        match self {
            Self::Ed25519(seed) => {
                let pair = Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
                pair.sign(text.as_bytes()).as_ref().to_vec()
            }
            Self::Hmac(secret) => {
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
                aws_lc_rs::hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
            }
        }
    }
}

/// A key of a client.
#[derive(Clone)]
pub struct TestKey {
    pub id: KeyId,
    pub signer: Signer,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The problem's code.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("none")
    }
}

/// A request before it is signed; tests alter what is sent.
#[derive(Clone)]
pub struct Draft {
    pub method: &'static str,
    pub target: String,
    pub body: String,
    pub request_id: Option<String>,
    /// The id that is signed, if it is not that of the header.
    pub signed_id: Option<String>,
    pub timestamp_ms: u64,
    pub window_ms: u64,
    pub cluster: ClusterId,
    /// `Meridian-Forward`.
    pub forward: Option<&'static str>,
}

pub struct Node {
    pub core: Arc<TestCore>,
    pub gateway: Gateway,
    pub public: Router,
    pub admin: Router,
    pub operator: TestKey,
}

pub fn cluster() -> ClusterId {
    "test".parse().unwrap()
}

/// A node whose first admin key exists.
pub fn node() -> Node {
    node_with(GatewayConfig::new(cluster()))
}

pub fn node_with(config: GatewayConfig) -> Node {
    let core = Arc::new(TestCore::default());
    core.now.store(START.0, Ordering::SeqCst);
    let operator = TestKey {
        id: KeyId(1),
        signer: Signer::Ed25519([1; 32]),
    };
    core.execute(&Command {
        account: AccountId::OPERATOR,
        key: KeyId::SYSTEM,
        request_id: "init".parse().unwrap(),
        valid_until: None,
        received_at: START,
        action: Action::CreateKey(NewKey {
            account: AccountId::OPERATOR,
            scopes: Scopes::ADMIN,
            material: KeyMaterial::Ed25519(operator.signer.public_key()),
        }),
    });
    let mut facts = Vec::new();
    let position = {
        let exchange = core.exchange.lock().unwrap();
        exchange.facts(&mut facts);
        exchange.position()
    };
    let view = Arc::new(View::new(ViewLimits::default(), &facts, position));
    let sealing = SealingKey::new(&[9; 32], config.cluster_id);
    let history = Arc::new(TestHistory(Arc::clone(&core)));
    let gateway = Gateway::new(config, Arc::clone(&core) as _, history, view, sealing);
    assert!(core.gateway.set(gateway.clone()).is_ok());
    Node {
        public: gateway.public_router(),
        admin: gateway.admin_router(),
        core,
        gateway,
        operator,
    }
}

impl Node {
    /// A request at the node's time for the node's cluster.
    pub fn draft(&self, method: &'static str, target: &str, body: &str) -> Draft {
        Draft {
            method,
            target: target.to_owned(),
            body: body.to_owned(),
            request_id: None,
            signed_id: None,
            timestamp_ms: self.core.now().0 / 1_000_000,
            window_ms: 5_000,
            cluster: cluster(),
            forward: None,
        }
    }

    /// A request's headers and signature.
    pub fn signed(&self, key: &TestKey, draft: &Draft) -> Request<Body> {
        let id = draft
            .signed_id
            .as_deref()
            .or(draft.request_id.as_deref())
            .unwrap_or_default();
        let text = SignedRequest {
            cluster: &draft.cluster,
            key: key.id,
            timestamp_ms: draft.timestamp_ms,
            window_ms: draft.window_ms,
            request_id: id,
            method: draft.method,
            target: &draft.target,
            body_sha256: &gateway::auth::sha256(draft.body.as_bytes()),
        }
        .text();
        let mut request = Request::builder()
            .method(draft.method)
            .uri(&draft.target)
            .header("Meridian-Key", key.id.to_string())
            .header("Meridian-Timestamp", draft.timestamp_ms.to_string())
            .header("Meridian-Window", draft.window_ms.to_string())
            .header("Meridian-Signature", to_hex(&key.signer.sign(&text)));
        if let Some(id) = &draft.request_id {
            request = request.header("Meridian-Request-Id", id);
        }
        if let Some(forward) = draft.forward {
            request = request.header("Meridian-Forward", forward);
        }
        request.body(Body::from(draft.body.clone())).unwrap()
    }

    /// A signed request to the public API.
    pub async fn call(&self, key: &TestKey, draft: &Draft) -> Answer {
        send(&self.public, self.signed(key, draft)).await
    }

    /// GET, signed.
    pub async fn get(&self, key: &TestKey, target: &str) -> Answer {
        self.call(key, &self.draft("GET", target, "")).await
    }

    /// A new order, signed.
    pub async fn place(&self, key: &TestKey, order: &Value) -> Answer {
        let mut draft = self.draft("POST", "/v1/orders", &order.to_string());
        draft.signed_id = order["client_order_id"].as_str().map(str::to_owned);
        self.call(key, &draft).await
    }

    /// A request under an id, signed.
    pub async fn change(&self, key: &TestKey, method: &'static str, target: &str, id: &str, body: &Value) -> Answer {
        self.call(key, &self.change_draft(method, target, id, body)).await
    }

    pub fn change_draft(&self, method: &'static str, target: &str, id: &str, body: &Value) -> Draft {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut draft = self.draft(method, target, &body);
        draft.request_id = Some(id.to_owned());
        draft
    }

    /// An operator's request under an id, signed.
    pub async fn operate(&self, method: &'static str, target: &str, id: &str, body: &Value) -> Answer {
        let draft = self.change_draft(method, target, id, body);
        send(&self.admin, self.signed(&self.operator, &draft)).await
    }

    /// The last sequence of the log.
    pub fn core_last(&self) -> Sequence {
        self.core.status().last_applied
    }

    /// An operator's request without an id, signed.
    pub async fn administer(&self, method: &'static str, target: &str, body: &str) -> Answer {
        let draft = self.draft(method, target, body);
        send(&self.admin, self.signed(&self.operator, &draft)).await
    }

    /// A market in BTC-USD with tick 0.50 and lot 0.01, and two funded accounts with a key each.
    pub async fn with_market(&self) -> [TestKey; 2] {
        for (symbol, decimals) in [("BTC", 8), ("USD", 4)] {
            let body = json!({"symbol": symbol, "decimals": decimals});
            let id = format!("asset-{symbol}");
            self.operated("POST", "/v1/admin/assets", &id, &body).await;
        }
        let instrument = json!({"symbol": "BTC-USD", "base": "BTC", "quote": "USD", "rules": rules()});
        self.operated("POST", "/v1/admin/instruments", "instrument", &instrument)
            .await;
        let target = "/v1/admin/instruments/BTC-USD/status";
        self.operated("PUT", target, "trading", &json!({"status": "trading"}))
            .await;
        [self.with_account("a", 2).await, self.with_account("b", 3).await]
    }

    async fn with_account(&self, name: &str, seed: u8) -> TestKey {
        let account = self
            .operated("POST", "/v1/admin/accounts", &format!("account-{name}"), &Value::Null)
            .await;
        let account = account["account"]["account_id"].as_str().unwrap().to_owned();
        for (asset, amount) in [("BTC", "10"), ("USD", "1000000")] {
            let body = json!({"account_id": account, "asset": asset, "amount": amount});
            let id = format!("deposit-{name}-{asset}");
            self.operated("POST", "/v1/admin/deposits", &id, &body).await;
        }
        let signer = Signer::Ed25519([seed; 32]);
        let body = json!({
            "account_id": account, "scopes": ["read", "trade"], "type": "ed25519",
            "public_key": to_hex(&signer.public_key()),
        });
        let key = self
            .operated("POST", "/v1/admin/keys", &format!("key-{name}"), &body)
            .await;
        let id = key["key"]["key_id"].as_str().unwrap().parse().unwrap();
        TestKey { id, signer }
    }

    /// An operator's request that must succeed.
    pub async fn operated(&self, method: &'static str, target: &str, id: &str, body: &Value) -> Value {
        let answer = self.operate(method, target, id, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{target}: {}", answer.body);
        answer.body
    }
}

/// The rules of the test's instrument.
pub fn rules() -> Value {
    json!({
        "tick_size": "0.5", "lot_size": "0.01", "quantity_min": "0.01", "quantity_max": "100",
        "notional_min": "1", "notional_max": "10000000", "collar_ppm": 0, "reference_price": null,
        "maker_fee_ppm": 100, "taker_fee_ppm": 500,
    })
}

/// A limit order of the test's instrument.
pub fn limit(id: &str, side: &str, price: &str, quantity: &str) -> Value {
    json!({"client_order_id": id, "symbol": "BTC-USD", "side": side, "type": "limit", "price": price, "quantity": quantity})
}

pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}
