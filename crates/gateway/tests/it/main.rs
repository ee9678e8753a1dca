//! The gateway against a real exchange in memory.

mod streaming;
mod view;
mod world;
