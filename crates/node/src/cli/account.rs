//! Commands that show what the account has: balances, fills, limits.

use anyhow::Result;
use clap::Args;
use wire::json::{Balances, Fills, Limits};

use super::connection::ConnectionArguments;
use super::names::name_of;
use super::table::Table;
use super::when;

/// Arguments of `fills`.
#[derive(Debug, Args)]
pub struct FillsArguments {
    /// How many, the newest first.
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

/// `meridian balances`.
pub async fn balances(connection: &ConnectionArguments) -> Result<()> {
    let balances = connection.client().await?.balances().await?;
    connection.print(&balances, balances_table)
}

/// `meridian fills`.
pub async fn fills(connection: &ConnectionArguments, arguments: &FillsArguments) -> Result<()> {
    let fills = connection.client().await?.fills(arguments.limit).await?;
    connection.print(&fills, fills_table)
}

/// `meridian limits`.
pub async fn limits(connection: &ConnectionArguments) -> Result<()> {
    let limits = connection.client().await?.limits().await?;
    connection.print(&limits, limits_table)
}

fn balances_table(balances: &Balances) -> String {
    let mut table = Table::new(&["ASSET", "#AVAILABLE", "#HELD", "#TOTAL"]);
    for balance in &balances.balances {
        table.row([
            balance.asset.clone(),
            balance.available.0.clone(),
            balance.held.0.clone(),
            balance.total.0.clone(),
        ]);
    }
    if table.is_empty() {
        return format!("Account {} holds nothing.\n", balances.account_id);
    }
    format!("Account {}\n{table}", balances.account_id)
}

fn fills_table(fills: &Fills) -> String {
    let titles = [
        "TIME (UTC)",
        "SYMBOL",
        "SIDE",
        "#PRICE",
        "#QUANTITY",
        "#FEE",
        "ROLE",
        "CLIENT ORDER ID",
        "FILL",
    ];
    let mut table = Table::new(&titles);
    for fill in &fills.fills {
        table.row([
            when::date_and_time(&fill.traded_at),
            fill.symbol.clone(),
            name_of(&fill.side),
            fill.price.0.clone(),
            fill.quantity.0.clone(),
            format!("{} {}", fill.fee, fill.fee_asset),
            name_of(&fill.role),
            fill.client_order_id.clone(),
            fill.fill_id.clone(),
        ]);
    }
    if table.is_empty() {
        return "There are no fills.\n".to_owned();
    }
    table.to_string()
}

fn limits_table(limits: &Limits) -> String {
    let mut table = Table::new(&["LIMIT", "#VALUE"]);
    for policy in &limits.rate_limits {
        let value = format!(
            "{} ({} a second, {} left)",
            policy.burst, policy.per_second, policy.remaining
        );
        table.row([format!("requests by {}, at once", policy.name), value]);
    }
    for (name, value) in [
        (
            "open orders",
            format!("{} ({} open)", limits.open_orders_max, limits.open_orders),
        ),
        ("requests in a batch", limits.batch_items_max.to_string()),
        ("bytes of a request", limits.request_bytes_max.to_string()),
        ("request ids are remembered for, ms", limits.request_window_ms.0.clone()),
        (
            "request ids are remembered since",
            when::date_and_time(&limits.request_horizon),
        ),
        ("widest Meridian-Window, ms", limits.signature_window_ms_max.to_string()),
    ] {
        table.row([name.to_owned(), value]);
    }
    table.to_string()
}
