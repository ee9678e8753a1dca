//! The mounted file system, used as any program would.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use powerloss::{Mounted, Store, Syncs, unavailable};

/// A mounted store at a folder of its own.
struct Disk {
    mounted: Option<Mounted>,
    folder: PathBuf,
}

impl Disk {
    /// None, and a word about it, where nothing can be mounted.
    fn new(test: &str) -> Option<Self> {
        if let Some(why) = unavailable() {
            // Past the harness, which would keep it to itself.
            writeln!(std::io::stderr(), "SKIPPED powerloss::{test}: {why}").expect("standard error is open");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("powerloss-{}-{test}", std::process::id()));
        fs::create_dir_all(&folder).expect("the folder for temporary files is writable");
        let mounted = Mounted::new(Store::default(), &folder).expect("it was available");
        Some(Self {
            mounted: Some(mounted),
            folder,
        })
    }

    fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().expect("it is mounted until dropped")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.mounted = None;
        fs::remove_dir(&self.folder).expect("it was unmounted, and nothing is left");
    }
}

fn sync_folder(folder: &Path) {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .expect("folders can be synced");
}

#[test]
fn an_ordinary_program_sees_an_ordinary_file_system() {
    let Some(disk) = Disk::new("ordinary") else { return };
    fs::create_dir(disk.path("d")).expect("mkdir");
    fs::write(disk.path("d/a"), b"hello").expect("write");
    let mut appended = OpenOptions::new().append(true).open(disk.path("d/a")).expect("open");
    appended.write_all(b", world").expect("append");
    assert_eq!(fs::read(disk.path("d/a")).expect("read"), b"hello, world");
    fs::rename(disk.path("d/a"), disk.path("b")).expect("rename");
    assert!(!disk.path("d/a").exists());
    fs::write(disk.path("b"), b"x").expect("truncate and write");
    assert_eq!(fs::read(disk.path("b")).expect("read"), b"x");
    let large: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    fs::write(disk.path("large"), &large).expect("write");
    let mut read = Vec::new();
    File::open(disk.path("large"))
        .and_then(|mut file| file.read_to_end(&mut read))
        .expect("read");
    assert!(read == large);
    let mut names: Vec<_> = fs::read_dir(&disk.folder)
        .expect("list")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["b", "d", "large"]);
    assert!(fs::remove_dir(disk.path("b")).is_err());
    fs::remove_dir(disk.path("d")).expect("rmdir");
    let locked = File::create(disk.path("lock")).expect("create");
    locked.try_lock().expect("flock");
    let other = File::open(disk.path("lock")).expect("open");
    assert!(other.try_lock().is_err(), "a lock that is held is refused");
}

#[test]
fn a_synced_write_stays_and_an_unsynced_one_can_go() {
    let Some(disk) = Disk::new("writes") else { return };
    let mut lost = 0;
    for seed in 0..40 {
        let path = disk.path(&format!("f{seed}"));
        let file = File::create(&path).expect("create");
        file.write_all_at(&[1; 1000], 0).expect("write");
        file.sync_data().expect("fdatasync");
        sync_folder(&disk.folder);
        file.write_all_at(&[2; 1000], 1000).expect("write");
        drop(file);
        disk.mounted().cut(seed);
        let bytes = fs::read(&path).expect("its name was synced");
        assert!(
            bytes.len() >= 1000 && bytes[..1000].iter().all(|byte| *byte == 1),
            "seed {seed}"
        );
        lost += usize::from(bytes.len() < 2000 || bytes[1000..].iter().any(|byte| *byte != 2));
    }
    assert!(lost > 10, "unsynced writes were lost in {lost} of 40 cuts only");
}

#[test]
fn a_file_that_is_replaced_with_every_sync_is_always_old_or_new() {
    let Some(disk) = Disk::new("replace") else { return };
    let check = |with_syncs: bool| {
        let mut bad = 0;
        for seed in 0..40 {
            fs::write(disk.path("state"), [1; 3000]).expect("write");
            File::open(disk.path("state"))
                .and_then(|file| file.sync_all())
                .expect("fsync");
            sync_folder(&disk.folder);
            let mut new = File::create(disk.path("state.tmp")).expect("create");
            new.write_all(&[2; 3000]).expect("write");
            if with_syncs {
                new.sync_all().expect("fsync");
            }
            fs::rename(disk.path("state.tmp"), disk.path("state")).expect("rename");
            drop(new);
            disk.mounted().cut(seed);
            let bytes = fs::read(disk.path("state")).unwrap_or_default();
            bad += usize::from(bytes != [1; 3000] && bytes != [2; 3000]);
        }
        bad
    };
    assert_eq!(check(true), 0);
    assert!(check(false) > 5, "without the sync the new file must be found torn");
}

#[test]
fn a_lying_disk_loses_what_it_said_was_synced() {
    let Some(disk) = Disk::new("lying") else { return };
    disk.mounted().set_syncs(Syncs::IgnoredForFiles);
    let lost = (0..40).filter(|seed| {
        let path = disk.path(&format!("f{seed}"));
        let file = File::create(&path).expect("create");
        file.write_all_at(&[1; 1000], 0).expect("write");
        file.sync_data().expect("it says so");
        sync_folder(&disk.folder);
        drop(file);
        disk.mounted().cut(*seed);
        fs::read(&path).expect("its name was synced") != [1; 1000]
    });
    assert!(lost.count() > 10);
}

#[test]
fn failing_syncs_and_a_full_disk_are_reported() {
    let Some(disk) = Disk::new("failing") else { return };
    let file = File::create(disk.path("f")).expect("create");
    file.write_all_at(&[1; 10_000], 0).expect("write");
    disk.mounted().set_syncs(Syncs::Failing);
    assert!(file.sync_data().is_err());
    disk.mounted().set_syncs(Syncs::Honest);
    disk.mounted().store().set_bytes_max(Some(12_000));
    let error = file.write_all_at(&[1; 10_000], 10_000).expect_err("no room");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    file.write_all_at(&[1; 1000], 10_000).expect("there is room for that");
}
