//! Whether the peer kept its promises, read from its tables after a run.

use std::path::Path;

use anyhow::{Context as _, Result};
use tokio_postgres::Client;
use types::{AccountId, InstrumentId, Price, Quantity, Side};

use super::market;
use super::server;

/// Ids that one question names at most.
const IDS_AT_ONCE: usize = 10_000;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Orders whose placing was acknowledged.
    pub acknowledged: u64,
    /// Of these, how many are there exactly once.
    pub found: u64,
    /// How many are not there.
    pub missing: u64,
    /// How many are there more than once.
    pub doubled: u64,
    /// Orders in the table, those included that were refused for want of funds.
    pub orders: u64,
    /// Of these, how many are open.
    pub open_orders: u64,
    /// Open orders that hold something else than they must.
    pub wrong_holds: u64,
    /// Balances whose held part is not the sum of what the account's open orders hold.
    pub wrong_balances: u64,
    /// Smallest units that there are more of (or fewer, if negative) than were deposited, over all assets.
    pub created: i64,
}

impl Audit {
    /// Whether everything was as it must be.
    pub fn holds(&self) -> bool {
        self.found == self.acknowledged && self.wrong_holds == 0 && self.wrong_balances == 0 && self.created == 0
    }
}

pub(super) async fn run<'a>(
    socket: &Path,
    acknowledged: impl IntoIterator<Item = (AccountId, &'a str)>,
) -> Result<Audit> {
    let client = server::connect(socket).await?;
    let mut audit = Audit::default();
    let mut ids = acknowledged.into_iter();
    loop {
        let some: Vec<(AccountId, &str)> = ids.by_ref().take(IDS_AT_ONCE).collect();
        if some.is_empty() {
            break;
        }
        count(&client, &some, &mut audit)
            .await
            .context("failed to look acknowledged orders up")?;
    }
    check_holds(&client, &mut audit)
        .await
        .context("failed to check the holds")?;
    check_balances(&client, &mut audit)
        .await
        .context("failed to check the balances")?;
    Ok(audit)
}

/// Looks orders up by their ids. It doesn't trust the index that keeps them apart.
async fn count(client: &Client, ids: &[(AccountId, &str)], audit: &mut Audit) -> Result<()> {
    let sql = "
        SELECT count(*) FILTER (WHERE times = 1), count(*) FILTER (WHERE times = 0), count(*) FILTER (WHERE times > 1)
        FROM (
            SELECT count(orders.order_id) AS times
            FROM unnest($1::integer[], $2::text[]) WITH ORDINALITY AS asked (account_id, client_order_id, number)
            LEFT JOIN orders ON orders.account_id = asked.account_id
                AND orders.client_order_id = asked.client_order_id AND orders.status <> 3
            GROUP BY asked.number) AS counted";
    let accounts: Vec<i32> = ids
        .iter()
        .map(|(account, _)| i32::try_from(account.0))
        .collect::<Result<_, _>>()?;
    let names: Vec<&str> = ids.iter().map(|(_, name)| *name).collect();
    let row = client.query_one(sql, &[&accounts, &names]).await?;
    audit.acknowledged += ids.len() as u64;
    audit.found += row.get::<_, i64>(0).unsigned_abs();
    audit.missing += row.get::<_, i64>(1).unsigned_abs();
    audit.doubled += row.get::<_, i64>(2).unsigned_abs();
    Ok(())
}

/// Compares what each open order holds with the arithmetic in [`market`], which the database has in its own words.
async fn check_holds(client: &Client, audit: &mut Audit) -> Result<()> {
    let row = client
        .query_one("SELECT count(*), count(*) FILTER (WHERE status = 0) FROM orders", &[])
        .await?;
    audit.orders = row.get::<_, i64>(0).unsigned_abs();
    audit.open_orders = row.get::<_, i64>(1).unsigned_abs();
    // Alike orders hold alike, so each kind is checked once.
    let sql = "SELECT side, price, quantity, hold, held_asset, count(*), instrument_id FROM orders WHERE status = 0
        GROUP BY 1, 2, 3, 4, 5, 7";
    for row in client.query(sql, &[]).await? {
        let side = if row.get::<_, i16>(0) == 0 {
            Side::Buy
        } else {
            Side::Sell
        };
        let must = market::hold(side, Price(row.get(1)), Quantity(row.get(2)));
        if must != Ok(row.get(3))
            || market::held_asset(side, InstrumentId(row.get::<_, i16>(6).unsigned_abs().into()))
                != row.get::<_, i16>(4)
        {
            audit.wrong_holds += row.get::<_, i64>(5).unsigned_abs();
        }
    }
    Ok(())
}

async fn check_balances(client: &Client, audit: &mut Audit) -> Result<()> {
    let sql = "
        SELECT count(*) FROM balances FULL JOIN (
            SELECT account_id, held_asset AS asset_id, sum(hold)::bigint AS held
            FROM orders WHERE status = 0 GROUP BY 1, 2) AS open USING (account_id, asset_id)
        WHERE coalesce(balances.held, 0) <> coalesce(open.held, 0)";
    audit.wrong_balances = client.query_one(sql, &[]).await?.get::<_, i64>(0).unsigned_abs();
    let sql = "
        SELECT (sum(available::numeric + held) - sum(deposited))::bigint
        FROM balances, LATERAL (SELECT deposit AS deposited FROM deposits) AS given";
    audit.created = client.query_one(sql, &[]).await?.get::<_, Option<i64>>(0).unwrap_or(0);
    Ok(())
}
