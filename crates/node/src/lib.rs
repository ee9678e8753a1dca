//! The program `meridian`: disk, sockets, clock, threads, wiring and command line around the crates that know nothing
//! of them.
//!
//! ```text
//!  listeners ── gateway ── commands ──> core thread ── batches ──> publisher ──> event log, views, streams
//!                                          │ append, fdatasync
//!                                        journal ── closed segments ──> snapshots ──> retirement
//! ```
//!
//! Each arrow is a bounded queue or a file. Nothing to the right of the core can make it wait.

pub mod assembly;
pub mod cli;
pub mod config;
pub mod core;
pub mod data_folder;
pub mod demo;
pub mod event_log;
pub mod execute;
pub mod figures;
pub mod group;
mod group_figures;
pub mod journal;
pub mod listeners;
pub mod logging;
pub mod new_cluster;
pub mod open_files;
pub mod operations;
pub mod peers;
pub mod processors;
pub mod publisher;
pub mod recovery;
mod region_figures;
pub mod rejoin;
pub mod replay;
pub mod sites;
pub mod snapshots;
pub mod threads;
pub mod tls_files;
pub mod watched_files;

#[cfg(test)]
mod testing;
