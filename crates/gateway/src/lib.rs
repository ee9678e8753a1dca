//! REST and WebSocket: order entry, authentication, limits, queries and streams.
//!
//! ```text
//!  connection ── serve ──> incoming ──> rest ──> intake ──> handle::CoreHandle ──> the core
//!   (first-byte   (limits,  (signature)  (one     (JSON to                            │
//!     stamp)       panics)                function  command)                          │
//!      ^                                  a path)                                     │
//!      └──────────────── answer (events to JSON) <── view, past <── publish <─────────┘
//! ```
//!
//! The gateway is stateless but for what it can make again: a [`handle::CoreHandle`] takes its commands, a
//! [`handle::History`] gives it the past. It never writes to a disk and never holds a lock that the core waits for.

mod answer;
pub mod auth;
mod batch;
mod config;
mod docs;
mod failure;
mod freshness;
mod gateway;
pub mod handle;
mod incoming;
mod intake;
mod leadership;
mod metrics;
pub mod past;
mod proxy_protocol;
mod query;
pub mod rate_limits;
mod rest;
pub mod sealing;
mod serve;
pub mod stages;
pub mod stamps;
pub mod streams;
mod tls;
pub mod view;
pub mod waiting;
mod ws;

pub use config::{GatewayConfig, NamedRegion};
pub use docs::as_json as openapi_as_json;
pub use failure::Failure;
pub use gateway::Gateway;
pub use rest::{admin_openapi, public_openapi};
pub use tls::{Tls, TlsError};
