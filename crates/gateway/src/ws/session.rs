//! The loop of one session.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt as _, Stream as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};
use types::Timestamp;
use wire::errors::Refusal;
use wire::json::Problem;
use wire::ws::{Hello, ServerMessage};

use super::output::{Built, Output};
use super::subscriptions::{Opened, ReadDone, Subscriptions};
use super::under_way::UnderWay;
use super::{MESSAGES_PER_TURN, OUTPUT_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX, STREAM_OUTPUT_BYTES_MAX, TICK};
use crate::auth::Caller;
use crate::failure::Failure;
use crate::gateway::Shared;
use crate::stages::Stage;
use crate::stamps::Connection;
use crate::streams::to_text;
use crate::waiting::{Letter, Mailbox};

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
    /// The requests that the core has.
    pub under_way: UnderWay,
    /// Where the core tells what became of them.
    pub mailbox: Arc<Mailbox>,
    letters: Vec<Letter>,
    /// What else is under way: answers to batches and to repeats, openings of streams, reads of the event log.
    pub work: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// How many requests are among that.
    pub working: usize,
    /// When the message that is being handled had come in.
    pub read_at: Timestamp,
    /// How many ticks there were.
    pub ticks: u64,
    /// What a full queue is answered with.
    pub busy: BusyText,
    /// True if the client gave a sign of life since the last tick.
    heard: bool,
    last_heard: Instant,
    pinged: bool,
    /// Since when the socket takes nothing.
    stuck_since: Option<Instant>,
    /// Why the session ends, once it does.
    ending: Option<Ending>,
}

/// The connection broke.
#[derive(Debug)]
pub(super) struct Gone;

/// The problem of a full queue as JSON, up to the request's id: made once, because there are many of them at a time.
#[derive(Debug, Default)]
pub(super) struct BusyText {
    pub retry_after_ms: u64,
    pub text: Vec<u8>,
}

/// Something that was under way is done.
pub(super) enum Done {
    /// A request has its reply; of a command that was executed, when its bytes came in and when it had been applied.
    Reply(Utf8Bytes, Option<(Timestamp, Timestamp)>),
    /// A stream is open, or is not.
    Opened(Box<Opened>),
    /// A part of the event log was read.
    Read(ReadDone),
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The connection broke, or the client says nothing any more.
    Gone,
    /// The client said goodbye.
    Left,
    /// The node stops.
    Stopping,
    /// For a reason that the client is told, with a close code.
    Refused(Refusal, u16),
}

/// What the session goes on with once it has nothing left that can be done at once.
enum Next {
    /// A message that may have to wait for something.
    Message(Utf8Bytes),
    /// A stream has news.
    Pull,
    /// Its end.
    End,
}

/// What ends a session or lets its time pass.
struct Timers {
    stopping: watch::Receiver<bool>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_registered: bool,
    tick: Interval,
}

impl Timers {
    fn new(shared: &Shared) -> Self {
        let stopping = shared.stopping.subscribe();
        let mut told = stopping.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            stopping,
            stopped: Box::pin(async move {
                // The sender's end means the same.
                let _ = told.wait_for(|stopping| *stopping).await;
            }),
            is_registered: false,
            tick,
        }
    }

    /// True once the node stops. Looking again costs next to nothing.
    fn poll_stopping(&mut self, context: &mut Context<'_>) -> bool {
        if self.is_registered && !self.stopping.has_changed().unwrap_or(true) {
            return false;
        }
        self.is_registered = true;
        self.stopped.as_mut().poll(context).is_ready()
    }
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
            under_way: UnderWay::default(),
            mailbox: Arc::default(),
            letters: Vec::new(),
            work: FuturesUnordered::new(),
            working: 0,
            read_at: Timestamp(0),
            ticks: 0,
            busy: BusyText::default(),
            heard: true,
            last_heard: Instant::now(),
            pinged: false,
            stuck_since: None,
            ending: None,
        }
    }

    /// Serves the session until it ends.
    pub async fn run(mut self, mut socket: WebSocket) {
        self.say_hello();
        let mut timers = Timers::new(&self.shared);
        while self.ending.is_none() {
            match std::future::poll_fn(|context| self.poll(context, &mut socket, &mut timers)).await {
                Next::Message(text) => self.on_text(text.as_str()).await,
                Next::Pull => self.pull().await,
                Next::End => {}
            }
        }
        self.end(&mut socket).await;
    }

    /// Does all that can be done at once: takes answers, reads and handles messages, writes.
    fn poll(&mut self, context: &mut Context<'_>, socket: &mut WebSocket, timers: &mut Timers) -> Poll<Next> {
        if timers.poll_stopping(context) {
            self.ending = Some(Ending::Stopping);
        }
        while self.ending.is_none() && timers.tick.poll_tick(context).is_ready() {
            self.on_tick();
        }
        let mut messages_left = MESSAGES_PER_TURN;
        while self.ending.is_none() {
            self.take_letters();
            self.take_done(context);
            let waiting = self.poll_input(context, socket, &mut messages_left);
            // False: input stopped at a limit, and nobody will tell when there is more of it.
            let may_read = self.may_read();
            // What was executed while it was handed over is answered together with the rest; and what was put under way
            // wakes nobody before it is looked at for the first time.
            self.take_letters();
            self.take_done(context);
            if self.poll_output(context, socket).is_err() {
                self.ending = Some(Ending::Gone);
            }
            if let Some(text) = waiting {
                return Poll::Ready(Next::Message(text));
            }
            if self.ending.is_some() {
                break;
            }
            if !may_read && self.may_read() {
                continue;
            }
            if self.subscriptions.has_news() && self.output.bytes() < STREAM_OUTPUT_BYTES_MAX {
                return Poll::Ready(Next::Pull);
            }
            if !self.poll_news(context) {
                return Poll::Pending;
            }
        }
        Poll::Ready(Next::End)
    }

    /// True if something came from other threads meanwhile; otherwise the session is woken when it does.
    fn poll_news(&mut self, context: &mut Context<'_>) -> bool {
        self.mailbox.register(context.waker());
        let bell = Arc::clone(self.subscriptions.bell());
        bell.register(context.waker());
        let rung = bell.is_rung();
        if rung {
            self.subscriptions.on_bell();
        }
        rung || !self.mailbox.is_empty()
    }

    fn may_read(&self) -> bool {
        self.in_flight() < REQUESTS_IN_FLIGHT_MAX && self.output.bytes() < OUTPUT_BYTES_MAX
    }

    /// How many requests are under way.
    fn in_flight(&self) -> usize {
        self.under_way.len() + self.working
    }

    /// Reads and handles messages, up to one that may have to wait for something.
    fn poll_input(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut WebSocket,
        messages_left: &mut usize,
    ) -> Option<Utf8Bytes> {
        while self.may_read() {
            if *messages_left == 0 {
                // Others have their turn, and what was answered is written.
                context.waker().wake_by_ref();
                return None;
            }
            let message = match Pin::new(&mut *socket).poll_next(context) {
                Poll::Pending => return None,
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) if is_too_large(&error) => {
                    self.refuse(Refusal::BodyTooLarge, close_code::SIZE);
                    return None;
                }
                Poll::Ready(Some(Err(_)) | None) => {
                    self.ending = Some(Ending::Gone);
                    return None;
                }
            };
            *messages_left -= 1;
            self.heard = true;
            match message {
                Message::Text(text) => {
                    self.shared.metrics.session_messages.increment(1);
                    if !self.on_order_text(text.as_str()) {
                        return Some(text);
                    }
                }
                Message::Binary(_) => self.refuse(Refusal::MessageInvalid, close_code::UNSUPPORTED),
                Message::Ping(_) | Message::Pong(_) => {} // the socket answers a ping by itself
                Message::Close(_) => self.ending = Some(Ending::Left),
            }
            if self.ending.is_some() {
                return None;
            }
        }
        None
    }

    fn poll_output(&mut self, context: &mut Context<'_>, socket: &mut WebSocket) -> Result<(), Gone> {
        let shared = &self.shared;
        self.output.poll_write(context, socket, |built| {
            if built.is_empty() {
                return;
            }
            let now = shared.core.now();
            for built in built {
                shared.stages.record(Stage::Write, now.since_ns(built.built_at));
                shared.stages.record(Stage::Total, now.since_ns(built.received_at));
            }
        })
    }

    /// Answers the requests that the core has told of.
    fn take_letters(&mut self) {
        let mut letters = std::mem::take(&mut self.letters);
        self.mailbox.take(&mut letters);
        if !letters.is_empty() {
            let before = self.output.built_len();
            for letter in letters.drain(..) {
                self.on_letter(letter);
            }
            self.count_built(before);
        }
        self.letters = letters;
    }

    /// Stamps the answers that were made behind the first so many.
    fn count_built(&mut self, before: usize) {
        let built = self.output.built_behind(before);
        if built.is_empty() {
            return;
        }
        let now = self.shared.core.now();
        for built in built {
            built.built_at = now;
            self.shared.stages.record(Stage::Answer, now.since_ns(built.applied_at));
        }
    }

    fn take_done(&mut self, context: &mut Context<'_>) {
        while !self.work.is_empty()
            && let Poll::Ready(Some(done)) = self.work.poll_next_unpin(context)
        {
            self.on_done(done);
        }
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

    fn on_done(&mut self, done: Done) {
        match done {
            Done::Reply(text, applied) => {
                self.working -= 1;
                self.output.push(text);
                if let Some((received_at, applied_at)) = applied {
                    let before = self.output.built_len();
                    self.output.add_built(Built {
                        received_at,
                        applied_at,
                        built_at: applied_at,
                    });
                    self.count_built(before);
                }
            }
            Done::Opened(opened) => {
                self.working -= 1;
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
        let now = Instant::now();
        self.ticks += 1;
        self.give_up_late();
        let config = &self.shared.config;
        if self.output.is_stuck() {
            let since = *self.stuck_since.get_or_insert(now);
            if now - since > config.session_write_timeout {
                self.shared.metrics.slow_consumers.increment(1);
                return self.ending = Some(Ending::Refused(Refusal::SlowConsumer, close_code::POLICY));
            }
        } else {
            self.stuck_since = None;
        }
        if std::mem::take(&mut self.heard) {
            self.last_heard = now;
            self.pinged = false;
        }
        let silent = now - self.last_heard;
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
        let drain_timeout = self.shared.config.drain_timeout;
        let (problem, code) = match self.ending.take().expect("the loop has ended") {
            Ending::Gone => return,
            Ending::Left => {
                // The reply to it lies ready and leaves with the flush (RFC 6455, section 5.5.1).
                let _ = tokio::time::timeout(drain_timeout, socket.flush()).await;
                return;
            }
            Ending::Stopping => (Failure::new(Refusal::NodeStopping).into_problem(), close_code::AWAY),
            Ending::Refused(refusal, code) => (Problem::new(refusal.into()), code),
        };
        let goodbye = async {
            std::future::poll_fn(|context| self.poll_answered(context)).await;
            let reason = Utf8Bytes::from(problem.code.clone());
            self.output.push(to_text(&ServerMessage::Problem(problem)));
            self.output
                .push_message(Message::Close(Some(CloseFrame { code, reason })));
            if std::future::poll_fn(|context| self.poll_written(context, socket))
                .await
                .is_err()
            {
                return;
            }
            // What the client still sends is read, or the system would cut the line before the goodbye has arrived.
            while let Some(Ok(_)) = socket.next().await {}
        };
        // Whoever doesn't take the goodbye goes without it.
        let _ = tokio::time::timeout(drain_timeout, goodbye).await;
    }

    /// Waits until every request has its reply.
    fn poll_answered(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.mailbox.register(context.waker());
        self.take_letters();
        self.take_done(context);
        if self.in_flight() == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Waits until all output has left.
    fn poll_written(&mut self, context: &mut Context<'_>, socket: &mut WebSocket) -> Poll<Result<(), Gone>> {
        match self.poll_output(context, socket) {
            Ok(()) if !self.output.is_empty() => Poll::Pending,
            written => Poll::Ready(written),
        }
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    let cause = source.and_then(|source| source.downcast_ref::<tokio_tungstenite::tungstenite::Error>());
    matches!(cause, Some(tokio_tungstenite::tungstenite::Error::Capacity(_)))
}
