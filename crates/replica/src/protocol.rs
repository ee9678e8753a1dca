//! What goes into a replica and what comes out of it: two closed enums.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::Message;
use types::{AppliedBatch, Epoch, GroupId, Incarnation, Sequence, Timestamp};
use wire::batch::DecodeError;
use wire::journal::{Chain, LogIndex, NodeId, RecordKind, Term};

/// The node's clock at the moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// UTC.
    pub utc: Timestamp,
    /// By how much it may be off, in nanoseconds.
    pub clock_error_bound_ns: u64,
}

/// Names a sync that was asked for. They rise; when one is done, so are all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Something happened. `C` is the state machine's command; `W` is whoever waits for its answer, handed back unseen.
#[derive(Debug)]
pub enum Input<C, W> {
    /// Commands to sequence, in this order.
    Commands(Vec<(C, W)>),
    /// Everything up to this sync is on disk.
    Persisted(Ticket),
    /// The consensus clock advanced by one tick.
    Tick,
    /// [`crate::Replica::deadline`] may have passed: if it has, let time pass.
    Deadline,
    /// A peer says something.
    Message(PeerMessage),
    /// Stand for election at once. What a lone voter does at start.
    Campaign,
    /// Hand leadership over.
    TransferLeadership {
        /// To whom.
        to: NodeId,
    },
    /// Sequence nothing more; what is in flight comes to its end.
    Drain,
}

/// Something to do, in this order.
#[derive(Debug)]
pub enum Output<E, W> {
    /// Append these to the journal.
    Append(Vec<Record>),
    /// Make all that was appended durable, then say [`Input::Persisted`].
    Sync(Ticket),
    /// A batch was committed and applied.
    Applied {
        /// What came of it.
        batch: Arc<AppliedBatch<E>>,
        /// Who waits: one for each of its commands, in order; empty if nobody here does.
        waiters: Vec<W>,
    },
    /// These were not sequenced and never will be.
    Refused {
        /// Who asked.
        waiters: Vec<W>,
        /// Why.
        why: Refusal,
    },
    /// These were sequenced, and this node can't say what becomes of them.
    Unknown {
        /// Who waits.
        waiters: Vec<W>,
    },
    /// Send it to its peer.
    Send(PeerMessage),
    /// Entries behind this index were never committed and are replaced by what another leader sequenced.
    Truncate {
        /// The last index that stays.
        after: LogIndex,
    },
    /// Whether commands are accepted changed.
    Accepting(Result<(), Refusal>),
    /// Nothing further can be done. Whatever waits is told that it is unknown.
    Stop(StopReason),
}

/// A record of the journal, as far as the log says what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub kind: RecordKind,
    /// Of a batch, the epoch that it was sequenced in; otherwise that of the last batch before it.
    pub epoch: Epoch,
    /// Its term.
    pub term: Term,
    /// Its index; of something that is no entry, the last one's.
    pub index: LogIndex,
    /// Of a batch, its first sequence; otherwise that of the next batch.
    pub first_sequence: Sequence,
    /// Of a batch, its last sequence; otherwise that of the batch before.
    pub last_sequence: Sequence,
    /// The chain behind it.
    pub chain: Chain,
    /// What it holds.
    pub payload: Bytes,
}

/// A message between two nodes of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerMessage(pub(crate) Message);

impl PeerMessage {
    /// From whom.
    pub fn from(&self) -> NodeId {
        NodeId(self.0.from)
    }

    /// To whom.
    pub fn to(&self) -> NodeId {
        NodeId(self.0.to)
    }
}

/// Why commands were not sequenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This node does not lead the group, or leads it and has not yet applied its term's first entry.
    NotLeader,
    /// `BATCHES_IN_FLIGHT_MAX` batches wait for the disk or the peers.
    Busy,
    /// The command takes more bytes than a batch carries.
    TooLarge,
    /// The node is on its way down.
    Stopping,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLeader => "this node does not lead its group",
            Self::Busy => "too many batches wait for the disk",
            Self::TooLarge => "the command is larger than a batch carries",
            Self::Stopping => "the node is stopping",
        })
    }
}

/// Why a replica can't go on. Each is a fault of the program or of what it was given, never of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// An entry's payload is not a batch.
    Undecodable {
        /// Where.
        index: LogIndex,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A batch belongs to another group or to another life of this one.
    Foreign {
        /// Where.
        index: LogIndex,
        /// Whose it is.
        group: GroupId,
        /// Which life.
        incarnation: Incarnation,
    },
    /// An entry does not follow on the one before.
    IndexGap {
        /// What had to follow.
        expected: LogIndex,
        /// What came.
        found: LogIndex,
    },
    /// A batch does not follow on the one before and is no copy of a recent one.
    OutOfOrder {
        /// Where.
        index: LogIndex,
        /// The epoch that holds, and
        epoch: Epoch,
        /// the sequence that had to follow.
        expected: Sequence,
        /// The epoch that came, and
        found_epoch: Epoch,
        /// the sequence that came.
        found: Sequence,
    },
    /// A batch was stamped before the one in front of it.
    TimeRanBack {
        /// The batch's first sequence.
        sequence: Sequence,
        /// Its stamp.
        sequenced_at: Timestamp,
        /// The stamp before.
        previous: Timestamp,
    },
    /// The state differs from the one that the leader had at the same place.
    StateDiverged {
        /// The place.
        through: Sequence,
        /// The hash that the leader wrote down.
        recorded: u64,
        /// The hash here.
        computed: u64,
    },
    /// The leader's hash is of a place at which no batch ended here.
    HashPlace {
        /// The batch that says so.
        sequence: Sequence,
        /// The place.
        through: Sequence,
    },
    /// The state machine broke its contract: no event came of a command.
    NoEvent {
        /// Which.
        sequence: Sequence,
    },
    /// Consensus came to a state that this program does not know how to handle.
    Consensus(String),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable { index, error } => write!(f, "the log's entry {index}: {error}"),
            Self::Foreign {
                index,
                group,
                incarnation,
            } => write!(
                f,
                "the log's entry {index} is of group {group}, incarnation {incarnation}, not of this one"
            ),
            Self::IndexGap { expected, found } => {
                write!(f, "the log's entry {expected} had to follow, and entry {found} came")
            }
            Self::OutOfOrder {
                index,
                epoch,
                expected,
                found_epoch,
                found,
            } => write!(
                f,
                "the log's entry {index}: sequence {expected} of epoch {epoch} or later had to follow, \
                 and sequence {found} of epoch {found_epoch} came"
            ),
            Self::TimeRanBack {
                sequence,
                sequenced_at,
                previous,
            } => write!(
                f,
                "sequence {sequence} was stamped {sequenced_at}, before {previous} of the one in front of it"
            ),
            Self::StateDiverged {
                through,
                recorded,
                computed,
            } => write!(
                f,
                "the state at sequence {through} has hash {computed:016x}, and the leader wrote down {recorded:016x}"
            ),
            Self::HashPlace { sequence, through } => write!(
                f,
                "the batch at sequence {sequence} tells the state's hash at sequence {through}, where no batch ended"
            ),
            Self::NoEvent { sequence } => write!(f, "no event came of the command at sequence {sequence}"),
            Self::Consensus(what) => write!(f, "consensus: {what}"),
        }
    }
}

impl std::error::Error for StopReason {}
