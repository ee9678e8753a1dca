//! What is going to happen, in the order of virtual time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::rc::Rc;

use bytes::Bytes;
use replica::{SnapshotPoint, Ticket};
use types::{Command, Sequence};
use wire::journal::NodeId;

use crate::invariants::acknowledged::Answer;
use crate::journal::SyncJob;

/// Virtual nanoseconds since the run began.
pub(crate) type Time = u64;
pub(crate) const MICROSECOND: Time = 1_000;
pub(crate) const MILLISECOND: Time = 1_000_000;
pub(crate) const SECOND: Time = 1_000_000_000;

/// One attempt of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) client: u32,
    pub(crate) request: u32,
    pub(crate) attempt: u32,
}

/// Whoever waits for a command's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    Client(Call),
    /// A node that handed the command on.
    Peer {
        node: NodeId,
        life: u32,
        token: u64,
    },
}

/// What a client hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Answer(Answer),
    /// Nobody can say.
    Unknown,
    /// Nobody listens there.
    NoConnection,
}

/// A snapshot with its state.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) point: SnapshotPoint,
    pub(crate) state: engine::Snapshot,
}

/// What one node sends to another.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// A message of consensus, as a frame.
    Peer(Bytes),
    /// The same, behind the snapshot that goes with it.
    Snapshot(Bytes, Rc<Stored>),
    Forward {
        life: u32,
        token: u64,
        command: Command,
    },
    Answered {
        life: u32,
        token: u64,
        sequence: Sequence,
    },
    Refused {
        life: u32,
        token: u64,
    },
}

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    Tick {
        node: NodeId,
        life: u32,
    },
    Gather {
        node: NodeId,
        life: u32,
    },
    Arrive {
        from: NodeId,
        to: NodeId,
        life: u32,
        packet: Box<Packet>,
    },
    Synced {
        node: NodeId,
        life: u32,
        ticket: Option<Ticket>,
        job: Option<SyncJob>,
    },
    MarkDue {
        node: NodeId,
        life: u32,
    },
    MarkSynced {
        node: NodeId,
        life: u32,
        writes: u64,
    },
    SnapshotDone {
        node: NodeId,
        life: u32,
        stored: Rc<Stored>,
    },
    SnapshotSent {
        node: NodeId,
        life: u32,
        to: NodeId,
        arrived: bool,
    },
    Unreachable {
        node: NodeId,
        life: u32,
        peer: NodeId,
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
    Restart {
        node: NodeId,
    },
    ReadSomewhere,
    ClientTurn {
        client: u32,
    },
    Replied {
        call: Call,
        reply: Reply,
    },
    TimedOut {
        call: Call,
    },
    Members,
    Fault(usize),
    FaultOver(usize),
}

struct Scheduled<E> {
    at: Time,
    number: u64,
    event: E,
}

impl<E> Scheduled<E> {
    fn key(&self) -> (Time, u64) {
        (self.at, self.number)
    }
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Scheduled<E> {}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Scheduled<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// What is going to happen. Of two things at one time, the one that was said first comes first.
pub(crate) struct Queue<E = Event> {
    heap: BinaryHeap<Reverse<Scheduled<E>>>,
    count: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            count: 0,
        }
    }
}

impl<E> Queue<E> {
    pub(crate) fn at(&mut self, at: Time, event: E) {
        self.count += 1;
        let number = self.count;
        self.heap.push(Reverse(Scheduled { at, number, event }));
    }

    pub(crate) fn next(&mut self) -> Option<(Time, E)> {
        self.heap
            .pop()
            .map(|Reverse(scheduled)| (scheduled.at, scheduled.event))
    }
}
