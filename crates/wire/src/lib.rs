//! The bytes: layouts of what is written to disk and sent over the wire. The only crate that knows JSON.

pub mod errors;
pub mod event_log;
pub mod json;
pub mod signing;
pub mod ws;
