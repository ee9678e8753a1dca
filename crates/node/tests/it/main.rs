//! Whole nodes: started, asked, stopped, damaged, and started again.

mod commands;
mod faults;
mod lobster;
mod process;
mod restart;
mod running;
mod world;
