//! `meridian order …`: place, replace, cancel, list and show orders.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use client::{Target, new_request_id};
use wire::json::{
    CancelAllAnswer, DecimalText, NewOrder, Order, OrderAnswer, OrderType, Replace, SelfTradePrevention, Side,
    TimeInForce, TimeText,
};

use super::connection::ConnectionArguments;
use super::names::{name_of, named};
use super::table::Table;
use super::when;

/// What `order` can be asked.
#[derive(Debug, Subcommand)]
pub enum OrderCommand {
    /// Place an order: `order place BTC-USD buy 0.1 --price 49000`.
    Place(PlaceArguments),
    /// Change an order's price, quantity or both. A smaller quantity alone keeps its place in the queue.
    Replace(ReplaceArguments),
    /// Cancel an order, or all of them.
    Cancel(CancelArguments),
    /// List the open orders.
    List(ListArguments),
    /// Show one order, open or closed.
    Show {
        /// The order's id (as in 0.1.1234), or what the client called it.
        id: String,
    },
}

/// Arguments of `order place`.
#[derive(Debug, Args)]
pub struct PlaceArguments {
    /// The instrument, as in BTC-USD.
    symbol: String,
    /// buy or sell.
    #[arg(value_parser = named::<Side>)]
    side: Side,
    /// How much.
    quantity: String,
    /// The limit.
    #[arg(long)]
    price: Option<String>,
    /// A market order: it trades at what there is and never rests.
    #[arg(long, conflicts_with = "price")]
    market: bool,
    /// gtc, ioc, fok, gtd or day.
    #[arg(long, value_parser = named::<TimeInForce>)]
    time_in_force: Option<TimeInForce>,
    /// When a gtd order expires, in nanoseconds since 1970, UTC.
    #[arg(long)]
    expires_at: Option<String>,
    /// Refuse it rather than take.
    #[arg(long)]
    post_only: bool,
    /// When it would trade with the account's own: cancel_newest, cancel_oldest or cancel_both.
    #[arg(long, value_parser = named::<SelfTradePrevention>)]
    self_trade_prevention: Option<SelfTradePrevention>,
    /// What to call it, 1 to 64 of [A-Za-z0-9_-]; left out: a random id. If the outcome is unknown, `order show ID`
    /// tells what became of it, and `order cancel ID` makes sure that it does not execute later.
    #[arg(long)]
    id: Option<String>,
    /// Only ask whether it would be taken.
    #[arg(long)]
    validate_only: bool,
}

/// Arguments of `order replace`.
#[derive(Debug, Args)]
pub struct ReplaceArguments {
    /// The order's id (as in 0.1.1234), or what the client called it.
    id: String,
    /// The new limit.
    #[arg(long)]
    price: Option<String>,
    /// The new whole quantity, what was filled included.
    #[arg(long)]
    quantity: Option<String>,
    /// The request's id; left out: a random one.
    #[arg(long)]
    request_id: Option<String>,
}

/// Arguments of `order cancel`.
#[derive(Debug, Args)]
pub struct CancelArguments {
    /// The order's id (as in 0.1.1234), or what the client called it.
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// All of the account's orders.
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// With --all: only those of this instrument.
    #[arg(long, requires = "all")]
    symbol: Option<String>,
    /// The request's id; left out: a random one.
    #[arg(long)]
    request_id: Option<String>,
}

/// Arguments of `order list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only those of this instrument.
    #[arg(long)]
    symbol: Option<String>,
}

/// Runs the command.
pub async fn run(connection: &ConnectionArguments, command: &OrderCommand) -> Result<()> {
    match command {
        OrderCommand::Place(arguments) => place(connection, arguments).await,
        OrderCommand::Replace(arguments) => replace(connection, arguments).await,
        OrderCommand::Cancel(arguments) => cancel(connection, arguments).await,
        OrderCommand::List(arguments) => {
            let client = connection.client().await?;
            let orders = client.open_orders(arguments.symbol.as_deref()).await?;
            connection.print(&orders, |orders| orders_table(orders))
        }
        OrderCommand::Show { id } => {
            let order = connection.client().await?.order(&target(id)).await?;
            connection.print(&order, |order| orders_table(std::slice::from_ref(order)))
        }
    }
}

async fn place(connection: &ConnectionArguments, arguments: &PlaceArguments) -> Result<()> {
    let order_type = match (&arguments.price, arguments.market) {
        (Some(_), _) => OrderType::Limit,
        (None, true) => OrderType::Market,
        (None, false) => bail!("give the limit with --price, or --market for an order without one"),
    };
    let order = NewOrder {
        client_order_id: arguments.id.clone().unwrap_or_else(new_request_id),
        symbol: arguments.symbol.clone(),
        side: arguments.side,
        order_type,
        time_in_force: arguments.time_in_force,
        expires_at: arguments.expires_at.clone().map(TimeText),
        price: arguments.price.clone().map(DecimalText),
        quantity: DecimalText(arguments.quantity.clone()),
        post_only: arguments.post_only,
        self_trade_prevention: arguments.self_trade_prevention,
        valid_until: None,
        validate_only: false,
    };
    let client = connection.client().await?;
    if arguments.validate_only {
        let answer = client.validate(order).await?;
        return connection.print(&answer, |_| "It would be taken.\n".to_owned());
    }
    let answer = client.place(order).await?;
    connection.print(&answer, answer_text)
}

async fn replace(connection: &ConnectionArguments, arguments: &ReplaceArguments) -> Result<()> {
    let change = Replace {
        price: arguments.price.clone().map(DecimalText),
        quantity: arguments.quantity.clone().map(DecimalText),
        ..Replace::default()
    };
    if change == Replace::default() {
        bail!("give the new --price, the new --quantity or both");
    }
    let request_id = arguments.request_id.clone().unwrap_or_else(new_request_id);
    let client = connection.client().await?;
    let answer = client.replace(&target(&arguments.id), &request_id, change).await?;
    connection.print(&answer, answer_text)
}

async fn cancel(connection: &ConnectionArguments, arguments: &CancelArguments) -> Result<()> {
    let request_id = arguments.request_id.clone().unwrap_or_else(new_request_id);
    let client = connection.client().await?;
    match &arguments.id {
        Some(id) => {
            let answer = client.cancel(&target(id), &request_id).await?;
            connection.print(&answer, answer_text)
        }
        None => {
            let answer = client.cancel_all(arguments.symbol.as_deref(), &request_id).await?;
            connection.print(&answer, cancel_all_text)
        }
    }
}

/// An order's id has points, what a client calls it has none.
fn target(id: &str) -> Target {
    if id.contains('.') {
        Target::OrderId(id.to_owned())
    } else {
        Target::ClientOrderId(id.to_owned())
    }
}

fn cancel_all_text(answer: &CancelAllAnswer) -> String {
    match answer.count {
        0 => "There was no open order.\n".to_owned(),
        1 => "1 order was cancelled.\n".to_owned(),
        count => format!("{count} orders were cancelled.\n"),
    }
}

fn answer_text(answer: &OrderAnswer) -> String {
    let mut text = String::new();
    if answer.repeat {
        text.push_str("This request was executed before; this is its first answer, and the order as it is now.\n");
    }
    match &answer.order {
        Some(order) => text.push_str(&orders_table(std::slice::from_ref(order))),
        None => text.push_str("There is no such order, and none will ever be executed under that id.\n"),
    }
    if !answer.fills.is_empty() {
        let mut fills = Table::new(&["FILL", "#PRICE", "#QUANTITY", "#FEE"]);
        for fill in &answer.fills {
            let fee = format!("{} {}", fill.fee, fill.fee_asset);
            fills.row([fill.fill_id.clone(), fill.price.0.clone(), fill.quantity.0.clone(), fee]);
        }
        text.push_str(&format!("\n{fills}"));
    }
    text
}

fn orders_table(orders: &[Order]) -> String {
    let titles = [
        "ORDER",
        "CLIENT ORDER ID",
        "SYMBOL",
        "SIDE",
        "TYPE",
        "#PRICE",
        "#QUANTITY",
        "#FILLED",
        "STATUS",
        "PLACED (UTC)",
    ];
    let mut table = Table::new(&titles);
    for order in orders {
        let status = match order.close_reason {
            Some(reason) => format!("{} ({})", name_of(&order.status), name_of(&reason)),
            None => name_of(&order.status),
        };
        table.row([
            order.order_id.clone(),
            order.client_order_id.clone(),
            order.symbol.clone(),
            name_of(&order.side),
            format!("{} {}", name_of(&order.order_type), name_of(&order.time_in_force)),
            order.price.0.clone(),
            order.quantity.0.clone(),
            order.filled_quantity.0.clone(),
            status,
            when::date_and_time(&order.placed_at),
        ]);
    }
    if table.is_empty() {
        return "There are no open orders.\n".to_owned();
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_apart_by_their_points() {
        assert_eq!(target("0.1.12"), Target::OrderId("0.1.12".into()));
        assert_eq!(target("a-1"), Target::ClientOrderId("a-1".into()));
    }
}
