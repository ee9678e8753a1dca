//! How the gateway reaches the core and the event log: two traits that the node implements.
//!
//! ```text
//!  REST, WebSocket ── Command ──> CoreHandle ──> queue ──> core thread
//!        ^                                                    │
//!        └──────────── Applied (batch, index) ────────────────┘
//!        ^
//!        └── whole batches of the past ── History <── event log on disk
//! ```
//!
//! Nothing here waits for a lock that the core holds: a command is either taken at once, or it is said why not. Where
//! nothing else is under way, the thread that hands a command over may be made to run it, and then waits for the disk.

use std::fmt;
use std::sync::Arc;

use tokio::sync::oneshot;
use types::{
    AppliedBatch, Command, EngineVersion, Epoch, Event, GroupId, Incarnation, Position, RegionId, Sequence, Timestamp,
};
use wire::journal::{LogIndex, NodeId, Term};
use wire::json::DurableIn;
use wire::membership::{ChangeRefusal, FOUNDER, MembershipChange, Role};
use wire::site::{LeaseRefusal, LeaseState};

use crate::stages::Stages;
pub use crate::waiting::Pending;
use crate::waiting::Waiter;

/// The core, as the gateway sees it.
pub trait CoreHandle: Send + Sync + 'static {
    /// Hands a command over, and who waits for its answer; an error is the answer itself. Cancels have room of their own
    /// in the queue. The answer may be there already when this returns: a session looks for it before it sleeps.
    fn hand_over(&self, command: Command, waiter: Waiter) -> Result<(), SubmitError>;

    /// Hands over one of several commands that come together. The core may run a command that comes alone on the thread
    /// that hands it over; these it gathers.
    fn hand_over_together(&self, command: Command, waiter: Waiter) -> Result<(), SubmitError> {
        self.hand_over(command, waiter)
    }

    /// Hands a command over whose answer is waited for alone.
    fn submit(&self, command: Command) -> Result<Pending, SubmitError> {
        let (waiter, pending) = Waiter::one(self.now());
        self.hand_over(command, waiter)?;
        Ok(pending)
    }

    /// How the core is doing. A few atomic loads.
    fn status(&self) -> CoreStatus;

    /// From where on the picture of the exchange serves a read that must see all that was acknowledged before now, on
    /// whatever node. A lone node's own position is that.
    fn read_from(&self) -> ReadFrom {
        ReadFrom::Own
    }

    /// The group that the node belongs to, as it knows it. Of a core that knows no other node: itself, alone.
    fn group(&self) -> GroupStatus {
        GroupStatus::lone(FOUNDER, LogIndex(0))
    }

    /// Asks for a change of who belongs to the group; only the leader makes it. That it was taken up says nothing of
    /// whether it was done: [`Self::group`] does. No answer: the node is on its way down.
    fn change_members(&self, _change: MembershipChange) -> oneshot::Receiver<Result<(), ChangeRefusal>> {
        let (refuse, answer) = oneshot::channel();
        let _ = refuse.send(Err(ChangeRefusal::NotLeader));
        answer
    }

    /// Asks the leader to hand leadership over, to this voter or to the one that has most of the log. Refused if this
    /// node doesn't lead. [`Self::group`] says whether it was done.
    fn transfer_leadership(&self, _to: Option<NodeId>) -> Result<(), ChangeRefusal> {
        Err(ChangeRefusal::NotLeader)
    }

    /// The region's part in who is active; none of a cluster with one region.
    fn region(&self) -> Option<RegionStatus> {
        None
    }

    /// Up to which sequence everything is durable in both regions, as far as this node knows.
    fn both_through(&self) -> Sequence {
        Sequence(0)
    }

    /// Has the region do what an operator asks for. It answers once that came to its end: the epoch, or why not. No answer:
    /// this node can't do it.
    fn operate_region(&self, _operation: RegionOperation) -> oneshot::Receiver<Result<Epoch, LeaseRefusal>> {
        oneshot::channel().1
    }

    /// The node's UTC clock.
    fn now(&self) -> Timestamp;

    /// Where the time that commands spend is counted, by the core and by the gateway.
    fn stages(&self) -> &Arc<Stages>;
}

/// From where on a read is served.
#[derive(Debug)]
pub enum ReadFrom {
    /// From what this node has applied by now.
    Own,
    /// From the sequence that its group will name; none if there is no leader to ask.
    Group(oneshot::Receiver<Option<Sequence>>),
}

/// The group that a node belongs to, as that node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The node that says so.
    pub node: NodeId,
    /// Who leads; none: nobody, for now.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: Term,
    /// The last entry of the log that is applied here.
    pub applied: LogIndex,
    /// True while it gets back from its peers what its disk lost.
    pub repairing: bool,
    /// The version of the exchange's behaviour that is in force there.
    pub engine_version: EngineVersion,
    /// Who belongs to the group, by node.
    pub members: Vec<MemberStatus>,
}

/// A member of a group, as another member knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub node: NodeId,
    /// What it does.
    pub role: Role,
    /// Where its peers reach it.
    pub address: String,
    /// What the leader alone knows: the last entry that it has on disk, and
    pub matched: Option<LogIndex>,
    /// whether it was heard of within an election's time-out. Of the node that says so itself: true.
    pub heard: bool,
    /// The newest engine version that its program reads, as its greeting said; none while there is no link to it.
    pub engine_version_max: Option<EngineVersion>,
}

/// What an operator may ask of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionOperation {
    /// Of the active one: make the other one active, without a loss.
    SwitchOver,
    /// Of a standby: become active once the lease has lapsed, whatever it lacks.
    Promote,
    /// Let the lease lapse, or don't become active.
    Demote,
}

/// A region's part in who is active, as a node of it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStatus {
    /// The region.
    pub region: RegionId,
    /// What it does: `unknown`, `standby`, `beginning`, `active`, `draining` or `fenced`.
    pub mode: &'static str,
    /// The lease; none before any voter has told.
    pub lease: Option<LeaseState>,
    /// For how long the lease holds, in nanoseconds: of the active region's leader.
    pub lease_remaining_ns: u64,
    /// True if answers wait for the standby.
    pub answers_wait: bool,
    /// How far the standby is: of the active region's leader.
    pub standby: Option<Lag>,
    /// How far this region is behind the active one: of a standby's leader.
    pub behind: Option<Lag>,
    /// Why it was not made active when it last asked to be.
    pub why_not: Option<LeaseRefusal>,
    /// True if its log has something that the present epoch has not.
    pub is_void: bool,
    /// The newest engine version that all nodes of the other region read; none while one of them is not connected.
    pub other_reads: Option<EngineVersion>,
}

/// By how much one region is behind the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// What it has.
    pub through: Sequence,
    /// How many sequences it lacks.
    pub sequences: u64,
    /// The journal's bytes of these, as far as that is known.
    pub bytes: u64,
    /// For how long it has lacked the first of them, in nanoseconds.
    pub ns: u64,
    /// How long ago it was heard of, in nanoseconds; none: never.
    pub heard_ns_ago: Option<u64>,
}

/// What became of a command that was queued: an error says that it was not sequenced and never will be.
pub type Answer = Result<Applied, SubmitError>;

/// A committed and applied command: which of its batch's.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The batch, shared with everybody else who waits for one of its commands.
    pub batch: Arc<AppliedBatch>,
    /// The command's index in the batch.
    pub index: usize,
    /// When the whole batch had been applied; of a batch of the past, when it was found.
    pub applied_at: Timestamp,
    /// True if the command was durable in both regions when it was answered.
    pub in_both: bool,
}

impl Applied {
    /// Where the command was sequenced.
    pub fn position(&self) -> Position {
        let index = u32::try_from(self.index).expect("a batch has at most BATCH_COMMANDS_MAX commands");
        self.batch.header.position(index)
    }

    /// The events of the command. The first one is its answer.
    pub fn events(&self) -> &[Event] {
        self.batch.events_of(self.index)
    }

    /// Where the command is durable.
    pub fn durable_in(&self) -> DurableIn {
        if self.in_both {
            DurableIn::Both
        } else {
            DurableIn::Region
        }
    }

    /// When the gateway read the command's first byte.
    pub fn received_at(&self) -> Timestamp {
        self.batch.commands[self.index].received_at
    }
}

/// Why a command was not taken. It was not sequenced and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("the core's queue is full")]
    Busy {
        /// When it is worth trying again.
        retry_after_ms: u64,
    },
    /// The node takes no commands.
    #[error("{0}")]
    NotAccepting(NotAccepting),
    /// It takes more bytes than the journal carries in one piece.
    #[error("the command is larger than the journal carries in one piece")]
    TooLarge,
}

/// Why the node takes no commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAccepting {
    /// It still recovers what the journal holds.
    Starting,
    /// It is on its way down.
    Stopping,
    /// It does not lead its group.
    NotLeader,
    /// Its region is not active.
    NotActive,
    /// The other region lacks more than it may.
    StandbyLags,
    /// The journal's disk has no room left.
    DiskFull,
    /// A write or sync of the journal failed.
    DiskFailed,
    /// Its clock left its bound.
    ClockUnsure,
    /// Its state differs from what a replay of the journal gives; the evidence is kept.
    StateDiverged,
    /// A command that is in the journal could not be applied.
    ApplyFailed,
}

impl GroupStatus {
    /// The group of a lone node, before it says more.
    pub fn lone(node: NodeId, applied: LogIndex) -> Self {
        Self {
            node,
            leader: Some(node),
            term: Term(0),
            applied,
            repairing: false,
            engine_version: EngineVersion::FIRST,
            members: vec![MemberStatus {
                node,
                role: Role::Voter,
                address: String::new(),
                matched: Some(applied),
                heard: true,
                engine_version_max: None,
            }],
        }
    }
}

impl NotAccepting {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Starting,
        Self::Stopping,
        Self::NotLeader,
        Self::NotActive,
        Self::StandbyLags,
        Self::DiskFull,
        Self::DiskFailed,
        Self::ClockUnsure,
        Self::StateDiverged,
        Self::ApplyFailed,
    ];

    /// The reason as one sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Starting => "The node is starting: it still recovers what its journal holds.",
            Self::Stopping => "The node is stopping and takes no more requests.",
            Self::NotLeader => "This node does not lead its group.",
            Self::NotActive => "The region is not active: another one takes orders, or will within moments.",
            Self::StandbyLags => "The standby region lacks more than it may; nothing is taken that would add to that.",
            Self::DiskFull => "The disk of the journal is full; nothing is taken that could not be made durable.",
            Self::DiskFailed => {
                "A write or sync of the journal failed; nothing is taken that could not be made durable."
            }
            Self::ClockUnsure => "The node's clock is out of its bound, so it stamps nothing.",
            Self::StateDiverged => {
                "The node's state differs from a replay of its journal; it stopped and keeps the evidence."
            }
            Self::ApplyFailed => "Applying a command failed; the node stopped, and its operator must look at the log.",
        }
    }
}

impl fmt::Display for NotAccepting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// How the core is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreStatus {
    /// Whether it takes commands, and why not.
    pub accepting: Result<(), NotAccepting>,
    /// Its group.
    pub group: GroupId,
    /// Which life of the group.
    pub incarnation: Incarnation,
    /// The epoch in which it sequences.
    pub epoch: Epoch,
    /// The last sequence that it has applied (0: none).
    pub last_applied: Sequence,
    /// How many commands wait in its queue.
    pub queued_count: usize,
    /// By how much its clock may be off UTC, in nanoseconds.
    pub clock_error_bound_ns: u64,
}

/// The event log: whole batches of the past, in sequence.
pub trait History: Send + Sync + 'static {
    /// The oldest sequence that is kept (the horizon); 1 if nothing was retired yet.
    fn first(&self) -> Sequence;

    /// The newest sequence that can be read (0: none).
    fn last(&self) -> Sequence;

    /// Whole batches in sequence of about `bytes_max` bytes together, at least one unless `from` lies behind `last`;
    /// the first one contains `from`. Blocks on the disk unless [`Self::is_recent`] says otherwise.
    fn read(&self, from: Sequence, bytes_max: usize) -> Result<Vec<Arc<AppliedBatch>>, HistoryError>;

    /// True if `read` would answer from memory.
    fn is_recent(&self, from: Sequence) -> bool;
}

/// Why the past could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// It is no longer kept.
    #[error("read the event log: sequence {wanted} was retired, the oldest kept one is {first}")]
    Retired {
        /// What was asked for.
        wanted: Sequence,
        /// What is kept.
        first: Sequence,
    },
    /// The part is being made again from the journal; try later.
    #[error("read the event log: it is being rebuilt from the journal")]
    Rebuilding,
    /// The disk said no.
    #[error("read the event log: {0}")]
    Io(String),
}
