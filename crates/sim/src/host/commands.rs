//! Commands: taken, gathered, handed on to whoever leads, and answered.

use replica::Input;
use types::{Command, Sequence, StateMachine};
use wire::journal::NodeId;

use super::{Forwarded, GATHERED_MAX, Host, PATIENCE};
use crate::coverage::Point;
use crate::events::{Call, Event, MICROSECOND, Packet, Reply, Waiter};
use crate::invariants::acknowledged::Answer;
use crate::market::Market;
use crate::mutation::{Mutated, Mutation};
use crate::shared::Shared;

impl Host {
    /// A client's command.
    pub(crate) fn called(&mut self, call: Call, command: Command, shared: &mut Shared) {
        self.take_command(command, Waiter::Client(call), shared);
    }

    pub(super) fn take_command(&mut self, command: Command, waiter: Waiter, shared: &mut Shared) {
        let (node, life) = (self.id, self.life);
        let Some(running) = &mut self.running else { return };
        if let Waiter::Client(_) = waiter
            && !running.replica.leads()
        {
            return self.hand_on(command, waiter, shared);
        }
        running.queue.push((command, waiter));
        if !running.gathers {
            running.gathers = true;
            let wait = shared.dice.between(50, 400) * MICROSECOND;
            shared.after(wait, Event::Gather { node, life });
        }
    }

    /// Makes one input of what has come.
    pub(crate) fn gather(&mut self, shared: &mut Shared) {
        let Some(running) = &mut self.running else { return };
        running.gathers = false;
        let mut queue = std::mem::take(&mut running.queue);
        while !queue.is_empty() {
            let rest = queue.split_off(queue.len().min(GATHERED_MAX));
            shared.hit(Point::InCommands);
            if shared.mutation.is(Mutation::AnsweredWhenSequenced) {
                self.answer_early(&queue, shared);
            }
            self.step(Input::Commands(queue), shared);
            queue = rest;
        }
    }

    /// The mutation that answers what is not yet committed, from the present state.
    pub(super) fn answer_early(&mut self, commands: &[(Command, Waiter)], shared: &mut Shared) {
        let Some(running) = &self.running else { return };
        if running.replica.accepting().is_err() || running.replica.in_flight_count() > 0 {
            return;
        }
        let applier = running.replica.applier();
        let mut market = Market::over(applier.machine().exchange.clone());
        let (mut position, at) = (market.exchange.position(), market.exchange.time());
        let mut events = Vec::new();
        for (command, waiter) in commands {
            position.sequence = position.sequence.next();
            market.apply(position, at.max(self.clock.utc(shared.now)), command, &mut events);
            let executed = market.take_executed()[0];
            let Waiter::Client(call) = waiter else { continue };
            let answer = Answer {
                sequence: executed.sequence,
                account: executed.account,
                request_id: executed.request_id,
                outcome: executed.outcome,
            };
            shared.oracle.told_early(&answer);
            let reply = Reply::Answer(answer);
            shared.after(300 * MICROSECOND, Event::Replied { call: *call, reply });
        }
    }

    /// What was not executed here, or not for all that is known here, goes to whoever leads.
    pub(super) fn hand_on(&mut self, command: Command, waiter: Waiter, shared: &mut Shared) {
        let id = self.id;
        let Some(running) = &mut self.running else { return };
        match waiter {
            Waiter::Peer { node, life, token } => shared.send(id, node, Packet::Refused { life, token }, 0),
            Waiter::Client(call) => {
                let token = running.next_token;
                running.next_token += 1;
                let forwarded = Forwarded {
                    command,
                    call,
                    deadline: shared.now + PATIENCE,
                    to: None,
                    sequence: None,
                    times: 0,
                };
                running.forwarded.insert(token, forwarded);
                if !running.replica.leads() {
                    self.forward_all(None, shared);
                }
            }
        }
    }

    /// Sends whatever waits to whoever leads; what was sent to somebody else too, if that changed.
    pub(super) fn forward_all(&mut self, changed: Option<NodeId>, shared: &mut Shared) {
        let (id, life) = (self.id, self.life);
        let Some(running) = &mut self.running else { return };
        if running.forwarded.is_empty() {
            return;
        }
        let leader = running.replica.leader();
        let leads = running.replica.accepting().is_ok();
        let mut own = Vec::new();
        let mut over = Vec::new();
        for (token, forwarded) in &mut running.forwarded {
            if forwarded.sequence.is_some() {
                if forwarded.deadline < shared.now {
                    over.push(*token);
                }
                continue;
            }
            if changed.is_some() && forwarded.to != changed {
                forwarded.to = None;
            }
            if forwarded.deadline < shared.now {
                over.push(*token);
            } else if forwarded.to.is_none() && leads {
                own.push(*token);
            } else if let Some(leader) = leader.filter(|leader| forwarded.to.is_none() && *leader != id) {
                forwarded.to = Some(leader);
                forwarded.times += 1;
                shared.hit(if forwarded.times > 1 {
                    Point::ForwardedAgain
                } else {
                    Point::Forwarded
                });
                let mut command = forwarded.command.clone();
                if forwarded.times > 1 && shared.mutation.is(Mutation::ForwardedUnderNewId) {
                    command.request_id = format!("again-{id}-{life}-{token}").parse().expect("it is an id");
                }
                let token = *token;
                shared.send(id, leader, Packet::Forward { life, token, command }, 0);
            }
        }
        for token in over {
            if let Some(forwarded) = running.forwarded.remove(&token) {
                let (call, reply) = (forwarded.call, Reply::Unknown);
                shared.after(300 * MICROSECOND, Event::Replied { call, reply });
            }
        }
        for token in own {
            if let Some(forwarded) = self
                .running
                .as_mut()
                .and_then(|running| running.forwarded.remove(&token))
            {
                self.take_command(forwarded.command, Waiter::Client(forwarded.call), shared);
            }
        }
    }

    /// Answers those whose place is known and applied here by now.
    pub(super) fn answer_forwarded(&mut self, shared: &mut Shared) {
        let Some(running) = &mut self.running else { return };
        if running.forwarded.is_empty() {
            return;
        }
        let last = running.answers.keys().next_back().copied();
        let mutated = shared.mutation.is(Mutation::SequenceTakenForAnswer);
        let known: Vec<(u64, Sequence)> = running
            .forwarded
            .iter()
            .filter_map(|(token, forwarded)| {
                let mut sequence = forwarded.sequence?;
                if mutated {
                    sequence = last?;
                }
                running.answers.contains_key(&sequence).then_some((*token, sequence))
            })
            .collect();
        for (token, sequence) in known {
            let Some(running) = &mut self.running else { return };
            if let Some(forwarded) = running.forwarded.remove(&token) {
                shared.hit(Point::AnsweredByFollower);
                self.answer(sequence, Waiter::Client(forwarded.call), shared);
            }
        }
    }

    pub(super) fn answer(&mut self, sequence: Sequence, waiter: Waiter, shared: &mut Shared) {
        let id = self.id;
        let Some(running) = &self.running else { return };
        match waiter {
            Waiter::Peer { node, life, token } => {
                shared.send(id, node, Packet::Answered { life, token, sequence }, 0);
            }
            Waiter::Client(call) => {
                let Some(answer) = running.answers.get(&sequence).copied() else {
                    return shared
                        .oracle
                        .stopped(id, format!("it has no answer of sequence {sequence}"));
                };
                shared.oracle.answered(&answer);
                let reply = Reply::Answer(answer);
                shared.after(300 * MICROSECOND, Event::Replied { call, reply });
            }
        }
    }
}
