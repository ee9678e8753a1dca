//! The gateway before a core that runs the real exchange in the same thread, so that every answer is a real one.

mod admin;
mod allocations;
mod auth;
mod cluster;
mod freshness;
mod limits;
mod live;
mod openapi;
mod orders;
mod proxies;
mod queries;
mod sessions;
mod sockets;
mod streaming;
mod support;
mod view;
mod world;
