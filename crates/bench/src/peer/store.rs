//! Orders and balances in Postgres: each change is one statement, which is one transaction and one round trip.
//!
//! A statement that changes several tables does so through `WITH`: a cheaper way than a function of the database, and
//! than `BEGIN`, three statements and `COMMIT` by far, with the same promise. Its commit is on the disk when its answer
//! comes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, QueueMode, RecyclingMethod, Runtime,
};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};
use types::{
    AccountId, Amount, CloseReason, Epoch, GroupId, InstrumentId, Order, OrderId, OrderStatus, OrderType, Position,
    Price, Quantity, RequestId, SelfTradePrevention, Sequence, Side, TimeInForce, Timestamp,
};

use super::market::{BASE_PER_LOT, FEE_PPM, PRICE_TIMES_QUANTITY_MAX, QUOTE_PER_LOT_TICK, held_asset};
use super::server;

/// How long a request waits for a connection before it is refused.
const CONNECTION_WITHIN: Duration = Duration::from_secs(5);

/// What `orders.status` says.
mod status {
    pub const OPEN: i16 = 0;
    pub const CANCELLED: i16 = 1;
    /// Cancelled because it met nobody at once.
    pub const UNFILLED: i16 = 2;
    /// Never taken; the row keeps its id from being used again.
    pub const UNFUNDED: i16 = 3;
}

/// Holds what the order needs, if the account has it, and places it. The balance comes first, so that an order without
/// funds costs no row. (A place that comes again while a cancel of the same order is under way can meet it crosswise; the
/// server ends one of the two as a deadlock, and that one is tried again.)
const PLACE: &str = "
    WITH funded AS (
        UPDATE balances SET available = available - $12::bigint, held = held + $12
        WHERE account_id = $1 AND asset_id = $4 AND available >= $12 RETURNING 1)
    INSERT INTO orders (account_id, client_order_id, instrument_id, held_asset, side, time_in_force,
        self_trade_prevention, post_only, price, quantity, content, hold, placed_at_ns, status)
    SELECT $1::integer, $2::text, $3::smallint, $4::smallint, $5::smallint, $6::smallint,
        $7::smallint, $8::boolean, $9::bigint, $10::bigint, $11::bigint, $12, $13::bigint, $14::smallint
    FROM funded RETURNING order_id";

/// Places an order that meets nobody and must not rest: what it needs is checked, held and released in one, so the
/// balance stays as it is.
const PLACE_AND_CANCEL: &str = "
    INSERT INTO orders (account_id, client_order_id, instrument_id, held_asset, side, time_in_force,
        self_trade_prevention, post_only, price, quantity, content, hold, placed_at_ns, status)
    SELECT $1::integer, $2::text, $3::smallint, $4::smallint, $5::smallint, $6::smallint,
        $7::smallint, $8::boolean, $9::bigint, $10::bigint, $11::bigint, $12::bigint, $13::bigint, $14::smallint
    FROM balances WHERE account_id = $1 AND asset_id = $4 AND available >= $12
    RETURNING order_id";

/// Remembers an order that was refused, so that it is refused again whatever the account owns by then.
const REMEMBER: &str = "
    INSERT INTO orders (account_id, client_order_id, instrument_id, held_asset, side, time_in_force,
        self_trade_prevention, post_only, price, quantity, content, hold, placed_at_ns, status)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT DO NOTHING RETURNING order_id";

/// What [`stored`] reads, in its order.
macro_rules! columns {
    () => {
        "order_id, client_order_id, instrument_id, side, time_in_force, self_trade_prevention, post_only, price, \
         quantity, content, placed_at_ns, status, changed_by"
    };
}

const CANCEL: &str = concat!(
    "WITH closed AS (
        UPDATE orders SET status = 1, changed_by = $3
        WHERE account_id = $1 AND client_order_id = $2 AND status = 0 RETURNING *),
    released AS (
        UPDATE balances SET available = available + closed.hold, held = balances.held - closed.hold
        FROM closed WHERE balances.account_id = closed.account_id AND balances.asset_id = closed.held_asset)
    SELECT ",
    columns!(),
    " FROM closed"
);

/// Takes the order first, like a cancel, so that the two can't meet crosswise.
const REPLACE: &str = concat!(
    "WITH old AS (
        SELECT price, quantity, hold, held_asset, side,
            coalesce($4::bigint, price) AS new_price, coalesce($5::bigint, quantity) AS new_quantity
        FROM orders WHERE account_id = $1 AND client_order_id = $2 AND status = 0 FOR UPDATE),
    wanted AS (
        SELECT hold, held_asset, new_price, new_quantity, CASE side
            WHEN 1 THEN new_quantity * $7::bigint
            ELSE new_price * new_quantity * $8::bigint
                + (new_price * new_quantity * $8 * $9::bigint + 999999) / 1000000 END AS new_hold
        FROM old WHERE (new_price <> price OR new_quantity <> quantity) AND new_price * new_quantity <= $10::bigint),
    funded AS (
        UPDATE balances SET available = available + wanted.hold - wanted.new_hold,
            held = held - wanted.hold + wanted.new_hold
        FROM wanted WHERE account_id = $1 AND asset_id = wanted.held_asset AND available + wanted.hold >= wanted.new_hold
        RETURNING wanted.new_price, wanted.new_quantity, wanted.new_hold)
    UPDATE orders SET price = new_price, quantity = new_quantity, hold = new_hold, changed_by = $3,
        post_only = coalesce($6::boolean, post_only)
    FROM funded WHERE account_id = $1 AND client_order_id = $2 RETURNING ",
    columns!()
);

const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM orders WHERE account_id = $1 AND client_order_id = $2"
);

/// All of them, to be prepared on each new connection.
const STATEMENTS: [&str; 6] = [PLACE, PLACE_AND_CANCEL, REMEMBER, CANCEL, REPLACE, FIND];

/// A new order, checked as far as that goes without the database.
#[derive(Clone, Debug)]
pub(super) struct NewOrder {
    /// As it will be told; its id is not known yet.
    pub order: Order,
    /// What it holds.
    pub hold: i64,
    /// A digest of the request's body, by which the same request is told from another of the same id.
    pub content: i64,
}

/// An order in the table.
#[derive(Clone, Debug)]
pub(super) struct StoredOrder {
    /// As it is now.
    pub order: Order,
    /// Why it was closed.
    pub close_reason: Option<CloseReason>,
    /// It was refused for want of funds, and is there so that its id is not used again.
    pub is_unfunded: bool,
    /// The digest of the request that placed it.
    pub content: i64,
    /// The request that changed it last.
    pub changed_by: Option<String>,
}

/// What became of a new order.
pub(super) enum Placed {
    /// It is in the table.
    Now(OrderId),
    /// The account doesn't have what it would hold. This is remembered.
    Unfunded,
    /// Its id was used before.
    Before(Box<StoredOrder>),
}

/// What became of a cancel or a replace.
pub(super) enum Changed {
    /// It is done.
    Now(Box<StoredOrder>),
    /// Nothing was changed. There may be an order under this id.
    Not(Option<Box<StoredOrder>>),
    /// The replaced order would be worth more than the table's numbers can say.
    TooLarge,
}

/// Why the database didn't do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// No connection came free in time, so nothing was asked.
    #[error("no connection to the database came free: {0}")]
    NoConnection(#[from] PoolError),
    /// It failed, and may have been executed.
    #[error("the database failed: {0}")]
    Failed(#[from] tokio_postgres::Error),
}

/// The pool.
#[derive(Clone)]
pub(super) struct Store {
    pool: Pool,
}

impl Store {
    /// Connects as often as the pool may, and prepares every statement on each connection.
    pub async fn connect(socket: &Path, connections: usize) -> Result<Self> {
        let configuration = ManagerConfig {
            // A connection that broke is found at its next use; no question is asked before each.
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = Manager::from_config(server::address(socket), NoTls, configuration);
        let prepare = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(async move {
                for statement in STATEMENTS {
                    client.prepare_cached(statement).await.map_err(HookError::Backend)?;
                }
                Ok(())
            })
        });
        let pool = Pool::builder(manager)
            .max_size(connections)
            // The connection that was used last has its plans and rows in the processor's cache.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECTION_WITHIN))
            .post_create(prepare)
            .build()?;
        let mut all = Vec::new();
        for _ in 0..connections {
            all.push(pool.get().await.context("failed to fill the pool of connections")?);
        }
        drop(all);
        Ok(Self { pool })
    }

    /// Places an order: it rests, or is cancelled at once if it must not.
    pub async fn place(&self, new: &NewOrder) -> Result<Placed, StoreError> {
        let client = self.pool.get().await?;
        let (sql, status) = match new.order.time_in_force {
            TimeInForce::Ioc => (PLACE_AND_CANCEL, status::UNFILLED),
            _ => (PLACE, status::OPEN),
        };
        let mut inserted = insert(&client, sql, new, status).await;
        if has_code(&inserted, &SqlState::T_R_DEADLOCK_DETECTED) {
            inserted = insert(&client, sql, new, status).await;
        }
        if !has_code(&inserted, &SqlState::UNIQUE_VIOLATION) {
            if let Some(order_id) = inserted? {
                return Ok(Placed::Now(order_id));
            }
            if insert(&client, REMEMBER, new, status::UNFUNDED).await?.is_some() {
                return Ok(Placed::Unfunded);
            }
        }
        let before = find(&client, new.order.account, &new.order.client_order_id).await?;
        // Rows are never removed, so what was in the way is there.
        Ok(Placed::Before(before.expect("the row of a used id")))
    }

    /// Cancels an open order and releases what it held.
    pub async fn cancel(&self, account: AccountId, id: &RequestId, by: &RequestId) -> Result<Changed, StoreError> {
        let client = self.pool.get().await?;
        let parameters: [&(dyn ToSql + Sync); 3] = [&number(account), &id.as_str(), &by.as_str()];
        let mut changed = change(&client, CANCEL, &parameters).await;
        if has_code(&changed, &SqlState::T_R_DEADLOCK_DETECTED) {
            changed = change(&client, CANCEL, &parameters).await;
        }
        match changed? {
            Some(row) => Ok(Changed::Now(Box::new(stored(&row, account)))),
            None => Ok(Changed::Not(find(&client, account, id).await?)),
        }
    }

    /// Changes an open order and what it holds.
    pub async fn replace(
        &self,
        account: AccountId,
        id: &RequestId,
        by: &RequestId,
        change_to: &Change,
    ) -> Result<Changed, StoreError> {
        let client = self.pool.get().await?;
        let price = change_to.price.map(|price| price.0);
        let quantity = change_to.quantity.map(|quantity| quantity.0);
        let parameters: [&(dyn ToSql + Sync); 10] = [
            &number(account),
            &id.as_str(),
            &by.as_str(),
            &price,
            &quantity,
            &change_to.post_only,
            &BASE_PER_LOT,
            &QUOTE_PER_LOT_TICK,
            &FEE_PPM,
            &PRICE_TIMES_QUANTITY_MAX,
        ];
        let changed = change(&client, REPLACE, &parameters).await;
        if has_code(&changed, &SqlState::NUMERIC_VALUE_OUT_OF_RANGE) {
            return Ok(Changed::TooLarge);
        }
        match changed? {
            Some(row) => Ok(Changed::Now(Box::new(stored(&row, account)))),
            None => Ok(Changed::Not(find(&client, account, id).await?)),
        }
    }

    /// The order that the account calls so.
    pub async fn find(&self, account: AccountId, id: &RequestId) -> Result<Option<Box<StoredOrder>>, StoreError> {
        let client = self.pool.get().await?;
        find(&client, account, id).await
    }
}

/// What a replace changes; what is none stays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub price: Option<Price>,
    pub quantity: Option<Quantity>,
    pub post_only: Option<bool>,
}

async fn insert(
    client: &Object,
    sql: &'static str,
    new: &NewOrder,
    status: i16,
) -> Result<Option<OrderId>, tokio_postgres::Error> {
    let order = &new.order;
    let side = match order.side {
        Side::Buy => 0_i16,
        Side::Sell => 1,
    };
    let parameters: [&(dyn ToSql + Sync); 14] = [
        &number(order.account),
        &order.client_order_id.as_str(),
        &(order.instrument.0 as i16),
        &held_asset(order.side, order.instrument),
        &side,
        &i16::from(order.time_in_force == TimeInForce::Ioc),
        &(order.self_trade_prevention as i16),
        &order.post_only,
        &order.price.0,
        &order.quantity.0,
        &new.content,
        &new.hold,
        &(order.placed_at.0 as i64),
        &status,
    ];
    let row = change(client, sql, &parameters).await?;
    Ok(row.map(|row| order_id(row.get(0))))
}

async fn change(
    client: &Object,
    sql: &'static str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<Row>, tokio_postgres::Error> {
    let statement = client.prepare_cached(sql).await?;
    client.query_opt(&statement, parameters).await
}

async fn find(client: &Object, account: AccountId, id: &RequestId) -> Result<Option<Box<StoredOrder>>, StoreError> {
    let row = change(client, FIND, &[&number(account), &id.as_str()]).await?;
    Ok(row.map(|row| Box::new(stored(&row, account))))
}

fn has_code<T>(result: &Result<T, tokio_postgres::Error>, code: &SqlState) -> bool {
    result.as_ref().err().and_then(tokio_postgres::Error::code) == Some(code)
}

fn number(account: AccountId) -> i32 {
    i32::try_from(account.0).expect("accounts are numbered densely, by a table of as many rows")
}

/// The table has no log to be a place in; an order's number takes that part.
fn order_id(number: i64) -> OrderId {
    OrderId(Position {
        group: GroupId(0),
        epoch: Epoch(1),
        sequence: Sequence(number.unsigned_abs()),
    })
}

fn stored(row: &Row, account: AccountId) -> StoredOrder {
    let client_order_id: &str = row.get(1);
    let (instrument, side, time_in_force, self_trade_prevention): (i16, i16, i16, i16) =
        (row.get(2), row.get(3), row.get(4), row.get(5));
    let state: i16 = row.get(11);
    let order = Order {
        order_id: order_id(row.get(0)),
        account,
        client_order_id: client_order_id.parse().expect("ids are checked before they are stored"),
        instrument: InstrumentId(instrument.unsigned_abs().into()),
        side: if side == 0 { Side::Buy } else { Side::Sell },
        order_type: OrderType::Limit,
        time_in_force: if time_in_force == 0 {
            TimeInForce::Gtc
        } else {
            TimeInForce::Ioc
        },
        price: Price(row.get(7)),
        quantity: Quantity(row.get(8)),
        filled: Quantity(0),
        filled_notional: Amount(0),
        fee: Amount(0),
        post_only: row.get(6),
        self_trade_prevention: match self_trade_prevention {
            0 => SelfTradePrevention::CancelNewest,
            1 => SelfTradePrevention::CancelOldest,
            _ => SelfTradePrevention::CancelBoth,
        },
        status: if state == status::OPEN {
            OrderStatus::Open
        } else {
            OrderStatus::Cancelled
        },
        placed_at: Timestamp(row.get::<_, i64>(10).unsigned_abs()),
    };
    StoredOrder {
        order,
        close_reason: match state {
            status::CANCELLED => Some(CloseReason::Requested),
            status::UNFILLED => Some(CloseReason::Unfilled),
            _ => None,
        },
        is_unfunded: state == status::UNFUNDED,
        content: row.get(9),
        changed_by: row.get(12),
    }
}
