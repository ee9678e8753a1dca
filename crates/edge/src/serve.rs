//! An edge as a whole: binds, asks, serves, and ends in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admission::Admission;
use crate::board::{Board, Status};
use crate::config::Config;
use crate::dns::{Answerer, Server};
use crate::figures::Figures;
use crate::follow::NodeIndex;
use crate::front::Front;
use crate::health;
use crate::operations::Operations;

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listen for {purpose} on {address}: {error}")]
pub struct ListenError {
    purpose: &'static str,
    address: SocketAddr,
    error: io::Error,
}

/// An edge whose sockets are bound, and which serves nobody yet.
#[derive(Debug)]
pub struct Edge {
    config: Config,
    figures: Arc<Figures>,
    board: Arc<Board>,
    operations: TcpListener,
    fronts: Vec<TcpListener>,
    dns: Vec<(UdpSocket, TcpListener)>,
}

impl Edge {
    /// Binds all sockets, or none. Call it within a runtime.
    ///
    /// # Errors
    /// If one can't be bound.
    pub async fn bind(config: Config) -> Result<Self, ListenError> {
        let operations = tcp("health and metrics", config.edge.operations).await?;
        let mut fronts = Vec::new();
        for front in &config.fronts {
            fronts.push(tcp("clients", front.listen).await?);
        }
        let mut dns = Vec::new();
        for address in &config.dns.listen {
            let purpose = "DNS over TCP";
            let listener = tcp(purpose, *address).await?;
            // Where any free port is fine, both have the same one.
            let address = local(purpose, *address, listener.local_addr())?;
            let socket = UdpSocket::bind(address).await.map_err(|error| ListenError {
                purpose: "DNS over UDP",
                address,
                error,
            })?;
            dns.push((socket, listener));
        }
        let figures = Arc::new(Figures::new(&config));
        Ok(Self {
            board: Arc::new(Board::new(&config, Arc::clone(&figures))),
            figures,
            config,
            operations,
            fronts,
            dns,
        })
    }

    /// Where clients connect, in the order of the configuration.
    pub fn front_addresses(&self) -> Vec<SocketAddr> {
        self.fronts.iter().filter_map(|it| it.local_addr().ok()).collect()
    }

    /// Where DNS is answered, in the order of the configuration.
    pub fn dns_addresses(&self) -> Vec<SocketAddr> {
        self.dns.iter().filter_map(|(_, it)| it.local_addr().ok()).collect()
    }

    /// Where health, metrics and status are served.
    ///
    /// # Errors
    /// If the system can't say.
    pub fn operations_address(&self) -> io::Result<SocketAddr> {
        self.operations.local_addr()
    }

    /// What `/status` shows, at the time of the call.
    pub fn status(&self) -> impl Fn() -> Status + Send + Sync + use<> {
        let board = Arc::clone(&self.board);
        move || board.status()
    }

    /// Serves until `stop` turns true; then takes no more connections, and closes those that don't end in time.
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let Self {
            config,
            figures,
            board,
            operations,
            fronts,
            dns,
        } = self;
        let mut tasks = JoinSet::new();
        let nodes = config.regions.iter().flat_map(|region| &region.nodes);
        for (index, node) in nodes.enumerate() {
            let board = Arc::clone(&board);
            tasks.spawn(health::watch(
                board,
                NodeIndex(index),
                node.health,
                config.health.clone(),
            ));
        }
        let answerer = Arc::new(Answerer::new(&config));
        let server = Server::new(&config.dns, answerer, &board, &figures);
        for (socket, listener) in dns {
            tasks.spawn(server.clone().serve_udp(socket));
            tasks.spawn(server.clone().serve_tcp(listener));
        }
        let router = Operations {
            board: Arc::clone(&board),
            figures: Arc::clone(&figures),
            stop: stop.clone(),
        };
        tasks.spawn(router.serve(operations));

        let limits = &config.connections;
        let admission = Admission::new(limits.connections_max, limits.connections_per_source_max);
        let (cut_all, cut) = watch::channel(false);
        for (settings, listener) in config.fronts.iter().zip(fronts) {
            let signals = (stop.clone(), cut.clone());
            let front = Front::new(&config, settings, &board, &figures, &admission, signals);
            tasks.spawn(front.serve(listener));
        }
        // Its sender's end means the same.
        let _ = stop.wait_for(|stop| *stop).await;
        let drain = Duration::from_secs(config.edge.drain_seconds);
        if tokio::time::timeout(drain, admission.emptied()).await.is_err() {
            tracing::warn!("some connections did not end in time and are closed");
            cut_all.send_replace(true);
            admission.emptied().await;
        }
        tasks.shutdown().await;
    }
}

async fn tcp(purpose: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|error| ListenError {
        purpose,
        address,
        error,
    })
}

fn local(purpose: &'static str, address: SocketAddr, bound: io::Result<SocketAddr>) -> Result<SocketAddr, ListenError> {
    bound.map_err(|error| ListenError {
        purpose,
        address,
        error,
    })
}
