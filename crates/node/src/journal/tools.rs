//! What `meridian journal` does: look at a journal without a running node, and the two repairs that an operator may make.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use engine::Exchange;
use replica::recovery::{Recovered, Scan, Seen, segment_file_name};
use replica::{Applied, Applier};
use serde::Serialize;
use serde_json::json;
use types::{BatchHeader, Command, Sequence, StateMachine as _};
use wire::batch;
use wire::journal::{Begins, Identity, LogIndex, Mark, decode_segment_header};
use wire::membership::Membership;

use super::files::Folder;
use super::mark::{MarkFile, Marked, read_mark};
use super::open::read_header;
use super::{JournalError, JournalReader, Quarantine, ReadEntry};
use crate::data_folder::DataFolder;
use crate::replay::{applied_of, start_of};
use crate::snapshots::SnapshotFolder;

/// What `journal` can be asked.
#[derive(Clone, Debug, Subcommand)]
pub enum JournalCommand {
    /// Check every record of the journal, and that nothing that was acknowledged is missing.
    Verify(JournalArguments),
    /// Show what the journal holds, batch by batch.
    Dump(DumpArguments),
    /// Apply the journal to an empty exchange, compare each state hash that the node wrote down, and show the last one.
    Replay(ReplayArguments),
    /// Turn the command at a sequence, on which the engine panics, into a reject. The node must be stopped.
    Quarantine(QuarantineArguments),
    /// Write a lost mark anew, at the end of the journal as it is now. The node must be stopped.
    Remark(RemarkArguments),
}

/// Which journal.
#[derive(Clone, Debug, Args)]
pub struct JournalArguments {
    /// The node's data folder.
    #[arg(long, default_value = "meridian-data")]
    pub data: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `dump`.
#[derive(Clone, Debug, Args)]
pub struct DumpArguments {
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArguments,
    /// Start with the batch that holds this sequence.
    #[arg(long, default_value_t = 1)]
    pub from: u64,
    /// End with the batch that holds this sequence.
    #[arg(long, default_value_t = u64::MAX)]
    pub to: u64,
}

/// Arguments of `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArguments {
    /// Which journal.
    #[command(flatten)]
    pub journal: JournalArguments,
    /// Start from the newest snapshot instead of from nothing. It is used anyway where older segments were retired.
    #[arg(long)]
    pub from_snapshot: bool,
}

/// Arguments of `quarantine`.
#[derive(Clone, Debug, Args)]
pub struct QuarantineArguments {
    /// The sequence of the command.
    pub sequence: u64,
    /// The other nodes of the group have quarantined it, and this one's journal does not hold it.
    #[arg(long)]
    pub as_others: bool,
    /// The node's data folder.
    #[arg(long, default_value = "meridian-data")]
    pub data: PathBuf,
}

/// Arguments of `remark`.
#[derive(Clone, Debug, Args)]
pub struct RemarkArguments {
    /// The node's data folder.
    #[arg(long, default_value = "meridian-data")]
    pub data: PathBuf,
    /// Yes, the journal ends where it should: `meridian journal verify` shows where that is.
    #[arg(long)]
    pub yes: bool,
}

impl JournalCommand {
    /// Does it, and prints to `out` what came of it.
    pub fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Verify(arguments) => verify(arguments, out),
            Self::Dump(arguments) => dump(arguments, out),
            Self::Replay(arguments) => replay(arguments, out),
            Self::Quarantine(arguments) => quarantine(arguments, out),
            Self::Remark(arguments) => remark(arguments, out),
        }
    }
}

/// What a look at every record came to.
struct Scanned {
    recovered: Recovered,
    records: u64,
    cuts: Vec<Cut>,
}

/// Entries that were dropped because they were never committed.
#[derive(Clone, Copy, Debug, Serialize)]
struct Cut {
    segment: u64,
    after: LogIndex,
    from: LogIndex,
}

/// A journal on disk as the tools see it. Nothing is locked: a node may be writing it.
struct Looked {
    folder: Folder,
    identity: Identity,
    /// The segments, from the last one on with which the log begins anew.
    numbers: Vec<u64>,
    /// Those before it, which are waiting to be let go.
    superseded: Vec<u64>,
    /// The index of the snapshot from a peer with which the log begins, if it does.
    begins_at: Option<LogIndex>,
    spares: usize,
    snapshots: SnapshotFolder,
    snapshot: Applied,
}

impl Looked {
    fn at(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("journal");
        if !path.is_dir() {
            return Err(JournalError::None(path).into());
        }
        let folder = Folder::new(&path);
        let listing = folder.list()?;
        let mut identity = None;
        let (mut begins_at, mut first) = (None, 0);
        for (at, number) in listing.segments.iter().enumerate() {
            let Ok(header) = decode_segment_header(&read_header(&folder.segment(*number))?) else {
                continue;
            };
            identity = identity.or(Some(header.identity));
            if matches!(header.begins, Begins::Jump(_)) {
                (begins_at, first) = (Some(header.previous_index), at);
            }
        }
        let mut superseded = listing.segments;
        let numbers = superseded.split_off(first);
        let identity = identity.with_context(|| {
            format!(
                "no segment in {} has a whole header, so nothing says whose journal it is",
                path.display()
            )
        })?;
        let snapshots = SnapshotFolder {
            folder: data.join("snapshots"),
            identity,
            founder: crate::data_folder::founder_of(data),
        };
        let newest = if snapshots.folder.is_dir() {
            snapshots.list()?.pop()
        } else {
            None
        };
        let snapshot = match newest {
            Some(path) => applied_of(&snapshots.header(&path)?),
            None => Applied::default(),
        };
        Ok(Self {
            folder,
            identity,
            numbers,
            superseded,
            begins_at,
            spares: listing.spares.len(),
            snapshots,
            snapshot,
        })
    }

    /// Looks at every record.
    fn scan(&self, mark: Mark) -> Result<Scanned, JournalError> {
        let damaged = |damage| JournalError::Damaged {
            folder: self.folder.path().to_owned(),
            damage,
        };
        let mut scan = Scan::new(self.identity, mark, self.snapshot);
        let (mut records, mut cuts) = (0, Vec::new());
        for &number in &self.numbers {
            let path = self.folder.segment(number);
            let bytes = std::fs::read(&path).map_err(|error| super::DiskError::new("read", &path, error))?;
            scan.segment(number, &bytes, &mut |seen| match seen {
                Seen::Record(..) => records += 1,
                Seen::Cut { segment, after, from } => cuts.push(Cut { segment, after, from }),
                Seen::Committed(_) => {}
            })
            .map_err(damaged)?;
        }
        Ok(Scanned {
            recovered: scan.finish().map_err(damaged)?,
            records,
            cuts,
        })
    }

    fn reader(&self, after: LogIndex) -> Result<JournalReader, JournalError> {
        JournalReader::new(self.folder.path(), self.identity, after)
    }

    /// The last index before the oldest segment that is kept.
    fn retired_through(&self) -> anyhow::Result<LogIndex> {
        let Some(first) = self.numbers.first() else {
            return Ok(LogIndex(0));
        };
        let header = decode_segment_header(&read_header(&self.folder.segment(*first))?);
        Ok(header
            .with_context(|| format!("read the header of {}", segment_file_name(*first)))?
            .previous_index)
    }
}

fn verify(arguments: &JournalArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let looked = Looked::at(&arguments.data)?;
    let mark = read_mark(&looked.folder)?;
    let scanned = looked.scan(mark)?;
    let (recovered, records) = (scanned.recovered, scanned.records);
    let end = recovered.end;
    let torn = recovered.tail.and_then(|tail| tail.torn);
    if arguments.json {
        let report = json!({
            "verdict": "whole",
            "cluster": looked.identity.cluster.as_str(),
            "segments": looked.numbers.len(),
            "spares": looked.spares,
            "records": records,
            "last_index": end.index,
            "last_sequence": end.sequence,
            "chain": end.chain.to_string(),
            "mark_index": mark.index,
            "mark_sequence": mark.sequence,
            "snapshot_sequence": looked.snapshot.sequence,
            "torn_tail": torn.map(|error| error.to_string()),
            "committed_sequence": recovered.committed.sequence,
            "dropped": scanned.cuts,
            "begins_at_index": looked.begins_at,
            "superseded_segments": looked.superseded.len(),
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    let identity = looked.identity;
    writeln!(
        out,
        "journal   {} (cluster {}, group {}, incarnation {}, node {})",
        looked.folder.path().display(),
        identity.cluster,
        identity.group,
        identity.incarnation,
        identity.node
    )?;
    writeln!(
        out,
        "segments  {}, and {} spare files",
        looked.numbers.len(),
        looked.spares
    )?;
    writeln!(out, "records   {records}, each whole and linked to the one before it")?;
    writeln!(
        out,
        "ends      at index {}, sequence {}, chain {}",
        end.index, end.sequence, end.chain
    )?;
    for cut in &scanned.cuts {
        writeln!(
            out,
            "dropped   the entries behind index {}, up to {}: never committed, and replaced in {}",
            cut.after,
            cut.from,
            segment_file_name(cut.segment)
        )?;
    }
    if let Some(index) = looked.begins_at {
        writeln!(
            out,
            "begins    behind index {index}, with a snapshot that came from a peer; {} segments before that wait to be let go",
            looked.superseded.len()
        )?;
    }
    writeln!(out, "mark      index {}, sequence {}", mark.index, mark.sequence)?;
    writeln!(out, "snapshot  sequence {}", looked.snapshot.sequence)?;
    match (recovered.tail, torn) {
        (Some(tail), Some(error)) => writeln!(
            out,
            "verdict   whole. Behind its end ({}) lies something torn that was never acknowledged ({error}); the next start \
             cuts it",
            tail.at
        )?,
        _ => writeln!(
            out,
            "verdict   whole: everything that is known to have been acknowledged is there"
        )?,
    }
    Ok(())
}

/// Tells of each batch behind a sequence in the journal of a data folder that nobody writes to, in order.
///
/// # Errors
/// What can't be read, or `each` gave.
pub fn batches_behind(
    data: &Path,
    after: Sequence,
    each: &mut dyn FnMut(BatchHeader, &[Command]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let looked = Looked::at(data)?;
    let mut reader = looked.reader(looked.retired_through()?)?;
    while let Some(read) = reader.next_to_end(Sequence(u64::MAX))? {
        let Some(header) = read.header.filter(|header| header.last_sequence() > after) else {
            continue;
        };
        let (_, commands) = batch::decode::<Command>(&read.entry.payload)
            .with_context(|| format!("read the record of index {} ({})", read.entry.index, read.at))?;
        each(header, &commands)?;
    }
    Ok(())
}

fn dump(arguments: &DumpArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let looked = Looked::at(&arguments.journal.data)?;
    let mut reader = looked.reader(looked.retired_through()?)?;
    // Not only what is known to be durable: the end shows as the first place without a record.
    while let Some(read) = reader.next_to_end(Sequence(arguments.to))? {
        let Some(header) = read.header.filter(|header| header.last_sequence().0 >= arguments.from) else {
            continue;
        };
        let (_, commands) = batch::decode::<Command>(&read.entry.payload)
            .with_context(|| format!("read the record of index {} ({})", read.entry.index, read.at))?;
        if arguments.journal.json {
            let line = json!({
                "index": read.entry.index,
                "term": read.entry.term,
                "segment": read.at.segment,
                "offset": read.at.offset,
                "chain": read.entry.chain.to_string(),
                "header": header,
                "commands": commands,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        write_batch(out, &read, &commands)?;
    }
    Ok(())
}

fn write_batch(out: &mut dyn Write, read: &ReadEntry, commands: &[Command]) -> anyhow::Result<()> {
    let Some(header) = read.header else { return Ok(()) };
    writeln!(
        out,
        "index {} term {} epoch {} sequences {} to {} sequenced_at {} hash {:016x} at {} ({}, {} bytes)",
        read.entry.index,
        read.entry.term,
        header.epoch,
        header.first_sequence,
        header.last_sequence(),
        header.sequenced_at,
        header.state_hash,
        header.hashed_through,
        read.at,
        read.entry.payload.len()
    )?;
    for (index, command) in (0..).zip(commands) {
        writeln!(
            out,
            "  {}  account {} key {} request {:?}  {:?}",
            header.position(index).sequence,
            command.account,
            command.key,
            command.request_id.as_str(),
            command.action
        )?;
    }
    Ok(())
}

fn replay(arguments: &ReplayArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let looked = Looked::at(&arguments.journal.data)?;
    let from_snapshot = arguments.from_snapshot || looked.retired_through()? > LogIndex(0);
    let (machine, start, membership) = if from_snapshot {
        start_of::<Exchange>(&looked.snapshots, Sequence(u64::MAX))?
    } else {
        (Exchange::default(), Applied::default(), Membership::founding())
    };
    let quarantine = Quarantine::read(looked.folder.path())?;
    let mut applier = Applier::new(&looked.identity, machine, start, membership, quarantine.0);
    // What is torn and was never acknowledged is not replayed; what is damaged is refused here.
    let recovered = looked.scan(read_mark(&looked.folder)?)?.recovered;
    let mut reader = looked.reader(start.index)?;
    let (mut batches, mut events) = (0u64, 0u64);
    while let Some(read) = reader.next(recovered.end.sequence)? {
        let applied = catch_unwind(AssertUnwindSafe(|| applier.apply(&read.entry)));
        let applied = match (applied, applier.applying()) {
            (Ok(applied), _) => applied.with_context(|| format!("apply the record at {}", read.at))?,
            (Err(_), Some(sequence)) => return Err(JournalError::Panicked(sequence).into()),
            (Err(panic), None) => std::panic::resume_unwind(panic),
        };
        batches += u64::from(applied.is_some());
        events += applied.map_or(0, |batch| batch.events.len() as u64);
    }
    let end = applier.applied();
    let (kept, whole) = (applier.machine().state_hash(), applier.machine().recompute_state_hash());
    if kept != whole {
        bail!("the state's hash was kept as {kept:016x}, and computed from the whole state it is {whole:016x}");
    }
    if arguments.journal.json {
        let report = json!({
            "from_sequence": start.sequence.next(),
            "last_index": end.index,
            "last_sequence": end.sequence,
            "batches": batches,
            "events": events,
            "state_hash": format!("{kept:016x}"),
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    let commands = end.sequence.0 - start.sequence.0;
    writeln!(
        out,
        "replayed  {commands} commands in {batches} batches, from sequence {}",
        start.sequence.next()
    )?;
    writeln!(out, "events    {events}")?;
    writeln!(out, "ends      at index {}, sequence {}", end.index, end.sequence)?;
    writeln!(
        out,
        "state     hash {kept:016x}; the hashes that the node wrote down all agree"
    )?;
    Ok(())
}

fn quarantine(arguments: &QuarantineArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let (_lock, _) = DataFolder::open(&arguments.data)?;
    let looked = Looked::at(&arguments.data)?;
    let sequence = Sequence(arguments.sequence);
    let refuse = |reason: String| JournalError::Quarantine { sequence, reason };
    if sequence <= looked.snapshot.sequence && !arguments.as_others {
        let covered = looked.snapshot.sequence;
        return Err(refuse(format!("a snapshot covers everything up to {covered}: it was applied")).into());
    }
    let mut reader = looked.reader(looked.snapshot.index)?;
    let mut found = None;
    while let Some(read) = reader.next_to_end(Sequence(u64::MAX))? {
        let Some(header) = read.header else { continue };
        if header.hashed_through >= sequence {
            let proof = format!(
                "the batch at sequence {} tells the state's hash behind it",
                header.first_sequence
            );
            return Err(refuse(format!("it was applied: {proof}")).into());
        }
        if (header.first_sequence..=header.last_sequence()).contains(&sequence) {
            let (_, commands) = batch::decode::<Command>(&read.entry.payload)?;
            let index = usize::try_from(sequence.0 - header.first_sequence.0)?;
            found = commands.get(index).cloned();
        }
    }
    if found.is_none() && !arguments.as_others {
        return Err(refuse("the journal holds no command there".to_owned()).into());
    }
    let mut quarantine = Quarantine::read(looked.folder.path())?;
    quarantine.add(looked.folder.path(), sequence)?;
    let Some(command) = found else {
        writeln!(
            out,
            "The command at sequence {sequence} is quarantined here too; this journal does not hold it."
        )?;
        return Ok(());
    };
    writeln!(
        out,
        "The command at sequence {sequence} is quarantined and becomes a reject from the next start on:\n  account {} key {} \
         request {:?}  {:?}",
        command.account,
        command.key,
        command.request_id.as_str(),
        command.action
    )?;
    Ok(())
}

fn remark(arguments: &RemarkArguments, out: &mut dyn Write) -> anyhow::Result<()> {
    let (_lock, _) = DataFolder::open(&arguments.data)?;
    let looked = Looked::at(&arguments.data)?;
    match read_mark(&looked.folder) {
        Ok(mark) => bail!(
            "the mark is there (index {}, sequence {}); nothing was changed",
            mark.index,
            mark.sequence
        ),
        Err(JournalError::Mark { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let recovered = looked.scan(Mark::default())?.recovered;
    let end = recovered.end;
    if !arguments.yes {
        bail!(
            "without its mark nothing proves the last records. The journal now ends at index {}, sequence {}: if a client was \
             answered for anything behind that, it is lost. Say --yes to go on from there",
            end.index,
            end.sequence
        );
    }
    let marked = Marked {
        place: end,
        segment: recovered.tail.map_or(0, |tail| tail.at.segment),
        hard_state: recovered.hard_state,
        ..Marked::default()
    };
    MarkFile::create(&looked.folder)?.write_both(&marked)?;
    writeln!(out, "The mark now says index {}, sequence {}.", end.index, end.sequence)?;
    Ok(())
}
