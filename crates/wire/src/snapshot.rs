//! A snapshot file's frame: a header, the state machine's state, who belongs to the group, and a BLAKE3 hash of all.
//!
//! ```text
//!  header (192 bytes, little endian) | state (postcard) | membership | BLAKE3 of state, membership, header (32 bytes)
//! ```
//!
//! Version 1 had no membership: it is that of a lone node. Version 3 names the engine version that is in force; while that is
//! the first one, version 2 is written, which programs that know no other read.
//!
//! A reader refuses a version that it doesn't know and falls back to an older snapshot or to the journal.

use std::fmt;

use crate::membership::Membership;
use types::{ClusterId, EngineVersion, Epoch, GroupId, Incarnation, Sequence, Timestamp};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What every snapshot starts with.
pub const SNAPSHOT_MAGIC: [u8; 8] = *b"MRDNSNAP";
/// The newest version of this format that is read, and written once a later engine version than the first is in force.
pub const SNAPSHOT_VERSION: u32 = 3;
/// The version that is written until then.
const SNAPSHOT_VERSION_OF_FIRST_ENGINE: u32 = 2;
/// The oldest version that is read.
pub const SNAPSHOT_VERSION_MIN: u32 = 1;
/// Bytes of the header.
pub const SNAPSHOT_HEADER_BYTES: usize = size_of::<HeaderLayout>();
/// Bytes of the hash at the end.
pub const SNAPSHOT_HASH_BYTES: usize = 32;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HeaderLayout {
    magic: [u8; 8],
    version: U32,
    group: U16,
    cluster_id_length: u8,
    reserved: u8,
    cluster_id: [u8; 32],
    incarnation: U32,
    epoch: U32,
    last_sequence: U64,
    sequenced_at: U64,
    log_index: U64,
    term: U64,
    chain: [u8; 32],
    state_hash: U64,
    state_bytes: U64,
    membership_bytes: U32,
    engine_version: U16,
    unused: [u8; 46],
    crc: U32,
}

const _: () = assert!(SNAPSHOT_HEADER_BYTES == 192);

/// What a snapshot says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The group whose state it is.
    pub group: GroupId,
    /// The life of that group.
    pub incarnation: Incarnation,
    /// The epoch of the last batch.
    pub epoch: Epoch,
    /// The last sequence that was applied.
    pub last_sequence: Sequence,
    /// The stamp of the last batch.
    pub sequenced_at: Timestamp,
    /// The last batch's index in the replicated log.
    pub log_index: u64,
    /// The term of that index.
    pub term: u64,
    /// The journal's hash chain behind the last batch.
    pub chain: [u8; 32],
    /// The state's hash, recomputed from the whole state when the snapshot was made.
    pub state_hash: u64,
    /// Bytes of the state.
    pub state_bytes: u64,
    /// Bytes of the membership (0: that of a lone node).
    pub membership_bytes: u32,
    /// The version of the exchange's behaviour that is in force.
    pub engine_version: EngineVersion,
}

/// Why bytes are not a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// They end too early, or go on for too long.
    Length,
    /// They don't start with the magic number.
    Magic,
    /// They are of another format version.
    Version(u32),
    /// A checksum or hash doesn't agree.
    Checksum,
    /// The checksum agrees, but the content can't be.
    Content,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "it does not have the length that it should have"),
            Self::Magic => write!(f, "it does not start as a snapshot does"),
            Self::Version(version) => write!(
                f,
                "it has format version {version}; this program reads {SNAPSHOT_VERSION_MIN} to {SNAPSHOT_VERSION}"
            ),
            Self::Checksum => write!(f, "its checksum does not agree"),
            Self::Content => write!(f, "its content can't be"),
        }
    }
}

impl std::error::Error for SnapshotError {}

/// A snapshot's header.
pub fn encode_snapshot_header(info: &SnapshotInfo) -> [u8; SNAPSHOT_HEADER_BYTES] {
    let name = info.cluster_id.as_bytes();
    let mut cluster_id = [0; 32];
    cluster_id[..name.len()].copy_from_slice(name);
    let (version, engine_version) = match info.engine_version {
        EngineVersion::FIRST => (SNAPSHOT_VERSION_OF_FIRST_ENGINE, 0),
        EngineVersion(later) => (SNAPSHOT_VERSION, later),
    };
    let mut layout = HeaderLayout {
        magic: SNAPSHOT_MAGIC,
        version: version.into(),
        group: info.group.0.into(),
        cluster_id_length: u8::try_from(name.len()).expect("a cluster id has at most 32 bytes"),
        reserved: 0,
        cluster_id,
        incarnation: info.incarnation.0.into(),
        epoch: info.epoch.0.into(),
        last_sequence: info.last_sequence.0.into(),
        sequenced_at: info.sequenced_at.0.into(),
        log_index: info.log_index.into(),
        term: info.term.into(),
        chain: info.chain,
        state_hash: info.state_hash.into(),
        state_bytes: info.state_bytes.into(),
        membership_bytes: info.membership_bytes.into(),
        engine_version: engine_version.into(),
        unused: [0; 46],
        crc: 0.into(),
    };
    layout.crc = crc32c::crc32c(&layout.as_bytes()[..SNAPSHOT_HEADER_BYTES - 4]).into();
    let mut bytes = [0; SNAPSHOT_HEADER_BYTES];
    bytes.copy_from_slice(layout.as_bytes());
    bytes
}

/// Reads a snapshot's header.
pub fn decode_snapshot_header(bytes: &[u8]) -> Result<SnapshotInfo, SnapshotError> {
    let (layout, _) = HeaderLayout::ref_from_prefix(bytes).map_err(|_| SnapshotError::Length)?;
    if layout.magic != SNAPSHOT_MAGIC {
        return Err(SnapshotError::Magic);
    }
    if layout.crc.get() != crc32c::crc32c(&layout.as_bytes()[..SNAPSHOT_HEADER_BYTES - 4]) {
        return Err(SnapshotError::Checksum);
    }
    if !(SNAPSHOT_VERSION_MIN..=SNAPSHOT_VERSION).contains(&layout.version.get()) {
        return Err(SnapshotError::Version(layout.version.get()));
    }
    let name = layout.cluster_id.get(..usize::from(layout.cluster_id_length));
    let name = name.and_then(|name| std::str::from_utf8(name).ok());
    Ok(SnapshotInfo {
        cluster_id: name.and_then(|name| name.parse().ok()).ok_or(SnapshotError::Content)?,
        group: GroupId(layout.group.get()),
        incarnation: Incarnation(layout.incarnation.get()),
        epoch: Epoch(layout.epoch.get()),
        last_sequence: Sequence(layout.last_sequence.get()),
        sequenced_at: Timestamp(layout.sequenced_at.get()),
        log_index: layout.log_index.get(),
        term: layout.term.get(),
        chain: layout.chain,
        state_hash: layout.state_hash.get(),
        state_bytes: layout.state_bytes.get(),
        membership_bytes: layout.membership_bytes.get(),
        engine_version: match layout.version.get() {
            SNAPSHOT_VERSION => EngineVersion(layout.engine_version.get()),
            _ => EngineVersion::FIRST,
        },
    })
}

/// A snapshot whose hash and lengths were checked.
#[derive(Debug)]
pub struct CheckedSnapshot<'a> {
    /// Its header.
    pub info: SnapshotInfo,
    /// Its state.
    pub state: &'a [u8],
    /// Who belonged to the group; none if it was made before that was written down: the node that made it, alone.
    pub membership: Option<Membership>,
}

/// Checks a whole file's hash and lengths.
pub fn check_snapshot(bytes: &[u8]) -> Result<CheckedSnapshot<'_>, SnapshotError> {
    let info = decode_snapshot_header(bytes)?;
    let (header, rest) = bytes.split_at(SNAPSHOT_HEADER_BYTES);
    let (content, hash) = rest
        .split_last_chunk::<SNAPSHOT_HASH_BYTES>()
        .ok_or(SnapshotError::Length)?;
    let state_bytes = usize::try_from(info.state_bytes).map_err(|_| SnapshotError::Length)?;
    let (state, membership) = content.split_at_checked(state_bytes).ok_or(SnapshotError::Length)?;
    if membership.len() as u64 != u64::from(info.membership_bytes) {
        return Err(SnapshotError::Length);
    }
    let mut hasher = SnapshotHasher::default();
    hasher.update(content);
    if hasher.finish(header) != *hash {
        return Err(SnapshotError::Checksum);
    }
    let membership = match membership {
        [] => None,
        bytes => Some(Membership::decode(bytes).ok_or(SnapshotError::Content)?),
    };
    Ok(CheckedSnapshot {
        info,
        state,
        membership,
    })
}

/// The hash of a snapshot that is written piece by piece.
#[derive(Debug, Default)]
pub struct SnapshotHasher(blake3::Hasher);

impl SnapshotHasher {
    /// Takes in more of the content.
    pub fn update(&mut self, content: &[u8]) {
        self.0.update(content);
    }

    /// The hash, once all of the content and so the header are known.
    pub fn finish(mut self, header: &[u8]) -> [u8; SNAPSHOT_HASH_BYTES] {
        self.0.update(header);
        *self.0.finalize().as_bytes()
    }
}
