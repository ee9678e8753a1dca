//! What was to be shown, held against what was measured.

use std::fmt;

use super::format::{count, nanoseconds, three_digits};
use crate::results::{Authentication, Burst, Protocol, Results, Series, Target};

/// One thing that was to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Aim {
    /// What it is about.
    pub name: String,
    /// What was wanted.
    pub wanted: String,
    /// What was measured.
    pub measured: String,
    /// What follows.
    pub verdict: Verdict,
}

/// Whether an aim was met.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It was.
    Met,
    /// It was not; by how much.
    Missed(String),
    /// The run did not measure it.
    NotMeasured,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Met => f.write_str("met"),
            Self::Missed(by) => write!(f, "missed: {by}"),
            Self::NotMeasured => f.write_str("not measured"),
        }
    }
}

const ANSWER_P50_RATIO_MAX: f64 = 1.3;
const ANSWER_P99_RATIO_MAX: f64 = 3.0;
/// Durable orders a second over REST with HMAC.
pub const REST_HMAC_RATE_MIN: f64 = 25_000.0;
const PEER_RATE_RATIO_MIN: f64 = 10.0;
const PEER_P99_RATIO_MIN: f64 = 10.0;
const NORMAL_AGAIN_MS_MAX: u64 = 1_000;

/// The aims, with the verdicts of a run.
pub fn aims_of(results: &Results) -> Vec<Aim> {
    // Of several series that differ in their sessions, the one that holds the most.
    let meridian = |protocol, authentication| {
        let series = results.series.iter().filter(|series| {
            let description = &series.description;
            description.target == Target::Meridian
                && description.protocol == protocol
                && (protocol == Protocol::WebSocket || description.authentication == authentication)
        });
        most(series)
    };
    let websocket = meridian(Protocol::WebSocket, Authentication::Hmac);
    let hmac = meridian(Protocol::Rest, Authentication::Hmac);
    let ed25519 = meridian(Protocol::Rest, Authentication::Ed25519);
    let peer = results
        .series
        .iter()
        .find(|series| series.description.target == Target::Peer);
    let mut aims = answer_aims(results).to_vec();
    for (name, wanted, series) in [
        ("over WebSocket, one order a message", 100_000.0, websocket),
        ("over REST with HMAC", REST_HMAC_RATE_MIN, hmac),
        ("over REST with Ed25519", 8_000.0, ed25519),
    ] {
        aims.push(rate_aim(name, wanted, series));
    }
    aims.push(peer_rate_aim(
        "the most of one order a message, to the peer's best, both with p99 below 5 ms",
        most(websocket.into_iter().chain(hmac)),
        peer,
        held,
    ));
    aims.push(peer_rate_aim(
        "the same over REST with HMAC on both sides",
        hmac,
        peer,
        held,
    ));
    aims.push(peer_rate_aim(
        "the same over REST with HMAC, to the peer's best at any latency",
        hmac,
        peer,
        kept_up,
    ));
    aims.push(peer_latency_aim(hmac, peer));
    aims.extend(burst_aims(
        results
            .bursts
            .iter()
            .find(|burst| burst.description.target == Target::Meridian),
    ));
    aims
}

fn answer_aims(results: &Results) -> [Aim; 2] {
    let answers = results.answers.as_ref();
    let pair = answers.and_then(|answers| Some((answers.way("WebSocket")?, &answers.floors.both)));
    let aim = |percentile: &str, most: f64, took: Option<(u64, u64, f64)>| Aim {
        name: format!("WebSocket, durable, one order in flight: {percentile} to the floor's"),
        wanted: format!("at most {most} times"),
        measured: took.map_or_else(String::new, |(answer, floor, ratio)| {
            format!("{ratio:.2} times: {} to {}", nanoseconds(answer), nanoseconds(floor))
        }),
        verdict: at_most(took.map(|(_, _, ratio)| ratio), most),
    };
    let p50 = pair.map(|(answer, floor)| (answer.p50_ns, floor.p50_ns, answer.p50_to(floor)));
    let p99 = pair.map(|(answer, floor)| (answer.p99_ns, floor.p99_ns, answer.p99_to(floor)));
    [
        aim("p50", ANSWER_P50_RATIO_MAX, p50),
        aim("p99", ANSWER_P99_RATIO_MAX, p99),
    ]
}

fn at_most(ratio: Option<f64>, most: f64) -> Verdict {
    match ratio {
        None => Verdict::NotMeasured,
        Some(ratio) if ratio <= most => Verdict::Met,
        Some(ratio) => Verdict::Missed(format!("by {:.0} %", (ratio / most - 1.0) * 100.0)),
    }
}

fn at_least(value: Option<f64>, least: f64) -> Verdict {
    match value {
        None => Verdict::NotMeasured,
        Some(value) if value >= least => Verdict::Met,
        Some(value) => Verdict::Missed(format!("by {:.0} %", (1.0 - value / least) * 100.0)),
    }
}

fn rate_aim(name: &str, least: f64, series: Option<&Series>) -> Aim {
    let knee = series.map(|series| series.knee());
    Aim {
        name: format!("durable orders a second {name}, p99 below 5 ms"),
        wanted: format!("at least {}", count(least)),
        measured: match knee {
            None => String::new(),
            Some(None) => "no rate of this run was held".to_owned(),
            Some(Some(step)) => format!(
                "{}, p99 {}",
                count(step.offered_per_second),
                nanoseconds(step.latency.p99_ns)
            ),
        },
        verdict: at_least(knee.map(|knee| knee.map_or(0.0, |step| step.offered_per_second)), least),
    }
}

/// The highest rate of a series that was held, in requests a second; 0 if none was.
fn held(series: &Series) -> f64 {
    series.knee().map_or(0.0, |step| step.offered_per_second)
}

/// The series that holds the highest rate.
fn most<'a>(series: impl Iterator<Item = &'a Series>) -> Option<&'a Series> {
    series.max_by(|a, b| held(a).total_cmp(&held(b)))
}

/// The highest rate of a series that was kept up with, at any latency.
fn kept_up(series: &Series) -> f64 {
    series.maximum().map_or(0.0, |step| step.offered_per_second)
}

/// What this program holds below 5 ms, against what the peer does by some measure.
fn peer_rate_aim(name: &str, own: Option<&Series>, peer: Option<&Series>, of_peer: fn(&Series) -> f64) -> Aim {
    let rates = own.zip(peer).map(|(own, peer)| (held(own), of_peer(peer)));
    let ratio = rates.map(|(own, peer)| own / peer.max(f64::MIN_POSITIVE));
    Aim {
        name: format!("durable orders a second: {name}"),
        wanted: format!("at least {PEER_RATE_RATIO_MIN} times"),
        measured: match rates {
            None => String::new(),
            Some((own, 0.0)) => format!("{} to none that the peer could hold", count(own)),
            Some((own, peer)) => format!("{} times: {} to {}", three_digits(own / peer), count(own), count(peer)),
        },
        verdict: at_least(ratio, PEER_RATE_RATIO_MIN),
    }
}

fn peer_latency_aim(own: Option<&Series>, peer: Option<&Series>) -> Aim {
    let pair = own.zip(peer).and_then(|(own, peer)| {
        let peer = peer.maximum()?;
        let own = own.step_of_at_least(peer.offered_per_second)?;
        Some((own, peer))
    });
    let ratio = pair.map(|(own, peer)| peer.latency.p99_ns as f64 / own.latency.p99_ns.max(1) as f64);
    Aim {
        name: "p99 over REST with HMAC at the peer's own maximum rate".to_owned(),
        wanted: format!("at least {PEER_P99_RATIO_MIN} times lower than the peer's"),
        measured: pair.zip(ratio).map_or_else(String::new, |((own, peer), ratio)| {
            format!(
                "{} times lower: {} at {} a second to {} at {}",
                three_digits(ratio),
                nanoseconds(own.latency.p99_ns),
                count(own.offered_per_second),
                nanoseconds(peer.latency.p99_ns),
                count(peer.offered_per_second)
            )
        }),
        verdict: at_least(ratio, PEER_P99_RATIO_MIN),
    }
}

fn burst_aims(burst: Option<&Burst>) -> [Aim; 3] {
    let sums = burst.map(|burst| {
        let sum = |of: fn(&crate::results::BurstSlot) -> u64| burst.slots.iter().map(of).sum::<u64>();
        (
            sum(|slot| slot.refused),
            sum(|slot| slot.limited),
            sum(|slot| slot.unanswered),
        )
    });
    let check = burst.and_then(|burst| burst.check);
    let lost = Aim {
        name: "burst of ten times the sustainable rate for a second: what was acknowledged".to_owned(),
        wanted: "is there, once".to_owned(),
        measured: check.map_or_else(String::new, |check| {
            format!(
                "{} acknowledged, {} missing, {} doubled",
                count(check.acknowledged as f64),
                count(check.missing as f64),
                count(check.doubled as f64)
            )
        }),
        verdict: match check {
            None => Verdict::NotMeasured,
            Some(check) if check.passed() => Verdict::Met,
            Some(check) => Verdict::Missed(format!("by {}", count((check.missing + check.doubled) as f64))),
        },
    };
    let refusals = Aim {
        name: "the same: what was not executed".to_owned(),
        wanted: "a clear 503, from a queue with a bound".to_owned(),
        measured: sums
            .zip(burst)
            .map_or_else(String::new, |((refused, limited, unanswered), burst)| {
                format!(
                    "{} refused with 503, {} with 429, {} without an answer; queue at most {} deep",
                    count(refused as f64),
                    count(limited as f64),
                    count(unanswered as f64),
                    count(burst.queue_depth_max as f64)
                )
            }),
        verdict: match sums {
            None => Verdict::NotMeasured,
            Some((_, 0, 0)) => Verdict::Met,
            Some((_, limited, unanswered)) => {
                Verdict::Missed(format!("by {} requests", count((limited + unanswered) as f64)))
            }
        },
    };
    [lost, refusals, normal_again_aim(burst)]
}

fn normal_again_aim(burst: Option<&Burst>) -> Aim {
    Aim {
        name: "the same: p99 normal again".to_owned(),
        wanted: format!("within {} ms after it", count(NORMAL_AGAIN_MS_MAX as f64)),
        measured: burst.map_or_else(String::new, |burst| match burst.normal_again_after_ms {
            Some(after) => format!("after {} ms", count(after as f64)),
            None => "not before the measurement ended".to_owned(),
        }),
        verdict: match burst.map(|burst| burst.normal_again_after_ms) {
            None => Verdict::NotMeasured,
            Some(Some(after)) if after <= NORMAL_AGAIN_MS_MAX => Verdict::Met,
            Some(Some(after)) => Verdict::Missed(format!("by {} ms", count((after - NORMAL_AGAIN_MS_MAX) as f64))),
            Some(None) => Verdict::Missed("it never was".to_owned()),
        },
    }
}
