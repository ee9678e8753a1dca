//! What clients were told about each request of a run.

use super::market::Market;
use super::records::Records;
use super::requests::Requests;
use crate::protocol::answer::Verdict;

/// What a client was told about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never left.
    NotSent,
    /// It was executed at this sequence.
    Executed(u64),
    /// It was refused by a rule of the exchange, and that stands at this sequence.
    Rejected(u64),
    /// This attempt, which was the only one, was not executed.
    Refused,
    /// Nothing, or that it is not known.
    Unknown,
}

/// A request and what its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// For which account it was asked.
    pub account: u32,
    /// True if it is a new order.
    pub places: bool,
    /// How often it was sent.
    pub sent: u32,
    /// What its client was told first.
    pub fate: Fate,
}

impl Fate {
    /// What an answer says.
    pub fn of(verdict: Verdict) -> Self {
        match (verdict.status, verdict.sequence) {
            (0, _) | (500 | 502 | 504, _) => Self::Unknown,
            // "The request was sequenced, but what came of it can't be read here."
            (503, sequence) if sequence > 0 => Self::Unknown,
            (200..300, sequence) => Self::Executed(sequence),
            (_, 0) => Self::Refused,
            (_, sequence) => Self::Rejected(sequence),
        }
    }
}

/// Everything that clients were told, by the number of the request.
#[derive(Debug, Default)]
pub struct AllTold {
    /// By number.
    pub requests: Vec<Told>,
}

const NOTHING: Told = Told {
    account: 0,
    places: false,
    sent: 0,
    fate: Fate::NotSent,
};

impl AllTold {
    /// Takes over what became of a step.
    pub fn add(&mut self, market: &Market, requests: &Requests, records: &Records) {
        let end = requests.numbers.iter().max().map_or(0, |last| last + 1);
        let end = usize::try_from(end).expect("numbers count what is in memory");
        self.requests.resize(end.max(self.requests.len()), NOTHING);
        for (session, messages) in requests.sessions.iter().enumerate() {
            let account = market.trader(session).account.0;
            for message in messages.clone().filter(|message| records.sent[*message] > 0) {
                for item in message * requests.items..(message + 1) * requests.items {
                    self.requests[requests.numbers[item] as usize] = Told {
                        account,
                        places: requests.places[item],
                        sent: 1,
                        fate: Fate::of(records.verdicts[item]),
                    };
                }
            }
        }
    }

    /// A request was sent once more.
    pub fn sent_again(&mut self, number: u64) {
        self.requests[number as usize].sent += 1;
    }
}
