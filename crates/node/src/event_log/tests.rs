//! The log is written, read while it is written, damaged in each way, and made again.

use std::path::Path;
use std::sync::Arc;

use gateway::handle::{History, HistoryError};
use types::{
    AccountId, AppliedBatch, AppliedCommand, BatchHeader, Epoch, Event, GroupId, Incarnation, RequestId, Sequence,
    Timestamp,
};

use wire::journal::{Identity, NodeId};

use super::{EventLogConfig, Gap, Writer};

const COUNT: u32 = 3;

fn config(folder: &Path) -> EventLogConfig {
    EventLogConfig {
        folder: folder.to_owned(),
        identity: Identity {
            cluster: "test".parse().unwrap(),
            group: GroupId(0),
            incarnation: Incarnation(1),
            node: NodeId(1),
        },
        segment_bytes: 2_000,
        bytes_max: 1 << 30,
        keep_ns: Timestamp::DAY,
        recent_bytes_max: 500,
    }
}

/// The `index`th batch of the history that all tests write: sequences `index * COUNT + 1` and on.
fn batch(index: u64) -> Arc<AppliedBatch> {
    let first = index * u64::from(COUNT) + 1;
    let request_id: RequestId = format!("request-{index}").parse().unwrap();
    let account = AccountId(2);
    let burnt = Event::ClientOrderIdBurnt {
        account,
        client_order_id: request_id,
    };
    Arc::new(AppliedBatch {
        header: BatchHeader {
            epoch: Epoch(1),
            first_sequence: Sequence(first),
            count: COUNT,
            sequenced_at: Timestamp(index * Timestamp::SECOND),
            committed_through: Sequence(first - 1),
            committed_at: Timestamp(index * Timestamp::SECOND - index.min(1)),
            ..BatchHeader::default()
        },
        committed_at: None,
        commands: (1..=COUNT)
            .map(|command| AppliedCommand {
                received_at: Timestamp(index),
                events_end: command * 2,
            })
            .collect(),
        events: (0..COUNT).flat_map(|_| [burnt.clone(), Event::ClockAdvanced]).collect(),
    })
}

fn write(folder: &Path, batches: u64) -> Writer {
    let mut writer = Writer::open(config(folder)).unwrap();
    assert_eq!(writer.settle(Sequence(0), Sequence(1)).unwrap(), []);
    for index in 0..batches {
        writer.append(&batch(index)).unwrap();
    }
    writer.flush().unwrap();
    writer
}

/// Reads everything from `from` on and checks that it is what was written, with its commits.
fn check(log: &dyn History, from: Sequence, batches: u64) {
    let mut next = from;
    while next <= log.last() {
        let read = log.read(next, 700).unwrap();
        assert!(!read.is_empty());
        for got in read {
            let index = (got.header.first_sequence.0 - 1) / u64::from(COUNT);
            let mut expected = (*batch(index)).clone();
            expected.committed_at = got.committed_at;
            assert_eq!(*got, expected);
            if got.header.last_sequence() < log.last() && !log.is_recent(got.header.first_sequence) {
                assert_eq!(got.committed_at, Some(batch(index + 1).header.committed_at));
            }
            assert!(got.header.last_sequence() >= next);
            next = got.header.last_sequence().next();
        }
    }
    assert_eq!(next, Sequence(batches * u64::from(COUNT) + 1));
}

#[test]
fn all_of_it_can_be_read_from_any_sequence() {
    let folder = tempfile::tempdir().unwrap();
    let writer = write(folder.path(), 100);
    let log = writer.log();
    assert!(!log.is_recent(Sequence(1)) && log.is_recent(Sequence(300)));
    for from in [1, 2, 3, 4, 150, 298, 299, 300, 301] {
        check(&*log, Sequence(from), 100);
    }
    assert_eq!(log.read(Sequence(301), 1).unwrap(), []);
    assert!(std::fs::read_dir(folder.path()).unwrap().count() > 5);
}

#[test]
fn it_can_be_read_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(config(folder.path())).unwrap();
    writer.settle(Sequence(0), Sequence(1)).unwrap();
    let log = writer.log();
    let reader = std::thread::spawn(move || {
        let mut next = Sequence(1);
        while next <= Sequence(3_000) {
            for got in log.read(next, 2_000).unwrap() {
                assert_eq!(got.events, batch((next.0 - 1) / u64::from(COUNT)).events);
                next = got.header.last_sequence().next();
            }
            std::thread::yield_now();
        }
    });
    for index in 0..1_000 {
        writer.append(&batch(index)).unwrap();
        if index % 7 == 0 {
            writer.flush().unwrap();
        }
    }
    reader.join().unwrap();
}

#[test]
fn it_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    drop(write(folder.path(), 10));
    let mut writer = Writer::open(config(folder.path())).unwrap();
    assert_eq!(writer.settle(Sequence(30), Sequence(1)).unwrap(), []);
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    writer.append(&batch(10)).unwrap();
    writer.flush().unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), files);
    check(&*writer.log(), Sequence(1), 11);
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    super::segment::list(folder).unwrap()
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, bytes: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

#[test]
fn what_is_damaged_is_made_again() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 12] = [
        ("none", |_| {}),
        ("all of it gone", |folder| std::fs::remove_dir_all(folder).unwrap()),
        ("first segment gone", |folder| {
            std::fs::remove_file(&segments(folder)[0]).unwrap();
        }),
        ("middle segment gone", |folder| {
            std::fs::remove_file(&segments(folder)[3]).unwrap();
        }),
        ("last segment gone", |folder| {
            std::fs::remove_file(segments(folder).last().unwrap()).unwrap();
        }),
        ("segment header damaged", |folder| flip(&segments(folder)[2], 9)),
        ("record header damaged", |folder| flip(&segments(folder)[2], 70)),
        ("record body damaged", |folder| flip(&segments(folder)[1], 900)),
        ("tail cut", |folder| cut(segments(folder).last().unwrap(), 1)),
        ("cut in the middle", |folder| cut(&segments(folder)[1], 400)),
        ("two segments swapped", |folder| {
            let paths = segments(folder);
            std::fs::rename(&paths[1], folder.join("kept")).unwrap();
            std::fs::rename(&paths[2], &paths[1]).unwrap();
            std::fs::rename(folder.join("kept"), &paths[2]).unwrap();
        }),
        ("a page of zeros", |folder| {
            let path = &segments(folder)[4];
            let mut bytes = std::fs::read(path).unwrap();
            bytes[600..1_200].fill(0);
            std::fs::write(path, bytes).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("events");
        drop(write(&folder, 100));
        damage(&folder);
        let mut writer = Writer::open(config(&folder)).unwrap();
        let gaps = writer.settle(Sequence(300), Sequence(1)).unwrap();
        assert_eq!(
            gaps.is_empty(),
            name == "none" || name == "first segment gone",
            "{name}"
        );
        for gap in gaps {
            assert_eq!(gap.first.0 % u64::from(COUNT), 1, "{name}");
            for index in (gap.first.0 - 1) / u64::from(COUNT)..gap.last.0 / u64::from(COUNT) {
                writer.fill(&batch(index)).unwrap();
            }
            writer.done().unwrap();
        }
        writer.append(&batch(100)).unwrap();
        let log = writer.log();
        check(&*log, log.first(), 101);
        assert_eq!(log.first() == Sequence(1), name != "first segment gone", "{name}");
        drop(writer);
        let mut writer = Writer::open(config(&folder)).unwrap();
        let gaps = writer.settle(Sequence(303), Sequence(1)).unwrap();
        assert!(
            gaps.iter().all(|gap| gap.first == Sequence(301)),
            "{name}: only what was not flushed"
        );
    }
}

#[test]
fn what_lies_before_a_gap_that_cannot_be_filled_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    drop(write(folder.path(), 100));
    let paths = segments(folder.path());
    let lost = &paths[2];
    std::fs::remove_file(lost).unwrap();
    let mut writer = Writer::open(config(folder.path())).unwrap();
    assert_eq!(writer.settle(Sequence(300), Sequence(200)).unwrap(), []);
    let log = writer.log();
    assert_eq!(super::segment::path_of(folder.path(), log.first()), paths[3]);
    let wanted = Sequence(1);
    let first = log.first();
    assert_eq!(log.read(wanted, 1), Err(HistoryError::Retired { wanted, first }));
    assert_eq!(segments(folder.path()), paths[3..]);
}

#[test]
fn a_log_ahead_of_the_journal_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    drop(write(folder.path(), 100));
    let mut writer = Writer::open(config(folder.path())).unwrap();
    let gaps = writer.settle(Sequence(200), Sequence(1)).unwrap();
    let (first, last) = (Sequence(199), Sequence(200));
    assert_eq!(
        gaps,
        [Gap { first, last }],
        "the batch in which 200 lies was dropped whole"
    );
}

#[test]
fn old_segments_go_when_there_are_too_many_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bounded = |keep_ns| EventLogConfig {
        bytes_max: 5_000,
        keep_ns,
        ..config(folder.path())
    };
    drop(write(folder.path(), 100));
    let mut writer = Writer::open(bounded(Timestamp::DAY)).unwrap();
    writer.settle(Sequence(300), Sequence(1)).unwrap();
    writer.retire(false).unwrap();
    assert_eq!(writer.log().first(), Sequence(1), "all of it is younger than a day");
    writer.retire(true).unwrap();
    assert!(writer.log().disk_bytes() <= 2_500);
    check(&*writer.log(), writer.log().first(), 100);
    let mut writer = Writer::open(bounded(10 * Timestamp::SECOND)).unwrap();
    writer.settle(Sequence(300), Sequence(1)).unwrap();
    for index in 100..200 {
        writer.append(&batch(index)).unwrap();
    }
    assert!(writer.log().disk_bytes() < 8_000);
    check(&*writer.log(), writer.log().first(), 200);
}

#[test]
fn a_disk_that_fails_costs_nothing_recent_and_is_made_good() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("events");
    let mut writer = write(&folder, 20);
    std::fs::remove_dir_all(&folder).unwrap();
    let failed = (20..60).filter(|index| writer.append(&batch(*index)).is_err()).count();
    assert_eq!(failed, 1, "it complains once");
    assert!(writer.is_broken());
    let log = writer.log();
    assert_eq!(log.last(), Sequence(180));
    assert_eq!(log.read(Sequence(180), 1).unwrap(), [batch(59)]);
    std::fs::create_dir_all(&folder).unwrap();
    let gap = writer.begin_repair().unwrap();
    for index in (gap.first.0 - 1) / u64::from(COUNT)..60 {
        writer.fill(&batch(index)).unwrap();
    }
    writer.done().unwrap();
    writer.append(&batch(60)).unwrap();
    assert!(!writer.is_broken());
    check(&*log, gap.first, 61);
}
