//! Commands on their way to whoever leads the group.
//!
//! ```text
//!  clients ──> this node ──┬── leads ──────────────> sequenced here
//!                          ├── knows a leader ─────> forwarded; answered from the batch once it is applied here
//!                          └── knows none ─────────> parked until there is one, for `LEADER_WAIT`
//! ```
//!
//! A forwarded command stays here until its leader says at which sequence it was executed. If that leader, or the link to
//! it, is lost, the command goes to the next one: the memory of request ids makes sure that it is executed once, whichever
//! of the two sequenced it. What can't be brought to its end in time is answered as what it is: not sequenced if it was
//! never handed on, unknown otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::handle::{Applied, NotAccepting, SubmitError};
use gateway::waiting::{Bells, Waiter};
use types::limits::COMMANDS_QUEUED_MAX;
use types::{AppliedBatch, Command, Sequence, Timestamp};
use wire::batch;
use wire::journal::NodeId;
use wire::peer::{Answer, Forward, Outcome};

use super::handle::BUSY;

/// For how long a command waits for a leader.
pub(super) const LEADER_WAIT: Duration = Duration::from_secs(3);
/// Batches that are kept to answer from: a leader's answer comes at about the time that its batch is applied here.
const RECENT_BATCHES: usize = 1_024;
/// How a leader says that it does not lead, or not yet.
const CODE_NOT_LEADER: u8 = 1;
/// How it says that it has no room.
const CODE_BUSY: u8 = 2;
/// How it says that a batch does not carry the command.
const CODE_TOO_LARGE: u8 = 3;

/// Who waits for what becomes of a command.
#[derive(Debug)]
pub(super) enum Asker {
    /// A client of this node.
    Local(Local),
    /// Another node, for a client of its own.
    Peer {
        /// Which.
        node: NodeId,
        /// What it calls the command.
        token: u64,
    },
}

/// When something is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The time, and
    pub(super) now: Timestamp,
    /// up to where everything is durable in both regions.
    pub(super) both_through: Sequence,
}

/// A client of this node that waits.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) waiter: Waiter,
    /// True once a leader that is no longer asked may have sequenced the command: nobody may say then that it was not.
    pub(super) doubtful: bool,
    /// By when it has waited for long enough for somebody to sequence the command; none before it had to wait at all.
    until: Option<Instant>,
}

impl From<Waiter> for Local {
    fn from(waiter: Waiter) -> Self {
        Self {
            waiter,
            doubtful: false,
            until: None,
        }
    }
}

/// A command of a client of this node.
#[derive(Debug)]
struct Held {
    command: Command,
    local: Local,
}

impl Held {
    fn is_late(&self, now: Instant) -> bool {
        self.local.until.is_some_and(|until| until <= now)
    }
}

/// The commands of this node's clients that it does not sequence itself.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    last_token: u64,
    /// Whom the commands in `sent` were sent to.
    leader: Option<NodeId>,
    sent: BTreeMap<u64, Held>,
    /// Executed, as their leader says, in a batch that is not applied here yet.
    executed: BTreeMap<Sequence, Held>,
    parked: VecDeque<Held>,
    recent: VecDeque<Arc<AppliedBatch>>,
    /// True from a leader's word that it can't take commands now until the next tick.
    rests: bool,
}

impl Forwarding {
    /// Without anything on its way. Its tokens are none that an earlier life of this node used.
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            last_token: now.0,
            ..Self::default()
        }
    }

    /// How many commands are on their way.
    pub(super) fn count(&self) -> usize {
        self.sent.len() + self.executed.len() + self.parked.len()
    }

    /// Keeps commands, behind those that are kept already, until there is somebody to sequence them.
    pub(super) fn park(&mut self, commands: impl IntoIterator<Item = (Command, Local)>, bells: &mut Bells) {
        for (command, mut local) in commands {
            if !local.doubtful && self.count() >= COMMANDS_QUEUED_MAX {
                local.waiter.tell(Err(BUSY), bells);
                continue;
            }
            local.until.get_or_insert_with(|| Instant::now() + LEADER_WAIT);
            self.parked.push_back(Held { command, local });
        }
    }

    /// Keeps commands of which it is not known what became of them, in front of all others: they came first.
    pub(super) fn park_doubtful(&mut self, commands: Vec<(Command, Local)>) {
        for (command, mut local) in commands.into_iter().rev() {
            local.doubtful = true;
            local.until.get_or_insert_with(|| Instant::now() + LEADER_WAIT);
            self.parked.push_front(Held { command, local });
        }
    }

    /// Gives back what is parked, up to so many, for this node itself to sequence.
    pub(super) fn take(&mut self, count_max: usize) -> Vec<(Command, Local)> {
        let count = self.parked.len().min(count_max);
        let taken = self.parked.drain(..count);
        taken.map(|held| (held.command, held.local)).collect()
    }

    /// True if nothing is parked.
    pub(super) fn is_idle(&self) -> bool {
        self.parked.is_empty()
    }

    /// Hands what is parked on to this leader. `send` says whether it was taken. A command that no batch carries goes
    /// without its bytes; the leader refuses that.
    pub(super) fn hand_on(&mut self, leader: NodeId, count_max: usize, send: impl FnOnce(Vec<Forward>) -> bool) {
        self.leader = Some(leader);
        let count = self.parked.len().min(count_max);
        if count == 0 || self.rests {
            return;
        }
        let first_token = self.last_token + 1;
        let forwards = self
            .parked
            .iter()
            .take(count)
            .zip(first_token..)
            .map(|(held, token)| Forward {
                token,
                command: batch::encode_command(&held.command).unwrap_or_default().into(),
            });
        if !send(forwards.collect()) {
            return;
        }
        for (held, token) in self.parked.drain(..count).zip(first_token..) {
            self.last_token = token;
            self.sent.insert(token, held);
        }
    }

    /// Whoever leads changed, or the link to it was lost: what it was sent waits for the next one, in front of the others
    /// and in its order.
    pub(super) fn lost_leader(&mut self) {
        self.leader = None;
        self.rests = false;
        let sent = std::mem::take(&mut self.sent);
        for mut held in sent.into_values().rev() {
            held.local.doubtful = true;
            self.parked.push_front(held);
        }
    }

    /// The leader says what became of commands.
    pub(super) fn answered(&mut self, from: NodeId, answers: Vec<Answer>, at: Moment, bells: &mut Bells) {
        if self.leader != Some(from) {
            return;
        }
        let mut again = Vec::new();
        for answer in answers {
            let Some(held) = self.sent.remove(&answer.token) else {
                continue;
            };
            match answer.outcome {
                Outcome::Sequenced { sequence, .. } => self.executed(sequence, held, at, bells),
                Outcome::Refused { code } if held.local.doubtful => {
                    // This leader did not sequence it, and a former one may have. One that can't read it never will:
                    // whoever waits is not told, and so knows that the outcome is unknown.
                    if code != CODE_TOO_LARGE {
                        again.push(held);
                    }
                }
                Outcome::Refused { code: CODE_TOO_LARGE } => held.local.waiter.tell(Err(SubmitError::TooLarge), bells),
                Outcome::Refused { code: CODE_BUSY } => held.local.waiter.tell(Err(BUSY), bells),
                Outcome::Refused { .. } => again.push(held),
            }
        }
        self.rests |= !again.is_empty();
        for held in again.into_iter().rev() {
            self.parked.push_front(held);
        }
    }

    fn executed(&mut self, sequence: Sequence, held: Held, at: Moment, bells: &mut Bells) {
        let applied = self.recent.back().map(|batch| batch.header.last_sequence());
        if applied.is_none_or(|applied| applied < sequence) {
            self.executed.insert(sequence, held);
            return;
        }
        let index = self
            .recent
            .partition_point(|batch| batch.header.last_sequence() < sequence);
        match self
            .recent
            .get(index)
            .filter(|batch| batch.header.first_sequence <= sequence)
        {
            Some(batch) => tell(batch, sequence, held.local.waiter, at, bells),
            // Too long ago: asked again, the client hears from the memory of request ids.
            None => drop(held),
        }
    }

    /// A batch was applied here.
    pub(super) fn applied(&mut self, batch: &Arc<AppliedBatch>, at: Moment, bells: &mut Bells) {
        while let Some(first) = self.executed.first_entry()
            && *first.key() <= batch.header.last_sequence()
        {
            let (sequence, held) = first.remove_entry();
            if sequence >= batch.header.first_sequence {
                tell(batch, sequence, held.local.waiter, at, bells);
            }
        }
        if self.recent.len() == RECENT_BATCHES {
            self.recent.pop_front();
        }
        self.recent.push_back(Arc::clone(batch));
    }

    /// Refuses what is parked and was never handed on; of the rest nobody can say here what became of it.
    pub(super) fn refuse_parked(&mut self, why: NotAccepting, bells: &mut Bells) {
        for held in std::mem::take(&mut self.parked) {
            if !held.local.doubtful {
                held.local.waiter.tell(Err(SubmitError::NotAccepting(why)), bells);
            }
        }
    }

    /// A tick has passed: a leader that could not take commands is asked again, and what has waited for too long is
    /// answered.
    pub(super) fn tick(&mut self, why: NotAccepting, bells: &mut Bells) {
        self.rests = false;
        let now = Instant::now();
        let mut unknown = Vec::new();
        let parked = std::mem::take(&mut self.parked);
        for held in parked {
            match (held.is_late(now), held.local.doubtful) {
                (false, _) => self.parked.push_back(held),
                (true, true) => unknown.push(held),
                (true, false) => held.local.waiter.tell(Err(SubmitError::NotAccepting(why)), bells),
            }
        }
        unknown.extend(
            self.sent
                .extract_if(.., |_, held| held.is_late(now))
                .map(|(_, held)| held),
        );
        unknown.extend(
            self.executed
                .extract_if(.., |_, held| held.is_late(now))
                .map(|(_, held)| held),
        );
        // Nobody tells those who wait: to them the outcome is unknown.
        drop(unknown);
    }
}

fn tell(batch: &Arc<AppliedBatch>, sequence: Sequence, waiter: Waiter, at: Moment, bells: &mut Bells) {
    let index = usize::try_from(sequence.0 - batch.header.first_sequence.0).expect("a batch is small");
    let applied = Applied {
        batch: Arc::clone(batch),
        index,
        applied_at: at.now,
        in_both: batch.header.last_sequence() <= at.both_through,
    };
    waiter.tell(Ok(applied), bells);
}

/// What a leader tells another node of bytes that are no command that a batch carries.
pub(super) fn not_carried(token: u64) -> Answer {
    refused(token, replica::Refusal::TooLarge)
}

/// What a leader tells another node of a command that it did not sequence.
pub(super) fn refused(token: u64, why: replica::Refusal) -> Answer {
    let code = match why {
        replica::Refusal::Busy => CODE_BUSY,
        replica::Refusal::TooLarge => CODE_TOO_LARGE,
        replica::Refusal::NotLeader
        | replica::Refusal::NotActive
        | replica::Refusal::ClockUnsure
        | replica::Refusal::Stopping => CODE_NOT_LEADER,
    };
    Answer {
        token,
        outcome: Outcome::Refused { code },
    }
}
