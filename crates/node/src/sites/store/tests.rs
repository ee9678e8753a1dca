//! Tests of the store, each over a real folder.

use std::os::unix::fs::FileExt as _;

use types::{Epoch, Sequence};

use super::*;

fn identity() -> Identity {
    crate::sites::lease_identity("test".parse().unwrap(), NodeId(3))
}

fn voters() -> Membership {
    Membership::of_voters([1, 2, 3].map(NodeId))
}

fn entry(index: u64, payload: &'static [u8]) -> Record {
    Record {
        kind: RecordKind::Batch,
        epoch: Epoch(1),
        term: Term(2),
        index: LogIndex(index),
        first_sequence: Sequence(index),
        last_sequence: Sequence(index),
        chain: Chain([u8::try_from(index).unwrap(); 32]),
        payload: Bytes::from_static(payload),
    }
}

fn term(term: u64, vote: u64, committed: u64) -> Record {
    Record {
        kind: RecordKind::HardState,
        term: Term(term),
        payload: Bytes::from([vote.to_le_bytes(), committed.to_le_bytes()].concat()),
        ..entry(0, b"")
    }
}

fn open(folder: &Path) -> Result<(Store, Kept), StoreError> {
    Store::open(folder, identity(), &voters())
}

fn indexes(kept: &Kept) -> Vec<u64> {
    kept.suffix.iter().map(|entry| entry.index.0).collect()
}

#[test]
fn a_voter_is_new_only_where_its_folder_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (new, lost) = (folder.path().join("a/new"), folder.path().join("lost"));
    found(&new).unwrap();
    assert!(matches!(found(&new), Err(StoreError::NotNew(_))));
    assert!(!open(&new).unwrap().1.repairing);
    assert!(!open(&new).unwrap().1.repairing, "it is not lost at its second start");
    std::fs::remove_file(new.join(FILE)).unwrap();
    assert!(open(&new).unwrap().1.repairing, "its file is gone");
    assert!(open(&new).unwrap().1.repairing, "and it has not been repaired since");
    assert!(open(&lost).unwrap().1.repairing, "nobody said that it is new");
}

#[test]
fn what_was_kept_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = open(folder.path()).unwrap();
    assert!(matches!(open(folder.path()), Err(StoreError::InUse(_))));
    store
        .append(&[term(2, 1, 0), entry(1, b"one"), entry(2, b"two")])
        .unwrap();
    store.sync().unwrap();
    store.truncate(LogIndex(1)).unwrap();
    store
        .append(&[entry(2, b"other"), entry(3, b""), term(3, 2, 1)])
        .unwrap();
    store.sync().unwrap();
    drop(store);
    let (mut store, kept) = open(folder.path()).unwrap();
    assert_eq!(indexes(&kept), [1, 2, 3]);
    assert_eq!(kept.suffix[1].payload, Bytes::from_static(b"other"));
    assert_eq!((kept.hard_state.term, kept.hard_state.vote), (Term(3), NodeId(2)));
    assert_eq!(kept.committed, LogIndex(1));
    let mut point = kept.point;
    point.applied.index = LogIndex(2);
    let state = LeaseState {
        epoch: Epoch(7),
        ..LeaseState::default()
    };
    store.compact(point, state.clone(), false).unwrap();
    store.append(&[entry(4, b"four")]).unwrap();
    store.sync().unwrap();
    drop(store);
    let (mut store, kept) = open(folder.path()).unwrap();
    assert_eq!((indexes(&kept), kept.state, kept.repairing), (vec![3, 4], state, false));
    assert_eq!((kept.hard_state.vote, kept.committed), (NodeId(2), LogIndex(2)));
    let mut point = kept.point;
    point.applied.index = LogIndex(9);
    let hard_state = HardState {
        term: Term(5),
        vote: NodeId(0),
    };
    store.install(point, LeaseState::default(), hard_state, false).unwrap();
    drop(store);
    let (_, kept) = open(folder.path()).unwrap();
    assert_eq!((indexes(&kept), kept.hard_state), (vec![], hard_state));
    assert_eq!(kept.point.applied.index, LogIndex(9));
}

#[test]
fn another_voters_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let others = [
        (
            crate::sites::lease_identity("test".parse().unwrap(), NodeId(2)),
            voters(),
        ),
        (
            crate::sites::lease_identity("other".parse().unwrap(), NodeId(3)),
            voters(),
        ),
        (identity(), Membership::of_voters([1, 3, 4].map(NodeId))),
    ];
    for (identity, voters) in others {
        let error = Store::open(folder.path(), identity, &voters).unwrap_err();
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    }
}

/// A store whose first two entries were promised and whose third was not, as its bytes; and what was promised of it.
fn half_promised(folder: &Path) -> (Vec<u8>, usize) {
    let (mut store, _) = open(folder).unwrap();
    store
        .append(&[term(2, 1, 0), entry(1, b"one"), entry(2, b"two")])
        .unwrap();
    store.sync().unwrap();
    let promised = usize::try_from(store.end).unwrap();
    store.append(&[entry(3, b"three")]).unwrap();
    (std::fs::read(folder.join(FILE)).unwrap(), promised)
}

fn check(folder: &Path, bytes: &[u8], expected: Option<&[u64]>, what: &str) {
    std::fs::write(folder.join(FILE), bytes).unwrap();
    // The store itself is let go of at once, for it holds the lock.
    let opened = open(folder).map(|(_, kept)| kept);
    match (opened, expected) {
        (Ok(kept), Some(expected)) => {
            assert_eq!(indexes(&kept), expected, "{what}");
            assert_eq!(kept.hard_state.vote, NodeId(1), "{what}");
            let (_, again) = open(folder).unwrap();
            assert_eq!(indexes(&again), expected, "{what}, once more");
        }
        (Err(StoreError::Damaged { .. }), None) => {
            assert_eq!(
                std::fs::read(folder.join(FILE)).unwrap(),
                bytes,
                "{what}: it is left as it is"
            );
        }
        (opened, expected) => panic!("{what}: {opened:?}, not {expected:?}"),
    }
}

#[test]
fn each_torn_end_is_cut_and_each_missing_promise_stops_the_voter() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, promised) = half_promised(folder.path());
    let records_from = usize::try_from(RECORDS_FROM).unwrap();
    let short = [0, MARK_BYTES - 1, MARK_BYTES, 4_096, 4_096 + MARK_BYTES];
    for length in short.into_iter().chain(records_from - 1..bytes.len()) {
        let expected = (length >= promised).then_some(&[1, 2][..]);
        check(folder.path(), &bytes[..length], expected, &format!("of {length} bytes"));
    }
    check(folder.path(), &bytes, Some(&[1, 2, 3]), "whole");
}

#[test]
fn a_flipped_bit_is_cut_behind_the_promise_and_stops_the_voter_before() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, promised) = half_promised(folder.path());
    for at in usize::try_from(RECORDS_FROM).unwrap()..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let expected = (at >= promised).then_some(&[1, 2][..]);
        check(folder.path(), &flipped, expected, &format!("byte {at} flipped"));
    }
}

#[test]
fn a_mark_that_was_being_written_costs_nothing_and_without_both_the_voter_stops() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, _) = half_promised(folder.path());
    for damaged in [&[0][..], &[1], &[0, 1]] {
        let mut torn = bytes.clone();
        for mark in damaged {
            let at = mark * usize::try_from(MARK_EVERY).unwrap();
            torn[at + 10] ^= 0xff;
        }
        let expected = (damaged.len() == 1).then_some(&[1, 2, 3][..]);
        check(folder.path(), &torn, expected, &format!("marks {damaged:?} damaged"));
    }
    let mut newer = bytes.clone();
    for at in [0, MARK_EVERY] {
        let mut mark = mark_of(9 + at, 0);
        mark[4] = 2;
        let crc = crc32c(&mark[..MARK_BYTES - 4]);
        mark[MARK_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        let at = usize::try_from(at).unwrap();
        newer[at..at + MARK_BYTES].copy_from_slice(&mark);
    }
    std::fs::write(folder.path().join(FILE), newer).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 2, .. }), "{error}");
}

#[test]
fn a_new_file_that_was_cut_off_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, _) = half_promised(folder.path());
    let to_be = File::create(folder.path().join(FILE_TO_BE)).unwrap();
    to_be.write_all_at(&bytes[..100], 0).unwrap();
    check(folder.path(), &bytes, Some(&[1, 2, 3]), "beside half a new one");
}
