//! Times for people.

use types::Timestamp;
use wire::json::TimeText;

/// `2026-01-31 12:00:00.123456` (UTC), or the text itself where it is no time.
pub fn date_and_time(time: &TimeText) -> String {
    let Some(time) = time.time() else {
        return time.0.clone();
    };
    let (year, month, day) = time.date();
    format!("{year:04}-{month:02}-{day:02} {}", time_of_day(time))
}

/// `12:00:00.123456` (UTC).
pub fn time_of_day(time: Timestamp) -> String {
    let seconds = time.0 / Timestamp::SECOND % 86_400;
    let microseconds = time.0 % Timestamp::SECOND / 1_000;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{microseconds:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        for (nanoseconds, wanted) in [
            ("0", "1970-01-01 00:00:00.000000"),
            ("951782400000000000", "2000-02-29 00:00:00.000000"),
            ("1704067199999999999", "2023-12-31 23:59:59.999999"),
            ("4107542400000000000", "2100-03-01 00:00:00.000000"),
            ("soon", "soon"),
        ] {
            assert_eq!(date_and_time(&TimeText(nanoseconds.into())), wanted);
        }
    }
}
