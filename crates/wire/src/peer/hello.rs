//! How a connection begins: who each side is and what it understands, or why they part.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use types::{ClusterId, GroupId, Incarnation, Sequence, ShortText, TextError, Timestamp};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::FrameError;
use super::cursor::Cursor;
use crate::journal::NodeId;

/// The most bytes of the payload of a hello or a refusal, also of those of later versions.
pub const HELLO_BYTES_MAX: usize = 1 << 10;
/// The most bytes of a program's version.
pub const PROGRAM_VERSION_BYTES_MAX: usize = 64;
/// The most bytes of a refusal's text.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 512;

const _: () = assert!(size_of::<HelloLayout>() + size_of::<QuarantinedLayout>() <= HELLO_BYTES_MAX);
const _: () = assert!(size_of::<RefusalLayout>() + REFUSAL_TEXT_BYTES_MAX <= HELLO_BYTES_MAX);

/// What every hello starts with.
const MAGIC: [u8; 4] = *b"MPrL";

/// A program's version, such as `0.1.0`.
pub type ProgramVersion = ShortText<PROGRAM_VERSION_BYTES_MAX>;

/// Takes a program's version: printable ASCII without blanks.
pub fn program_version(text: &str) -> Result<ProgramVersion, TextError> {
    ShortText::new(text, |byte| byte.is_ascii_graphic())
}

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// It has a journal, and may vote.
    Node = 1,
    /// It takes clients' connections and has no journal.
    Gateway = 2,
    /// It votes on which region is active, and does nothing else.
    Witness = 3,
}

impl Role {
    /// All of them.
    const ALL: [Self; 3] = [Self::Node, Self::Gateway, Self::Witness];

    /// Its name in certificates and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Gateway => "gateway",
            Self::Witness => "witness",
        }
    }

    /// The role of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The newest versions that a node can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadableVersions {
    /// Of the journal's records.
    pub journal: u16,
    /// Of batches.
    pub batch: u16,
    /// Of snapshots.
    pub snapshot: u16,
    /// Of the exchange's rules.
    pub engine: u16,
}

/// Which commands a node has quarantined, in short: two nodes whose lists differ say different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// How many.
    pub count: u32,
    /// The last of them (0: none).
    pub last: Sequence,
    /// The beginning of the BLAKE3 hash of all of their sequences.
    pub digest: u64,
}

impl Quarantined {
    /// In short, these.
    pub fn of(sequences: &BTreeSet<Sequence>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for sequence in sequences {
            hasher.update(&sequence.0.to_le_bytes());
        }
        let mut digest = [0; 8];
        hasher.finalize_xof().fill(&mut digest);
        Self {
            count: u32::try_from(sequences.len()).unwrap_or(u32::MAX),
            last: sequences.last().copied().unwrap_or(Sequence(0)),
            digest: u64::from_le_bytes(digest),
        }
    }
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            0 => f.write_str("no command"),
            1 => write!(f, "the command at sequence {}", self.last),
            count => write!(f, "{count} commands, the last one at sequence {}", self.last),
        }
    }
}

/// Who a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest protocol version that it speaks.
    pub protocol_min: u16,
    /// The newest one.
    pub protocol_max: u16,
    /// What else it reads.
    pub reads: ReadableVersions,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its group.
    pub group: GroupId,
    /// Which life of the group.
    pub incarnation: Incarnation,
    /// Itself.
    pub node: NodeId,
    /// What it is for.
    pub role: Role,
    /// The program that it runs.
    pub program: ProgramVersion,
    /// Its clock when it said so.
    pub sent_at: Timestamp,
    /// Which commands it has quarantined; none: its program is of before that was said.
    pub quarantined: Option<Quarantined>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct HelloLayout {
    magic: [u8; 4],
    protocol_min: U16,
    protocol_max: U16,
    journal: U16,
    batch: U16,
    snapshot: U16,
    engine: U16,
    group: U16,
    role: u8,
    cluster_length: u8,
    incarnation: U32,
    node: U64,
    sent_at: U64,
    cluster: [u8; 32],
    program_length: u8,
    program: [u8; PROGRAM_VERSION_BYTES_MAX],
}

/// What follows since it is said which commands were quarantined.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct QuarantinedLayout {
    count: U32,
    last: U64,
    digest: U64,
}

impl Hello {
    /// The newest version that both sides speak.
    pub fn common_protocol(&self, other: &Self) -> Option<u16> {
        let newest = self.protocol_max.min(other.protocol_max);
        (newest >= self.protocol_min.max(other.protocol_min)).then_some(newest)
    }

    pub(super) fn encoded_bytes(&self) -> usize {
        let quarantined = self.quarantined.map_or(0, |_| size_of::<QuarantinedLayout>());
        size_of::<HelloLayout>() + quarantined
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let layout = HelloLayout {
            magic: MAGIC,
            protocol_min: self.protocol_min.into(),
            protocol_max: self.protocol_max.into(),
            journal: self.reads.journal.into(),
            batch: self.reads.batch.into(),
            snapshot: self.reads.snapshot.into(),
            engine: self.reads.engine.into(),
            group: self.group.0.into(),
            role: self.role as u8,
            cluster_length: text_length(self.cluster.as_str()),
            incarnation: self.incarnation.0.into(),
            node: self.node.0.into(),
            sent_at: self.sent_at.0.into(),
            cluster: padded(self.cluster.as_str()),
            program_length: text_length(self.program.as_str()),
            program: padded(self.program.as_str()),
        };
        out.extend_from_slice(layout.as_bytes());
        if let Some(quarantined) = self.quarantined {
            let layout = QuarantinedLayout {
                count: quarantined.count.into(),
                last: quarantined.last.0.into(),
                digest: quarantined.digest.into(),
            };
            out.extend_from_slice(layout.as_bytes());
        }
    }

    /// What follows what this version knows is of a later version, and is passed over.
    pub(super) fn decode(payload: Bytes) -> Result<Self, FrameError> {
        let mut cursor = Cursor::new(payload);
        let layout: HelloLayout = cursor.layout()?;
        // Older programs end here; half of what follows is nobody's.
        let quarantined = match cursor.remaining() {
            0 => None,
            _ => Some(cursor.layout::<QuarantinedLayout>()?),
        };
        if layout.magic != MAGIC {
            return Err(FrameError::Content("a hello of something else"));
        }
        let cluster = text(&layout.cluster, layout.cluster_length);
        let cluster = cluster.and_then(|text| text.parse().ok());
        let program = text(&layout.program, layout.program_length);
        let program = program.and_then(|text| program_version(text).ok());
        let role = Role::ALL.into_iter().find(|role| *role as u8 == layout.role);
        if layout.protocol_min.get() > layout.protocol_max.get() {
            return Err(FrameError::Content("a hello whose oldest version is above its newest"));
        }
        Ok(Self {
            protocol_min: layout.protocol_min.get(),
            protocol_max: layout.protocol_max.get(),
            reads: ReadableVersions {
                journal: layout.journal.get(),
                batch: layout.batch.get(),
                snapshot: layout.snapshot.get(),
                engine: layout.engine.get(),
            },
            cluster: cluster.ok_or(FrameError::Content("a hello with a cluster that can't be"))?,
            group: GroupId(layout.group.get()),
            incarnation: Incarnation(layout.incarnation.get()),
            node: NodeId(layout.node.get()),
            role: role.ok_or(FrameError::Content("a hello with a role that there isn't"))?,
            program: program.ok_or(FrameError::Content("a hello with a version that can't be"))?,
            sent_at: Timestamp(layout.sent_at.get()),
            quarantined: quarantined.map(|layout| Quarantined {
                count: layout.count.get(),
                last: Sequence(layout.last.get()),
                digest: layout.digest.get(),
            }),
        })
    }
}

fn text_length(text: &str) -> u8 {
    u8::try_from(text.len()).expect("short texts are shorter than 256 bytes")
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    bytes
}

fn text(bytes: &[u8], length: u8) -> Option<&str> {
    std::str::from_utf8(bytes.get(..usize::from(length))?).ok()
}

/// Why two nodes have nothing to say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// They are of different clusters.
    OtherCluster,
    /// They are of different groups.
    OtherGroup,
    /// They are of different lives of the group.
    OtherIncarnation,
    /// There is no protocol version that both speak.
    NoCommonVersion,
    /// What it says of itself is not what its certificate says.
    NotItsCertificate,
    /// It is no member of the group.
    NotAMember,
    /// It is not the node that was called.
    NotWhoWasCalled,
    /// A version of the exchange's behaviour is in force that it doesn't know.
    EngineVersion,
    /// They have quarantined different commands.
    OtherQuarantine,
    /// Something that this version has no word for.
    Other(u16),
}

impl RefusalCode {
    fn number(self) -> u16 {
        match self {
            Self::OtherCluster => 1,
            Self::OtherGroup => 2,
            Self::OtherIncarnation => 3,
            Self::NoCommonVersion => 4,
            Self::NotItsCertificate => 5,
            Self::NotAMember => 6,
            Self::NotWhoWasCalled => 7,
            Self::EngineVersion => 8,
            Self::OtherQuarantine => 9,
            Self::Other(number) => number,
        }
    }

    fn from_number(number: u16) -> Self {
        match number {
            1 => Self::OtherCluster,
            2 => Self::OtherGroup,
            3 => Self::OtherIncarnation,
            4 => Self::NoCommonVersion,
            5 => Self::NotItsCertificate,
            6 => Self::NotAMember,
            7 => Self::NotWhoWasCalled,
            8 => Self::EngineVersion,
            9 => Self::OtherQuarantine,
            other => Self::Other(other),
        }
    }
}

/// Why a connection ends, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people.
    pub text: String,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RefusalLayout {
    code: U16,
    text_bytes: U16,
}

impl Refusal {
    pub(super) fn encoded_bytes(&self) -> usize {
        size_of::<RefusalLayout>() + self.text.len()
    }

    pub(super) fn check(&self) -> Result<(), FrameError> {
        if self.text.len() > REFUSAL_TEXT_BYTES_MAX {
            return Err(FrameError::Content("a refusal whose text is too long"));
        }
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let text_bytes = u16::try_from(self.text.len()).expect("it was checked");
        let layout = RefusalLayout {
            code: self.code.number().into(),
            text_bytes: text_bytes.into(),
        };
        out.extend_from_slice(layout.as_bytes());
        out.extend_from_slice(self.text.as_bytes());
    }

    /// As with a hello, what follows is of a later version.
    pub(super) fn decode(payload: Bytes) -> Result<Self, FrameError> {
        let mut cursor = Cursor::new(payload);
        let layout: RefusalLayout = cursor.layout()?;
        let text = cursor.bytes(usize::from(layout.text_bytes.get()))?;
        let text = std::str::from_utf8(&text).map_err(|_| FrameError::Content("a refusal whose text is not UTF-8"))?;
        let refusal = Self {
            code: RefusalCode::from_number(layout.code.get()),
            text: text.to_owned(),
        };
        refusal.check()?;
        Ok(refusal)
    }
}
