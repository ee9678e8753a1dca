//! What clients asked for and what they were told. Nothing else of the node is known here.

use std::collections::BTreeMap;

use wire::json::{CancelItem, NewOrder, OrderAnswer, Position, Problem, ReplaceItem};

/// The code of an order whose id was burnt by a cancel that came first.
const BURNT: &str = "request_id_burnt";

/// The number of an account.
pub type Account = u32;

/// A request as the client meant it: the same one is sent again until it has a final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A new order.
    Place(NewOrder),
    /// A change of an order, named by what the client calls it.
    Replace(ReplaceItem),
    /// A cancel of an order, named by what the client calls it.
    Cancel(CancelItem),
}

impl Asked {
    /// The id that makes it execute once.
    pub fn request_id(&self) -> &str {
        match self {
            Self::Place(order) => &order.client_order_id,
            Self::Replace(replace) => &replace.request_id,
            Self::Cancel(cancel) => &cancel.request_id,
        }
    }

    /// What the client calls the order that it is about; empty for one that is named by its id.
    pub fn client_order_id(&self) -> &str {
        match self {
            Self::Place(order) => &order.client_order_id,
            Self::Replace(replace) => replace.client_order_id.as_deref().unwrap_or_default(),
            Self::Cancel(cancel) => cancel.client_order_id.as_deref().unwrap_or_default(),
        }
    }
}

/// An answer that is final for its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Final {
    /// It was executed.
    Executed(OrderAnswer),
    /// The exchange refused it, and will refuse it each time.
    Refused(Problem),
}

impl Final {
    /// Where it was sequenced.
    pub fn position(&self) -> Option<&Position> {
        match self {
            Self::Executed(answer) => Some(&answer.position),
            Self::Refused(problem) => problem.position.as_ref(),
        }
    }

    fn is_repeat(&self) -> bool {
        match self {
            Self::Executed(answer) => answer.repeat,
            Self::Refused(problem) => problem.repeat == Some(true),
        }
    }
}

/// A request and its first final answer, if there was one.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose.
    pub account: Account,
    /// What was asked.
    pub asked: Asked,
    /// The first final answer.
    pub answer: Option<Final>,
}

/// All requests of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    requests: BTreeMap<(Account, String), Request>,
    positions: BTreeMap<(u16, u32, u64), (Account, String)>,
    faults: Vec<String>,
    repeats: u64,
}

impl History {
    /// A request is about to be sent, for the first time or again.
    pub fn ask(&mut self, account: Account, asked: Asked) {
        let key = (account, asked.request_id().to_owned());
        let request = self.requests.entry(key).or_insert_with(|| Request {
            account,
            asked: asked.clone(),
            answer: None,
        });
        assert!(request.asked == asked, "the harness used an id twice");
    }

    /// A final answer came. It must agree with an earlier one, and nothing else may have been sequenced at its place.
    pub fn answer(&mut self, account: Account, request_id: &str, answer: Final) {
        let key = (account, request_id.to_owned());
        let name = format!("account {account}, request {request_id}");
        let Some(request) = self.requests.get_mut(&key) else {
            self.faults.push(format!("{name}: answered, but never asked"));
            return;
        };
        self.repeats += u64::from(answer.is_repeat());
        match answer
            .position()
            .map(|position| (position.group, position.epoch, position.sequence.number()))
        {
            Some((group, epoch, Some(sequence))) => {
                let other = self
                    .positions
                    .entry((group, epoch, sequence))
                    .or_insert_with(|| key.clone());
                if *other != key {
                    let (account, id) = other;
                    let place = format!("{group}.{epoch}.{sequence}");
                    self.faults
                        .push(format!("{name}: at {place}, as is account {account}, request {id}"));
                }
            }
            _ => self
                .faults
                .push(format!("{name}: a final answer without a position: {answer:?}")),
        }
        match &request.answer {
            None => request.answer = Some(answer),
            Some(first) => self
                .faults
                .extend(differences(first, &answer).map(|what| format!("{name}: {what}"))),
        }
    }

    /// Every request.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.requests.values()
    }

    /// The requests without a final answer.
    pub fn unanswered(&self) -> impl Iterator<Item = &Request> {
        self.requests.values().filter(|request| request.answer.is_none())
    }

    /// A request by its id.
    pub fn request(&self, account: Account, request_id: &str) -> Option<&Request> {
        self.requests.get(&(account, request_id.to_owned()))
    }

    /// What was wrong with the answers themselves.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// How many answers said that they repeat an earlier one.
    pub fn repeats(&self) -> u64 {
        self.repeats
    }
}

/// How a later answer contradicts the first one.
fn differences(first: &Final, later: &Final) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    if let (Final::Refused(first), Final::Refused(later)) = (first, later)
        && [&first.code, &later.code].iter().all(|code| *code == BURNT)
    {
        // What is remembered is the burnt id, not each order that comes too late for it.
        return found.into_iter();
    }
    if !later.is_repeat() {
        found.push(format!("executed again: first {first:?}, then {later:?}"));
    }
    if first.position() != later.position() {
        found.push(format!(
            "answered at {:?}, then at {:?}",
            first.position(),
            later.position()
        ));
    }
    match (first, later) {
        (Final::Executed(first), Final::Executed(later)) => {
            if first.fills != later.fills {
                found.push(format!("fills {:?}, then {:?}", first.fills, later.fills));
            }
            if first.cancelled_quantity != later.cancelled_quantity {
                found.push(format!(
                    "cancelled {:?}, then {:?}",
                    first.cancelled_quantity, later.cancelled_quantity
                ));
            }
            if first.client_order_id_burnt != later.client_order_id_burnt {
                found.push("burnt the client order id, then did not, or the other way round".to_owned());
            }
        }
        (Final::Refused(first), Final::Refused(later)) => {
            if first.code != later.code {
                found.push(format!("refused as {}, then as {}", first.code, later.code));
            }
        }
        _ => found.push(format!("answered {first:?}, then {later:?}")),
    }
    found.into_iter()
}
