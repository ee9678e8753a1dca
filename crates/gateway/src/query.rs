//! Query strings, read as they are: known keys, each once, values that need no encoding.

use std::str::FromStr;

use types::Timestamp;
use wire::errors::Refusal;
use wire::json::TimeText;

use crate::failure::Failure;

/// Items of a page if the request doesn't say.
pub const PAGE_ITEMS_DEFAULT: usize = 100;
/// The most items of a page.
pub const PAGE_ITEMS_MAX: usize = 500;

/// A query string's keys and values.
#[derive(Debug)]
pub(crate) struct Query<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Query<'a> {
    /// Reads a query string of which these are the known keys.
    pub fn read(query: Option<&'a str>, known: &[&str]) -> Result<Self, Failure> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let refused = |detail: &str| Failure::new(Refusal::QueryInvalid).field(key).detail(detail);
            if !known.contains(&key) {
                return Err(refused(&match known {
                    [] => "this request takes no query".to_owned(),
                    known => format!("known keys are: {}", known.join(", ")),
                }));
            }
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(refused("it is given twice"));
            }
            if value.is_empty() || value.contains(['%', '+']) {
                return Err(refused(
                    "its value is empty or has an encoded character; no value needs one",
                ));
            }
            pairs.push((key, value));
        }
        Ok(Self(pairs))
    }

    /// The value of a key.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let found = self.0.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| *value)
    }

    /// The value of a key, parsed.
    pub fn parsed<T: FromStr>(&self, key: &str) -> Result<Option<T>, Failure> {
        match self.text(key) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(Failure::new(Refusal::QueryInvalid).field(key)),
            },
        }
    }

    /// How many items a page has.
    pub fn limit(&self) -> Result<usize, Failure> {
        let limit = self.parsed("limit")?.unwrap_or(PAGE_ITEMS_DEFAULT);
        if (1..=PAGE_ITEMS_MAX).contains(&limit) {
            return Ok(limit);
        }
        let detail = format!("it is 1 to {PAGE_ITEMS_MAX}");
        Err(Failure::new(Refusal::QueryInvalid).field("limit").detail(detail))
    }

    /// Behind what the page starts.
    pub fn cursor<T: FromStr>(&self) -> Result<Option<T>, Failure> {
        let cursor = self.parsed("cursor");
        cursor.map_err(|_| Failure::new(Refusal::CursorInvalid).field("cursor"))
    }

    /// Until when a request may be sequenced.
    pub fn valid_until(&self) -> Result<Option<Timestamp>, Failure> {
        match self.text("valid_until") {
            None => Ok(None),
            Some(text) => match TimeText(text.to_owned()).time() {
                Some(time) => Ok(Some(time)),
                None => Err(Failure::new(Refusal::NumberInvalid).field("valid_until")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_given_once_and_plain() {
        let known = ["limit", "cursor"];
        let query = Query::read(Some("limit=5&cursor=0.1.7"), &known).unwrap();
        assert_eq!(query.limit().unwrap(), 5);
        assert_eq!(query.text("cursor"), Some("0.1.7"));
        assert_eq!(Query::read(None, &known).unwrap().limit().unwrap(), PAGE_ITEMS_DEFAULT);
        for wrong in ["limit=1&limit=1", "x=1", "limit=%31", "limit=", "limit", "cursor=a+b"] {
            assert!(Query::read(Some(wrong), &known).is_err(), "{wrong}");
        }
        for wrong in ["limit=0", "limit=501", "limit=-1", "limit=1.0"] {
            assert!(Query::read(Some(wrong), &known).unwrap().limit().is_err(), "{wrong}");
        }
    }
}
