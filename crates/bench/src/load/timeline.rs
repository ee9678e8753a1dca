//! A run in slots of time, by when requests were due.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::records::Records;
use super::requests::Requests;
use crate::results::{Burst, BurstSlot, new_histogram};

/// The width of a slot, in milliseconds.
pub const SLOT_MS: u64 = 100;
const MS_NS: u64 = 1_000_000;
/// Up to so many times the p99 of before is normal.
const NORMAL_FACTOR: u64 = 2;
/// As many slots in a row must be normal until it counts as normal again.
const NORMAL_SLOTS: usize = 5;

/// The slots from `from_ns` on.
pub fn slots(requests: &Requests, records: &Records, from_ns: u64) -> Vec<BurstSlot> {
    let mut slots: Vec<BurstSlot> = Vec::new();
    let mut histograms: Vec<Histogram<u64>> = Vec::new();
    for message in 0..requests.len() {
        let Some(since) = requests.intended[message].checked_sub(from_ns) else {
            continue;
        };
        let index = usize::try_from(since / (SLOT_MS * MS_NS)).expect("a run has few slots");
        while slots.len() <= index {
            slots.push(BurstSlot {
                at_ms: slots.len() as u64 * SLOT_MS,
                ..BurstSlot::default()
            });
            histograms.push(new_histogram());
        }
        let slot = &mut slots[index];
        let items = requests.items as u64;
        slot.offered += items;
        if records.sent[message] == 0 {
            slot.not_sent += items;
            continue;
        }
        if records.answered[message] == 0 {
            slot.unanswered += items;
            continue;
        }
        let mut executed = false;
        for verdict in &records.verdicts[message * requests.items..(message + 1) * requests.items] {
            match verdict.status {
                503 => slot.refused += 1,
                429 => slot.limited += 1,
                500.. => slot.unanswered += 1,
                _ => {
                    executed = true;
                    slot.executed += 1;
                }
            }
        }
        if executed {
            histograms[index].saturating_record(records.answered[message] - requests.intended[message]);
        }
    }
    for (slot, histogram) in slots.iter_mut().zip(&histograms) {
        slot.p99_ns = histogram.value_at_quantile(0.99);
    }
    slots
}

/// The latency of what was due between these times and answered.
pub fn latency(requests: &Requests, records: &Records, from_ns: u64, until_ns: u64) -> Histogram<u64> {
    let mut histogram = new_histogram();
    for (intended, answered) in requests.intended.iter().zip(&records.answered) {
        if (from_ns..until_ns).contains(intended) && *answered > 0 {
            histogram.saturating_record(answered.saturating_sub(*intended));
        }
    }
    histogram
}

/// How long after the burst's end p99 is normal again and stays so for half a second.
pub fn normal_again_after_ms(slots: &[BurstSlot], burst_end_ms: u64, normal_p99_ns: u64) -> Option<u64> {
    let is_normal =
        |slot: &BurstSlot| slot.refused == 0 && slot.not_sent == 0 && slot.p99_ns <= normal_p99_ns * NORMAL_FACTOR;
    let after = slots.iter().position(|slot| slot.at_ms >= burst_end_ms)?;
    let first = slots[after..]
        .windows(NORMAL_SLOTS)
        .position(|window| window.iter().all(is_normal))?;
    Some(first as u64 * SLOT_MS)
}

/// The timeline and what it means, as text.
pub fn table(burst: &Burst, given_up: u64) -> String {
    let mut text = format!(
        "{:>7} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>10}\n",
        "ms", "offered", "executed", "refused", "limited", "not sent", "no answer", "p99 us"
    );
    for slot in &burst.slots {
        let during = (burst.burst_ms.0..burst.burst_ms.1).contains(&slot.at_ms);
        let _ = writeln!(
            text,
            "{:>7} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>10.0}{}",
            slot.at_ms,
            slot.offered,
            slot.executed,
            slot.refused,
            slot.limited,
            slot.not_sent,
            slot.unanswered,
            slot.p99_ns as f64 / 1_000.0,
            if during { "  burst" } else { "" }
        );
    }
    let again = match burst.normal_again_after_ms {
        Some(after) => format!("{after} ms after the burst"),
        None => "not within the time that was measured".to_owned(),
    };
    let _ = writeln!(
        text,
        "Normal: {:.0} a second, p99 {:.0} us. Burst: {:.0} a second for a second. Normal again (p99 within twice, nothing \
         refused): {again}.\nClients gave up {given_up} messages that their sockets didn't take. The node's queue was at most \
         {} deep; its memory went from {} to at most {} MiB.",
        burst.normal_per_second,
        burst.normal_p99_ns as f64 / 1_000.0,
        burst.burst_per_second,
        burst.queue_depth_max,
        burst.rss_bytes.0 >> 20,
        burst.rss_bytes.1 >> 20,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_normal_again_once_it_stays_so() {
        let slot = |(index, p99_ns): (u64, u64)| BurstSlot {
            at_ms: index * SLOT_MS,
            p99_ns,
            ..BurstSlot::default()
        };
        let slots = |p99s: &[u64]| (0..).zip(p99s.iter().copied()).map(slot).collect::<Vec<_>>();
        let before = [10, 10, 900, 900];
        for (after, wanted) in [
            ([10; 8].as_slice(), Some(0)),
            (&[900, 20, 20, 20, 20, 20, 20], Some(100)),
            (&[10, 900, 10, 10, 10, 10, 10], Some(200)),
            (&[900, 900, 10, 10, 10], None),
            (&[], None),
        ] {
            let slots = slots(&[&before, after].concat());
            assert_eq!(normal_again_after_ms(&slots, 400, 10), wanted, "{after:?}");
        }
    }
}
