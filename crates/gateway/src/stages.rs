//! Where the time of a command goes: a histogram for each stage on its way, cheap enough to stay on.
//!
//! ```text
//!  first byte ─read─> whole message ─verify─> submitted ─queue─> taken ─batch─> written ─fsync─> durable ─apply─> applied
//!                                                                                   applied ─answer─> text ─write─> sent
//! ```
//!
//! A recording is two additions to atomics that the recording thread seldom shares. Nothing allocates, nothing locks,
//! nothing reads a clock: whoever records has the stamps already, of a whole batch where there is one.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Buckets of a power of two, as a power of two: each is at most a quarter wider than the one before.
const SPLIT_BITS: u32 = 2;
/// The first bucket ends at 2 to this power, in nanoseconds: 256 ns.
const FIRST_BITS: u32 = 8;
/// The last bound is 2 to this power, in nanoseconds: 17.2 s. What took longer has no bound.
const LAST_BITS: u32 = 34;
/// How many bounds there are, and one bucket more for what lies beyond them.
const BOUNDS: usize = 1 + (((LAST_BITS - FIRST_BITS) as usize) << SPLIT_BITS);
/// Sets of histograms, so that threads that record at the same time seldom meet.
const SHARDS: usize = 4;
/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// A stage on a command's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// From the first byte of the request to the whole message.
    Read,
    /// From the whole message to its submission: parsing, signature, limits, intake.
    Verify,
    /// From the submission until the core takes it out of its queue.
    Queue,
    /// From there until its batch is sequenced, encoded and written to the journal's file.
    Batch,
    /// The sync of the journal that its batch waits for.
    Fsync,
    /// From the commit of its batch until the whole batch is applied.
    Apply,
    /// From there until the answer is written as text, with the wake-up of its session.
    Answer,
    /// From there until the system has taken the answer.
    Write,
    /// From the first byte of the request until the system has taken the answer.
    Total,
}

impl Stage {
    /// All stages, in the order in which a command goes through them, and the total.
    pub const ALL: [Self; 9] = [
        Self::Read,
        Self::Verify,
        Self::Queue,
        Self::Batch,
        Self::Fsync,
        Self::Apply,
        Self::Answer,
        Self::Write,
        Self::Total,
    ];

    /// The stage's name in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Verify => "verify",
            Self::Queue => "queue",
            Self::Batch => "batch",
            Self::Fsync => "fsync",
            Self::Apply => "apply",
            Self::Answer => "answer",
            Self::Write => "write",
            Self::Total => "total",
        }
    }
}

/// A histogram of durations from 256 ns to 17 s, in buckets that are each at most a quarter wider than the one before.
#[derive(Debug)]
pub struct Durations {
    buckets: [AtomicU64; BOUNDS + 1],
    sum_ns: AtomicU64,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BOUNDS + 1],
            sum_ns: AtomicU64::new(0),
        }
    }
}

impl Durations {
    /// Counts `count` times something that took `nanoseconds`.
    pub fn record(&self, nanoseconds: u64, count: u64) {
        self.buckets[bucket_of(nanoseconds)].fetch_add(count, Ordering::Relaxed);
        self.sum_ns
            .fetch_add(nanoseconds.wrapping_mul(count), Ordering::Relaxed);
    }
}

/// Which bucket a duration belongs to: the first one whose bound is not below it.
fn bucket_of(nanoseconds: u64) -> usize {
    let below = nanoseconds.saturating_sub(1);
    let Some(power) = below.checked_ilog2().filter(|power| *power >= FIRST_BITS) else {
        return 0;
    };
    if power >= LAST_BITS {
        return BOUNDS;
    }
    let part = (below >> (power - SPLIT_BITS)) as usize & ((1 << SPLIT_BITS) - 1);
    1 + (((power - FIRST_BITS) as usize) << SPLIT_BITS) + part
}

/// The largest duration that belongs to a bucket, in nanoseconds.
fn bound_ns(bucket: usize) -> u64 {
    let Some(index) = bucket.checked_sub(1) else {
        return 1 << FIRST_BITS;
    };
    let part = (index & ((1 << SPLIT_BITS) - 1)) as u64;
    ((1 << SPLIT_BITS) + part + 1) << (FIRST_BITS as usize + (index >> SPLIT_BITS) - SPLIT_BITS as usize)
}

/// How many commands batches have: one bucket for each power of two.
#[derive(Debug, Default)]
pub struct Sizes {
    buckets: [AtomicU64; Self::BOUNDS + 1],
    sum: AtomicU64,
}

impl Sizes {
    /// Bounds from 1 to 4,096.
    const BOUNDS: usize = 13;

    /// Counts something of this size.
    pub fn record(&self, size: u64) {
        let bucket = size
            .saturating_sub(1)
            .checked_ilog2()
            .map_or(0, |power| power as usize + 1);
        self.buckets[bucket.min(Self::BOUNDS)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(size, Ordering::Relaxed);
    }
}

/// The histograms of a node's order path.
#[derive(Debug, Default)]
pub struct Stages {
    shards: [Shard; SHARDS],
    syncs: Durations,
    batches: Sizes,
}

/// Aligned, so that no two shards share a line of the cache.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([Durations; Stage::ALL.len()]);

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The set in which the calling thread records.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let shard = SHARD.get();
    if shard < SHARDS {
        return shard;
    }
    let shard = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    SHARD.set(shard);
    shard
}

impl Stages {
    /// Counts a command that spent `nanoseconds` in a stage.
    pub fn record(&self, stage: Stage, nanoseconds: u64) {
        self.record_many(stage, nanoseconds, 1);
    }

    /// Counts `count` commands that spent `nanoseconds` in a stage together.
    pub fn record_many(&self, stage: Stage, nanoseconds: u64, count: u64) {
        self.shards[shard()].0[stage as usize].record(nanoseconds, count);
    }

    /// Counts a sync of the journal, for however many commands.
    pub fn record_sync(&self, nanoseconds: u64) {
        self.syncs.record(nanoseconds, 1);
    }

    /// Counts a batch that the core took out of its queue.
    pub fn record_batch(&self, commands: usize) {
        self.batches.record(commands as u64);
    }

    /// Writes all of them as Prometheus text, durations in seconds.
    pub fn render(&self, out: &mut String) {
        const STAGES: &str = "meridian_stage_seconds";
        head(
            out,
            STAGES,
            "What part of a command's time went where, one sample a command",
        );
        for stage in Stage::ALL {
            let parts: [&Durations; SHARDS] = std::array::from_fn(|shard| &self.shards[shard].0[stage as usize]);
            let label = format!("stage=\"{}\"", stage.name());
            render_durations(out, STAGES, &label, &parts);
        }
        const SYNCS: &str = "meridian_journal_sync_seconds";
        head(out, SYNCS, "How long a sync of the journal took, one sample a sync");
        render_durations(out, SYNCS, "", &[&self.syncs]);
        const BATCHES: &str = "meridian_batch_commands";
        head(out, BATCHES, "How many commands a batch had, one sample a batch");
        let buckets = self.batches.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let bounds = (0..Sizes::BOUNDS).map(|bucket| (1_u64 << bucket).to_string());
        let sum = self.batches.sum.load(Ordering::Relaxed).to_string();
        render(
            out,
            BATCHES,
            "",
            bounds.zip(buckets.clone()),
            buckets.clone().sum(),
            &sum,
        );
    }
}

fn head(out: &mut String, name: &str, help: &str) {
    writeln!(out, "# HELP {name} {help}.\n# TYPE {name} histogram").expect("a string takes all");
}

/// Writes the sum of several histograms as one.
fn render_durations(out: &mut String, name: &str, label: &str, parts: &[&Durations]) {
    let load = |bucket: usize| -> u64 {
        let parts = parts.iter();
        parts.map(|part| part.buckets[bucket].load(Ordering::Relaxed)).sum()
    };
    let counts: [u64; BOUNDS + 1] = std::array::from_fn(load);
    let sum_ns = parts.iter().fold(0, |sum: u64, part| {
        sum.wrapping_add(part.sum_ns.load(Ordering::Relaxed))
    });
    let bounds = (0..BOUNDS).map(|bucket| seconds(bound_ns(bucket)));
    let buckets = bounds.zip(counts);
    render(out, name, label, buckets, counts.iter().sum(), &seconds(sum_ns));
}

fn render(
    out: &mut String,
    name: &str,
    label: &str,
    buckets: impl Iterator<Item = (String, u64)>,
    count: u64,
    sum: &str,
) {
    let comma = if label.is_empty() { "" } else { "," };
    let set = if label.is_empty() {
        String::new()
    } else {
        format!("{{{label}}}")
    };
    let mut below = 0;
    for (bound, count) in buckets {
        below += count;
        writeln!(out, "{name}_bucket{{{label}{comma}le=\"{bound}\"}} {below}").expect("a string takes all");
    }
    writeln!(
        out,
        "{name}_bucket{{{label}{comma}le=\"+Inf\"}} {count}\n{name}_sum{set} {sum}\n{name}_count{set} {count}"
    )
    .expect("a string takes all");
}

/// Nanoseconds as seconds, exactly.
fn seconds(nanoseconds: u64) -> String {
    let (whole, part) = (nanoseconds / SECOND_NS, nanoseconds % SECOND_NS);
    let text = format!("{whole}.{part:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_the_first_bucket_that_is_not_below_it() {
        let around = |bound: u64| [bound - 1, bound, bound + 1];
        let mut durations: Vec<u64> = (0..BOUNDS).flat_map(|bucket| around(bound_ns(bucket))).collect();
        durations.extend([0, 1, 255, 1_000_000, SECOND_NS, 60 * SECOND_NS, u64::MAX]);
        for duration in durations {
            let expected = (0..BOUNDS).find(|bucket| duration <= bound_ns(*bucket));
            assert_eq!(bucket_of(duration), expected.unwrap_or(BOUNDS), "{duration}");
        }
        assert_eq!((bound_ns(0), bound_ns(BOUNDS - 1)), (256, 1 << LAST_BITS));
        for bucket in 1..BOUNDS {
            let (before, bound) = (bound_ns(bucket - 1), bound_ns(bucket));
            assert!(before < bound && bound - before <= before / 4, "{bucket}");
        }
    }

    #[test]
    fn all_threads_are_rendered_together() {
        let stages = Stages::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| stages.record(Stage::Fsync, 1_000));
            }
        });
        stages.record_many(Stage::Fsync, 2_000_000_000, 3);
        stages.record_sync(300);
        for size in [1, 2, 3, 4, 5, 4_096, 5_000] {
            stages.record_batch(size);
        }
        let mut text = String::new();
        stages.render(&mut text);
        for line in [
            "meridian_stage_seconds_bucket{stage=\"fsync\",le=\"0.000000896\"} 0",
            "meridian_stage_seconds_bucket{stage=\"fsync\",le=\"0.000001024\"} 8",
            "meridian_stage_seconds_bucket{stage=\"fsync\",le=\"+Inf\"} 11",
            "meridian_stage_seconds_sum{stage=\"fsync\"} 6.000008",
            "meridian_stage_seconds_count{stage=\"fsync\"} 11",
            "meridian_stage_seconds_count{stage=\"total\"} 0",
            "meridian_journal_sync_seconds_bucket{le=\"0.000000256\"} 0",
            "meridian_journal_sync_seconds_bucket{le=\"0.00000032\"} 1",
            "meridian_journal_sync_seconds_count 1",
            "meridian_batch_commands_bucket{le=\"1\"} 1",
            "meridian_batch_commands_bucket{le=\"2\"} 2",
            "meridian_batch_commands_bucket{le=\"4\"} 4",
            "meridian_batch_commands_bucket{le=\"8\"} 5",
            "meridian_batch_commands_bucket{le=\"4096\"} 6",
            "meridian_batch_commands_bucket{le=\"+Inf\"} 7",
            "meridian_batch_commands_sum 9111",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
    }
}
