//! Tests of the journal on disk: what each kind of damage comes to.

mod voters;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use replica::recovery::{Damage, Place, Recovered, segment_file_name};
use replica::{Applied, LogEntry, Record};
use tempfile::TempDir;
use types::{BatchHeader, Command, Epoch, GroupId, Incarnation, Sequence, Timestamp};
use wire::batch::BatchEncoder;
use wire::journal::{
    Identity, LogIndex, MARK_SLOT_BYTES, NodeId, RECORD_HEADER_BYTES, RecordKind, SEGMENT_HEADER_BYTES, Term,
    decode_record,
};

use super::files::Folder;
use super::open::open;
use super::{Journal, JournalError, JournalReader, JournalSettings, Opened, Room, SEGMENT_BYTES_MIN, Voters, create};

fn settings(folder: &Path) -> JournalSettings {
    JournalSettings {
        folder: folder.to_owned(),
        identity: Identity {
            cluster: "test".parse().unwrap(),
            group: GroupId(0),
            incarnation: Incarnation(1),
            node: NodeId(1),
        },
        segment_bytes: SEGMENT_BYTES_MIN,
    }
}

/// A journal in a folder of its own, and what was appended to it.
struct Bench {
    folder: TempDir,
    settings: JournalSettings,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder.path().join("journal"));
        create(&settings).unwrap();
        Self { folder, settings }
    }

    /// A copy of all its files, to be damaged.
    fn copy(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder.path().join("journal"));
        std::fs::create_dir(&settings.folder).unwrap();
        for entry in std::fs::read_dir(&self.settings.folder).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, settings.folder.join(path.file_name().unwrap())).unwrap();
        }
        Self { folder, settings }
    }

    fn open(&self) -> (Journal, Recovered, Vec<LogEntry>) {
        let (opened, entries) = self.try_open();
        let (journal, recovered) = opened.unwrap_or_else(|error| panic!("{error}"));
        (journal, recovered, entries)
    }

    fn try_open(&self) -> (Result<(Journal, Recovered), JournalError>, Vec<LogEntry>) {
        let mut entries = Vec::new();
        let opened = Journal::open(&self.settings, Applied::default(), &mut |entry| {
            entries.push(entry.clone());
            Ok(())
        });
        (opened, entries)
    }

    /// The damage that opening comes to.
    fn damage(&self) -> Damage {
        match self.try_open().0 {
            Ok((_, recovered)) => panic!("it opened: {recovered:?}"),
            Err(error) => {
                let shown = error.to_string();
                assert!(shown.contains("Nothing was changed"), "{shown}");
                error.damage().unwrap_or_else(|| panic!("{error}")).clone()
            }
        }
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.settings.folder.join(segment_file_name(number))
    }

    fn overwrite(&self, number: u64, offset: u64, bytes: &[u8]) {
        overwrite(&self.segment(number), offset, bytes);
    }

    fn flip(&self, number: u64, bit: u64) {
        let mut bytes = std::fs::read(self.segment(number)).unwrap();
        bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        std::fs::write(self.segment(number), bytes).unwrap();
    }

    /// Where each record stands: index -> (segment, offset, bytes).
    fn records(&self) -> BTreeMap<u64, (u64, u64, u64)> {
        let mut records = BTreeMap::new();
        for number in 1.. {
            let Ok(bytes) = std::fs::read(self.segment(number)) else {
                break;
            };
            let mut offset = SEGMENT_HEADER_BYTES;
            while let Ok(record) = decode_record(&bytes[offset..], number) {
                records.insert(record.fields.index.0, (number, offset as u64, record.bytes as u64));
                offset += record.bytes;
            }
        }
        records
    }
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// The record of a batch of `count` commands that follows on `end`.
fn batch(end: Place, count: u64) -> Record {
    batch_of(end, count, Term(1), Sequence(0))
}

/// The same in this term, by a leader that had seen everything up to `committed` committed.
fn batch_of(end: Place, count: u64, term: Term, committed: Sequence) -> Record {
    let mut encoder = BatchEncoder::new();
    for at in 0..count {
        encoder.push(&Command::clock(Timestamp(at))).unwrap();
    }
    let first_sequence = end.sequence.next();
    let (header, payload) = encoder.finish(BatchHeader {
        incarnation: Incarnation(1),
        epoch: Epoch(1),
        first_sequence,
        committed_through: committed,
        ..BatchHeader::default()
    });
    Record {
        kind: RecordKind::Batch,
        epoch: Epoch(1),
        term,
        index: end.index.next(),
        first_sequence,
        last_sequence: header.last_sequence(),
        chain: end.chain.behind(Epoch(1), first_sequence, &payload),
        payload: Bytes::from(payload),
    }
}

/// Appends and syncs this many batches, one by one.
fn fill(journal: &mut Journal, batches: u64) {
    for _ in 0..batches {
        let record = batch(journal.end(), 3);
        journal.append(&[record]).unwrap();
        journal.sync().unwrap();
        journal.set_committed(journal.end().index, journal.end().sequence);
    }
}

/// A closed journal of this many batches; all of them are marked.
fn filled(batches: u64) -> Bench {
    let bench = Bench::new();
    let (mut journal, ..) = bench.open();
    fill(&mut journal, batches);
    journal.close().unwrap();
    bench
}

/// The same, with the mark as it was behind the first `marked` batches.
fn filled_and_marked(batches: u64, marked: u64) -> Bench {
    let bench = Bench::new();
    let (mut journal, ..) = bench.open();
    fill(&mut journal, marked);
    journal.close().unwrap();
    let mark = bench.settings.folder.join("mark");
    let old = std::fs::read(&mark).unwrap();
    let (mut journal, ..) = bench.open();
    fill(&mut journal, batches - marked);
    journal.close().unwrap();
    std::fs::write(&mark, old).unwrap();
    bench
}

#[test]
fn what_was_synced_is_there_again_over_segments_and_restarts() {
    let bench = Bench::new();
    for round in 0..4 {
        let (mut journal, recovered, entries) = bench.open();
        assert_eq!(recovered.end.index, LogIndex(round * 70));
        let indexes: Vec<_> = entries.iter().map(|entry| entry.index.0).collect();
        assert_eq!(indexes, (1..=round * 70).collect::<Vec<_>>());
        fill(&mut journal, 70);
        if round % 2 == 0 {
            journal.close().unwrap();
        }
    }
    assert!(bench.segment(3).exists(), "it went over several segments");
}

#[test]
fn records_of_one_append_may_lie_in_two_segments() {
    let bench = Bench::new();
    let (mut journal, ..) = bench.open();
    let mut end = journal.end();
    for _ in 0..10 {
        let mut records = Vec::new();
        for _ in 0..20 {
            let record = batch(end, 5);
            end = Place {
                index: record.index,
                term: record.term,
                sequence: record.last_sequence,
                epoch: record.epoch,
                chain: record.chain,
            };
            records.push(record);
        }
        journal.append(&records).unwrap();
        journal.sync().unwrap();
    }
    journal.close().unwrap();
    let (_, recovered, entries) = bench.open();
    assert_eq!(recovered.end, end);
    assert_eq!(entries.len(), 200);
}

#[test]
fn the_reader_reads_what_is_durable_while_it_is_written() {
    let bench = Bench::new();
    let (mut journal, ..) = bench.open();
    fill(&mut journal, 5);
    let handle = journal.handle();
    let mut reader = handle.reader(LogIndex(0)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..40 {
        while let Some(read) = reader.next(handle.durable_sequence()).unwrap() {
            seen.push(read.entry.index.0);
        }
        fill(&mut journal, 5);
    }
    assert_eq!(seen, (1..=200).collect::<Vec<_>>());
    let mut behind = handle.reader(LogIndex(150)).unwrap();
    let first = behind.next(Sequence(600)).unwrap().unwrap();
    assert_eq!(
        (first.entry.index, first.header.unwrap().first_sequence),
        (LogIndex(151), Sequence(451))
    );
}

#[test]
fn retired_segments_are_used_again_and_what_they_held_is_not_taken_for_new() {
    let bench = Bench::new();
    let (mut journal, ..) = bench.open();
    let handle = journal.handle();
    for _ in 0..20 {
        fill(&mut journal, 50);
        handle.retire(handle.closed_through(), journal.end().index);
    }
    let (first, end) = (handle.first(), journal.end());
    assert!(first > Sequence(1));
    assert!(matches!(handle.reader(LogIndex(0)), Err(JournalError::Retired { .. })));
    journal.close().unwrap();
    // Without the snapshot that the retirement relies on, the start is missing; with it, all is there.
    assert!(matches!(bench.damage(), Damage::SegmentMissing { .. }));
    let covered = end.index.0 - 20;
    let mut reader =
        JournalReader::new(&bench.settings.folder, bench.settings.identity, LogIndex(covered - 1)).unwrap();
    let entry = reader.next(end.sequence).unwrap().unwrap().entry;
    let snapshot = Applied {
        index: entry.index,
        term: entry.term,
        epoch: Epoch(1),
        sequence: Sequence(covered * 3),
        sequenced_at: Timestamp(0),
        chain: entry.chain,
    };
    let mut applied = Vec::new();
    let opened = Journal::open(&bench.settings, snapshot, &mut |entry| {
        applied.push(entry.index.0);
        Ok(())
    });
    assert_eq!(opened.unwrap().1.end, end);
    assert_eq!(applied, (covered + 1..=end.index.0).collect::<Vec<_>>());
}

#[test]
fn files_are_made_ahead_once_a_segment_was_filled_and_none_is_left_unfinished() {
    let bench = Bench::new();
    let files = |extension: &str| {
        let folder = std::fs::read_dir(&bench.settings.folder).unwrap();
        let paths = folder.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .count()
    };
    let (mut journal, ..) = bench.open();
    fill(&mut journal, 70);
    assert!(bench.segment(2).exists(), "a segment was filled");
    while files("spare") < 2 {
        std::thread::yield_now();
    }
    // They are used, and others made in their place; the last one may be under way when the journal is closed.
    fill(&mut journal, 140);
    while files("spare") < 1 {
        std::thread::yield_now();
    }
    journal.close().unwrap();
    assert_eq!(files("tmp"), 0);
    let (_, recovered, _) = bench.open();
    assert_eq!(recovered.end.index, LogIndex(210));
}

#[test]
fn a_flipped_bit_in_what_was_acknowledged_is_refused_with_the_records_name() {
    let bench = filled(6);
    let (segment, offset, bytes) = bench.records()[&3];
    // The last record is as safe as one in the middle: the mark covers it.
    let (_, last_offset, _) = bench.records()[&6];
    for (index, at) in [(3, offset), (6, last_offset)] {
        for byte in (0..bytes).step_by(3) {
            let bench = bench.copy();
            bench.flip(segment, (at + byte) * 8 + byte % 8);
            match bench.damage() {
                Damage::Record {
                    index: named,
                    at: place,
                    ..
                } => {
                    assert_eq!((named, place.offset), (LogIndex(index), at), "byte {byte}");
                }
                other => panic!("byte {byte}: {other}"),
            }
        }
    }
}

#[test]
fn a_later_record_proves_that_an_earlier_one_was_durable() {
    // The mark is lost behind: only what stands in the records tells.
    let bench = filled_and_marked(6, 1);
    let records = bench.records();
    for index in 2..6 {
        let (segment, offset, bytes) = records[&index];
        for byte in (0..bytes).step_by(5) {
            let bench = bench.copy();
            bench.flip(segment, (offset + byte) * 8);
            match (index, bench.damage()) {
                (_, Damage::Record { index: named, .. }) => assert_eq!(named.0, index),
                (_, other) => panic!("record {index}, byte {byte}: {other}"),
            }
        }
    }
}

#[test]
fn a_damaged_record_that_nothing_proves_is_cut_and_overwritten() {
    let bench = filled_and_marked(6, 5);
    let (segment, offset, bytes) = bench.records()[&6];
    for byte in 0..bytes {
        let bench = bench.copy();
        bench.flip(segment, (offset + byte) * 8 + byte % 8);
        let (mut journal, recovered, entries) = bench.open();
        assert_eq!(entries.len(), 5, "byte {byte}");
        assert!(recovered.tail.unwrap().torn.is_some());
        fill(&mut journal, 1);
        journal.close().unwrap();
        assert_eq!(bench.open().2.len(), 6);
    }
}

#[test]
fn a_tail_that_is_cut_at_any_byte_loses_nothing_acknowledged() {
    let bench = filled_and_marked(4, 3);
    let (segment, offset, bytes) = bench.records()[&4];
    let whole = std::fs::read(bench.segment(segment)).unwrap();
    let start = usize::try_from(offset).unwrap();
    for kept in 0..=usize::try_from(bytes).unwrap() {
        // The file ends there, or what follows was never written.
        for truncate in [true, false] {
            if !truncate && kept % 8 != 0 {
                continue;
            }
            let bench = bench.copy();
            let mut cut = whole[..start + kept].to_vec();
            if !truncate {
                cut.resize(whole.len(), 0);
            }
            std::fs::write(bench.segment(segment), cut).unwrap();
            let (mut journal, _, entries) = bench.open();
            let complete = whole[start + kept..start + usize::try_from(bytes).unwrap()]
                .iter()
                .all(|byte| *byte == 0);
            let is_whole = if truncate { kept as u64 == bytes } else { complete };
            assert_eq!(entries.len(), if is_whole { 4 } else { 3 }, "{kept} bytes kept");
            fill(&mut journal, 2);
            journal.close().unwrap();
            assert_eq!(bench.open().2.len(), entries.len() + 2);
        }
    }
}

#[test]
fn a_tail_that_is_cut_before_the_mark_is_refused() {
    let bench = filled(4);
    let (segment, offset, bytes) = bench.records()[&4];
    let whole = std::fs::read(bench.segment(segment)).unwrap();
    for kept in 0..usize::try_from(bytes).unwrap() {
        let bench = bench.copy();
        let start = usize::try_from(offset).unwrap();
        std::fs::write(bench.segment(segment), &whole[..start + kept]).unwrap();
        let Damage::Record { index, .. } = bench.damage() else {
            panic!("{kept} bytes kept");
        };
        assert_eq!(index, LogIndex(4));
    }
}

#[test]
fn zeroed_pages_are_refused_or_lie_behind_the_end() {
    let bench = filled(150);
    let records = bench.records();
    for number in 1..=2 {
        let begins = records.iter().find(|(_, (segment, ..))| *segment == number).unwrap().0;
        for page in 0..SEGMENT_BYTES_MIN / 4_096 {
            let bench = bench.copy();
            bench.overwrite(number, page * 4_096, &[0; 4_096]);
            let hit: Vec<_> = records
                .iter()
                .filter(|(_, (segment, offset, bytes))| {
                    *segment == number && offset / 4_096 <= page && (offset + bytes - 1) / 4_096 >= page
                })
                .map(|(index, _)| *index)
                .collect();
            match (bench.damage(), page) {
                (Damage::SegmentHeader { segment, index, .. }, 0) => {
                    assert_eq!((segment, index.0), (number, *begins));
                }
                (Damage::Record { index, .. }, _) => assert_eq!(Some(&index.0), hit.first(), "page {page}"),
                (other, _) => panic!("page {page}: {other}"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_segments_header_is_refused() {
    let bench = filled(150);
    for number in 1..=2 {
        for byte in (0..180).chain([4_000]) {
            let bench = bench.copy();
            bench.flip(number, byte * 8 + byte % 8);
            let damage = bench.damage();
            let named = matches!(damage, Damage::SegmentHeader { segment, .. } if segment == number);
            assert!(named, "segment {number}, byte {byte}: {damage}");
        }
    }
}

#[test]
fn an_entry_without_a_sequence_is_kept_for_the_snapshot_before_it() {
    let bench = Bench::new();
    let (mut journal, ..) = bench.open();
    let handle = journal.handle();
    fill(&mut journal, 20);
    let snapshot = journal.end();
    // Entries without a batch up to the end of the segment, and beyond.
    while handle.closed_through() < snapshot.sequence {
        let end = journal.end();
        let empty = Record {
            kind: RecordKind::Empty,
            epoch: end.epoch,
            term: Term(1),
            index: end.index.next(),
            first_sequence: end.sequence.next(),
            last_sequence: end.sequence,
            chain: end.chain,
            payload: Bytes::new(),
        };
        journal.append(&[empty]).unwrap();
        journal.sync().unwrap();
    }
    fill(&mut journal, 1);
    handle.retire(snapshot.sequence, snapshot.index);
    let mut reader = handle.reader(snapshot.index).unwrap();
    let read = reader.next(journal.end().sequence).unwrap().unwrap();
    assert_eq!(read.entry.index, snapshot.index.next());
}

#[test]
fn a_segment_lost_as_it_was_begun_is_begun_again_though_the_next_one_was_made_ready() {
    let torn_header: &[u8] = b"MeridSeg and no more of it";
    for header in [&[][..], torn_header] {
        let bench = filled(100);
        let next = bench.records().last_key_value().unwrap().1.0 + 1;
        let mut bytes = vec![0; usize::try_from(SEGMENT_BYTES_MIN).unwrap()];
        std::fs::write(bench.segment(next + 1), &bytes).unwrap();
        bytes[..header.len()].copy_from_slice(header);
        std::fs::write(bench.segment(next), &bytes).unwrap();
        let (mut journal, recovered, entries) = bench.open();
        assert_eq!((recovered.end.index, entries.len()), (LogIndex(100), 100));
        fill(&mut journal, 150);
        journal.close().unwrap();
        let (_, recovered, entries) = bench.open();
        assert_eq!((recovered.end.index, entries.len()), (LogIndex(250), 250));
    }
}

#[test]
fn a_segment_whose_header_is_lost_is_refused_if_the_next_one_was_begun() {
    let bench = filled(250);
    let bytes = std::fs::metadata(bench.segment(2)).unwrap().len();
    bench.overwrite(2, 0, &vec![0; usize::try_from(bytes).unwrap()]);
    let damage = bench.damage();
    assert!(matches!(damage, Damage::SegmentHeader { segment: 2, .. }), "{damage}");
}

#[test]
fn a_missing_segment_is_refused() {
    let bench = filled(250);
    let last = bench.records().last_key_value().unwrap().1.0;
    assert!(last >= 3);
    for number in 1..=last {
        let bench = bench.copy();
        std::fs::remove_file(bench.segment(number)).unwrap();
        if number == last {
            // The one that was made ready behind it is there: without that nothing shows but the mark.
            let prepared = bench.segment(number + 1);
            if prepared.exists() {
                assert!(matches!(bench.damage(), Damage::SegmentMissing { segment, .. } if segment == number));
                std::fs::remove_file(prepared).unwrap();
            }
            assert!(matches!(bench.damage(), Damage::Record { .. }));
            continue;
        }
        let damage = bench.damage();
        assert!(
            matches!(damage, Damage::SegmentMissing { segment, .. } if segment == number),
            "{damage}"
        );
    }
    let bench = bench.copy();
    for number in 1..=last + 1 {
        let _ = std::fs::remove_file(bench.segment(number));
    }
    assert!(matches!(bench.damage(), Damage::SegmentMissing { .. }));
}

#[test]
fn swapped_doubled_and_foreign_segments_are_refused() {
    let bench = filled(250);
    let (one, two, three) = (bench.segment(1), bench.segment(2), bench.segment(3));
    let read = |path: &Path| std::fs::read(path).unwrap();
    let (first, second, third) = (read(&one), read(&two), read(&three));
    let with = |files: &[(u64, &[u8])]| {
        let bench = bench.copy();
        for (number, bytes) in files {
            std::fs::write(bench.segment(*number), bytes).unwrap();
        }
        bench.damage()
    };
    let out_of_place = |damage: &Damage, number: u64| match damage {
        Damage::SegmentOutOfPlace { segment, .. } => *segment == number,
        _ => false,
    };
    for (files, number) in [
        (vec![(1, &*second), (2, &*first)], 1),
        (vec![(2, &*third), (3, &*second)], 2),
        (vec![(2, &*first)], 2),
        (vec![(3, &*second)], 3),
    ] {
        let damage = with(&files);
        assert!(out_of_place(&damage, number), "{damage}");
    }
    let other = Bench::new();
    let mut foreign = other.settings.clone();
    foreign.identity.node = NodeId(2);
    let (mut journal, _) = Journal::open(&foreign, Applied::default(), &mut |_| Ok(())).unwrap();
    fill(&mut journal, 3);
    journal.close().unwrap();
    let damage = with(&[(1, &read(&other.segment(1)))]);
    assert!(matches!(damage, Damage::SegmentForeign { segment: 1, .. }), "{damage}");
}

#[test]
fn a_stale_mark_loses_nothing() {
    for marked in [0, 1, 100, 149] {
        let bench = filled_and_marked(150, marked);
        let (journal, recovered, entries) = bench.open();
        assert_eq!((recovered.end.index, entries.len()), (LogIndex(150), 150));
        journal.close().unwrap();
    }
}

#[test]
fn one_damaged_slot_of_the_mark_costs_nothing_and_two_are_refused() {
    let bench = filled(5);
    let mark = bench.settings.folder.join("mark");
    for slot in 0..2 {
        let bench = bench.copy();
        let mark = bench.settings.folder.join("mark");
        overwrite(&mark, slot * MARK_SLOT_BYTES as u64 + 20, &[0xff]);
        // The other slot says the same, so that even the last record is still proven.
        let (segment, offset, _) = bench.records()[&5];
        bench.flip(segment, (offset + RECORD_HEADER_BYTES as u64) * 8);
        assert!(matches!(bench.damage(), Damage::Record { index: LogIndex(5), .. }));
    }
    overwrite(&mark, 20, &[0xff]);
    overwrite(&mark, MARK_SLOT_BYTES as u64 + 20, &[0xff]);
    assert!(matches!(bench.try_open().0, Err(JournalError::Mark { .. })));
    std::fs::remove_file(&mark).unwrap();
    assert!(matches!(bench.try_open().0, Err(JournalError::Mark { .. })));
}

#[test]
fn a_mark_or_a_snapshot_of_another_history_is_refused() {
    let (bench, other) = (filled(5), Bench::new());
    let (mut journal, ..) = other.open();
    let record = batch(journal.end(), 15);
    journal.append(&[record]).unwrap();
    journal.sync().unwrap();
    journal.close().unwrap();
    let mark = |bench: &Bench| bench.settings.folder.join("mark");
    std::fs::copy(mark(&other), mark(&bench)).unwrap();
    let damage = bench.damage();
    assert!(
        matches!(
            damage,
            Damage::OtherHistory {
                index: LogIndex(1),
                source: "the mark"
            }
        ),
        "{damage}"
    );

    let bench = filled(5);
    let snapshot = Applied {
        index: LogIndex(3),
        sequence: Sequence(9),
        ..Applied::default()
    };
    let opened = Journal::open(&bench.settings, snapshot, &mut |_| Ok(()));
    let damage = opened.unwrap_err().damage().cloned();
    assert!(
        matches!(
            damage,
            Some(Damage::OtherHistory {
                source: "the snapshot",
                ..
            })
        ),
        "{damage:?}"
    );
    let beyond = Applied {
        index: LogIndex(9),
        ..snapshot
    };
    let opened = Journal::open(&bench.settings, beyond, &mut |_| Ok(()));
    assert!(matches!(
        opened.unwrap_err().damage(),
        Some(Damage::Record { index: LogIndex(6), .. })
    ));
}

#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    let bench = filled(3);
    let folder = Folder::new(&bench.settings.folder);
    let faults = Arc::clone(&folder.faults);
    let Opened { mut journal, .. } = open(
        &bench.settings,
        folder,
        Voters::One,
        Applied::default(),
        &mut |_| Ok(()),
    )
    .unwrap();
    journal.append(&[batch(journal.end(), 3)]).unwrap();
    faults.fail_syncs(true);
    assert!(matches!(journal.sync(), Err(JournalError::Disk(_))));
    assert_eq!(journal.room(), Room::DiskFailed);
    assert_eq!(
        journal.handle().durable_sequence(),
        Sequence(9),
        "what failed is not durable"
    );
    faults.fail_syncs(false);
    assert!(matches!(journal.sync(), Err(JournalError::FailedEarlier(_))));
    assert!(matches!(
        journal.append(&[batch(journal.end(), 3)]),
        Err(JournalError::FailedEarlier(_))
    ));
    assert!(journal.close().is_err());
}

#[test]
fn on_a_full_disk_there_is_no_room_until_there_is() {
    let bench = Bench::new();
    let folder = Folder::new(&bench.settings.folder);
    let faults = Arc::clone(&folder.faults);
    let Opened { mut journal, .. } = open(
        &bench.settings,
        folder,
        Voters::One,
        Applied::default(),
        &mut |_| Ok(()),
    )
    .unwrap();
    fill(&mut journal, 1);
    // The next segment is ready or on its way; the one behind it can't be made.
    faults.fail_writes(Some(ErrorKind::StorageFull));
    let handle = journal.handle();
    let mut written = 1;
    while journal.room() != Room::DiskFull {
        if journal.room() == Room::Enough {
            fill(&mut journal, 1);
            written += 1;
        }
    }
    assert_eq!(handle.room(), Room::DiskFull);
    // Room again: the thread that prepares finds out by itself, and nothing was lost.
    faults.fail_writes(None);
    while journal.room() != Room::Enough {
        std::thread::yield_now();
    }
    fill(&mut journal, 200);
    journal.close().unwrap();
    assert_eq!(bench.open().2.len() as u64, written + 200);
}

#[test]
fn a_journal_is_made_once_and_only_by_create() {
    let bench = filled(1);
    assert!(matches!(create(&bench.settings), Err(JournalError::Exists(_))));
    let elsewhere = settings(&bench.folder.path().join("elsewhere"));
    let opened = Journal::open(&elsewhere, Applied::default(), &mut |_| Ok(()));
    assert!(matches!(opened, Err(JournalError::None(_))));
}
