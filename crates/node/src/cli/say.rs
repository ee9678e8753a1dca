//! What commands write to standard output. A reader who leaves early, as `head` does, is no fault: the program ends then.

use std::fmt;
use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

/// The reader of standard output has left.
#[derive(Debug, thiserror::Error)]
#[error("write to standard output: its reader has left")]
pub struct ReaderLeft;

/// Writes a text to standard output.
pub fn say(text: fmt::Arguments<'_>) -> Result<()> {
    outcome(io::stdout().write_fmt(text))
}

/// Writes a text and a line's end to standard output.
pub fn say_line(text: fmt::Arguments<'_>) -> Result<()> {
    say(format_args!("{text}\n"))
}

fn outcome(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderLeft.into()),
        written => written.context("write to standard output"),
    }
}

/// True if a command ended because the reader left. A command that writes by itself and knows no network says so by a
/// broken pipe.
pub fn reader_left(error: &anyhow::Error) -> bool {
    let is_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.is::<ReaderLeft>() || error.downcast_ref().is_some_and(is_pipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_who_left_is_no_fault() {
        let failed = |kind: io::ErrorKind| outcome(Err(kind.into())).unwrap_err();
        assert!(reader_left(&failed(io::ErrorKind::BrokenPipe)));
        assert!(!reader_left(&failed(io::ErrorKind::StorageFull)));
        assert!(outcome(Ok(())).is_ok());
    }
}
