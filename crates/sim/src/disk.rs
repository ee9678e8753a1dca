//! Virtual files: what was written, what of it is durable, and what a loss of power leaves.

use crate::random::Dice;

/// What a disk writes as a whole or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

/// A file of a fixed size.
#[derive(Clone, Debug)]
pub(crate) struct File {
    durable: Vec<u8>,
    unsynced: Vec<Write>,
    written: u64,
}

impl File {
    pub(crate) fn new(content: Vec<u8>) -> Self {
        Self {
            durable: content,
            unsynced: Vec::new(),
            written: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.durable.len()
    }

    pub(crate) fn write_at(&mut self, bytes: &[u8], offset: usize) {
        assert!(offset + bytes.len() <= self.durable.len(), "files don't grow");
        let bytes = bytes.to_vec();
        self.unsynced.push(Write { offset, bytes });
        self.written += 1;
    }

    /// How many writes there were: what a sync that is begun now covers.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Makes the first so many writes durable.
    pub(crate) fn sync_up_to(&mut self, writes: u64) {
        let synced = self.written - self.unsynced.len() as u64;
        let count = usize::try_from(writes.saturating_sub(synced)).expect("they are few");
        for write in self.unsynced.drain(..count) {
            self.durable[write.offset..][..write.bytes.len()].copy_from_slice(&write.bytes);
        }
    }

    pub(crate) fn sync(&mut self) {
        self.sync_up_to(self.written);
    }

    /// What is read when nothing is unsynced.
    pub(crate) fn content(&self) -> &[u8] {
        assert!(self.unsynced.is_empty(), "it is read after a start alone");
        &self.durable
    }

    /// The power goes: each write that was not synced is there, missing, or there in parts. True if something was torn.
    pub(crate) fn lose_power(&mut self, dice: &mut Dice) -> bool {
        let mut torn = false;
        let fate = dice.below(4);
        for write in std::mem::take(&mut self.unsynced) {
            let fate = if fate == 3 { dice.below(3) } else { fate };
            match fate {
                0 => {}
                1 => self.durable[write.offset..][..write.bytes.len()].copy_from_slice(&write.bytes),
                _ => {
                    torn = true;
                    self.tear(&write, dice);
                }
            }
        }
        torn
    }

    fn tear(&mut self, write: &Write, dice: &mut Dice) {
        let end = write.offset + write.bytes.len();
        let mut from = write.offset;
        while from < end {
            let to = ((from / SECTOR_BYTES + 1) * SECTOR_BYTES).min(end);
            if dice.one_in(2) {
                self.durable[from..to].copy_from_slice(&write.bytes[from - write.offset..to - write.offset]);
            }
            from = to;
        }
    }

    /// A bit that was durable is another one now.
    pub(crate) fn rot(&mut self, offset: usize, bit: u8) {
        self.durable[offset] ^= 1 << (bit % 8);
    }
}
