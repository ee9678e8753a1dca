//! Clients of two regions: they ask any node of either, and again under the same id until they have an answer.

use std::collections::BTreeMap;

use types::{Command, Timestamp};
use wire::journal::NodeId;

use super::coverage::Point;
use super::shared::{Happening, Reply, Shared};
use crate::events::{Call, MILLISECOND, Time};
use crate::invariants::answers_agree;
use crate::market::{Asked, Outcome, TRADERS, next_command};
use crate::random::Dice;

/// How many requests a client has under way at most.
const OPEN_MAX: usize = 5;
/// After this long without an answer it asks again.
const TIME_OUT: Time = 1_200 * MILLISECOND;

#[derive(Clone, Debug)]
struct Open {
    command: Command,
    attempt: u32,
    /// True if it is to be asked once more after its answer.
    twice: bool,
}

#[derive(Clone, Debug)]
struct Client {
    asked: Asked,
    open: BTreeMap<u32, Open>,
    node: NodeId,
}

/// All clients.
pub(super) struct Clients {
    clients: Vec<Client>,
    dice: Dice,
    nodes: Vec<NodeId>,
    /// False once they ask nothing new.
    pub(super) open_for_business: bool,
    /// How many requests were made.
    pub(super) issued: u64,
}

impl Clients {
    pub(super) fn new(dice: Dice, nodes: Vec<NodeId>) -> Self {
        let client = Client {
            asked: Asked::default(),
            open: BTreeMap::new(),
            node: nodes[0],
        };
        Self {
            clients: vec![client; TRADERS as usize + 1],
            dice,
            nodes,
            open_for_business: true,
            issued: 0,
        }
    }

    pub(super) fn begin(&mut self, shared: &mut Shared) {
        for client in 0..=TRADERS {
            let wait = self.dice.below(300) * MILLISECOND;
            shared.after(wait, Happening::ClientTurn(client));
        }
    }

    /// How many requests have no answer.
    pub(super) fn waiting(&self) -> usize {
        self.clients.iter().map(|client| client.open.len()).sum()
    }

    /// A client asks something new.
    pub(super) fn turn(&mut self, client: u32, utc: Timestamp, shared: &mut Shared) {
        if !self.open_for_business {
            return;
        }
        let wait = self.dice.between(100, 500) * MILLISECOND;
        shared.after(wait, Happening::ClientTurn(client));
        for _ in 0..self.dice.between(1, 4) {
            self.ask_something(client, utc, shared);
        }
    }

    /// One request more of a client that has not too many under way.
    pub(super) fn ask_something(&mut self, client: u32, utc: Timestamp, shared: &mut Shared) {
        let state = &mut self.clients[client as usize];
        if state.open.len() >= OPEN_MAX {
            return;
        }
        let command = next_command(client, &mut state.asked, utc, &mut self.dice);
        let request = state.asked.requests;
        let open = Open {
            command,
            attempt: 0,
            twice: self.dice.one_in(12),
        };
        state.open.insert(request, open);
        self.issued += 1;
        self.ask(client, request, shared);
    }

    fn ask(&mut self, client: u32, request: u32, shared: &mut Shared) {
        let elsewhere = self.dice.one_in(30);
        let state = &mut self.clients[client as usize];
        let Some(open) = state.open.get_mut(&request) else {
            return;
        };
        if elsewhere {
            state.node = self.dice.pick(&self.nodes);
        }
        open.attempt += 1;
        let call = Call {
            client,
            request,
            attempt: open.attempt,
        };
        let (command, node) = (Box::new(open.command.clone()), state.node);
        let way = self.dice.between(200, 2_000) * 1_000;
        shared.after(way, Happening::Called { node, call, command });
        shared.after(TIME_OUT, Happening::TimedOut(call));
    }

    /// No answer came to an attempt: it tries another node.
    pub(super) fn timed_out(&mut self, call: Call, shared: &mut Shared) {
        let client = &mut self.clients[call.client as usize];
        if client
            .open
            .get(&call.request)
            .is_some_and(|open| open.attempt == call.attempt)
        {
            client.node = self.dice.pick(&self.nodes);
            shared.hit(Point::AskedAgain);
            self.ask(call.client, call.request, shared);
        }
    }

    /// A client hears something. Also a late answer is one.
    pub(super) fn replied(&mut self, call: Call, reply: &Reply, shared: &mut Shared) {
        let client = &mut self.clients[call.client as usize];
        let Some(open) = client.open.get_mut(&call.request) else {
            return;
        };
        match reply {
            Reply::Answer(answer) => {
                let asked = (open.command.account, open.command.request_id);
                if let Err(why) = answers_agree::is_of(asked, answer) {
                    shared.oracle.stopped(client.node, why);
                }
                if answer.outcome == Outcome::Executed {
                    client.asked.orders.push((answer.sequence, answer.request_id));
                }
                if std::mem::take(&mut open.twice) {
                    return self.ask(call.client, call.request, shared);
                }
                client.open.remove(&call.request);
            }
            Reply::NotHere(Some(leader)) if open.attempt == call.attempt && !self.dice.one_in(4) => {
                client.node = *leader;
                self.ask(call.client, call.request, shared);
            }
            Reply::NotHere(_) | Reply::Unknown if open.attempt == call.attempt => {
                let wait = self.dice.between(20, 150) * MILLISECOND;
                shared.after(wait, Happening::TimedOut(call));
            }
            Reply::NotHere(_) | Reply::Unknown => {}
        }
    }
}
