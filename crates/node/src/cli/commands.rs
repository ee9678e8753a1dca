//! The commands of clients and operators: they talk to a running node through its public interfaces.

use anyhow::{Context as _, Result};
use clap::Subcommand;

use super::admin::{self, AdminCommand};
use super::cluster::{self, ClusterCommand};
use super::connection::ConnectionArguments;
use super::order::{self, OrderCommand};
use super::region::{self, RegionCommand};
use super::{account, exit, lobster, market, sign, watch};

/// What a client or an operator can ask.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Print the headers of a signed request, for curl.
    Sign(sign::SignArguments),
    /// Place, replace, cancel, list or show orders.
    #[command(subcommand, after_help = exit::HELP)]
    Order(OrderCommand),
    /// Show a book.
    Book(market::BookArguments),
    /// Show an instrument's newest trades.
    Trades(market::TradesArguments),
    /// List the instruments.
    Instruments,
    /// Show the account's balances.
    Balances,
    /// Show the account's newest fills.
    Fills(account::FillsArguments),
    /// Show the limits that hold for the key.
    Limits,
    /// Follow a market and the account's own orders until Ctrl-C.
    Watch(watch::WatchArguments),
    /// What operators ask: assets, instruments, accounts, keys, deposits.
    #[command(subcommand, after_help = exit::HELP)]
    Admin(AdminCommand),
    /// Who belongs to the group and who leads it: show it, add and remove nodes, hand leadership over.
    #[command(subcommand, after_help = exit::HELP)]
    Cluster(ClusterCommand),
    /// Which region is active: show it, switch over, promote, demote.
    #[command(subcommand, after_help = exit::HELP)]
    Region(RegionCommand),
    /// Send a record of real orders to a running node and compare what becomes of them.
    #[command(subcommand, after_help = exit::HELP)]
    Replay(ReplayCommand),
}

/// What `replay` can be asked.
#[derive(Debug, Subcommand)]
pub enum ReplayCommand {
    /// Replay an order-by-order record in LOBSTER's format.
    Lobster(lobster::LobsterArguments),
}

/// Runs the command.
pub fn run(connection: &ConnectionArguments, command: &ClientCommand) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        match command {
            ClientCommand::Sign(arguments) => sign::run(connection, arguments).await,
            ClientCommand::Order(command) => order::run(connection, command).await,
            ClientCommand::Book(arguments) => market::book(connection, arguments).await,
            ClientCommand::Trades(arguments) => market::trades(connection, arguments).await,
            ClientCommand::Instruments => market::instruments(connection).await,
            ClientCommand::Balances => account::balances(connection).await,
            ClientCommand::Fills(arguments) => account::fills(connection, arguments).await,
            ClientCommand::Limits => account::limits(connection).await,
            ClientCommand::Watch(arguments) => watch::run(connection, arguments).await,
            ClientCommand::Admin(command) => admin::run(connection, command).await,
            ClientCommand::Cluster(command) => cluster::run(connection, command).await,
            ClientCommand::Region(command) => region::run(connection, command).await,
            ClientCommand::Replay(ReplayCommand::Lobster(arguments)) => lobster::run(connection, arguments).await,
        }
    })
}
