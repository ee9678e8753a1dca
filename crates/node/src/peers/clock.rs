//! How far a peer's clock is from ours (RFC 5905, section 8): of the last few answers, the one that was quickest.

use std::collections::VecDeque;
use std::time::Instant;

use types::Timestamp;
use wire::peer::{Ping, Pong};

/// Answers among which the quickest counts.
const SAMPLES_MAX: usize = 8;
/// Questions that may be without an answer.
const ASKED_MAX: usize = 4;

/// How far a peer's clock is from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockEstimate {
    /// By how much the peer's clock is ahead of ours; negative if it is behind. It may be off by half of `round_trip_ns`.
    pub offset_ns: i64,
    /// How long question and answer took on their ways.
    pub round_trip_ns: u64,
    /// When the answer came.
    pub measured_at: Timestamp,
}

/// Questions under way and answers that came.
#[derive(Debug, Default)]
pub(super) struct ClockEstimator {
    nonce: u64,
    asked: VecDeque<(Ping, Instant)>,
    samples: VecDeque<ClockEstimate>,
}

impl ClockEstimator {
    /// The next question.
    pub(super) fn ask(&mut self, utc: Timestamp, now: Instant) -> Ping {
        self.nonce += 1;
        let ping = Ping {
            nonce: self.nonce,
            sent_at: utc,
        };
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((ping, now));
        ping
    }

    /// An answer came. The estimate as it then is; none if nothing was asked that it answers.
    pub(super) fn answered(&mut self, pong: &Pong, utc: Timestamp, now: Instant) -> Option<ClockEstimate> {
        let at = self.asked.iter().position(|(ping, _)| ping.nonce == pong.nonce)?;
        let (ping, asked_at) = self.asked.drain(..=at).next_back()?;
        let between = |from: Timestamp, to: Timestamp| i128::from(to.0) - i128::from(from.0);
        let there = between(ping.sent_at, pong.received_at);
        let back = between(utc, pong.sent_at);
        let offset_ns = i64::try_from((there + back) / 2).unwrap_or(if there < 0 { i64::MIN } else { i64::MAX });
        // Measured on the clock that never jumps; the peer's part of it is short.
        let whole = u64::try_from(now.saturating_duration_since(asked_at).as_nanos()).unwrap_or(u64::MAX);
        let round_trip_ns = whole.saturating_sub(pong.sent_at.0.saturating_sub(pong.received_at.0));
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(ClockEstimate {
            offset_ns,
            round_trip_ns,
            measured_at: utc,
        });
        self.samples.iter().min_by_key(|sample| sample.round_trip_ns).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_quickest_of_the_last_answers_counts() {
        let start = Instant::now();
        let mut estimator = ClockEstimator::default();
        let mut utc = 1_000_000;
        // The peer's clock is 500 ahead; each way takes half of the round trip, but the second answer comes back late.
        for (there, back, estimated) in [
            (40, 40, (500, 80)),
            (10, 90, (500, 80)),
            (5, 5, (500, 10)),
            (9, 1, (500, 10)),
        ] {
            let ping = estimator.ask(Timestamp(utc), start + Duration::from_nanos(utc));
            let received_at = Timestamp(utc + there + 500);
            let sent_at = Timestamp(received_at.0 + 7);
            utc += there + 7 + back;
            let pong = Pong {
                nonce: ping.nonce,
                received_at,
                sent_at,
            };
            let now = start + Duration::from_nanos(utc);
            let estimate = estimator.answered(&pong, Timestamp(utc), now).unwrap();
            assert_eq!((estimate.offset_ns, estimate.round_trip_ns), estimated);
            assert_eq!(
                estimator.answered(&pong, Timestamp(utc), now),
                None,
                "an answer counts once"
            );
        }
    }

    #[test]
    fn answers_that_nobody_asked_for_and_wild_stamps_do_no_harm() {
        let start = Instant::now();
        let mut estimator = ClockEstimator::default();
        let pong = |nonce, received_at, sent_at| Pong {
            nonce,
            received_at: Timestamp(received_at),
            sent_at: Timestamp(sent_at),
        };
        assert_eq!(estimator.answered(&pong(1, 0, 0), Timestamp(0), start), None);
        for _ in 0..3 * ASKED_MAX {
            estimator.ask(Timestamp(5), start);
        }
        assert_eq!(estimator.answered(&pong(1, 0, 0), Timestamp(0), start), None);
        let estimate = estimator.answered(&pong(12, u64::MAX, u64::MAX), Timestamp(5), start);
        assert_eq!(estimate.unwrap().offset_ns, i64::MAX);
    }
}
