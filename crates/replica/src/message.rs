//! Messages between the nodes of a group.

use bytes::Bytes;
use protobuf::ProtobufEnum as _;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use wire::journal::{LogIndex, NodeId, RecordKind, Term};
use wire::peer::{RaftEntry, RaftMessage, RaftSnapshot};

use crate::log::kind_of;
use crate::protocol::SnapshotPoint;

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

    /// The snapshot that goes with it, if one does: that is sent first, and this is heard when it has arrived.
    pub fn snapshot_point(&self) -> Option<SnapshotPoint> {
        match &self.0 {
            Content::Consensus(message) if message.get_msg_type() == MessageType::MsgSnapshot => {
                SnapshotPoint::decode(&message.get_snapshot().data)
            }
            _ => None,
        }
    }
}

/// True of what no peer may send or be sent: only the leader that stamped a batch proposes it.
pub(crate) fn is_proposal(message: &Message) -> bool {
    message.get_msg_type() == MessageType::MsgPropose
}

/// How [`Content::Lost`] and [`Content::Needs`] are numbered between nodes, far from the numbers of consensus.
const LOST: u8 = 200;
const NEEDS: u8 = 201;

/// Why a peer's bytes are no message between replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMessage(
    /// The number of its kind.
    pub u8,
);

impl std::fmt::Display for UnknownMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a message of kind {} is none that a peer may send", self.0)
    }
}

impl std::error::Error for UnknownMessage {}

impl From<PeerMessage> for RaftMessage {
    fn from(message: PeerMessage) -> Self {
        let (kind, from, to, index) = match message.0 {
            Content::Consensus(message) => return consensus_to_wire(message),
            Content::Lost { from, to, last } => (LOST, from, to, last),
            Content::Needs { from, to, through } => (NEEDS, from, to, through),
        };
        Self {
            kind,
            from,
            to,
            index,
            ..Self::default()
        }
    }
}

impl TryFrom<RaftMessage> for PeerMessage {
    type Error = UnknownMessage;

    /// What a peer said. A proposal is not taken: only the leader that stamped a batch proposes it.
    fn try_from(message: RaftMessage) -> Result<Self, UnknownMessage> {
        let (from, to) = (message.from, message.to);
        let content = match message.kind {
            LOST => Content::Lost {
                from,
                to,
                last: message.index,
            },
            NEEDS => Content::Needs {
                from,
                to,
                through: message.index,
            },
            kind => {
                let unknown = UnknownMessage(kind);
                let kind = MessageType::from_i32(i32::from(kind)).ok_or(unknown)?;
                if !may_be_sent(kind) {
                    return Err(unknown);
                }
                Content::Consensus(consensus_of_wire(kind, message))
            }
        };
        Ok(Self(content))
    }
}

/// True of what a member says that follows the log and neither votes nor leads. Nothing else is heard of one.
pub fn is_a_followers(message: &RaftMessage) -> bool {
    let kind = MessageType::from_i32(i32::from(message.kind));
    let follows = matches!(
        kind,
        Some(MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse | MessageType::MsgReadIndex)
    );
    follows || message.kind == LOST
}

/// True of what nodes say to each other; the others are a node's own affair.
fn may_be_sent(kind: MessageType) -> bool {
    match kind {
        MessageType::MsgAppend
        | MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgSnapshot
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgTransferLeader
        | MessageType::MsgTimeoutNow
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse => true,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum => false,
    }
}

fn consensus_to_wire(mut message: Message) -> RaftMessage {
    let nodes = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect();
    let snapshot = message.has_snapshot().then(|| {
        let mut snapshot = message.take_snapshot();
        let data = std::mem::take(&mut snapshot.data);
        let metadata = snapshot.get_metadata();
        let members = metadata.get_conf_state();
        Box::new(RaftSnapshot {
            index: LogIndex(metadata.index),
            term: Term(metadata.term),
            voters: nodes(&members.voters),
            learners: nodes(&members.learners),
            voters_outgoing: nodes(&members.voters_outgoing),
            learners_next: nodes(&members.learners_next),
            auto_leave: members.auto_leave,
            data,
        })
    });
    let entries = std::mem::take(&mut message.entries).into_iter().map(|entry| RaftEntry {
        kind: kind_of(&entry),
        term: Term(entry.term),
        index: LogIndex(entry.index),
        data: entry.data,
    });
    RaftMessage {
        kind: u8::try_from(message.get_msg_type() as i32).expect("there are a few"),
        to: NodeId(message.to),
        from: NodeId(message.from),
        term: Term(message.term),
        log_term: Term(message.log_term),
        index: LogIndex(message.index),
        entries: entries.collect(),
        commit: LogIndex(message.commit),
        commit_term: Term(message.commit_term),
        snapshot,
        request_snapshot: LogIndex(message.request_snapshot),
        reject: message.reject,
        reject_hint: LogIndex(message.reject_hint),
        context: std::mem::take(&mut message.context),
        priority: message.priority,
    }
}

fn consensus_of_wire(kind: MessageType, message: RaftMessage) -> Message {
    let ids = |nodes: Vec<NodeId>| nodes.into_iter().map(|node| node.0).collect();
    let mut made = Message::default();
    made.set_msg_type(kind);
    made.to = message.to.0;
    made.from = message.from.0;
    made.term = message.term.0;
    made.log_term = message.log_term.0;
    made.index = message.index.0;
    made.commit = message.commit.0;
    made.commit_term = message.commit_term.0;
    made.request_snapshot = message.request_snapshot.0;
    made.reject = message.reject;
    made.reject_hint = message.reject_hint.0;
    made.context = message.context;
    made.priority = message.priority;
    let entries = message.entries.into_iter();
    let entries = entries.map(|entry| entry_of(entry.kind, entry.term, entry.index, entry.data));
    made.entries = entries.collect::<Vec<_>>().into();
    if let Some(snapshot) = message.snapshot {
        let metadata = made.mut_snapshot().mut_metadata();
        metadata.index = snapshot.index.0;
        metadata.term = snapshot.term.0;
        let members = metadata.mut_conf_state();
        members.voters = ids(snapshot.voters);
        members.learners = ids(snapshot.learners);
        members.voters_outgoing = ids(snapshot.voters_outgoing);
        members.learners_next = ids(snapshot.learners_next);
        members.auto_leave = snapshot.auto_leave;
        made.mut_snapshot().data = snapshot.data;
    }
    made
}

/// An entry as consensus knows it. Of a record that is no entry (a term or vote) nothing is left but its place.
pub(crate) fn entry_of(kind: RecordKind, term: Term, index: LogIndex, data: Bytes) -> Entry {
    let entry_type = match kind {
        RecordKind::Batch | RecordKind::Empty | RecordKind::HardState => EntryType::EntryNormal,
        RecordKind::ConfChange => EntryType::EntryConfChange,
        RecordKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
    };
    let mut entry = Entry::default();
    entry.set_entry_type(entry_type);
    entry.term = term.0;
    entry.index = index.0;
    entry.data = data;
    entry
}
