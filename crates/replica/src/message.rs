//! Messages between the nodes of a group.

use raft::eraftpb::{Message, MessageType};
use wire::journal::{LogIndex, NodeId};

/// A message between two nodes of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerMessage(pub(crate) Content);

/// What it says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// What consensus says.
    Consensus(Message),
    /// A voter that may have lost something asks its leader to send it again.
    Lost {
        from: NodeId,
        to: NodeId,
        /// What it has left.
        last: LogIndex,
    },
    /// The leader's answer: how far the log went when it heard that.
    Needs {
        from: NodeId,
        to: NodeId,
        /// Up to here whoever lost something needs the log again.
        through: LogIndex,
    },
}

impl PeerMessage {
    /// From whom.
    pub fn from(&self) -> NodeId {
        match &self.0 {
            Content::Consensus(message) => NodeId(message.from),
            Content::Lost { from, .. } | Content::Needs { from, .. } => *from,
        }
    }

    /// To whom.
    pub fn to(&self) -> NodeId {
        match &self.0 {
            Content::Consensus(message) => NodeId(message.to),
            Content::Lost { to, .. } | Content::Needs { to, .. } => *to,
        }
    }

    /// True if a snapshot goes with it: that is sent first, and this when it has arrived.
    pub fn is_snapshot(&self) -> bool {
        matches!(&self.0, Content::Consensus(message) if message.get_msg_type() == MessageType::MsgSnapshot)
    }
}

/// True of what no peer may send or be sent: only the leader that stamped a batch proposes it.
pub(crate) fn is_proposal(message: &Message) -> bool {
    message.get_msg_type() == MessageType::MsgPropose
}
