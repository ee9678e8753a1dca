//! `meridian admin …`: what operators ask, on their own listener.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use client::{RestClient, Secret, new_request_id};
use http::Method;
use wire::json::{
    AccountStatus, AccountStatusRequest, Accounts, AdminAnswer, AssetRequest, Assets, Balance, CancelAllForRequest,
    DecimalText, EngineVersionRequest, EngineVersionStatus, Instrument, InstrumentRequest, InstrumentRules,
    InstrumentStatus, InstrumentStatusRequest, Key, KeyRequest, KeyType, Keys, Scope, TransferRequest,
};
use wire::signing::to_hex;

use super::connection::ConnectionArguments;
use super::names::{name_of, named};
use super::table::Table;

const ENGINE_VERSION: &str = "/v1/admin/engine-version";

/// What `admin` can be asked.
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Make or list assets.
    #[command(subcommand)]
    Asset(AssetCommand),
    /// Make, halt, open or close instruments.
    #[command(subcommand)]
    Instrument(InstrumentCommand),
    /// Make, list, suspend or resume accounts.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Make, list or revoke keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Put money into an account.
    Deposit(TransferArguments),
    /// Take money out of an account.
    Withdraw(TransferArguments),
    /// Show which version of the exchange's behaviour is in force and what each node reads, or switch on a newer one.
    EngineVersion {
        #[command(subcommand)]
        command: Option<EngineVersionCommand>,
    },
    /// Cancel all orders of an account, or of an instrument, or of both together.
    CancelAll {
        /// Whose.
        #[arg(long)]
        account: Option<String>,
        /// Of what.
        #[arg(long)]
        symbol: Option<String>,
    },
}

/// What `admin engine-version` can be asked besides to show.
#[derive(Debug, Subcommand)]
pub enum EngineVersionCommand {
    /// Switch on this version, for good: no older program can go on from there. Ask the leader.
    Set {
        /// Above the one in force, and read by every node.
        #[arg(value_parser = clap::value_parser!(u16).range(2..))]
        version: u16,
        /// The request's id: the same again changes nothing; left out: a random one.
        #[arg(long)]
        request_id: Option<String>,
    },
}

/// What `admin asset` can be asked.
#[derive(Debug, Subcommand)]
pub enum AssetCommand {
    /// Make an asset.
    Create {
        /// Its name, as in USD.
        symbol: String,
        /// Digits after the point of its smallest unit, 0 to 12.
        decimals: u8,
    },
    /// List the assets.
    List,
}

/// What `admin instrument` can be asked.
#[derive(Debug, Subcommand)]
pub enum InstrumentCommand {
    /// Make an instrument, which starts out halted; `admin instrument status SYMBOL trading` opens it.
    Create(Box<InstrumentArguments>),
    /// Let an instrument trade, halt it, or close it for good.
    Status {
        /// The instrument.
        symbol: String,
        /// trading, halted or closed.
        #[arg(value_parser = named::<InstrumentStatus>)]
        status: InstrumentStatus,
    },
}

/// Arguments of `admin instrument create`.
#[derive(Debug, Args)]
pub struct InstrumentArguments {
    /// Its name, as in BTC-USD.
    symbol: String,
    /// The asset that is bought and sold.
    base: String,
    /// The asset that it is paid with.
    quote: String,
    /// The smallest step of a price.
    #[arg(long)]
    tick: String,
    /// The smallest step of a quantity.
    #[arg(long)]
    lot: String,
    /// The smallest quantity of an order; left out: one lot.
    #[arg(long)]
    quantity_min: Option<String>,
    /// The largest quantity of an order.
    #[arg(long, default_value = "1000000")]
    quantity_max: String,
    /// The smallest price x quantity of an order.
    #[arg(long, default_value = "0")]
    notional_min: String,
    /// The largest price x quantity of an order.
    #[arg(long, default_value = "100000000")]
    notional_max: String,
    /// How far a price may be from the last trade's, in parts per million; 0 for no limit.
    #[arg(long, default_value_t = 100_000)]
    collar_ppm: u32,
    /// The price from which the collar counts before the first trade.
    #[arg(long)]
    reference_price: Option<String>,
    /// What makers pay, in parts per million; negative is a rebate.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    maker_fee_ppm: i32,
    /// What takers pay, in parts per million.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    taker_fee_ppm: i32,
}

/// What `admin account` can be asked.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Make an account.
    Create,
    /// List the first accounts.
    List,
    /// Let an account trade, only cancel, or nothing (which cancels its orders).
    Status {
        /// The account's number.
        account: String,
        /// active, cancel_only or suspended.
        #[arg(value_parser = named::<AccountStatus>)]
        status: AccountStatus,
    },
}

/// What `admin key` can be asked.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print its secret, once. Its private half of an ed25519 key never leaves this machine.
    Create(KeyArguments),
    /// List the first keys.
    List,
    /// Revoke a key.
    Revoke {
        /// The key's number.
        key: String,
    },
}

/// Arguments of `admin key create`.
#[derive(Debug, Args)]
pub struct KeyArguments {
    /// For which account it acts; 0 for an operator's.
    account: String,
    /// read, trade or admin; several are separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "read,trade", value_parser = named::<Scope>)]
    scopes: Vec<Scope>,
    /// HMAC-SHA256 with a secret that the exchange makes, in place of Ed25519.
    #[arg(long)]
    hmac: bool,
}

/// Arguments of `admin deposit` and `admin withdraw`.
#[derive(Debug, Args)]
pub struct TransferArguments {
    /// The account's number.
    account: String,
    /// The asset.
    asset: String,
    /// How much.
    amount: String,
    /// The request's id: the same again changes nothing; left out: a random one.
    #[arg(long)]
    request_id: Option<String>,
}

/// Runs the command.
pub async fn run(connection: &ConnectionArguments, command: &AdminCommand) -> Result<()> {
    let client = connection.admin_client().await?;
    match command {
        AdminCommand::Asset(AssetCommand::List) => {
            let assets: Assets = client.read("/v1/admin/assets").await?;
            connection.print(&assets, assets_table)
        }
        AdminCommand::Account(AccountCommand::List) => {
            let accounts: Accounts = client.read("/v1/admin/accounts?limit=500").await?;
            connection.print(&accounts, accounts_table)
        }
        AdminCommand::Key(KeyCommand::List) => {
            let keys: Keys = client.read("/v1/admin/keys?limit=500").await?;
            connection.print(&keys, |keys| keys_table(&keys.keys))
        }
        AdminCommand::EngineVersion { command: None } => {
            let status: EngineVersionStatus = client.read(ENGINE_VERSION).await?;
            connection.print(&status, engine_version_text)
        }
        AdminCommand::Key(KeyCommand::Create(arguments)) => create_key(connection, &client, arguments).await,
        command => {
            let answer = change(&client, command).await?;
            connection.print(&answer, answer_text)
        }
    }
}

async fn change(client: &RestClient, command: &AdminCommand) -> Result<AdminAnswer> {
    let id = new_request_id();
    let post = |path: &'static str| (Method::POST, path.to_owned());
    let (method, path, request_id, body) = match command {
        AdminCommand::Asset(AssetCommand::Create { symbol, decimals }) => {
            let request = AssetRequest {
                symbol: symbol.clone(),
                decimals: *decimals,
            };
            with(post("/v1/admin/assets"), id, &request)?
        }
        AdminCommand::Instrument(InstrumentCommand::Create(arguments)) => {
            with(post("/v1/admin/instruments"), id, &instrument(arguments))?
        }
        AdminCommand::Instrument(InstrumentCommand::Status { symbol, status }) => {
            let path = (Method::PUT, format!("/v1/admin/instruments/{symbol}/status"));
            with(path, id, &InstrumentStatusRequest { status: *status })?
        }
        AdminCommand::Account(AccountCommand::Create) => {
            return Ok(client
                .change(Method::POST, "/v1/admin/accounts", &id, None::<&()>)
                .await?);
        }
        AdminCommand::Account(AccountCommand::Status { account, status }) => {
            let path = (Method::PUT, format!("/v1/admin/accounts/{account}/status"));
            with(path, id, &AccountStatusRequest { status: *status })?
        }
        AdminCommand::Key(KeyCommand::Revoke { key }) => {
            let path = format!("/v1/admin/keys/{key}");
            return Ok(client.change(Method::DELETE, &path, &id, None::<&()>).await?);
        }
        AdminCommand::Deposit(arguments) => {
            let id = arguments.request_id.clone().unwrap_or(id);
            with(post("/v1/admin/deposits"), id, &transfer(arguments))?
        }
        AdminCommand::Withdraw(arguments) => {
            let id = arguments.request_id.clone().unwrap_or(id);
            with(post("/v1/admin/withdrawals"), id, &transfer(arguments))?
        }
        AdminCommand::EngineVersion {
            command: Some(EngineVersionCommand::Set { version, request_id }),
        } => {
            let id = request_id.clone().unwrap_or(id);
            with(post(ENGINE_VERSION), id, &EngineVersionRequest { version: *version })?
        }
        AdminCommand::CancelAll { account, symbol } => {
            let request = CancelAllForRequest {
                account_id: account.clone(),
                symbol: symbol.clone(),
            };
            with(post("/v1/admin/cancel-all"), id, &request)?
        }
        AdminCommand::Asset(AssetCommand::List)
        | AdminCommand::Account(AccountCommand::List)
        | AdminCommand::EngineVersion { command: None }
        | AdminCommand::Key(KeyCommand::List | KeyCommand::Create(_)) => bail!("this command changes nothing here"),
    };
    Ok(client.change(method, &path, &request_id, Some(&body)).await?)
}

type Change = (Method, String, String, serde_json::Value);

fn with((method, path): (Method, String), request_id: String, body: &impl serde::Serialize) -> Result<Change> {
    Ok((method, path, request_id, serde_json::to_value(body)?))
}

fn transfer(arguments: &TransferArguments) -> TransferRequest {
    TransferRequest {
        account_id: arguments.account.clone(),
        asset: arguments.asset.clone(),
        amount: DecimalText(arguments.amount.clone()),
    }
}

fn instrument(arguments: &InstrumentArguments) -> InstrumentRequest {
    let text = |text: &String| DecimalText(text.clone());
    InstrumentRequest {
        symbol: arguments.symbol.clone(),
        base: arguments.base.clone(),
        quote: arguments.quote.clone(),
        rules: InstrumentRules {
            tick_size: text(&arguments.tick),
            lot_size: text(&arguments.lot),
            quantity_min: text(arguments.quantity_min.as_ref().unwrap_or(&arguments.lot)),
            quantity_max: text(&arguments.quantity_max),
            notional_min: text(&arguments.notional_min),
            notional_max: text(&arguments.notional_max),
            collar_ppm: arguments.collar_ppm,
            reference_price: arguments.reference_price.as_ref().map(text),
            maker_fee_ppm: arguments.maker_fee_ppm,
            taker_fee_ppm: arguments.taker_fee_ppm,
        },
    }
}

async fn create_key(connection: &ConnectionArguments, client: &RestClient, arguments: &KeyArguments) -> Result<()> {
    let own = (!arguments.hmac).then(Secret::generate_ed25519);
    let request = KeyRequest {
        account_id: arguments.account.clone(),
        scopes: arguments.scopes.clone(),
        key_type: if arguments.hmac {
            KeyType::HmacSha256
        } else {
            KeyType::Ed25519
        },
        public_key: own.as_ref().and_then(Secret::public_key).map(|key| to_hex(&key)),
    };
    let mut answer = client.admin("/v1/admin/keys", &new_request_id(), &request).await?;
    let secret = match (own, answer.secret.take()) {
        (Some(own), _) => own.reveal(),
        (None, Some(secret)) => format!("hmac:{secret}"),
        (None, None) => bail!("the exchange made a key but did not show its secret"),
    };
    answer.secret = Some(secret.clone());
    connection.print(&answer, |answer| {
        let table = keys_table(answer.key.as_slice());
        format!("{table}\nIts secret is shown this once:\n{secret}\n")
    })
}

fn answer_text(answer: &AdminAnswer) -> String {
    let mut text = String::new();
    if answer.repeat {
        text.push_str("This request was executed before; this is its first answer.\n");
    }
    if let Some(asset) = &answer.asset {
        text.push_str(&format!("Asset {} with {} decimals.\n", asset.symbol, asset.decimals));
    }
    if let Some(instrument) = &answer.instrument {
        let Instrument { symbol, status, .. } = instrument;
        text.push_str(&format!("Instrument {symbol}: {}.\n", name_of(status)));
    }
    if let Some(account) = &answer.account {
        text.push_str(&format!(
            "Account {}: {}.\n",
            account.account_id,
            name_of(&account.status)
        ));
    }
    if let Some(balance) = &answer.balance {
        let Balance {
            asset, available, held, ..
        } = balance;
        text.push_str(&format!("{available} {asset} available, {held} held.\n"));
    }
    if let Some(key) = &answer.key {
        let state = if key.active { "active" } else { "revoked" };
        text.push_str(&format!("Key {} of account {}: {state}.\n", key.key_id, key.account_id));
    }
    if let Some(version) = answer.engine_version {
        text.push_str(&format!("Engine version {version} is in force.\n"));
    }
    if text.is_empty() {
        text.push_str("Done.\n");
    }
    text
}

fn engine_version_text(status: &EngineVersionStatus) -> String {
    let or_unknown = |version: Option<u16>| version.map_or_else(|| "-".to_owned(), |version| version.to_string());
    let mut table = Table::new(&["#NODE", "ROLE", "#READS"]);
    for member in &status.members {
        table.row([
            member.node.to_string(),
            name_of(&member.role),
            or_unknown(member.engine_version_max),
        ]);
    }
    let all = or_unknown(status.engine_version_max);
    format!(
        "Engine version {} is in force; the newest that all nodes read is {all}\n{table}",
        status.engine_version
    )
}

fn assets_table(assets: &Assets) -> String {
    let mut table = Table::new(&["ASSET", "#DECIMALS"]);
    for asset in &assets.assets {
        table.row([asset.symbol.clone(), asset.decimals.to_string()]);
    }
    table.to_string()
}

fn accounts_table(accounts: &Accounts) -> String {
    let mut table = Table::new(&["#ACCOUNT", "STATUS"]);
    for account in &accounts.accounts {
        table.row([account.account_id.clone(), name_of(&account.status)]);
    }
    table.to_string()
}

fn keys_table(keys: &[Key]) -> String {
    let mut table = Table::new(&["#KEY", "#ACCOUNT", "SCOPES", "TYPE", "STATE"]);
    for key in keys {
        let scopes: Vec<String> = key.scopes.iter().map(name_of).collect();
        let state = if key.active { "active" } else { "revoked" };
        table.row([
            key.key_id.clone(),
            key.account_id.clone(),
            scopes.join(","),
            name_of(&key.key_type),
            state.to_owned(),
        ]);
    }
    table.to_string()
}
