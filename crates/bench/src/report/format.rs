//! Figures as people read them.

/// Nanoseconds in the unit that fits, with three digits: `321 µs`, `1.25 ms`, `3.10 s`.
pub fn duration(ns: f64) -> String {
    let (value, unit) = if ns < 999.5 {
        (ns, "ns")
    } else if ns < 999_500.0 {
        (ns / 1e3, "µs")
    } else if ns < 999_500_000.0 {
        (ns / 1e6, "ms")
    } else {
        (ns / 1e9, "s")
    };
    format!("{} {unit}", three_digits(value))
}

/// Nanoseconds that were counted.
pub fn nanoseconds(ns: u64) -> String {
    duration(ns as f64)
}

/// A number with three digits, or all before the point.
pub fn three_digits(value: f64) -> String {
    let decimals = if value >= 99.95 || value == 0.0 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$}")
}

/// A count with its thousands apart: `1,234,567`.
pub fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in as few letters as an axis has room for: `5M`, `20k`.
pub fn short_count(value: f64) -> String {
    let (value, unit) = if value >= 1e9 {
        (value / 1e9, "G")
    } else if value >= 1e6 {
        (value / 1e6, "M")
    } else if value >= 1e3 {
        (value / 1e3, "k")
    } else {
        (value, "")
    };
    let text = format!("{value:.2}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Nanoseconds on an axis: `1 ms`.
pub fn short_duration(ns: f64) -> String {
    for (unit, size) in [("s", 1e9), ("ms", 1e6), ("µs", 1e3)] {
        if ns >= size {
            return format!("{} {unit}", short_count(ns / size));
        }
    }
    format!("{} ns", short_count(ns))
}

/// Bytes in the unit that fits: `1.25 GiB`.
pub fn bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB"] {
        if value.abs() < 1_000.0 {
            return format!("{} {unit}", three_digits(value));
        }
        value /= 1_024.0;
    }
    format!("{} GiB", three_digits(value))
}

/// Seconds: `1.25 s`.
pub fn seconds(value: f64) -> String {
    duration(value * 1e9)
}

/// Seconds as minutes, where there are some.
pub fn minutes(seconds: f64) -> String {
    if seconds < 90.0 {
        return format!("{seconds:.0} seconds");
    }
    format!("{:.0} minutes", seconds / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_readable() {
        let durations = [
            (0.0, "0 ns"),
            (950.0, "950 ns"),
            (321_400.0, "321 µs"),
            (1_254_000.0, "1.25 ms"),
            (3.1e9, "3.10 s"),
        ];
        for (ns, expected) in durations {
            assert_eq!(duration(ns), expected);
        }
        for (value, expected) in [
            (0.0, "0"),
            (999.0, "999"),
            (1_000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(count(value), expected);
        }
        for (value, expected) in [(5e6, "5M"), (2_500.0, "2.5k"), (0.5, "0.5"), (100.0, "100")] {
            assert_eq!(short_count(value), expected);
        }
        assert_eq!(bytes(1_288_490_189.0), "1.20 GiB");
        assert_eq!(super::super::utc_minute(1_704_067_199_999), "2023-12-31 23:59");
    }
}
