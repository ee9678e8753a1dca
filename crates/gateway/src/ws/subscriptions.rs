//! The streams that a session follows.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use types::{AppliedBatch, Sequence};
use wire::errors::Refusal;
use wire::json::{Freshness, Problem};
use wire::ws::{Ended, Reply, ServerMessage, Subscription};

use super::MESSAGES_PER_PULL;
use super::READS_MAX;
use super::session::{Done, Session};
use crate::failure::Failure;
use crate::handle::{History, HistoryError};
use crate::streams::{Pulled, READ_BYTES, Stream, StreamError, StreamName, to_text};
use crate::view::{Bell, MARKS_MAX, View};

/// The streams that a session follows: one mark of its bell for each.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    bell: Arc<Bell>,
    slots: Vec<Option<Slot>>,
    /// Marks of streams that may have news.
    news: VecDeque<usize>,
    /// Reads of the event log that wait for others to be done.
    reads_waiting: VecDeque<(Ticket, Sequence)>,
    reads: usize,
    tickets: u64,
}

#[derive(Debug)]
struct Slot {
    ticket: Ticket,
    name: StreamName,
    state: State,
}

/// Which stream: a mark, and a number that tells it from an earlier one with the same mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub mark: usize,
    number: u64,
}

#[derive(Debug)]
enum State {
    Opening,
    /// Waits for the bell.
    Idle(Box<Stream>),
    /// Is among those with news.
    News(Box<Stream>),
    /// Waits for a read of the event log.
    Reading(Box<Stream>),
}

/// A stream that was opened for a request, or not.
pub(super) struct Opened {
    pub id: u64,
    pub ticket: Ticket,
    pub result: Result<Stream, Problem>,
}

/// A part of the event log that was read for a stream.
pub(super) struct ReadDone {
    ticket: Ticket,
    result: Result<Vec<Arc<AppliedBatch>>, HistoryError>,
}

impl Subscriptions {
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// True if a stream may have something to tell.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Makes room for a stream that is about to be opened.
    pub fn reserve(&mut self, name: StreamName) -> Result<Ticket, Refusal> {
        if self.slots.iter().flatten().any(|slot| slot.name == name) {
            return Err(Refusal::SubscriptionRepeated);
        }
        let free = self.slots.iter().position(Option::is_none);
        let mark = free.unwrap_or(self.slots.len());
        if mark >= MARKS_MAX {
            return Err(Refusal::SubscriptionsLimit);
        }
        if mark == self.slots.len() {
            self.slots.push(None);
        }
        self.tickets += 1;
        let number = self.tickets;
        let ticket = Ticket { mark, number };
        let state = State::Opening;
        self.slots[mark] = Some(Slot { ticket, name, state });
        Ok(ticket)
    }

    /// Ends a stream; what was told up to then, if the session follows it.
    pub fn remove(&mut self, name: StreamName, view: &View) -> Option<Subscription> {
        let follows = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.name == name);
        let index = self.slots.iter().position(follows)?;
        let slot = self.slots[index].take()?;
        let stream = match slot.state {
            State::Opening => None,
            State::Idle(stream) | State::News(stream) | State::Reading(stream) => Some(stream),
        };
        Some(Subscription {
            channel: name.channel(),
            symbol: name.symbol(&view.reference()),
            position: stream
                .as_ref()
                .map_or_else(|| view.position(), |stream| stream.position(view))
                .into(),
            previous: stream.and_then(|stream| stream.previous()).map(Into::into),
        })
    }

    /// Takes the marks of the bell.
    pub fn on_bell(&mut self) {
        for mark in self.bell.take() {
            if let Some(Some(slot)) = self.slots.get_mut(mark)
                && matches!(slot.state, State::Idle(_))
            {
                slot.change(|state| match state {
                    State::Idle(stream) => State::News(stream),
                    other => other,
                });
                self.news.push_back(mark);
            }
        }
    }

    /// Takes a stream in that was opened, and returns the reply.
    pub fn on_opened(&mut self, opened: Opened, view: &View) -> Utf8Bytes {
        let Opened { id, ticket, result } = opened;
        let reply = match result {
            Err(problem) => {
                if self.slot(ticket).is_some() {
                    self.slots[ticket.mark] = None;
                }
                Reply::of_problem(id, problem)
            }
            Ok(stream) => {
                let subscription = Subscription {
                    channel: stream.name().channel(),
                    symbol: stream.name().symbol(&view.reference()),
                    position: stream.position(view).into(),
                    previous: stream.previous().map(Into::into),
                };
                // If the client has unsubscribed meanwhile, the stream ends here.
                if let Some(slot) = self.slot(ticket) {
                    slot.state = State::News(Box::new(stream));
                    self.news.push_back(ticket.mark);
                }
                Reply {
                    id,
                    status: 200,
                    subscription: Some(subscription),
                    ..Reply::default()
                }
            }
        };
        to_text(&ServerMessage::Reply(reply))
    }

    /// Takes in what was read; a message if that ended the stream.
    pub fn on_read(&mut self, read: ReadDone, view: &View) -> Option<Utf8Bytes> {
        self.reads -= 1;
        let slot = self.slot(read.ticket)?;
        let State::Reading(stream) = &mut slot.state else {
            return None;
        };
        if let Err(error) = stream.take_in(view, read.result) {
            return Some(self.end(read.ticket.mark, view, error.problem()));
        }
        slot.change(|state| match state {
            State::Reading(stream) => State::News(stream),
            other => other,
        });
        self.news.push_back(read.ticket.mark);
        None
    }

    /// Lets the next stream with news tell some of it.
    pub fn pull(&mut self, view: &View, history: &dyn History, may_read_private: bool, out: &mut Vec<Utf8Bytes>) {
        let Some(mark) = self.news.pop_front() else {
            return;
        };
        let Some(Some(slot)) = self.slots.get_mut(mark) else {
            return;
        };
        let ticket = slot.ticket;
        let is_private = matches!(slot.name, StreamName::Private(..));
        let State::News(stream) = &mut slot.state else {
            return;
        };
        if is_private && !may_read_private {
            let ended = self.end(mark, view, Problem::new(Refusal::KeyNotAccepted.into()));
            return out.push(ended);
        }
        let pulled = stream.pull(view, history, out, MESSAGES_PER_PULL);
        let next = |state, next: fn(Box<Stream>) -> State| match state {
            State::News(stream) => next(stream),
            other => other,
        };
        match pulled {
            Ok(Pulled::More) => self.news.push_back(mark),
            Ok(Pulled::Idle) => slot.change(|state| next(state, State::Idle)),
            Ok(Pulled::Read(from)) => {
                slot.change(|state| next(state, State::Reading));
                self.reads_waiting.push_back((ticket, from));
            }
            Err(error) => {
                let ended = self.end(mark, view, error.problem());
                out.push(ended);
            }
        }
    }

    /// The next read that may start now.
    fn next_read(&mut self) -> Option<(Ticket, Sequence)> {
        if self.reads >= READS_MAX {
            return None;
        }
        loop {
            let (ticket, from) = self.reads_waiting.pop_front()?;
            if self.slot(ticket).is_some() {
                self.reads += 1;
                return Some((ticket, from));
            }
        }
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(ticket.mark)?.as_mut()?;
        (slot.ticket == ticket).then_some(slot)
    }

    fn end(&mut self, mark: usize, view: &View, problem: Problem) -> Utf8Bytes {
        let slot = self.slots[mark].take().expect("the caller found it");
        to_text(&ServerMessage::Ended(Ended {
            channel: slot.name.channel(),
            symbol: slot.name.symbol(&view.reference()),
            problem,
        }))
    }
}

impl Slot {
    fn change(&mut self, next: impl FnOnce(State) -> State) {
        let state = std::mem::replace(&mut self.state, State::Opening);
        self.state = next(state);
    }
}

impl Session {
    /// Lets a stream with news tell some of it.
    pub(super) async fn pull(&mut self) {
        let shared = Arc::clone(&self.shared);
        let key = self.caller.and_then(|caller| shared.view.key(caller.key));
        let may_read_private = key.is_some_and(|key| key.active);
        let mut out = Vec::new();
        self.subscriptions
            .pull(&shared.view, shared.past.history(), may_read_private, &mut out);
        for text in out {
            self.output.push(text);
        }
        self.start_reads();
        tokio::task::yield_now().await;
    }

    /// Starts reads of the event log that streams wait for, few at a time.
    pub(super) fn start_reads(&mut self) {
        while let Some((ticket, from)) = self.subscriptions.next_read() {
            let past = self.shared.past.clone();
            self.work.push(Box::pin(async move {
                let result = past.read(from, READ_BYTES).await;
                Done::Read(ReadDone { ticket, result })
            }));
        }
    }

    /// Starts to open a stream.
    pub(super) fn open_stream(
        &mut self,
        id: u64,
        name: StreamName,
        from: Option<types::Position>,
        depth: usize,
        freshness: Freshness,
    ) -> Result<(), Refusal> {
        let ticket = self.subscriptions.reserve(name)?;
        let shared = Arc::clone(&self.shared);
        let bell = Arc::clone(self.subscriptions.bell());
        self.working += 1;
        self.work.push(Box::pin(async move {
            let opening = async {
                // What this node does not know yet may have been told by another one.
                let is_ahead = from.is_some_and(|from| from.sequence > shared.view.position().sequence);
                let is_snapshot = from.is_none() && matches!(name, StreamName::Private(..));
                let wait = if is_ahead || is_snapshot && freshness == Freshness::Linearizable {
                    shared.be_latest().await
                } else {
                    shared.catch_up().await
                };
                wait.map_err(Failure::into_problem)?;
                let bell = (&bell, ticket.mark);
                let opened = crate::streams::open(&shared.view, &shared.past, name, bell, from, depth).await;
                opened.map_err(|error: StreamError| error.problem())
            };
            let result = opening.await;
            Done::Opened(Box::new(Opened { id, ticket, result }))
        }));
        Ok(())
    }
}
