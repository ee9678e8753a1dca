//! Limits of numbers, messages and tables that hold in every crate, and the relations between them.

/// The most that one balance, the total supply of an asset, or price x quantity may be, in smallest units.
pub const AMOUNT_MAX: i64 = 1 << 60;
/// The highest price, in ticks.
pub const PRICE_TICKS_MAX: i64 = 1 << 48;
/// The largest quantity of an order, in lots.
pub const QUANTITY_LOTS_MAX: i64 = 1 << 48;
/// The most digits after the point of an asset.
pub const ASSET_DECIMALS_MAX: u8 = 12;
/// The highest fee and the deepest rebate, in parts per million of the notional.
pub const FEE_PPM_MAX: i32 = 100_000;
/// The sealed secret of an HMAC key, in bytes.
pub const SEALED_SECRET_BYTES_MAX: usize = 128;
/// The furthest cancel-after deadline, in nanoseconds: one day.
pub const CANCEL_AFTER_NS_MAX: u64 = 86_400 * 1_000_000_000;

/// Commands in one batch.
pub const BATCH_COMMANDS_MAX: usize = 4_096;
/// Bytes of one batch's commands as written.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes of one command as written.
pub const COMMAND_BYTES_MAX: usize = 1_024;
/// Batches that may be sequenced and not yet committed.
pub const BATCHES_IN_FLIGHT_MAX: usize = 64;
/// Commands that may wait for the core, cancels not counted.
pub const COMMANDS_QUEUED_MAX: usize = 16_384;
/// Room in that queue that only cancels may use.
pub const CANCELS_QUEUED_EXTRA: usize = 4_096;
/// Items in one batch request of a client.
pub const BATCH_REQUEST_ITEMS_MAX: usize = 100;
/// Bytes of one HTTP request's body or one WebSocket message.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(COMMAND_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!(BATCH_REQUEST_ITEMS_MAX <= CANCELS_QUEUED_EXTRA);
const _: () = assert!(PRICE_TICKS_MAX as i128 * QUANTITY_LOTS_MAX as i128 > AMOUNT_MAX as i128);
const _: () = assert!(AMOUNT_MAX < i64::MAX / 4, "sums of a few amounts must not overflow");
