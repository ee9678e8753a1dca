//! REST and WebSocket: order entry, authentication, limits, queries and streams.
//!
//! The gateway is stateless but for what it can make again: a [`handle::CoreHandle`] takes its commands, a
//! [`handle::History`] gives it the past. It never writes to a disk and never holds a lock that the core waits for.

pub mod handle;
pub mod past;
pub mod streams;
pub mod view;
