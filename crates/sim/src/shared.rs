//! What all parts of a run have in common: time, the network, the oracle, and the record of what happens.

use std::collections::VecDeque;

use types::EngineVersion;
use wire::journal::NodeId;

use crate::coverage::{Coverage, Point};
use crate::events::{Event, MILLISECOND, Packet, Queue, Time};
use crate::mutation::Mutation;
use crate::network::Network;
use crate::oracle::Oracle;
use crate::random::Dice;

/// How many lines of the trace are kept.
const LINES_MAX: usize = 60;

/// See the module.
pub(crate) struct Shared {
    pub(crate) now: Time,
    pub(crate) queue: Queue,
    pub(crate) network: Network,
    pub(crate) oracle: Oracle,
    pub(crate) coverage: Coverage,
    pub(crate) mutation: Option<Mutation>,
    /// The engine version that the operator has seen in force.
    pub(crate) in_force: EngineVersion,
    /// For disks and nodes.
    pub(crate) dice: Dice,
    /// Which life each node is in; 0 while it is down.
    pub(crate) lives: Vec<u32>,
    /// A hash of all that happened.
    pub(crate) trace_hash: u32,
    lines: Option<VecDeque<String>>,
}

impl Shared {
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>, traced: bool) -> Self {
        Self {
            now: 0,
            queue: Queue::default(),
            network: Network::new(Dice::of(seed, 1)),
            oracle: Oracle::new(),
            coverage: Coverage::default(),
            mutation,
            in_force: EngineVersion::FIRST,
            dice: Dice::of(seed, 2),
            lives: vec![0; crate::network::NODES_MAX + 1],
            trace_hash: 0,
            lines: traced.then(VecDeque::new),
        }
    }

    pub(crate) fn hit(&mut self, point: Point) {
        self.coverage.hit(point);
    }

    /// Mixes something that happened into the trace's hash.
    pub(crate) fn happened(&mut self, what: &[u64]) {
        for word in what {
            self.trace_hash = crc32c::crc32c_append(self.trace_hash, &word.to_le_bytes());
        }
    }

    /// A line of the trace, if one is kept.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            let now = self.now;
            lines.push_back(format!(
                "{:>10}.{:03} ms  {}",
                now / MILLISECOND,
                now / 1_000 % 1_000,
                line()
            ));
        }
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default().into()
    }

    pub(crate) fn after(&mut self, delay: Time, event: Event) {
        self.queue.at(self.now + delay, event);
    }

    pub(crate) fn life(&self, node: NodeId) -> u32 {
        self.lives[node.0 as usize]
    }

    /// Sends something, whose transfer takes so long.
    pub(crate) fn send(&mut self, from: NodeId, to: NodeId, packet: Packet, transfer: Time) {
        if to.0 == 0 || to.0 as usize > crate::network::NODES_MAX {
            return;
        }
        let (arrivals, odd) = self.network.send(self.now, from, to, transfer);
        // A connection to another life of the node is another connection.
        let life = if odd { 0 } else { self.life(to) };
        let mut packet = Some(packet);
        if arrivals[0].is_none() {
            let packet = packet.take().expect("it was not sent");
            return self.not_arrived(from, to, &packet, transfer);
        }
        for at in arrivals.into_iter().flatten().rev() {
            let packet = Box::new(packet.clone().expect("there is one"));
            self.queue.at(at, Event::Arrive { from, to, life, packet });
        }
        packet.take();
    }

    /// The sender finds out, some time later.
    pub(crate) fn not_arrived(&mut self, from: NodeId, to: NodeId, packet: &Packet, after: Time) {
        let life = self.life(from);
        if matches!(packet, Packet::Snapshot(..)) {
            let sent = Event::SnapshotSent {
                node: from,
                life,
                to,
                arrived: false,
            };
            self.after(after + MILLISECOND, sent);
        }
        let now = self.now;
        let link = self.network.link(from, to);
        if now >= link.told_at + 20 * MILLISECOND {
            link.told_at = now;
            let unreachable = Event::Unreachable {
                node: from,
                life,
                peer: to,
            };
            self.after(MILLISECOND, unreachable);
        }
    }
}
