//! Instruments: what is traded and by which rules.

use serde::{Deserialize, Serialize};

use crate::ids::{AssetId, InstrumentId, Symbol};
use crate::money::{Decimal, FeeRate, Price, Quantity};

/// Something that can be traded: `base` for `quote`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instrument {
    /// Its id.
    pub id: InstrumentId,
    /// Its name, as in `BTC-USD`.
    pub symbol: Symbol,
    /// What is bought and sold.
    pub base: AssetId,
    /// What it is paid with, fees too.
    pub quote: AssetId,
    /// Its rules.
    pub rules: InstrumentRules,
    /// Changes whenever tick or lot change; orders name it, so that ticks of an old scale are never misread.
    pub scale_version: u32,
    /// Whether it trades.
    pub status: InstrumentStatus,
}

/// The rules of an instrument. Tick times lot must be a whole number of the quote asset's smallest units, and a lot a
/// whole number of the base asset's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstrumentRules {
    /// The smallest step of a price, in quote for 1 base.
    pub tick_size: Decimal,
    /// The smallest step of a quantity, in base.
    pub lot_size: Decimal,
    /// The smallest quantity of an order, in lots.
    pub quantity_min: Quantity,
    /// The largest quantity of an order, in lots.
    pub quantity_max: Quantity,
    /// The smallest price x quantity of an order, in smallest units of the quote asset.
    pub notional_min: i64,
    /// The largest price x quantity of an order, in smallest units of the quote asset.
    pub notional_max: i64,
    /// How far from the reference price (the last trade, or else `reference_price`) an order's price may be, in parts
    /// per million; 0 for no collar. A market order trades no further than the collar.
    pub collar_ppm: u32,
    /// The reference price before the first trade; 0 for none.
    pub reference_price: Price,
    /// What makers pay.
    pub maker_fee: FeeRate,
    /// What takers pay; with `maker_fee` never negative in sum.
    pub taker_fee: FeeRate,
}

/// Whether an instrument trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum InstrumentStatus {
    /// Orders are taken and matched.
    Trading,
    /// Orders rest; only cancels are taken.
    Halted,
    /// For good: its orders were cancelled.
    Closed,
}
