//! A node that grows.

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use client::Credentials;
use harness::{Installation, Node, Operator};
use tokio::runtime::Runtime;
use wire::json::{AdminAnswer, KeyType};

use super::fill::RestingOrders;
use super::fleet::{OperatorRequest, Operators};
use crate::load::{DEPOSIT, Market, MarketSize, Processes, QUOTE, Target};
use crate::protocol::request::Names;
use crate::results;

/// Limits are there, and cost what they cost, but none is reached.
const SETTINGS: &str = "[gateway]\n\
    requests_per_key_burst = 10000000\nrequests_per_key_per_second = 10000000\n\
    requests_per_address_burst = 1000000\nrequests_per_address_per_second = 1000000\n";
/// The longest start that is waited for.
const READY_WITHIN: Duration = Duration::from_secs(600);
/// A little longer than a node takes to bring all of its figures up to date.
const FIGURES_EVERY: Duration = Duration::from_millis(1_500);
/// What each new account is given.
const ACCOUNT_DEPOSIT: &str = "1000.00";

/// What was made for one point of a curve.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// How many there are.
    pub count: u64,
    /// How many of them are new.
    pub made: u64,
    /// How long that took.
    pub seconds: f64,
    /// The node's memory then.
    pub rss_bytes: u64,
    /// By how much it grew.
    pub grown_bytes: u64,
}

/// A running node, a market on it, and its operator.
pub struct Subject {
    /// Where it is.
    pub installation: Installation,
    node: Node,
    /// What is traded there and by whom.
    pub market: Market,
    /// The names of orders that fill the books.
    fill_names: Names,
    operator: RefCell<Operator>,
    /// A key that is quick to verify: the operator asks a million times.
    credentials: Credentials,
    runtime: Runtime,
    requests: u64,
    accounts: u64,
}

impl Subject {
    /// Starts a node in `work` with further settings, and opens a market on it.
    pub fn start(program: &Path, work: &Path, settings: &str, traders: usize, instruments: usize) -> Result<Self> {
        let installation = Installation::new(program, &work.join("data"), work, &format!("{SETTINGS}{settings}"))?;
        let admin = installation.init()?;
        let mut node = installation.start()?;
        node.wait_until_ready()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let size = MarketSize {
            traders,
            instruments,
            key_types: &[KeyType::HmacSha256],
        };
        let (operator, credentials, market) = runtime.block_on(async {
            let mut operator = Operator::connect(installation.admin, admin).await?;
            let credentials = operator.new_operator_key(KeyType::HmacSha256).await?;
            let market = Market::open(&mut operator, installation.public, size).await?;
            anyhow::Ok((operator, credentials, market))
        })?;
        let fill_names = Names {
            run: "fill-".to_owned(),
            symbols: market.names.symbols.clone(),
        };
        Ok(Self {
            installation,
            node,
            accounts: market.accounts() as u64,
            market,
            fill_names,
            operator: RefCell::new(operator),
            credentials,
            runtime,
            requests: 0,
        })
    }

    /// Its process.
    pub fn processes(&self) -> Processes {
        Processes {
            roots: vec![self.node.process_id()],
        }
    }

    /// How many accounts it has.
    pub fn accounts(&self) -> u64 {
        self.accounts
    }

    /// Where the load goes; the floor's file is made in `work`.
    pub fn target(&self, work: &Path) -> Target {
        Target {
            kind: results::Target::Meridian,
            market: self.market.clone(),
            processes: self.processes(),
            operations: Some(self.installation.operations),
            work: work.to_owned(),
        }
    }

    /// Makes `more` of something, of which there are `count` then, and looks at the memory before and after.
    pub fn grow(&self, count: u64, more: u64, make: impl FnOnce(&Self) -> Result<()>) -> Result<Made> {
        let before = self.processes().usage()?.resident_bytes;
        let start = Instant::now();
        make(self)?;
        let seconds = start.elapsed().as_secs_f64();
        std::thread::sleep(FIGURES_EVERY);
        let rss_bytes = self.processes().usage()?.resident_bytes;
        Ok(Made {
            count,
            made: more,
            seconds,
            rss_bytes,
            grown_bytes: rss_bytes.saturating_sub(before),
        })
    }

    /// Makes accounts until there are `count`, each with some money.
    pub fn grow_accounts(&mut self, count: u64) -> Result<Made> {
        let more = count.saturating_sub(self.accounts);
        let first = self.requests;
        self.requests += 2 * more;
        self.accounts += more;
        self.grow(self.accounts, more, |subject| {
            let new_account = |number: u64| OperatorRequest {
                number: first + number,
                path: "/v1/admin/accounts",
                body: String::new(),
            };
            let accounts = subject.operators().ask_all(more, new_account, |answer| {
                let answer: AdminAnswer = serde_json::from_slice(answer)?;
                Ok(answer.account.context("the answer has no account")?.account_id)
            })?;
            let account = |number: u64| accounts[number as usize].as_str();
            subject.deposit(first + more, more, |number| (account(number), QUOTE, ACCOUNT_DEPOSIT))
        })
    }

    /// Makes instruments until there are `count`, and gives each trader money to trade them with.
    pub fn grow_instruments(&mut self, count: u64) -> Result<Made> {
        let present = self.market.names.symbols.len();
        let bases: Vec<String> = (present..count as usize).map(|index| format!("A{index}")).collect();
        let mut accounts: Vec<String> = self
            .market
            .traders
            .iter()
            .map(|trader| trader.account.to_string())
            .collect();
        accounts.sort_unstable();
        accounts.dedup();
        let (first, many) = (self.requests, bases.len() as u64);
        let deposits = accounts.len() as u64 * many;
        let made = self.grow(count, many, |subject| {
            let mut operator = subject.operator.borrow_mut();
            subject.runtime.block_on(async {
                for base in &bases {
                    operator.new_asset(base).await?;
                    operator.new_instrument(&format!("{base}-{QUOTE}"), base, QUOTE).await?;
                }
                anyhow::Ok(())
            })?;
            subject.deposit(first, deposits, |number| {
                let account = accounts[(number / many) as usize].as_str();
                (account, bases[(number % many) as usize].as_str(), DEPOSIT)
            })
        })?;
        self.requests += deposits;
        let symbols = bases.iter().map(|base| format!("{base}-{QUOTE}"));
        self.market.names.symbols.extend(symbols);
        Ok(made)
    }

    fn deposit<'a>(
        &self,
        first_request: u64,
        count: u64,
        what: impl Fn(u64) -> (&'a str, &'a str, &'a str) + Sync,
    ) -> Result<()> {
        let request = |number: u64| {
            let (account, asset, amount) = what(number);
            OperatorRequest {
                number: first_request + number,
                path: "/v1/admin/deposits",
                body: format!("{{\"account_id\":\"{account}\",\"asset\":\"{asset}\",\"amount\":\"{amount}\"}}"),
            }
        };
        self.operators().ask_all(count, request, |_| Ok(()))?;
        Ok(())
    }

    fn operators(&self) -> Operators<'_> {
        Operators {
            address: self.installation.admin,
            credentials: &self.credentials,
            cluster: self.market.cluster,
        }
    }

    /// Places orders that rest until there are `count` of them.
    pub fn grow_orders(&self, resting: &mut RestingOrders, count: u64) -> Result<Made> {
        let more = count.saturating_sub(resting.count);
        self.grow(count, more, |subject| {
            resting.place(&subject.market, &subject.fill_names, more)
        })
    }

    /// Cancels every order.
    pub fn cancel_everything(&self) -> Result<()> {
        let mut operator = self.operator.borrow_mut();
        self.runtime.block_on(async {
            for symbol in &self.market.names.symbols {
                operator.cancel_all_of(symbol).await?;
            }
            anyhow::Ok(())
        })
    }

    /// A figure of its operations port.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let (status, text) = self.node.operations("/metrics")?;
        ensure!(status == 200, "the operations port answered {status} to /metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.with_context(|| format!("the operations port has no {name}"))?;
        Ok(value.parse()?)
    }

    /// How many orders are open, as the node says, which looks once a second.
    pub fn open_orders(&self) -> Result<u64> {
        std::thread::sleep(FIGURES_EVERY);
        Ok(self.metric("meridian_open_orders")? as u64)
    }

    /// Ends it at once and starts it again. Gives the seconds until it took requests.
    pub fn kill_and_start(mut self) -> Result<(Self, f64)> {
        self.node.kill()?;
        let start = Instant::now();
        self.node = self.installation.start()?;
        self.node.wait_until_ready_within(READY_WITHIN)?;
        Ok((self, start.elapsed().as_secs_f64()))
    }

    /// Ends it in good order, and starts it again with other settings.
    pub fn restart_with(mut self, settings: &str) -> Result<Self> {
        ensure!(self.node.stop()?, "the node did not end in good order");
        self.installation.configure(&format!("{SETTINGS}{settings}"))?;
        self.node = self.installation.start()?;
        self.node.wait_until_ready_within(READY_WITHIN)?;
        Ok(self)
    }

    /// Stops it in good order.
    pub fn stop(self) -> Result<()> {
        ensure!(self.node.stop()?, "the node did not end in good order");
        Ok(())
    }
}
