//! A WebSocket session's memory, without a socket: which requests wait for replies, which streams are followed and how
//! far they came. It outlives each connection; what it holds is said again on the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use types::Position;
use wire::errors::{ErrorCode, Refusal};
use wire::json::Problem;
use wire::ws::{
    BalanceItem, BookItem, Channel, ClientMessage, Ended, Login, OrderItem, Reply, Request, ServerMessage,
    StreamMessage, Subscribe, Subscription, Unsubscribe,
};

use crate::error::ClientError;
use crate::retry::{Attempts, Next, RetryPolicy, is_passing};

/// What happens on the streams of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// A connection stands, and what was followed is followed again.
    Connected,
    /// The connection was lost, and why. Another one is being made.
    Disconnected(String),
    /// A book or what a command did to it.
    Book(StreamMessage<BookItem>),
    /// Trades of an instrument.
    Trades(StreamMessage<wire::json::Trade>),
    /// The account's orders.
    Orders(StreamMessage<OrderItem>),
    /// The account's fills.
    Fills(StreamMessage<wire::json::Fill>),
    /// The account's balances.
    Balances(StreamMessage<BalanceItem>),
    /// The exchange no longer has what followed on the last message: the stream starts anew, with a snapshot where it
    /// has one, and something may have been missed.
    Restarted(Channel, Option<String>),
    /// A stream came to its end.
    Ended(Box<Ended>),
    /// The client has stopped, and why.
    Stopped(ClientError),
}

/// Where a reply goes.
pub(crate) type ReplySender = oneshot::Sender<Result<Reply, ClientError>>;

struct Pending {
    text: String,
    attempts: Attempts,
    /// None for what the session asked for itself.
    reply: Option<ReplySender>,
    give_up_at: Instant,
    /// When the present attempt was sent on this connection; none while it waits to be sent.
    sent_at: Option<Instant>,
    subscribe: Option<Subscribe>,
}

struct Followed {
    subscribe: Subscribe,
    /// Where it was resumed or where its last whole message was.
    last: Option<Position>,
    /// The message of which only some parts came: its position, and the index of the next part.
    partial: Option<(Position, u32)>,
}

/// What to do after a message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Tell the caller.
    Deliver(StreamEvent),
    /// Send this on.
    Send(String),
    /// Give the connection up.
    Disconnect(String),
}

/// The session.
pub(crate) struct Session {
    policy: RetryPolicy,
    /// True if the exchange has other nodes to go to.
    others: bool,
    next_id: u64,
    pending: BTreeMap<u64, Pending>,
    /// Pending ones that are to be sent now.
    unsent: BTreeSet<u64>,
    /// Pending ones that are to be sent again, not before.
    delayed: BTreeSet<(Instant, u64)>,
    followed: BTreeMap<(Channel, Option<String>), Followed>,
}

impl Session {
    pub fn new(policy: RetryPolicy, others: bool) -> Self {
        Self {
            policy,
            others,
            next_id: 1,
            pending: BTreeMap::new(),
            unsent: BTreeSet::new(),
            delayed: BTreeSet::new(),
            followed: BTreeMap::new(),
        }
    }

    /// How many requests wait for a reply.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Takes a request of the caller.
    pub fn submit(&mut self, request: Request, reply: ReplySender, now: Instant) {
        self.add(request, Some(reply), now);
    }

    fn add(&mut self, request: Request, reply: Option<ReplySender>, now: Instant) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let subscribe = match &request {
            Request::Subscribe(subscribe) => Some(subscribe.clone()),
            _ => None,
        };
        let attempts = Attempts::new(request_id(&request), self.others);
        let message = message(id, request);
        let text = serde_json::to_string(&message).expect("a message of strings and numbers is JSON");
        let pending = Pending {
            text,
            attempts,
            reply,
            give_up_at: now + self.policy.give_up_after,
            sent_at: None,
            subscribe,
        };
        self.pending.insert(id, pending);
        self.unsent.insert(id);
        id
    }

    /// What is to be sent now, in the order in which it was asked.
    pub fn take_unsent(&mut self, now: Instant) -> Vec<String> {
        while let Some((at, id)) = self.delayed.first().copied()
            && at <= now
        {
            self.delayed.pop_first();
            self.unsent.insert(id);
        }
        let unsent = std::mem::take(&mut self.unsent);
        let mut texts = Vec::with_capacity(unsent.len());
        for id in unsent {
            if let Some(pending) = self.pending.get_mut(&id) {
                pending.sent_at = Some(now);
                texts.push(pending.text.clone());
            }
        }
        texts
    }

    /// The first message on a new connection, after its hello.
    pub fn login(&mut self, login: Login) -> (u64, String) {
        let id = self.next_id;
        self.next_id += 1;
        let message = message(id, Request::Login(login));
        let text = serde_json::to_string(&message).expect("a message of strings and numbers is JSON");
        (id, text)
    }

    /// Asks again for every stream, from where it stopped. Goes before the requests that were under way.
    pub fn resume_all(&mut self) -> Vec<String> {
        let keys: Vec<_> = self.followed.keys().cloned().collect();
        keys.iter().filter_map(|key| self.resume(key)).collect()
    }

    fn resume(&mut self, key: &(Channel, Option<String>)) -> Option<String> {
        let followed = self.followed.get(key)?;
        let subscribe = Subscribe {
            from: followed.last.map(Into::into),
            ..followed.subscribe.clone()
        };
        self.send_internally(Request::Subscribe(subscribe))
    }

    fn send_internally(&mut self, request: Request) -> Option<String> {
        let now = Instant::now();
        let id = self.add(request, None, now);
        self.unsent.remove(&id);
        let pending = self.pending.get_mut(&id)?;
        pending.sent_at = Some(now);
        Some(pending.text.clone())
    }

    /// The connection is gone: what was sent may or may not have been executed.
    pub fn disconnected(&mut self, why: &str) {
        self.pending.retain(|_, pending| pending.reply.is_some());
        for pending in self.pending.values_mut() {
            if pending.sent_at.take().is_some() {
                pending.attempts.lost(why.to_owned());
            } else {
                pending.attempts.not_sent(why.to_owned());
            }
        }
        self.delayed.clear();
        self.unsent = self.pending.keys().copied().collect();
    }

    /// Ends requests whose time is over. Returns true if one of them waits for a reply for so long that the
    /// connection must be dead.
    pub fn check_time(&mut self, now: Instant) -> bool {
        let over: Vec<u64> = self.ids(|pending| pending.give_up_at <= now);
        for id in over {
            if let Some(pending) = self.pending.remove(&id) {
                pending.finish_unknown();
            }
        }
        let timeout = self.policy.attempt_timeout;
        let is_late = |pending: &Pending| pending.sent_at.is_some_and(|at| now.duration_since(at) >= timeout);
        self.pending.values().any(is_late)
    }

    fn ids(&self, wanted: impl Fn(&Pending) -> bool) -> Vec<u64> {
        let found = self.pending.iter().filter(|(_, pending)| wanted(pending));
        found.map(|(id, _)| *id).collect()
    }

    /// The client stops: everything that waits is told why.
    pub fn stop(&mut self, error: &ClientError) {
        for (_, pending) in std::mem::take(&mut self.pending) {
            match pending.attempts.give_up() {
                unknown @ ClientError::Unknown { .. } => pending.finish(Err(unknown)),
                _ => pending.finish(Err(error.clone())),
            }
        }
    }

    /// Takes a message of the server.
    pub fn receive(&mut self, message: ServerMessage, now: Instant) -> Vec<Step> {
        match message {
            ServerMessage::Hello(_) => vec![Step::Disconnect("the exchange said hello twice".into())],
            ServerMessage::Reply(reply) => self.reply(reply, now),
            ServerMessage::Problem(problem) => vec![Step::Disconnect(crate::error::explain(&problem))],
            ServerMessage::Ended(ended) => self.ended(ended),
            ServerMessage::Book(message) => self.stream(Channel::Book, message, StreamEvent::Book),
            ServerMessage::Trades(message) => self.stream(Channel::Trades, message, StreamEvent::Trades),
            ServerMessage::Orders(message) => self.stream(Channel::Orders, message, StreamEvent::Orders),
            ServerMessage::Fills(message) => self.stream(Channel::Fills, message, StreamEvent::Fills),
            ServerMessage::Balances(message) => self.stream(Channel::Balances, message, StreamEvent::Balances),
        }
    }

    fn reply(&mut self, mut reply: Reply, now: Instant) -> Vec<Step> {
        let Some(mut pending) = self.pending.remove(&reply.id) else {
            return Vec::new();
        };
        let Some(problem) = reply.problem.take() else {
            if let (Some(subscribe), Some(subscription)) = (pending.subscribe.take(), &reply.subscription) {
                self.follow(subscribe, subscription);
            } else if let Some(subscription) = &reply.subscription {
                self.followed
                    .remove(&key(subscription.channel, subscription.symbol.as_ref()));
            }
            pending.finish(Ok(reply));
            return Vec::new();
        };
        if let Some(subscribe) = &pending.subscribe
            && pending.reply.is_none()
        {
            return self.resume_refused(&subscribe.clone(), problem);
        }
        match pending.attempts.refused(problem) {
            Next::Stop(error) => pending.finish(Err(error)),
            Next::RetryElsewhere(_) if self.others => {
                // It is sent again by the next connection, as all that wait.
                let why = pending.attempts.last().to_owned();
                pending.sent_at = None;
                self.pending.insert(reply.id, pending);
                return vec![Step::Disconnect(why)];
            }
            Next::Retry(after) | Next::RetryElsewhere(after) => {
                let wait = after.unwrap_or_default().max(self.policy.wait_first);
                pending.sent_at = None;
                self.delayed.insert((now + wait, reply.id));
                self.pending.insert(reply.id, pending);
            }
        }
        Vec::new()
    }

    fn follow(&mut self, subscribe: Subscribe, subscription: &Subscription) {
        let key = key(subscribe.channel, subscribe.symbol.as_ref());
        let kept = self.followed.remove(&key).and_then(|followed| followed.partial);
        let starts_with_snapshot =
            subscribe.from.is_none() && !matches!(subscribe.channel, Channel::Trades | Channel::Fills);
        let last = subscription.position.position().filter(|_| !starts_with_snapshot);
        self.followed.insert(
            key,
            Followed {
                partial: kept.filter(|_| subscribe.from.is_some()),
                subscribe,
                last,
            },
        );
    }

    /// A stream can't be resumed: it starts anew if its past is no longer kept, and ends otherwise.
    fn resume_refused(&mut self, subscribe: &Subscribe, problem: Problem) -> Vec<Step> {
        let key = key(subscribe.channel, subscribe.symbol.as_ref());
        if !starts_anew(&problem) {
            if is_passing(&problem) {
                return vec![Step::Disconnect("the streams can't be resumed yet".into())];
            }
            self.followed.remove(&key);
            let (channel, symbol) = key;
            return vec![Step::Deliver(StreamEvent::Ended(Box::new(Ended {
                channel,
                symbol,
                problem,
            })))];
        }
        if let Some(followed) = self.followed.get_mut(&key) {
            followed.last = None;
            followed.partial = None;
        }
        let mut steps = vec![Step::Deliver(StreamEvent::Restarted(key.0, key.1.clone()))];
        steps.extend(self.resume(&key).map(Step::Send));
        steps
    }

    fn ended(&mut self, ended: Ended) -> Vec<Step> {
        let key = key(ended.channel, ended.symbol.as_ref());
        if is_passing(&ended.problem) || starts_anew(&ended.problem) {
            // A reader that was too slow, or whose past is gone: ask again from where it is.
            return self.resume(&key).map(Step::Send).into_iter().collect();
        }
        self.followed.remove(&key);
        vec![Step::Deliver(StreamEvent::Ended(Box::new(ended)))]
    }

    /// Takes a message of a stream: in its place, a repetition, or behind a gap.
    fn stream<T>(
        &mut self,
        channel: Channel,
        message: StreamMessage<T>,
        event: impl Fn(StreamMessage<T>) -> StreamEvent,
    ) -> Vec<Step> {
        let key = key(channel, message.symbol.as_ref());
        let Some(followed) = self.followed.get_mut(&key) else {
            // It was unsubscribed while the message was under way.
            return Vec::new();
        };
        let Some(position) = message.position.position() else {
            return vec![Step::Disconnect("a position is malformed".into())];
        };
        let previous = message.previous.as_ref().and_then(wire::json::Position::position);
        if !message.snapshot {
            let known = followed.last.is_some_and(|last| position <= last);
            let next_part = match followed.partial {
                Some((partial, next)) if partial == position => next,
                _ => 0,
            };
            if known || message.index < next_part {
                return Vec::new();
            }
            let gap = matches!((previous, followed.last), (Some(previous), Some(last)) if previous > last);
            if gap || message.index > next_part {
                return self.close_gap(&key);
            }
        }
        if message.more {
            followed.partial = (!message.snapshot).then_some((position, message.index + 1));
        } else {
            followed.partial = None;
            followed.last = Some(position);
        }
        vec![Step::Deliver(event(message))]
    }

    fn close_gap(&mut self, key: &(Channel, Option<String>)) -> Vec<Step> {
        let unsubscribe = Request::Unsubscribe(Unsubscribe {
            channel: key.0,
            symbol: key.1.clone(),
        });
        // The stream stays known: the reply to this request has no subscriber to tell.
        let id = self.next_id;
        self.next_id += 1;
        let text = serde_json::to_string(&message(id, unsubscribe)).expect("it is JSON");
        let mut steps = vec![Step::Send(text)];
        steps.extend(self.resume(key).map(Step::Send));
        steps
    }

    /// How often time is to be checked, and what waits to be sent again.
    pub fn tick(&self) -> Duration {
        (self.policy.wait_first / 2).clamp(Duration::from_millis(5), Duration::from_millis(100))
    }
}

impl Pending {
    fn finish(self, result: Result<Reply, ClientError>) {
        if let Some(reply) = self.reply {
            // A caller that no longer waits doesn't want to know.
            let _ = reply.send(result);
        }
    }

    fn finish_unknown(self) {
        let outcome = self.attempts_with_sent().give_up();
        self.finish(Err(outcome));
    }

    fn attempts_with_sent(&self) -> Attempts {
        let mut attempts = self.attempts.clone();
        if self.sent_at.is_some() {
            attempts.lost("there was no answer in time".into());
        }
        attempts
    }
}

/// True if a stream can't go on where it stopped, but can start anew.
fn starts_anew(problem: &Problem) -> bool {
    let codes = [Refusal::HistoryRetired, Refusal::PositionForked, Refusal::PositionAhead];
    codes
        .iter()
        .any(|code| ErrorCode::from(*code).entry().code == problem.code)
}

fn key(channel: Channel, symbol: Option<&String>) -> (Channel, Option<String>) {
    (channel, symbol.filter(|_| channel.is_public()).cloned())
}

/// The id of a request that changes something.
fn request_id(request: &Request) -> Option<String> {
    match request {
        Request::Place(order) if !order.validate_only => Some(order.client_order_id.clone()),
        Request::Replace(replace) => Some(replace.request_id.clone()),
        Request::Cancel(cancel) => Some(cancel.request_id.clone()),
        Request::CancelAll(cancel) => Some(cancel.request_id.clone()),
        Request::CancelAfter(request) => Some(request.request_id.clone()),
        Request::Batch(_) => Some("of each item".into()),
        Request::Place(_) | Request::Login(_) | Request::Subscribe(_) | Request::Unsubscribe(_) => None,
    }
}

fn message(id: u64, request: Request) -> ClientMessage {
    let mut message = ClientMessage {
        id,
        ..ClientMessage::default()
    };
    match request {
        Request::Login(login) => message.login = Some(login),
        Request::Place(order) => message.place = Some(order),
        Request::Replace(replace) => message.replace = Some(replace),
        Request::Cancel(cancel) => message.cancel = Some(cancel),
        Request::CancelAll(cancel) => message.cancel_all = Some(cancel),
        Request::CancelAfter(request) => message.cancel_after = Some(request),
        Request::Batch(batch) => message.batch = Some(batch),
        Request::Subscribe(subscribe) => message.subscribe = Some(subscribe),
        Request::Unsubscribe(unsubscribe) => message.unsubscribe = Some(unsubscribe),
    }
    message
}

#[cfg(test)]
mod tests;
