//! The state machine, and the checks in front of it.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::limits::BATCHES_IN_FLIGHT_MAX;
use types::{
    AppliedBatch, AppliedCommand, BatchHeader, Epoch, GroupId, Incarnation, Sequence, StateMachine, Timestamp,
};
use wire::batch;
use wire::journal::{Chain, Identity, LogIndex, RecordKind, Term, crc32c};
use wire::membership::Membership;

use crate::membership;
use crate::protocol::StopReason;

/// How many batches' ends are remembered: each that a batch in flight can refer to, with some to spare.
const RECENT_MAX: usize = 2 * BATCHES_IN_FLIGHT_MAX;

/// Where in the log a state stands: behind the entry of this index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The last entry (0: none), and
    pub index: LogIndex,
    /// its term.
    pub term: Term,
    /// The epoch of the last batch, and
    pub epoch: Epoch,
    /// its last sequence (0: none), and
    pub sequence: Sequence,
    /// its stamp, and
    pub sequenced_at: Timestamp,
    /// the chain behind it.
    pub chain: Chain,
}

/// An entry of the log, as it stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What it holds; never `HardState`.
    pub kind: RecordKind,
    /// Its place.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The chain behind it.
    pub chain: Chain,
    /// What it holds.
    pub payload: Bytes,
}

/// Applies the log to a state machine, entry by entry, and stops where an entry can't be right.
///
/// The live node, its start, snapshots, rebuilding the event log and `meridian journal replay` all go through this.
#[derive(Debug)]
pub struct Applier<M: StateMachine> {
    machine: M,
    group: GroupId,
    incarnation: Incarnation,
    applied: Applied,
    membership: Membership,
    recent: VecDeque<Recent>,
    quarantined: BTreeSet<Sequence>,
    applying: Option<Sequence>,
}

/// The end of a batch that was applied not long ago.
#[derive(Clone, Copy, Debug)]
struct Recent {
    /// The batch; none for the state that the applier began with.
    batch: Option<(BatchHeader, u32)>,
    last_sequence: Sequence,
    state_hash: u64,
}

impl<M: StateMachine> Applier<M> {
    /// Goes on from `machine`, which stands at `applied`, where `membership` is who belongs to the group. The commands at
    /// `quarantined` become rejects.
    pub fn new(
        identity: &Identity,
        machine: M,
        applied: Applied,
        membership: Membership,
        quarantined: BTreeSet<Sequence>,
    ) -> Self {
        let start = Recent {
            batch: None,
            last_sequence: applied.sequence,
            state_hash: machine.state_hash(),
        };
        Self {
            machine,
            group: identity.group,
            incarnation: identity.incarnation,
            applied,
            membership,
            recent: VecDeque::from([start]),
            quarantined,
            applying: None,
        }
    }

    /// The state machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The group whose log it applies.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Which life of the group.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The state machine, given away.
    pub fn into_machine(self) -> M {
        self.machine
    }

    /// Where it stands.
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// Who belongs to the group.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The command that is being applied. After a panic it is the one to quarantine.
    pub fn applying(&self) -> Option<Sequence> {
        self.applying
    }

    /// Applies the next entry. Answers with what came of its batch; none for an entry without one, or for a copy of a
    /// batch that was applied not long ago. After an error nothing further may be applied.
    pub fn apply(&mut self, entry: &LogEntry) -> Result<Option<AppliedBatch<M::Event>>, StopReason> {
        match entry.kind {
            RecordKind::Batch => {
                let index = entry.index;
                let (header, commands) =
                    batch::decode(&entry.payload).map_err(|error| StopReason::Undecodable { index, error })?;
                self.apply_batch(entry, header, &commands, None)
            }
            RecordKind::Empty => {
                self.follow_on(entry)?;
                Ok(None)
            }
            RecordKind::ConfChange => {
                let made = membership::decode(&entry.payload)
                    .and_then(|change| membership::make(&change, &mut self.membership));
                made.ok_or(StopReason::UnknownChange { index: entry.index })?;
                self.follow_on(entry)?;
                Ok(None)
            }
            RecordKind::ConfChangeV2 | RecordKind::HardState => Err(StopReason::UnknownChange { index: entry.index }),
        }
    }

    /// The same for a batch whose commands are at hand: `entry.payload` is what they were encoded to.
    pub(crate) fn apply_batch(
        &mut self,
        entry: &LogEntry,
        header: BatchHeader,
        commands: &[M::Command],
        committed_at: Option<Timestamp>,
    ) -> Result<Option<AppliedBatch<M::Event>>, StopReason> {
        let digest = crc32c(&entry.payload);
        let fresh = self.check(entry, &header, digest)?;
        self.follow_on(entry)?;
        if !fresh {
            return Ok(None);
        }
        let batch = self.execute(header, commands, committed_at)?;
        self.applied.epoch = header.epoch;
        self.applied.sequence = header.last_sequence();
        self.applied.sequenced_at = header.sequenced_at;
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent {
            batch: Some((header, digest)),
            last_sequence: header.last_sequence(),
            state_hash: self.machine.state_hash(),
        });
        Ok(Some(batch))
    }

    /// True if the batch is the next one, false if it is a copy of a recent one, otherwise why it can't be.
    fn check(&self, entry: &LogEntry, header: &BatchHeader, digest: u32) -> Result<bool, StopReason> {
        // The life is that of the group that sequenced it, which may be another region's.
        if header.group != self.group {
            return Err(StopReason::Foreign {
                index: entry.index,
                group: header.group,
            });
        }
        if self.recent.iter().any(|recent| recent.batch == Some((*header, digest))) {
            return Ok(false);
        }
        let expected = self.applied.sequence.next();
        if header.first_sequence != expected || header.epoch < self.applied.epoch {
            return Err(StopReason::OutOfOrder {
                index: entry.index,
                epoch: self.applied.epoch,
                expected,
                found_epoch: header.epoch,
                found: header.first_sequence,
            });
        }
        if header.sequenced_at < self.applied.sequenced_at {
            return Err(StopReason::TimeRanBack {
                sequence: header.first_sequence,
                sequenced_at: header.sequenced_at,
                previous: self.applied.sequenced_at,
            });
        }
        self.check_hash(header)?;
        Ok(true)
    }

    /// Compares the state's hash that the batch tells with the one here. Places before the applier began can't be.
    fn check_hash(&self, header: &BatchHeader) -> Result<(), StopReason> {
        let through = header.hashed_through;
        let known_from = self.recent.front().expect("the start is always in it").last_sequence;
        if through == Sequence(0) || through < known_from {
            return Ok(());
        }
        let place = self.recent.iter().rev().find(|recent| recent.last_sequence == through);
        let Some(recent) = place else {
            return Err(StopReason::HashPlace {
                sequence: header.first_sequence,
                through,
            });
        };
        if recent.state_hash != header.state_hash {
            return Err(StopReason::StateDiverged {
                through,
                recorded: header.state_hash,
                computed: recent.state_hash,
            });
        }
        Ok(())
    }

    /// Moves on by one entry.
    fn follow_on(&mut self, entry: &LogEntry) -> Result<(), StopReason> {
        let expected = self.applied.index.next();
        if entry.index != expected {
            return Err(StopReason::IndexGap {
                expected,
                found: entry.index,
            });
        }
        self.applied.index = entry.index;
        self.applied.term = entry.term;
        self.applied.chain = entry.chain;
        Ok(())
    }

    /// Behaviour that this program doesn't know can't be followed.
    fn check_engine_version(&self, sequence: Sequence, command: &M::Command) -> Result<(), StopReason> {
        let known = self.machine.engine_version_max();
        match M::sets_engine_version(command) {
            Some(version) if version > known => Err(StopReason::EngineVersion {
                sequence,
                version,
                known,
            }),
            _ => Ok(()),
        }
    }

    fn execute(
        &mut self,
        header: BatchHeader,
        commands: &[M::Command],
        committed_at: Option<Timestamp>,
    ) -> Result<AppliedBatch<M::Event>, StopReason> {
        let mut events = Vec::with_capacity(commands.len() * 4);
        let mut ends = Vec::with_capacity(commands.len());
        let mut coming = commands.iter();
        for command in coming.by_ref().take(M::PREPARED_COMMANDS) {
            self.machine.prepare(command);
        }
        for (index, command) in (0..).zip(commands) {
            if let Some(command) = coming.next() {
                self.machine.prepare(command);
            }
            let position = header.position(index);
            self.check_engine_version(position.sequence, command)?;
            let before = events.len();
            self.applying = Some(position.sequence);
            if self.quarantined.contains(&position.sequence) {
                self.machine
                    .apply_quarantined(position, header.sequenced_at, command, &mut events);
            } else {
                self.machine.apply(position, header.sequenced_at, command, &mut events);
            }
            self.applying = None;
            if events.len() == before {
                return Err(StopReason::NoEvent {
                    sequence: position.sequence,
                });
            }
            ends.push(AppliedCommand {
                received_at: M::received_at(command),
                events_end: u32::try_from(events.len()).expect("a batch yields fewer than 2^32 events"),
            });
        }
        Ok(AppliedBatch {
            header,
            committed_at,
            commands: ends,
            events,
        })
    }
}
