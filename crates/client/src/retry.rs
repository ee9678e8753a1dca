//! When to try again, as pure decisions: what a refusal or a lost line means for the request.
//!
//! A request that changes something is only ever repeated as it was, under its id, so that it executes once however
//! often it is sent. What this module must get right is the reverse: never to call a request "not executed" while an
//! earlier attempt of it may have been.

use std::time::Duration;

use wire::errors::{ErrorCode, Refusal};
use wire::json::{AppliesTo, Outcome, Problem};

use crate::error::{ClientError, explain};

/// How patient a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// How long to try in all; after that the outcome is reported as unknown.
    pub give_up_after: Duration,
    /// The first wait between two attempts. Later ones double.
    pub wait_first: Duration,
    /// The longest wait between two attempts.
    pub wait_longest: Duration,
    /// Requests say that they are void when sequenced later than this after they were made. Longer than
    /// `give_up_after`, and within the exchange's request window.
    pub valid_for: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(6),
            give_up_after: Duration::from_secs(30),
            wait_first: Duration::from_millis(50),
            wait_longest: Duration::from_secs(2),
            valid_for: Duration::from_secs(60),
        }
    }
}

/// What to do after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again at the same node, not before this long.
    Retry(Option<Duration>),
    /// Try again at the next node: this one is gone, or can't take the request now. If there is no other, not before this
    /// long.
    RetryElsewhere(Option<Duration>),
    /// This is the outcome.
    Stop(ClientError),
}

/// The attempts of one request so far.
#[derive(Clone, Debug)]
pub(crate) struct Attempts {
    /// None for a request that changes nothing.
    request_id: Option<String>,
    /// True if the exchange has other nodes to ask.
    others: bool,
    /// True once an attempt may have been executed.
    uncertain: bool,
    last: String,
}

impl Attempts {
    /// No attempt yet. `request_id` is none for a request that changes nothing; `others` says whether the exchange has
    /// more nodes than one.
    pub fn new(request_id: Option<String>, others: bool) -> Self {
        Self {
            request_id,
            others,
            uncertain: false,
            last: "no attempt was made".into(),
        }
    }

    /// The attempt never left: there was no connection.
    pub fn not_sent(&mut self, why: String) -> Next {
        self.last = why;
        Next::RetryElsewhere(None)
    }

    /// The attempt was sent, or part of it, and no answer of the exchange came.
    pub fn lost(&mut self, why: String) -> Next {
        self.uncertain = true;
        self.last = why;
        Next::RetryElsewhere(None)
    }

    /// The exchange answered with a problem.
    pub fn refused(&mut self, problem: Problem) -> Next {
        let after = problem.retry_after_ms.map(Duration::from_millis);
        self.last = explain(&problem);
        match (problem.outcome, problem.applies_to) {
            (Outcome::NotExecuted, AppliesTo::Order) => Next::Stop(ClientError::Refused(Box::new(problem))),
            (Outcome::Executed | Outcome::Unknown, _) => {
                self.uncertain = true;
                Next::RetryElsewhere(after)
            }
            (Outcome::NotExecuted, AppliesTo::Attempt)
                if is_of_this_node(&problem) && (self.others || is_passing(&problem)) =>
            {
                Next::RetryElsewhere(after)
            }
            (Outcome::NotExecuted, AppliesTo::Attempt) if is_passing(&problem) => Next::Retry(after),
            (Outcome::NotExecuted, AppliesTo::Attempt) if !self.uncertain => {
                Next::Stop(ClientError::Refused(Box::new(problem)))
            }
            (Outcome::NotExecuted, AppliesTo::Attempt) => Next::Stop(self.give_up()),
        }
    }

    /// What came of the last attempt.
    pub fn last(&self) -> &str {
        &self.last
    }

    /// The outcome if nothing more is tried.
    pub fn give_up(&self) -> ClientError {
        match &self.request_id {
            Some(request_id) if self.uncertain => ClientError::Unknown {
                request_id: request_id.clone(),
                why: self.last.clone(),
            },
            _ => ClientError::Unavailable(self.last.clone()),
        }
    }
}

/// True for refusals that go away by waiting or by signing anew.
pub(crate) fn is_passing(problem: &Problem) -> bool {
    let unreadable = ErrorCode::from(Refusal::BodyUnreadable).entry().code;
    problem.retry_after_ms.is_some() || matches!(problem.status, 429 | 503) || problem.code == unreadable
}

/// True for refusals that another node may not share: it does not lead, knows no leader, starts, stops, or is ill. A queue
/// that is full is the same queue from everywhere.
fn is_of_this_node(problem: &Problem) -> bool {
    let is = |refusal: Refusal| problem.code == ErrorCode::from(refusal).entry().code;
    is(Refusal::NotLeader) || problem.status == 503 && !is(Refusal::Busy)
}

#[cfg(test)]
mod tests {
    use types::RejectReason;

    use super::*;

    fn problem(outcome: Outcome, applies_to: AppliesTo, status: u16) -> Problem {
        let mut problem = Problem::new(RejectReason::InsufficientFunds.into());
        problem.outcome = outcome;
        problem.applies_to = applies_to;
        problem.status = status;
        problem
    }

    /// One letter an attempt: `n` not sent, `l` lost, `u` unknown, `b` busy, `a` refused this attempt, `f` final.
    #[track_caller]
    fn check(attempts: &str, wanted: &str) {
        let mut state = Attempts::new(Some("r".into()), false);
        let mut next = Next::Retry(None);
        for letter in attempts.chars() {
            let goes_on = matches!(next, Next::Retry(None) | Next::RetryElsewhere(None));
            assert!(goes_on, "{attempts} before {letter}");
            next = match letter {
                'n' => state.not_sent("n".into()),
                'l' => state.lost("l".into()),
                'u' => state.refused(problem(Outcome::Unknown, AppliesTo::Attempt, 503)),
                'b' => state.refused(problem(Outcome::NotExecuted, AppliesTo::Attempt, 503)),
                'a' => state.refused(problem(Outcome::NotExecuted, AppliesTo::Attempt, 401)),
                _ => state.refused(problem(Outcome::NotExecuted, AppliesTo::Order, 422)),
            };
        }
        let outcome = match next {
            Next::Stop(error) => error,
            Next::Retry(_) | Next::RetryElsewhere(_) => state.give_up(),
        };
        let found = match outcome {
            ClientError::Refused(_) => "refused",
            ClientError::Unknown { .. } => "unknown",
            _ => "unavailable",
        };
        assert_eq!(found, wanted, "{attempts}");
    }

    #[test]
    fn a_request_is_never_called_refused_while_an_earlier_attempt_may_have_executed() {
        for (attempts, wanted) in [
            ("", "unavailable"),
            ("nnn", "unavailable"),
            ("bbb", "unavailable"),
            ("a", "refused"),
            ("nba", "refused"),
            ("l", "unknown"),
            ("u", "unknown"),
            ("lb", "unknown"),
            ("la", "unknown"),
            ("uba", "unknown"),
            ("lf", "refused"),
            ("ubf", "refused"),
        ] {
            check(attempts, wanted);
        }
    }

    #[test]
    fn a_node_that_cannot_take_it_is_left_for_another_and_one_that_is_busy_is_not() {
        let next = |refusal: Refusal, others| Attempts::new(None, others).refused(Problem::new(refusal.into()));
        for refusal in [Refusal::NodeStopping, Refusal::NodeStarting, Refusal::NoLeader] {
            assert!(matches!(next(refusal, true), Next::RetryElsewhere(_)), "{refusal:?}");
        }
        assert!(matches!(next(Refusal::NotLeader, true), Next::RetryElsewhere(_)));
        assert!(matches!(next(Refusal::NotLeader, false), Next::Stop(_)));
        assert!(matches!(next(Refusal::Busy, true), Next::Retry(_)));
        assert!(matches!(next(Refusal::RateLimited, true), Next::Retry(_)));
        assert!(matches!(next(Refusal::SignatureWrong, true), Next::Stop(_)));
        let unknown = problem(Outcome::Unknown, AppliesTo::Attempt, 503);
        assert_eq!(Attempts::new(None, true).refused(unknown), Next::RetryElsewhere(None));
    }

    #[test]
    fn what_the_exchange_asks_for_is_waited() {
        let mut busy = Problem::new(Refusal::Busy.into());
        busy.retry_after_ms = Some(70);
        let next = Attempts::new(None, false).refused(busy);
        assert_eq!(next, Next::Retry(Some(Duration::from_millis(70))));
    }
}
