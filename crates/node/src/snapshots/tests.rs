//! Snapshots are written, damaged, and passed over in favour of older ones.

use std::path::Path;

use types::{Epoch, GroupId, Incarnation, Sequence, StateMachine, Timestamp};
use wire::snapshot::SnapshotInfo;

use super::{SNAPSHOTS_KEPT, SnapshotFolder};
use crate::testing::Tally;

fn folder(path: &Path) -> SnapshotFolder {
    SnapshotFolder {
        folder: path.join("snapshots"),
        cluster_id: "test".parse().unwrap(),
        group: GroupId(0),
        incarnation: Incarnation(1),
    }
}

fn write(folder: &SnapshotFolder, last: u64) -> SnapshotInfo {
    let machine = Tally { count: last, sum: 7 };
    let info = SnapshotInfo {
        cluster_id: folder.cluster_id,
        group: folder.group,
        incarnation: folder.incarnation,
        epoch: Epoch(1),
        last_sequence: Sequence(last),
        sequenced_at: Timestamp(last),
        log_index: last + 1,
        term: 1,
        chain: [9; 32],
        state_hash: machine.state_hash(),
        state_bytes: 0,
    };
    folder.write(info, &machine.snapshot()).unwrap()
}

fn newest(folder: &SnapshotFolder) -> Option<u64> {
    let loaded = folder.load_newest::<Tally>(Sequence(u64::MAX)).unwrap();
    loaded.map(|(info, machine)| {
        assert_eq!(machine.count, info.last_sequence.0);
        machine.count
    })
}

#[test]
fn a_snapshot_comes_back_as_it_was() {
    let parent = tempfile::tempdir().unwrap();
    let folder = folder(parent.path());
    assert_eq!(newest(&folder), None);
    let info = write(&folder, 10);
    assert!(info.state_bytes > 1_000);
    let (read, machine) = folder.load_newest::<Tally>(Sequence(u64::MAX)).unwrap().unwrap();
    assert_eq!((read, machine), (info, Tally { count: 10, sum: 7 }));
    std::fs::write(folder.folder.join("x.unfinished"), b"half").unwrap();
    folder.prepare().unwrap();
    assert_eq!(folder.list().unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(&folder.folder).unwrap().count(), 1);
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
        let kept = folder.prune().unwrap();
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
            cluster_id: "other".parse().unwrap(),
            ..own.clone()
        },
        SnapshotFolder {
            incarnation: Incarnation(2),
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
    let kept = folder.prune().unwrap();
    assert_eq!(kept.len(), SNAPSHOTS_KEPT);
    assert_eq!((kept[0].last_sequence, newest(&folder)), (Sequence(30), Some(40)));
}
