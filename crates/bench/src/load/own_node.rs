//! A node of one's own, started for a run and gone after it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::{Installation, Node, Operator};

use super::campaign::Target;
use super::market::{Market, MarketSize};
use super::processes::Processes;
use crate::results;

/// Limits are there, and cost what they cost, but none is reached. The whole journal stays, so that it can be compared
/// with what was answered.
const SETTINGS: &str = "[gateway]\n\
    requests_per_key_burst = 10000000\nrequests_per_key_per_second = 10000000\n\
    requests_per_address_burst = 1000000\nrequests_per_address_per_second = 1000000\n\
    [journal]\nkeep_all = true\n";

/// A running node with a market on it.
pub struct OwnNode {
    /// Where it is.
    pub installation: Installation,
    node: Node,
    /// What is traded there and by whom.
    pub market: Market,
}

impl OwnNode {
    /// Starts a node in `work` and opens a market on it.
    ///
    /// # Errors
    /// What the program or the exchange says.
    pub fn start(program: &Path, work: &Path, settings: Option<&Path>, size: MarketSize) -> Result<Self> {
        let settings = match settings {
            Some(path) => {
                let more =
                    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
                format!("{more}\n{SETTINGS}")
            }
            None => SETTINGS.to_owned(),
        };
        let installation = Installation::new(program, &work.join("data"), work, &settings)?;
        let admin = installation.init()?;
        let mut node = installation.start()?;
        node.wait_until_ready()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let market = runtime.block_on(async {
            let mut operator = Operator::connect(installation.admin, admin).await?;
            Market::open(&mut operator, installation.public, size).await
        })?;
        Ok(Self {
            installation,
            node,
            market,
        })
    }

    /// What is measured; the floor's file is made in `work`.
    pub fn target(&self, work: &Path) -> Target {
        Target {
            kind: results::Target::Meridian,
            market: self.market.clone(),
            processes: Processes {
                roots: vec![self.node.process_id()],
            },
            operations: Some(self.installation.operations),
            work: work.to_owned(),
        }
    }

    /// What its operations port says of it.
    ///
    /// # Errors
    /// If it doesn't.
    pub fn metrics(&self) -> Result<String> {
        let (status, text) = self.node.operations("/metrics")?;
        ensure!(status == 200, "the operations port answered {status} to /metrics");
        Ok(text)
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// If it doesn't end so.
    pub fn stop(self) -> Result<Installation> {
        ensure!(self.node.stop()?, "the node did not end in good order");
        Ok(self.installation)
    }
}
