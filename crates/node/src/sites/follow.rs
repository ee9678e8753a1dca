//! The stream of what the active region commits, from its leader's journal to the standby's leader.
//!
//! ```text
//!  core: "committed up to here" ──┐
//!  standby: "I have it up to here" ┼──> a thread: reads the journal, compresses, sends ──> links ──> the standby's leader
//!  standby: "from here, please" ──┘
//! ```
//!
//! It reads what is committed from the files, so that nothing of the order path waits for it, and keeps at most a window of
//! bytes under way, so that the lease's messages on the same link don't wait long behind it. What a broken link loses is
//! asked for again by the standby, from where it stands.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use types::{Epoch, Sequence, Timestamp};
use wire::journal::{NodeId, RecordKind};
use wire::site::{FOLLOW_BYTES_MAX, LogPlace, NotServed, SiteMessage};

use crate::journal::{JournalError, JournalHandle, JournalReader};

/// Bytes of batches, not compressed, that are under way before the standby has said that it has the first of them.
const WINDOW_BYTES: usize = 8 << 20;
/// How often the standby hears that the active region lives.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(200);
/// For how long a standby that says nothing is streamed to.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long to wait for room on the link.
const LINK_AGAIN: Duration = Duration::from_millis(20);
/// Bytes of one message's batches, not compressed, that a standby takes.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Sends to a node of any site. False: it was not taken.
pub type Send = Box<dyn Fn(NodeId, &SiteMessage) -> bool + std::marker::Send>;

/// The stream to the standby.
pub struct FollowServer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whom to stream to, and what it calls the stream; none: nobody asked.
    asked: Option<Asked>,
    /// The epoch in which the region is active; none: it isn't.
    epoch: Option<Epoch>,
    committed: Sequence,
    stamp: Timestamp,
    followed: Sequence,
    heard_at: Option<Instant>,
    is_stopping: bool,
}

#[derive(Clone, Copy)]
struct Asked {
    to: NodeId,
    stream: u64,
    place: LogPlace,
}

/// Why a stream ended.
enum Ended {
    /// Another one was asked for, the region is not active any more, or the standby went silent.
    Over,
    /// It can't be served.
    Refused(NotServed),
}

impl From<JournalError> for Ended {
    fn from(error: JournalError) -> Self {
        tracing::warn!(%error, "the journal can't be read for the standby");
        Self::Refused(NotServed::Unreadable)
    }
}

impl FollowServer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system has no room for it.
    pub fn start(journal: JournalHandle, send: Send) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        let work = move || serve(&serving, &journal, &send);
        let thread = std::thread::Builder::new().name("follow".into()).spawn(work)?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Streams what is behind `place`, in place of what is streamed now.
    pub fn serve(&self, to: NodeId, stream: u64, place: LogPlace) {
        let mut state = self.shared.lock();
        state.asked = Some(Asked { to, stream, place });
        state.followed = place.sequence;
        state.heard_at = Some(Instant::now());
        drop(state);
        self.shared.changed.notify_one();
    }

    /// The standby has this much of a stream.
    pub fn followed(&self, stream: u64, through: Sequence) {
        let mut state = self.shared.lock();
        if state.asked.is_some_and(|asked| asked.stream == stream) {
            state.followed = state.followed.max(through);
            state.heard_at = Some(Instant::now());
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// The region is active in this epoch, or not at all, and has committed this.
    pub fn committed(&self, epoch: Option<Epoch>, through: Sequence, stamp: Timestamp) {
        let mut state = self.shared.lock();
        if (state.epoch, state.committed) == (epoch, through) {
            return;
        }
        (state.epoch, state.committed, state.stamp) = (epoch, through, stamp);
        let is_wanted = state.asked.is_some();
        drop(state);
        if is_wanted {
            self.shared.changed.notify_one();
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.shared.lock().is_stopping = true;
        self.shared.changed.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(thread = "follow", "the thread panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn serve(shared: &Shared, journal: &JournalHandle, send: &Send) {
    loop {
        let mut state = shared.lock();
        let (asked, epoch) = loop {
            if state.is_stopping {
                return;
            }
            if let Some(asked) = state.asked {
                break (asked, state.epoch);
            }
            state = shared.wait(state, HEARTBEAT_EVERY);
        };
        drop(state);
        let ended = match epoch {
            Some(epoch) => stream(shared, journal, send, asked, epoch),
            None => Ended::Refused(NotServed::NotLeader { leader: None }),
        };
        let mut state = shared.lock();
        if state.asked.is_some_and(|now| now.stream == asked.stream) {
            state.asked = None;
        }
        drop(state);
        if let Ended::Refused(why) = ended {
            let stream = asked.stream;
            send(asked.to, &SiteMessage::NotServed { stream, why });
        }
    }
}

/// Streams until there is a reason not to.
fn stream(shared: &Shared, journal: &JournalHandle, send: &Send, asked: Asked, epoch: Epoch) -> Ended {
    let mut reader = match find(journal, asked.place) {
        Ok(reader) => reader,
        Err(ended) => return ended,
    };
    let mut sent_through = asked.place.sequence;
    let mut under_way = VecDeque::new();
    let mut sent_at: Option<Instant> = None;
    loop {
        let mut state = shared.lock();
        let (committed, stamp) = loop {
            let silent = state.heard_at.is_none_or(|at| at.elapsed() > SILENCE_MAX);
            let same = state.asked.is_some_and(|now| now.stream == asked.stream);
            if state.is_stopping || !same || state.epoch != Some(epoch) || silent {
                return Ended::Over;
            }
            while under_way.front().is_some_and(|(through, _)| *through <= state.followed) {
                under_way.pop_front();
            }
            let bytes: usize = under_way.iter().map(|(_, bytes)| bytes).sum();
            let has_more = state.committed > sent_through && bytes < WINDOW_BYTES;
            let is_due = sent_at.is_none_or(|at| at.elapsed() >= HEARTBEAT_EVERY);
            if has_more || is_due {
                break (state.committed, state.stamp);
            }
            state = shared.wait(state, HEARTBEAT_EVERY);
        };
        drop(state);
        let after = sent_through;
        let mut plain = Vec::new();
        if committed > sent_through && under_way.iter().map(|(_, bytes)| bytes).sum::<usize>() < WINDOW_BYTES {
            match gather(&mut reader, &mut plain, after) {
                Ok(through) => sent_through = through,
                Err(ended) => return ended,
            }
        }
        if !plain.is_empty() {
            under_way.push_back((sent_through, plain.len()));
        }
        let batches = if plain.is_empty() {
            Vec::new()
        } else {
            lz4_flex::compress_prepend_size(&plain)
        };
        let message = SiteMessage::Batches {
            stream: asked.stream,
            epoch,
            committed,
            committed_at: stamp,
            after,
            batches,
        };
        sent_at = Some(Instant::now());
        let is_heartbeat = plain.is_empty();
        while !send(asked.to, &message) && !is_heartbeat {
            let state = shared.lock();
            let same = state.asked.is_some_and(|now| now.stream == asked.stream);
            if state.is_stopping || !same || state.heard_at.is_none_or(|at| at.elapsed() > SILENCE_MAX) {
                return Ended::Over;
            }
            drop(state);
            std::thread::sleep(LINK_AGAIN);
        }
    }
}

/// A reader that has come to the place where the standby stands, if this journal has that place.
fn find(journal: &JournalHandle, place: LogPlace) -> Result<JournalReader, Ended> {
    let retired = || {
        let first = journal.first();
        Ended::Refused(NotServed::Retired { first })
    };
    let (mut reader, begin) = journal.reader_before(place.sequence)?.ok_or_else(retired)?;
    let forked = |kept| Ended::Refused(NotServed::Forked { kept });
    if begin.sequence == place.sequence {
        let is_same = place.sequence == Sequence(0) || begin.chain == place.chain;
        return if is_same { Ok(reader) } else { Err(forked(Sequence(0))) };
    }
    while let Some(read) = reader.next_committed()? {
        let Some(header) = read.header else { continue };
        let last = header.last_sequence();
        if last >= place.sequence {
            let is_same = last == place.sequence && read.entry.chain == place.chain;
            return if is_same {
                Ok(reader)
            } else {
                Err(forked(begin.sequence))
            };
        }
    }
    // It has more than is committed here.
    Err(forked(begin.sequence))
}

/// Reads the next batches, about a message's worth. Answers with the last sequence.
fn gather(reader: &mut JournalReader, plain: &mut Vec<u8>, after: Sequence) -> Result<Sequence, Ended> {
    let mut through = after;
    while plain.len() < FOLLOW_BYTES_MAX {
        let Some(read) = reader.next_committed()? else { break };
        let Some(header) = read.header.filter(|_| read.entry.kind == RecordKind::Batch) else {
            continue;
        };
        // A copy of a batch that an earlier leader sequenced too is applied once.
        if header.first_sequence != through.next() {
            continue;
        }
        let length = u32::try_from(read.entry.payload.len()).expect("a batch is bounded");
        plain.extend_from_slice(&length.to_le_bytes());
        plain.extend_from_slice(&read.entry.payload);
        through = header.last_sequence();
    }
    Ok(through)
}

/// The batches of a message; none if it holds what is none.
pub fn batches_of(compressed: &[u8]) -> Option<Vec<Bytes>> {
    if compressed.is_empty() {
        return Some(Vec::new());
    }
    let (length, block) = compressed.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > MESSAGE_BYTES_MAX {
        return None;
    }
    let mut plain = Bytes::from(lz4_flex::decompress(block, length).ok()?);
    let mut batches = Vec::new();
    while !plain.is_empty() {
        let length = plain.first_chunk::<4>().copied()?;
        let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
        let _ = plain.split_to(4);
        if length > plain.len() {
            return None;
        }
        batches.push(plain.split_to(length));
    }
    Some(batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_taken_apart_whatever_the_bytes_say() {
        let mut plain = Vec::new();
        for payload in [b"one".as_slice(), b"", b"three"] {
            plain.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
            plain.extend_from_slice(payload);
        }
        let compressed = lz4_flex::compress_prepend_size(&plain);
        let batches = batches_of(&compressed).unwrap();
        assert_eq!(batches, [b"one".as_slice(), b"", b"three"]);
        assert_eq!(batches_of(&[]), Some(Vec::new()));
        for length in 1..compressed.len() {
            assert_eq!(batches_of(&compressed[..length]), None, "{length}");
        }
        // A length that is more than a message may have, or more than there is.
        assert_eq!(batches_of(&[0xff; 12]), None);
        let cut = lz4_flex::compress_prepend_size(&plain[..plain.len() - 1]);
        assert_eq!(batches_of(&cut), None);
    }
}
