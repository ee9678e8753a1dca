//! Commands that show what everybody may see: instruments, a book, trades.

use anyhow::Result;
use clap::Args;
use wire::json::{Book, BookLevel, Instrument, InstrumentStatus, Trades};

use super::connection::ConnectionArguments;
use super::names::name_of;
use super::table::Table;
use super::when;

/// Arguments of `book`.
#[derive(Debug, Args)]
pub struct BookArguments {
    /// The instrument, as in BTC-USD.
    symbol: String,
    /// How many levels of each side.
    #[arg(long, default_value_t = 10)]
    depth: u32,
}

/// Arguments of `trades`.
#[derive(Debug, Args)]
pub struct TradesArguments {
    /// The instrument, as in BTC-USD.
    symbol: String,
    /// How many, the newest first.
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

/// `meridian instruments`.
pub async fn instruments(connection: &ConnectionArguments) -> Result<()> {
    let instruments = connection.public_client().await?.instruments().await?;
    connection.print(&instruments, |instruments| instruments_table(instruments))
}

/// `meridian book`.
pub async fn book(connection: &ConnectionArguments, arguments: &BookArguments) -> Result<()> {
    let client = connection.public_client().await?;
    let book = client.book(&arguments.symbol, arguments.depth).await?;
    connection.print(&book, book_table)
}

/// `meridian trades`.
pub async fn trades(connection: &ConnectionArguments, arguments: &TradesArguments) -> Result<()> {
    let client = connection.public_client().await?;
    let trades = client.trades(&arguments.symbol, arguments.limit).await?;
    connection.print(&trades, trades_table)
}

fn instruments_table(instruments: &[Instrument]) -> String {
    let mut table = Table::new(&[
        "SYMBOL",
        "STATUS",
        "#TICK",
        "#LOT",
        "#MIN",
        "#MAX",
        "#MAKER PPM",
        "#TAKER PPM",
    ]);
    for instrument in instruments {
        let rules = &instrument.rules;
        let status: InstrumentStatus = instrument.status;
        table.row([
            instrument.symbol.clone(),
            name_of(&status),
            rules.tick_size.0.clone(),
            rules.lot_size.0.clone(),
            rules.quantity_min.0.clone(),
            rules.quantity_max.0.clone(),
            rules.maker_fee_ppm.to_string(),
            rules.taker_fee_ppm.to_string(),
        ]);
    }
    table.to_string()
}

fn book_table(book: &Book) -> String {
    let mut table = Table::new(&["#ORDERS", "#BID SIZE", "#BID", "#ASK", "#ASK SIZE", "#ORDERS"]);
    for row in 0..book.bids.len().max(book.asks.len()) {
        let [bid, bid_size, bid_orders] = cells(book.bids.get(row));
        let [ask, ask_size, ask_orders] = cells(book.asks.get(row));
        table.row([bid_orders, bid_size, bid, ask, ask_size, ask_orders]);
    }
    if table.is_empty() {
        return format!("The book of {} is empty.\n", book.symbol);
    }
    table.to_string()
}

fn cells(level: Option<&BookLevel>) -> [String; 3] {
    level.map_or_else(Default::default, |level| {
        [
            level.price.0.clone(),
            level.quantity.0.clone(),
            level.orders.to_string(),
        ]
    })
}

fn trades_table(trades: &Trades) -> String {
    let mut table = Table::new(&["TIME (UTC)", "TAKER", "#PRICE", "#QUANTITY", "FILL"]);
    for trade in &trades.trades {
        table.row([
            when::date_and_time(&trade.traded_at),
            name_of(&trade.taker_side),
            trade.price.0.clone(),
            trade.quantity.0.clone(),
            trade.fill_id.clone(),
        ]);
    }
    if table.is_empty() {
        return "There are no trades.\n".to_owned();
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use wire::json::{DecimalText, Position};

    use super::*;

    #[test]
    fn the_sides_of_a_book_stand_beside_each_other() {
        let level = |price: &str, quantity: &str| BookLevel {
            price: DecimalText(price.into()),
            quantity: DecimalText(quantity.into()),
            orders: 1,
        };
        let mut book = Book {
            symbol: "A-B".into(),
            bids: vec![level("9.50", "2.0"), level("9.00", "10.0")],
            asks: vec![level("10.00", "3.5")],
            position: Position {
                group: 0,
                epoch: 1,
                sequence: 1.into(),
            },
        };
        let wanted = "\
ORDERS  BID SIZE   BID    ASK  ASK SIZE  ORDERS
     1       2.0  9.50  10.00       3.5       1
     1      10.0  9.00
";
        assert_eq!(book_table(&book), wanted);
        book.bids.clear();
        book.asks.clear();
        assert_eq!(book_table(&book), "The book of A-B is empty.\n");
    }
}
