//! What a node says to the others, and hears from them.

use std::rc::Rc;

use bytes::Bytes;
use replica::{Input, PeerMessage};
use wire::journal::NodeId;
use wire::peer::{Frame, RaftMessage, decode_frame};

use super::Host;
use crate::coverage::Point;
use crate::events::{Event, MILLISECOND, Packet, Waiter};
use crate::shared::Shared;

impl Host {
    pub(super) fn send(&mut self, message: PeerMessage, shared: &mut Shared) {
        let (id, to) = (self.id, message.to());
        let message = RaftMessage::from(message);
        let snapshot = message.snapshot.as_ref().map(|snapshot| snapshot.index);
        let mut bytes = Vec::new();
        if let Err(error) = Frame::Raft(message).encode(&mut bytes) {
            return shared
                .oracle
                .stopped(id, format!("a message can't be encoded: {error}"));
        }
        let bytes = Bytes::from(bytes);
        let Some(index) = snapshot else {
            shared.hit(Point::OutSend);
            return shared.send(id, to, Packet::Peer(bytes), 0);
        };
        shared.hit(Point::OutSendSnapshot);
        let stored = self
            .disk
            .snapshots
            .iter()
            .find(|stored| stored.point.applied.index == index);
        shared.say(|| format!("node {id} sends {to} the snapshot of index {index}"));
        let packet = stored.map(|stored| Packet::Snapshot(bytes, Rc::clone(stored)));
        match packet {
            Some(packet) => {
                let transfer = shared.dice.between(5, 150) * MILLISECOND;
                shared.send(id, to, packet, transfer);
            }
            None => {
                let (node, life, arrived) = (id, self.life, false);
                shared.after(
                    MILLISECOND,
                    Event::SnapshotSent {
                        node,
                        life,
                        to,
                        arrived,
                    },
                );
            }
        }
    }

    /// Something came from another node.
    pub(crate) fn arrived(&mut self, from: NodeId, packet: Packet, shared: &mut Shared) {
        let id = self.id;
        let Some(running) = &mut self.running else { return };
        match packet {
            Packet::Peer(bytes) => self.hear(bytes, shared),
            Packet::Snapshot(bytes, stored) => {
                running.received.push(stored);
                let sent = Event::SnapshotSent {
                    node: from,
                    life: shared.life(from),
                    to: id,
                    arrived: true,
                };
                shared.after(MILLISECOND, sent);
                self.hear(bytes, shared);
            }
            Packet::Forward { life, token, command } => {
                let waiter = Waiter::Peer {
                    node: from,
                    life,
                    token,
                };
                self.take_command(command, waiter, shared);
            }
            Packet::Answered { life, token, sequence } => {
                if life == self.life
                    && let Some(forwarded) = running.forwarded.get_mut(&token)
                {
                    forwarded.sequence = Some(sequence);
                    self.answer_forwarded(shared);
                }
            }
            Packet::Refused { life, token } => {
                if life == self.life
                    && let Some(forwarded) = running.forwarded.get_mut(&token)
                    && forwarded.to == Some(from)
                {
                    // The next tick tries again.
                    forwarded.to = None;
                }
            }
        }
    }

    pub(super) fn hear(&mut self, bytes: Bytes, shared: &mut Shared) {
        let message = match decode_frame(bytes) {
            Ok(Frame::Raft(message)) => PeerMessage::try_from(message),
            other => return shared.oracle.stopped(self.id, format!("a frame came out as {other:?}")),
        };
        match message {
            Ok(message) => {
                shared.hit(Point::InMessage);
                self.step(Input::Message(message), shared);
            }
            Err(error) => shared.oracle.stopped(self.id, error.to_string()),
        }
    }

    /// Nothing gets through to a peer: what was handed on to it goes to whoever leads next.
    pub(crate) fn unreachable(&mut self, peer: NodeId, shared: &mut Shared) {
        shared.hit(Point::InUnreachable);
        if let Some(running) = &mut self.running {
            for forwarded in running.forwarded.values_mut() {
                if forwarded.to == Some(peer) && forwarded.sequence.is_none() {
                    forwarded.to = None;
                }
            }
        }
        self.step(Input::Unreachable(peer), shared);
    }
}
