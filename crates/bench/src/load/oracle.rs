//! Compares what clients were told with what a durable record holds: what was acknowledged is there, in its place and
//! under its name, and nothing is there more often than it was sent, or although it was refused.

use super::told::{AllTold, Fate};
use crate::protocol::request::Names;
use crate::results::Check;

/// How many differences are kept in words.
const WORDS_MAX: usize = 20;

/// What was found so far.
pub struct Oracle<'a> {
    told: &'a AllTold,
    names: &'a Names,
    seen: Vec<Seen>,
    differences: Vec<String>,
    doubled: u64,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    times: u32,
    in_its_place: bool,
}

impl<'a> Oracle<'a> {
    /// Of a run whose request ids are made of these names.
    pub fn new(told: &'a AllTold, names: &'a Names) -> Self {
        Self {
            told,
            names,
            seen: vec![Seen::default(); told.requests.len()],
            differences: Vec::new(),
            doubled: 0,
        }
    }

    /// The record holds a request of this account and id at this sequence. Others than the run's are skipped.
    pub fn saw(&mut self, sequence: u64, account: u32, request_id: &str) {
        let Some(number) = self.names.number(request_id) else {
            return;
        };
        let told = usize::try_from(number)
            .ok()
            .and_then(|number| self.told.requests.get(number));
        let told = told.filter(|told| told.account == account && told.sent > 0);
        let Some(told) = told.copied() else {
            self.doubled(|| format!("{request_id} of account {account} at sequence {sequence} was never sent"));
            return;
        };
        let seen = &mut self.seen[number as usize];
        seen.times += 1;
        seen.in_its_place |= matches!(told.fate, Fate::Executed(at) | Fate::Rejected(at) if at == sequence);
        let times = seen.times;
        if times > told.sent {
            self.doubled(|| {
                format!(
                    "{request_id} is there {times} times, at sequence {sequence} too, and was sent {} times",
                    told.sent
                )
            });
        } else if told.fate == Fate::Refused {
            self.doubled(|| format!("{request_id} was refused, and is at sequence {sequence} all the same"));
        }
    }

    fn doubled(&mut self, what: impl FnOnce() -> String) {
        self.doubled += 1;
        if self.differences.len() < WORDS_MAX {
            self.differences.push(what());
        }
    }

    /// The counts, and the first differences in words.
    pub fn finish(mut self) -> (Check, Vec<String>) {
        let mut check = Check {
            doubled: self.doubled,
            ..Check::default()
        };
        for (number, (told, seen)) in self.told.requests.iter().zip(&self.seen).enumerate() {
            let (Fate::Executed(sequence) | Fate::Rejected(sequence)) = told.fate else {
                continue;
            };
            // A reject is an answer too: it stands in the record like an execution.
            check.acknowledged += 1;
            if seen.in_its_place {
                check.found += 1;
                continue;
            }
            check.missing += 1;
            if self.differences.len() < WORDS_MAX {
                let id = self.names.request_id(number as u64);
                self.differences.push(format!(
                    "{id} was acknowledged at sequence {sequence}, and is not there"
                ));
            }
        }
        (check, self.differences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::told::Told;

    fn told(fates: &[Fate]) -> AllTold {
        let request = |fate: &Fate| Told {
            account: 7,
            places: true,
            sent: u32::from(*fate != Fate::NotSent),
            fate: *fate,
        };
        AllTold {
            requests: fates.iter().map(request).collect(),
        }
    }

    fn check(fates: &[Fate], record: &[(u64, u32, &str)], again: &[u64]) -> (Check, Vec<String>) {
        let names = Names {
            run: "r-".to_owned(),
            symbols: Vec::new(),
        };
        let mut told = told(fates);
        for number in again {
            told.sent_again(*number);
        }
        let mut oracle = Oracle::new(&told, &names);
        for (sequence, account, id) in record {
            oracle.saw(*sequence, *account, id);
        }
        oracle.finish()
    }

    const FATES: [Fate; 4] = [Fate::Executed(10), Fate::Rejected(11), Fate::Refused, Fate::Unknown];

    #[test]
    fn a_record_that_holds_all_passes() {
        let whole = [(10, 7, "r-0"), (11, 7, "r-1")];
        let (found, differences) = check(&FATES, &whole, &[]);
        assert!(found.passed() && differences.is_empty(), "{differences:?}");
        assert_eq!((found.acknowledged, found.found), (2, 2));
        let unknown_executed = [whole.as_slice(), &[(12, 7, "r-3"), (13, 9, "operator-1")]].concat();
        assert!(
            check(&FATES, &unknown_executed, &[]).0.passed(),
            "what is unknown may be there or not"
        );
        let repeated = [whole.as_slice(), &[(20, 7, "r-0")]].concat();
        assert!(
            check(&FATES, &repeated, &[0]).0.passed(),
            "a request that was sent again may be sequenced again"
        );
    }

    #[test]
    fn a_missing_and_a_doubled_request_are_named() {
        for (record, missing, doubled, name) in [
            (vec![(10, 7, "r-0")], 1, 0, "r-1 was acknowledged at sequence 11"),
            (
                vec![(10, 7, "r-0"), (12, 7, "r-1")],
                1,
                0,
                "r-1 was acknowledged at sequence 11",
            ),
            (
                vec![(10, 7, "r-0"), (11, 7, "r-1"), (12, 7, "r-0")],
                0,
                1,
                "r-0 is there 2 times",
            ),
            (
                vec![(10, 7, "r-0"), (11, 7, "r-1"), (12, 7, "r-2")],
                0,
                1,
                "r-2 was refused",
            ),
            (
                vec![(10, 7, "r-0"), (11, 7, "r-1"), (12, 7, "r-4")],
                0,
                1,
                "r-4 of account 7 at sequence 12 was never",
            ),
            (
                vec![(10, 8, "r-0"), (10, 7, "r-0"), (11, 7, "r-1")],
                0,
                1,
                "r-0 of account 8",
            ),
        ] {
            let (found, differences) = check(&FATES, &record, &[]);
            assert_eq!((found.missing, found.doubled), (missing, doubled), "{record:?}");
            assert!(!found.passed());
            assert!(differences.iter().any(|words| words.contains(name)), "{differences:?}");
        }
    }
}
