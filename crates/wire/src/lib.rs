//! The bytes: layouts of what is written to disk and sent over the wire. The only crate that knows JSON.
//!
//! Pure functions between bytes and the plain data of `types`. Decoding is total: any bytes give a value or an error of a
//! closed enum, never a panic, and every length is bounded before anything is allocated for it.

pub mod batch;
pub mod errors;
pub mod event_log;
pub mod journal;
pub mod json;
pub mod membership;
pub mod peer;
pub mod signing;
pub mod site;
pub mod snapshot;
pub mod ws;
