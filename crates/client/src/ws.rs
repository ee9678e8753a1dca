//! The WebSocket client: many requests under way at once and streams that go on where they stopped, over a socket that
//! is reopened, at the next node of the exchange if there are several, whenever it is lost.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use types::ClusterId;
use wire::json::{CancelItem, NewOrder, OrderAnswer, ReplaceItem};
use wire::ws::{Hello, Reply, Request, ServerMessage, Subscribe, Subscription};

use crate::backoff::Backoff;
use crate::clock::ExchangeClock;
use crate::credentials::Credentials;
use crate::endpoints::Endpoints;
use crate::error::ClientError;
use crate::random::Random;
use crate::rest::with_sources;
use crate::retry::{Attempts, Next, RetryPolicy};
use crate::session::{ReplySender, Session, Step, StreamEvent};
use crate::tls::{self, Line};

/// Requests that may wait to be taken over by the connection's task.
const REQUESTS_QUEUED_MAX: usize = 1_024;
/// Stream events that may wait for the caller. When it doesn't take them, the socket is not read either.
const EVENTS_QUEUED_MAX: usize = 16_384;
/// Requests that may wait for a reply. When there are so many, no more are taken over.
const REQUESTS_PENDING_MAX: usize = 16_384;
/// When nothing came for this long the client asks for a sign of life, and after twice as long it reconnects.
const SILENCE_MAX: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<Box<dyn Line>>;

struct Submitted {
    request: Request,
    reply: ReplySender,
}

/// A handle of a WebSocket client. Cheap to clone; when the last one is dropped the connection is closed, once all
/// replies have come.
#[derive(Clone, Debug)]
pub struct WsClient {
    requests: mpsc::Sender<Submitted>,
    clock: ExchangeClock,
    policy: RetryPolicy,
}

/// A reply that is under way.
#[derive(Debug)]
pub struct PendingReply(oneshot::Receiver<Result<Reply, ClientError>>);

impl PendingReply {
    /// Waits for it.
    pub async fn wait(self) -> Result<Reply, ClientError> {
        let stopped = ClientError::Unavailable("the client has stopped".into());
        self.0.await.unwrap_or(Err(stopped))
    }
}

impl WsClient {
    /// Connects and logs in (unless there are no credentials), and returns once that is done, with the events of the
    /// streams that will be followed. Take them: while they are not taken, replies don't come either.
    pub async fn connect(
        endpoints: impl Into<Endpoints>,
        credentials: Option<Credentials>,
        policy: RetryPolicy,
    ) -> Result<(Self, mpsc::Receiver<StreamEvent>), ClientError> {
        let (requests, submitted) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let (events, receiver) = mpsc::channel(EVENTS_QUEUED_MAX);
        let (ready, connected) = oneshot::channel();
        let clock = ExchangeClock::default();
        let endpoints = endpoints.into();
        let connection = Connection {
            // Their trust is the same.
            tls: endpoints.get(0).tls()?.map(Arc::new),
            session: Session::new(policy, endpoints.are_several()),
            endpoints,
            index: 0,
            credentials,
            policy,
            clock: clock.clone(),
            submitted,
            events,
            ready: Some(ready),
        };
        tokio::spawn(connection.run());
        let stopped = ClientError::Unavailable("the client has stopped".into());
        connected.await.unwrap_or(Err(stopped))?;
        let client = Self {
            requests,
            clock,
            policy,
        };
        Ok((client, receiver))
    }

    /// The exchange's clock.
    pub fn clock(&self) -> &ExchangeClock {
        &self.clock
    }

    /// Sends a request, behind those that were submitted before it, without waiting for its reply. One that the exchange
    /// is too busy for is sent again later, and those behind it may be executed first: whoever needs an order among
    /// requests stays within the rate of `/v1/limits`, or waits for replies.
    ///
    /// Fills in `valid_until` of an order, replace, cancel, cancel-all and cancel-after where it is missing.
    pub async fn submit(&self, mut request: Request) -> Result<PendingReply, ClientError> {
        let valid_until = match &mut request {
            Request::Place(order) => Some(&mut order.valid_until),
            Request::Replace(replace) => Some(&mut replace.valid_until),
            Request::Cancel(cancel) => Some(&mut cancel.valid_until),
            Request::CancelAll(cancel) => Some(&mut cancel.valid_until),
            Request::CancelAfter(request) => Some(&mut request.valid_until),
            Request::Batch(_) | Request::Login(_) | Request::Subscribe(_) | Request::Unsubscribe(_) => None,
        };
        if let Some(valid_until) = valid_until {
            valid_until.get_or_insert_with(|| self.clock.valid_until(self.policy.valid_for));
        }
        let (reply, receiver) = oneshot::channel();
        let stopped = |_| ClientError::Unavailable("the client has stopped".into());
        self.requests
            .send(Submitted { request, reply })
            .await
            .map_err(stopped)?;
        Ok(PendingReply(receiver))
    }

    /// Sends a request and waits for its reply.
    pub async fn request(&self, request: Request) -> Result<Reply, ClientError> {
        self.submit(request).await?.wait().await
    }

    /// Places an order.
    pub async fn place(&self, order: NewOrder) -> Result<OrderAnswer, ClientError> {
        order_answer(self.request(Request::Place(order)).await?)
    }

    /// Changes an order.
    pub async fn replace(&self, replace: ReplaceItem) -> Result<OrderAnswer, ClientError> {
        order_answer(self.request(Request::Replace(replace)).await?)
    }

    /// Cancels an order.
    pub async fn cancel(&self, cancel: CancelItem) -> Result<OrderAnswer, ClientError> {
        order_answer(self.request(Request::Cancel(cancel)).await?)
    }

    /// Follows a stream. Its messages come as events.
    pub async fn subscribe(&self, subscribe: Subscribe) -> Result<Subscription, ClientError> {
        let reply = self.request(Request::Subscribe(subscribe)).await?;
        let missing = || ClientError::NotUnderstood("the reply names no subscription".into());
        reply.subscription.ok_or_else(missing)
    }
}

/// The answer about an order in a reply.
pub fn order_answer(reply: Reply) -> Result<OrderAnswer, ClientError> {
    let missing = || ClientError::NotUnderstood("the reply has no order answer".into());
    reply.order.ok_or_else(missing)
}

/// Why a connection came to its end.
enum Lost {
    /// Make another one.
    Reconnect(String),
    /// The caller is done.
    Done,
    /// There is no use in another one.
    Stop(ClientError),
}

struct Connection {
    /// None for a plain connection.
    tls: Option<Arc<ClientConfig>>,
    endpoints: Endpoints,
    /// Which of them is connected to; counts on.
    index: usize,
    credentials: Option<Credentials>,
    policy: RetryPolicy,
    clock: ExchangeClock,
    session: Session,
    submitted: mpsc::Receiver<Submitted>,
    events: mpsc::Sender<StreamEvent>,
    /// Told once the first connection stands or can't be made.
    ready: Option<oneshot::Sender<Result<(), ClientError>>>,
}

impl Connection {
    async fn run(mut self) {
        let random = Random::from_system();
        let mut backoff = Backoff::new(self.policy.wait_first, self.policy.wait_longest, random);
        let give_up_at = Instant::now() + self.policy.give_up_after;
        let error = loop {
            let lost = match self.open().await {
                Ok(socket) => {
                    let opened_at = Instant::now();
                    let lost = self.converse(socket).await;
                    if opened_at.elapsed() > self.policy.wait_longest {
                        backoff.reset();
                    }
                    lost
                }
                Err(lost) => lost,
            };
            match lost {
                Lost::Done => return,
                Lost::Stop(error) => break error,
                Lost::Reconnect(why) => {
                    self.index = self.index.wrapping_add(1);
                    self.session.disconnected(&why);
                    if self.ready.is_some() && Instant::now() >= give_up_at {
                        break ClientError::Unavailable(why);
                    }
                    if self.ready.is_none() {
                        self.deliver(StreamEvent::Disconnected(why)).await;
                    }
                }
            }
            sleep(backoff.wait(None)).await;
            // Whoever asks meanwhile is not kept waiting beyond its patience.
            while self.session.pending_count() < REQUESTS_PENDING_MAX
                && let Ok(submitted) = self.submitted.try_recv()
            {
                self.take(submitted);
            }
            self.session.check_time(Instant::now());
            if self.ready.is_none() && self.submitted.is_closed() && self.session.pending_count() == 0 {
                return;
            }
        };
        self.stop(error).await;
    }

    async fn stop(mut self, error: ClientError) {
        self.session.stop(&error);
        self.submitted.close();
        while let Some(submitted) = self.submitted.recv().await {
            let _ = submitted.reply.send(Err(error.clone()));
        }
        match self.ready.take() {
            Some(ready) => {
                let _ = ready.send(Err(error));
            }
            None => self.deliver(StreamEvent::Stopped(error)).await,
        }
    }

    /// A caller that dropped the receiver does not follow streams.
    async fn deliver(&self, event: StreamEvent) {
        let _ = self.events.send(event).await;
    }

    /// Connects, takes the hello and logs in.
    async fn open(&mut self) -> Result<Socket, Lost> {
        match timeout(self.policy.attempt_timeout, self.open_unhurried()).await {
            Ok(opened) => opened,
            Err(_) => Err(Lost::Reconnect("no connection came about in time".into())),
        }
    }

    async fn open_unhurried(&mut self) -> Result<Socket, Lost> {
        let reconnect = |error: &dyn std::error::Error| Lost::Reconnect(with_sources(error));
        let endpoint = self.endpoints.get(self.index);
        let stream = TcpStream::connect(endpoint.address())
            .await
            .map_err(|error| reconnect(&error))?;
        stream.set_nodelay(true).map_err(|error| reconnect(&error))?;
        let line = match &self.tls {
            Some(tls) => tls::secure(Arc::clone(tls), &endpoint.host(), stream).await,
            None => Ok(Box::new(stream) as Box<dyn Line>),
        };
        let line = line.map_err(|error| reconnect(&error))?;
        let opening = tokio_tungstenite::client_async(endpoint.websocket_url(), line).await;
        let (mut socket, _) = opening.map_err(|error| reconnect(&error))?;
        let hello = match next_message(&mut socket).await? {
            ServerMessage::Hello(hello) => hello,
            ServerMessage::Problem(problem) => return Err(Lost::Reconnect(crate::error::explain(&problem))),
            _ => return Err(Lost::Reconnect("the exchange did not say hello".into())),
        };
        self.log_in(&mut socket, &hello).await?;
        Ok(socket)
    }

    async fn log_in(&mut self, socket: &mut Socket, hello: &Hello) -> Result<(), Lost> {
        let malformed = |what: &str| Lost::Reconnect(format!("the hello's {what} is malformed"));
        self.clock.set(hello.now.time().ok_or_else(|| malformed("time"))?);
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        let cluster: ClusterId = hello.cluster_id.parse().map_err(|_| malformed("cluster id"))?;
        let (id, text) = self.session.login(credentials.login(&cluster, &hello.nonce));
        let sent = socket.send(Message::text(text)).await;
        sent.map_err(|error| Lost::Reconnect(with_sources(&error)))?;
        loop {
            let problem = match next_message(socket).await? {
                ServerMessage::Reply(reply) if reply.id == id => match reply.problem {
                    Some(problem) => problem,
                    None => return Ok(()),
                },
                ServerMessage::Problem(problem) => problem,
                _ => continue,
            };
            return Err(
                match Attempts::new(None, self.endpoints.are_several()).refused(problem.clone()) {
                    Next::Stop(error) => Lost::Stop(error),
                    Next::Retry(_) | Next::RetryElsewhere(_) => Lost::Reconnect(crate::error::explain(&problem)),
                },
            );
        }
    }

    /// Sends and receives until the connection ends.
    async fn converse(&mut self, mut socket: Socket) -> Lost {
        let resumed = self.session.resume_all();
        if let Err(lost) = send_all(&mut socket, resumed).await {
            return lost;
        }
        match self.ready.take() {
            Some(ready) => {
                let _ = ready.send(Ok(()));
            }
            None => self.deliver(StreamEvent::Connected).await,
        }
        let mut heard_at = Instant::now();
        let mut asked_for_life = false;
        let mut closing = false;
        let mut ticks = interval(self.session.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let unsent = self.session.take_unsent(Instant::now());
            if let Err(lost) = send_all(&mut socket, unsent).await {
                return lost;
            }
            if closing && self.session.pending_count() == 0 {
                let _ = socket.close(None).await;
                return Lost::Done;
            }
            let takes_requests = !closing && self.session.pending_count() < REQUESTS_PENDING_MAX;
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    let now = Instant::now();
                    if self.session.check_time(now) {
                        return Lost::Reconnect("there was no answer in time".into());
                    }
                    let silence = now.duration_since(heard_at);
                    if silence >= SILENCE_MAX * 2 {
                        return Lost::Reconnect("the connection is silent".into());
                    }
                    if silence >= SILENCE_MAX && !asked_for_life {
                        asked_for_life = true;
                        if let Err(error) = socket.send(Message::Ping(bytes::Bytes::new())).await {
                            return Lost::Reconnect(with_sources(&error));
                        }
                    }
                }
                message = socket.next() => {
                    heard_at = Instant::now();
                    asked_for_life = false;
                    if let Err(lost) = self.received(&mut socket, message).await {
                        return lost;
                    }
                }
                submitted = self.submitted.recv(), if takes_requests => match submitted {
                    Some(submitted) => self.take(submitted),
                    None => closing = true,
                },
            }
        }
    }

    /// Takes a request over, and those behind it, so that they are written together.
    fn take(&mut self, submitted: Submitted) {
        let now = Instant::now();
        self.session.submit(submitted.request, submitted.reply, now);
        while let Ok(submitted) = self.submitted.try_recv() {
            self.session.submit(submitted.request, submitted.reply, now);
        }
    }

    async fn received(
        &mut self,
        socket: &mut Socket,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<(), Lost> {
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(_)) => return Err(Lost::Reconnect("the exchange closed the connection".into())),
            Some(Err(error)) => return Err(Lost::Reconnect(with_sources(&error))),
            None => return Err(Lost::Reconnect("the connection ended".into())),
        };
        let message = parse(&text)?;
        for step in self.session.receive(message, Instant::now()) {
            match step {
                Step::Deliver(event) => self.deliver(event).await,
                Step::Send(text) => send_all(socket, vec![text]).await?,
                Step::Disconnect(why) => return Err(Lost::Reconnect(why)),
            }
        }
        Ok(())
    }
}

async fn next_message(socket: &mut Socket) -> Result<ServerMessage, Lost> {
    loop {
        return match socket.next().await {
            Some(Ok(Message::Text(text))) => parse(&text),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(_)) | None => Err(Lost::Reconnect("the exchange closed the connection".into())),
            Some(Err(error)) => Err(Lost::Reconnect(with_sources(&error))),
        };
    }
}

fn parse(text: &str) -> Result<ServerMessage, Lost> {
    serde_json::from_str(text).map_err(|error| Lost::Reconnect(format!("a message is not understood: {error}")))
}

async fn send_all(socket: &mut Socket, texts: Vec<String>) -> Result<(), Lost> {
    if texts.is_empty() {
        return Ok(());
    }
    let lost = |error: tokio_tungstenite::tungstenite::Error| Lost::Reconnect(with_sources(&error));
    for text in texts {
        socket.feed(Message::text(text)).await.map_err(lost)?;
    }
    socket.flush().await.map_err(lost)
}
