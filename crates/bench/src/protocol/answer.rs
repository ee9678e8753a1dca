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

#[cfg(test)]
mod tests {
    use super::*;

    const POSITION: &str = r#""position":{"group":0,"epoch":1,"sequence":"12345"},"durable_in":"region","times":{"received_at":"1","sequenced_at":"2","committed_at":null,"clock_error_bound_ns":"3"}"#;

    fn order() -> String {
        format!(
            r#"{{"outcome":"executed","applies_to":"order","repeat":false,"request_id":"sequence","order":null,"fills":[],{POSITION}}}"#
        )
    }

    fn problem(more: &str) -> String {
        format!(
            r#"{{"type":"/docs#busy","title":"t","status":503,"code":"busy","outcome":"not_executed","applies_to":"attempt"{more}}}"#
        )
    }

    /// The common form is read as serde reads it, and any other form through serde.
    #[test]
    fn the_fast_reader_and_serde_agree() {
        let rejected = problem(&format!(",{POSITION}"));
        for (body, status, sequence) in [
            (format!(r#""order":{}"#, order()), 201, 12_345),
            (format!(r#""problem":{}"#, problem(r#","retry_after_ms":5"#)), 503, 0),
            (format!(r#""problem":{rejected}"#), 422, 12_345),
        ] {
            let text = format!(r#"{{"reply":{{"id":77,"status":{status},{body}}}}}"#);
            let wanted = Message::One(77, Verdict { status, sequence });
            assert_eq!(Message::parse_common(text.as_bytes()), Some(wanted.clone()), "{text}");
            assert_eq!(Message::parse_any(text.as_bytes()).unwrap(), wanted);
            let spaced = text.replace(":{", ": {");
            assert_eq!(Message::parse_common(spaced.as_bytes()), None);
            assert_eq!(
                Message::parse(spaced.as_bytes()).unwrap(),
                wanted,
                "another spelling means the same"
            );
        }
        assert_eq!(Verdict::of_body(201, order().as_bytes()).unwrap().sequence, 12_345);
        assert_eq!(Verdict::of_body(503, problem("").as_bytes()).unwrap().sequence, 0);
        assert_eq!(code_of(problem("").as_bytes()), "busy");
    }

    #[test]
    fn batches_have_a_verdict_for_each_item() {
        let items = format!(
            r#"[{{"status":201,"answer":{}}},{{"status":503,"problem":{}}}]"#,
            order(),
            problem("")
        );
        let text = format!(r#"{{"reply":{{"id":9,"status":200,"batch":{{"items":{items}}}}}}}"#);
        let verdict = |status, sequence| Verdict { status, sequence };
        let wanted = vec![verdict(201, 12_345), verdict(503, 0)];
        assert_eq!(
            Message::parse(text.as_bytes()).unwrap(),
            Message::Batch(9, 200, wanted.clone())
        );
        let body = format!(r#"{{"items":{items}}}"#);
        assert_eq!(Verdict::of_batch_body(body.as_bytes()).unwrap(), wanted);
    }

    #[test]
    fn what_is_no_answer_is_an_error_or_something_else() {
        assert!(Message::parse(b"{\"reply\":{\"id\":").is_err());
        assert!(Verdict::of_body(201, b"{}").is_err());
        let problem = format!(r#"{{"problem":{}}}"#, problem(""));
        assert!(matches!(Message::parse(problem.as_bytes()), Ok(Message::Other(_))));
    }
}
