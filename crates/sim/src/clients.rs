//! Clients that ask as real ones do: several requests at a time, the same again under its id when no answer comes.

use std::collections::BTreeMap;

use types::{Command, Timestamp};

use crate::coverage::Point;
use crate::events::{Call, Event, MICROSECOND, MILLISECOND, Reply, Time};
use crate::market::{Asked, Outcome, TRADERS, next_command};
use crate::random::Dice;
use crate::shared::Shared;
use crate::upgrade::use_what_is_new;
use wire::journal::NodeId;

/// How many requests a client has under way at most.
const OPEN_MAX: usize = 6;
/// After this long without an answer it asks again: a little more than a node tries.
const TIME_OUT: Time = 2_500 * MILLISECOND;

#[derive(Clone, Debug)]
struct Open {
    command: Command,
    attempt: u32,
    /// True if it is to be asked once more after its answer.
    twice: bool,
}

/// A client.
#[derive(Clone, Debug)]
struct Client {
    asked: Asked,
    open: BTreeMap<u32, Open>,
    node: NodeId,
}

/// All clients.
pub(crate) struct Clients {
    clients: Vec<Client>,
    dice: Dice,
    /// Nodes that take clients.
    pub(crate) nodes: Vec<NodeId>,
    /// False once they ask nothing new.
    pub(crate) open_for_business: bool,
    /// How many requests were made.
    pub(crate) issued: u64,
}

impl Clients {
    pub(crate) fn new(dice: Dice, nodes: Vec<NodeId>) -> Self {
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

    pub(crate) fn begin(&mut self, shared: &mut Shared) {
        for client in 0..=TRADERS {
            let wait = self.dice.below(100) * MILLISECOND;
            shared.after(wait, Event::ClientTurn { client });
        }
    }

    /// True if every request has its answer.
    pub(crate) fn are_served(&self) -> bool {
        self.clients.iter().all(|client| client.open.is_empty())
    }

    /// Who waits for what, in short.
    pub(crate) fn waiting(&self) -> String {
        let open = self.clients.iter().map(|client| client.open.len()).sum::<usize>();
        format!("{open} requests have no answer")
    }

    /// A client asks something new.
    pub(crate) fn turn(&mut self, client: u32, utc: Timestamp, shared: &mut Shared) {
        if !self.open_for_business {
            return;
        }
        let pause = if client == TRADERS { 4 } else { 1 };
        let wait = self.dice.between(20, 130) * MILLISECOND * pause;
        shared.after(wait, Event::ClientTurn { client });
        let burst = self.dice.between(1, 5);
        for _ in 0..burst {
            let state = &mut self.clients[client as usize];
            if state.open.len() >= OPEN_MAX {
                return;
            }
            let mut command = next_command(client, &mut state.asked, utc, &mut self.dice);
            use_what_is_new(&mut command, shared, &mut self.dice);
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
    }

    fn ask(&mut self, client: u32, request: u32, shared: &mut Shared) {
        let elsewhere = self.dice.one_in(30);
        let state = &mut self.clients[client as usize];
        let Some(open) = state.open.get_mut(&request) else {
            return;
        };
        if elsewhere || open.attempt > 0 {
            state.node = self.dice.pick(&self.nodes);
        }
        open.attempt += 1;
        let call = Call {
            client,
            request,
            attempt: open.attempt,
        };
        let command = Box::new(open.command.clone());
        let way = self.dice.between(100, 500) * MICROSECOND;
        let node = state.node;
        shared.after(way, Event::Called { node, call, command });
        shared.after(TIME_OUT, Event::TimedOut { call });
    }

    /// No answer came to an attempt.
    pub(crate) fn timed_out(&mut self, call: Call, shared: &mut Shared) {
        let open = self.clients[call.client as usize].open.get(&call.request);
        if open.is_some_and(|open| open.attempt == call.attempt) {
            shared.hit(Point::AskedAgain);
            self.ask(call.client, call.request, shared);
        }
    }

    /// A client hears something. Also a late answer is one.
    pub(crate) fn replied(&mut self, call: Call, reply: &Reply, shared: &mut Shared) {
        let state = &mut self.clients[call.client as usize];
        let Some(open) = state.open.get_mut(&call.request) else {
            return;
        };
        match reply {
            Reply::Answer(answer) => {
                let asked = (open.command.account, open.command.request_id);
                shared.oracle.told(asked, answer);
                if answer.outcome == Outcome::Executed {
                    state.asked.orders.push((answer.sequence, answer.request_id));
                }
                if std::mem::take(&mut open.twice) {
                    return self.ask(call.client, call.request, shared);
                }
                state.open.remove(&call.request);
            }
            Reply::Unknown | Reply::NoConnection if open.attempt == call.attempt => {
                // As if the time were over, after a pause.
                let wait = self.dice.between(20, 150) * MILLISECOND;
                shared.after(wait, Event::TimedOut { call });
            }
            Reply::Unknown | Reply::NoConnection => {}
        }
    }
}
