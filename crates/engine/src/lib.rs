//! The deterministic exchange: instruments, accounts, risk, books, request memory.
//!
//! Pure: no I/O, no clock, no floats, and no iteration in an order that could differ between two nodes.

pub mod book;
