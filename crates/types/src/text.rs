//! Short texts held in place, so that a command is one flat value without allocations.

use std::fmt;

/// A text of at most `N` bytes, stored in place. Unused bytes are zero, so derived equality and order are by content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortText<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

/// Why a text was refused as an id or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// No characters at all.
    Empty,
    /// More than this many bytes.
    TooLong(usize),
    /// A character outside of the allowed set, at this byte offset.
    Character(usize),
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::TooLong(maximum) => write!(f, "it is longer than {maximum} characters"),
            Self::Character(offset) => write!(f, "the character at offset {offset} is not allowed"),
        }
    }
}

impl std::error::Error for TextError {}

impl<const N: usize> ShortText<N> {
    /// The text without characters, which no client can send.
    pub const EMPTY: Self = Self {
        bytes: [0; N],
        length: 0,
    };

    /// Takes 1 to `N` bytes of which each satisfies `allowed`.
    pub fn new(text: &str, allowed: impl Fn(u8) -> bool) -> Result<Self, TextError> {
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        if text.len() > N {
            return Err(TextError::TooLong(N));
        }
        if let Some(offset) = text.bytes().position(|byte| !allowed(byte)) {
            return Err(TextError::Character(offset));
        }
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        let length = u8::try_from(text.len()).expect("N is at most 255");
        Ok(Self { bytes, length })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("only ASCII was taken in")
    }

    /// The text's bytes, without the unused ones.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The text's bytes and the unused ones, which are zero.
    pub fn as_padded_bytes(&self) -> &[u8; N] {
        &self.bytes
    }

    /// True for [`Self::EMPTY`].
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl<const N: usize> fmt::Display for ShortText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for ShortText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
