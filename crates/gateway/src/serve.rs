//! The gateway's own accept loop over hyper: first-byte stamps, a time-out for heads, a limit on connections, panics
//! that end as an answer, and an orderly end.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt as _;
use wire::errors::Refusal;

use crate::failure::Failure;
use crate::gateway::{Gateway, Shared};
use crate::metrics::Counted;
use crate::proxy_protocol;
use crate::stages::Stage;
use crate::stamps::{Connection, ReadStamps, ReceivedAt, StampedStream};
use crate::tls::Tls;

/// Bytes of a request's head, all headers together.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Connections to the operations port: probes, and whoever collects metrics.
const OPERATIONS_CONNECTIONS_MAX: usize = 64;
/// How long to wait after the system refused to accept: most often it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Gateway {
    /// Serves the public API until `stop` turns true, then lets open requests end.
    pub async fn serve_public(&self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let connections_max = self.0.config.connections_max;
        let tls = self.0.config.tls.clone();
        let proxies = self.0.config.proxy_protocol_from.clone();
        let router = self.public_router();
        self.serve(listener, (tls, proxies), router, connections_max, stop)
            .await;
    }

    /// Serves the operators' API until `stop` turns true, then lets open requests end.
    pub async fn serve_admin(&self, listener: TcpListener, stop: watch::Receiver<bool>) {
        let connections_max = self.0.config.connections_max;
        let tls = self.0.config.tls.clone();
        let router = self.admin_router();
        self.serve(listener, (tls, Vec::new()), router, connections_max, stop)
            .await;
    }

    /// Serves health and metrics, whose routes are the caller's, until `stop` turns true.
    pub async fn serve_operations(&self, listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
        let plain = (None, Vec::new());
        self.serve(listener, plain, router, OPERATIONS_CONNECTIONS_MAX, stop)
            .await;
    }

    async fn serve(
        &self,
        listener: TcpListener,
        (tls, proxies): (Option<Tls>, Vec<IpAddr>),
        router: Router,
        connections_max: usize,
        mut stop: watch::Receiver<bool>,
    ) {
        let shared = &self.0;
        let permits = Arc::new(Semaphore::new(connections_max));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !proxies.is_empty() && !proxies.contains(&peer.ip().to_canonical()) {
                shared.metrics.refused_proxies.increment(1);
                continue;
            }
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                shared.metrics.connections_refused.increment(1);
                // Over TLS there is nobody yet to say it to.
                if tls.is_none() {
                    refuse(&stream);
                }
                continue;
            };
            // Answers are small and wanted at once.
            let _ = stream.set_nodelay(true);
            let connecting = Connecting {
                shared: Arc::clone(shared),
                router: router.clone(),
                peer,
                stop: stop.clone(),
                permit,
            };
            match (proxies.is_empty(), tls.clone()) {
                (true, None) => tokio::spawn(connecting.serve(stream)),
                (true, Some(tls)) => tokio::spawn(connecting.serve_tls(stream, tls)),
                (false, tls) => tokio::spawn(connecting.serve_proxied(stream, tls)),
            };
        }
        drop(listener);
        let all = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (connections, sessions) = (all(connections_max), all(shared.config.connections_max));
        let ended = async {
            // An upgraded connection has given its permit back; its session has one of its own, of all listeners together.
            // None is kept, or listeners would wait for each other.
            drop(permits.acquire_many(connections).await);
            drop(shared.sessions.acquire_many(sessions).await);
        };
        let drained = tokio::time::timeout(shared.config.drain_timeout, ended);
        if drained.await.is_err() {
            tracing::warn!("some connections did not end in time and are cut");
        }
    }
}

/// Waits for the word to stop; its sender's end means the same.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Says on a connection too many that there is no room, as far as that goes without waiting.
fn refuse(stream: &TcpStream) {
    let problem = Failure::new(Refusal::ConnectionsLimit).into_problem();
    let body = serde_json::to_string(&problem).expect("a problem is plain data");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.try_write(answer.as_bytes());
}

/// A connection that was accepted.
struct Connecting {
    shared: Arc<Shared>,
    router: Router,
    peer: SocketAddr,
    stop: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
}

impl Connecting {
    /// Reads first who the client is. Whoever takes longer for it than for a request's head is let go.
    async fn serve_proxied(mut self, mut stream: TcpStream, tls: Option<Tls>) {
        let reading = tokio::time::timeout(self.shared.config.head_timeout, proxy_protocol::read(&mut stream));
        let read = tokio::select! {
            read = reading => read,
            () = stopped(&mut self.stop) => return,
        };
        match read {
            Ok(Ok(Some(client))) => self.peer = client,
            // The proxy's own connection.
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                self.shared.metrics.refused_proxies.increment(1);
                tracing::debug!(peer = %self.peer, %error, "a proxy did not say who its client is");
                return;
            }
            Err(_late) => return self.shared.metrics.refused_proxies.increment(1),
        }
        match tls {
            None => self.serve(stream).await,
            Some(tls) => self.serve_tls(stream, tls).await,
        }
    }

    /// Agrees on keys first. Whoever takes longer for it than for a request's head is let go.
    async fn serve_tls(mut self, stream: TcpStream, tls: Tls) {
        let handshake = tokio::time::timeout(self.shared.config.head_timeout, tls.acceptor().accept(stream));
        let agreed = tokio::select! {
            agreed = handshake => agreed,
            () = stopped(&mut self.stop) => return,
        };
        match agreed {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => {
                self.shared.metrics.refused_handshakes.increment(1);
                tracing::debug!(peer = %self.peer, %error, "a TLS handshake failed");
            }
            Err(_late) => self.shared.metrics.refused_handshakes.increment(1),
        }
    }

    async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self {
            shared,
            router,
            peer,
            mut stop,
            permit,
        } = self;
        let counted = Counted::new(&shared.metrics.connections);
        let stamps = Arc::new(ReadStamps::default());
        let connection = Connection {
            peer: peer.ip(),
            stamps: Arc::clone(&stamps),
        };
        let stream = StampedStream::new(stream, stamps, Arc::clone(&shared.core), shared.config.write_timeout);
        let service = {
            let shared = Arc::clone(&shared);
            service_fn(move |request| answer(Arc::clone(&shared), router.clone(), connection.clone(), request))
        };
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(shared.config.head_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX);
        let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut serving = std::pin::pin!(serving);
        let result = tokio::select! {
            result = serving.as_mut() => Some(result),
            () = stopped(&mut stop) => None,
        };
        let result = match result {
            Some(result) => result,
            None => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
        drop(counted);
        drop(permit);
    }
}

/// Answers one request. Whatever happens, something with an outcome comes back.
async fn answer(
    shared: Arc<Shared>,
    router: Router,
    connection: Connection,
    request: Request<Incoming>,
) -> Result<Response, std::convert::Infallible> {
    let stamps = Arc::clone(&connection.stamps);
    let received_at = stamps.begin();
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ReceivedAt(received_at));
    request.extensions_mut().insert(connection);
    let answered = AssertUnwindSafe(router.oneshot(request)).catch_unwind().await;
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_panic) => {
            shared.metrics.panics.increment(1);
            tracing::error!("a handler panicked");
            Failure::new(Refusal::InternalError).into_response()
        }
    };
    shared.metrics.request(response.status());
    if let Some(applied_at) = stamps.end() {
        let now = shared.core.now();
        shared.stages.record(Stage::Answer, now.since_ns(applied_at));
        stamps.built(received_at, now);
    }
    Ok(response)
}
