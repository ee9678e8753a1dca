//! The bodies of the fuzz targets in `fuzz/`, and samples to start from.
//!
//! A target takes any bytes. Whatever they are, nothing may panic, and what was accepted must mean the same after it
//! was written and read again. `fuzz/` runs each target for as long as one likes, guided by coverage; the tests here run
//! the same bodies over mutated samples, on any toolchain.

mod journal;
mod requests;
mod samples;
mod signatures;

pub use journal::{event_log_records, journal_records};
pub use requests::{json_requests, websocket_messages};
pub use samples::samples;
pub use signatures::signatures;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name in `fuzz/`.
    pub name: &'static str,
    /// Its body.
    pub body: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "json_requests",
        body: json_requests,
    },
    Target {
        name: "websocket_messages",
        body: websocket_messages,
    },
    Target {
        name: "signatures",
        body: signatures,
    },
    Target {
        name: "journal_records",
        body: journal_records,
    },
    Target {
        name: "event_log_records",
        body: event_log_records,
    },
];

#[cfg(test)]
mod tests;
