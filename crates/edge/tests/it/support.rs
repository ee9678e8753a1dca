//! Nodes for tests, and an edge before them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge::board::Status;
use edge::{Config, Edge};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a test waits for what must come, before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a node's operations port says: active, and the epoch; or nothing.
type Health = Option<(bool, u64)>;

/// A node: its health is what the test sets, and clients are told its name and then get back what they send.
pub struct TestNode {
    pub address: SocketAddr,
    pub health_address: SocketAddr,
    health: Arc<Mutex<Health>>,
}

impl TestNode {
    pub async fn start(name: &'static str, health: Health) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve_client(name, stream));
            }
        });
        Self::at(address, health).await
    }

    /// One whose clients are served elsewhere, or by nobody.
    pub async fn at(address: SocketAddr, health: Health) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let health_address = listener.local_addr().unwrap();
        let health = Arc::new(Mutex::new(health));
        let said = Arc::clone(&health);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let health = *said.lock().unwrap();
                tokio::spawn(serve_health(stream, health));
            }
        });
        Self {
            address,
            health_address,
            health,
        }
    }

    pub fn say(&self, active: bool, epoch: u64) {
        *self.health.lock().unwrap() = Some((active, epoch));
    }

    pub fn fall_silent(&self) {
        *self.health.lock().unwrap() = None;
    }
}

/// Its name, and then what came; after the client's last byte it says so.
async fn serve_client(name: &str, mut stream: TcpStream) {
    let mut buffer = [0; 4_096];
    let mut to_say = format!("{name}\n").into_bytes();
    loop {
        if stream.write_all(&to_say).await.is_err() {
            return;
        }
        match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => to_say = buffer[..count].to_vec(),
            Err(_) => return,
        }
    }
    let _ = stream.write_all(b"that was all\n").await;
}

async fn serve_health(mut stream: TcpStream, health: Health) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    assert!(head.starts_with(b"GET /health/active HTTP/1.1\r\n"));
    let Some((active, epoch)) = health else { return };
    let status = if active { "200 OK" } else { "503 Service Unavailable" };
    let body = format!(
        "{{\"active\":{active},\"node\":1,\"leader\":1,\"group\":0,\"incarnation\":1,\"epoch\":{epoch},\"term\":\"4\",\
         \"code\":null,\"reason\":null}}"
    );
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// An edge that runs.
pub struct TestEdge {
    pub front: SocketAddr,
    pub dns: Option<SocketAddr>,
    operations: SocketAddr,
    status: Box<dyn Fn() -> Status + Send + Sync>,
    pub stop: watch::Sender<bool>,
    pub serving: JoinHandle<()>,
}

/// The configuration of a front before regions, whose nodes are asked every 10 ms.
pub fn config(regions: &[(&str, &[&TestNode])], more: &str) -> Config {
    let mut text = more.to_owned();
    text.push_str("\n[edge]\noperations = \"127.0.0.1:0\"\n[health]\ninterval_ms = 10\ntimeout_ms = 10000\n");
    for (index, (name, nodes)) in regions.iter().enumerate() {
        let node = |node: &&TestNode| {
            let (address, health) = (node.address, node.health_address);
            format!("{{ address = \"{address}\", health = \"{health}\" }}")
        };
        let nodes: Vec<String> = nodes.iter().map(node).collect();
        let nodes = nodes.join(", ");
        text.push_str(&format!(
            "[[region]]\nname = \"{name}\"\nnodes = [{nodes}]\npublic = [\"192.0.2.{}\"]\n",
            index + 1
        ));
    }
    Config::parse(Path::new("edge.toml"), &text).unwrap()
}

/// A plain front.
pub const FRONT: &str = "[[front]]\nlisten = \"127.0.0.1:0\"\n";

impl TestEdge {
    pub async fn start(config: Config) -> Self {
        let edge = Edge::bind(config).await.unwrap();
        let front = edge.front_addresses()[0];
        let dns = edge.dns_addresses().first().copied();
        let operations = edge.operations_address().unwrap();
        let status = Box::new(edge.status());
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(edge.serve(stopped));
        Self {
            front,
            dns,
            operations,
            status,
            stop,
            serving,
        }
    }

    pub fn status(&self) -> Status {
        (self.status)()
    }

    /// Waits until a region is followed at an epoch and so many of its nodes take connections.
    pub async fn follows(&self, region: &str, epoch: u64, nodes_count: usize) {
        let what = format!("{region} at {epoch} with {nodes_count}");
        let open = |status: &Status| {
            let nodes = status.regions.iter().flat_map(|region| &region.nodes);
            nodes.filter(|node| node.open).count()
        };
        until(&what, async || {
            let status = self.status();
            status.active_region.as_deref() == Some(region)
                && status.epoch == Some(epoch)
                && open(&status) == nodes_count
        })
        .await;
    }

    /// An answer of the operations port: status line and body.
    pub async fn ask(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.operations).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// A figure by its name with labels.
    pub async fn figure(&self, name: &str) -> f64 {
        let (_, text) = self.ask("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Waits until a figure is at a value.
    pub async fn figure_becomes(&self, name: &str, value: f64) {
        until(name, async || self.figure(name).await == value).await;
    }

    /// A new client, and who served it.
    pub async fn connect(&self) -> (Client, String) {
        let mut client = Client(TcpStream::connect(self.front).await.unwrap());
        let name = client.line().await;
        (client, name)
    }
}

/// A client's connection.
pub struct Client(pub TcpStream);

impl Client {
    /// The next line; what there is of it if the connection ends.
    pub async fn line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            match self.0.read_u8().await {
                Ok(b'\n') | Err(_) => return String::from_utf8(line).unwrap(),
                Ok(byte) => line.push(byte),
            }
        }
    }

    /// Sends a line and reads it back.
    pub async fn echoes(&mut self) -> bool {
        self.0.write_all(b"hello\n").await.is_ok() && self.line().await == "hello"
    }

    /// Waits until the connection has ended.
    pub async fn ends(mut self) {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest))
            .await
            .expect("the connection did not end");
    }
}

/// Waits for what must come.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("it never came to this: {what}"));
}
