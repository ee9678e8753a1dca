//! A new life of a region's group: what the other region's log does not have is void, kept as evidence, and taken out of
//! everything that was made from the journal.
//!
//! ```text
//!  void-1/  <── journal/                        the whole journal of the life that ended
//!           <── each part made from it: what lies behind the last sequence that holds
//!  data     ──> the founder: the state at that sequence, as its group's only member
//!               the others:  nothing; the founder takes them in again, and sends them a snapshot
//! ```
//!
//! A marker says that it is under way and is taken away last, so that a start after a crash goes on with it. Whatever is
//! made from the journal is listed in `DERIVED`, each with how it is rolled back.

use std::io;
use std::path::{Path, PathBuf};

use engine::Exchange;
use gateway::handle::MemberStatus;
use replica::recovery::Place;
use replica::{Applied, Applier, HardState};
use serde::{Deserialize, Serialize};
use types::{Incarnation, Sequence, StateMachine as _};
use wire::journal::{Identity, NodeId};
use wire::membership::Role;
use wire::snapshot::{SNAPSHOT_HEADER_BYTES, SnapshotInfo, decode_snapshot_header};

use crate::assembly::StartError;
use crate::config::Config;
use crate::data_folder::{DataFolder, DataFolderError};
use crate::event_log;
use crate::journal::{self, Journal, JournalReader, JournalSettings};
use crate::recovery::journal_settings;
use crate::replay::{applied_of, start_of};
use crate::snapshots::SnapshotFolder;

/// The file that is there while a new life is being begun.
const MARKER: &str = "NEXT_LIFE";
/// The file that names the nodes that the founder takes in again.
pub const MEMBERS: &str = "MEMBERS_TO_TAKE_IN";
/// What the folders of void journals are called, with the life behind it.
pub const VOID: &str = "void-";
/// The file in such a folder that says what is void.
pub const VOID_FILE: &str = "void.json";

/// A life that begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextLife {
    /// The one that ends.
    pub ended: u32,
    /// The one that begins.
    pub incarnation: u32,
    /// The node that it begins with.
    pub founder: u64,
    /// The last sequence that holds.
    pub kept: u64,
    /// The last sequence that this node's log had.
    pub had: u64,
    /// The members of the group when it ended, to be taken in again.
    #[serde(default)]
    pub members: Vec<FormerMember>,
}

/// A member of the group that was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerMember {
    /// Its id.
    pub node: u64,
    /// Where its peers reach it.
    pub address: String,
    /// True of one that takes clients alone.
    pub gateway: bool,
}

/// Rolls one thing that is made from the journal back to a sequence, keeping what goes in a folder. Called again after a
/// crash, with part of it done.
type RollBack = fn(&DataFolder, &Path, &NextLife) -> io::Result<()>;

/// All that is made from the journal.
const DERIVED: &[(&str, RollBack)] = &[("snapshots", roll_back_snapshots), ("events", roll_back_events)];

impl NextLife {
    /// The life that follows on this one, for a node that had `had`.
    pub fn new(identity: &Identity, life: Incarnation, founder: NodeId, kept: Sequence, had: Sequence) -> Self {
        Self {
            ended: identity.incarnation.0,
            incarnation: life.0,
            founder: founder.0,
            kept: kept.0,
            had: had.0,
            members: Vec::new(),
        }
    }

    /// The same with who belonged to the group.
    pub fn with_members(mut self, members: &[MemberStatus]) -> Self {
        let members = members.iter().map(|member| FormerMember {
            node: member.node.0,
            address: member.address.clone(),
            gateway: member.role == Role::Gateway,
        });
        self.members = members.collect();
        self
    }

    /// Says durably that this life begins: from here on a start goes on with it.
    pub fn announce(&self, folder: &DataFolder) -> Result<(), DataFolderError> {
        let text = json_of(self, &folder.file(MARKER))?;
        folder.write(MARKER, text.as_bytes(), 0o600)
    }
}

fn json_of(life: &NextLife, path: &Path) -> Result<String, DataFolderError> {
    serde_json::to_string_pretty(life).map_err(|error| DataFolderError::Io {
        path: path.to_owned(),
        error: io::Error::other(error),
    })
}

/// Begins the life that was announced, if one was. Gives who the node is from then on.
///
/// # Errors
/// The disk. It can be called again, and goes on where it was.
pub fn go_on(folder: &DataFolder, identity: Identity, config: &Config) -> Result<Identity, StartError> {
    let Some(text) = folder.read(MARKER)? else {
        return Ok(identity);
    };
    let marker = folder.file(MARKER);
    let life: NextLife = serde_json::from_str(&text).map_err(|error| DataFolderError::Damaged {
        path: marker.clone(),
        reason: error.to_string(),
    })?;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| StartError::Folder(DataFolderError::Io { path, error })
    };
    tracing::warn!(
        incarnation = life.incarnation,
        founder = life.founder,
        kept = life.kept,
        had = life.had,
        "the group begins a new life; what is void is kept as evidence"
    );
    let void = folder.file(&format!("{VOID}{}", life.ended));
    std::fs::create_dir_all(&void).map_err(io(&void))?;
    let next = Identity {
        incarnation: Incarnation(life.incarnation),
        ..identity
    };
    // As long as the folder belongs to the life that ended, its journal is that one's.
    if folder.read_identity()?.incarnation != next.incarnation {
        let what = json_of(&life, &void)?;
        folder.write(&format!("{VOID}{}/{VOID_FILE}", life.ended), what.as_bytes(), 0o600)?;
        if folder.journal().exists() && !void.join("journal").exists() {
            std::fs::rename(folder.journal(), void.join("journal")).map_err(io(&void))?;
        }
        for (what, roll_back) in DERIVED {
            roll_back(folder, &void, &life).map_err(io(&folder.file(what)))?;
        }
        std::fs::File::open(&void)
            .and_then(|void| void.sync_all())
            .map_err(io(&void))?;
        begin(folder, &next, &life, &void, config)?;
        folder.finish_founded(&next, NodeId(life.founder))?;
    }
    std::fs::remove_file(&marker).map_err(io(&marker))?;
    Ok(next)
}

/// The journal of the new life, and of its founder the snapshot that it begins with.
fn begin(
    folder: &DataFolder,
    next: &Identity,
    life: &NextLife,
    void: &Path,
    config: &Config,
) -> Result<(), StartError> {
    let settings = journal_settings(folder, *next, config);
    // A crash may have left one that is not finished.
    match std::fs::remove_dir_all(&settings.folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let path = settings.folder.clone();
            return Err(DataFolderError::Io { path, error }.into());
        }
        _ => {}
    }
    journal::create(&settings)?;
    let quarantine = journal::Quarantine::read(&void.join("journal"))?;
    let mut kept = journal::Quarantine::default();
    for sequence in quarantine.0.iter().filter(|sequence| sequence.0 <= life.kept) {
        kept.add(&settings.folder, *sequence)?;
    }
    if next.node != NodeId(life.founder) {
        return Ok(());
    }
    let others: Vec<&FormerMember> = life
        .members
        .iter()
        .filter(|member| member.node != next.node.0)
        .collect();
    #[derive(Serialize)]
    struct Members<'a> {
        members: Vec<&'a FormerMember>,
    }
    let text =
        serde_json::to_string_pretty(&Members { members: others }).map_err(|error| DataFolderError::Damaged {
            path: folder.file(MEMBERS),
            reason: error.to_string(),
        })?;
    if life.members.iter().any(|member| member.node != next.node.0) {
        folder.write(MEMBERS, text.as_bytes(), 0o600)?;
    }
    let founder = NodeId(life.founder);
    // Those of the life that ended hold too, up to where it does.
    let former = SnapshotFolder {
        folder: folder.snapshots(),
        identity: Identity {
            incarnation: Incarnation(life.ended),
            ..*next
        },
        founder,
    };
    let own = SnapshotFolder {
        identity: *next,
        ..former.clone()
    };
    // One that was made already by a beginning that was cut off.
    let made = start_of::<Exchange>(&own_or(&own, &former), Sequence(life.kept))?;
    let (machine, applied, membership) = made;
    let mut applier = Applier::new(&former.identity, machine, applied, membership, quarantine.0);
    if let Err(error) = replay_through(
        &mut applier,
        &void.join("journal"),
        former.identity,
        Sequence(life.kept),
    ) {
        // What was applied holds all the same; the rest comes from the active region, if that still has it.
        tracing::warn!(%error, sequence = applier.applied().sequence.0, "the journal of the life that ended was not read further");
    }
    let applied = applier.applied();
    let machine = applier.into_machine();
    if applied.index.0 > 0 {
        begin_with(&settings, &own, &machine, applied)?;
    }
    remove_others(&own, applied.sequence)?;
    Ok(())
}

/// Makes this state the one that the group of `own` begins with, as its founder alone, over a new journal.
fn begin_with(
    settings: &JournalSettings,
    own: &SnapshotFolder,
    machine: &Exchange,
    applied: Applied,
) -> Result<(), StartError> {
    let info = SnapshotInfo {
        cluster_id: own.identity.cluster,
        group: own.identity.group,
        incarnation: own.identity.incarnation,
        epoch: applied.epoch,
        last_sequence: applied.sequence,
        sequenced_at: applied.sequenced_at,
        log_index: applied.index.0,
        term: applied.term.0,
        chain: applied.chain.0,
        state_hash: machine.state_hash(),
        engine_version: machine.engine_version(),
        state_bytes: 0,
        membership_bytes: 0,
    };
    own.write(info, &machine.snapshot(), &own.founding())?;
    let (mut journal, _) = Journal::open(settings, Applied::default(), &mut |_| Ok(()))?;
    let hard_state = HardState {
        term: applied.term,
        vote: NodeId(0),
    };
    journal.begin_at(Place::from(applied), hard_state)?;
    journal.close()?;
    Ok(())
}

/// Lets a region begin with a snapshot of another one's, for when that one no longer has the journal from the start: of a
/// folder that was just made for the region's first node.
///
/// # Errors
/// A snapshot of another cluster, or one that is damaged; the disk.
pub fn seed(folder: &DataFolder, identity: Identity, snapshot: &Path, config: &Config) -> Result<(), StartError> {
    let io = |error| DataFolderError::Io {
        path: snapshot.to_owned(),
        error,
    };
    let bytes = std::fs::read(snapshot).map_err(io)?;
    let header = bytes.get(..SNAPSHOT_HEADER_BYTES).unwrap_or_default();
    let info = decode_snapshot_header(header).map_err(|error| io(io::Error::other(error)))?;
    let theirs = SnapshotFolder {
        folder: snapshot.parent().unwrap_or(Path::new(".")).to_owned(),
        identity: Identity {
            incarnation: info.incarnation,
            ..identity
        },
        founder: identity.node,
    };
    let loaded = theirs.load::<Exchange>(snapshot)?;
    let own = SnapshotFolder {
        folder: folder.snapshots(),
        identity,
        founder: identity.node,
    };
    own.prepare()?;
    let settings = journal_settings(folder, identity, config);
    begin_with(&settings, &own, &loaded.machine, applied_of(&loaded.info))
}

/// Applies what the journal of the life that ended has up to the last sequence that holds, so that the new life begins there
/// and the active region needs to keep nothing from before.
fn replay_through(
    applier: &mut Applier<Exchange>,
    journal: &Path,
    identity: Identity,
    kept: Sequence,
) -> Result<(), String> {
    let mut reader =
        JournalReader::new(journal, identity, applier.applied().index).map_err(|error| error.to_string())?;
    while let Some(read) = reader.next_to_end(kept).map_err(|error| error.to_string())? {
        if read.header.is_some_and(|header| header.last_sequence() > kept) || applier.applied().sequence >= kept {
            break;
        }
        applier.apply(&read.entry).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The folder as that of whichever life its newest snapshot is of.
fn own_or(own: &SnapshotFolder, former: &SnapshotFolder) -> SnapshotFolder {
    let newest = own.list().ok().and_then(|paths| paths.last().cloned());
    let is_own = newest.is_some_and(|path| own.header(&path).is_ok());
    if is_own { own.clone() } else { former.clone() }
}

/// Takes away the snapshots of the life that ended.
fn remove_others(own: &SnapshotFolder, kept: Sequence) -> Result<(), StartError> {
    for path in own.list()? {
        if path != own.path_of(kept) || own.header(&path).is_err() {
            std::fs::remove_file(&path).map_err(|error| DataFolderError::Io { path, error })?;
        }
    }
    Ok(())
}

fn roll_back_snapshots(folder: &DataFolder, void: &Path, life: &NextLife) -> io::Result<()> {
    let from = folder.snapshots();
    let is_founder = folder
        .read_identity()
        .is_ok_and(|identity| identity.node.0 == life.founder);
    let target = void.join("snapshots");
    std::fs::create_dir_all(&target)?;
    for path in files_of(&from)? {
        let number = path
            .file_stem()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse().ok());
        let holds = is_founder && number.is_some_and(|last: u64| last <= life.kept);
        if !holds && let Some(name) = path.file_name() {
            std::fs::rename(&path, target.join(name))?;
        }
    }
    Ok(())
}

/// The founder's event log is cut by its next start, to where its state stands; what it loses by that is copied before.
/// The others begin theirs anew, with the snapshot that they are sent.
fn roll_back_events(folder: &DataFolder, void: &Path, life: &NextLife) -> io::Result<()> {
    let is_founder = folder
        .read_identity()
        .is_ok_and(|identity| identity.node.0 == life.founder);
    let (from, target) = (folder.events(), void.join("events"));
    std::fs::create_dir_all(&target)?;
    for path in event_log::segments_behind(&from, Sequence(if is_founder { life.kept } else { 0 }))? {
        if let Some(name) = path.file_name() {
            std::fs::copy(&path, target.join(name))?;
        }
    }
    if !is_founder {
        match std::fs::remove_dir_all(&from) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The nodes that the founder still has to take in; none of any other node.
pub fn members_to_take_in(folder: &DataFolder) -> Result<Vec<FormerMember>, DataFolderError> {
    #[derive(Deserialize)]
    struct Members {
        members: Vec<FormerMember>,
    }
    let Some(text) = folder.read(MEMBERS)? else {
        return Ok(Vec::new());
    };
    let members: Members = serde_json::from_str(&text).map_err(|error| DataFolderError::Damaged {
        path: folder.file(MEMBERS),
        reason: error.to_string(),
    })?;
    Ok(members.members)
}
