//! One rate, held for some time: made, sent, and counted.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::connect::connect_all;
use super::driver::{Generator, Pace, Progress, drive};
use super::flow::Flow;
use super::market::Market;
use super::processes::{Processes, Usage};
use super::progress::Watcher;
use super::records::Records;
use super::requests::Requests;
use crate::protocol::Protocol;
use crate::random::Random;
use crate::results::{Percentiles, Schedule, Step, new_histogram};

/// How a step is sent.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Over what.
    pub protocol: Protocol,
    /// When.
    pub schedule: Schedule,
    /// How many requests a second.
    pub per_second: f64,
    /// How long before anything counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub seconds: Duration,
    /// How many connections.
    pub sessions: usize,
    /// How many requests a message carries, if messages are batches.
    pub batch: Option<usize>,
    /// How many messages a client keeps that its socket doesn't take, before it gives the oldest up; none: all.
    pub client_queue: Option<usize>,
    /// The send buffer of each socket, in bytes; none: the system's.
    pub send_buffer: Option<usize>,
    /// How long the generator rests between two looks; none: as suits the rate.
    pub look_every: Option<Duration>,
    /// How long answers are waited for after the last message was due.
    pub drain: Duration,
}

/// A step that was run, with everything that is known of it.
pub struct Run {
    /// The figures.
    pub step: Step,
    /// What was sent.
    pub requests: Requests,
    /// What came back.
    pub records: Records,
    /// What the generator did.
    pub generator: Generator,
    /// What the node used before and after.
    pub usage: (Usage, Usage),
}

/// Runs a step with messages at these times.
///
/// # Errors
/// If it can't be sent; what the exchange does is in the figures.
pub fn run_times(
    plan: &Plan,
    times: &[u64],
    flow: &mut Flow,
    market: &Market,
    node: &Processes,
    random: &mut Random,
) -> Result<Run> {
    let mut requests = Requests::new(times, flow, plan.sessions, plan.batch, random)?;
    requests.encode(plan.protocol, market, random);
    let streams = connect_all(plan.protocol, market, plan.sessions)?;
    if let Some(bytes) = plan.send_buffer {
        for stream in &streams {
            set_socket_send_buffer_size(stream, bytes)?;
        }
    }
    requests.wait_for_start();
    let progress = Arc::new(Progress::default());
    let watcher = Watcher::start(plan.per_second, requests.len() as u64, Arc::clone(&progress));
    let messages_per_second = requests.len() as f64 / (plan.warm_up + plan.seconds).as_secs_f64();
    let mut pace = Pace::for_rate(messages_per_second, plan.drain);
    pace.client_queue = plan.client_queue.unwrap_or(usize::MAX);
    pace.look_every = plan.look_every.or(pace.look_every);
    let before = node.usage()?;
    let (records, generator) = drive(&requests, streams, plan.protocol, pace, &progress)?;
    let after = node.usage()?;
    drop(watcher);
    let usage = (before, after);
    Ok(Run {
        step: figures(plan, &requests, &records, &generator, usage),
        requests,
        records,
        generator,
        usage,
    })
}

fn figures(plan: &Plan, requests: &Requests, records: &Records, generator: &Generator, usage: (Usage, Usage)) -> Step {
    let mut step = Step {
        offered_per_second: plan.per_second,
        seconds: plan.seconds.as_secs_f64(),
        generator_late_ns_max: generator.lateness.max(),
        generator_cpus: generator.processor.as_secs_f64() / generator.wall.as_secs_f64().max(f64::MIN_POSITIVE),
        ..Step::default()
    };
    let counts_from = nanoseconds(plan.warm_up);
    let mut latency = new_histogram();
    let mut from_send = new_histogram();
    for message in 0..requests.len() {
        let intended = requests.intended[message];
        if intended < counts_from {
            continue;
        }
        step.sent += requests.items as u64;
        let answered = records.answered[message];
        if answered == 0 {
            step.unanswered += requests.items as u64;
            continue;
        }
        latency.saturating_record(answered.saturating_sub(intended));
        from_send.saturating_record(answered.saturating_sub(records.sent[message]));
        for verdict in &records.verdicts[message * requests.items..(message + 1) * requests.items] {
            match verdict.status {
                200..300 => step.executed += 1,
                503 => step.refused += 1,
                429 => step.limited += 1,
                500.. => step.unanswered += 1,
                _ => step.rejected += 1,
            }
        }
    }
    step.latency = Percentiles::of(&latency);
    step.latency_from_send = Percentiles::of(&from_send).without_curve();
    let used = usage.1.processor.saturating_sub(usage.0.processor);
    let answers = records.answers.max(1) * requests.items as u64;
    step.node_cpu_us_per_request = used.as_secs_f64() * 1e6 / answers as f64;
    step
}

impl Run {
    /// The generator's processor time a request, in microseconds.
    pub fn generator_us_per_request(&self) -> f64 {
        let answers = self.records.answers.max(1) * self.requests.items as u64;
        self.generator.processor.as_secs_f64() * 1e6 / answers as f64
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
