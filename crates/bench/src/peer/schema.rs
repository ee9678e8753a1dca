//! The tables, and what stands in them before the first order.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use types::{AccountId, KeyId};

use super::market::QUOTE_ASSET;
use super::server;

/// Rows that one statement inserts at most.
const ROWS_AT_ONCE: usize = 10_000;

/// Numbers instead of names wherever a set is closed, and the widest columns first, so that a row is small.
///
/// - `orders` has one index: every request names its order by account and client's id, and that index is what makes an
///   order execute once. A service with more ways to look orders up would pay for more indexes.
/// - No update touches an indexed column and each page keeps room, so that updates stay in their page and leave the
///   indexes alone (`HOT` in Postgres's documentation).
/// - There are no `CHECK` constraints: the server reads their text and prepares them anew at each statement. What they
///   would say stands in the statements' conditions.
/// - A hold stays in its row when the order is closed; it counts while `status` is 0. So a cancel reads what to release
///   from the row that it changes.
const TABLES: &str = "
    CREATE TABLE instruments (
        instrument_id smallint PRIMARY KEY,
        symbol text NOT NULL UNIQUE
    );
    CREATE TABLE keys (
        key_id integer PRIMARY KEY,
        account_id integer NOT NULL,
        is_hmac boolean NOT NULL,
        material bytea NOT NULL
    );
    CREATE TABLE balances (
        available bigint NOT NULL,
        held bigint NOT NULL,
        account_id integer NOT NULL,
        asset_id smallint NOT NULL,
        PRIMARY KEY (account_id, asset_id)
    ) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.5);
    CREATE TABLE deposits (
        deposit bigint NOT NULL
    );
    CREATE SEQUENCE order_ids CACHE 64;
    CREATE TABLE orders (
        order_id bigint NOT NULL DEFAULT nextval('order_ids'),
        price bigint NOT NULL,
        quantity bigint NOT NULL,
        hold bigint NOT NULL,
        placed_at_ns bigint NOT NULL,
        content bigint NOT NULL,
        account_id integer NOT NULL,
        instrument_id smallint NOT NULL,
        held_asset smallint NOT NULL,
        side smallint NOT NULL,
        time_in_force smallint NOT NULL,
        self_trade_prevention smallint NOT NULL,
        status smallint NOT NULL,
        post_only boolean NOT NULL,
        client_order_id text NOT NULL,
        changed_by text,
        PRIMARY KEY (account_id, client_order_id)
    ) WITH (fillfactor = 85, autovacuum_vacuum_insert_scale_factor = 1);
";

/// Begins many files of the log, each 16 MiB, which the next checkpoint keeps to be used again: a database that has run for
/// a while has such files, and no order then waits until a new one is filled with zeros and synced.
const LOG_SEGMENTS: &str = "
    DO $$ BEGIN
        FOR segment IN 1..128 LOOP
            PERFORM pg_logical_emit_message(false, 'room', '');
            PERFORM pg_switch_wal();
        END LOOP;
    END $$
";

/// What a key is, as the service keeps it: never the private part of an Ed25519 key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Material {
    /// A shared secret.
    Hmac(Vec<u8>),
    /// A public key.
    Ed25519(Vec<u8>),
}

/// A key that trades for an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Key {
    pub key: KeyId,
    pub account: AccountId,
    pub material: Material,
}

/// What there is before the first order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Beginning {
    /// The instruments' names; all of them have the rules of [`super::market`], and are numbered from 1.
    pub symbols: Vec<String>,
    /// The keys, at least one for each account.
    pub keys: Vec<Key>,
    /// What each account has of each asset, in smallest units.
    pub deposit: i64,
}

/// Makes the tables, fills them, and writes everything out.
pub(super) async fn create(socket: &Path, beginning: &Beginning) -> Result<()> {
    let client = server::connect(socket).await?;
    client
        .batch_execute(TABLES)
        .await
        .context("failed to make the tables")?;
    for (index, symbol) in beginning.symbols.iter().enumerate() {
        let number = i16::try_from(index).ok().filter(|number| *number < i16::MAX);
        let number = number.context("there are more instruments than the peer has numbers for")? + 1;
        let sql = "INSERT INTO instruments (instrument_id, symbol) VALUES ($1, $2)";
        client
            .execute(sql, &[&number, symbol])
            .await
            .context("failed to make an instrument")?;
    }
    client
        .execute("INSERT INTO deposits (deposit) VALUES ($1)", &[&beginning.deposit])
        .await?;
    for keys in beginning.keys.chunks(ROWS_AT_ONCE) {
        insert_keys(&client, keys).await.context("failed to make keys")?;
    }
    // One asset for each instrument besides the one that all are paid with.
    let last_asset = i16::try_from(beginning.symbols.len())?;
    let sql = "INSERT INTO balances (account_id, asset_id, available, held)
        SELECT account_id, asset_id, $1, 0
        FROM (SELECT DISTINCT account_id FROM keys) AS accounts, generate_series($2::integer, $3) AS asset_id";
    let parameters: [&(dyn ToSql + Sync); 3] = [&beginning.deposit, &i32::from(QUOTE_ASSET), &i32::from(last_asset)];
    client
        .execute(sql, &parameters)
        .await
        .context("failed to make accounts")?;
    // Not `orders`: a table that is known to be empty gets plans that read the whole of it.
    client.batch_execute("VACUUM ANALYZE balances").await?;
    client
        .batch_execute(LOG_SEGMENTS)
        .await
        .context("failed to make room for the log")?;
    client
        .batch_execute("CHECKPOINT")
        .await
        .context("failed to make a checkpoint")
}

async fn insert_keys(client: &Client, keys: &[Key]) -> Result<()> {
    let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        let (is_hmac, material) = match &key.material {
            Material::Hmac(secret) => (true, secret.as_slice()),
            Material::Ed25519(public) => (false, public.as_slice()),
        };
        columns.0.push(i32::try_from(key.key.0)?);
        columns.1.push(i32::try_from(key.account.0)?);
        columns.2.push(is_hmac);
        columns.3.push(material);
    }
    let sql = "INSERT INTO keys (key_id, account_id, is_hmac, material)
        SELECT * FROM unnest($1::integer[], $2::integer[], $3::boolean[], $4::bytea[])";
    client
        .execute(sql, &[&columns.0, &columns.1, &columns.2, &columns.3])
        .await?;
    Ok(())
}

/// The instruments' numbers and names.
pub(super) async fn instruments(client: &Client) -> Result<Vec<(i16, String)>> {
    let rows = client
        .query("SELECT instrument_id, symbol FROM instruments", &[])
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The keys.
pub(super) async fn keys(client: &Client) -> Result<Vec<Key>> {
    let rows = client
        .query("SELECT key_id, account_id, is_hmac, material FROM keys", &[])
        .await?;
    let key = |row: &tokio_postgres::Row| -> Result<Key> {
        let (key, account): (i32, i32) = (row.get(0), row.get(1));
        let material = if row.get(2) {
            Material::Hmac(row.get(3))
        } else {
            Material::Ed25519(row.get(3))
        };
        Ok(Key {
            key: KeyId(u32::try_from(key)?),
            account: AccountId(u32::try_from(account)?),
            material,
        })
    };
    rows.iter().map(key).collect()
}
