//! Sends some requests again, as a client does that lost its answer: the first answer must come back, marked as a repeat.
//! Answers are read by serde here, not by the fast reader of the driver.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail};
use wire::json::{BatchItemAnswer, OrderAnswer, Position, Problem};
use wire::ws::{Reply, ServerMessage};

use super::connect::connect_one;
use super::market::Market;
use super::records::Records;
use super::requests::Requests;
use super::told::{AllTold, Fate};
use crate::protocol::answer::Verdict;
use crate::protocol::{Protocol, http, websocket};

/// How many messages of a step are sent again.
const SAMPLE: usize = 40;

/// Sends some acknowledged messages of a step again, byte for byte; gives each difference in words.
///
/// # Errors
/// If the exchange doesn't answer.
pub fn send_some_again(
    protocol: Protocol,
    market: &Market,
    requests: &Requests,
    records: &Records,
    told: &mut AllTold,
) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    let distance = requests.len().div_ceil(SAMPLE).max(1);
    for message in (0..requests.len()).step_by(distance) {
        let items = message * requests.items..(message + 1) * requests.items;
        let is_sequenced =
            |item: usize| matches!(Fate::of(records.verdicts[item]), Fate::Executed(_) | Fate::Rejected(_));
        if !items.clone().all(is_sequenced) {
            continue;
        }
        let session = requests.sessions.partition_point(|messages| messages.end <= message);
        let mut stream = connect_one(protocol, market, session)?;
        stream.write_all(requests.message(message))?;
        let answers = match protocol {
            Protocol::WebSocket => over_websocket(&mut stream)?,
            Protocol::Rest => over_rest(&mut stream, requests.batch)?,
        };
        for (item, answer) in items.zip(answers) {
            let number = requests.numbers[item];
            told.sent_again(number);
            let first = records.verdicts[item];
            if !is_first_answer_again(first, answer) {
                let id = market.names.request_id(number);
                differences.push(format!(
                    "{id} was answered with status {} at sequence {}; sent again, with status {} at sequence {}, repeat {}",
                    first.status, first.sequence, answer.0, answer.1, answer.2
                ));
            }
        }
    }
    Ok(differences)
}

/// The same outcome from the same place; a repeated placing has status 200 where the first had 201.
fn is_first_answer_again(first: Verdict, (status, sequence, repeat): Answer) -> bool {
    let same_status = status == first.status || status == 200 && first.status == 201;
    same_status && sequence == first.sequence && repeat
}

/// Status, sequence, and whether it is a repeat.
type Answer = (u16, u64, bool);

fn answer_of(status: u16, answer: Option<&OrderAnswer>, problem: Option<&Problem>) -> Answer {
    let sequence = |position: &Position| position.position().map_or(0, |position| position.sequence.0);
    match (answer, problem) {
        (Some(answer), _) => (status, sequence(&answer.position), answer.repeat),
        (None, Some(problem)) => {
            let at = problem.position.as_ref().map_or(0, sequence);
            (status, at, problem.repeat.unwrap_or(false))
        }
        (None, None) => (status, 0, false),
    }
}

fn of_items(items: &[BatchItemAnswer]) -> Vec<Answer> {
    let answer = |item: &BatchItemAnswer| answer_of(item.status, item.answer.as_ref(), item.problem.as_ref());
    items.iter().map(answer).collect()
}

fn of_reply(reply: &Reply) -> Vec<Answer> {
    match &reply.batch {
        Some(batch) => of_items(&batch.items),
        None => vec![answer_of(reply.status, reply.order.as_ref(), reply.problem.as_ref())],
    }
}

fn over_websocket(stream: &mut TcpStream) -> Result<Vec<Answer>> {
    let mut input = Vec::new();
    loop {
        if let Some(frame) = websocket::first_frame(&input) {
            let message: ServerMessage = serde_json::from_slice(frame.payload).context("a reply is not understood")?;
            let ServerMessage::Reply(reply) = message else {
                bail!("expected a reply, and got {message:?}");
            };
            return Ok(of_reply(&reply));
        }
        read_more(stream, &mut input)?;
    }
}

fn over_rest(stream: &mut TcpStream, batch: bool) -> Result<Vec<Answer>> {
    let mut input = Vec::new();
    loop {
        if let Some(response) = http::first_response(&input)? {
            if batch && response.status < 300 {
                let answer: wire::json::BatchAnswer = serde_json::from_slice(response.body)?;
                return Ok(of_items(&answer.items));
            }
            let answer = if response.status < 300 {
                answer_of(response.status, Some(&serde_json::from_slice(response.body)?), None)
            } else {
                answer_of(response.status, None, Some(&serde_json::from_slice(response.body)?))
            };
            return Ok(vec![answer]);
        }
        read_more(stream, &mut input)?;
    }
}

fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>) -> Result<()> {
    let mut part = [0; 16 << 10];
    let read = stream
        .read(&mut part)
        .context("no answer to a request that was sent again")?;
    if read == 0 {
        bail!("the exchange closed the connection");
    }
    input.extend_from_slice(&part[..read]);
    Ok(())
}
