//! Ids. Each is its own type; those of things that a command made derive from the command's position.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::text::{ShortText, TextError};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_number(text).map(Self)
            }
        }
    };
}

number_id! {
    /// A group of voters that shares one log. Instruments are split over groups; today there is group 0.
    GroupId(u16)
}
number_id! {
    /// Which life of a group this is: a region that returns after a forced promotion comes back as the next one.
    Incarnation(u32)
}
number_id! {
    /// Which region's term of activity sequenced a batch. Starts at 1; a promotion adds 1.
    Epoch(u32)
}
number_id! {
    /// A region: a site that can run the whole exchange. Assigned by the operator, from 1.
    RegionId(u16)
}
number_id! {
    /// The place of a command in its group's log. Starts at 1 and has no gaps.
    Sequence(u64)
}
number_id! {
    /// An account. Assigned densely by the engine in the order of creation, from [`AccountId::FIRST`].
    AccountId(u32)
}
number_id! {
    /// An asset. Assigned densely by the engine, from 0.
    AssetId(u16)
}
number_id! {
    /// An instrument. Assigned densely by the engine, from 0.
    InstrumentId(u32)
}
number_id! {
    /// An API key. Assigned densely by the engine, from 1; 0 is the system itself.
    KeyId(u32)
}

impl AccountId {
    /// The operator: owns admin keys, holds no money.
    pub const OPERATOR: Self = Self(0);
    /// Where fees are collected.
    pub const FEES: Self = Self(1);
    /// The first account that a `CreateAccount` makes.
    pub const FIRST: Self = Self(2);
}

impl KeyId {
    /// The system itself: clock commands and the first commands of a new cluster.
    pub const SYSTEM: Self = Self(0);
}

impl Sequence {
    /// The next place.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The place of a command in the whole cluster: the same on every node and in both regions.
///
/// Written `group.epoch.sequence`, as in `0.1.1234`. Ordered by epoch, then sequence, within a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The group whose log it is.
    pub group: GroupId,
    /// The epoch of the region that sequenced it.
    pub epoch: Epoch,
    /// Its place in the log.
    pub sequence: Sequence,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.group, self.epoch, self.sequence)
    }
}

impl FromStr for Position {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut parts = text.split('.');
        let (Some(group), Some(epoch), Some(sequence), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(ParseIdError);
        };
        Ok(Self {
            group: group.parse()?,
            epoch: epoch.parse()?,
            sequence: sequence.parse()?,
        })
    }
}

/// An order's id: the position of the command that placed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderId(pub Position);

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for OrderId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.parse().map(Self)
    }
}

/// A fill's id: the position of the command that matched, and which of its fills this is, from 0.
///
/// Written `group.epoch.sequence.index`. Both sides of a trade share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FillId {
    /// The position of the taker's command.
    pub position: Position,
    /// Which of the command's fills, from 0.
    pub index: u32,
}

impl fmt::Display for FillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.position, self.index)
    }
}

impl FromStr for FillId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (position, index) = text.rsplit_once('.').ok_or(ParseIdError)?;
        Ok(Self {
            position: position.parse()?,
            index: parse_number(index)?,
        })
    }
}

/// A text is not the id that it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseIdError;

impl fmt::Display for ParseIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is not an id of the expected form")
    }
}

impl std::error::Error for ParseIdError {}

/// Digits only: no sign, no leading zero, so that each id has one spelling.
fn parse_number<T: FromStr>(text: &str) -> Result<T, ParseIdError> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !canonical {
        return Err(ParseIdError);
    }
    text.parse().map_err(|_| ParseIdError)
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $length:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ShortText<$length>);

        impl $name {
            /// The one without characters, which no client can send.
            pub const EMPTY: Self = Self(ShortText::EMPTY);

            /// The text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The text's bytes.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }

            /// The text's bytes and the unused ones, which are zero.
            pub fn as_padded_bytes(&self) -> &[u8; $length] {
                self.0.as_padded_bytes()
            }

            /// True for [`Self::EMPTY`].
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::EMPTY
            }
        }

        impl FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                ShortText::new(text, $allowed).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <&str>::deserialize(deserializer)?;
                if text.is_empty() {
                    return Ok(Self::EMPTY);
                }
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

text_id! {
    /// What a client calls its request: 1 to 64 of `[A-Za-z0-9_-]`, unique in its account for the request window.
    /// `client_order_id` of a new order, `request_id` of every other request; both share one space.
    RequestId, 64, |byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}
text_id! {
    /// The name of an instrument or asset: 1 to 24 of `[A-Z0-9._-]`.
    Symbol, 24, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
}
text_id! {
    /// The cluster, chosen once at `init`: 1 to 32 of `[a-z0-9-]`. Part of every signature, so that a request signed
    /// for one cluster is worth nothing at another.
    ClusterId, 32, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let position = Position {
            group: GroupId(0),
            epoch: Epoch(1),
            sequence: Sequence(1234),
        };
        assert_eq!(position.to_string(), "0.1.1234");
        assert_eq!("0.1.1234".parse(), Ok(position));
        assert_eq!("0.1.1234.7".parse(), Ok(FillId { position, index: 7 }));
        assert_eq!("0.1.1234".parse::<FillId>(), Err(ParseIdError));
        for wrong in [
            "",
            "0.1",
            "0.1.2.3",
            "0.01.2",
            "0.1.+2",
            "0.1.-2",
            "0.1.18446744073709551616",
            "0.1. 2",
        ] {
            assert_eq!(wrong.parse::<Position>(), Err(ParseIdError), "{wrong}");
        }
    }

    #[test]
    fn request_ids_take_their_alphabet_only() {
        assert_eq!("a-1_Z".parse::<RequestId>().unwrap().as_str(), "a-1_Z");
        assert_eq!("".parse::<RequestId>(), Err(TextError::Empty));
        assert_eq!("x".repeat(65).parse::<RequestId>(), Err(TextError::TooLong(64)));
        assert_eq!("a b".parse::<RequestId>(), Err(TextError::Character(1)));
        assert_eq!("ä".parse::<RequestId>(), Err(TextError::Character(0)));
    }
}
