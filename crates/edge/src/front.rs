//! The TCP front: takes clients' connections, makes one to a node of the active region for each, and passes bytes on. TLS
//! passes through untouched.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admission::{Admission, Place};
use crate::board::{Board, Lease};
use crate::config::{Config, FrontConfig};
use crate::figures::{Ended, Figures, Refused};
use crate::follow::Keep;
use crate::pipe::{PipeSettings, pipe};
use crate::proxy_protocol;

/// How long to wait after the system refused to accept: most often it is out of file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How many nodes are tried for a connection.
const NODES_TRIED_MAX: usize = 3;

/// What a front needs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    pub board: Arc<Board>,
    pub figures: Arc<Figures>,
    pub admission: Admission,
    /// Turns true when no more connections are taken.
    pub stop: watch::Receiver<bool>,
    /// Turns true when those that are open are closed.
    pub cut: watch::Receiver<bool>,
    config: FrontConfig,
    dial_timeout: Duration,
    pipe: PipeSettings,
}

impl Front {
    pub fn new(
        config: &Config,
        front: &FrontConfig,
        board: &Arc<Board>,
        figures: &Arc<Figures>,
        admission: &Admission,
        (stop, cut): (watch::Receiver<bool>, watch::Receiver<bool>),
    ) -> Self {
        Self {
            board: Arc::clone(board),
            figures: Arc::clone(figures),
            admission: admission.clone(),
            stop,
            cut,
            config: front.clone(),
            dial_timeout: Duration::from_millis(config.connections.dial_timeout_ms),
            pipe: PipeSettings::from(&config.connections),
        }
    }

    /// Takes connections until it is told to stop.
    pub async fn serve(mut self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match self.admission.enter(client.ip()) {
                Ok(place) => drop(tokio::spawn(self.clone().pass(stream, client, place))),
                Err(why) => self.figures.refused(why),
            }
        }
    }

    /// One client's connection, from its first byte to its last.
    async fn pass(self, mut client: TcpStream, address: SocketAddr, place: Place) {
        let mut cut = self.cut.clone();
        let connected = tokio::select! {
            connected = self.connect(&client, address) => connected,
            _ = cut.wait_for(|cut| *cut) => return self.figures.ended(Ended::Stopped),
        };
        let (mut node, mut lease) = match connected {
            Ok(connected) => connected,
            Err(why) => return self.figures.refused(why),
        };
        self.figures.passed[lease.region].increment(1);
        self.figures.connections.increment(1);
        let (from_client, from_node) = (&self.figures.bytes_from_clients, &self.figures.bytes_from_nodes);
        let ended = tokio::select! {
            biased;
            keep = lease.cut() => match keep {
                Keep::Superseded => Ended::Superseded,
                Keep::Lost | Keep::Yes => Ended::NodeLost,
            },
            _ = cut.wait_for(|cut| *cut) => Ended::Stopped,
            ended = pipe(&mut client, &mut node, self.pipe, from_client, from_node) => ended,
        };
        drop((client, node, lease));
        self.figures.connections.decrement(1);
        self.figures.ended(ended);
        tracing::debug!(%address, ?ended, "a connection ended");
        drop(place);
    }

    /// Connects to a node, or after a failure to another one.
    async fn connect(&self, client: &TcpStream, address: SocketAddr) -> Result<(TcpStream, Lease), Refused> {
        // What is passed on is small and wanted at once.
        let _ = client.set_nodelay(true);
        let mut tried = Vec::with_capacity(NODES_TRIED_MAX);
        loop {
            let lease = self.board.take(&tried, Instant::now())?;
            let dial = tokio::time::timeout(self.dial_timeout, self.dial(client, address, &lease));
            match dial.await {
                Ok(Ok(node)) => {
                    lease.dialled();
                    return Ok((node, lease));
                }
                Ok(Err(error)) => tracing::debug!(node = %lease.address, %error, "a node took no connection"),
                Err(_) => tracing::debug!(node = %lease.address, "a node took no connection in time"),
            }
            lease.dial_failed(Instant::now());
            tried.push(lease.node);
            if tried.len() == NODES_TRIED_MAX {
                return Err(Refused::Dial);
            }
        }
    }

    async fn dial(&self, client: &TcpStream, source: SocketAddr, lease: &Lease) -> std::io::Result<TcpStream> {
        let mut address = lease.address;
        if let Some(port) = self.config.node_port {
            address.set_port(port);
        }
        let mut node = TcpStream::connect(address).await?;
        let _ = node.set_nodelay(true);
        if self.config.proxy_protocol {
            let header = proxy_protocol::header(source, client.local_addr()?);
            node.write_all(&header).await?;
        }
        Ok(node)
    }
}
