//! What became of each message of a step.

use std::collections::BTreeMap;

use crate::protocol::answer::Verdict;

/// What became of each message of a step: when it left, when its answer came, and what that said. Times are nanoseconds
/// from the start of the step, and 0 means never.
pub struct Records {
    /// When the last byte was handed to the system.
    pub sent: Vec<u64>,
    /// When the answer had come.
    pub answered: Vec<u64>,
    /// What was said about each request: `items` for each message.
    pub verdicts: Vec<Verdict>,
    /// How often each code was the reason that a request wasn't executed.
    pub codes: BTreeMap<String, u64>,
    /// What should never be, in words, the first few.
    pub faults: Vec<String>,
    /// How often it was.
    pub faults_count: u64,
    /// How many messages have an answer.
    pub answers: u64,
    /// How many messages were given up before they were sent.
    pub given_up: u64,
    /// Bytes of all answers.
    pub answer_bytes: u64,
}

/// How many faults are kept in words.
const FAULTS_MAX: usize = 10;
/// How many codes are told apart; there are fewer.
const CODES_MAX: usize = 200;

impl Records {
    /// For so many messages of so many requests each.
    pub fn new(messages: usize, items: usize) -> Self {
        Self {
            sent: backed(messages),
            answered: backed(messages),
            verdicts: backed(messages * items),
            codes: BTreeMap::new(),
            faults: Vec::new(),
            faults_count: 0,
            answers: 0,
            given_up: 0,
            answer_bytes: 0,
        }
    }

    /// Takes note of a reason.
    pub fn count_code(&mut self, code: &str) {
        if let Some(count) = self.codes.get_mut(code) {
            *count += 1;
        } else if self.codes.len() < CODES_MAX {
            self.codes.insert(code.to_owned(), 1);
        }
    }

    /// Takes note of something that should never be.
    pub fn fault(&mut self, what: impl FnOnce() -> String) {
        self.faults_count += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(what());
        }
    }

    /// Takes note of an answer; false if there was one before.
    pub fn answer(&mut self, message: usize, at: u64) -> bool {
        if self.answered[message] != 0 {
            self.fault(|| format!("message {message} was answered twice"));
            return false;
        }
        if self.sent[message] == 0 {
            self.fault(|| format!("message {message} was answered before it was sent"));
        }
        self.answered[message] = at;
        self.answers += 1;
        true
    }
}

/// So many defaults in memory that was written to: the system must not look for pages while messages are due.
fn backed<T: Clone + Default>(count: usize) -> Vec<T> {
    let mut table = Vec::with_capacity(count);
    table.resize(count, T::default());
    table
}
