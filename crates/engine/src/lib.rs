//! The deterministic exchange: instruments, accounts, risk, books, request memory.
//!
//! Pure: no I/O, no clock, no floats, and no iteration in an order that could differ between two nodes.

mod accounts;
mod ahead;
pub mod book;
mod cancelling;
mod deadlines;
mod exchange;
mod facts;
mod fees;
mod flat_index;
mod hash;
mod instruments;
mod keys;
mod ledger;
mod matching;
mod memory;
mod operating;
mod orders;
mod placing;
pub mod prefetch;
mod replacing;
mod request;
mod sip;
mod snapshot;
mod telling;

pub use exchange::{ENGINE_VERSION, Exchange, RequestMemoryUse};
pub use memory::{Entry as RememberedRequest, MemoryState};
pub use orders::OrderSnapshot;
pub use snapshot::Snapshot;
