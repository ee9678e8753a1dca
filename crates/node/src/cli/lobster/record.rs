//! The record: messages, the top of the book after each, and the book at the start, as LOBSTER writes them.
//!
//! Prices are dollars times 10,000 and sizes are shares, so both stay whole numbers.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use types::Side;

/// Stands in the record for a price that does not exist.
const NO_ASK: i64 = 9_999_999_999;
const NO_BID: i64 = -NO_ASK;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new limit order.
    Submitted,
    /// Part of an order was cancelled.
    Reduced,
    /// An order was deleted.
    Deleted,
    /// A visible order was executed, in part or whole.
    Executed,
    /// Something that does not touch the visible book: a hidden execution, a cross, a halt.
    Invisible,
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Nanoseconds after midnight.
    pub at_ns: u64,
    /// What it says.
    pub kind: Kind,
    /// The order's id in the record.
    pub order: u64,
    /// Shares.
    pub size: i64,
    /// Dollars x 10,000.
    pub price: i64,
    /// The side of the resting order.
    pub side: Side,
}

/// A price and the sum of the sizes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Dollars x 10,000.
    pub price: i64,
    /// Shares.
    pub size: i64,
}

/// The best level of each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// The lowest ask.
    pub ask: Option<Level>,
    /// The highest bid.
    pub bid: Option<Level>,
}

/// The book at the start, best level first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialBook {
    /// Ascending.
    pub asks: Vec<Level>,
    /// Descending.
    pub bids: Vec<Level>,
}

/// The whole record. The initial book is the state after `messages[0]`.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// In the order in which they happened.
    pub messages: Vec<Message>,
    /// One for each message: the top of the book after it.
    pub tops: Vec<Top>,
    /// The book after the first message.
    pub initial: InitialBook,
}

impl Record {
    /// Reads the three files. `levels_max` bounds how many levels a side are taken from the initial book.
    pub fn read(messages: &Path, tops: &Path, initial: &Path, levels_max: usize) -> Result<Self> {
        let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()));
        let named = |path: &Path| format!("failed to understand {}", path.display());
        Self::parse(&read(messages)?, &read(tops)?, &read(initial)?, levels_max)
            .with_context(|| format!("{}, {} or {}", named(messages), tops.display(), initial.display()))
    }

    /// Parses the three files' texts.
    pub fn parse(messages: &str, tops: &str, initial: &str, levels_max: usize) -> Result<Self> {
        let messages = parse_lines(messages, parse_message).context("messages")?;
        let tops = parse_lines(tops, parse_top).context("order book")?;
        let initial = parse_initial(initial, levels_max).context("initial book")?;
        ensure!(!messages.is_empty(), "there are no messages");
        ensure!(
            messages.len() == tops.len(),
            "{} messages, but {} rows of the order book",
            messages.len(),
            tops.len()
        );
        Ok(Self {
            messages,
            tops,
            initial,
        })
    }
}

fn parse_lines<T>(text: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| parse(line).with_context(|| format!("line {}: {line:?}", index + 1)))
        .collect()
}

fn parse_message(line: &str) -> Result<Message> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [time, kind, order, size, price, direction, ..] = fields[..] else {
        bail!("six columns are expected");
    };
    let kind = match kind {
        "1" => Kind::Submitted,
        "2" => Kind::Reduced,
        "3" => Kind::Deleted,
        "4" => Kind::Executed,
        "5" | "6" | "7" => Kind::Invisible,
        _ => bail!("{kind:?} is not a type of message"),
    };
    let side = match direction {
        "1" => Side::Buy,
        "-1" => Side::Sell,
        _ => bail!("{direction:?} is not a direction"),
    };
    Ok(Message {
        at_ns: parse_time(time)?,
        kind,
        order: order.parse().context("order id")?,
        size: size.parse().context("size")?,
        price: price.parse().context("price")?,
        side,
    })
}

/// Seconds after midnight with up to nine digits after the point, as nanoseconds.
fn parse_time(text: &str) -> Result<u64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let seconds: u64 = seconds.parse().context("time")?;
    let nanoseconds: u64 = digits.parse().context("time")?;
    Ok(seconds * 1_000_000_000 + nanoseconds)
}

fn parse_top(line: &str) -> Result<Top> {
    let numbers = parse_numbers(line)?;
    let [ask, ask_size, bid, bid_size, ..] = numbers[..] else {
        bail!("four columns are expected");
    };
    Ok(Top {
        ask: level(ask, ask_size),
        bid: level(bid, bid_size),
    })
}

fn parse_initial(text: &str, levels_max: usize) -> Result<InitialBook> {
    let numbers = parse_numbers(text.lines().next().unwrap_or_default())?;
    ensure!(
        !numbers.is_empty() && numbers.len().is_multiple_of(4),
        "four columns a level are expected"
    );
    let rows = || numbers.chunks_exact(4).take(levels_max);
    Ok(InitialBook {
        asks: rows().filter_map(|row| level(row[0], row[1])).collect(),
        bids: rows().filter_map(|row| level(row[2], row[3])).collect(),
    })
}

fn parse_numbers(line: &str) -> Result<Vec<i64>> {
    line.split(',')
        .map(|field| {
            field
                .trim()
                .parse()
                .with_context(|| format!("{field:?} is not a number"))
        })
        .collect()
}

fn level(price: i64, size: i64) -> Option<Level> {
    (price != NO_ASK && price != NO_BID && size > 0).then_some(Level { price, size })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small record written for the tests: a bid of two orders, a partial cancel, an execution, a hidden one, a delete.
    pub(in super::super) const MESSAGES: &str = "\
34200.004241176,1,100,18,5853300,1
34200.5,1,101,20,5853300,1
34200.6,2,101,5,5853300,1
34201,4,100,10,5853300,1
34201.25,5,0,7,5853400,-1
34202.000000001,3,7,30,5859400,-1
";
    pub(in super::super) const TOPS: &str = "\
5859400,30,5853300,18
5859400,30,5853300,38
5859400,30,5853300,33
5859400,30,5853300,23
5859400,30,5853300,23
9999999999,0,5853300,23
";
    pub(in super::super) const INITIAL: &str = "5859400,30,5853300,18,9999999999,0,-9999999999,0\n";

    #[test]
    fn a_record_is_read() {
        let record = Record::parse(MESSAGES, TOPS, INITIAL, 50).unwrap();
        assert_eq!(record.messages.len(), 6);
        assert_eq!(record.messages[0].at_ns, 34_200_004_241_176);
        assert_eq!(record.messages[5].at_ns, 34_202_000_000_001);
        assert_eq!(record.messages[4].kind, Kind::Invisible);
        assert_eq!(
            record.initial.asks,
            vec![Level {
                price: 5_859_400,
                size: 30
            }]
        );
        assert_eq!(record.tops[5].ask, None);
        assert_eq!(
            record.tops[5].bid,
            Some(Level {
                price: 5_853_300,
                size: 23
            })
        );
    }

    #[test]
    fn what_is_wrong_with_a_record_is_said() {
        for (messages, tops, initial, wanted) in [
            ("34200,9,1,1,1,1\n", "1,1,1,1\n", INITIAL, "messages: line 1"),
            ("34200,1,1,1,1,0\n", "1,1,1,1\n", INITIAL, "is not a direction"),
            (MESSAGES, "1,1,1,1\n", INITIAL, "6 messages, but 1 rows"),
            (MESSAGES, TOPS, "1,2,3\n", "four columns a level"),
            ("", "", INITIAL, "there are no messages"),
        ] {
            let error = format!("{:#}", Record::parse(messages, tops, initial, 50).unwrap_err());
            assert!(error.contains(wanted), "{error}");
        }
    }
}
