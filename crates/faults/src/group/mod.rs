//! The same for a group of nodes: one of them dies, stands still, or can't be reached, and clients go on at the others.
//!
//! ```text
//!  sessions ── requests, each retried by its id at the next node ──> node 1 ──┐
//!  watchers ── place, then read at every node ─────────────────────> node 2 ──┼── one of them: kill, pause, cut off
//!  prober ──── an order every 5 ms at each survivor, from the fault ─> node 3 ┘
//! ```
//!
//! Where there are gateways, clients use these alone, and what happens is of one of them or of the leader behind them.

mod calm;
mod deck;
mod fault;
mod faulting;
mod journals;
mod prober;
mod report;
mod rounds;
mod sessions;
mod settling;

pub use fault::{GroupFault, What, Whom};
pub use report::{CalmReport, GroupReport, RoundReport, Summary};
pub use rounds::{GroupPlan, Roll, UpgradePlan, UpgradeReport, run, upgrade};
