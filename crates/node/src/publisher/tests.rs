//! What the core drops on its way to the publisher is made again, and what the event log lacks at the start too.

use std::path::Path;
use std::sync::{Arc, Mutex};

use gateway::handle::History;
use types::{AppliedBatch, Sequence, StateMachine as _, Timestamp};
use wire::journal::LogIndex;

use super::{PublishSender, Publisher, PublisherStatus, settle, with_room_for};
use crate::event_log::{EventLogConfig, Writer};
use crate::replay::{JournalSource, Replay};
use crate::snapshots::SnapshotFolder;
use crate::testing::{MemoryJournal, Tally, identity};

type Published = Arc<Mutex<Vec<Arc<AppliedBatch>>>>;

fn snapshots(path: &Path) -> SnapshotFolder {
    SnapshotFolder {
        folder: path.join("snapshots"),
        identity: identity(),
        founder: wire::membership::FOUNDER,
    }
}

fn writer(path: &Path) -> Writer {
    Writer::open(EventLogConfig {
        folder: path.join("events"),
        identity: identity(),
        segment_bytes: 1_000,
        bytes_max: 1 << 30,
        keep_ns: Timestamp::DAY,
        recent_bytes_max: 500,
    })
    .unwrap()
}

fn start(
    path: &Path,
    journal: &Arc<MemoryJournal>,
    queued: usize,
) -> (PublishSender, Publisher<MemoryJournal>, Published) {
    let (sender, queue) = with_room_for(queued);
    let published = Published::default();
    let seen = Arc::clone(&published);
    let applied = Arc::clone(journal);
    let mut writer = writer(path);
    settle::<Tally, _>(&mut writer, journal.applied(), &snapshots(path), &**journal).unwrap();
    let publisher = Publisher {
        writer,
        queue,
        applied: Box::new(move || applied.applied()),
        snapshots: snapshots(path),
        journal: Arc::clone(journal),
        publish: Box::new(move |batch| seen.lock().unwrap().push(Arc::clone(batch))),
        status: Arc::new(PublisherStatus::default()),
    };
    (sender, publisher, published)
}

/// Everything in the log, which must be what the journal gives.
fn check(log: &dyn History, journal: &MemoryJournal) {
    let mut expected = Vec::new();
    let mut replay = Replay::<Tally>::start(&snapshots(Path::new("none")), Sequence(0), journal.quarantined()).unwrap();
    let all = Sequence(u64::MAX);
    let read = journal.read(replay.applied().index, all, &mut |entry| {
        expected.extend(replay.apply(entry)?);
        Ok(true)
    });
    read.unwrap();
    let mut found = Vec::new();
    let mut next = log.first();
    while next <= log.last() {
        for batch in log.read(next, 500).unwrap() {
            next = batch.header.last_sequence().next();
            found.push(AppliedBatch {
                committed_at: None,
                ..(*batch).clone()
            });
        }
    }
    expected.retain(|batch| batch.header.first_sequence >= log.first());
    assert!(found == expected);
    assert_eq!(log.last(), journal.applied());
}

#[test]
fn what_was_dropped_is_published_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryJournal::new());
    let (sender, publisher, published) = start(folder.path(), &journal, 4);
    let (log, status) = (publisher.writer.log(), Arc::clone(&publisher.status));
    for index in 0..20 {
        // The queue takes four; the others are dropped, as the core would.
        let _ = sender.try_send(journal.append(1 + index % 3));
    }
    let thread = std::thread::spawn(move || publisher.run::<Tally>());
    while status.commands() < journal.applied().0 {
        std::thread::yield_now();
    }
    for _ in 0..4 {
        let batch = journal.append(2);
        while !sender.try_send(Arc::clone(&batch)) {
            std::thread::yield_now();
        }
    }
    drop(sender);
    thread.join().unwrap();
    check(&*log, &journal);
    assert!(status.rebuilt() > 0);
    let mut next = Sequence(1);
    for batch in published.lock().unwrap().iter() {
        assert_eq!(batch.header.first_sequence, next);
        next = batch.header.last_sequence().next();
    }
    assert_eq!(next, journal.applied().next());
}

#[test]
fn a_gap_in_the_queue_is_filled_before_what_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryJournal::new());
    let (sender, publisher, published) = start(folder.path(), &journal, 100);
    for index in 0..30 {
        let batch = journal.append(2);
        if index % 7 != 3 {
            assert!(sender.try_send(batch));
        }
    }
    drop(sender);
    let log = publisher.writer.log();
    publisher.run::<Tally>();
    check(&*log, &journal);
    assert_eq!(published.lock().unwrap().len(), 30);
}

#[test]
fn the_log_is_made_to_fit_at_the_start() {
    for (name, lost) in [
        ("nothing lost", 0..0),
        ("tail lost", 5..100),
        ("middle lost", 2..4),
        ("all lost", 0..100),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let journal = Arc::new(MemoryJournal::new());
        let (sender, publisher, _) = start(folder.path(), &journal, 100);
        for _ in 0..60 {
            assert!(sender.try_send(journal.append(3)));
        }
        drop(sender);
        publisher.run::<Tally>();
        let mut paths: Vec<_> = std::fs::read_dir(folder.path().join("events"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        assert!(paths.len() >= 6, "{name}");
        for (index, path) in paths.iter().enumerate() {
            if lost.contains(&index) {
                std::fs::remove_file(path).unwrap();
            }
        }
        let (sender, publisher, _) = start(folder.path(), &journal, 100);
        let log = publisher.writer.log();
        assert!(sender.try_send(journal.append(1)));
        drop(sender);
        publisher.run::<Tally>();
        assert_eq!(log.first(), Sequence(1), "{name}");
        check(&*log, &journal);
    }
}

#[test]
fn what_no_snapshot_leads_to_is_given_up_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryJournal::new());
    let snapshots = snapshots(folder.path());
    for _ in 0..4 {
        journal.append(5);
        let mut replay = Replay::<Tally>::start(&snapshots, Sequence(u64::MAX), journal.quarantined()).unwrap();
        let read = journal.read(replay.applied().index, journal.applied(), &mut |entry| {
            replay.apply(entry)?;
            Ok(true)
        });
        read.unwrap();
        if journal.applied() >= Sequence(10) {
            let info = replay.snapshot_info(&snapshots);
            snapshots
                .write(info, &replay.machine().snapshot(), replay.membership())
                .unwrap();
        }
    }
    journal.retire(Sequence(5), LogIndex(u64::MAX)).unwrap();
    let (_sender, publisher, _) = start(folder.path(), &journal, 1);
    let log = publisher.writer.log();
    assert_eq!((log.first(), log.last()), (Sequence(11), Sequence(20)));
    let batches = log.read(Sequence(11), 1 << 20).unwrap();
    assert_eq!(batches[0].header.first_sequence, Sequence(11));
}

#[test]
fn a_repair_that_fails_is_tried_again_and_nothing_is_written_behind_the_gap() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryJournal::new());
    let (_sender, mut publisher, _) = start(folder.path(), &journal, 1);
    let events = folder.path().join("events");
    std::fs::remove_dir_all(&events).unwrap();
    publisher.publish(&journal.append(2));
    assert!(publisher.writer.is_broken());
    publisher.maintain::<Tally>();
    std::fs::create_dir(&events).unwrap();
    publisher.publish(&journal.append(2));
    publisher.flush();
    assert!(publisher.writer.is_broken());
    assert_eq!(std::fs::read_dir(&events).unwrap().count(), 0);
    publisher.maintain::<Tally>();
    assert!(!publisher.writer.is_broken());
    check(&*publisher.writer.log(), &journal);
}

#[test]
fn a_hole_that_the_journal_no_longer_holds_is_given_up() {
    for snapshot_at in [None, Some(2)] {
        let folder = tempfile::tempdir().unwrap();
        let journal = Arc::new(MemoryJournal::new());
        let (_sender, mut publisher, published) = start(folder.path(), &journal, 1);
        let events = folder.path().join("events");
        std::fs::remove_dir_all(&events).unwrap();
        for index in 0..5 {
            publisher.publish(&journal.append(2));
            if Some(index) == snapshot_at {
                snapshot(folder.path(), &journal);
            }
        }
        assert!(publisher.writer.is_broken());
        std::fs::create_dir(&events).unwrap();
        let (retired, first) = snapshot_at.map_or((10, 11), |_| (6, 7));
        journal.retire(Sequence(retired), LogIndex(u64::MAX)).unwrap();
        publisher.maintain::<Tally>();
        assert!(!publisher.writer.is_broken());
        publisher.publish(&journal.append(2));
        publisher.flush();
        let log = publisher.writer.log();
        assert_eq!((log.first(), log.last()), (Sequence(first), Sequence(12)));
        assert_eq!(published.lock().unwrap().len(), 6, "nothing is published twice");
        journal.retire(Sequence(0), LogIndex(0)).unwrap();
        check(&*log, &journal);
    }
}

fn snapshot(path: &Path, journal: &MemoryJournal) {
    let snapshots = snapshots(path);
    snapshots.prepare().unwrap();
    let mut replay = Replay::<Tally>::start(&snapshots, Sequence(0), journal.quarantined()).unwrap();
    let read = journal.read(replay.applied().index, journal.applied(), &mut |entry| {
        replay.apply(entry)?;
        Ok(true)
    });
    read.unwrap();
    let info = replay.snapshot_info(&snapshots);
    snapshots
        .write(info, &replay.machine().snapshot(), replay.membership())
        .unwrap();
}
