//! Snapshots on their way between nodes.
//!
//! One is streamed in pieces over the link that consensus uses too, and only as fast as that link takes it, so that
//! heartbeats don't wait behind it. What comes in is written beside the node's own snapshots under another name, and gets a
//! snapshot's name only when the core installs it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use replica::{PeerMessage, SnapshotPoint};
use types::Sequence;
use wire::journal::NodeId;
use wire::peer::{Frame, SNAPSHOT_CHUNK_BYTES_MAX, SnapshotBegin, SnapshotChunk, SnapshotEnd};
use wire::snapshot::{SnapshotInfo, check_snapshot};

use super::Shared;
use crate::snapshots::SnapshotFolder;

/// What a snapshot is called that came from a peer, until it is installed.
const ARRIVED: &str = "arrived";
/// Bytes that may wait in a link before another piece is added.
const QUEUED_BYTES_MAX: usize = 2 * SNAPSHOT_CHUNK_BYTES_MAX;
/// How long it waits for room in the link at a time.
const PAUSE: Duration = Duration::from_millis(1);
/// For how long a link may take nothing.
const STUCK: Duration = Duration::from_secs(10);
/// For how long a peer may take to install a snapshot, and
const INSTALL: Duration = Duration::from_secs(120);
/// how often it is looked whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

static TRANSFERS: AtomicU64 = AtomicU64::new(0);

/// Streams the snapshot of this place to whom the message is for, and the message with it.
pub(super) fn send_snapshot(shared: &Shared, message: PeerMessage, point: &SnapshotPoint) -> io::Result<()> {
    let links = shared.links().ok_or_else(|| io::Error::other("there are no links"))?;
    let to = message.to();
    let path = shared.snapshots.path_of(point.applied.sequence);
    let file = File::open(&path)?;
    let info = shared.snapshots.header(&path).map_err(io::Error::other)?;
    if info.log_index != point.applied.index.0 {
        return Err(io::Error::other("a newer snapshot took its place"));
    }
    let bytes = file.metadata()?.len();
    // No two of a node's lives are alike either: the receiver forgets what it had of an earlier one.
    let transfer = TRANSFERS.fetch_add(1, Ordering::Relaxed) + 1;
    let send = |frame: Frame| -> io::Result<()> {
        let started = Instant::now();
        loop {
            match links.queued(to) {
                Some((_, queued)) if queued <= QUEUED_BYTES_MAX => {
                    return if links.send(to, frame) {
                        Ok(())
                    } else {
                        Err(io::Error::other("the link to it is down"))
                    };
                }
                Some(_) if started.elapsed() < STUCK => std::thread::sleep(PAUSE),
                Some(_) => return Err(io::Error::other("the link to it takes nothing")),
                None => return Err(io::Error::other("it is no peer any more")),
            }
        }
    };
    tracing::info!(
        to = to.0,
        bytes,
        sequence = point.applied.sequence.0,
        "sending a snapshot"
    );
    send(Frame::SnapshotBegin(SnapshotBegin {
        transfer,
        bytes,
        message: message.into(),
    }))?;
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < bytes {
        let count = usize::try_from(bytes - offset)
            .unwrap_or(usize::MAX)
            .min(SNAPSHOT_CHUNK_BYTES_MAX);
        let mut data = vec![0; count];
        file.read_exact_at(&mut data, offset)?;
        hasher.update(&data);
        let data = data.into();
        send(Frame::SnapshotChunk(SnapshotChunk { transfer, offset, data }))?;
        offset += count as u64;
    }
    let hash = *hasher.finalize().as_bytes();
    let connections = || {
        let status = links.status().into_iter().find(|link| link.peer == to)?;
        status.outgoing.connected_since.map(|_| status.outgoing.connections)
    };
    let before = connections().unwrap_or_default();
    send(Frame::SnapshotEnd(SnapshotEnd { transfer, hash }))?;
    // Whoever installs it starts again, so its links do too; until then consensus had better not try to go on from it.
    let sent = Instant::now();
    while connections().is_none_or(|connections| connections <= before) {
        if sent.elapsed() > INSTALL || shared.is_stopping() {
            return Err(io::Error::other("it did not install it in time"));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    tracing::info!(to = to.0, "the snapshot was installed");
    Ok(())
}

/// Snapshots that are on their way here, at most one of each peer.
#[derive(Default)]
pub(super) struct Arrivals(BTreeMap<NodeId, Arrival>);

struct Arrival {
    begin: SnapshotBegin,
    path: PathBuf,
    file: File,
    received: u64,
    hasher: blake3::Hasher,
}

/// A snapshot that is complete.
pub(super) struct Arrived {
    message: PeerMessage,
    path: PathBuf,
    file: File,
}

impl Arrivals {
    pub(super) fn begin(&mut self, folder: &SnapshotFolder, from: NodeId, begin: SnapshotBegin) {
        // Cleared at the next start, if it comes to nothing.
        let path = folder
            .folder
            .join(format!("from-{}-{}.unfinished", from.0, begin.transfer));
        let opened = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        match opened {
            Ok(file) => {
                let arrival = Arrival {
                    begin,
                    path,
                    file,
                    received: 0,
                    hasher: blake3::Hasher::new(),
                };
                self.0.insert(from, arrival);
            }
            Err(error) => tracing::error!(path = %path.display(), %error, "a peer's snapshot can't be written down"),
        }
    }

    pub(super) fn chunk(&mut self, from: NodeId, chunk: &SnapshotChunk) {
        let Some(arrival) = self
            .0
            .get_mut(&from)
            .filter(|arrival| arrival.begin.transfer == chunk.transfer)
        else {
            return;
        };
        let fits = chunk.offset == arrival.received && chunk.offset + chunk.data.len() as u64 <= arrival.begin.bytes;
        let written = if fits {
            arrival.file.write_all_at(&chunk.data, chunk.offset)
        } else {
            Err(io::Error::other("a piece is missing or doesn't fit"))
        };
        match written {
            Ok(()) => {
                arrival.hasher.update(&chunk.data);
                arrival.received += chunk.data.len() as u64;
            }
            Err(error) => {
                tracing::warn!(from = from.0, %error, "a snapshot from a peer is given up");
                self.0.remove(&from);
            }
        }
    }

    pub(super) fn end(&mut self, from: NodeId, end: &SnapshotEnd) -> Option<Arrived> {
        let arrival = self
            .0
            .remove(&from)
            .filter(|arrival| arrival.begin.transfer == end.transfer)?;
        let whole = arrival.received == arrival.begin.bytes && *arrival.hasher.finalize().as_bytes() == end.hash;
        let message = PeerMessage::try_from(arrival.begin.message);
        let (true, Ok(message)) = (whole, message) else {
            tracing::warn!(from = from.0, "a snapshot from a peer did not arrive whole");
            return None;
        };
        Some(Arrived {
            message,
            path: arrival.path,
            file: arrival.file,
        })
    }
}

impl Arrived {
    /// Makes it durable and looks whether it is what its message says. Gives the message for the core.
    pub(super) fn check(self, folder: &SnapshotFolder) -> io::Result<PeerMessage> {
        let point = self.message.snapshot_point();
        let point = point.ok_or_else(|| io::Error::other("its message does not say where it stands"))?;
        self.file.sync_all()?;
        let bytes = std::fs::read(&self.path)?;
        let checked = check_snapshot(&bytes).map_err(io::Error::other)?;
        let identity = &folder.identity;
        let SnapshotInfo {
            cluster_id,
            group,
            incarnation,
            log_index,
            term,
            last_sequence,
            ..
        } = checked.info;
        let own = (cluster_id, group, incarnation) == (identity.cluster, identity.group, identity.incarnation);
        let applied = &point.applied;
        let same = (log_index, term, last_sequence) == (applied.index.0, applied.term.0, applied.sequence);
        if !own || !same || checked.membership.as_ref() != Some(&point.membership) {
            return Err(io::Error::other("it is not the one that its message speaks of"));
        }
        std::fs::rename(&self.path, arrived_path(folder, last_sequence))?;
        File::open(&folder.folder)?.sync_all()?;
        Ok(self.message)
    }
}

fn arrived_path(folder: &SnapshotFolder, last: Sequence) -> PathBuf {
    folder.path_of(last).with_extension(ARRIVED)
}

/// Gives a snapshot that arrived its name, durably.
pub(super) fn adopt(folder: &SnapshotFolder, point: &SnapshotPoint) -> io::Result<()> {
    let last = point.applied.sequence;
    std::fs::rename(arrived_path(folder, last), folder.path_of(last))?;
    File::open(&folder.folder)?.sync_all()
}
