//! What is there after a restart: everything that was answered, once.

use std::path::Path;

use gateway::handle::{History as _, NotAccepting, SubmitError};
use node::assembly::Node;
use node::config::Size;
use node::data_folder::DataFolder;
use types::{Event, Sequence};

use crate::world::{World, answers, config, history, order, published, replayed};

#[test]
fn a_restart_finds_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let world = World::create(&path);
    let (trader, taker) = (world.key("trader"), world.key("taker-1"));
    let commands = || -> Vec<_> {
        let both = |index| order(if index % 3 == 0 { &trader } else { &taker }, index);
        (0..600).map(both).collect()
    };
    let first = answers(&world.submit(commands()));
    let before = history(&*published(&world.node));
    let (last, hash) = replayed(&world.node);
    drop(world.stop());

    let world = World::open(&path);
    assert_eq!(world.node.core().status().last_applied, last);
    assert!(history(&*world.node.events()) == before);
    let again = world.submit(commands());
    for ((sequence, answer), repeat) in first.iter().zip(&again) {
        let Event::Repeated { original, .. } = repeat.events()[0] else {
            panic!("{:?}", repeat.events());
        };
        assert_eq!(original.sequence, *sequence);
        let batches = world.node.events().read(*sequence, 1).unwrap();
        let index = usize::try_from(sequence.0 - batches[0].header.first_sequence.0).unwrap();
        assert_eq!(batches[0].events_of(index)[0], *answer);
    }
    let header = again[0].batch.header;
    assert_eq!((header.hashed_through, header.state_hash), (last, hash));
    world.stop();
}

#[test]
fn the_event_log_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let world = World::create(&path);
    let trader = world.key("trader");
    world.submit((0..3_000).map(|index| order(&trader, index)).collect());
    let before = history(&*published(&world.node));
    drop(world.stop());
    let events = path.join("events");
    type Damage<'a> = &'a dyn Fn();
    let newest = || {
        let paths = std::fs::read_dir(&events).unwrap();
        paths.map(|entry| entry.unwrap().path()).max().unwrap()
    };
    let damages: [(&str, Damage<'_>); 4] = [
        ("none", &|| {}),
        ("gone", &|| std::fs::remove_dir_all(&events).unwrap()),
        ("cut", &|| {
            let file = std::fs::OpenOptions::new().write(true).open(newest()).unwrap();
            file.set_len(file.metadata().unwrap().len() - 1_000).unwrap();
        }),
        ("a bit flipped", &|| {
            let mut bytes = std::fs::read(newest()).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(newest(), bytes).unwrap();
        }),
    ];
    for (name, damage) in damages {
        damage();
        let world = World::open(&path);
        assert!(history(&*world.node.events()) == before, "{name}");
        drop(world.stop());
    }
}

#[test]
fn snapshots_are_made_used_and_let_the_journal_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let world = World::create(&path);
    let trader = world.key("trader");
    let mut index = 0;
    let mut more = |world: &World| {
        world.submit((index..index + 2_000).map(|index| order(&trader, index)).collect());
        index += 2_000;
        world.node.snapshot_if_due();
    };
    let journal_begins = |path: &Path| {
        let paths = std::fs::read_dir(path.join("journal")).unwrap();
        let segments = paths.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        segments.filter(|name| name.ends_with(".journal")).min().unwrap()
    };
    let begin = journal_begins(&path);
    let mut seen = vec![];
    while seen.len() < 3 || journal_begins(&path) == begin {
        more(&world);
        let newest = world.node.maker_status().last_sequence();
        if newest > seen.last().copied().unwrap_or_default() {
            seen.push(newest);
        }
    }
    let before = history(&*published(&world.node));
    let last = world.node.core().status().last_applied;
    drop(world.stop());

    let snapshots = path.join("snapshots");
    for (start, damaged) in [(0, false), (1, true)] {
        if damaged {
            let newest = std::fs::read_dir(&snapshots).unwrap();
            let newest = newest.map(|entry| entry.unwrap().path()).max().unwrap();
            let mut bytes = std::fs::read(&newest).unwrap();
            bytes[1_000] ^= 1;
            std::fs::write(&newest, bytes).unwrap();
        }
        let world = World::open(&path);
        // Each start before this one left one command behind.
        assert_eq!(world.node.core().status().last_applied, Sequence(last.0 + start));
        let applied = world.submit(vec![order(&trader, 0)]);
        assert!(matches!(applied[0].events()[0], Event::Repeated { .. }));
        let now = history(&*published(&world.node));
        assert!(now[..before.len()] == before, "damaged: {damaged}");
        drop(world.stop());
    }
}

#[test]
fn a_full_disk_is_said_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let world = World::create(&path);
    let trader = world.key("trader");
    drop(world.stop());
    let mut config = config();
    config.disk.free_min = Size(u64::MAX / 4);
    config.disk.free_alarm = Size(u64::MAX / 2);
    let (folder, identity) = DataFolder::open(&path).unwrap();
    let node = Node::start(folder, identity, &config).unwrap();
    let core = node.core();
    while core.status().accepting.is_ok() {
        std::thread::yield_now();
    }
    let refused = core.submit(order(&trader, 1)).err();
    assert_eq!(refused, Some(SubmitError::NotAccepting(NotAccepting::DiskFull)));
    assert!(node.stop().graceful().is_ok());
}

#[test]
fn nothing_starts_over_the_evidence_of_a_state_that_differed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    drop(World::create(&path).stop());
    std::fs::write(path.join("DIVERGED"), "x").unwrap();
    let (folder, identity) = DataFolder::open(&path).unwrap();
    let error = Node::start(folder, identity, &config()).err().unwrap().to_string();
    assert!(error.contains("DIVERGED"), "{error}");
}
