//! An open-addressing index from a 32-bit hash to the place of an entry in some table of the owner.
//!
//! A slot is one word: the hash in the upper half, the place + 1 in the lower, 0 for empty. A slot says by itself where it
//! belongs, so neither growing nor removing has to look at the owner's entries. Linear probing, and removal shifts back
//! what follows, so there are no tombstones and the cost doesn't creep up with age. The owner compares full keys.

use std::ops::Range;

use crate::prefetch::prefetch;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct FlatIndex {
    slots: Vec<u64>,
    mask: usize,
    length: usize,
}

const SLOTS_MIN: usize = 16;

impl Default for FlatIndex {
    fn default() -> Self {
        Self::with_slots(SLOTS_MIN)
    }
}

impl FlatIndex {
    /// An index of this many slots, a power of two. The memory comes zeroed from the system and is backed when touched.
    pub(crate) fn with_slots(slots: usize) -> Self {
        assert!(
            slots.is_power_of_two() && slots <= 1 << 32,
            "a power of two, of hashes of 32 bits"
        );
        Self {
            slots: vec![0; slots],
            mask: slots - 1,
            length: 0,
        }
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Where the slots are.
    pub(crate) fn memory(&self) -> Range<*const u64> {
        self.slots.as_ptr_range()
    }

    /// The place whose entry has this hash and is the one that is looked for.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                return None;
            }
            if (slot >> 32) as u32 == hash {
                let place = slot as u32 - 1;
                if is_it(place) {
                    return Some(place);
                }
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Asks for the memory of the slots of this hash.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u32) {
        prefetch(&self.slots, hash as usize & self.mask);
    }

    /// The place of the first entry of this hash, without a look at the entry: nearly always the right one.
    #[inline]
    pub(crate) fn peek(&self, hash: u32) -> Option<u32> {
        self.find(hash, |_| true)
    }

    /// Adds an entry that is not there yet.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u32, place: u32) {
        assert!(place < u32::MAX, "place + 1 must fit");
        if (self.length + 1) * 4 > self.slots.len() * 3 {
            self.resize(self.slots.len() * 2);
        }
        self.length += 1;
        Self::put(&mut self.slots, self.mask, u64::from(hash) << 32 | u64::from(place + 1));
    }

    /// The same, with half of the slots left empty, so that runs stay short; for an index that may grow.
    #[inline]
    pub(crate) fn insert_sparsely(&mut self, hash: u32, place: u32) {
        if (self.length + 1) * 2 > self.slots.len() {
            self.resize(self.slots.len() * 2);
        }
        self.insert(hash, place);
    }

    /// Removes the entry of this hash and place, which must be there.
    #[inline]
    pub(crate) fn remove(&mut self, hash: u32, place: u32) {
        let wanted = u64::from(hash) << 32 | u64::from(place + 1);
        let mut hole = hash as usize & self.mask;
        while self.slots[hole] != wanted {
            assert!(self.slots[hole] != 0, "only what is in the index is removed");
            hole = (hole + 1) & self.mask;
        }
        self.length -= 1;
        let mut next = hole;
        loop {
            next = (next + 1) & self.mask;
            let slot = self.slots[next];
            if slot == 0 {
                break;
            }
            let home = (slot >> 32) as usize & self.mask;
            let distance = next.wrapping_sub(home) & self.mask;
            if distance >= (next.wrapping_sub(hole) & self.mask) {
                self.slots[hole] = slot;
                hole = next;
            }
        }
        self.slots[hole] = 0;
    }

    /// Moves all entries to another number of slots, which must have room for them.
    pub(crate) fn resize(&mut self, slots: usize) {
        let mut bigger = Self::with_slots(slots);
        assert!(self.length * 4 <= slots * 3, "there must be room for all entries");
        for slot in self.slots.iter().copied().filter(|slot| *slot != 0) {
            Self::put(&mut bigger.slots, bigger.mask, slot);
        }
        bigger.length = self.length;
        *self = bigger;
    }

    #[inline]
    fn put(slots: &mut [u64], mask: usize, slot: u64) {
        let mut at = (slot >> 32) as usize & mask;
        while slots[at] != 0 {
            at = (at + 1) & mask;
        }
        slots[at] = slot;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn behaves_like_a_map_whatever_is_added_and_removed() {
        let mut index = FlatIndex::default();
        let mut model: BTreeMap<u32, u32> = BTreeMap::new();
        let mut state = 7_u64;
        for step in 0..20_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Few distinct hashes, so that runs are long and wrap around.
            let hash = ((state >> 33) as u32 % 64) | 0xffff_ffc0;
            let oldest = model.iter().find(|(_, known)| **known == hash).map(|(place, _)| *place);
            match oldest {
                Some(place) if state >> 62 != 0 || model.len() > 300 => {
                    index.remove(hash, place);
                    model.remove(&place);
                }
                _ => {
                    index.insert(hash, step);
                    model.insert(step, hash);
                }
            }
            for (place, hash) in &model {
                assert_eq!(index.find(*hash, |found| found == *place), Some(*place));
            }
            assert_eq!(index.find(hash, |found| found == u32::MAX - 1), None);
        }
    }
}
