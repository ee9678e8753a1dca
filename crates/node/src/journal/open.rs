//! Opening: make a new journal, or find out what an existing one holds and go on from there.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use replica::recovery::{Damage, Location, Place, Recovered, Scan, Tail};
use replica::{Applied, LogEntry, StopReason};
use wire::journal::{RecordView, SEGMENT_HEADER_BYTES, decode_segment_header};

use super::files::{DiskFile, Folder};
use super::handle::{Segment, Shared};
use super::mark::{MarkFile, Marker};
use super::preparer::Preparer;
use super::writer::{Current, Journal, SyncFigures};
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

impl Journal {
    /// Opens a journal for a state that was loaded from the snapshot at `snapshot` (index 0: there is none), and hands
    /// the entries behind that to `apply`. What was torn and never acknowledged is cut. Damage leaves all as it is.
    pub fn open(
        settings: &JournalSettings,
        snapshot: Applied,
        apply: &mut dyn FnMut(&LogEntry) -> Result<(), StopReason>,
    ) -> Result<(Self, Recovered), JournalError> {
        open(settings, Folder::new(&settings.folder), snapshot, apply)
    }
}

/// The segment that the scan read last, and what of it must be written again.
struct LastRead {
    number: u64,
    file: DiskFile,
    bytes: Vec<u8>,
    /// Where what is behind the mark begins: at the file's header, if nothing in it is marked.
    unproven: u64,
}

pub(super) fn open(
    settings: &JournalSettings,
    folder: Folder,
    snapshot: Applied,
    apply: &mut dyn FnMut(&LogEntry) -> Result<(), StopReason>,
) -> Result<(Journal, Recovered), JournalError> {
    assert!(
        settings.segment_bytes >= SEGMENT_BYTES_MIN,
        "a segment must hold a few records"
    );
    if !settings.folder.is_dir() {
        return Err(JournalError::None(settings.folder.clone()));
    }
    let (mut mark_file, mark) = MarkFile::open(&folder)?;
    let listing = folder.list()?;
    let damaged = |damage| JournalError::Damaged {
        folder: settings.folder.clone(),
        damage,
    };
    let (kept, first_read) = kept_segments(&folder, &listing.segments, snapshot)?;
    let mut scan = Scan::new(settings.identity, mark, snapshot);
    let mut applied = Ok(());
    let mut last_read: Option<LastRead> = None;
    let mut buffer = Vec::new();
    for &number in &listing.segments[first_read..] {
        let file = folder.open(&folder.segment(number))?;
        file.read_all(&mut buffer)?;
        let mut unproven = 0;
        let mut records = 0;
        let mut each = |at: Location, record: &RecordView<'_>| {
            records += 1;
            let fields = &record.fields;
            if fields.kind.is_entry() && fields.index <= mark.index {
                unproven = at.offset + record.bytes as u64;
            }
            if fields.kind.is_entry() && fields.index > snapshot.index && applied.is_ok() {
                applied = apply(&log_entry(record));
            }
        };
        scan.segment(number, &buffer, &mut each).map_err(damaged)?;
        if records > 0 || last_read.is_none() {
            last_read = Some(LastRead {
                number,
                file,
                bytes: std::mem::take(&mut buffer),
                unproven,
            });
        }
        applied.clone()?;
    }
    let recovered = scan.finish().map_err(damaged)?;
    let current = repair(&folder, &recovered, last_read)?;
    mark_file.write_both(recovered.end)?;
    for path in &listing.unfinished {
        folder.remove(path)?;
    }
    let journal = start(settings, folder, &recovered, current, mark_file, listing.spares, kept)?;
    Ok((journal, recovered))
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

/// The segments that were begun, as their headers say, and which of all is the first that must be read: the last one
/// that begins at or before the snapshot. What the headers say is looked at again by the scan.
fn kept_segments(
    folder: &Folder,
    numbers: &[u64],
    snapshot: Applied,
) -> Result<(VecDeque<Segment>, usize), JournalError> {
    let mut kept = VecDeque::new();
    let mut first_read = 0;
    for (at, &number) in numbers.iter().enumerate() {
        let path = folder.segment(number);
        let Ok(header) = decode_segment_header(&read_header(&path)?) else {
            continue;
        };
        if header.previous_index <= snapshot.index && header.number == number {
            first_read = at;
        }
        let previous = Place {
            index: header.previous_index,
            term: header.previous_term,
            sequence: header.previous_sequence,
            epoch: header.previous_epoch,
            chain: header.previous_chain,
        };
        kept.push_back(Segment { number, previous });
    }
    let gap = numbers[..first_read].windows(2).find(|pair| pair[1] != pair[0] + 1);
    if let Some(pair) = gap {
        // A snapshot covers what was in it, so nothing is lost; but readers need segments without a gap.
        tracing::warn!(
            segment = pair[0] + 1,
            "a segment that a snapshot covers is missing; older ones are not used"
        );
        kept.retain(|segment| segment.number > pair[0]);
    }
    Ok((kept, first_read))
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
    Ok(Some(Current {
        number,
        file,
        offset: at.offset,
        bytes,
    }))
}

fn start(
    settings: &JournalSettings,
    folder: Folder,
    recovered: &Recovered,
    current: Option<Current>,
    mark_file: MarkFile,
    spares: Vec<std::path::PathBuf>,
    kept: VecDeque<Segment>,
) -> Result<Journal, JournalError> {
    let path = settings.folder.as_path();
    let threads = |error| DiskError::new("start a thread for", path, error);
    let next = current.as_ref().map_or(1, |current| current.number + 1);
    let mut shared = Shared::new(folder.clone(), settings.identity, settings.segment_bytes);
    shared.segments = kept
        .into_iter()
        .filter(|segment| segment.number < next)
        .collect::<VecDeque<_>>()
        .into();
    shared.quarantined = Quarantine::read(path)?.0;
    let shared = Arc::new(shared);
    shared.set_durable(recovered.end);
    let marker = Marker::start(mark_file, recovered.end, Arc::clone(&shared)).map_err(threads)?;
    let mut spares = spares;
    if let Some(after) = recovered.prepared_after {
        // Before the one in front of it, so that there is never a gap.
        keep(&folder, after, &mut spares)?;
    }
    if recovered.prepared.is_some_and(|prepared| prepared.segment == next) {
        // Used like a retired one, so that a wrong size is noticed.
        keep(&folder, next, &mut spares)?;
    }
    let preparer = Preparer::start(folder, settings.segment_bytes, spares).map_err(threads)?;
    preparer.prepare(next);
    Ok(Journal {
        shared,
        preparer,
        marker,
        current,
        end: recovered.end,
        durable: recovered.end,
        hard_state: recovered.hard_state,
        dirty: false,
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
