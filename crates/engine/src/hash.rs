//! The hash of the state: a wrapping sum of one 64-bit hash an item.
//!
//! An item is a thing with its own identity: a balance, an order, a remembered request. Each table keeps the sum of its
//! own items up to date by subtracting an item's hash before a change and adding it after, which is O(1); what changes often keeps its hash beside it. A sum does not
//! depend on order, so two nodes whose tables are laid out differently agree.
//!
//! The mix is a folded multiply: the 128-bit product of two words, its halves xored. It takes in two words at a time. It
//! finds accidents and bugs; it is not meant to withstand somebody who chooses the state to collide.

use types::RequestId;

/// Which kind of item a hash is of, so that equal words of two kinds differ.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Kind {
    Place = 1,
    Rules,
    Asset,
    Instrument,
    LastPrice,
    Account,
    Balance,
    Key,
    Order,
    Request,
    Memory,
    Content,
    EngineVersion,
}

const ODD: [u64; 4] = [
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
];

/// The halves of a 128-bit product, xored.
#[inline(always)]
pub(crate) fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The hash of an item of fixed shape.
#[inline(always)]
pub(crate) fn item<const N: usize>(kind: Kind, words: [u64; N]) -> u64 {
    let mut mixer = Mixer::new(kind);
    for pair in words.chunks(2) {
        mixer.pair(pair[0], pair.get(1).copied().unwrap_or(0));
    }
    mixer.finish()
}

/// Mixes words and bytes of varying shape, one after the other.
pub(crate) struct Mixer(u64);

impl Mixer {
    #[inline(always)]
    pub(crate) fn new(kind: Kind) -> Self {
        Self(kind as u64 ^ ODD[0])
    }

    #[inline(always)]
    pub(crate) fn pair(&mut self, first: u64, second: u64) -> &mut Self {
        self.0 = fold(self.0 ^ first, second ^ ODD[2]);
        self
    }

    #[inline(always)]
    pub(crate) fn word(&mut self, word: u64) -> &mut Self {
        self.pair(word, 0)
    }

    #[inline(always)]
    pub(crate) fn signed(&mut self, word: i64) -> &mut Self {
        self.word(word as u64)
    }

    /// The bytes and how many they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.word(bytes.len() as u64);
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.word(u64::from_le_bytes(chunk.try_into().expect("chunks are of 8 bytes")));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(word));
        }
        self
    }

    /// An id's text, which holds no zero bytes and so shows where it ends.
    #[inline(always)]
    pub(crate) fn request_id(&mut self, id: &RequestId) -> &mut Self {
        let (pairs, _) = id.as_padded_bytes().as_chunks::<16>();
        for pair in &pairs[..id.as_bytes().len().div_ceil(16)] {
            let both = u128::from_le_bytes(*pair);
            self.pair(both as u64, (both >> 64) as u64);
        }
        self
    }

    #[inline(always)]
    pub(crate) fn finish(&self) -> u64 {
        fold(self.0 ^ ODD[3], ODD[1])
    }
}

/// A sum of items' hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum(pub(crate) u64);

impl Sum {
    #[inline(always)]
    pub(crate) fn add(&mut self, item: u64) {
        self.0 = self.0.wrapping_add(item);
    }

    #[inline(always)]
    pub(crate) fn remove(&mut self, item: u64) {
        self.0 = self.0.wrapping_sub(item);
    }
}

impl FromIterator<u64> for Sum {
    fn from_iter<I: IntoIterator<Item = u64>>(items: I) -> Self {
        let mut sum = Self::default();
        for item in items {
            sum.add(item);
        }
        sum
    }
}
