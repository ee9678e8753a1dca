//! Tests of the core thread over a real journal.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use gateway::handle::{CoreHandle, NotAccepting, Pending, SubmitError};
use replica::{Applied, Applier};
use types::{
    AccountId, Action, CancelAll, Command, EngineVersion, Epoch, Event, GroupId, Incarnation, KeyId, Position,
    Sequence, StateMachine, Timestamp,
};
use wire::journal::{Identity, NodeId};
use wire::membership::Membership;

use super::{Core, CoreEnd, CoreSettings, NoPeers, Recovered, recover};
use crate::journal::{JournalError, JournalSettings, Quarantine, SEGMENT_BYTES_MIN, create, open_with_faults};
use crate::publisher::{PublishReceiver, with_room_for};
use crate::testing::Tally;

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

/// A tally that panics on one request id, wants a clock command once it has seen another, and panics when it is asked for
/// its deadline once it has seen a third.
#[derive(Clone, Copy, Debug, Default)]
struct Fragile {
    tally: Tally,
    deadline: Option<Timestamp>,
}

impl StateMachine for Fragile {
    type Command = Command;
    type Event = Event;
    type Snapshot = (u64, u64, String);

    fn apply(&mut self, position: Position, at: Timestamp, command: &Command, events: &mut Vec<Event>) {
        assert_ne!(command.request_id.as_str(), "panic", "asked to");
        if command.request_id.as_str() == "soon" {
            self.deadline = Some(at.plus_ns(1_000_000));
        }
        if command.request_id.as_str() == "panic-later" {
            self.deadline = Some(Timestamp::FAR_FUTURE);
        }
        self.tally.apply(position, at, command, events);
        self.deadline = self.deadline.filter(|deadline| *deadline > at);
    }

    fn apply_quarantined(&mut self, position: Position, at: Timestamp, command: &Command, events: &mut Vec<Event>) {
        self.tally.apply_quarantined(position, at, command, events);
    }

    fn state_hash(&self) -> u64 {
        self.tally.state_hash()
    }

    fn recompute_state_hash(&self) -> u64 {
        self.tally.recompute_state_hash()
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        assert_ne!(self.deadline, Some(Timestamp::FAR_FUTURE), "asked to");
        self.deadline
    }

    fn received_at(command: &Command) -> Timestamp {
        command.received_at
    }

    fn clock_command(now: Timestamp) -> Command {
        Command::clock(now)
    }

    fn snapshot(&self) -> Self::Snapshot {
        self.tally.snapshot()
    }

    fn restore(snapshot: Self::Snapshot, engine_version: EngineVersion) -> Result<Self, String> {
        let tally = Tally::restore(snapshot, engine_version)?;
        Ok(Self { tally, deadline: None })
    }
}

fn settings(folder: &Path) -> JournalSettings {
    JournalSettings {
        folder: folder.join("journal"),
        identity: Identity {
            cluster: "test".parse().unwrap(),
            group: GroupId(0),
            incarnation: Incarnation(1),
            node: NodeId(1),
        },
        segment_bytes: SEGMENT_BYTES_MIN,
    }
}

struct Running {
    core: Arc<Core<Fragile>>,
    thread: JoinHandle<CoreEnd>,
    published: PublishReceiver,
    recovered: Applied,
    hash: u64,
}

fn start(folder: &Path, publisher_room: usize) -> Running {
    let recovered = recover(
        &settings(folder),
        Fragile::default(),
        Applied::default(),
        Membership::founding(),
        &mut |_| {},
    )
    .unwrap();
    start_recovered(recovered, publisher_room)
}

fn start_recovered(recovered: Recovered<Fragile>, publisher_room: usize) -> Running {
    start_with(recovered, publisher_room, LONG)
}

fn start_with(recovered: Recovered<Fragile>, publisher_room: usize, inline_sync_max: Duration) -> Running {
    let (applied, hash) = (recovered.applied(), recovered.machine().state_hash());
    let (publish, published) = with_room_for(publisher_room);
    let core_settings = CoreSettings {
        epoch: Some(Epoch(1)),
        spin: Duration::ZERO,
        processor: None,
        inline_sync_max,
        gateway: false,
        repairing: false,
    };
    let (core, thread) = Core::start(
        &core_settings,
        recovered,
        publish,
        Box::new(NoPeers),
        None,
        |_| {},
        |_| {},
    )
    .unwrap();
    while core.status().accepting == Err(NotAccepting::Starting) {
        std::thread::yield_now();
    }
    Running {
        core,
        thread,
        published,
        recovered: applied,
        hash,
    }
}

fn command(request_id: &str) -> Command {
    Command {
        account: AccountId(2),
        key: KeyId(1),
        request_id: request_id.parse().unwrap(),
        valid_until: None,
        received_at: Timestamp(7),
        action: Action::CancelAll(CancelAll { instrument: None }),
    }
}

fn submit(core: &Core<Fragile>, request_id: &str) -> Pending {
    core.submit(command(request_id)).unwrap()
}

#[test]
fn commands_are_answered_published_and_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    create(&settings(folder.path())).unwrap();
    let mut expected = 0;
    for round in 0..3u64 {
        let running = start(folder.path(), 1_000);
        assert_eq!(running.recovered.sequence, Sequence(round * 200));
        assert_eq!(
            running.hash,
            if round == 0 {
                Fragile::default().state_hash()
            } else {
                expected
            }
        );
        let pending: Vec<_> = (0..200)
            .map(|at| submit(&running.core, &format!("r{round}-{at}")))
            .collect();
        for (at, pending) in (1..).zip(pending) {
            let applied = pending.blocking_recv().unwrap().unwrap();
            assert_eq!(applied.position().sequence, Sequence(round * 200 + at));
            assert_eq!(applied.received_at(), Timestamp(7));
            assert!(running.core.status().last_applied >= applied.position().sequence);
        }
        running.core.stop();
        assert!(running.thread.join().unwrap().is_graceful());
        let mut commands = 0;
        while let Ok(batch) = running.published.recv_timeout(Duration::ZERO) {
            commands += batch.header.count;
        }
        assert_eq!(commands, 200);
        let refused = running.core.submit(command("late")).map(|_| ());
        assert_eq!(refused, Err(SubmitError::NotAccepting(NotAccepting::Stopping)));
        expected = recover(
            &settings(folder.path()),
            Fragile::default(),
            Applied::default(),
            Membership::founding(),
            &mut |_| {},
        )
        .unwrap()
        .machine()
        .state_hash();
    }
}

#[test]
fn a_full_publisher_is_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    create(&settings(folder.path())).unwrap();
    let running = start(folder.path(), 1);
    for at in 0..20 {
        submit(&running.core, &format!("r{at}"))
            .blocking_recv()
            .unwrap()
            .unwrap();
    }
    running.core.stop();
    assert!(running.thread.join().unwrap().is_graceful());
    assert_eq!(running.core.figures().publisher_dropped, 19);
}

#[test]
fn a_deadline_lets_time_pass_without_a_client() {
    let folder = tempfile::tempdir().unwrap();
    create(&settings(folder.path())).unwrap();
    let running = start(folder.path(), 10);
    submit(&running.core, "soon").blocking_recv().unwrap().unwrap();
    let first = running.published.recv_timeout(LONG).unwrap();
    let clock = running.published.recv_timeout(LONG).unwrap();
    assert_eq!(clock.header.first_sequence, Sequence(2));
    assert!(clock.header.sequenced_at.since_ns(first.header.sequenced_at) >= 1_000_000);
    assert_eq!(clock.header.hashed_through, Sequence(1));
    running.core.stop();
    assert!(running.thread.join().unwrap().is_graceful());
}

#[test]
fn a_blocked_core_takes_nothing_until_it_is_unblocked() {
    let folder = tempfile::tempdir().unwrap();
    create(&settings(folder.path())).unwrap();
    let running = start(folder.path(), 10);
    running.core.block(Some(NotAccepting::DiskFull));
    let refused = running.core.submit(command("a")).map(|_| ());
    assert_eq!(refused, Err(SubmitError::NotAccepting(NotAccepting::DiskFull)));
    running.core.block(None);
    submit(&running.core, "a").blocking_recv().unwrap().unwrap();
    running.core.stop();
    assert!(running.thread.join().unwrap().is_graceful());
}

#[test]
fn a_panic_between_two_steps_ends_the_core_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    create(&settings(folder.path())).unwrap();
    let running = start(folder.path(), 10);
    submit(&running.core, "panic-later").blocking_recv().unwrap().unwrap();
    let end = running.thread.join().unwrap();
    assert!(matches!(end, CoreEnd::PanickedElsewhere), "{end}");
    let status = running.core.status();
    assert_eq!(status.accepting, Err(NotAccepting::ApplyFailed));
}

#[test]
fn a_full_disk_is_told_at_once_and_left_again() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    create(&settings).unwrap();
    let full = Err(NotAccepting::DiskFull);
    let (journal, faults) = open_with_faults(&settings, |faults| faults.fail_writes(Some(ErrorKind::StorageFull)));
    let applier = Applier::new(
        &settings.identity,
        Fragile::default(),
        Applied::default(),
        Membership::founding(),
        BTreeSet::new(),
    );
    // Not even the first entry of the term has room: it starts all the same, and says why it takes nothing.
    let running = start_recovered(
        Recovered {
            applier,
            journal,
            suffix: Vec::new(),
        },
        100_000,
    );
    while running.core.status().accepting != full {
        std::thread::yield_now();
    }
    let mut sequence = 0;
    for round in 0..3 {
        let refused = running.core.submit(command("early")).map(|_| ());
        assert_eq!(refused, full.map_err(SubmitError::NotAccepting));
        faults.fail_writes(None);
        while running.core.status().accepting != Ok(()) {
            std::thread::yield_now();
        }
        submit(&running.core, &format!("r{round}"))
            .blocking_recv()
            .unwrap()
            .unwrap();
        faults.fail_writes(Some(ErrorKind::StorageFull));
        sequence += 1;
        // Whatever waits in the queue when the room ends is refused, not left without an answer.
        while let Ok(pending) = running.core.submit(command(&format!("n{sequence}"))) {
            match pending.blocking_recv().unwrap() {
                Ok(applied) => {
                    sequence += 1;
                    assert_eq!(applied.position().sequence, Sequence(sequence));
                }
                Err(refused) => assert_eq!(refused, SubmitError::NotAccepting(NotAccepting::DiskFull)),
            }
        }
        assert_eq!(running.core.status().accepting, full);
    }
    running.core.stop();
    assert!(running.thread.join().unwrap().is_graceful());
    let again = recover(
        &settings,
        Fragile::default(),
        Applied::default(),
        Membership::founding(),
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(again.applied().sequence, Sequence(sequence));
}

#[test]
fn a_panic_names_the_command_and_quarantine_gets_past_it() {
    let folder = tempfile::tempdir().unwrap();
    create(&settings(folder.path())).unwrap();
    let running = start(folder.path(), 10);
    submit(&running.core, "fine").blocking_recv().unwrap().unwrap();
    assert!(
        submit(&running.core, "panic").blocking_recv().is_err(),
        "its outcome is unknown"
    );
    let end = running.thread.join().unwrap();
    assert!(matches!(end, CoreEnd::Panicked(Sequence(2))), "{end}");
    assert!(end.to_string().contains("meridian journal quarantine 2"), "{end}");
    assert_eq!(running.core.status().accepting, Err(NotAccepting::ApplyFailed));

    let again = recover(
        &settings(folder.path()),
        Fragile::default(),
        Applied::default(),
        Membership::founding(),
        &mut |_| {},
    );
    let error = again.map(|_| ()).unwrap_err();
    assert!(matches!(error, JournalError::Panicked(Sequence(2))), "{error}");
    Quarantine::default()
        .add(&settings(folder.path()).folder, Sequence(2))
        .unwrap();
    let running = start(folder.path(), 10);
    assert_eq!(running.recovered.sequence, Sequence(2));
    let applied = submit(&running.core, "on").blocking_recv().unwrap().unwrap();
    assert_eq!(applied.position().sequence, Sequence(3));
    running.core.stop();
    assert!(running.thread.join().unwrap().is_graceful());
}

/// Submits commands that come alone until one is run by this thread; gives how many that were.
fn until_inline(core: &Core<Fragile>) -> u32 {
    let mut submitted = 0;
    loop {
        let before = core.figures().inline;
        let mut pending = submit(core, &format!("alone-{submitted}"));
        submitted += 1;
        if core.figures().inline > before {
            pending.try_recv().expect("it was run by this thread").unwrap();
            return submitted;
        }
        pending.blocking_recv().unwrap().unwrap();
        // The next one must not look as if it had waited for this one.
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_command_that_comes_alone_is_answered_when_it_was_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    create(&settings(folder.path())).unwrap();
    let running = start(folder.path(), 1_000);
    let submitted = until_inline(&running.core);
    assert_eq!(running.core.figures().commands, u64::from(submitted));
    // What is set off by it is noticed by the core's own thread, which sleeps.
    std::thread::sleep(Duration::from_micros(200));
    submit(&running.core, "soon").blocking_recv().unwrap().unwrap();
    while running.core.status().last_applied < Sequence(u64::from(submitted) + 2) {
        std::thread::yield_now();
    }
    running.core.stop();
    assert!(running.thread.join().unwrap().is_graceful());
    let mut published = 0;
    while let Ok(batch) = running.published.recv_timeout(Duration::ZERO) {
        published += batch.header.count;
    }
    assert_eq!(published, submitted + 2);
}

#[test]
fn where_every_sync_is_too_slow_only_the_cores_own_thread_runs_commands() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    create(&settings).unwrap();
    let recovered = recover(
        &settings,
        Fragile::default(),
        Applied::default(),
        Membership::founding(),
        &mut |_| {},
    )
    .unwrap();
    let running = start_with(recovered, 1_000, Duration::ZERO);
    for at in 0..100 {
        submit(&running.core, &format!("r{at}"))
            .blocking_recv()
            .unwrap()
            .unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(running.core.figures().inline, 0);
    running.core.stop();
    assert!(running.thread.join().unwrap().is_graceful());
}

#[test]
fn a_panic_on_the_thread_that_brought_the_command_ends_the_core_and_not_that_thread() {
    let folder = tempfile::tempdir().unwrap();
    create(&settings(folder.path())).unwrap();
    let running = start(folder.path(), 1_000);
    let submitted = until_inline(&running.core);
    std::thread::sleep(Duration::from_micros(200));
    let pending = submit(&running.core, "panic");
    assert!(pending.blocking_recv().is_err(), "its outcome is unknown");
    let end = running.thread.join().unwrap();
    let expected = Sequence(u64::from(submitted) + 1);
    assert!(
        matches!(end, CoreEnd::Panicked(sequence) if sequence == expected),
        "{end}"
    );
    let refused = running.core.submit(command("late")).map(|_| ());
    assert_eq!(refused, Err(SubmitError::NotAccepting(NotAccepting::ApplyFailed)));
}

/// Commands from several threads, some of which wait for each answer and some of which don't, until the core is stopped
/// in the middle of it: each is answered once, in the order of its thread, and what was answered is there afterwards.
#[test]
fn many_bring_commands_and_every_one_is_answered_once() {
    const THREADS: usize = 4;
    const STOP_BEHIND: u64 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    create(&settings(folder.path())).unwrap();
    let running = start(folder.path(), 100_000);
    until_inline(&running.core);
    let before = running.core.status().last_applied;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let core = Arc::clone(&running.core);
            std::thread::spawn(move || {
                let mut sequences = Vec::new();
                let mut burst = Vec::new();
                for at in 0.. {
                    let Ok(pending) = core.submit(command(&format!("t{thread}-{at}"))) else {
                        break;
                    };
                    burst.push(pending);
                    if at % (1 + 8 * thread) == 0 {
                        std::thread::sleep(Duration::from_micros(100));
                        // What came too late for the stop is not answered, and was not executed.
                        let answers = burst.drain(..).filter_map(|pending| pending.blocking_recv().ok());
                        sequences.extend(answers.flatten().map(|applied| applied.position().sequence));
                    }
                }
                let answers = burst.drain(..).filter_map(|pending| pending.blocking_recv().ok());
                sequences.extend(answers.flatten().map(|applied| applied.position().sequence));
                sequences
            })
        })
        .collect();
    while running.core.status().last_applied.0 < before.0 + STOP_BEHIND {
        std::thread::yield_now();
    }
    running.core.stop();
    let mut all = Vec::new();
    for thread in threads {
        let sequences = thread.join().unwrap();
        assert!(sequences.is_sorted(), "no command overtakes another of its thread");
        all.extend(sequences);
    }
    assert!(running.thread.join().unwrap().is_graceful());
    all.sort_unstable();
    let expected: Vec<_> = (before.0 + 1..=running.core.status().last_applied.0)
        .map(Sequence)
        .collect();
    assert_eq!(all, expected);
    assert_eq!(running.core.status().queued_count, 0);
    let again = recover(
        &settings(folder.path()),
        Fragile::default(),
        Applied::default(),
        Membership::founding(),
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(again.applied().sequence, *expected.last().unwrap());
}
