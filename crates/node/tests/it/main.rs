//! Whole nodes: started, asked, stopped, damaged, and started again.

mod cluster;
mod commands;
mod cut_off;
mod demo_nodes;
mod disk_full;
mod edge;
mod faults;
mod journal;
mod load;
mod lobster;
mod peers;
mod process;
mod quarantine;
mod regions;
mod restart;
mod running;
mod tls;
mod upgrade;
mod world;
