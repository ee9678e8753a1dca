//! Whole nodes: started, asked, stopped, damaged, and started again.

mod process;
mod restart;
mod world;
