//! The gateway against a real exchange in memory.

mod live;
mod sessions;
mod streaming;
mod view;
mod world;
