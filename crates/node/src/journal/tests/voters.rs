//! Tests of the journal of a node that is one of several voters: cuts, jumps, votes, and what others may read.

use std::ops::RangeInclusive;

use clap::Parser as _;
use replica::HardState;
use wire::journal::{Begins, Mark, decode_mark, decode_segment_header, encode_mark};

use super::*;
use crate::journal::faults::{Faults, Loss};
use crate::journal::{SyncDone, marked_vote};

const LOSSES: [Loss; 4] = [Loss::Nothing, Loss::Everything, Loss::EverySecond, Loss::Halves];

fn hard_state(term: u64, vote: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: NodeId(vote),
    }
}

impl Bench {
    /// Opens it as one of several voters. Answers also with all entries: those that were applied, then the others.
    fn open_voter(&self, snapshot: Applied) -> Result<(Opened, Vec<LogEntry>), JournalError> {
        let mut entries = Vec::new();
        let opened = Journal::open_as(&self.settings, Voters::Several, snapshot, &mut |entry| {
            entries.push(entry.clone());
            Ok(())
        })?;
        entries.extend(opened.suffix.iter().cloned());
        Ok((opened, entries))
    }

    fn voter(&self) -> Journal {
        self.open_voter(Applied::default()).unwrap().0.journal
    }

    fn with_faults(&self) -> (Journal, Arc<Faults>) {
        let folder = Folder::new(&self.settings.folder);
        let faults = Arc::clone(&folder.faults);
        let opened = open(&self.settings, folder, Voters::Several, Applied::default(), &mut |_| {
            Ok(())
        });
        (opened.unwrap().journal, faults)
    }
}

/// Appends and syncs batches of a term up to this index; none of them is known to be committed.
fn lead(journal: &mut Journal, term: u64, through: u64) -> Result<(), JournalError> {
    while journal.end().index < LogIndex(through) {
        journal.append(&[batch_of(journal.end(), term, Term(term), Sequence(0))])?;
        journal.sync()?;
    }
    Ok(())
}

/// Appends batches of the first term up to this index, and syncs them at once.
fn lead_at_once(journal: &mut Journal, through: u64) {
    while journal.end().index < LogIndex(through) {
        journal.append(&[batch(journal.end(), 1)]).unwrap();
    }
    journal.sync().unwrap();
}

/// The terms of entries, as (term, first index, last index).
fn terms(entries: &[LogEntry]) -> Vec<(u64, RangeInclusive<u64>)> {
    let mut terms: Vec<(u64, RangeInclusive<u64>)> = Vec::new();
    for entry in entries {
        match terms.last_mut() {
            Some((term, range)) if *term == entry.term.0 => {
                assert_eq!(*range.end() + 1, entry.index.0);
                *range = *range.start()..=entry.index.0;
            }
            _ => terms.push((entry.term.0, entry.index.0..=entry.index.0)),
        }
    }
    terms
}

fn applied(place: Place) -> Applied {
    Applied {
        index: place.index,
        term: place.term,
        epoch: place.epoch,
        sequence: place.sequence,
        sequenced_at: Timestamp(0),
        chain: place.chain,
    }
}

#[test]
fn entries_that_another_leader_replaced_are_gone_after_any_number_of_cuts_and_restarts() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    lead(&mut journal, 1, 10).unwrap();
    journal.truncate(LogIndex(12)).unwrap();
    assert_eq!(journal.end().index, LogIndex(10), "there is nothing to cut");
    journal.truncate(LogIndex(7)).unwrap();
    lead(&mut journal, 2, 12).unwrap();
    // A cut of what was put in place of what was cut.
    journal.truncate(LogIndex(9)).unwrap();
    lead(&mut journal, 3, 11).unwrap();
    // One right at the segment's beginning, and one further back than that.
    journal.truncate(LogIndex(9)).unwrap();
    journal.truncate(LogIndex(8)).unwrap();
    lead(&mut journal, 4, 200).unwrap();
    journal.truncate(LogIndex(190)).unwrap();
    let end = journal.end();
    journal.close().unwrap();
    for _ in 0..2 {
        let (opened, entries) = bench.open_voter(Applied::default()).unwrap();
        assert_eq!(terms(&entries), [(1, 1..=7), (2, 8..=8), (4, 9..=190)]);
        assert_eq!(opened.recovered.end, end);
        opened.journal.close().unwrap();
    }
    // A lone voter applies the same.
    let (.., entries) = bench.open();
    assert_eq!(terms(&entries), [(1, 1..=7), (2, 8..=8), (4, 9..=190)]);
}

#[test]
fn a_cut_further_back_than_is_remembered_finds_its_place_in_the_files() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    lead_at_once(&mut journal, 500);
    let expected = bench.open_reader_place(20);
    journal.truncate(LogIndex(20)).unwrap();
    assert_eq!(journal.end(), expected);
    lead(&mut journal, 2, 30).unwrap();
    journal.close().unwrap();
    let (_, entries) = bench.open_voter(Applied::default()).unwrap();
    assert_eq!(terms(&entries), [(1, 1..=20), (2, 21..=30)]);
}

impl Bench {
    fn open_reader_place(&self, index: u64) -> Place {
        let mut reader = JournalReader::new(&self.settings.folder, self.settings.identity, LogIndex(0)).unwrap();
        loop {
            let read = reader.next(Sequence(u64::MAX)).unwrap().unwrap();
            if read.entry.index.0 == index {
                let header = read.header.unwrap();
                return Place {
                    index: read.entry.index,
                    term: read.entry.term,
                    sequence: header.last_sequence(),
                    epoch: header.epoch,
                    chain: read.entry.chain,
                };
            }
        }
    }
}

#[test]
fn a_crash_at_any_operation_of_a_cut_leaves_the_log_as_it_was_or_as_it_is_to_be() {
    // Without a snapshot, and with one right where the cut is: then what was cut is not looked at.
    for (has_snapshot, loss) in [false, true].into_iter().flat_map(|has| LOSSES.map(|loss| (has, loss))) {
        for operations in 0.. {
            let bench = Bench::new();
            let mut journal = bench.voter();
            lead_at_once(&mut journal, 7);
            let base = if has_snapshot {
                applied(journal.end())
            } else {
                Applied::default()
            };
            lead_at_once(&mut journal, 9);
            journal.close().unwrap();
            // The mark is behind, and the last entry not even synced.
            let (mut journal, faults) = bench.with_faults();
            faults.power_goes_after(operations);
            let appended = journal.append(&[batch(journal.end(), 1)]);
            let cut = appended.and_then(|()| journal.truncate(LogIndex(7)));
            let is_cut = cut.is_ok();
            let led = cut.and_then(|()| lead(&mut journal, 2, 12));
            let acknowledged = journal.durable.place.index;
            drop(journal);
            let gone = faults.power_is_gone();
            assert_eq!(led.is_err(), gone);
            faults.lose(loss);
            let case = format!("{loss:?}, {operations} operations, snapshot {has_snapshot}");
            let (opened, mut entries) = bench.open_voter(base).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(
                entries.first().map_or(base.index, |entry| LogIndex(entry.index.0 - 1)),
                base.index
            );
            entries.retain(|entry| entry.index > LogIndex(7));
            let end = entries.last().map_or(7, |entry| entry.index.0);
            match &*terms(&entries) {
                [(1, old)] => assert!([8..=9, 8..=10].contains(old) && !is_cut, "{case}: {old:?}"),
                [] => assert!(!is_cut || acknowledged == LogIndex(7), "{case}"),
                [(2, new)] => assert!(*new.start() == 8, "{case}: {new:?}"),
                other => panic!("{case}: {other:?}"),
            }
            if is_cut {
                assert!(end >= acknowledged.0, "{case}");
            }
            // And it goes on from there.
            let mut journal = opened.journal;
            let end = journal.end().index.0 + 3;
            lead(&mut journal, 3, end).unwrap();
            journal.close().unwrap();
            let again = bench.open_voter(base).unwrap().0;
            assert_eq!(again.recovered.end.index.0, end);
            if !gone {
                break;
            }
        }
    }
}

#[test]
fn a_flipped_bit_before_or_at_a_cut_is_refused_and_never_a_silent_loss() {
    // The mark is that of the cut itself: nothing that follows is in it.
    let bench = Bench::new();
    let mut journal = bench.voter();
    lead(&mut journal, 1, 10).unwrap();
    journal.truncate(LogIndex(7)).unwrap();
    let mark = std::fs::read(bench.settings.folder.join("mark")).unwrap();
    lead(&mut journal, 2, 9).unwrap();
    journal.close().unwrap();
    for marked in [true, false] {
        for record in 0..10 {
            let bench = bench.copy();
            if !marked {
                std::fs::write(bench.settings.folder.join("mark"), &mark).unwrap();
            }
            let bytes = std::fs::read(bench.segment(1)).unwrap();
            let mut offset = SEGMENT_HEADER_BYTES;
            for _ in 0..record {
                offset += decode_record(&bytes[offset..], 1).unwrap().bytes;
            }
            bench.flip(1, (offset as u64 + 17) * 8 + 3);
            let damage = bench.open_voter(Applied::default()).unwrap_err();
            let damage = damage.damage();
            assert!(
                matches!(damage, Some(Damage::Record { index, .. }) if index.0 == record + 1),
                "{record}: {damage:?}"
            );
        }
        for byte in (0..190).chain([4_000]) {
            let bench = bench.copy();
            if !marked {
                std::fs::write(bench.settings.folder.join("mark"), &mark).unwrap();
            }
            bench.flip(2, byte * 8 + byte % 8);
            let damage = bench.open_voter(Applied::default()).unwrap_err();
            let damage = damage.damage();
            let named = matches!(damage, Some(Damage::SegmentHeader { segment: 2, .. }));
            assert!(named, "byte {byte}: {damage:?}");
        }
        // Without the segment that cuts, what was cut would seem to be the log.
        let bench = bench.copy();
        if !marked {
            std::fs::write(bench.settings.folder.join("mark"), &mark).unwrap();
        }
        for number in 2..5 {
            let _ = std::fs::remove_file(bench.segment(number));
        }
        let damage = bench.open_voter(Applied::default()).unwrap_err();
        assert!(
            matches!(damage.damage(), Some(Damage::SegmentMissing { segment: 2, .. })),
            "{damage}"
        );
    }
}

#[test]
fn only_what_the_log_says_is_committed_is_applied_and_the_rest_is_handed_over() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    for _ in 0..100 {
        let end = journal.end();
        // Two batches are on their way when the next one is sequenced.
        let committed = Sequence(end.sequence.0.saturating_sub(6));
        journal.append(&[batch_of(end, 3, Term(1), committed)]).unwrap();
        journal.sync().unwrap();
    }
    journal.close().unwrap();
    let (opened, entries) = bench.open_voter(Applied::default()).unwrap();
    assert_eq!(terms(&entries), [(1, 1..=100)]);
    assert_eq!(terms(&opened.suffix), [(1, 98..=100)]);
    assert_eq!(opened.recovered.committed.index, LogIndex(97));
    assert_eq!(opened.journal.handle().committed_sequence(), Sequence(97 * 3));
    // What is replaced was never applied.
    let mut journal = opened.journal;
    journal.truncate(LogIndex(98)).unwrap();
    lead(&mut journal, 2, 99).unwrap();
    journal.close().unwrap();
    let mut seen = Vec::new();
    let opened = Journal::open_as(&bench.settings, Voters::Several, Applied::default(), &mut |entry| {
        seen.push(entry.index.0);
        Ok(())
    });
    assert_eq!(seen, (1..=97).collect::<Vec<_>>());
    assert_eq!(terms(&opened.unwrap().suffix), [(1, 98..=98), (2, 99..=99)]);
}

#[test]
fn a_cut_of_what_the_log_says_was_committed_is_refused() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    lead(&mut journal, 1, 10).unwrap();
    let end = journal.end();
    journal.append(&[batch_of(end, 1, Term(1), Sequence(9))]).unwrap();
    // The writer was not told, as if it had a fault.
    journal.truncate(LogIndex(7)).unwrap();
    journal.close().unwrap();
    let error = bench.open_voter(Applied::default()).unwrap_err();
    let expected = Damage::CommittedCut {
        segment: 2,
        after: LogIndex(7),
        committed: LogIndex(9),
    };
    assert_eq!(error.damage(), Some(&expected));
    assert!(
        error.to_string().contains("everything up to index 9 was committed"),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "what was committed is never dropped")]
fn the_writer_never_drops_what_was_committed() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    lead(&mut journal, 1, 10).unwrap();
    journal.set_committed(LogIndex(8), Sequence(8));
    drop(journal.truncate(LogIndex(7)));
}

fn vote(journal: &Journal, term: u64, vote: u64) -> Record {
    let end = journal.end();
    Record {
        kind: RecordKind::HardState,
        epoch: end.epoch,
        term: Term(term),
        index: end.index,
        first_sequence: end.sequence.next(),
        last_sequence: end.sequence,
        chain: end.chain,
        payload: Bytes::copy_from_slice(&u64::to_le_bytes(vote)),
    }
}

#[test]
fn a_vote_outlives_the_journals_own_record_of_it() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    lead(&mut journal, 1, 3).unwrap();
    journal.append(&[vote(&journal, 4, 3)]).unwrap();
    journal.sync().unwrap();
    // Before the sync was over, not only some time later.
    assert_eq!(marked_vote(&bench.settings).unwrap(), hard_state(4, 3));
    journal.close().unwrap();
    let (segment, offset, bytes) = bench.records()[&3];
    assert_eq!(
        bench.open_voter(Applied::default()).unwrap().0.recovered.hard_state,
        hard_state(4, 3)
    );
    // The record of the vote, the last one, stands where that of the last entry does: it takes no index.
    let torn = bench.copy();
    torn.overwrite(segment, offset, &vec![0; usize::try_from(bytes).unwrap()]);
    let (opened, entries) = torn.open_voter(Applied::default()).unwrap();
    assert_eq!((opened.recovered.hard_state, entries.len()), (hard_state(4, 3), 3));
    assert_eq!(opened.journal.hard_state(), hard_state(4, 3));
    // A journal that can't be opened at all.
    let damaged = bench.copy();
    damaged.flip(1, (SEGMENT_HEADER_BYTES as u64 + 20) * 8);
    assert!(damaged.open_voter(Applied::default()).is_err());
    assert_eq!(marked_vote(&damaged.settings).unwrap(), hard_state(4, 3));
}

#[test]
fn others_read_only_what_is_committed_and_never_what_was_cut() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    let handle = journal.handle();
    lead(&mut journal, 1, 100).unwrap();
    let mut readers = [
        handle.reader(LogIndex(0)).unwrap(),
        handle.reader(LogIndex(60)).unwrap(),
    ];
    assert!(readers[0].next(Sequence(u64::MAX)).unwrap().is_none());
    assert_eq!(
        (handle.closed_through(), handle.closed_bytes_behind(Sequence(0))),
        (Sequence(0), 0)
    );
    handle.set_committed(LogIndex(80), Sequence(80));
    let mut seen: [Vec<LogEntry>; 2] = Default::default();
    let mut read = |readers: &mut [JournalReader; 2]| {
        for (reader, seen) in readers.iter_mut().zip(&mut seen) {
            while let Some(read) = reader.next(Sequence(u64::MAX)).unwrap() {
                seen.push(read.entry);
            }
        }
        seen.clone().map(|seen| terms(&seen))
    };
    assert_eq!(read(&mut readers), [vec![(1, 1..=80)], vec![(1, 61..=80)]]);
    // Behind them in the very segment, and in the one behind that, stands what is void now.
    journal.truncate(LogIndex(85)).unwrap();
    lead(&mut journal, 2, 90).unwrap();
    journal.truncate(LogIndex(86)).unwrap();
    lead(&mut journal, 3, 200).unwrap();
    assert_eq!(read(&mut readers), [vec![(1, 1..=80)], vec![(1, 61..=80)]]);
    let end = journal.end();
    handle.set_committed(end.index, end.sequence);
    let all = read(&mut readers);
    assert_eq!(all[0], [(1, 1..=85), (2, 86..=86), (3, 87..=200)]);
    assert_eq!(all[1], [(1, 61..=85), (2, 86..=86), (3, 87..=200)]);
    let mut late = handle.reader(LogIndex(86)).unwrap();
    let first = late.next(Sequence(u64::MAX)).unwrap().unwrap().entry;
    assert_eq!((first.index, first.term), (LogIndex(87), Term(3)));
    // What is closed is so up to where the log goes over to the last segment.
    assert!(handle.closed_through() > Sequence(90));
    assert_eq!(handle.closed_bytes_behind(handle.closed_through()), 0);
    // A snapshot in the newest part lets go of all that was cut, too.
    handle.retire(handle.closed_through(), end.index);
    assert_eq!(handle.first(), handle.closed_through().next());
    assert!(matches!(handle.reader(LogIndex(86)), Err(JournalError::Retired { .. })));
    let mut offline = JournalReader::new(&bench.settings.folder, bench.settings.identity, LogIndex(199)).unwrap();
    assert_eq!(offline.next(end.sequence).unwrap().unwrap().entry.index, LogIndex(200));
}

#[test]
fn retirement_keeps_what_a_snapshot_before_a_cut_goes_on_from() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    let handle = journal.handle();
    lead_at_once(&mut journal, 200);
    journal.truncate(LogIndex(150)).unwrap();
    lead(&mut journal, 2, 160).unwrap();
    let end = journal.end();
    handle.set_committed(end.index, end.sequence);
    for index in [10, 100, 149, 150, 155] {
        handle.retire(Sequence(index), LogIndex(index));
        let mut reader = handle.reader(LogIndex(index)).unwrap();
        let read = reader.next(Sequence(u64::MAX)).unwrap().unwrap().entry;
        assert_eq!(
            (read.index.0, read.term.0),
            (index + 1, if index < 150 { 1 } else { 2 })
        );
    }
}

/// The place of a snapshot from a peer, whose log is another one.
fn elsewhere(index: u64) -> Place {
    Place {
        index: LogIndex(index),
        term: Term(7),
        sequence: Sequence(4 * index),
        epoch: Epoch(1),
        chain: wire::journal::Chain([9; 32]),
    }
}

#[test]
fn a_crash_at_any_operation_of_a_jump_leaves_one_of_the_two_logs() {
    // Beyond the old log, and within it on another branch.
    for (place, loss) in [50, 5]
        .into_iter()
        .flat_map(|index| LOSSES.map(|loss| (elsewhere(index), loss)))
    {
        for operations in 0.. {
            let bench = Bench::new();
            let (mut journal, faults) = bench.with_faults();
            lead_at_once(&mut journal, 100);
            let base = place.index.0;
            faults.power_goes_after(operations);
            let announced = journal.announce_jump(place).is_ok();
            let jumped = announced && journal.begin_at(place, hard_state(8, 2)).is_ok();
            let led = jumped && lead(&mut journal, 9, base + 3).is_ok();
            let acknowledged = journal.durable.place.index.0;
            drop(journal);
            assert_eq!(!led, faults.power_is_gone());
            faults.lose(loss);
            let case = format!("{loss:?}, to {base}, {operations} operations");
            // The snapshot gets its name once the jump was announced.
            let snapshot = if announced { applied(place) } else { Applied::default() };
            let opened = bench.open_voter(snapshot);
            let (opened, entries) = opened.unwrap_or_else(|error| panic!("{case}: {error}"));
            if announced {
                let end = opened.recovered.end.index.0;
                assert!(
                    end >= base && (!jumped || end >= acknowledged),
                    "{case}: {end}, {acknowledged}"
                );
                assert!(
                    entries.iter().all(|entry| entry.index.0 > base && entry.term.0 == 9),
                    "{case}"
                );
            } else {
                assert_eq!(terms(&entries), [(1, 1..=100)], "{case}");
            }
            if jumped {
                assert_eq!(opened.recovered.hard_state, hard_state(8, 2), "{case}");
            }
            let mut journal = opened.journal;
            let (end, handle) = (journal.end().index.0 + 70, journal.handle());
            for _ in 0..70 {
                journal
                    .append(&[batch_of(journal.end(), 10, Term(10), Sequence(0))])
                    .unwrap();
            }
            journal.sync().unwrap();
            handle.set_committed(journal.end().index, journal.end().sequence);
            if announced {
                assert!(matches!(
                    handle.reader(LogIndex(base - 1)),
                    Err(JournalError::Retired { .. })
                ));
                let mut reader = handle.reader(place.index).unwrap();
                assert_eq!(
                    reader.next(Sequence(u64::MAX)).unwrap().unwrap().entry.index.0,
                    base + 1
                );
            }
            journal.close().unwrap();
            let again = bench
                .open_voter(snapshot)
                .unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(again.0.recovered.end.index.0, end, "{case}");
            if led {
                break;
            }
        }
    }
}

#[test]
fn a_new_journal_begins_with_a_snapshot_and_an_old_mark_is_still_read() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    journal.begin_at(elsewhere(50), hard_state(8, 2)).unwrap();
    lead(&mut journal, 9, 60).unwrap();
    journal.close().unwrap();
    // As an earlier version wrote it: without segment, vote and jump.
    let path = bench.settings.folder.join("mark");
    let slots = std::fs::read(&path).unwrap();
    let old = Mark {
        segment: 0,
        hard_term: Term(0),
        vote: NodeId(0),
        ..decode_mark(&slots).unwrap()
    };
    std::fs::write(&path, encode_mark(&old).repeat(2)).unwrap();
    let damaged = bench.copy();
    let (opened, entries) = bench.open_voter(applied(elsewhere(50))).unwrap();
    assert_eq!(terms(&entries), [(9, 51..=60)]);
    assert_eq!(opened.recovered.hard_state, hard_state(8, 2));
    let (segment, offset, _) = damaged.records()[&60];
    damaged.flip(segment, (offset + 17) * 8);
    let error = damaged.open_voter(applied(elsewhere(50))).unwrap_err();
    assert!(
        matches!(
            error.damage(),
            Some(Damage::Record {
                index: LogIndex(60),
                ..
            })
        ),
        "{error}"
    );
}

#[test]
fn what_is_appended_takes_an_announced_jump_back() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    lead(&mut journal, 1, 10).unwrap();
    let says_jump = || {
        let bytes = std::fs::read(bench.settings.folder.join("mark")).unwrap();
        [0, MARK_SLOT_BYTES].map(|slot| decode_mark(&bytes[slot..]).unwrap().jump.index.0)
    };
    journal.announce_jump(elsewhere(50)).unwrap();
    assert_eq!(says_jump(), [50, 50]);
    journal.append(&[batch(journal.end(), 1)]).unwrap();
    assert_eq!(says_jump(), [0, 0], "before it is appended, not only some time later");
    lead(&mut journal, 1, 12).unwrap();
    journal.close().unwrap();
    // What was acknowledged behind the announcement is not given up for the snapshot.
    let error = bench.open_voter(applied(elsewhere(50))).unwrap_err();
    assert!(
        matches!(
            error.damage(),
            Some(Damage::Record {
                index: LogIndex(13),
                ..
            })
        ),
        "{error}"
    );
    assert_eq!(bench.open_voter(Applied::default()).unwrap().1.len(), 12);
}

#[test]
fn a_log_that_begins_with_a_snapshot_is_refused_without_it() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    lead(&mut journal, 1, 10).unwrap();
    let before = bench.copy();
    journal.begin_at(elsewhere(50), hard_state(8, 2)).unwrap();
    lead(&mut journal, 9, 60).unwrap();
    journal.close().unwrap();
    let header = decode_segment_header(&std::fs::read(bench.segment(2)).unwrap()).unwrap();
    assert!(matches!(header.begins, Begins::Jump(_)));
    let missing = Damage::SnapshotMissing {
        segment: 2,
        index: LogIndex(50),
    };
    assert_eq!(
        bench.open_voter(Applied::default()).unwrap_err().damage(),
        Some(&missing)
    );
    let other = Applied {
        chain: wire::journal::Chain([8; 32]),
        ..applied(elsewhere(50))
    };
    let error = bench.open_voter(other).unwrap_err();
    assert!(
        matches!(
            error.damage(),
            Some(Damage::OtherHistory {
                source: "the snapshot",
                ..
            })
        ),
        "{error}"
    );
    // With what it replaced still there, as after a crash, that is let go.
    std::fs::copy(before.segment(1), bench.segment(1)).unwrap();
    let (opened, entries) = bench.open_voter(applied(elsewhere(50))).unwrap();
    assert_eq!(terms(&entries), [(9, 51..=60)]);
    opened.journal.close().unwrap();
    assert!(!bench.segment(1).exists());
}

#[test]
fn a_sync_on_another_thread_makes_durable_what_was_there_when_it_was_begun() {
    let bench = Bench::new();
    let mut journal = bench.voter();
    let handle = journal.handle();
    let append = |journal: &mut Journal| journal.append(&[batch(journal.end(), 1)]).unwrap();
    let run = |journal: &mut Journal| -> SyncDone {
        let job = journal.begin_sync().unwrap().unwrap();
        std::thread::spawn(|| job.run()).join().unwrap()
    };
    append(&mut journal);
    let first = run(&mut journal);
    append(&mut journal);
    assert_eq!(handle.durable_sequence(), Sequence(0));
    let second = run(&mut journal);
    assert!(journal.begin_sync().unwrap().is_none(), "all is covered");
    journal.finish_sync(second).unwrap();
    assert_eq!(handle.durable_sequence(), Sequence(2));
    journal.finish_sync(first).unwrap();
    assert_eq!(handle.durable_sequence(), Sequence(2), "a late one changes nothing");
    // A segment that is begun meanwhile syncs the one before it itself.
    append(&mut journal);
    let late = run(&mut journal);
    let rolls = journal.figures().rolls;
    while journal.figures().rolls == rolls {
        append(&mut journal);
    }
    let durable = handle.durable_sequence();
    assert_eq!(durable, Sequence(journal.end().sequence.0 - 1));
    journal.finish_sync(late).unwrap();
    assert_eq!(handle.durable_sequence(), durable);
    // A cut makes one that is under way a late one.
    append(&mut journal);
    let late = run(&mut journal);
    let after = LogIndex(journal.end().index.0 - 2);
    journal.truncate(after).unwrap();
    journal.finish_sync(late).unwrap();
    assert_eq!(handle.durable_sequence().0, after.0);
    // A sync on this thread makes durable what one that is under way has not yet.
    append(&mut journal);
    let job = journal.begin_sync().unwrap().unwrap();
    journal.sync().unwrap();
    assert_eq!(handle.durable_sequence().0, after.0 + 1);
    journal.finish_sync(job.run()).unwrap();
    let end = journal.end();
    journal.close().unwrap();
    assert_eq!(bench.open_voter(Applied::default()).unwrap().0.recovered.end, end);
    // A vote is in the mark before anybody is told.
    let mut journal = bench.voter();
    let ballot = vote(&journal, 5, 2);
    journal.append(&[ballot]).unwrap();
    let done = run(&mut journal);
    assert_eq!(marked_vote(&bench.settings).unwrap(), hard_state(0, 0));
    journal.finish_sync(done).unwrap();
    assert_eq!(marked_vote(&bench.settings).unwrap(), hard_state(5, 2));
}

#[test]
fn a_sync_that_failed_on_another_thread_ends_the_journal_even_if_it_is_late() {
    let bench = Bench::new();
    let (mut journal, faults) = bench.with_faults();
    lead(&mut journal, 1, 3).unwrap();
    journal.append(&[batch(journal.end(), 1)]).unwrap();
    let job = journal.begin_sync().unwrap().unwrap();
    faults.fail_syncs(true);
    let done = job.run();
    faults.fail_syncs(false);
    journal.sync().unwrap();
    assert!(journal.finish_sync(done).is_err());
    assert_eq!(journal.room(), Room::DiskFailed);
    assert!(matches!(journal.begin_sync(), Err(JournalError::FailedEarlier(_))));
}

#[test]
fn verify_says_what_was_cut_and_where_a_log_begins_and_is_not_alarmed() {
    let bench = Bench::new();
    let verify = |arguments: &[&str]| {
        let mut line = vec!["journal", "verify", "--data", bench.folder.path().to_str().unwrap()];
        line.extend(arguments);
        let mut out = Vec::new();
        Line::parse_from(line).command.run(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let mut journal = bench.voter();
    lead(&mut journal, 1, 10).unwrap();
    journal.truncate(LogIndex(7)).unwrap();
    lead(&mut journal, 2, 8).unwrap();
    let end = journal.end();
    journal.close().unwrap();
    let shown = verify(&[]);
    assert!(
        shown.contains("the entries behind index 7, up to 10: never committed, and replaced in 000000000002.journal"),
        "{shown}"
    );
    assert!(shown.contains("verdict   whole"), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&verify(&["--json"])).unwrap();
    assert_eq!(
        json["dropped"],
        serde_json::json!([{"segment": 2, "after": 7, "from": 10}])
    );
    assert_eq!(json["last_sequence"], end.sequence.0);
}

#[derive(clap::Parser)]
struct Line {
    #[command(subcommand)]
    command: crate::journal::tools::JournalCommand,
}
