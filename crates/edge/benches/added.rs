//! What the edge adds: the same messages to the same server on loopback, directly and through the edge, in turns.
//!
//! `cargo bench -p edge`

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use edge::{Config, Edge};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Turns; in each, so many messages go one way, and so many the other.
const TURNS: usize = 20;
const MESSAGES: usize = 2_000;
/// New connections of a turn, each for one message.
const CONNECTIONS: usize = 100;
/// About what a signed order takes.
const MESSAGE_BYTES: usize = 600;
/// What the kernel counts processor time in: `_SC_CLK_TCK`, which is 100 on Linux everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one way showed.
#[derive(Default)]
struct Way {
    round_trips: Vec<Duration>,
    new_connections: Vec<Duration>,
    processor_seconds: f64,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads can be started");
    let (server, front) = runtime.block_on(start());
    let (mut direct, mut through) = (Way::default(), Way::default());
    for _ in 0..TURNS {
        turn(server, &mut direct);
        turn(front, &mut through);
    }
    println!("| | p50 | p99 | processor time a message |\n| --- | --- | --- | --- |");
    for (name, way) in [("direct", &mut direct), ("through the edge", &mut through)] {
        let messages = (TURNS * MESSAGES) as f64;
        let processor = way.processor_seconds * 1e6 / messages;
        let (p50, p99) = percentiles(&mut way.round_trips);
        println!("| {name}: a message and its answer | {p50} µs | {p99} µs | {processor:.1} µs |");
        let (p50, p99) = percentiles(&mut way.new_connections);
        println!("| {name}: with a new connection | {p50} µs | {p99} µs | |");
    }
}

/// A server that sends back what it gets, and an edge that follows it.
async fn start() -> (SocketAddr, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let server = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("it accepts");
            stream.set_nodelay(true).expect("it is TCP");
            tokio::spawn(async move {
                let mut buffer = [0; 4_096];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let healthy = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let health = healthy.local_addr().expect("it is bound");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = healthy.accept().await.expect("it accepts");
            let mut head = [0; 1_024];
            let _ = stream.read(&mut head).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\n{\"active\":true,\"epoch\":1}\n";
            let _ = stream.write_all(answer).await;
        }
    });
    let text = format!(
        "[edge]\noperations = \"127.0.0.1:0\"\n[[front]]\nlisten = \"127.0.0.1:0\"\n[[region]]\nname = \"here\"\n\
         nodes = [{{ address = \"{server}\", health = \"{health}\" }}]\n"
    );
    let config = Config::parse(Path::new("edge.toml"), &text).expect("it is a configuration");
    let edge = Edge::bind(config).await.expect("ports are free");
    let front = edge.front_addresses()[0];
    let status = edge.status();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        edge.serve(stopped).await;
        drop(stop);
    });
    while status().active_region.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (server, front)
}

fn turn(address: SocketAddr, way: &mut Way) {
    let message = [b'x'; MESSAGE_BYTES];
    let mut answer = [0; MESSAGE_BYTES];
    let mut exchange = |stream: &mut TcpStream| {
        stream.write_all(&message).expect("it is sent");
        stream.read_exact(&mut answer).expect("it is answered");
    };
    let connect = || {
        let stream = TcpStream::connect(address).expect("it connects");
        stream.set_nodelay(true).expect("it is TCP");
        stream
    };
    for _ in 0..CONNECTIONS {
        let started = Instant::now();
        exchange(&mut connect());
        way.new_connections.push(started.elapsed());
    }
    let mut stream = connect();
    let before = processor_seconds();
    for _ in 0..MESSAGES {
        let started = Instant::now();
        exchange(&mut stream);
        way.round_trips.push(started.elapsed());
    }
    way.processor_seconds += processor_seconds() - before;
}

/// The processor time of this process, client, edge and server together (`proc(5)`, fields 14 and 15 of `stat`).
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("it runs on Linux");
    let after_name = stat.rsplit_once(')').expect("the name is in parentheses").1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |field: &str| field.parse::<f64>().expect("times are numbers");
    (ticks(fields[11]) + ticks(fields[12])) / TICKS_PER_SECOND
}

fn percentiles(times: &mut [Duration]) -> (u128, u128) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_micros();
    (at(50), at(99))
}
