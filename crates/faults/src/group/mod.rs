//! The same for a group of nodes: one of them dies, stands still, or can't be reached, and clients go on at the others.
//!
//! ```text
//!  sessions ── requests, each retried by its id at the next node ──> node 1 ──┐
//!  watchers ── place, then read at every node ─────────────────────> node 2 ──┼── one of them: kill, pause, cut off
//!  prober ──── an order every 5 ms at each survivor, from the fault ─> node 3 ┘
//! ```

mod fault;
mod journals;
mod prober;
mod report;
mod rounds;
mod sessions;

pub use fault::GroupFault;
pub use report::{GroupReport, RoundReport, Summary};
pub use rounds::{GroupPlan, Roll, UpgradePlan, UpgradeReport, run, upgrade};
