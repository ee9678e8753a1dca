//! Seeded choices, the same on every machine.

/// A small generator of random numbers (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to but not `end`, which isn't 0.
    pub fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "nothing to choose from");
        (self.number() % end as u64) as usize
    }

    /// True in `of` out of a hundred cases.
    pub fn percent(&mut self, of: u64) -> bool {
        self.number() % 100 < of
    }
}
