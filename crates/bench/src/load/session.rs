//! One connection of the load generator: what is due is written as far as the socket takes it, and answers are read as
//! they come. It never blocks.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use super::records::Records;
use super::requests::{FIRST_ID, Requests};
use crate::clock::now_ns;
use crate::protocol::answer::{Message, Verdict, code_of};
use crate::protocol::websocket::{self, Opcode};
use crate::protocol::{Protocol, http};
use crate::random::Random;

/// One connection.
pub struct Session {
    /// The connection.
    pub stream: TcpStream,
    protocol: Protocol,
    /// Messages before this one are due.
    due: usize,
    /// Messages before this one were handed to the system whole.
    sent: usize,
    /// Where in the requests' bytes the next write begins.
    written: usize,
    /// How many messages have an answer.
    answered: usize,
    /// How many messages were given up.
    given_up: usize,
    /// How many messages may wait here.
    queue_max: usize,
    /// The first message.
    first: usize,
    /// The start of an answer of which the rest hasn't come.
    partial: Vec<u8>,
    /// Pongs to be written between messages.
    control: Vec<u8>,
    /// True once it has ended.
    pub ended: bool,
    /// True while it is among those to be written to.
    pub queued: bool,
}

impl Session {
    /// A session that will send the messages from this one on.
    pub fn new(stream: TcpStream, protocol: Protocol, first: usize, requests: &Requests, queue_max: usize) -> Self {
        Self {
            stream,
            protocol,
            due: first,
            sent: first,
            written: requests.start_of(first),
            answered: 0,
            given_up: 0,
            queue_max,
            first,
            partial: Vec::new(),
            control: Vec::new(),
            ended: false,
            queued: false,
        }
    }

    /// One more message is due.
    pub fn one_more_due(&mut self) {
        self.due += 1;
    }

    /// How many messages are due and not sent.
    pub fn waiting(&self) -> usize {
        self.due - self.sent
    }

    /// How many messages are sent and not answered.
    pub fn under_way(&self) -> usize {
        self.sent - self.first - self.answered - self.given_up
    }

    /// True if there is something that may be written now.
    pub fn wants_to_write(&self) -> bool {
        !self.ended && (!self.control.is_empty() || self.allowed() > self.sent)
    }

    /// Messages before this one may be written now: over REST one at a time.
    fn allowed(&self) -> usize {
        match self.protocol {
            Protocol::WebSocket => self.due,
            Protocol::Rest if self.under_way() == 0 => self.due.min(self.sent + 1),
            Protocol::Rest => self.sent,
        }
    }

    /// Writes what is due as far as the socket takes it, in as few writes as can be.
    pub fn send(&mut self, requests: &Requests, records: &mut Records, start_ns: u64) {
        while self.wants_to_write() {
            self.give_up(requests, records);
            let between = self.written == requests.start_of(self.sent);
            let allowed = self.allowed();
            let control = between && !self.control.is_empty();
            let bytes = if control {
                &self.control[..]
            } else {
                // A ping that came in the middle of a message is answered behind that message.
                let last = if self.control.is_empty() {
                    allowed
                } else {
                    self.sent + 1
                };
                &requests.bytes[self.written..requests.ends[last - 1]]
            };
            let whole = bytes.len();
            let now = now_ns().saturating_sub(start_ns).max(1);
            match (&self.stream).write(bytes) {
                Ok(count) if control => {
                    self.control.drain(..count);
                    if count < whole {
                        return;
                    }
                }
                Ok(count) => {
                    self.written += count;
                    while self.sent < allowed && requests.ends[self.sent] <= self.written {
                        records.sent[self.sent] = now;
                        self.sent += 1;
                    }
                    if count < whole {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.end(records, &format!("a write failed: {error}")),
            }
        }
    }

    /// A client whose queue is full drops its oldest messages, but none of which a part has left.
    fn give_up(&mut self, requests: &Requests, records: &mut Records) {
        let kept_from = self.due.saturating_sub(self.queue_max);
        if kept_from > self.sent && self.written == requests.start_of(self.sent) {
            let count = kept_from - self.sent;
            self.sent = kept_from;
            self.written = requests.start_of(kept_from);
            self.given_up += count;
            records.given_up += count as u64;
        }
    }

    /// Reads and takes note of all answers that are there.
    pub fn receive(&mut self, input: &mut [u8], requests: &Requests, records: &mut Records, start_ns: u64) {
        while !self.ended {
            let kept = self.partial.len();
            input[..kept].copy_from_slice(&self.partial);
            let read = match (&self.stream).read(&mut input[kept..]) {
                Ok(0) => return self.end(records, "the exchange closed the connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.end(records, &format!("a read failed: {error}")),
            };
            let now = now_ns().saturating_sub(start_ns).max(1);
            records.answer_bytes += read as u64;
            let all = &input[..kept + read];
            let taken = match self.protocol {
                Protocol::WebSocket => self.take_frames(all, requests, records, now),
                Protocol::Rest => self.take_responses(all, requests, records, now),
            };
            self.partial.clear();
            self.partial.extend_from_slice(&all[taken..]);
            // Less than there was room for: the socket is empty for now.
            if kept + read < input.len() {
                return;
            }
            if taken == 0 {
                return self.end(records, "an answer is larger than any may be");
            }
        }
    }

    fn take_frames(&mut self, input: &[u8], requests: &Requests, records: &mut Records, now: u64) -> usize {
        let mut taken = 0;
        while let Some(frame) = websocket::first_frame(&input[taken..]) {
            taken += frame.bytes;
            match frame.opcode {
                Opcode::Text => self.take_text(frame.payload, requests, records, now),
                Opcode::Ping => {
                    // Any mask will do.
                    websocket::push_pong(&mut self.control, &mut Random(now), frame.payload);
                }
                Opcode::Pong => {}
                Opcode::Close | Opcode::Unexpected(_) => {
                    self.end(records, &format!("the exchange ended the session ({:?})", frame.opcode));
                    break;
                }
            }
        }
        taken
    }

    fn take_text(&mut self, text: &[u8], requests: &Requests, records: &mut Records, now: u64) {
        match Message::parse(text) {
            Ok(Message::One(id, verdict)) => {
                let Some(message) = self.message_of(id, records) else {
                    return;
                };
                if records.answer(message, now) {
                    self.answered += 1;
                    let all = &mut records.verdicts[message * requests.items..(message + 1) * requests.items];
                    all.fill(verdict);
                    note_refusal(verdict, text, records);
                }
            }
            Ok(Message::Batch(id, status, verdicts)) => {
                let Some(message) = self.message_of(id, records) else {
                    return;
                };
                if records.answer(message, now) {
                    self.answered += 1;
                    take_verdicts(message, status, &verdicts, requests, records);
                }
            }
            Ok(Message::Other(text)) => records.fault(|| format!("the exchange said: {text}")),
            Err(error) => records.fault(|| format!("{error:#}")),
        }
    }

    fn message_of(&self, id: u64, records: &mut Records) -> Option<usize> {
        let message = id
            .checked_sub(FIRST_ID)
            .and_then(|message| usize::try_from(message).ok());
        let message = message.filter(|message| (self.first..self.sent).contains(message));
        if message.is_none() {
            records.fault(|| format!("an answer to message {id}, which this session never sent"));
        }
        message
    }

    fn take_responses(&mut self, input: &[u8], requests: &Requests, records: &mut Records, now: u64) -> usize {
        let mut taken = 0;
        loop {
            let response = match http::first_response(&input[taken..]) {
                Ok(Some(response)) => response,
                Ok(None) => return taken,
                Err(error) => {
                    self.end(records, &format!("{error:#}"));
                    return taken;
                }
            };
            taken += response.bytes;
            if self.under_way() == 0 {
                records.fault(|| format!("an answer that nobody asked for: status {}", response.status));
                continue;
            }
            let message = self.sent - 1;
            self.answered += 1;
            records.answer(message, now);
            if requests.batch && response.status == 200 {
                match Verdict::of_batch_body(response.body) {
                    Ok(verdicts) => take_verdicts(message, response.status, &verdicts, requests, records),
                    Err(error) => records.fault(|| format!("{error:#}")),
                }
            } else {
                match Verdict::of_body(response.status, response.body) {
                    Ok(verdict) => {
                        records.verdicts[message * requests.items..(message + 1) * requests.items].fill(verdict);
                        note_refusal(verdict, response.body, records);
                    }
                    Err(error) => records.fault(|| format!("{error:#}")),
                }
            }
            if response.closes {
                self.end(records, "the exchange closes the connection");
                return taken;
            }
        }
    }

    fn end(&mut self, records: &mut Records, why: &str) {
        self.ended = true;
        records.fault(|| format!("a session ended: {why}"));
    }
}

fn take_verdicts(message: usize, status: u16, verdicts: &[Verdict], requests: &Requests, records: &mut Records) {
    let range = message * requests.items..(message + 1) * requests.items;
    if verdicts.len() != requests.items {
        records.fault(|| format!("a batch was answered with {status} and {} items", verdicts.len()));
        return;
    }
    records.verdicts[range].copy_from_slice(verdicts);
}

/// Whoever is refused is told why, of what that speaks, and when to come again.
fn note_refusal(verdict: Verdict, text: &[u8], records: &mut Records) {
    if verdict.status < 300 {
        return;
    }
    records.count_code(code_of(text));
    if verdict.status == 503 {
        let says = |wanted: &[u8]| text.windows(wanted.len()).any(|window| window == wanted);
        let wanted: [&[u8]; 3] = [b"\"outcome\":\"", b"\"applies_to\":\"", b"\"retry_after_ms\":"];
        if !wanted.into_iter().all(says) {
            records.fault(|| {
                format!(
                    "a refusal that doesn't say all it should: {}",
                    String::from_utf8_lossy(text)
                )
            });
        }
    }
}

/// What the socket of a new session is set to.
///
/// # Errors
/// What the system says.
pub fn make_ready(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)
}
