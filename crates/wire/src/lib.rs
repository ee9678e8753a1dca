//! The bytes: layouts of what is written to disk and sent over the wire. The only crate that knows JSON.

pub mod event_log;
