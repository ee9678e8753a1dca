//! What a cut may do to names, and what it may not.

use super::*;

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// What stands under the names in the root after each of many cuts: the first byte of the file, 0 for an empty one.
fn cuts<const N: usize>(store: &Store, names: [&str; N]) -> BTreeSet<[Option<u8>; N]> {
    let of_seed = |seed| {
        let mut store = store.clone();
        store.cut(seed);
        names.map(|text| {
            let inode = store.lookup(ROOT, name(text)).ok()?;
            Some(store.read(inode, 0, 1).ok()?.first().copied().unwrap_or(0))
        })
    };
    (0..400).map(of_seed).collect()
}

fn file(store: &mut Store, called: &str, byte: u8) -> Inode {
    let inode = store
        .create(ROOT, name(called), 0o600, false)
        .expect("no such name yet");
    store.write(inode, 0, &[byte]).expect("it is a file");
    store.sync_file(inode).expect("syncs are honest");
    inode
}

#[test]
fn a_created_file_is_there_for_sure_only_once_its_folder_is_synced() {
    let mut store = Store::default();
    file(&mut store, "a", 7);
    assert_eq!(cuts(&store, ["a"]), BTreeSet::from([[None], [Some(7)]]));
    store.sync_folder(ROOT).expect("syncs are honest");
    assert_eq!(cuts(&store, ["a"]), BTreeSet::from([[Some(7)]]));
}

#[test]
fn an_unsynced_rename_is_done_undone_or_half_done() {
    let mut store = Store::default();
    file(&mut store, "old", 1);
    file(&mut store, "new", 2);
    store.sync_folder(ROOT).expect("syncs are honest");
    store
        .rename((ROOT, name("new")), (ROOT, name("old")), true)
        .expect("both exist");
    let expected = BTreeSet::from([[Some(1), Some(2)], [Some(2), None], [Some(2), Some(2)]]);
    assert_eq!(cuts(&store, ["old", "new"]), expected);
    store.sync_folder(ROOT).expect("syncs are honest");
    assert_eq!(cuts(&store, ["old", "new"]), BTreeSet::from([[Some(2), None]]));
}

#[test]
fn a_renamed_file_is_not_lost_when_its_old_name_is_taken_again() {
    let mut store = Store::default();
    file(&mut store, "a", 1);
    store.sync_folder(ROOT).expect("syncs are honest");
    store
        .rename((ROOT, name("a")), (ROOT, name("b")), true)
        .expect("it exists");
    file(&mut store, "a", 2);
    for [a, b] in cuts(&store, ["a", "b"]) {
        assert!(a == Some(1) || b == Some(1), "{a:?} {b:?}");
    }
}

#[test]
fn an_unsynced_deletion_may_be_undone_and_brings_the_bytes_back() {
    let mut store = Store::default();
    file(&mut store, "a", 9);
    store.sync_folder(ROOT).expect("syncs are honest");
    store.remove(ROOT, name("a"), false).expect("it exists");
    assert_eq!(cuts(&store, ["a"]), BTreeSet::from([[None], [Some(9)]]));
}

#[test]
fn a_folder_that_was_not_synced_into_its_parent_takes_its_files_along() {
    let mut store = Store::default();
    let folder = store.create(ROOT, name("d"), 0o700, true).expect("no such name yet");
    let inode = store.create(folder, name("f"), 0o600, false).expect("no such name yet");
    store.write(inode, 0, &[1]).expect("it is a file");
    store.sync_file(inode).expect("syncs are honest");
    store.sync_folder(folder).expect("syncs are honest");
    let survives = |seed| {
        let mut store = store.clone();
        store.cut(seed);
        store
            .lookup(ROOT, name("d"))
            .is_ok_and(|d| store.lookup(d, name("f")).is_ok())
    };
    assert!((0..100).any(survives) && !(0..100).all(survives));
}

#[test]
fn a_move_between_folders_is_durable_once_either_is_synced() {
    let mut store = Store::default();
    let folder = store.create(ROOT, name("d"), 0o700, true).expect("no such name yet");
    file(&mut store, "a", 5);
    store.sync_folder(ROOT).expect("syncs are honest");
    store
        .rename((ROOT, name("a")), (folder, name("a")), true)
        .expect("it exists");
    store.sync_folder(ROOT).expect("syncs are honest");
    for seed in 0..100 {
        let mut store = store.clone();
        store.cut(seed);
        let folder = store.lookup(ROOT, name("d")).expect("it was synced");
        assert!(store.lookup(folder, name("a")).is_ok());
    }
}

#[test]
fn ignored_syncs_lose_and_failing_ones_say_so() {
    let mut store = Store::default();
    let inode = file(&mut store, "a", 1);
    store.sync_folder(ROOT).expect("syncs are honest");
    store.set_syncs(Syncs::IgnoredForFiles);
    store.write(inode, 0, &[2]).expect("it is a file");
    assert_eq!(store.sync_file(inode), Ok(()));
    assert_eq!(cuts(&store, ["a"]), BTreeSet::from([[Some(1)], [Some(2)]]));
    store.set_syncs(Syncs::Failing);
    assert_eq!(store.sync_file(inode), Err(StoreError::SyncFailed));
    store.set_bytes_max(Some(10));
    assert_eq!(store.write(inode, 8, &[0; 3]), Err(StoreError::Full));
    assert_eq!(store.write(inode, 8, &[0; 2]), Ok(()));
}
