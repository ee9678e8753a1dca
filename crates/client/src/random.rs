//! A small generator for jitter and simulated traders: splitmix64 (Steele, Lea, Flood 2014). Never for secrets.

use crate::credentials::random_bytes;

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The same seed gives the same stream.
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Seeded by the operating system.
    pub fn from_system() -> Self {
        Self::seeded(u64::from_le_bytes(random_bytes()))
    }

    /// The next number.
    #[expect(
        clippy::should_implement_trait,
        reason = "there is always a next number, so an Option would only be in the way"
    )]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the product's upper half is below the bound")
    }

    /// A number from `from` to `to`, both included.
    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        assert!(from <= to, "the range is empty");
        let offset = self.below(from.abs_diff(to).saturating_add(1));
        from.wrapping_add_unsigned(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_splitmix64() {
        let mut random = Random::seeded(0);
        assert_eq!(random.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(random.next(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_its_ends() {
        let mut random = Random::seeded(1);
        let mut seen = [0; 5];
        for _ in 0..1_000 {
            let number = random.between(-2, 2);
            seen[usize::try_from(number + 2).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
        assert_eq!(random.below(1), 0);
    }
}
