//! The loop that sends what is due and takes note of what comes back, on one thread without a runtime.
//!
//! ```text
//!  schedule ──due──> session, session, …  ──one write each──> exchange
//!                         ^─────────────── answers <──epoll──────┘
//! ```
//!
//! It shares the machine with what it measures. So all bytes are made before, what is due for a session at the same time
//! is one write, and at high rates the loop looks up only every so many microseconds (`look_every`): what was due since
//! then leaves late, which the latency counts, since it counts from when a request was due.

use std::net::TcpStream;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::ClockId;

use super::records::Records;
use super::requests::Requests;
use super::schedule::SECOND_NS;
use super::session::{Session, make_ready};
use crate::clock::{now_ns, processor_time};
use crate::protocol::Protocol;

/// Bytes that are read at once: more than the largest answer.
const INPUT_BYTES: usize = 1 << 20;
/// Events that are taken at once.
const EVENTS: usize = 1_024;
/// From this many messages a second on the loop looks up at times instead of at each event.
const OFTEN_PER_SECOND: f64 = 4_000.0;
/// How long the loop then rests between two looks.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// How long to get ready before the first message is due.
const LEAD_NS: u64 = 20_000_000;
/// Longer than any answer takes that still counts.
pub const LONGEST_NS: u64 = 60 * SECOND_NS;

/// How to drive.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long the loop rests between two looks; none: it wakes for each event and each message that is due.
    pub look_every: Option<Duration>,
    /// How many messages a session keeps that are due and not sent, before it gives the oldest up.
    pub client_queue: usize,
    /// How long answers are waited for after the last message was due.
    pub drain: Duration,
}

impl Pace {
    /// What suits so many messages a second.
    pub fn for_rate(per_second: f64, drain: Duration) -> Self {
        Self {
            look_every: (per_second >= OFTEN_PER_SECOND).then_some(LOOK_EVERY),
            client_queue: usize::MAX,
            drain,
        }
    }
}

/// How far a step is, for whoever watches from another thread.
#[derive(Debug, Default)]
pub struct Progress {
    /// Messages that were due.
    pub due: AtomicU64,
    /// Messages that were answered.
    pub answered: AtomicU64,
}

/// What the generator itself did.
pub struct Generator {
    /// Processor time of its thread from the first message on.
    pub processor: Duration,
    /// How long the step took on the wall's clock.
    pub wall: Duration,
    /// By how much it was late in noticing that a message was due.
    pub lateness: Histogram<u64>,
}

/// Sends everything and waits for the answers.
///
/// # Errors
/// If the system refuses it something; what the exchange does is in the records.
pub fn drive(
    requests: &Requests,
    streams: Vec<TcpStream>,
    protocol: Protocol,
    pace: Pace,
    progress: &Progress,
) -> Result<(Records, Generator)> {
    ensure!(
        streams.len() == requests.sessions.len(),
        "each session has a connection"
    );
    // Sleeps end when they should, not up to 50 us later.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).context("failed to set the timer's slack")?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut sessions = Vec::with_capacity(streams.len());
    for (index, (stream, messages)) in streams.into_iter().zip(&requests.sessions).enumerate() {
        make_ready(&stream)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&epoll, &stream, epoll::EventData::new_u64(index as u64), flags)?;
        sessions.push(Session::new(
            stream,
            protocol,
            messages.start,
            requests,
            pace.client_queue,
        ));
    }
    let mut driver = Driver {
        requests,
        records: Records::new(requests.len(), requests.items),
        sessions,
        queue: Vec::new(),
        next: 0,
        lateness: Histogram::new_with_bounds(1, LONGEST_NS, 3)?,
        input: vec![0; INPUT_BYTES],
        start_ns: now_ns() + LEAD_NS,
    };
    let processor = processor_time();
    driver.run(&epoll, pace, progress)?;
    let generator = Generator {
        processor: processor_time().saturating_sub(processor),
        wall: Duration::from_nanos(now_ns().saturating_sub(driver.start_ns)),
        lateness: driver.lateness,
    };
    Ok((driver.records, generator))
}

struct Driver<'a> {
    requests: &'a Requests,
    records: Records,
    sessions: Vec<Session>,
    /// The sessions to be written to.
    queue: Vec<u32>,
    /// The next message of the schedule.
    next: usize,
    lateness: Histogram<u64>,
    input: Vec<u8>,
    start_ns: u64,
}

impl Driver<'_> {
    fn run(&mut self, epoll: &impl std::os::fd::AsFd, pace: Pace, progress: &Progress) -> Result<()> {
        let last_ns = self.requests.due.last().map_or(0, |(at, _)| *at);
        let end_ns = self.start_ns + last_ns + u64::try_from(pace.drain.as_nanos()).unwrap_or(LONGEST_NS);
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let now = now_ns();
            self.note_due(now);
            self.send();
            progress.due.store(self.next as u64, Ordering::Relaxed);
            progress.answered.store(self.records.answers, Ordering::Relaxed);
            let all_due = self.next == self.requests.len();
            if now >= end_ns || all_due && sessions_are_done(&self.sessions) {
                return Ok(());
            }
            let until = match self.requests.due.get(self.next) {
                Some((at, _)) => self.start_ns + at,
                None => end_ns,
            };
            events.clear();
            if let Some(rest) = pace.look_every.filter(|_| now >= self.start_ns) {
                sleep_until(now + u64::try_from(rest.as_nanos())?);
                wait(epoll, &mut events, 0)?;
            } else {
                wait(epoll, &mut events, until.saturating_sub(now_ns()))?;
            }
            self.take_events(&events);
        }
    }

    /// Hands out what is due by now.
    fn note_due(&mut self, now: u64) {
        while let Some((at, session)) = self.requests.due.get(self.next) {
            let late = match now.checked_sub(self.start_ns + at) {
                Some(late) => late,
                None => break,
            };
            self.lateness.saturating_record(late);
            self.sessions[*session as usize].one_more_due();
            enqueue(&mut self.sessions, &mut self.queue, *session);
            self.next += 1;
        }
    }

    fn send(&mut self) {
        while let Some(session) = self.queue.pop() {
            let session = &mut self.sessions[session as usize];
            session.queued = false;
            session.send(self.requests, &mut self.records, self.start_ns);
        }
    }

    fn take_events(&mut self, events: &[epoll::Event]) {
        for event in events {
            let index = event.data.u64() as u32;
            let session = &mut self.sessions[index as usize];
            let readable =
                epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            let flags = event.flags;
            if flags.intersects(readable) {
                session.receive(&mut self.input, self.requests, &mut self.records, self.start_ns);
            }
            enqueue(&mut self.sessions, &mut self.queue, index);
        }
    }
}

fn enqueue(sessions: &mut [Session], queue: &mut Vec<u32>, index: u32) {
    let session = &mut sessions[index as usize];
    if !session.queued && session.wants_to_write() {
        session.queued = true;
        queue.push(index);
    }
}

fn sessions_are_done(sessions: &[Session]) -> bool {
    let is_done = |session: &Session| session.ended || session.waiting() == 0 && session.under_way() == 0;
    sessions.iter().all(is_done)
}

fn sleep_until(at_ns: u64) {
    let at = timespec(at_ns);
    // Woken by a signal, it looks up early, which does no harm.
    let _ = clock_nanosleep_absolute(ClockId::Monotonic, &at);
}

fn wait(epoll: &impl std::os::fd::AsFd, events: &mut Vec<epoll::Event>, at_most_ns: u64) -> Result<()> {
    match epoll::wait(epoll, spare_capacity(events), Some(&timespec(at_most_ns))) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("failed to wait for the sockets"),
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: (ns / SECOND_NS) as i64,
        tv_nsec: (ns % SECOND_NS) as i64,
    }
}
