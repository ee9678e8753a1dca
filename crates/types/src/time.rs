//! Points in time.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01 00:00:00 UTC, without leap seconds (POSIX time).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Later than any time that occurs.
    pub const FAR_FUTURE: Self = Self(u64::MAX);
    /// Nanoseconds in a second.
    pub const SECOND: u64 = 1_000_000_000;
    /// Nanoseconds in a day.
    pub const DAY: u64 = 86_400 * Self::SECOND;

    /// This much later, or [`Self::FAR_FUTURE`].
    #[must_use]
    pub fn plus_ns(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }

    /// The end of this UTC day: the midnight that follows.
    #[must_use]
    pub fn end_of_day(self) -> Self {
        Self((self.0 / Self::DAY + 1).saturating_mul(Self::DAY))
    }

    /// The UTC date: year, month and day, these two from 1 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    pub fn date(self) -> (u64, u64, u64) {
        let shifted = self.0 / Self::DAY + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        (year_of_era + era * 400 + u64::from(month <= 2), month, day)
    }

    /// Nanoseconds from `earlier` to this, 0 if it isn't earlier.
    pub fn since_ns(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
