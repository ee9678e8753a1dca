//! Two regions and a witness: one region is lost, hands over, or loses sight of the others, under load.
//!
//! ```text
//!  sessions ── near ──> nodes of the active region ══╗ relays: 55 ms each way, either direction
//!     └──────── far, through a relay ──> nodes of the standby ══╩══ witness
//! ```
//!
//! What a session isn't answered it asks again, the same under its id, at the next node of either region. Afterwards each
//! acknowledged request is looked for: what lies behind the new epoch's beginning is void and must be gone, all else must be
//! there, and the oracle looks at what is left as if the void had never been asked for.

mod fault;
mod report;
mod rounds;
mod sessions;
mod settling;
mod whole;

use std::path::PathBuf;
use std::time::Duration;

pub use fault::RegionFault;
pub use report::{RegionRound, RegionSummary, RegionsReport};
pub use rounds::run;

/// What to do.
#[derive(Clone, Debug)]
pub struct RegionsPlan {
    /// The program.
    pub meridian: PathBuf,
    /// An empty folder for everything that the run makes.
    pub work: PathBuf,
    /// Nodes of each region.
    pub nodes: usize,
    /// Whether answers wait for the standby.
    pub sync: bool,
    /// How long a renewal of the lease holds, in milliseconds.
    pub lease_ms: u64,
    /// How long bytes take from one site to another.
    pub each_way: Duration,
    /// How often.
    pub rounds: u64,
    /// Makes the choices.
    pub seed: u64,
    /// The most requests that are answered in a round before the fault.
    pub answers_max: usize,
    /// What may happen.
    pub faults: Vec<RegionFault>,
}
