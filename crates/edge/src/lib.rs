//! The edge: sends clients to the active region. It knows addresses, epochs and bytes; no order, no key, no journal.
//!
//! ```text
//!  GET /health/active of every node ──> health ──> Board::heard ──> Follow (no I/O): which region, which nodes
//!                                                      │
//!                  ┌───────────────────────────────────┼──────────────────────────┐
//!                  v                                   v                          v
//!            front: new connections,             dns: addresses             operations: /status, /metrics
//!            and the word to close open ones
//! ```
//!
//! It must never send a connection to a region that it knows to be superseded, and never look into what it passes on.

pub mod config;
pub mod follow;

pub mod board;
mod figures;
mod health;

mod admission;
pub mod front;
mod pipe;
pub mod proxy_protocol;

pub mod dns;

mod operations;
mod serve;

pub use config::{Config, ConfigError};
pub use serve::{Edge, ListenError};
