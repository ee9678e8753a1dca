//! What a voter of the lease group keeps on disk: one small file.
//!
//! ```text
//!  mark A, 4 KiB | mark B, 4 KiB | base | entry, term and vote, cut, ... as they came | a torn tail, perhaps
//!                                 <───────── durable, says the newer mark ──────────>
//!  mark:    "MLse" | version u32 | number u64 | durable bytes u64 | CRC-32C u32
//!  record:  length u32 | CRC-32C u32 (of length and content) | content of `length` bytes, postcard
//! ```
//!
//! Everything is little endian. What a sync was asked for is synced, then one of the marks says so and is synced too, and
//! only then does anybody hear of it. So on start what lies behind the newer mark was promised to nobody: its torn end is cut.
//! What lies before must be there. If it is not, the voter does not start: it would vote a second time in the same term.
//!
//! A voter whose file is gone can't know what it promised. Only a folder that [`found`] made and that was never used says
//! that it promised nothing; from any other the voter comes back as one that lost something (`repairing`), which neither
//! votes nor stands for election until it has what its leader has.
//!
//! When the file has grown, its state takes the place of the entries behind it, in a new file that is whole before it gets
//! the name. Its base's layout is of version 1; another one gets another number, and an older program refuses it.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use replica::{Applied, HardState, LogEntry, Record, SnapshotPoint};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use wire::journal::{Chain, Identity, LogIndex, NodeId, RecordKind, Term, crc32c};
use wire::membership::Membership;
use wire::site::LeaseState;

const FILE: &str = "lease.store";
const FILE_TO_BE: &str = "lease.store.tmp";
/// There as long as the voter was never started.
const NEVER_STARTED: &str = "never-started";
const LOCK: &str = "LOCK";

const MAGIC: [u8; 4] = *b"MLse";
const VERSION: u32 = 1;
const MARK_BYTES: usize = 28;
/// Each mark has a block of its own, so that a write of one that is cut off leaves the other as it was.
const MARK_EVERY: u64 = 4_096;
const RECORDS_FROM: u64 = 2 * MARK_EVERY;
const RECORD_HEADER_BYTES: usize = 8;
/// Bytes of a record's content: an entry is a batch of a few commands, a base has `EPOCHS_MAX` epochs at most.
const RECORD_BYTES_MAX: usize = 4 << 20;
/// Bytes from which on the file is made anew, and
const COMPACT_FROM: u64 = 1 << 20;
/// by how much it must have grown since it was.
const COMPACT_GROWTH: u64 = 2;

/// Why a store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk said no.
    #[error("{action} {}: {error}", path.display())]
    Io {
        /// To do what.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the disk said.
        error: io::Error,
    },
    /// Another process uses it.
    #[error("use the lease voter's folder {}: another process uses it", .0.display())]
    InUse(PathBuf),
    /// There is something in the folder that is to be a new voter's.
    #[error(
        "make the folder {} for a new lease voter: there is something in it already, so it may have voted; nothing was \
         changed. Start it as it is: it comes back by what the others have",
        .0.display()
    )]
    NotNew(PathBuf),
    /// Something that was promised to be kept is not there.
    #[error(
        "use {}: it is damaged at byte {offset} ({reason}), in what this voter had promised to keep. Move the file away, \
         keep it, and start again: the voter then comes back without a vote, takes what it lacks from the other two, which \
         must both run, and votes again by itself",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From where on.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// It is of a newer program.
    #[error("use {}: it is of version {found}, and this program knows version {VERSION}: upgrade it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It is another voter's.
    #[error("use {}: it is of {found}, and this is {expected}: check [cluster] and [sites]", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
}

/// What a voter begins with.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Where the state stands, and who votes.
    pub point: SnapshotPoint,
    /// The state.
    pub state: LeaseState,
    /// Term and vote.
    pub hard_state: HardState,
    /// Up to here the log is known to be committed.
    pub committed: LogIndex,
    /// The log behind the state.
    pub suffix: Vec<LogEntry>,
    /// True if it may have lost something that it promised.
    pub repairing: bool,
}

/// The store of a voter, which this process alone uses.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    identity: Identity,
    file: File,
    /// Unlocked when it is closed, by the kernel if need be.
    _lock: File,
    /// Where the next record goes.
    end: u64,
    /// The number of the newer mark.
    mark: u64,
    /// How large the file was when it was made.
    made_with: u64,
    hard_state: HardState,
    committed: LogIndex,
    /// The entries behind the base.
    entries: VecDeque<Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Content {
    Base(Box<Base>),
    Entry(Entry),
    HardState {
        term: Term,
        vote: NodeId,
        committed: LogIndex,
    },
    Cut {
        after: LogIndex,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Base {
    identity: Identity,
    repairing: bool,
    point: SnapshotPoint,
    state: LeaseState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    kind: u8,
    index: LogIndex,
    term: Term,
    chain: Chain,
    payload: Vec<u8>,
}

/// The name of a node's folder for it.
pub const LEASE: &str = "lease";

/// Makes the folder of a voter that is new, so that it may vote at once. Only for one that never ran: two of the three
/// begin the group with it, the third may.
///
/// # Errors
/// If there is anything in the folder, or the disk says no.
pub fn found(folder: &Path) -> Result<(), StoreError> {
    make_folder(folder)?;
    let mut entries = std::fs::read_dir(folder).map_err(|error| failed("list", folder, error))?;
    if entries.next().is_some() {
        return Err(StoreError::NotNew(folder.to_owned()));
    }
    let marker = folder.join(NEVER_STARTED);
    File::create(&marker).map_err(|error| failed("make", &marker, error))?;
    sync_folder(folder)
}

impl Store {
    /// Opens the store of this voter, and makes it if it is not there.
    pub fn open(folder: &Path, identity: Identity, voters: &Membership) -> Result<(Self, Kept), StoreError> {
        make_folder(folder)?;
        let lock = lock(folder)?;
        let (path, marker) = (folder.join(FILE), folder.join(NEVER_STARTED));
        if !path.exists() {
            let base = Base {
                identity,
                repairing: !marker.exists(),
                point: SnapshotPoint {
                    applied: Applied::default(),
                    membership: voters.clone(),
                },
                state: LeaseState::default(),
            };
            if base.repairing {
                tracing::warn!(
                    folder = %folder.display(),
                    "this voter of the lease group has no store, so it may have lost what it promised: it votes once it has \
                     what the others have"
                );
            }
            make_file(folder, &bytes_of(&[Content::Base(Box::new(base))]))?;
        }
        if marker.exists() {
            std::fs::remove_file(&marker).map_err(|error| failed("remove", &marker, error))?;
            sync_folder(folder)?;
        }
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let file = opened.map_err(|error| failed("open", &path, error))?;
        let bytes = std::fs::read(&path).map_err(|error| failed("read", &path, error))?;
        let read = read(&path, &bytes)?;
        let mut kept = Replay::of(&path, read.contents)?;
        kept.check(&path, identity, voters)?;
        let mut store = Self {
            folder: folder.to_owned(),
            identity,
            file,
            _lock: lock,
            end: read.end,
            mark: read.mark,
            made_with: read.end,
            hard_state: kept.hard_state,
            committed: kept.committed,
            entries: std::mem::take(&mut kept.entries),
        };
        store.cut(bytes.len() as u64)?;
        let suffix = store.entries.iter().map(Entry::log_entry).collect();
        let Base {
            point,
            state,
            repairing,
            ..
        } = kept.base;
        let kept = Kept {
            point,
            state,
            hard_state: store.hard_state,
            committed: store.committed,
            suffix,
            repairing,
        };
        Ok((store, kept))
    }

    /// Writes records behind the others. They are durable after [`Self::sync`].
    pub fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut contents = Vec::with_capacity(records.len());
        for record in records {
            if record.kind == RecordKind::HardState {
                let (vote, committed) = vote_and_commit(&record.payload);
                self.hard_state = HardState {
                    term: record.term,
                    vote,
                };
                self.committed = self.committed.max(committed);
                contents.push(self.hard_state());
            } else {
                let entry = Entry::of(record);
                self.entries.push_back(entry.clone());
                contents.push(Content::Entry(entry));
            }
        }
        self.write(&contents)
    }

    /// Says that the entries behind this one are void.
    pub fn truncate(&mut self, after: LogIndex) -> Result<(), StoreError> {
        while self.entries.back().is_some_and(|entry| entry.index > after) {
            self.entries.pop_back();
        }
        self.write(&[Content::Cut { after }])
    }

    /// Makes all of it durable.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.sync_file()?;
        let mark = mark_of(self.mark + 1, self.end);
        let at = (self.mark + 1) % 2 * MARK_EVERY;
        self.file
            .write_all_at(&mark, at)
            .map_err(|error| self.failed("write", error))?;
        self.sync_file()?;
        self.mark += 1;
        Ok(())
    }

    /// True if the file has grown enough to be made anew.
    pub fn is_large(&self) -> bool {
        self.end >= COMPACT_FROM && self.end >= self.made_with * COMPACT_GROWTH
    }

    /// Puts the state at an entry that the store has in the place of the entries up to it. Afterwards all is durable.
    pub fn compact(&mut self, point: SnapshotPoint, state: LeaseState, repairing: bool) -> Result<(), StoreError> {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.index <= point.applied.index)
        {
            self.entries.pop_front();
        }
        self.committed = self.committed.max(point.applied.index);
        self.make_anew(point, state, repairing)
    }

    /// Puts another voter's state in the place of everything. Afterwards it is durable.
    pub fn install(
        &mut self,
        point: SnapshotPoint,
        state: LeaseState,
        hard_state: HardState,
        repairing: bool,
    ) -> Result<(), StoreError> {
        self.entries.clear();
        self.hard_state = hard_state;
        self.committed = point.applied.index;
        self.make_anew(point, state, repairing)
    }

    fn make_anew(&mut self, point: SnapshotPoint, state: LeaseState, repairing: bool) -> Result<(), StoreError> {
        let base = Base {
            identity: self.identity,
            repairing,
            point,
            state,
        };
        let mut contents = vec![Content::Base(Box::new(base)), self.hard_state()];
        contents.extend(self.entries.iter().cloned().map(Content::Entry));
        let bytes = bytes_of(&contents);
        self.file = make_file(&self.folder, &bytes)?;
        self.end = bytes.len() as u64;
        self.made_with = self.end;
        self.mark = 0;
        Ok(())
    }

    fn hard_state(&self) -> Content {
        Content::HardState {
            term: self.hard_state.term,
            vote: self.hard_state.vote,
            committed: self.committed,
        }
    }

    /// Cuts what is torn, and marks the rest.
    fn cut(&mut self, bytes: u64) -> Result<(), StoreError> {
        if bytes > self.end {
            tracing::warn!(
                bytes = bytes - self.end,
                "the end of the lease voter's store was never promised and is torn; it is cut"
            );
            self.file
                .set_len(self.end)
                .map_err(|error| self.failed("shorten", error))?;
        }
        self.sync()
    }

    fn write(&mut self, contents: &[Content]) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        contents.iter().for_each(|content| content.encode(&mut bytes));
        self.file
            .write_all_at(&bytes, self.end)
            .map_err(|error| self.failed("write", error))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn sync_file(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| self.failed("sync", error))
    }

    fn failed(&self, action: &'static str, error: io::Error) -> StoreError {
        failed(action, &self.folder.join(FILE), error)
    }
}

impl Content {
    fn encode(&self, bytes: &mut Vec<u8>) {
        let content = postcard::to_allocvec(self).expect("plain data can always be written");
        let length = u32::try_from(content.len()).expect("a record is small");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&record_crc(length, &content).to_le_bytes());
        bytes.extend_from_slice(&content);
    }
}

impl Entry {
    fn of(record: &Record) -> Self {
        Self {
            kind: record.kind as u8,
            index: record.index,
            term: record.term,
            chain: record.chain,
            payload: record.payload.to_vec(),
        }
    }

    fn log_entry(&self) -> LogEntry {
        LogEntry {
            kind: kind_of(self.kind).expect("it was looked at when it was read"),
            index: self.index,
            term: self.term,
            chain: self.chain,
            payload: Bytes::from(self.payload.clone()),
        }
    }
}

/// The kind of an entry.
fn kind_of(number: u8) -> Option<RecordKind> {
    let kinds = [
        RecordKind::Batch,
        RecordKind::Empty,
        RecordKind::ConfChange,
        RecordKind::ConfChangeV2,
    ];
    kinds.into_iter().find(|kind| *kind as u8 == number)
}

/// As the replica writes them.
fn vote_and_commit(payload: &[u8]) -> (NodeId, LogIndex) {
    let number = |from: usize| {
        let bytes = payload.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.expect("a term's record has a vote and a commit index"))
    };
    (NodeId(number(0)), LogIndex(number(8)))
}

/// What the records come to.
struct Replay {
    base: Base,
    hard_state: HardState,
    committed: LogIndex,
    entries: VecDeque<Entry>,
}

impl Replay {
    fn of(path: &Path, contents: Vec<(u64, Content)>) -> Result<Self, StoreError> {
        let damaged = |offset, reason| StoreError::Damaged {
            path: path.to_owned(),
            offset,
            reason,
        };
        let mut contents = contents.into_iter();
        let Some((_, Content::Base(base))) = contents.next() else {
            return Err(damaged(RECORDS_FROM, "it does not begin with a state"));
        };
        let mut replay = Self {
            hard_state: HardState::default(),
            committed: base.point.applied.index,
            entries: VecDeque::new(),
            base: *base,
        };
        for (offset, content) in contents {
            match content {
                Content::Base(_) => return Err(damaged(offset, "there is a second state")),
                Content::Entry(entry) => {
                    if entry.index != replay.last().next() || kind_of(entry.kind).is_none() {
                        return Err(damaged(offset, "an entry does not follow"));
                    }
                    replay.entries.push_back(entry);
                }
                Content::HardState { term, vote, committed } => {
                    replay.hard_state = HardState { term, vote };
                    replay.committed = replay.committed.max(committed);
                }
                Content::Cut { after } => {
                    if after < replay.base.point.applied.index {
                        return Err(damaged(offset, "what was committed is void"));
                    }
                    replay.entries.retain(|entry| entry.index <= after);
                }
            }
        }
        Ok(replay)
    }

    fn last(&self) -> LogIndex {
        let last = self.entries.back().map(|entry| entry.index);
        last.unwrap_or(self.base.point.applied.index)
    }

    fn check(&self, path: &Path, identity: Identity, voters: &Membership) -> Result<(), StoreError> {
        let named = |identity: &Identity, voters: &Membership| {
            let voters: Vec<String> = voters.voters().map(|voter| voter.to_string()).collect();
            let Identity { cluster, node, .. } = identity;
            format!(
                "node {node} of cluster {cluster}, with the voters {}",
                voters.join(", ")
            )
        };
        if self.base.identity == identity && self.base.point.membership == *voters {
            return Ok(());
        }
        Err(StoreError::Foreign {
            path: path.to_owned(),
            found: named(&self.base.identity, &self.base.point.membership),
            expected: named(&identity, voters),
        })
    }
}

/// What was read of a file.
struct FileRead {
    contents: Vec<(u64, Content)>,
    /// Where the last whole record ends.
    end: u64,
    mark: u64,
}

fn read(path: &Path, bytes: &[u8]) -> Result<FileRead, StoreError> {
    let damaged = |offset, reason| StoreError::Damaged {
        path: path.to_owned(),
        offset,
        reason,
    };
    let marks = [0, MARK_EVERY].map(|at| read_mark(bytes, at));
    let newest = marks.iter().flatten().max_by_key(|mark| mark.number);
    let Some(mark) = newest else {
        return Err(damaged(0, "neither of its marks can be read"));
    };
    if mark.version != VERSION {
        let (path, found) = (path.to_owned(), mark.version);
        return Err(StoreError::Newer { path, found });
    }
    let (mut contents, mut offset) = (Vec::new(), RECORDS_FROM);
    while let Some((content, next)) = read_record(bytes, offset) {
        contents.push((offset, content));
        offset = next;
    }
    if offset < mark.durable {
        return Err(damaged(offset, "no record can be read there"));
    }
    Ok(FileRead {
        contents,
        end: offset,
        mark: mark.number,
    })
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    version: u32,
    number: u64,
    durable: u64,
}

fn read_mark(bytes: &[u8], at: u64) -> Option<Mark> {
    let at = usize::try_from(at).ok()?;
    let bytes = bytes.get(at..at + MARK_BYTES)?;
    let (front, crc) = bytes.split_at(MARK_BYTES - 4);
    if front[..4] != MAGIC || crc32c(front) != u32::from_le_bytes(crc.try_into().ok()?) {
        return None;
    }
    Some(Mark {
        version: u32::from_le_bytes(front[4..8].try_into().ok()?),
        number: u64::from_le_bytes(front[8..16].try_into().ok()?),
        durable: u64::from_le_bytes(front[16..24].try_into().ok()?),
    })
}

fn mark_of(number: u64, durable: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&durable.to_le_bytes());
    bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
    bytes
}

fn read_record(bytes: &[u8], offset: u64) -> Option<(Content, u64)> {
    let at = usize::try_from(offset).ok()?;
    let header = bytes.get(at..at + RECORD_HEADER_BYTES)?;
    let (length, crc) = header.split_at(4);
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let count = usize::try_from(length).ok()?;
    if count == 0 || count > RECORD_BYTES_MAX {
        return None;
    }
    let from = at + RECORD_HEADER_BYTES;
    let content = bytes.get(from..from + count)?;
    if record_crc(length, content) != u32::from_le_bytes(crc.try_into().ok()?) {
        return None;
    }
    match postcard::take_from_bytes(content) {
        Ok((content, [])) => Some((content, (from + count) as u64)),
        _ => None,
    }
}

fn record_crc(length: u32, content: &[u8]) -> u32 {
    wire::journal::crc32c_append(crc32c(&length.to_le_bytes()), content)
}

/// A whole file.
fn bytes_of(contents: &[Content]) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(RECORDS_FROM).expect("it is small")];
    contents.iter().for_each(|content| content.encode(&mut bytes));
    let mark = mark_of(0, bytes.len() as u64);
    bytes[..MARK_BYTES].copy_from_slice(&mark);
    bytes
}

/// Makes the file, or puts this one in its place: the name is given to what is whole and durable.
fn make_file(folder: &Path, bytes: &[u8]) -> Result<File, StoreError> {
    let (path, to_be) = (folder.join(FILE), folder.join(FILE_TO_BE));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&to_be).map_err(|error| failed("make", &to_be, error))?;
    let written = file.write_all_at(bytes, 0).and_then(|()| file.sync_all());
    written.map_err(|error| failed("write", &to_be, error))?;
    std::fs::rename(&to_be, &path).map_err(|error| failed("rename", &to_be, error))?;
    sync_folder(folder)?;
    Ok(file)
}

fn make_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| failed("make", folder, error))?;
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => Ok(()),
    }
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(&path).map_err(|error| failed("open", &path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse(folder.to_owned())),
        Err(error) => Err(failed("lock", &path, error.into())),
    }
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed("sync the folder", folder, error))
}

fn failed(action: &'static str, path: &Path, error: io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests;
