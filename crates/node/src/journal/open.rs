//! Opening: make a new journal, or find out what an existing one holds and go on from there.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use replica::recovery::{Damage, Place, Recovered, Scan, Seen, Tail, marked_hard_state};
use replica::{Applied, HardState, LogEntry, StopReason};
use wire::journal::{
    Begins, LogIndex, Mark, RecordView, Replaced, SEGMENT_HEADER_BYTES, SegmentHeader, decode_segment_header,
};

use super::files::{DiskFile, Folder, Listing};
use super::handle::{Segment, Shared};
use super::mark::{MarkFile, Marked, Marker, read_mark};
use super::preparer::Preparer;
use super::writer::{Current, Journal, SyncFigures, Syncs};
use super::{DiskError, JournalError, JournalSettings, Quarantine, SEGMENT_BYTES_MIN};

/// Makes the folder of a new journal. It is durable when this returns.
pub fn create(settings: &JournalSettings) -> Result<(), JournalError> {
    let path = &settings.folder;
    std::fs::create_dir_all(path).map_err(|error| DiskError::new("create", path, error))?;
    let folder = Folder::new(path);
    if folder.mark().exists() || !folder.list()?.segments.is_empty() {
        return Err(JournalError::Exists(path.clone()));
    }
    MarkFile::create(&folder)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Folder::new(parent).sync()?;
    }
    Ok(())
}

/// Whether a node has peers to agree with, as far as its journal is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voters {
    /// It has none: whatever is durable here is committed.
    One,
    /// It has some: only what the log itself says is known to be committed.
    Several,
}

/// A journal that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// What was found.
    pub recovered: Recovered,
    /// The entries behind what is known to be committed, in order. They may be committed, or be replaced by what another
    /// leader sequenced. Empty if there is only one voter.
    pub suffix: Vec<LogEntry>,
}

impl Journal {
    /// Opens the journal of a lone voter for a state that was loaded from the snapshot at `snapshot` (index 0: there is
    /// none), and hands the entries behind that to `apply`. What was torn and never acknowledged is cut. Damage leaves all
    /// as it is.
    pub fn open(
        settings: &JournalSettings,
        snapshot: Applied,
        apply: &mut dyn FnMut(&LogEntry) -> Result<(), StopReason>,
    ) -> Result<(Self, Recovered), JournalError> {
        let opened = Self::open_as(settings, Voters::One, snapshot, apply)?;
        Ok((opened.journal, opened.recovered))
    }

    /// The same for a node with this many voters: only the entries that are known to be committed go to `apply`.
    pub fn open_as(
        settings: &JournalSettings,
        voters: Voters,
        snapshot: Applied,
        apply: &mut dyn FnMut(&LogEntry) -> Result<(), StopReason>,
    ) -> Result<Opened, JournalError> {
        open(settings, Folder::new(&settings.folder), voters, snapshot, apply)
    }
}

/// The term and vote that the mark of a journal tells, also of one that is too damaged to be opened. Whoever makes that
/// node's journal anew must begin with it, or the node might vote twice in a term.
pub fn marked_vote(settings: &JournalSettings) -> Result<HardState, JournalError> {
    Ok(marked_hard_state(&read_mark(&Folder::new(&settings.folder))?))
}

/// The segment that the scan read last, and what of it must be written again.
struct LastRead {
    number: u64,
    file: DiskFile,
    bytes: Vec<u8>,
    /// Where what is behind the mark begins: at the file's header, if nothing in it is marked.
    unproven: u64,
}

/// The entries that the scan comes past, held back until they are known to be committed: those that are dropped later were
/// never applied.
struct Entries<'a> {
    snapshot: LogIndex,
    held_back: VecDeque<LogEntry>,
    apply: &'a mut dyn FnMut(&LogEntry) -> Result<(), StopReason>,
    applied: Result<(), StopReason>,
}

impl Entries<'_> {
    fn take(&mut self, seen: &Seen<'_>) {
        match seen {
            Seen::Record(_, record) if record.fields.kind.is_entry() && record.fields.index > self.snapshot => {
                self.held_back.push_back(log_entry(record));
            }
            Seen::Record(..) => {}
            Seen::Cut { after, .. } => {
                while self.held_back.back().is_some_and(|entry| entry.index > *after) {
                    self.held_back.pop_back();
                }
            }
            Seen::Committed(through) => self.apply_up_to(*through),
        }
    }

    fn apply_up_to(&mut self, through: LogIndex) {
        while self.applied.is_ok()
            && let Some(entry) = self.held_back.pop_front_if(|entry| entry.index <= through)
        {
            self.applied = (self.apply)(&entry);
        }
    }
}

pub(super) fn open(
    settings: &JournalSettings,
    folder: Folder,
    voters: Voters,
    snapshot: Applied,
    apply: &mut dyn FnMut(&LogEntry) -> Result<(), StopReason>,
) -> Result<Opened, JournalError> {
    assert!(
        settings.segment_bytes >= SEGMENT_BYTES_MIN,
        "a segment must hold a few records"
    );
    if !settings.folder.is_dir() {
        return Err(JournalError::None(settings.folder.clone()));
    }
    let (mark_file, mut mark) = MarkFile::open(&folder)?;
    let listing = folder.list()?;
    let damaged = |damage| JournalError::Damaged {
        folder: settings.folder.clone(),
        damage,
    };
    let kept = kept_segments(&folder, &listing.segments, snapshot)?;
    let jump = Place::from(snapshot).replaced();
    let jumps = mark.jump == jump && jump.index > LogIndex(0);
    if jumps && kept.ends_with_jump_to(jump) {
        // What the mark says of the log was of the one that is given up.
        mark = Mark {
            index: jump.index,
            chain: jump.chain,
            segment: 0,
            ..mark
        };
    }
    let mut scan = Scan::new(settings.identity, mark, snapshot);
    let mut entries = Entries {
        snapshot: snapshot.index,
        held_back: VecDeque::new(),
        apply,
        applied: Ok(()),
    };
    let numbers = &listing.segments[kept.first_read..];
    let scanned = scan_all(&folder, numbers, &mark, &mut scan, &mut entries);
    let holds_snapshot = scan.holds_snapshot();
    let recovered = scanned.and_then(|last_read| match scan.finish() {
        Ok(recovered) => Ok((recovered, last_read)),
        Err(damage) => Err(damaged(damage)),
    });
    let (recovered, last_read) = match recovered {
        Err(JournalError::Damaged { damage, .. }) if jumps && !holds_snapshot => {
            tracing::info!(%damage, "the journal is given up for the snapshot that came from a peer");
            let hard_state = marked_hard_state(&mark);
            return begin_anew(settings, folder, mark_file, snapshot, hard_state);
        }
        other => other?,
    };
    if voters == Voters::One {
        entries.apply_up_to(recovered.end.index);
    }
    entries.applied.clone()?;
    let suffix = entries.held_back.into();
    let current = repair(&folder, &recovered, last_read)?;
    let journal = start(settings, folder, &recovered, current, mark_file, listing, kept)?;
    let committed = match voters {
        Voters::One => recovered.end,
        Voters::Several => recovered.committed,
    };
    journal.set_committed(committed.index, committed.sequence);
    Ok(Opened {
        journal,
        recovered,
        suffix,
    })
}

/// Looks at these segments. Answers with the last one that was begun.
fn scan_all(
    folder: &Folder,
    numbers: &[u64],
    mark: &Mark,
    scan: &mut Scan,
    entries: &mut Entries<'_>,
) -> Result<Option<LastRead>, JournalError> {
    let mut last_read: Option<LastRead> = None;
    let mut buffer = Vec::new();
    for &number in numbers {
        let file = folder.open(&folder.segment(number))?;
        file.read_all(&mut buffer)?;
        let mut unproven = 0;
        let mut records = 0;
        let mut each = |seen: Seen<'_>| {
            if let Seen::Record(at, record) = &seen {
                records += 1;
                let fields = &record.fields;
                // Up to the mark's own record, which is not that of an index that was dropped.
                if fields.kind.is_entry() && (fields.index, fields.chain) == (mark.index, mark.chain) {
                    unproven = at.offset + record.bytes as u64;
                }
            }
            entries.take(&seen);
        };
        scan.segment(number, &buffer, &mut each)
            .map_err(|damage| JournalError::Damaged {
                folder: folder.path().to_owned(),
                damage,
            })?;
        if records > 0 || last_read.is_none() {
            last_read = Some(LastRead {
                number,
                file,
                bytes: std::mem::take(&mut buffer),
                unproven,
            });
        }
        entries.applied.clone()?;
    }
    Ok(last_read)
}

/// Begins the journal anew behind a snapshot that came from a peer: the node ended before it had come to that.
fn begin_anew(
    settings: &JournalSettings,
    folder: Folder,
    mark_file: MarkFile,
    snapshot: Applied,
    hard_state: HardState,
) -> Result<Opened, JournalError> {
    let place = Place::from(snapshot);
    let listing = folder.list()?;
    let old = listing.segments.clone();
    let number = old.last().map_or(1, |last| last + 1);
    let nothing = Recovered {
        end: Place::default(),
        committed: Place::default(),
        hard_state,
        tail: None,
        prepared: None,
        prepared_after: None,
    };
    // The mark goes on saying that it is to be done, until it is.
    let marked = Marked {
        hard_state,
        jump: place.replaced(),
        ..Marked::default()
    };
    let mut journal = start_with(
        settings,
        folder,
        &nothing,
        None,
        (mark_file, marked),
        listing,
        VecDeque::new(),
        number,
    )?;
    journal.begin_at(place, hard_state)?;
    for number in old {
        journal.preparer.recycler().recycle(number);
    }
    let recovered = Recovered {
        end: place,
        committed: place,
        ..nothing
    };
    Ok(Opened {
        journal,
        recovered,
        suffix: Vec::new(),
    })
}

/// The entry of a record.
pub(super) fn log_entry(record: &RecordView<'_>) -> LogEntry {
    LogEntry {
        kind: record.fields.kind,
        index: record.fields.index,
        term: record.fields.term,
        chain: record.fields.chain,
        payload: Bytes::copy_from_slice(record.payload),
    }
}

/// The segments of a folder.
struct Kept {
    /// Those that were begun, as their headers say, from the last one on with which the log begins anew.
    begun: VecDeque<Segment>,
    /// Those before that: what a snapshot from a peer replaced.
    superseded: Vec<u64>,
    /// Which of all is the first that must be read: the last one that begins at or before the snapshot.
    first_read: usize,
    /// The header of the last one that was begun.
    last: Option<SegmentHeader>,
}

impl Kept {
    fn ends_with_jump_to(&self, snapshot: Replaced) -> bool {
        self.last.is_some_and(|header| {
            matches!(header.begins, Begins::Jump(_)) && Place::before(&header).replaced() == snapshot
        })
    }
}

/// What the headers say is looked at again by the scan.
fn kept_segments(folder: &Folder, numbers: &[u64], snapshot: Applied) -> Result<Kept, JournalError> {
    let mut kept = Kept {
        begun: VecDeque::new(),
        superseded: Vec::new(),
        first_read: 0,
        last: None,
    };
    for (at, &number) in numbers.iter().enumerate() {
        let path = folder.segment(number);
        let Ok(header) = decode_segment_header(&read_header(&path)?) else {
            continue;
        };
        if header.previous_index <= snapshot.index && header.number == number {
            kept.first_read = at;
        }
        if matches!(header.begins, Begins::Jump(_)) {
            kept.superseded = numbers[..at].to_vec();
            kept.begun.clear();
        }
        let previous = Place::before(&header);
        kept.begun.push_back(Segment { number, previous });
        kept.last = Some(header);
    }
    let gap = numbers[..kept.first_read]
        .windows(2)
        .find(|pair| pair[1] != pair[0] + 1);
    if let Some(pair) = gap {
        // A snapshot covers what was in it, so nothing is lost; but readers need segments without a gap.
        tracing::warn!(
            segment = pair[0] + 1,
            "a segment that a snapshot covers is missing; older ones are not used"
        );
        kept.begun.retain(|segment| segment.number > pair[0]);
    }
    Ok(kept)
}

/// The header's page of a segment's file; less if the file is shorter.
pub(super) fn read_header(path: &std::path::Path) -> Result<Vec<u8>, DiskError> {
    use std::io::Read as _;
    let failed = |error| DiskError::new("read", path, error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut page = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    file.take(SEGMENT_HEADER_BYTES as u64)
        .read_to_end(&mut page)
        .map_err(failed)?;
    Ok(page)
}

/// Cuts what was torn, and makes sure that what was read is on the disk and not only in memory.
fn repair(
    folder: &Folder,
    recovered: &Recovered,
    last_read: Option<LastRead>,
) -> Result<Option<Current>, JournalError> {
    if let Some(prepared) = recovered.prepared.filter(|prepared| prepared.wipe) {
        tracing::warn!(
            segment = prepared.segment,
            found = %prepared.error,
            "a segment that was being begun and never acknowledged is wiped"
        );
        let file = folder.open(&folder.segment(prepared.segment))?;
        file.zero(0, file.bytes()?)?;
    }
    let (Some(Tail { at, torn }), Some(last)) = (recovered.tail, last_read) else {
        return Ok(None);
    };
    let (number, file, bytes) = if last.number == at.segment {
        // Written again, so that the sync that follows is one of these very bytes: had an earlier sync of them failed,
        // memory might hold what the disk does not.
        let range = usize::try_from(last.unproven).unwrap_or(usize::MAX)..usize::try_from(at.offset).unwrap_or(0);
        if let Some(unproven) = last.bytes.get(range) {
            last.file.write_at(unproven, last.unproven)?;
        }
        (last.number, last.file, last.bytes.len() as u64)
    } else {
        // It holds its header alone, of which the same is true.
        let path = folder.segment(at.segment);
        let (file, header) = (folder.open(&path)?, read_header(&path)?);
        file.write_at(&header, 0)?;
        let bytes = file.bytes()?;
        (at.segment, file, bytes)
    };
    if let Some(error) = torn {
        tracing::warn!(place = %at, found = %error, after_index = recovered.end.index.0,
            "what was written last was torn and never acknowledged; it is cut");
        file.zero(at.offset, bytes)?;
    }
    file.sync_all()?;
    let file_to_sync = Arc::new(folder.open(&folder.segment(number))?);
    Ok(Some(Current {
        number,
        file,
        file_to_sync,
        offset: at.offset,
        bytes,
    }))
}

fn start(
    settings: &JournalSettings,
    folder: Folder,
    recovered: &Recovered,
    current: Option<Current>,
    mut mark_file: MarkFile,
    mut listing: Listing,
    kept: Kept,
) -> Result<Journal, JournalError> {
    let marked = Marked {
        place: recovered.end,
        segment: current.as_ref().map_or(0, |current| current.number),
        hard_state: recovered.hard_state,
        jump: Replaced::default(),
    };
    mark_file.write_both(&marked)?;
    let next = current.as_ref().map_or(1, |current| current.number + 1);
    if let Some(after) = recovered.prepared_after {
        // Before the one in front of it, so that there is never a gap.
        keep(&folder, after, &mut listing.spares)?;
    }
    if recovered.prepared.is_some_and(|prepared| prepared.segment == next) {
        // Used like a retired one, so that a wrong size is noticed.
        keep(&folder, next, &mut listing.spares)?;
    }
    let begun = kept.begun.into_iter().filter(|segment| segment.number < next).collect();
    let mark = (mark_file, marked);
    let journal = start_with(settings, folder, recovered, current, mark, listing, begun, next)?;
    for number in kept.superseded {
        journal.preparer.recycler().recycle(number);
    }
    Ok(journal)
}

#[expect(clippy::too_many_arguments, reason = "all that a journal is made of")]
fn start_with(
    settings: &JournalSettings,
    folder: Folder,
    recovered: &Recovered,
    current: Option<Current>,
    (mark_file, durable): (MarkFile, Marked),
    listing: Listing,
    segments: VecDeque<Segment>,
    next_number: u64,
) -> Result<Journal, JournalError> {
    for path in &listing.unfinished {
        folder.remove(path)?;
    }
    let path = settings.folder.as_path();
    let threads = |error| DiskError::new("start a thread for", path, error);
    let mut shared = Shared::new(folder.clone(), settings.identity, settings.segment_bytes);
    shared.segments = segments.into();
    shared.quarantined = Quarantine::read(path)?.0;
    let shared = Arc::new(shared);
    shared.set_durable(recovered.end);
    let marker = Marker::start(mark_file, durable, Arc::clone(&shared)).map_err(threads)?;
    let preparer = Preparer::start(folder, settings.segment_bytes, listing.spares).map_err(threads)?;
    preparer.prepare(next_number);
    Ok(Journal {
        shared,
        preparer,
        marker,
        current,
        end: recovered.end,
        places: VecDeque::from([recovered.end]),
        next_number,
        hard_state: recovered.hard_state,
        durable,
        dirty: false,
        syncs: Syncs::default(),
        buffer: Vec::new(),
        figures: SyncFigures::default(),
    })
}

/// Keeps a segment's file for a coming one.
fn keep(folder: &Folder, number: u64, spares: &mut Vec<std::path::PathBuf>) -> Result<(), DiskError> {
    let spare = folder.new_spare(number, spares);
    folder.rename(&folder.segment(number), &spare)?;
    spares.push(spare);
    Ok(())
}

/// The damage, if that is what it is.
impl JournalError {
    /// The damage that was found, if that is what is wrong.
    pub fn damage(&self) -> Option<&Damage> {
        match self {
            Self::Damaged { damage, .. } => Some(damage),
            _ => None,
        }
    }
}
