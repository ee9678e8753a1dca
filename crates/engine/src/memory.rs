//! The memory of requests: what makes each request execute once.
//!
//! An entry is small and of fixed size: a 128-bit hash of account and request id, a 64-bit fingerprint of what was asked,
//! where and when it was sequenced first, and why it was refused, if it was. What was answered stands in the events of that
//! position. Entries stand in a ring in the order of their making, and a flat index finds them.
//!
//! **Bounded in bytes, and never forgetful.** The rules say how many bytes ring and index may take. An entry is dropped
//! only once it is older than the window; each new one drops up to two of those, so that the memory follows the traffic
//! of a window. When there is no room, new requests are refused instead, in this order: orders and replaces first, cancels
//! next, the operator's last, so that while clients' orders are refused they can still cancel, and the operator can always
//! enlarge the memory.
//!
//! **Burnt ids.** Cancelling a client order id that is unknown makes an entry for that id: an order under it, which may be
//! still under way, will never execute.
//!
//! The hash is SipHash-1-3 with 128 bits. Its key comes from the first operator key of the cluster, so that nobody outside
//! can look for an id that collides with another account's.

use std::collections::VecDeque;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use siphasher::sip128::SipHasher13;
use types::{AccountId, Epoch, KeyMaterial, RejectReason, RequestId, Sequence, Timestamp};

use crate::flat_index::FlatIndex;
use crate::hash::{self, Kind, Sum};
use crate::prefetch::prefetch;
use crate::sip;

/// Who is asked to give way first when room is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// New orders and replaces.
    Order,
    /// Cancels of any kind.
    Cancel,
    /// What an operator asks.
    Operator,
}

/// What became of a remembered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// It was refused, or executed and made no order.
    Done,
    /// It placed an order.
    Placed,
    /// No request, but a client order id that a cancel burnt.
    Burnt,
    /// A cancel that burnt its own id.
    DoneAndBurnt,
}

/// A remembered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub(crate) request: [u64; 2],
    /// Never 0, but for an id that was only burnt.
    pub(crate) fingerprint: u64,
    pub(crate) sequence: Sequence,
    pub(crate) sequenced_at: Timestamp,
    pub(crate) epoch: Epoch,
    pub(crate) account: AccountId,
    pub(crate) reason: Option<RejectReason>,
    pub(crate) outcome: Outcome,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct RequestMemory {
    ring: Ring,
    index: FlatIndex,
    /// How many entries the rules allow.
    capacity: usize,
    window_ns: u64,
    /// Entries made up to this time were promised this longer window.
    promised: (Timestamp, u64),
    hash_key: (u64, u64),
    /// When the window of the oldest entry ends.
    first_ends: Timestamp,
    sum: Sum,
}

/// What a snapshot keeps of it besides the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryState {
    promised: (Timestamp, u64),
    hash_key: (u64, u64),
}

const ENTRY_BYTES: u64 = size_of::<Entry>() as u64;
const SLOT_BYTES: u64 = 8;
/// The least that the rules may give it.
pub(crate) const BYTES_MIN: u64 = 1 << 20;
/// The most that the rules may give it.
pub(crate) const BYTES_MAX: u64 = 64 << 30;

const _: () = assert!(ENTRY_BYTES == 56, "the entry is as small as the page in the docs says");

impl RequestMemory {
    pub(crate) fn new(bytes_max: u64, window_ns: u64) -> Self {
        let (capacity, slots) = shape(bytes_max);
        Self {
            ring: Ring::default(),
            index: FlatIndex::with_slots(slots),
            capacity,
            window_ns,
            promised: (Timestamp(0), 0),
            hash_key: (0x6d65_7269_6469_616e, 0x7265_7175_6573_7473),
            first_ends: Timestamp::FAR_FUTURE,
            sum: Sum::default(),
        }
    }

    pub(crate) fn restore(
        bytes_max: u64,
        window_ns: u64,
        state: MemoryState,
        entries: &[Entry],
    ) -> Result<Self, String> {
        let mut memory = Self::new(bytes_max, window_ns);
        memory.promised = state.promised;
        memory.hash_key = state.hash_key;
        memory.fit_index(entries.len());
        for entry in entries {
            if memory.find(entry.request).is_some() {
                return Err(format!("the request of sequence {} stands there twice", entry.sequence));
            }
            memory.remember(*entry);
        }
        Ok(memory)
    }

    pub(crate) fn state(&self) -> MemoryState {
        MemoryState {
            promised: self.promised,
            hash_key: self.hash_key,
        }
    }

    /// Where the index is.
    pub(crate) fn index_memory(&self) -> Range<*const u64> {
        self.index.memory()
    }

    /// Takes the key of the hash from the first operator key, while nothing is remembered.
    pub(crate) fn take_hash_key(&mut self, material: &KeyMaterial) {
        if self.len() > 0 {
            return;
        }
        let bytes: &[u8] = match material {
            KeyMaterial::Ed25519(public) => public,
            KeyMaterial::HmacSha256 { sealed } => sealed,
        };
        let hash = SipHasher13::new_with_keys(self.hash_key.0, self.hash_key.1).hash(bytes);
        self.hash_key = (hash.h1, hash.h2);
    }

    /// New rules. Entries that were made under a longer window keep it.
    pub(crate) fn set_limits(&mut self, bytes_max: u64, window_ns: u64, now: Timestamp) {
        if window_ns < self.window_ns {
            self.promised = (now, self.promised.1.max(self.window_ns));
        }
        self.window_ns = window_ns;
        self.find_end_of_first();
        let (capacity, slots) = shape(bytes_max);
        self.capacity = capacity;
        if slots != self.index.slots() && self.len() * 4 <= slots * 3 {
            self.index.resize(slots);
        }
    }

    /// The hash by which a request is known.
    #[inline]
    pub(crate) fn request(&self, account: AccountId, request_id: &RequestId) -> [u64; 2] {
        sip::request(self.hash_key, account, request_id)
    }

    /// The entry of a request.
    #[inline]
    pub(crate) fn find(&self, request: [u64; 2]) -> Option<&Entry> {
        let is_it = |place: u32| self.ring.get(place).request == request;
        self.index
            .find(request[0] as u32, is_it)
            .map(|place| self.ring.get(place))
    }

    /// Asks for the memory by which a request is found.
    #[inline]
    pub(crate) fn prefetch_index(&self, request: [u64; 2]) {
        self.index.prefetch(request[0] as u32);
    }

    /// Asks for the memory of what is probably the request's entry.
    #[inline]
    pub(crate) fn prefetch_entry(&self, request: [u64; 2]) {
        if let Some(place) = self.index.peek(request[0] as u32) {
            self.ring.prefetch(place);
        }
    }

    /// What is probably the request's entry.
    #[inline]
    pub(crate) fn peek(&self, request: [u64; 2]) -> Option<&Entry> {
        self.index.peek(request[0] as u32).map(|place| self.ring.get(place))
    }

    /// The entry of the command of this sequence, if it is remembered.
    pub(crate) fn find_sequence(&self, sequence: Sequence) -> Option<&Entry> {
        let (mut low, mut high) = (0, self.ring.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.ring.nth(middle).sequence < sequence {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // A command that burnt an id has two entries, of which its own is the second.
        let mut found = (low < self.ring.len()).then(|| self.ring.nth(low))?;
        if found.outcome == Outcome::Burnt && low + 1 < self.ring.len() {
            found = self.ring.nth(low + 1);
        }
        (found.sequence == sequence).then_some(found)
    }

    /// True if `count` more entries of this urgency have room.
    #[inline]
    pub(crate) fn has_room(&self, urgency: Urgency, count: usize) -> bool {
        let reserve = self.capacity / 16;
        let limit = match urgency {
            Urgency::Order => self.capacity - 2 * reserve,
            Urgency::Cancel => self.capacity - reserve,
            Urgency::Operator => self.capacity,
        };
        self.len() + count <= limit
    }

    /// True if the oldest entry is older than its window.
    #[inline]
    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        now > self.first_ends
    }

    /// Drops the oldest entry if it is older than its window.
    #[inline]
    pub(crate) fn drop_expired(&mut self, now: Timestamp) -> Option<Entry> {
        if !self.has_expired(now) {
            return None;
        }
        let (place, entry) = self.ring.pop().expect("there is a first one");
        self.index.remove(entry.request[0] as u32, place);
        self.sum.remove(entry.item());
        self.find_end_of_first();
        Some(entry)
    }

    /// Works out when the window of the oldest entry ends.
    fn find_end_of_first(&mut self) {
        self.first_ends = match self.ring.first() {
            None => Timestamp::FAR_FUTURE,
            Some(entry) if entry.sequenced_at <= self.promised.0 => {
                entry.sequenced_at.plus_ns(self.window_ns.max(self.promised.1))
            }
            Some(entry) => entry.sequenced_at.plus_ns(self.window_ns),
        };
    }

    /// Adds an entry for a request that is not remembered.
    #[inline]
    pub(crate) fn remember(&mut self, entry: Entry) {
        self.sum.add(entry.item());
        let place = self.ring.push(entry);
        self.index.insert(entry.request[0] as u32, place);
        if self.ring.len() == 1 {
            self.find_end_of_first();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// When the oldest entry was made.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.ring.first().map(|entry| entry.sequenced_at)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        (0..self.ring.len()).map(|index| self.ring.nth(index))
    }

    pub(crate) fn hash(&self) -> u64 {
        self.sum.0.wrapping_add(self.state_item())
    }

    pub(crate) fn recompute_hash(&self) -> u64 {
        let sum: Sum = self.entries().map(Entry::item).collect();
        sum.0.wrapping_add(self.state_item())
    }

    fn state_item(&self) -> u64 {
        let words = [self.promised.0.0, self.promised.1, self.hash_key.0, self.hash_key.1];
        hash::item(Kind::Memory, words)
    }

    fn fit_index(&mut self, entries: usize) {
        let slots = (entries * 4 / 3 + 1).next_power_of_two();
        if slots > self.index.slots() {
            self.index.resize(slots);
        }
    }
}

impl Entry {
    #[inline]
    fn item(&self) -> u64 {
        let reason = self.reason.map_or(0, |reason| reason as u64);
        hash::item(
            Kind::Request,
            [
                self.request[0] ^ self.request[1].rotate_left(32),
                self.fingerprint,
                self.sequence.0,
                self.sequenced_at.0,
                u64::from(self.epoch.0) << 32 | u64::from(self.account.0),
                reason << 8 | self.outcome as u64,
            ],
        )
    }
}

/// How many entries, and how many slots of the index, so many bytes are best spent on.
fn shape(bytes_max: u64) -> (usize, usize) {
    let bytes_max = bytes_max.clamp(BYTES_MIN, BYTES_MAX);
    let entries_of = |slots: u64| {
        let for_entries = bytes_max.saturating_sub(slots * SLOT_BYTES) / ENTRY_BYTES;
        // Whole chunks of the ring, of which one is always in use besides.
        let whole = (for_entries / CHUNK as u64).saturating_sub(1) * CHUNK as u64;
        whole.min(slots / 4 * 3)
    };
    let slots = (6..32)
        .map(|power| 1 << power)
        .max_by_key(|slots| (entries_of(*slots), u64::MAX - slots));
    let slots = slots.expect("the range is not empty");
    (entries_of(slots) as usize, slots as usize)
}

const CHUNK: usize = 4_096;

/// Entries in chunks, so that growing copies nothing. A place is the entry's number since the beginning, modulo 2^31.
#[derive(Clone, Debug, Default)]
struct Ring {
    chunks: VecDeque<Vec<Entry>>,
    /// The number of the first entry, and of the first chunk's first one.
    first: u64,
    base: u64,
    length: usize,
}

const PLACE_MASK: u64 = (1 << 31) - 1;

impl Ring {
    fn len(&self) -> usize {
        self.length
    }

    #[inline]
    fn get(&self, place: u32) -> &Entry {
        let offset = (u64::from(place).wrapping_sub(self.base) & PLACE_MASK) as usize;
        &self.chunks[offset / CHUNK][offset % CHUNK]
    }

    #[inline]
    fn prefetch(&self, place: u32) {
        let offset = (u64::from(place).wrapping_sub(self.base) & PLACE_MASK) as usize;
        if let Some(chunk) = self.chunks.get(offset / CHUNK) {
            prefetch(chunk, offset % CHUNK);
        }
    }

    fn nth(&self, index: usize) -> &Entry {
        let offset = (self.first - self.base) as usize + index;
        &self.chunks[offset / CHUNK][offset % CHUNK]
    }

    #[inline]
    fn first(&self) -> Option<&Entry> {
        (self.length > 0).then(|| self.nth(0))
    }

    #[inline]
    fn push(&mut self, entry: Entry) -> u32 {
        let number = self.first + self.length as u64;
        let offset = (number - self.base) as usize;
        if offset / CHUNK == self.chunks.len() {
            self.chunks.push_back(Vec::with_capacity(CHUNK));
        }
        self.chunks[offset / CHUNK].push(entry);
        self.length += 1;
        (number & PLACE_MASK) as u32
    }

    fn pop(&mut self) -> Option<(u32, Entry)> {
        let entry = *self.first()?;
        let place = (self.first & PLACE_MASK) as u32;
        self.first += 1;
        self.length -= 1;
        if self.first - self.base == CHUNK as u64 {
            let mut spent = self.chunks.pop_front().expect("the first chunk is spent");
            self.base += CHUNK as u64;
            // One spent chunk is kept for the next entries; more would be memory that nobody counts.
            if self.chunks.back().is_none_or(|last| !last.is_empty()) {
                spent.clear();
                self.chunks.push_back(spent);
            }
        }
        Some((place, entry))
    }
}
