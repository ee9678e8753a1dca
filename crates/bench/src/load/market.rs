//! Where the load goes: an exchange with instruments, and traders with money and keys.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use client::Credentials;
use harness::Operator;
use types::{AccountId, ClusterId};
use wire::json::KeyType;

use crate::protocol::http;
use crate::protocol::request::Names;

/// The asset that everything is paid with.
pub const QUOTE: &str = "USD";
/// What each account gets of each asset: more than all its orders ever hold, and small enough for the asset's total.
pub const DEPOSIT: &str = "10000000.00";
/// Sessions beyond this share accounts, each still with a key of its own.
pub const ACCOUNTS_MAX: usize = 256;

/// Longer than any answer takes, and short enough to notice that there will be none.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where the load goes.
#[derive(Clone, Debug)]
pub struct Market {
    /// The address of its clients' port.
    pub address: SocketAddr,
    /// What the `host` header says.
    pub host: String,
    /// What signatures are made for.
    pub cluster: ClusterId,
    /// The names of the run and of the instruments.
    pub names: Names,
    /// Whose requests they are: session by session, from the front again where there are more sessions.
    pub traders: Vec<Trader>,
}

/// Who sends.
#[derive(Clone, Debug)]
pub struct Trader {
    /// For which account.
    pub account: AccountId,
    /// With which key.
    pub credentials: Credentials,
}

/// What a market of one's own is to have.
#[derive(Clone, Copy, Debug)]
pub struct MarketSize {
    /// Traders, each with a key of its own.
    pub traders: usize,
    /// Instruments.
    pub instruments: usize,
    /// The kinds of their keys, in turn.
    pub key_types: &'static [KeyType],
}

impl Market {
    /// Opens a market on a new exchange, as its operator would.
    ///
    /// # Errors
    /// What the exchange says.
    pub async fn open(operator: &mut Operator, address: SocketAddr, size: MarketSize) -> Result<Self> {
        ensure!(
            size.instruments > 0 && size.traders > 0,
            "a market has instruments and traders"
        );
        operator.new_asset(QUOTE).await?;
        let bases: Vec<String> = (0..size.instruments).map(|index| format!("A{index}")).collect();
        let mut symbols = Vec::new();
        for base in &bases {
            operator.new_asset(base).await?;
            let symbol = format!("{base}-{QUOTE}");
            operator.new_instrument(&symbol, base, QUOTE).await?;
            symbols.push(symbol);
        }
        let mut accounts = Vec::new();
        for _ in 0..size.traders.min(ACCOUNTS_MAX) {
            let account = operator.new_account().await?;
            for asset in bases.iter().map(String::as_str).chain([QUOTE]) {
                operator.deposit(account, asset, DEPOSIT).await?;
            }
            accounts.push(account);
        }
        let mut traders = Vec::new();
        for index in 0..size.traders {
            let account = accounts[index % accounts.len()];
            let credentials = operator
                .new_key(account, size.key_types[index % size.key_types.len()])
                .await?;
            traders.push(Trader { account, credentials });
        }
        Ok(Self {
            address,
            host: address.to_string(),
            cluster: cluster_of(address)?,
            names: Names {
                run: new_run(),
                symbols,
            },
            traders,
        })
    }

    /// Whose requests a session sends.
    pub fn trader(&self, session: usize) -> &Trader {
        &self.traders[session % self.traders.len()]
    }

    /// How many accounts the traders share.
    pub fn accounts(&self) -> usize {
        let mut accounts: Vec<AccountId> = self.traders.iter().map(|trader| trader.account).collect();
        accounts.sort_unstable();
        accounts.dedup();
        accounts.len()
    }
}

/// The cluster's id, as the exchange tells it to everybody.
///
/// # Errors
/// If it doesn't answer, or not with an id.
pub fn cluster_of(address: SocketAddr) -> Result<ClusterId> {
    let (status, body) = get(address, "/v1/time")?;
    ensure!(status == 200, "{address} answered {status} to /v1/time: {body}");
    let time: serde_json::Value = serde_json::from_str(&body).context("the answer to /v1/time is no JSON")?;
    let cluster = time["cluster_id"].as_str().context("/v1/time names no cluster_id")?;
    cluster
        .parse()
        .map_err(|error| anyhow::anyhow!("the cluster's id {cluster:?} is none: {error:?}"))
}

/// What the request ids of a run begin with: another text each millisecond for some hours.
pub fn new_run() -> String {
    format!("r{:x}-", epoch_ms() & 0xff_ffff)
}

/// Milliseconds since 1970.
pub fn epoch_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(0)
}

/// A plain `GET` of what needs no signature: status and body.
///
/// # Errors
/// If there is no answer, or one without a length.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let response = http::first_response(&answer)?.context("the answer is not whole")?;
    Ok((response.status, String::from_utf8_lossy(response.body).into_owned()))
}
