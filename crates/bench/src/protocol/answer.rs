//! What is read of an answer: whose it is, its status, and where it was sequenced.
//!
//! An answer of the common form is read by looking at a few of its bytes, because the reader shares its processor with
//! the program that is measured. Anything else goes through serde.

use anyhow::{Context as _, Result};
use wire::json::{BatchAnswer, BatchItemAnswer, OrderAnswer, Position, Problem};
use wire::ws::{Reply, ServerMessage};

/// What an answer says about one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The HTTP status that REST has for it.
    pub status: u16,
    /// Where it was sequenced; 0 if it wasn't.
    pub sequence: u64,
}

/// A WebSocket message about requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The reply to a message of one request.
    One(u64, Verdict),
    /// The reply to a batch; empty if the whole of it was refused, with the status.
    Batch(u64, u16, Vec<Verdict>),
    /// Something that answers no request: a stream's message, a goodbye.
    Other(String),
}

const REPLY: &[u8] = b"{\"reply\":{\"id\":";
const STATUS: &[u8] = b",\"status\":";
const ORDER: &[u8] = b",\"order\":{";
const PROBLEM: &[u8] = b",\"problem\":{";
const SEQUENCE: &[u8] = b"\"sequence\":\"";

impl Message {
    /// Reads the text of a frame.
    ///
    /// # Errors
    /// If it is none that the documentation knows.
    pub fn parse(text: &[u8]) -> Result<Self> {
        match Self::parse_common(text) {
            Some(message) => Ok(message),
            None => Self::parse_any(text),
        }
    }

    fn parse_common(text: &[u8]) -> Option<Self> {
        let (id, rest) = take_number(text.strip_prefix(REPLY)?)?;
        let (status, rest) = take_number(rest.strip_prefix(STATUS)?)?;
        let status = u16::try_from(status).ok()?;
        if !rest.starts_with(ORDER) && !rest.starts_with(PROBLEM) {
            return None;
        }
        let sequence = last_sequence(rest);
        if sequence.is_none() && rest.starts_with(ORDER) {
            return None;
        }
        let sequence = sequence.unwrap_or(0);
        Some(Self::One(id, Verdict { status, sequence }))
    }

    fn parse_any(text: &[u8]) -> Result<Self> {
        let message: ServerMessage = serde_json::from_slice(text)
            .with_context(|| format!("a message is not understood: {}", String::from_utf8_lossy(text)))?;
        let ServerMessage::Reply(reply) = message else {
            return Ok(Self::Other(String::from_utf8_lossy(text).into_owned()));
        };
        Ok(Self::of_reply(&reply))
    }

    fn of_reply(reply: &Reply) -> Self {
        if let Some(batch) = &reply.batch {
            let verdicts = batch.items.iter().map(Verdict::of_item).collect();
            return Self::Batch(reply.id, reply.status, verdicts);
        }
        let sequence = match (&reply.order, &reply.problem) {
            (Some(order), _) => sequence_of(Some(&order.position)),
            (None, Some(problem)) => sequence_of(problem.position.as_ref()),
            (None, None) => 0,
        };
        let status = reply.status;
        Self::One(reply.id, Verdict { status, sequence })
    }
}

impl Verdict {
    /// What the body of an answer over REST says.
    ///
    /// # Errors
    /// If it is neither an answer about an order nor a problem.
    pub fn of_body(status: u16, body: &[u8]) -> Result<Self> {
        if let Some(sequence) = last_sequence(body) {
            return Ok(Self { status, sequence });
        }
        let not_understood = || format!("a body is not understood: {}", String::from_utf8_lossy(body));
        let sequence = if status < 300 {
            let answer: OrderAnswer = serde_json::from_slice(body).with_context(not_understood)?;
            sequence_of(Some(&answer.position))
        } else {
            let problem: Problem = serde_json::from_slice(body).with_context(not_understood)?;
            sequence_of(problem.position.as_ref())
        };
        Ok(Self { status, sequence })
    }

    /// What the body of a batch's answer says about each item.
    ///
    /// # Errors
    /// If it is no such body.
    pub fn of_batch_body(body: &[u8]) -> Result<Vec<Self>> {
        let batch: BatchAnswer = serde_json::from_slice(body).context("a batch's answer is not understood")?;
        Ok(batch.items.iter().map(Self::of_item).collect())
    }

    fn of_item(item: &BatchItemAnswer) -> Self {
        let position = match (&item.answer, &item.problem) {
            (Some(answer), _) => Some(&answer.position),
            (None, Some(problem)) => problem.position.as_ref(),
            (None, None) => None,
        };
        Self {
            status: item.status,
            sequence: sequence_of(position),
        }
    }
}

fn sequence_of(position: Option<&Position>) -> u64 {
    position
        .and_then(Position::position)
        .map_or(0, |position| position.sequence.0)
}

/// The number at the front, and what follows it.
fn take_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = text[..digits].iter().try_fold(0u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    (digits > 0).then_some((number, &text[digits..]))
}

/// The answer's position stands near its end, and no other position follows it.
fn last_sequence(text: &[u8]) -> Option<u64> {
    // "q" is rare in answers, so a look at one byte rules most places out.
    const Q: usize = 3;
    let first = text.len().checked_sub(SEQUENCE.len())?;
    let start = (0..=first)
        .rev()
        .find(|&start| text[start + Q] == b'q' && text[start..].starts_with(SEQUENCE))?;
    let (number, rest) = take_number(&text[start + SEQUENCE.len()..])?;
    rest.starts_with(b"\"").then_some(number)
}

/// The value of a problem's `code`, if it is there.
pub fn code_of(text: &[u8]) -> &str {
    const CODE: &[u8] = b"\"code\":\"";
    let start = text.windows(CODE.len()).position(|window| window == CODE);
    let value = start.map_or(&[][..], |start| &text[start + CODE.len()..]);
    let end = value.iter().position(|byte| *byte == b'"').unwrap_or(0);
    std::str::from_utf8(&value[..end]).unwrap_or("")
}
