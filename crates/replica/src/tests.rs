//! Tests of the replica, alone and with peers, over a state machine that adds numbers.

mod group;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use types::limits::{BATCH_COMMANDS_MAX, BATCHES_IN_FLIGHT_MAX, COMMAND_BYTES_MAX};
use types::{
    AppliedBatch, BatchHeader, EngineVersion, Epoch, GroupId, Incarnation, Position, Sequence, StateMachine, Timestamp,
};
use wire::batch::{self, BatchEncoder};
use wire::journal::{Chain, Identity, LogIndex, NodeId, RecordKind, Term};
use wire::membership::{ChangeRefusal, Membership, MembershipChange};
use wire::peer::RaftMessage;

use crate::{
    Applied, Applier, HandOver, HardState, Input, LogEntry, Now, Output, PeerMessage, ReadTicket, Record, Refusal,
    Replica, Settings, SnapshotPoint, StopReason, Ticket,
};

/// Adds the bytes of its commands. An empty command lets time pass; its deadline is a time that a command set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    sum: u64,
    deadline: Option<Timestamp>,
}

type Numbers = Vec<u8>;

impl StateMachine for Sum {
    type Command = Numbers;
    type Event = (Position, u64);
    type Snapshot = u64;

    fn apply(&mut self, position: Position, at: Timestamp, command: &Numbers, events: &mut Vec<Self::Event>) {
        match command.as_slice() {
            [] => {}
            [255, seconds] => self.deadline = Some(at.plus_ns(u64::from(*seconds) * Timestamp::SECOND)),
            [254] => return,
            numbers => self.sum += numbers.iter().map(|number| u64::from(*number)).sum::<u64>(),
        }
        if self.deadline.is_some_and(|deadline| deadline <= at) {
            self.deadline = None;
        }
        events.push((position, self.sum));
    }

    fn apply_quarantined(&mut self, position: Position, _: Timestamp, _: &Numbers, events: &mut Vec<Self::Event>) {
        events.push((position, u64::MAX));
    }

    fn state_hash(&self) -> u64 {
        self.sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 1
    }

    fn recompute_state_hash(&self) -> u64 {
        self.state_hash()
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    fn received_at(_: &Numbers) -> Timestamp {
        Timestamp(1)
    }

    fn clock_command(_: Timestamp) -> Numbers {
        Vec::new()
    }

    fn snapshot(&self) -> u64 {
        self.sum
    }

    fn restore(sum: u64, _: EngineVersion) -> Result<Self, String> {
        Ok(Self { sum, deadline: None })
    }
}

fn identity(node: u64) -> Identity {
    Identity {
        cluster: "test".parse().unwrap(),
        group: GroupId(0),
        incarnation: Incarnation(1),
        node: NodeId(node),
    }
}

fn now(seconds: u64) -> Now {
    Now {
        utc: Timestamp(seconds * Timestamp::SECOND),
        clock_error_bound_ns: 5,
    }
}

type Out = Output<Numbers, (Position, u64), u32>;

/// A replica with its journal in memory.
struct Node {
    replica: Replica<Sum, u32>,
    records: Vec<Record>,
    applied: Vec<Arc<AppliedBatch<(Position, u64)>>>,
    answered: Vec<u32>,
    refused: Vec<(u32, Refusal)>,
    unknown: Vec<u32>,
    sent: Vec<PeerMessage>,
    sync_wanted: Option<Ticket>,
    stopped: Option<StopReason>,
    reads: Vec<(ReadTicket, Option<Sequence>)>,
    snapshot_wanted: Option<LogIndex>,
    installed: Option<(SnapshotPoint, HardState)>,
    change: Option<Result<(), ChangeRefusal>>,
    handed_over: Vec<(NodeId, HandOver)>,
    repaired: bool,
    /// False holds back the word that a sync is done.
    syncs: bool,
}

impl Node {
    fn new(id: u64, voters: u64) -> Self {
        let membership = Membership::of_voters((1..=voters).map(NodeId));
        let applier = applier_of(Applied::default(), membership);
        Self::over(id, applier, HardState::default()).unwrap()
    }

    fn over(id: u64, applier: Applier<Sum>, hard_state: HardState) -> Result<Self, StopReason> {
        let settings = Settings {
            identity: identity(id),
            epoch: Some(Epoch(1)),
            repairing: false,
            election_ticks: 10 + usize::try_from(id).unwrap() * 5,
        };
        Ok(Self {
            replica: Replica::new(&settings, applier, hard_state, Vec::new())?,
            records: Vec::new(),
            applied: Vec::new(),
            answered: Vec::new(),
            refused: Vec::new(),
            unknown: Vec::new(),
            sent: Vec::new(),
            sync_wanted: None,
            stopped: None,
            reads: Vec::new(),
            snapshot_wanted: None,
            installed: None,
            change: None,
            handed_over: Vec::new(),
            repaired: false,
            syncs: true,
        })
    }

    /// A lone voter that leads.
    fn leading() -> Self {
        let mut node = Self::new(1, 1);
        assert_eq!(node.replica.accepting(), Err(Refusal::NotLeader));
        node.step(1, Input::Campaign);
        assert_eq!(node.replica.accepting(), Ok(()));
        node
    }

    fn step(&mut self, seconds: u64, input: Input<Numbers, u32>) {
        let mut outputs = Vec::new();
        self.replica.step(now(seconds), input, &mut outputs);
        self.take(outputs);
        if self.syncs {
            self.sync(seconds);
        }
    }

    fn sync(&mut self, seconds: u64) {
        while let Some(ticket) = self.sync_wanted.take() {
            let mut outputs = Vec::new();
            self.replica.step(now(seconds), Input::Persisted(ticket), &mut outputs);
            self.take(outputs);
        }
    }

    fn take(&mut self, outputs: Vec<Out>) {
        for output in outputs {
            match output {
                Output::Append(records) => self.records.extend(records),
                Output::Sync(ticket) => self.sync_wanted = Some(ticket),
                Output::Applied { batch, waiters } => {
                    self.applied.push(batch);
                    self.answered.extend(waiters);
                }
                Output::Refused { commands, why } => {
                    self.refused.extend(commands.into_iter().map(|(_, who)| (who, why)))
                }
                Output::Unknown { commands } => self.unknown.extend(commands.into_iter().map(|(_, who)| who)),
                Output::Send(message) => self.sent.push(message),
                Output::Truncate { after } => self.records.retain(|record| record.index <= after),
                Output::ReadFrom { ticket, sequence } => self.reads.push((ticket, Some(sequence))),
                Output::ReadFailed(ticket) => self.reads.push((ticket, None)),
                Output::SnapshotWanted { at_least } => self.snapshot_wanted = Some(at_least),
                Output::Install { point, hard_state } => self.installed = Some((point, hard_state)),
                Output::ChangeTaken(taken) => self.change = Some(taken),
                Output::HandingOver { to, why } => self.handed_over.push((to, why)),
                Output::Repaired => self.repaired = true,
                Output::Accepting(_) | Output::Leader(_) | Output::Members(_) | Output::Committed(_) => {}
                Output::Stop(reason) => self.stopped = Some(reason),
            }
        }
    }

    fn ask(&mut self, seconds: u64, commands: &[(&[u8], u32)]) {
        let commands = commands.iter().map(|(command, who)| (command.to_vec(), *who)).collect();
        self.step(seconds, Input::Commands(commands));
    }

    fn sum(&self) -> u64 {
        self.replica.applier().machine().sum
    }

    /// The journal's entries.
    fn entries(&self) -> Vec<LogEntry> {
        let entries = self.records.iter().filter(|record| record.kind.is_entry());
        let entry = |record: &Record| LogEntry {
            kind: record.kind,
            index: record.index,
            term: record.term,
            chain: record.chain,
            payload: record.payload.clone(),
        };
        entries.map(entry).collect()
    }

    fn hard_state(&self) -> HardState {
        let last = self
            .records
            .iter()
            .rev()
            .find(|record| record.kind == RecordKind::HardState)
            .unwrap();
        HardState {
            term: last.term,
            vote: NodeId(u64::from_le_bytes(last.payload[..8].try_into().unwrap())),
        }
    }
}

fn applier(applied: Applied) -> Applier<Sum> {
    applier_of(applied, Membership::founding())
}

fn applier_of(applied: Applied, membership: Membership) -> Applier<Sum> {
    Applier::new(&identity(1), Sum::default(), applied, membership, BTreeSet::new())
}

fn replay(entries: &[LogEntry]) -> Result<Applier<Sum>, StopReason> {
    let mut applier = applier(Applied::default());
    for entry in entries {
        applier.apply(entry)?;
    }
    Ok(applier)
}

#[test]
fn a_lone_voter_sequences_and_answers_in_order() {
    let mut node = Node::leading();
    node.ask(2, &[(&[1, 2], 10), (&[3], 11)]);
    node.ask(3, &[(&[4], 12)]);
    assert_eq!(node.answered, [10, 11, 12]);
    assert_eq!(node.sum(), 10);
    let [first, second] = &node.applied[..] else {
        panic!("two batches");
    };
    assert_eq!((first.header.first_sequence, first.header.count), (Sequence(1), 2));
    assert_eq!(first.header.committed_through, Sequence(0));
    assert_eq!(second.header.first_sequence, Sequence(3));
    assert_eq!(second.header.committed_through, Sequence(2));
    assert_eq!(second.header.committed_at, now(2).utc);
    assert_eq!(
        (second.header.hashed_through, second.committed_at),
        (Sequence(2), Some(now(3).utc))
    );
    assert_eq!(second.header.clock_error_bound_ns, 5);
    assert_eq!(second.events_of(0).len(), 1);
}

#[test]
fn nothing_is_applied_before_it_is_on_disk() {
    let mut node = Node::leading();
    node.syncs = false;
    node.ask(2, &[(&[1], 1)]);
    node.ask(2, &[(&[2], 2)]);
    assert!(node.answered.is_empty());
    assert_eq!(node.replica.in_flight_count(), 2);
    node.sync(3);
    assert_eq!(node.answered, [1, 2]);
    assert_eq!(node.replica.log_entries_count(), 0, "what is applied is not kept");
}

#[test]
fn batches_in_flight_are_bounded() {
    let mut node = Node::leading();
    node.syncs = false;
    for who in 0..=BATCHES_IN_FLIGHT_MAX {
        node.ask(2, &[(&[1], u32::try_from(who).unwrap())]);
    }
    let last = u32::try_from(BATCHES_IN_FLIGHT_MAX).unwrap();
    assert_eq!(node.refused, [(last, Refusal::Busy)]);
    node.sync(2);
    assert_eq!(node.answered.len(), BATCHES_IN_FLIGHT_MAX);
    assert_eq!(node.replica.accepting(), Ok(()));
}

#[test]
fn what_does_not_fit_one_batch_makes_several_and_what_fits_none_is_refused() {
    let mut node = Node::leading();
    let commands = (0..u32::try_from(BATCH_COMMANDS_MAX).unwrap() + 5)
        .map(|who| (vec![1], who))
        .collect();
    node.step(2, Input::Commands(commands));
    assert_eq!(node.applied.len(), 2);
    assert_eq!(node.answered.len(), BATCH_COMMANDS_MAX + 5);
    node.ask(2, &[(&[1], 1), (&[0; COMMAND_BYTES_MAX], 2), (&[1], 3)]);
    assert_eq!(node.refused, [(2, Refusal::TooLarge)]);
    assert_eq!(node.applied[2].header.count, 2);
}

#[test]
fn stamps_never_run_backwards() {
    let mut node = Node::leading();
    node.ask(20, &[(&[1], 1)]);
    node.ask(10, &[(&[1], 2)]);
    node.ask(30, &[(&[1], 3)]);
    let stamps: Vec<_> = node.applied.iter().map(|batch| batch.header.sequenced_at).collect();
    assert_eq!(stamps, [now(20).utc, now(20).utc, now(30).utc]);
    // Nor over a restart.
    let applier = replay(&node.entries()).unwrap();
    let mut again = Node::over(1, applier, node.hard_state()).unwrap();
    again.step(5, Input::Campaign);
    again.ask(5, &[(&[1], 4)]);
    assert_eq!(again.applied[0].header.sequenced_at, now(30).utc);
}

#[test]
fn a_deadline_makes_a_clock_command_and_only_when_it_is_due() {
    let mut node = Node::leading();
    assert_eq!(node.replica.deadline(), None);
    node.ask(10, &[(&[255, 5], 1)]);
    assert_eq!(node.replica.deadline(), Some(now(15).utc));
    node.step(14, Input::Deadline);
    assert_eq!(node.applied.len(), 1);
    node.step(15, Input::Deadline);
    assert_eq!(node.applied.len(), 2);
    assert_eq!(node.replica.deadline(), None);
    node.step(16, Input::Deadline);
    assert_eq!(node.applied.len(), 2);
}

#[test]
fn a_restart_goes_on_where_the_journal_ends() {
    let mut node = Node::leading();
    for who in 0..20 {
        node.ask(2, &[(&[1, 2, 3], who)]);
    }
    let applier = replay(&node.entries()).unwrap();
    assert_eq!(applier.machine().sum, node.sum());
    let mut again = Node::over(1, applier, node.hard_state()).unwrap();
    again.ask(3, &[(&[9], 1)]);
    assert_eq!(
        again.refused,
        [(1, Refusal::NotLeader)],
        "not before its term's first entry is applied"
    );
    again.step(3, Input::Campaign);
    again.ask(3, &[(&[9], 2)]);
    assert_eq!(again.answered, [2]);
    let header = again.applied[0].header;
    assert_eq!(
        (header.first_sequence, header.hashed_through),
        (Sequence(21), Sequence(20))
    );
    assert!(again.entries().iter().all(|entry| entry.term > Term(1)));
    let mut all = node.entries();
    all.extend(again.entries());
    assert_eq!(replay(&all).unwrap().machine(), again.replica.applier().machine());
}

#[test]
fn draining_refuses_what_comes_and_ends_what_is_under_way() {
    let mut node = Node::leading();
    node.syncs = false;
    node.ask(2, &[(&[1], 1)]);
    node.step(2, Input::Drain);
    node.ask(2, &[(&[1], 2)]);
    node.sync(2);
    assert_eq!(node.answered, [1]);
    assert_eq!(node.refused, [(2, Refusal::Stopping)]);
}

#[test]
fn a_copy_is_skipped_and_everything_else_that_does_not_follow_stops() {
    let mut node = Node::leading();
    for who in 0..3 {
        node.ask(2, &[(&[1], who)]);
    }
    let entries = node.entries();
    let with_last = |payload: Bytes| {
        let mut entries = entries.clone();
        let index = LogIndex(entries.len() as u64 + 1);
        entries.push(LogEntry {
            index,
            payload,
            ..entries[1].clone()
        });
        replay(&entries)
    };
    let copied = with_last(entries[2].payload.clone()).unwrap();
    assert_eq!((copied.machine().sum, copied.applied().sequence), (3, Sequence(3)));

    let changed = |change: &dyn Fn(&mut BatchHeader)| {
        let (mut header, commands) = batch::decode::<Numbers>(&entries[3].payload).unwrap();
        header.first_sequence = Sequence(4);
        header.hashed_through = Sequence(3);
        header.state_hash = copied.machine().state_hash();
        change(&mut header);
        let mut encoder = BatchEncoder::new();
        commands.iter().for_each(|command| encoder.push(command).unwrap());
        with_last(Bytes::from(encoder.finish(header).1)).map(|applier| applier.applied().sequence)
    };
    assert_eq!(changed(&|_| {}), Ok(Sequence(4)));
    for sequence in [2, 3, 5] {
        let result = changed(&|header| header.first_sequence = Sequence(sequence));
        assert!(matches!(result, Err(StopReason::OutOfOrder { .. })), "{result:?}");
    }
    let result = changed(&|header| header.epoch = Epoch(0));
    assert!(matches!(result, Err(StopReason::OutOfOrder { .. })), "{result:?}");
    assert_eq!(changed(&|header| header.epoch = Epoch(2)), Ok(Sequence(4)));
    assert_eq!(
        changed(&|header| header.incarnation = Incarnation(2)),
        Ok(Sequence(4)),
        "another region's"
    );
    let result = changed(&|header| header.group = GroupId(9));
    assert!(matches!(result, Err(StopReason::Foreign { .. })), "{result:?}");
    let result = changed(&|header| header.sequenced_at = Timestamp(1));
    assert!(matches!(result, Err(StopReason::TimeRanBack { .. })), "{result:?}");
    let result = changed(&|header| header.state_hash ^= 1);
    assert!(
        matches!(
            result,
            Err(StopReason::StateDiverged {
                through: Sequence(3),
                ..
            })
        ),
        "{result:?}"
    );
    let result = changed(&|header| header.hashed_through = Sequence(9));
    assert!(matches!(result, Err(StopReason::HashPlace { .. })), "{result:?}");
    let result = with_last(Bytes::from_static(b"nonsense")).map(|_| ());
    assert!(matches!(result, Err(StopReason::Undecodable { .. })), "{result:?}");
}

#[test]
fn entries_follow_without_a_gap() {
    let mut node = Node::leading();
    node.ask(2, &[(&[1], 1)]);
    let result = replay(&node.entries()[1..]).map(|_| ());
    let expected = StopReason::IndexGap {
        expected: LogIndex(1),
        found: LogIndex(2),
    };
    assert_eq!(result, Err(expected));
}

#[test]
fn a_quarantined_command_becomes_a_reject_in_every_replay() {
    let mut node = Node::leading();
    node.ask(2, &[(&[1], 1), (&[2], 2), (&[4], 3)]);
    let quarantined = BTreeSet::from([Sequence(2)]);
    let mut applier = Applier::new(
        &identity(1),
        Sum::default(),
        Applied::default(),
        Membership::founding(),
        quarantined,
    );
    let mut batches = Vec::new();
    for entry in node.entries() {
        batches.extend(applier.apply(&entry).unwrap());
    }
    assert_eq!(applier.machine().sum, 5);
    assert_eq!(batches[0].events_of(1)[0].1, u64::MAX);
}

#[test]
fn a_command_without_an_event_stops_the_node_and_nothing_is_taken_after() {
    let mut node = Node::leading();
    node.ask(2, &[(&[1], 1)]);
    node.ask(2, &[(&[254], 2)]);
    assert_eq!(node.stopped, Some(StopReason::NoEvent { sequence: Sequence(2) }));
    node.ask(2, &[(&[1], 3)]);
    assert_eq!(node.refused, [(3, Refusal::Stopping)]);
    assert_eq!(node.answered, [1]);
}

#[test]
fn a_journal_of_a_later_epoch_is_refused() {
    let applied = Applied {
        epoch: Epoch(2),
        chain: Chain::START,
        ..Applied::default()
    };
    let started = Node::over(1, applier(applied), HardState::default()).map(|_| ());
    assert!(matches!(started, Err(StopReason::Consensus(_))));
}
