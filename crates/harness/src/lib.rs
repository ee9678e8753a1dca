//! Runs the real program as a user would: makes its folder, configures, starts, stops and kills it, and opens a market on
//! it as its operator would. Whoever measures Meridian or breaks it starts from here; there is no back door.

mod group;
mod network;
mod node;
mod operator;
mod regions;
mod relay;

pub use group::{Group, GroupOptions, are_equal, leader_of};
pub use network::Network;
pub use node::{Installation, Node, remove_work_folder, work_folder};
pub use operator::{BASE, Operator, QUOTE, SYMBOL, Trader, connect, patient};
pub use regions::{Regions, RegionsOptions, RegionsProcesses};
pub use relay::{Delay, Relay};
