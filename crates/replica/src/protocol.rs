//! What goes into a replica and what comes out of it: two closed enums.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{AppliedBatch, Epoch, GroupId, Sequence, Timestamp};
use wire::batch::DecodeError;
use wire::journal::{Chain, LogIndex, NodeId, RecordKind, Term};
use wire::membership::{ChangeRefusal, Membership, MembershipChange};

use crate::applier::Applied;
use crate::message::PeerMessage;
use crate::replica::HardState;

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

/// Names a read that waits for its place. The node gives them out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadTicket(pub u64);

/// Something happened. `C` is the state machine's command; `W` is whoever waits for its answer, handed back unseen.
#[derive(Debug)]
pub enum Input<C, W> {
    /// Commands to sequence, in this order.
    Commands(Vec<(C, W)>),
    /// From now on commands are sequenced in this epoch, as far as this node leads; none: they are not, because another
    /// region is active or about to be. Then a leader serves no reads either.
    Sequence(Option<Epoch>),
    /// Batches of the active region, as they stand in its journal, for a group that sequences nothing itself.
    Follow(Vec<Bytes>),
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
    /// Hand leadership over: to this voter, or to the one that has most of the log.
    TransferLeadership {
        /// To whom.
        to: Option<NodeId>,
    },
    /// Change who belongs to the group. Answered by [`Output::ChangeTaken`] at once.
    Change(MembershipChange),
    /// Find out from where on a read sees all that was acknowledged before now. Answered by [`Output::ReadFrom`] or
    /// [`Output::ReadFailed`].
    Read(ReadTicket),
    /// There is a snapshot that a peer can be given.
    SnapshotMade(SnapshotPoint),
    /// The snapshot that was wanted could not be made; the next peer that needs one has it made.
    SnapshotNotMade,
    /// The snapshot that a peer was to be sent has arrived there, or has not.
    SnapshotSent {
        /// At whom.
        to: NodeId,
        /// Whether it did.
        arrived: bool,
    },
    /// Nothing gets through to a peer.
    Unreachable(NodeId),
    /// Whether this node's clock is out of its bound against most of its peers: if it is, nothing is sequenced here.
    ClockUnsure(bool),
    /// Sequence nothing more; what is in flight comes to its end.
    Drain,
}

/// A snapshot, as the log sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPoint {
    /// Where it stands.
    pub applied: Applied,
    /// Who belonged to the group there.
    pub membership: Membership,
}

impl SnapshotPoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("it can always be written")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// Something to do, in this order.
#[derive(Debug)]
pub enum Output<C, E, W> {
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
    /// Everything up to this entry is committed and applied.
    Committed(Applied),
    /// These were not sequenced here and never will be.
    Refused {
        /// Who asked for what.
        commands: Vec<(C, W)>,
        /// Why.
        why: Refusal,
    },
    /// These were sequenced, and this node can't say what becomes of them.
    Unknown {
        /// Who asked for what.
        commands: Vec<(C, W)>,
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
    /// Who leads the group changed, as far as this node knows; none: nobody, for now.
    Leader(Option<NodeId>),
    /// Who belongs to the group changed.
    Members(Membership),
    /// Whether an [`Input::Change`] was taken up. It holds once [`Output::Members`] says so.
    ChangeTaken(Result<(), ChangeRefusal>),
    /// A read of the state as it is now, or later, sees all that was acknowledged before it was asked for.
    ReadFrom {
        /// Which read.
        ticket: ReadTicket,
        /// The last sequence that is applied by now.
        sequence: Sequence,
    },
    /// That can't be found out, for want of a leader.
    ReadFailed(ReadTicket),
    /// A peer needs a snapshot of a state at or behind this entry: make one, then say [`Input::SnapshotMade`].
    SnapshotWanted {
        /// At or behind it.
        at_least: LogIndex,
    },
    /// The snapshot that was sent with this message takes the place of all that this node had. Install it durably, then
    /// begin again from it; this replica does nothing further.
    Install {
        /// The snapshot.
        point: SnapshotPoint,
        /// The term and vote to go on with.
        hard_state: HardState,
    },
    /// What this voter may have lost, it has again: it votes and acknowledges like any other.
    Repaired,
    /// Leadership is being handed over.
    HandingOver {
        /// To whom.
        to: NodeId,
        /// Why.
        why: HandOver,
    },
    /// Nothing further can be done. Whatever waits is told that it is unknown.
    Stop(StopReason),
}

/// Why a leader hands leadership over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// It was asked to.
    Asked,
    /// Most of the others have on disk what its own disk does not have yet.
    SlowDisk,
    /// Its clock is out of its bound.
    ClockUnsure,
    /// It is no voter any more.
    Removed,
}

impl fmt::Display for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "it was asked for",
            Self::SlowDisk => "its own disk is the slowest",
            Self::ClockUnsure => "its clock is out of its bound",
            Self::Removed => "it is no voter any more",
        })
    }
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

/// Why commands were not sequenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This node does not lead the group, or leads it and has not yet applied its term's first entry.
    NotLeader,
    /// Another region is active, or it is not yet certain that this one is.
    NotActive,
    /// `BATCHES_IN_FLIGHT_MAX` batches wait for the disk or the peers.
    Busy,
    /// The command takes more bytes than a batch carries.
    TooLarge,
    /// The node's clock is out of its bound.
    ClockUnsure,
    /// The node is on its way down.
    Stopping,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLeader => "this node does not lead its group",
            Self::NotActive => "this region is not active",
            Self::Busy => "too many batches wait for the disk",
            Self::TooLarge => "the command is larger than a batch carries",
            Self::ClockUnsure => "the node's clock is out of its bound",
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
    /// An entry changes the membership in a way that this program doesn't know.
    UnknownChange {
        /// Where.
        index: LogIndex,
    },
    /// A batch belongs to another group.
    Foreign {
        /// Where.
        index: LogIndex,
        /// Whose it is.
        group: GroupId,
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
            Self::UnknownChange { index } => write!(
                f,
                "the log's entry {index} changes the membership in a way that this program does not know; it may be older \
                 than the program that wrote the entry"
            ),
            Self::Foreign { index, group } => write!(f, "the log's entry {index} is of group {group}, not of this one"),
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
