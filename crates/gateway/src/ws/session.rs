//! The loop of one session.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::stream::FuturesUnordered;
use futures_util::{Sink as _, Stream as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use types::Timestamp;
use wire::errors::Refusal;
use wire::json::Problem;
use wire::ws::{Hello, ServerMessage};

use super::subscriptions::{Opened, ReadDone, Subscriptions};
use super::{OUTPUT_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX, STREAM_OUTPUT_BYTES_MAX, TICK};
use crate::auth::Caller;
use crate::failure::Failure;
use crate::gateway::Shared;
use crate::stages::Stage;
use crate::stamps::Connection;
use crate::streams::to_text;

/// Bytes of randomness in a nonce.
const NONCE_BYTES: usize = 16;

/// One session.
pub(super) struct Session {
    pub shared: Arc<Shared>,
    pub connection: Option<Connection>,
    /// What a login signs.
    pub nonce: String,
    /// Who is logged in.
    pub caller: Option<Caller>,
    pub subscriptions: Subscriptions,
    pub output: Output,
    /// What is under way: answers of the core, openings of streams, reads of the event log.
    pub work: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// How many requests are under way.
    pub in_flight: usize,
    /// When the message that is being handled had come in.
    pub read_at: Timestamp,
    last_heard: Instant,
    pinged: bool,
    /// Why the session ends, once it does.
    ending: Option<Ending>,
}

/// Something that was under way is done.
pub(super) enum Done {
    /// A request has its reply.
    Reply(Utf8Bytes, Option<Built>),
    /// A stream is open, or is not.
    Opened(Box<Opened>),
    /// A part of the event log was read.
    Read(ReadDone),
}

/// The answer to a command that was executed is written as text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Built {
    /// When the bytes of the command came in.
    pub received_at: Timestamp,
    /// When the text was there.
    pub built_at: Timestamp,
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The client left, or the connection broke.
    Gone,
    /// The node stops.
    Stopping,
    /// For a reason that the client is told, with a close code.
    Refused(Refusal, u16),
}

/// What is to be written, bounded by who adds to it.
#[derive(Debug)]
pub(super) struct Output {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Of the answers to commands, for those that have not left yet.
    built: Vec<Built>,
    /// True while something that was handed to the socket may not have left.
    unflushed: bool,
    /// When the socket last took something.
    progress: Instant,
}

impl Output {
    fn new() -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            built: Vec::new(),
            unflushed: false,
            progress: Instant::now(),
        }
    }

    pub fn push(&mut self, text: Utf8Bytes) {
        self.push_message(Message::Text(text));
    }

    fn push_message(&mut self, message: Message) {
        if self.is_empty() {
            self.progress = Instant::now();
        }
        self.bytes += size(&message);
        self.messages.push_back(message);
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && !self.unflushed
    }
}

fn size(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    }
}

/// What came of waiting for the socket.
enum Socket {
    Frame(Message),
    /// All output has left.
    Written,
    TooLarge,
    Gone,
}

impl Session {
    pub fn new(shared: Arc<Shared>, connection: Option<Connection>) -> Self {
        let mut nonce = [0; NONCE_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).expect("the system has randomness");
        Self {
            shared,
            connection,
            nonce: wire::signing::to_hex(&nonce),
            caller: None,
            subscriptions: Subscriptions::default(),
            output: Output::new(),
            work: FuturesUnordered::new(),
            in_flight: 0,
            read_at: Timestamp(0),
            last_heard: Instant::now(),
            pinged: false,
            ending: None,
        }
    }

    /// Serves the session until it ends.
    pub async fn run(mut self, mut socket: WebSocket) {
        self.say_hello();
        let mut stopping = self.shared.stopping.subscribe();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.ending.is_none() {
            let reads = self.in_flight < REQUESTS_IN_FLIGHT_MAX && self.output.bytes() < OUTPUT_BYTES_MAX;
            let pulls = self.output.bytes() < STREAM_OUTPUT_BYTES_MAX;
            let bell = Arc::clone(self.subscriptions.bell());
            tokio::select! {
                biased;
                event = wait_for_socket(&mut socket, &mut self.output, reads) => self.on_socket(event).await,
                Some(done) = self.work.next(), if !self.work.is_empty() => self.on_done(done),
                () = bell.rung() => self.subscriptions.on_bell(),
                () = stopped(&mut stopping) => self.ending = Some(Ending::Stopping),
                () = std::future::ready(()), if pulls && self.subscriptions.has_news() => self.pull().await,
                _ = tick.tick() => self.on_tick(),
            }
        }
        self.end(&mut socket).await;
    }

    /// When the bytes of the message that is being handled came in.
    pub fn received_at(&self) -> Timestamp {
        let stamp = self.connection.as_ref().map(|connection| connection.stamps.last());
        stamp
            .filter(|stamp| stamp.0 > 0)
            .unwrap_or_else(|| self.shared.core.now())
    }

    /// The other end's address.
    pub fn peer(&self) -> IpAddr {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        self.connection
            .as_ref()
            .map_or(unspecified, |connection| connection.peer)
    }

    fn say_hello(&mut self) {
        let hello = Hello {
            nonce: self.nonce.clone(),
            cluster_id: self.shared.config.cluster_id.to_string(),
            now: self.shared.core.now().into(),
            position: self.shared.view.position().into(),
        };
        self.output.push(to_text(&ServerMessage::Hello(hello)));
    }

    async fn on_socket(&mut self, event: Socket) {
        let message = match event {
            Socket::Frame(message) => message,
            Socket::Written => return self.count_written(),
            Socket::TooLarge => return self.refuse(Refusal::BodyTooLarge, close_code::SIZE),
            Socket::Gone => return self.ending = Some(Ending::Gone),
        };
        self.last_heard = Instant::now();
        self.pinged = false;
        match message {
            Message::Text(text) => {
                self.shared.metrics.session_messages.increment(1);
                self.on_text(text.as_str()).await;
            }
            Message::Binary(_) => self.refuse(Refusal::MessageInvalid, close_code::UNSUPPORTED),
            Message::Ping(_) | Message::Pong(_) => {} // the socket answers a ping by itself
            Message::Close(_) => self.ending = Some(Ending::Gone),
        }
    }

    /// Counts the answers that have left.
    fn count_written(&mut self) {
        if self.output.built.is_empty() {
            return;
        }
        let (now, stages) = (self.shared.core.now(), &self.shared.stages);
        for built in self.output.built.drain(..) {
            stages.record(Stage::Write, now.since_ns(built.built_at));
            stages.record(Stage::Total, now.since_ns(built.received_at));
        }
    }

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Reply(text, built) => {
                self.in_flight -= 1;
                self.output.push(text);
                self.output.built.extend(built);
            }
            Done::Opened(opened) => {
                self.in_flight -= 1;
                self.output
                    .push(self.subscriptions.on_opened(*opened, &self.shared.view));
            }
            Done::Read(read) => {
                let ended = self.subscriptions.on_read(read, &self.shared.view);
                if let Some(ended) = ended {
                    self.output.push(ended);
                }
                self.start_reads();
            }
        }
    }

    fn on_tick(&mut self) {
        let config = &self.shared.config;
        if !self.output.is_empty() && self.output.progress.elapsed() > config.session_write_timeout {
            self.shared.metrics.slow_consumers.increment(1);
            return self.ending = Some(Ending::Refused(Refusal::SlowConsumer, close_code::POLICY));
        }
        let silent = self.last_heard.elapsed();
        if silent > config.session_idle_timeout {
            self.ending = Some(Ending::Gone);
        } else if silent > config.session_idle_timeout / 3 && !self.pinged {
            self.pinged = true;
            self.output.push_message(Message::Ping(bytes::Bytes::new()));
        }
    }

    fn refuse(&mut self, refusal: Refusal, code: u16) {
        self.ending = Some(Ending::Refused(refusal, code));
    }

    /// Says goodbye. Requests under way still get their replies when the node stops.
    async fn end(mut self, socket: &mut WebSocket) {
        let (problem, code) = match self.ending.take().expect("the loop has ended") {
            Ending::Gone => return,
            Ending::Stopping => (Failure::new(Refusal::NodeStopping).into_problem(), close_code::AWAY),
            Ending::Refused(refusal, code) => (Problem::new(refusal.into()), code),
        };
        let drain_timeout = self.shared.config.drain_timeout;
        let goodbye = async {
            while self.in_flight > 0 {
                let Some(done) = self.work.next().await else {
                    break;
                };
                self.on_done(done);
            }
            let reason = Utf8Bytes::from(problem.code.clone());
            self.output.push(to_text(&ServerMessage::Problem(problem)));
            self.output
                .push_message(Message::Close(Some(CloseFrame { code, reason })));
            while !self.output.is_empty() {
                if let Socket::Gone = wait_for_socket(socket, &mut self.output, false).await {
                    return;
                }
            }
            // What the client still sends is read, or the system would cut the line before the goodbye has arrived.
            while let Some(Ok(_)) = socket.next().await {}
        };
        // Whoever doesn't take the goodbye goes without it.
        let _ = tokio::time::timeout(drain_timeout, goodbye).await;
    }
}

/// Waits for the word to stop; its sender's end means the same.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Writes what there is to write and, if `reads`, waits for a frame. Nothing is lost if the wait is given up.
async fn wait_for_socket(socket: &mut WebSocket, output: &mut Output, reads: bool) -> Socket {
    std::future::poll_fn(|context| {
        let mut socket = Pin::new(&mut *socket);
        while let Some(message) = output.messages.front() {
            match socket.as_mut().poll_ready(context) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => return Poll::Ready(Socket::Gone),
                Poll::Ready(Ok(())) => {}
            }
            output.bytes -= size(message);
            let message = output.messages.pop_front().expect("it has a front");
            output.progress = Instant::now();
            output.unflushed = true;
            if socket.as_mut().start_send(message).is_err() {
                return Poll::Ready(Socket::Gone);
            }
        }
        if output.unflushed && output.messages.is_empty() {
            match socket.as_mut().poll_flush(context) {
                Poll::Pending => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Socket::Gone),
                Poll::Ready(Ok(())) => {
                    output.unflushed = false;
                    output.progress = Instant::now();
                    return Poll::Ready(Socket::Written);
                }
            }
        }
        if !reads {
            return Poll::Pending;
        }
        match socket.as_mut().poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(message))) => Poll::Ready(Socket::Frame(message)),
            Poll::Ready(Some(Err(error))) if is_too_large(&error) => Poll::Ready(Socket::TooLarge),
            Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Socket::Gone),
        }
    })
    .await
}

fn is_too_large(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    let cause = source.and_then(|source| source.downcast_ref::<tokio_tungstenite::tungstenite::Error>());
    matches!(cause, Some(tokio_tungstenite::tungstenite::Error::Capacity(_)))
}
