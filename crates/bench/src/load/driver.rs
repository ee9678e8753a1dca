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
/// From so many messages a second on the loop rests so many microseconds between two looks, instead of waking for each
/// event: it shares the machine with what it measures, and each wake-up costs as much as several messages.
const LOOKS: [(f64, u64); 3] = [(4_000.0, 100), (20_000.0, 250), (50_000.0, 500)];
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
        let look = LOOKS.iter().rev().find(|(from, _)| per_second >= *from);
        Self {
            look_every: look.map(|(_, every)| Duration::from_micros(*every)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::flow::{Flow, Mix};
    use crate::load::market::{Market, Trader};
    use crate::protocol::request::Names;
    use crate::protocol::websocket::first_frame;
    use crate::random::Random;
    use client::{Credentials, Secret};
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use types::{AccountId, KeyId};

    const SESSIONS: usize = 3;

    fn market(listener: &TcpListener) -> Market {
        let credentials = Credentials {
            key: KeyId(7),
            secret: Secret::HmacSha256(vec![1; 32]),
        };
        Market {
            address: listener.local_addr().unwrap(),
            host: "test".to_owned(),
            cluster: "test".parse().unwrap(),
            names: Names {
                run: "r-".to_owned(),
                symbols: vec!["AAA-BBB".to_owned()],
            },
            traders: vec![Trader {
                account: AccountId(1),
                credentials,
            }],
        }
    }

    /// The answer to one message of a client; none if it closes instead.
    type Answer = fn(&[u8]) -> Option<Vec<u8>>;

    fn serve(listener: TcpListener, protocol: Protocol, answer: Answer) {
        for stream in listener.incoming().take(SESSIONS) {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let mut input = Vec::new();
                let mut part = [0; 777];
                while let Ok(read) = stream.read(&mut part) {
                    if read == 0 {
                        return;
                    }
                    input.extend_from_slice(&part[..read]);
                    while let Some(length) = message_bytes(protocol, &input) {
                        let message: Vec<u8> = input.drain(..length).collect();
                        let Some(answer) = answer(&message) else { return };
                        // In pieces, so that the reader must put them together.
                        for piece in answer.chunks(50) {
                            stream.write_all(piece).unwrap();
                        }
                    }
                }
            });
        }
    }

    fn message_bytes(protocol: Protocol, input: &[u8]) -> Option<usize> {
        match protocol {
            // A client's frame has its mask besides; no request has more than 65,535 bytes.
            Protocol::WebSocket => {
                let length = match input.get(1)? & 0x7f {
                    126 => usize::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?)) + 8,
                    short => usize::from(short) + 6,
                };
                (input.len() >= length).then_some(length)
            }
            Protocol::Rest => {
                let text = std::str::from_utf8(input).unwrap();
                let (head, _) = text.split_once("\r\n\r\n")?;
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let whole = head.len() + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap());
                (input.len() >= whole).then_some(whole)
            }
        }
    }

    fn frame(text: &str) -> Vec<u8> {
        let mut frame = vec![0x81, 126];
        frame.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(text.as_bytes());
        assert!(first_frame(&frame).is_some());
        frame
    }

    const BODY: &str = r#"{"outcome":"executed","applies_to":"order","repeat":false,"request_id":"x","order":null,"fills":[],"position":{"group":0,"epoch":1,"sequence":"5"},"durable_in":"region","times":{"received_at":"1","sequenced_at":"2","committed_at":null,"clock_error_bound_ns":"3"}}"#;

    fn reply(message: &[u8]) -> Option<Vec<u8>> {
        if message[0] == 0x8a {
            return Some(Vec::new());
        }
        let (head, text) = message.split_at(if message[1] & 0x7f == 126 { 8 } else { 6 });
        let mask = &head[head.len() - 4..];
        let text: Vec<u8> = text
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ mask[index % 4])
            .collect();
        let message: wire::ws::ClientMessage = serde_json::from_slice(&text).unwrap();
        let reply = format!(r#"{{"reply":{{"id":{},"status":201,"order":{BODY}}}}}"#, message.id);
        // A ping before each reply, which is to be answered between two messages.
        Some([b"\x89\x02hi".to_vec(), frame(&reply)].concat())
    }

    fn respond(_: &[u8]) -> Option<Vec<u8>> {
        let length = BODY.len();
        Some(format!("HTTP/1.1 201 Created\r\ncontent-length: {length}\r\n\r\n{BODY}").into_bytes())
    }

    fn drive_against(protocol: Protocol, answer: Answer) -> (Requests, Records) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let market = market(&listener);
        let streams: Vec<TcpStream> = (0..SESSIONS)
            .map(|_| TcpStream::connect(market.address).unwrap())
            .collect();
        std::thread::spawn(move || serve(listener, protocol, answer));
        let mut random = Random(1);
        let mut flow = Flow::new(Mix::NewOnly, 2, SESSIONS, 1, 1, 100);
        let times: Vec<u64> = (0..900).map(|index| index * 10_000).collect();
        let mut requests = Requests::new(&times, &mut flow, SESSIONS, None, &mut random).unwrap();
        requests.encode(protocol, &market, &mut random);
        let pace = Pace::for_rate(100.0, Duration::from_secs(20));
        let (records, _) = drive(&requests, streams, protocol, pace, &Progress::default()).unwrap();
        (requests, records)
    }

    #[test]
    fn every_message_is_sent_once_and_its_answer_noted() {
        for (protocol, answer) in [(Protocol::WebSocket, reply as Answer), (Protocol::Rest, respond)] {
            let (requests, records) = drive_against(protocol, answer);
            assert_eq!(records.faults, Vec::<String>::new(), "{protocol}");
            assert_eq!(records.answers, 900);
            for message in 0..requests.len() {
                assert!(requests.intended[message] <= records.sent[message]);
                assert!(records.sent[message] <= records.answered[message]);
                assert_eq!(
                    (records.verdicts[message].status, records.verdicts[message].sequence),
                    (201, 5)
                );
            }
        }
    }

    #[test]
    fn an_answer_too_many_is_a_fault_and_a_closed_connection_leaves_no_answer() {
        let (_, records) = drive_against(Protocol::WebSocket, |message| {
            Some([reply(message)?, reply(message)?].concat())
        });
        assert!(records.faults[0].contains("answered twice"), "{:?}", records.faults);
        let (requests, records) = drive_against(Protocol::WebSocket, |_| None);
        assert_eq!(records.answers, 0);
        assert_eq!(records.answered, vec![0; requests.len()]);
        assert!(
            records.faults.iter().all(|fault| fault.contains("session ended")),
            "{:?}",
            records.faults
        );
    }
}
