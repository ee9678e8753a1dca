//! Snapshots are written, damaged, and passed over in favour of older ones.

use std::path::Path;
use std::sync::Arc;

use types::{EngineVersion, Epoch, GroupId, Incarnation, Sequence, StateMachine, Timestamp};
use wire::journal::{Identity, NodeId};
use wire::membership::Membership;
use wire::snapshot::SnapshotInfo;

use super::{Maker, SNAPSHOTS_KEPT, SnapshotFolder, keep_evidence};
use crate::event_log::{EventLogConfig, Writer};
use crate::testing::{MemoryJournal, Tally};

fn folder(path: &Path) -> SnapshotFolder {
    SnapshotFolder {
        folder: path.join("snapshots"),
        identity: identity("test", 1),
        founder: wire::membership::FOUNDER,
    }
}

fn identity(cluster: &str, incarnation: u32) -> Identity {
    Identity {
        cluster: cluster.parse().unwrap(),
        group: GroupId(0),
        incarnation: Incarnation(incarnation),
        node: NodeId(1),
    }
}

fn write(folder: &SnapshotFolder, last: u64) -> SnapshotInfo {
    let machine = Tally { count: last, sum: 7 };
    let info = SnapshotInfo {
        cluster_id: folder.identity.cluster,
        group: folder.identity.group,
        incarnation: folder.identity.incarnation,
        epoch: Epoch(1),
        last_sequence: Sequence(last),
        sequenced_at: Timestamp(last),
        log_index: last + 1,
        term: 1,
        chain: [9; 32],
        state_hash: machine.state_hash(),
        state_bytes: 0,
        membership_bytes: 0,
        engine_version: EngineVersion::FIRST,
    };
    folder.write(info, &machine.snapshot(), &members()).unwrap()
}

fn newest(folder: &SnapshotFolder) -> Option<u64> {
    let loaded = folder.load_newest::<Tally>(Sequence(u64::MAX)).unwrap();
    loaded.map(|loaded| {
        assert_eq!(loaded.machine.count, loaded.info.last_sequence.0);
        loaded.machine.count
    })
}

fn members() -> Membership {
    Membership::of_voters([NodeId(1), NodeId(4)])
}

#[test]
fn a_snapshot_comes_back_as_it_was() {
    let parent = tempfile::tempdir().unwrap();
    let folder = folder(parent.path());
    assert_eq!(newest(&folder), None);
    let info = write(&folder, 10);
    assert!(info.state_bytes > 1_000);
    let loaded = folder.load_newest::<Tally>(Sequence(u64::MAX)).unwrap().unwrap();
    assert_eq!((loaded.info, loaded.machine), (info, Tally { count: 10, sum: 7 }));
    assert_eq!(loaded.membership, members());
    std::fs::write(folder.folder.join("x.unfinished"), b"half").unwrap();
    folder.prepare().unwrap();
    assert_eq!(folder.list().unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(&folder.folder).unwrap().count(), 1);
}

#[test]
fn one_that_cannot_be_read_is_passed_over_and_stays() {
    let parent = tempfile::tempdir().unwrap();
    let folder = folder(parent.path());
    write(&folder, 10);
    let unreadable = folder.path_of(Sequence(20));
    std::fs::create_dir(&unreadable).unwrap();
    assert_eq!(newest(&folder), Some(10));
    assert!(unreadable.exists());
}

#[test]
fn a_damaged_newest_one_falls_back_to_the_older_one() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 7] = [
        ("cut", |bytes| {
            bytes.pop();
        }),
        ("cut to nothing", Vec::clear),
        ("lengthened", |bytes| bytes.push(0)),
        ("header", |bytes| bytes[60] ^= 1),
        ("state", |bytes| bytes[800] ^= 0x80),
        ("hash", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("zeros", |bytes| bytes[192..].fill(0)),
    ];
    for (name, damage) in damages {
        let parent = tempfile::tempdir().unwrap();
        let folder = folder(parent.path());
        write(&folder, 10);
        write(&folder, 20);
        let path = folder.path_of(Sequence(20));
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(newest(&folder), Some(10), "{name}");
        write(&folder, 30);
        let kept = folder.prune(None).unwrap();
        let kept: Vec<_> = kept.iter().map(|info| info.last_sequence.0).collect();
        assert_eq!(kept, [10, 30], "{name}: a damaged one is none of those kept");
    }
}

#[test]
fn snapshots_of_others_are_not_taken() {
    let parent = tempfile::tempdir().unwrap();
    let own = folder(parent.path());
    write(&own, 10);
    for other in [
        SnapshotFolder {
            identity: identity("other", 1),
            ..own.clone()
        },
        SnapshotFolder {
            identity: identity("test", 2),
            ..own.clone()
        },
    ] {
        write(&other, 20);
        assert_eq!(newest(&own), Some(10));
    }
    std::fs::rename(own.path_of(Sequence(10)), own.path_of(Sequence(30))).unwrap();
    assert_eq!(
        newest(&own),
        None,
        "a file under another sequence's name is not what it says"
    );
}

#[test]
fn the_last_ones_are_kept() {
    let parent = tempfile::tempdir().unwrap();
    let folder = folder(parent.path());
    for last in [10, 20, 30, 40] {
        write(&folder, last);
    }
    let kept = folder.prune(None).unwrap();
    assert_eq!(kept.len(), SNAPSHOTS_KEPT);
    assert_eq!((kept[0].last_sequence, newest(&folder)), (Sequence(30), Some(40)));
}

fn maker(path: &Path, journal: &Arc<MemoryJournal>) -> (Maker<MemoryJournal>, Writer) {
    let writer = Writer::open(EventLogConfig {
        folder: path.join("events"),
        identity: identity("test", 1),
        segment_bytes: 1_000,
        bytes_max: 1 << 30,
        keep_ns: Timestamp::DAY,
        recent_bytes_max: 500,
    })
    .unwrap();
    let maker = Maker {
        snapshots: folder(path),
        journal: Arc::clone(journal),
        events: writer.log(),
        journal_bytes: 10,
        keeps_journal: false,
        pressure: Box::new(|| false),
        has_elsewhere: Box::new(|| None),
        status: Arc::default(),
        diverged: Box::new(|_| {}),
    };
    (maker, writer)
}

#[test]
fn they_are_made_from_the_journal_and_let_it_go() {
    let parent = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryJournal::new());
    let (maker, mut events) = maker(parent.path(), &journal);
    events.settle(Sequence(0), Sequence(1)).unwrap();
    let mut step = |commands: u32| {
        events.append(&journal.append(commands)).unwrap();
        events.flush().unwrap();
        maker.work::<Tally>().unwrap();
        (maker.status.last_sequence().0, journal.retired())
    };
    assert_eq!(step(5), (0, 0), "not due");
    assert_eq!(step(5), (10, 0), "one alone lets nothing go");
    assert_eq!(step(9), (10, 0));
    assert_eq!(step(1), (20, 10), "what the older one covers may go");
    assert_eq!(step(30), (50, 20));
    let loaded = maker
        .snapshots
        .load_newest::<Tally>(Sequence(u64::MAX))
        .unwrap()
        .unwrap();
    let stands = (loaded.info.last_sequence, loaded.machine);
    assert_eq!(stands, (Sequence(50), journal.machine()));
}

#[test]
fn nothing_goes_that_the_event_log_has_not_passed() {
    let parent = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryJournal::new());
    let (maker, mut events) = maker(parent.path(), &journal);
    events.settle(Sequence(0), Sequence(1)).unwrap();
    events.append(&journal.append(3)).unwrap();
    journal.append(10);
    maker.work::<Tally>().unwrap();
    journal.append(10);
    maker.work::<Tally>().unwrap();
    assert_eq!(
        maker.status.last_sequence(),
        Sequence(13),
        "the next one waits for the event log"
    );
    assert_eq!(journal.retired(), 0);
}

#[test]
fn what_the_event_log_has_in_memory_alone_keeps_the_journal_until_the_disk_is_short() {
    let parent = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryJournal::new());
    let (mut maker, mut events) = maker(parent.path(), &journal);
    events.settle(Sequence(0), Sequence(1)).unwrap();
    let mut step = |maker: &Maker<_>, flush: bool| {
        events.append(&journal.append(10)).unwrap();
        if flush {
            events.flush().unwrap();
        }
        maker.work::<Tally>().unwrap();
        journal.retired()
    };
    assert_eq!(step(&maker, true), 0);
    assert_eq!(step(&maker, false), 10, "the older one is in the file");
    assert_eq!(step(&maker, false), 10, "the older one is not");
    maker.pressure = Box::new(|| true);
    assert_eq!(step(&maker, false), 30);
    maker.pressure = Box::new(|| false);
    assert_eq!(step(&maker, true), 40);
}

#[test]
fn a_state_that_differs_is_found() {
    let parent = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryJournal::new());
    let (maker, _events) = maker(parent.path(), &journal);
    journal.append(5);
    journal.corrupt();
    journal.append(5);
    let error = maker.work::<Tally>().unwrap_err();
    assert!(error.is_divergence(), "{error}");
    let evidence = parent.path().join("DIVERGED");
    keep_evidence(&evidence, &error);
    let text = std::fs::read_to_string(&evidence).unwrap();
    assert!(text.contains(&error.to_string()), "{text}");
    assert_eq!(maker.snapshots.list().unwrap().len(), 0);
}
