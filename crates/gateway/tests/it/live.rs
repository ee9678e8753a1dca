//! A gateway on a loopback port before an exchange in memory, and a WebSocket client that is easy to script.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use gateway::handle::{Applied, CoreHandle, CoreStatus, ReadFrom, SubmitError};
use gateway::rate_limits::{BucketConfig, RateLimitsConfig};
use gateway::sealing::SealingKey;
use gateway::stages::Stages;
use gateway::waiting::{Bells, Waiter};
use gateway::{Gateway, GatewayConfig};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use types::*;
use wire::signing::{login_text, to_hex};

use crate::allocations::uncounted;
use crate::world::{World, first_view, key_pair};

/// How long a test waits for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A core that executes every command at once and alone in its batch.
pub struct LiveCore {
    /// The exchange.
    pub world: Mutex<World>,
    /// From where on its group says that a read is served; none: it is no group's.
    pub reads: Mutex<Option<Option<Sequence>>>,
    /// What the node does not know yet, while it is behind its group.
    pub behind: Mutex<Option<Vec<Arc<AppliedBatch>>>>,
    stages: Arc<Stages>,
    gateway: OnceLock<Gateway>,
}

impl LiveCore {
    /// Learns what the node did not know yet.
    pub fn catch_up(&self) {
        let unknown = self.behind.lock().unwrap().take();
        for batch in unknown.unwrap() {
            self.publish(&batch);
        }
    }

    /// Executes commands as one batch.
    pub fn execute(&self, world: &mut World, commands: &[Command]) -> Arc<AppliedBatch> {
        let batch = world.apply(commands);
        self.publish(&batch);
        batch
    }

    /// Executes a batch of seeded commands.
    pub fn trade(&self) {
        let batch = self.world.lock().unwrap().trade();
        self.publish(&batch);
    }

    fn publish(&self, batch: &Arc<AppliedBatch>) {
        if let Some(unknown) = &mut *self.behind.lock().unwrap() {
            return unknown.push(Arc::clone(batch));
        }
        self.gateway.get().unwrap().publish(batch).unwrap();
    }
}

impl CoreHandle for LiveCore {
    fn hand_over(&self, command: Command, waiter: Waiter) -> Result<(), SubmitError> {
        let mut world = self.world.lock().unwrap();
        let batch = uncounted(|| self.execute(&mut world, &[command]));
        let applied = Applied {
            applied_at: batch.header.sequenced_at,
            in_both: false,
            batch,
            index: 0,
        };
        let mut bells = Bells::default();
        waiter.tell(Ok(applied), &mut bells);
        // As the node does for a command that is run by the thread that brings it.
        bells.forget();
        Ok(())
    }

    fn status(&self) -> CoreStatus {
        let position = match &*self.behind.lock().unwrap() {
            Some(_) => self.gateway.get().unwrap().view().position(),
            None => self.world.lock().unwrap().exchange.position(),
        };
        CoreStatus {
            accepting: Ok(()),
            group: position.group,
            incarnation: Incarnation(1),
            epoch: Epoch(1),
            last_applied: position.sequence,
            queued_count: 0,
            clock_error_bound_ns: 1_000,
        }
    }

    fn read_from(&self) -> ReadFrom {
        let Some(from) = *self.reads.lock().unwrap() else {
            return ReadFrom::Own;
        };
        let (name, named) = oneshot::channel();
        name.send(from).unwrap();
        ReadFrom::Group(named)
    }

    fn now(&self) -> Timestamp {
        self.world.lock().unwrap().now()
    }

    fn stages(&self) -> &Arc<Stages> {
        &self.stages
    }
}

/// A gateway that serves.
pub struct Live {
    /// Its core.
    pub core: Arc<LiveCore>,
    /// The gateway.
    pub gateway: Gateway,
    /// Opens its sealed secrets.
    pub sealing: SealingKey,
    address: SocketAddr,
    _stop: watch::Sender<bool>,
}

/// The cluster's id.
pub fn cluster() -> ClusterId {
    "test-1".parse().unwrap()
}

fn sealing() -> SealingKey {
    SealingKey::new(&[7; 32], cluster())
}

impl Live {
    /// Starts a gateway before a world of a seed, with limits that no test reaches by accident.
    pub async fn start(seed: u64) -> Self {
        Self::start_with(seed, |_| {}).await
    }

    /// Starts a gateway whose configuration is changed.
    pub async fn start_with(seed: u64, change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let bucket = BucketConfig {
            burst: 1_000_000,
            per_second: 1_000_000,
        };
        let mut config = GatewayConfig::new(cluster());
        config.rate_limits = RateLimitsConfig {
            per_key: bucket,
            per_address: bucket,
            ..RateLimitsConfig::default()
        };
        change(&mut config);
        let world = World::new(seed);
        let log = Arc::clone(&world.log);
        let view = Arc::new(first_view(gateway::view::ViewLimits::default()));
        for batch in log.batches() {
            view.publish(&batch).unwrap();
        }
        let core = Arc::new(LiveCore {
            world: Mutex::new(world),
            reads: Mutex::default(),
            behind: Mutex::default(),
            stages: Arc::default(),
            gateway: OnceLock::new(),
        });
        let gateway = Gateway::new(config, core.clone(), log, view, sealing());
        assert!(core.gateway.set(gateway.clone()).is_ok());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let serving = gateway.clone();
        tokio::spawn(async move { serving.serve_public(listener, stopping).await });
        Self {
            core,
            gateway,
            sealing: sealing(),
            address,
            _stop: stop,
        }
    }

    /// Opens a session, which has said hello.
    pub async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.open(stream).await
    }

    /// Opens a session over a connection that takes little before it is read.
    pub async fn connect_narrow(&self) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        self.open(stream).await
    }

    async fn open(&self, stream: TcpStream) -> Client {
        let (socket, _) = client_async(format!("ws://{}/v1/ws", self.address), stream)
            .await
            .unwrap();
        let mut client = Client {
            socket,
            nonce: String::new(),
            next_id: 0,
            kept: Vec::new(),
        };
        let hello = client.next().await;
        assert_eq!(hello["hello"]["cluster_id"], "test-1");
        client.nonce = hello["hello"]["nonce"].as_str().unwrap().to_owned();
        client
    }

    /// Opens a session that is logged in with a key.
    pub async fn trader(&self, key: u8) -> Client {
        let mut client = self.connect().await;
        let reply = client.log_in(key).await;
        assert_eq!(reply["status"], 200, "{reply}");
        client
    }
}

/// A WebSocket client.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    /// The nonce of the session's hello.
    pub nonce: String,
    next_id: u64,
    /// Messages that came while a reply was awaited.
    kept: Vec<Value>,
}

impl Client {
    /// Sends a text as it is.
    pub async fn send_text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    /// Says goodbye and waits for the other end to do so. False if it just hangs up.
    pub async fn close(&mut self) -> bool {
        self.socket.close(None).await.unwrap();
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Close(_))) => return true,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
    }

    /// Sends a request and returns its id, without waiting.
    pub async fn send(&mut self, request: &str, body: Value) -> u64 {
        self.next_id += 1;
        let message = json!({"id": self.next_id, request: body});
        self.send_text(message.to_string()).await;
        self.next_id
    }

    /// Sends a request and waits for its reply.
    pub async fn ask(&mut self, request: &str, body: Value) -> Value {
        let id = self.send(request, body).await;
        self.reply(id).await
    }

    /// Waits for the reply of an id; keeps what else comes.
    pub async fn reply(&mut self, id: u64) -> Value {
        loop {
            let message = self.receive().await;
            if message["reply"]["id"] == id {
                return message["reply"].clone();
            }
            self.kept.push(message);
        }
    }

    /// The next message: one that was kept, or else a new one.
    pub async fn next(&mut self) -> Value {
        if self.kept.is_empty() {
            return self.receive().await;
        }
        self.kept.remove(0)
    }

    /// Forgets what came while a reply was awaited.
    pub fn forget(&mut self) {
        self.kept.clear();
    }

    /// All messages up to the end of the connection, however it ends.
    pub async fn rest(&mut self) -> Vec<Value> {
        let mut messages = std::mem::take(&mut self.kept);
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Text(text))) => messages.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return messages,
            }
        }
    }

    /// Messages of a kind until one is of the position; other kinds are kept.
    pub async fn until(&mut self, kind: &str, position: &Value) -> Vec<Value> {
        let mut found = Vec::new();
        let mut others = Vec::new();
        while found
            .last()
            .is_none_or(|last: &Value| last["position"] != *position || last["more"] == true)
        {
            let message = self.next().await;
            match message.get(kind) {
                Some(body) => found.push(body.clone()),
                None => others.push(message),
            }
        }
        self.kept.splice(0..0, others);
        found
    }

    /// Waits for the close and returns its code.
    pub async fn closed(&mut self) -> u16 {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.unwrap();
            match message {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("the connection ended without a close frame: {other:?}"),
            }
        }
    }

    /// Logs in with a key pair of the world.
    pub async fn log_in(&mut self, key: u8) -> Value {
        let text = login_text(&cluster(), KeyId(key.into()), &self.nonce);
        let signature = to_hex(key_pair(key).sign(text.as_bytes()).as_ref());
        self.ask("login", json!({"key": key.to_string(), "signature": signature}))
            .await
    }

    /// Places an order at a price and returns the reply.
    pub async fn place(&mut self, client_order_id: &str, side: &str, price: &str, quantity: &str) -> Value {
        self.ask("place", order(client_order_id, side, price, quantity)).await
    }

    async fn receive(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .expect("a message comes");
            match message.expect("the session goes on").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => panic!("the session was closed: {frame:?}"),
                _ => {}
            }
        }
    }
}

/// A new limit order.
pub fn order(client_order_id: &str, side: &str, price: &str, quantity: &str) -> Value {
    json!({
        "client_order_id": client_order_id, "symbol": "BTC-USD", "side": side, "type": "limit",
        "price": price, "quantity": quantity
    })
}
