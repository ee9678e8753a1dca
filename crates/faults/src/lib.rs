//! The fault harness. It runs the real program, puts it under load as its clients would, kills it or cuts its power,
//! starts it again, and checks each promise with an oracle that knows only what clients were told.
//!
//! ```text
//!  load ── requests ──> meridian (a process; its data folder on a disk that can lose power)
//!   │ asked, answered      ^ kill -9, cut, start
//!   v                      │
//!  History ───> oracle <───┴── orders, fills, balances as clients see them afterwards
//! ```

mod clients;
pub mod group;
mod history;
mod load;
mod oracle;
pub mod regions;
mod rounds;

pub use history::{Account, Asked, Final, History, Request};
pub use load::Load;
pub use oracle::{Observed, ObservedAccount, check, scaled};
pub use rounds::{Fault, Plan, Report, SMALL_FILES, run};
