//! What the core of a group is told by the node around it, and what it asks of that.

use replica::{PeerMessage, SnapshotPoint};
use tokio::sync::oneshot;
use types::{Command, EngineVersion, Sequence};
use wire::journal::{LogIndex, NodeId};
use wire::membership::{ChangeRefusal, Membership, MembershipChange};
use wire::peer::{Answer, Frame};

use super::region::SiteEvent;
use crate::journal::SyncDone;

/// What happens to a core besides the commands of its own clients.
#[derive(Debug)]
pub enum CoreEvent {
    /// A peer's replica says something.
    Message(PeerMessage),
    /// Another node hands on commands of its clients; none: its bytes are no command.
    Forwarded {
        /// Which node.
        from: NodeId,
        /// What it calls them, and the commands.
        commands: Vec<(u64, Option<Command>)>,
    },
    /// The leader says what became of commands that this node handed on.
    Answers {
        /// Which node.
        from: NodeId,
        /// What became of them.
        answers: Vec<Answer>,
    },
    /// A link to a peer came up, or went down.
    Link {
        /// To whom.
        peer: NodeId,
        /// Whether it is up.
        up: bool,
    },
    /// Somebody wants to read what is acknowledged by now.
    Read(oneshot::Sender<Option<Sequence>>),
    /// An operator wants to change who belongs to the group.
    Change(MembershipChange, oneshot::Sender<Result<(), ChangeRefusal>>),
    /// An operator wants another node to lead.
    TransferLeadership(Option<NodeId>),
    /// There is a snapshot for peers; none: it could not be made.
    SnapshotMade(Option<SnapshotPoint>),
    /// A snapshot arrived at a peer, or did not.
    SnapshotSent {
        /// At whom.
        to: NodeId,
        /// Whether it did.
        arrived: bool,
    },
    /// Whether the clock is out of its bound against most peers.
    ClockUnsure(bool),
    /// A sync on the other thread has ended.
    Synced(SyncDone),
    /// Another site says something, or an operator.
    Site(SiteEvent),
    /// The group's leader says up to where everything is durable in both regions.
    BothThrough(Sequence),
    /// Something changed in what the core and its handles share.
    Wake,
}

/// What the core asks of the node around it. Nothing of it may wait.
pub trait Peers: Send + 'static {
    /// Sends to a peer. False: it was not taken, and may be taken for lost.
    fn send(&self, to: NodeId, frame: Frame) -> bool;

    /// Sends a snapshot to a peer, and with it this message; then says [`CoreEvent::SnapshotSent`].
    fn send_snapshot(&self, message: PeerMessage, point: SnapshotPoint);

    /// The newest engine version that a peer's program reads, as its greeting said; none while there is no link to it.
    fn engine_version_of(&self, peer: NodeId) -> Option<EngineVersion>;

    /// Makes a snapshot of a state at or behind this entry, then says [`CoreEvent::SnapshotMade`]. False: it can't now.
    fn make_snapshot(&self, at_least: LogIndex) -> bool;

    /// Gives the snapshot that came from a peer its name, durably, so that the next start begins with it.
    fn adopt_snapshot(&self, point: &SnapshotPoint) -> std::io::Result<()>;

    /// What this voter had lost is here again, and it counts like any other.
    fn repaired(&self);

    /// Who belongs to the group has changed.
    fn members_changed(&self, membership: &Membership);
}

/// Of a node that was told of no peers.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn send(&self, _to: NodeId, _frame: Frame) -> bool {
        false
    }

    fn send_snapshot(&self, _message: PeerMessage, _point: SnapshotPoint) {}

    fn engine_version_of(&self, _peer: NodeId) -> Option<EngineVersion> {
        None
    }

    fn make_snapshot(&self, _at_least: LogIndex) -> bool {
        false
    }

    fn adopt_snapshot(&self, _point: &SnapshotPoint) -> std::io::Result<()> {
        Err(std::io::Error::other("this node was told of no peers"))
    }

    fn repaired(&self) {}

    fn members_changed(&self, _membership: &Membership) {}
}
