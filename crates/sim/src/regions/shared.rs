//! What all parts of a run of two regions have in common, and what happens in it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use replica::{Applied, SnapshotPoint, Ticket};
use types::{Command, Incarnation, RegionId, Sequence};
use wire::journal::{Chain, NodeId};
use wire::peer::RaftMessage;
use wire::site::{LeaseState, SiteMessage};

use super::coverage::{Coverage, Point};
use super::mutation::RegionMutation;
use super::network::Network;
use super::oracle::Oracle;
use super::plan::Setup;
use super::store::{Batch, Stored};
use crate::events::{Call, MILLISECOND, Queue, Time};
use crate::invariants::acknowledged::Answer;
use crate::random::Dice;

/// How many lines of the trace are kept.
const LINES_MAX: usize = 120;

/// A snapshot of the exchange.
pub(super) type MarketSnapshot = Stored<engine::Snapshot>;

/// What one node sends to another.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// Consensus of a region's group, in one of its lives.
    Group(Incarnation, RaftMessage),
    /// The same, behind the snapshot that goes with it.
    Snapshot(Incarnation, RaftMessage, Rc<MarketSnapshot>),
    /// Consensus of the lease group.
    Lease(RaftMessage),
    /// The same with the state that it speaks of.
    LeaseSnapshot(RaftMessage, SnapshotPoint, LeaseState),
    /// What sites say to each other.
    Site(SiteMessage),
    /// Batches for the standby.
    Batches {
        stream: u64,
        /// The last sequence before the first of these.
        after: Sequence,
        batches: Vec<Bytes>,
    },
}

/// What a client hears.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    /// What came of it.
    Answer(Answer),
    /// It was not taken here; who leads this region, if that is known.
    NotHere(Option<NodeId>),
    /// Nobody can say, or nobody listens there.
    Unknown,
}

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogOf {
    Group,
    Lease,
}

/// Something that happens.
#[derive(Debug)]
pub(super) enum Happening {
    Tick {
        node: NodeId,
        life: u32,
    },
    Gather {
        node: NodeId,
        life: u32,
    },
    Stream {
        node: NodeId,
        life: u32,
    },
    Synced {
        node: NodeId,
        life: u32,
        log: LogOf,
        ticket: Ticket,
        written: usize,
    },
    Arrive {
        from: NodeId,
        to: NodeId,
        life: u32,
        packet: Box<Packet>,
    },
    Called {
        node: NodeId,
        call: Call,
        command: Box<Command>,
    },
    Start {
        node: NodeId,
        life: u32,
    },
    Resume(NodeId),
    ReadSomewhere,
    ClientTurn(u32),
    Replied {
        call: Call,
        reply: Reply,
    },
    TimedOut(Call),
    Fault(usize),
    /// The next part of a fault that has several.
    Then(usize, u32),
    FaultOver(usize),
}

/// See the module.
pub(super) struct Shared {
    pub(super) now: Time,
    pub(super) setup: Setup,
    pub(super) queue: Queue<Happening>,
    pub(super) network: Network,
    pub(super) oracle: Oracle,
    pub(super) coverage: Coverage,
    pub(super) mutation: Option<RegionMutation>,
    pub(super) dice: Dice,
    /// Which life each node is in; 0 while it is down.
    pub(super) lives: [u32; 8],
    pub(super) trace_hash: u32,
    /// A region lost the lease to another one a moment ago, against its will.
    pub(super) superseded: Option<RegionId>,
    /// What was committed anywhere, by the chain behind it, with the chain in front of it.
    archive: BTreeMap<[u8; 32], (Chain, Batch)>,
    lines: Option<VecDeque<String>>,
}

impl Shared {
    pub(super) fn new(seed: u64, setup: Setup, mutation: Option<RegionMutation>, traced: bool) -> Self {
        Self {
            now: 0,
            queue: Queue::default(),
            network: Network::new(&setup, Dice::of(seed, 11)),
            oracle: Oracle::new(setup.sync),
            setup,
            coverage: Coverage::default(),
            mutation,
            dice: Dice::of(seed, 12),
            lives: [0; 8],
            trace_hash: 0,
            superseded: None,
            archive: BTreeMap::new(),
            lines: traced.then(VecDeque::new),
        }
    }

    pub(super) fn hit(&mut self, point: Point) {
        self.coverage.hit(point);
    }

    pub(super) fn is_mutated(&self, mutation: RegionMutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Mixes something that happened into the trace's hash.
    pub(super) fn happened(&mut self, what: &[u64]) {
        for word in what {
            self.trace_hash = crc32c::crc32c_append(self.trace_hash, &word.to_le_bytes());
        }
    }

    /// A line of the trace, if one is kept.
    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            let (ms, us) = (self.now / MILLISECOND, self.now / 1_000 % 1_000);
            lines.push_back(format!("{ms:>8}.{us:03} ms  {}", line()));
        }
    }

    pub(super) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default().into()
    }

    pub(super) fn after(&mut self, delay: Time, event: Happening) {
        self.queue.at(self.now + delay, event);
    }

    pub(super) fn life(&self, node: NodeId) -> u32 {
        self.lives.get(node.0 as usize).copied().unwrap_or(0)
    }

    /// A batch was committed behind this place.
    pub(super) fn archive(&mut self, before: Chain, batch: &Batch) {
        self.archive
            .entry(batch.chain.0)
            .or_insert_with(|| (before, batch.clone()));
    }

    /// Puts what the archive has into the front of a journal.
    pub(super) fn restore(&self, journal: &mut Vec<Batch>, begin: &mut Applied) {
        let mut restored = Vec::new();
        while let Some((before, batch)) = self.archive.get(&begin.chain.0) {
            begin.chain = *before;
            begin.sequence = Sequence(batch.first.0 - 1);
            restored.push(batch.clone());
        }
        restored.reverse();
        restored.append(journal);
        *journal = restored;
    }

    /// Sends something.
    pub(super) fn send(&mut self, from: NodeId, to: NodeId, packet: Packet) {
        if to.0 == 0 || to.0 as usize >= self.lives.len() {
            return;
        }
        let [first, again] = self.network.send(self.now, from, to);
        let life = self.life(to);
        if let Some(at) = again {
            let packet = Box::new(packet.clone());
            self.queue.at(at, Happening::Arrive { from, to, life, packet });
        }
        if let Some(at) = first {
            let packet = Box::new(packet);
            self.queue.at(at, Happening::Arrive { from, to, life, packet });
        }
    }
}
