//! An exchange that runs already, here or on another machine: where it is, and with which keys it is asked.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use client::{Credentials, Endpoint, RestClient, RetryPolicy};
use wire::json::{Instrument, InstrumentStatus};

use super::campaign::Target;
use super::market::{Market, Trader, cluster_of, new_run};
use super::processes::Processes;
use crate::protocol::request::Names;
use crate::results;

/// What requests are written for: see `protocol::request`.
const TICK: &str = "0.01";
const LOT: &str = "0.1";

/// An exchange that runs already.
#[derive(Clone, Debug, Default, Args)]
pub struct ElsewhereArguments {
    /// The address of an exchange that runs already, as in http://127.0.0.1:7411; left out: a node of its own. Its
    /// instruments that trade with ticks of 0.01 and lots of 0.1 are traded around a price of 100.
    #[arg(long, requires = "keys")]
    pub exchange: Option<String>,
    /// A file with the keys to ask it with, one a line: the key's number, a blank, and its secret as `hmac:HEX` or
    /// `ed25519:HEX`. Their accounts need money, and limits that allow the load.
    #[arg(long)]
    pub keys: Option<PathBuf>,
    /// The address of its operations port, for the times of its stages.
    #[arg(long)]
    pub operations: Option<SocketAddr>,
    /// The ids of its processes, if they run here: their processor time and memory are measured.
    #[arg(long, value_delimiter = ',')]
    pub processes: Vec<u32>,
}

impl ElsewhereArguments {
    /// The target, if one is named; the floor's file is made in `work`.
    ///
    /// # Errors
    /// If it doesn't answer, has nothing to trade, or doesn't know a key.
    pub fn target(&self, work: &Path) -> Result<Option<Target>> {
        let (Some(url), Some(keys)) = (&self.exchange, &self.keys) else {
            return Ok(None);
        };
        let credentials = read_keys(keys)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let market = runtime.block_on(market_at(url, &credentials))?;
        Ok(Some(Target {
            kind: results::Target::Meridian,
            market,
            processes: Processes {
                roots: self.processes.clone(),
            },
            operations: self.operations,
            work: work.to_owned(),
        }))
    }
}

fn read_keys(path: &Path) -> Result<Vec<Credentials>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let mut keys = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let (key, secret) = text
            .trim()
            .split_once(' ')
            .with_context(|| format!("line {line} of the keys has no blank"))?;
        keys.push(Credentials::parse(key, secret).with_context(|| format!("line {line} of the keys"))?);
    }
    ensure!(!keys.is_empty(), "{} holds no key", path.display());
    Ok(keys)
}

async fn market_at(url: &str, keys: &[Credentials]) -> Result<Market> {
    let host = url
        .strip_prefix("http://")
        .unwrap_or(url)
        .trim_end_matches('/')
        .to_owned();
    let address = host
        .to_socket_addrs()
        .with_context(|| format!("{url} is no address"))?
        .next();
    let address = address.with_context(|| format!("{url} has no address"))?;
    let connect = async || RestClient::connect(Endpoint::parse(url)?, None, RetryPolicy::default()).await;
    let instruments = connect().await?.instruments().await?;
    let is_fit = |instrument: &&Instrument| {
        let rules = &instrument.rules;
        instrument.status == InstrumentStatus::Trading && rules.tick_size.0 == TICK && rules.lot_size.0 == LOT
    };
    let symbols: Vec<String> = instruments
        .iter()
        .filter(is_fit)
        .map(|instrument| instrument.symbol.clone())
        .collect();
    if symbols.is_empty() {
        bail!("no instrument at {url} trades with ticks of {TICK} and lots of {LOT}");
    }
    let mut traders = Vec::new();
    for credentials in keys {
        let balances = connect()
            .await?
            .with_credentials(credentials.clone())
            .balances()
            .await?;
        let account = balances.account_id.parse();
        traders.push(Trader {
            account: account.map_err(|_| anyhow::anyhow!("{:?} is no account", balances.account_id))?,
            credentials: credentials.clone(),
        });
    }
    Ok(Market {
        address,
        host,
        cluster: cluster_of(address)?,
        names: Names {
            run: new_run(),
            symbols,
        },
        traders,
    })
}
