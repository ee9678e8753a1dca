//! When requests are to be sent. Made before a run, and kept to whatever the answers do: a slow answer delays no request
//! behind it, so that what those would have had to wait is measured and not left out.

use crate::random::Random;
use crate::results::Schedule;

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// The times, in nanoseconds from the start and in order, at which messages are due within `duration_ns`, on average
/// `per_second` of them.
pub fn times(schedule: Schedule, per_second: f64, duration_ns: u64, random: &mut Random) -> Vec<u64> {
    let distance_ns = SECOND_NS as f64 / per_second;
    let mut times = Vec::with_capacity((duration_ns as f64 / distance_ns * 1.05) as usize + 16);
    let mut at = 0.0;
    while at < duration_ns as f64 {
        match schedule {
            Schedule::Constant => {
                times.push(at as u64);
                at += distance_ns;
            }
            Schedule::Poisson => {
                at += exponential(random) * distance_ns;
                if at < duration_ns as f64 {
                    times.push(at as u64);
                }
            }
            Schedule::Microbursts { requests } => {
                times.extend((0..requests).map(|_| at as u64));
                at += distance_ns * f64::from(requests.max(1));
            }
        }
    }
    times
}

/// A random distance of mean 1.
fn exponential(random: &mut Random) -> f64 {
    // 53 bits, so that the number is exact, and never 0.
    let uniform = ((random.any() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    -uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Schedule; 4] = [
        Schedule::Constant,
        Schedule::Poisson,
        Schedule::Microbursts { requests: 1 },
        Schedule::Microbursts { requests: 250 },
    ];

    #[test]
    fn each_has_its_rate_in_order_and_within_its_time() {
        for schedule in ALL {
            for per_second in [10.0, 999.0, 123_456.0] {
                let times = times(schedule, per_second, 20 * SECOND_NS, &mut Random(3));
                let wanted = per_second * 20.0;
                // Five standard deviations of a Poisson count, and one burst more.
                let slack = 5.0 * wanted.sqrt() + 250.0;
                assert!(
                    (times.len() as f64 - wanted).abs() <= slack,
                    "{schedule:?}: {}",
                    times.len()
                );
                assert!(times.is_sorted(), "{schedule:?}");
                assert!(times.last() < Some(&(20 * SECOND_NS)), "{schedule:?}");
            }
        }
    }

    #[test]
    fn constant_is_even_and_bursts_come_together() {
        let even = times(Schedule::Constant, 1_000.0, SECOND_NS, &mut Random(0));
        assert_eq!(even, (0..1_000).map(|index| index * 1_000_000).collect::<Vec<_>>());
        let times = times(
            Schedule::Microbursts { requests: 50 },
            1_000.0,
            SECOND_NS,
            &mut Random(0),
        );
        assert_eq!(times.len(), 1_000);
        assert!(times.chunks(50).all(|burst| burst.iter().all(|at| *at == burst[0])));
        assert_eq!(times[50], 50_000_000);
    }

    #[test]
    fn poisson_distances_vary_as_they_should_and_repeat_by_seed() {
        let schedule = |seed| super::times(Schedule::Poisson, 10_000.0, 10 * SECOND_NS, &mut Random(seed));
        let times = schedule(5);
        assert_eq!(times, schedule(5));
        assert_ne!(times, schedule(6));
        let distances: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = distances.iter().sum::<f64>() / distances.len() as f64;
        let variance = distances.iter().map(|distance| (distance - mean).powi(2)).sum::<f64>() / distances.len() as f64;
        assert!(
            (variance.sqrt() / mean - 1.0).abs() < 0.05,
            "an exponential's deviation is its mean"
        );
    }
}
