//! Instruments, books and trades: what everybody may see.

use serde::{Deserialize, Serialize};
use types::{FillId, Position as TypesPosition, Timestamp};
use utoipa::ToSchema;

use super::Scale;
use super::scalar::{DecimalText, InstrumentStatus, Position, Side, TimeText};

/// The rules of an instrument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstrumentRules {
    /// The smallest step of a price, in quote for 1 base.
    pub tick_size: DecimalText,
    /// The smallest step of a quantity, in base.
    pub lot_size: DecimalText,
    /// The smallest quantity of an order.
    pub quantity_min: DecimalText,
    /// The largest quantity of an order.
    pub quantity_max: DecimalText,
    /// The smallest price x quantity of an order, in the quote asset.
    pub notional_min: DecimalText,
    /// The largest price x quantity of an order, in the quote asset.
    pub notional_max: DecimalText,
    /// How far from the reference price (the last trade, or else `reference_price`) a price may be, in parts per
    /// million; 0 for no collar.
    pub collar_ppm: u32,
    /// The reference price before the first trade; null for none.
    #[serde(default)]
    pub reference_price: Option<DecimalText>,
    /// What makers pay, in parts per million of price x quantity; negative is a rebate.
    pub maker_fee_ppm: i32,
    /// What takers pay, in parts per million of price x quantity.
    pub taker_fee_ppm: i32,
}

impl InstrumentRules {
    /// Rules as text.
    pub fn new(rules: &types::InstrumentRules, quote_decimals: u8) -> Self {
        let lots = |quantity: types::Quantity| DecimalText::of_steps(rules.lot_size, quantity.0);
        let reference =
            (rules.reference_price.0 > 0).then(|| DecimalText::of_steps(rules.tick_size, rules.reference_price.0));
        Self {
            tick_size: DecimalText(rules.tick_size.to_string()),
            lot_size: DecimalText(rules.lot_size.to_string()),
            quantity_min: lots(rules.quantity_min),
            quantity_max: lots(rules.quantity_max),
            notional_min: DecimalText::of_units(quote_decimals, rules.notional_min),
            notional_max: DecimalText::of_units(quote_decimals, rules.notional_max),
            collar_ppm: rules.collar_ppm,
            reference_price: reference,
            maker_fee_ppm: rules.maker_fee.0,
            taker_fee_ppm: rules.taker_fee.0,
        }
    }
}

/// An instrument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instrument {
    /// Its name.
    #[schema(examples("BTC-USD"))]
    pub symbol: String,
    /// What is bought and sold.
    pub base: String,
    /// What it is paid with, fees too.
    pub quote: String,
    /// Whether it trades.
    pub status: InstrumentStatus,
    /// Changes whenever tick or lot change.
    pub scale_version: u32,
    /// Its rules.
    pub rules: InstrumentRules,
}

impl Instrument {
    /// An instrument as text.
    pub fn new(instrument: &types::Instrument, base: &types::Asset, quote: &types::Asset) -> Self {
        Self {
            symbol: instrument.symbol.to_string(),
            base: base.symbol.to_string(),
            quote: quote.symbol.to_string(),
            status: instrument.status.into(),
            scale_version: instrument.scale_version,
            rules: InstrumentRules::new(&instrument.rules, quote.decimals),
        }
    }
}

/// A page of instruments, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instruments {
    /// The instruments.
    pub instruments: Vec<Instrument>,
    /// Give this as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
    /// Up to where the page knows.
    pub position: Position,
}

/// What rests at one price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BookLevel {
    /// The price.
    pub price: DecimalText,
    /// The sum of what may still be filled.
    pub quantity: DecimalText,
    /// How many orders.
    pub orders: u32,
}

/// The book of an instrument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Book {
    /// The instrument.
    pub symbol: String,
    /// Buyers, the highest price first.
    pub bids: Vec<BookLevel>,
    /// Sellers, the lowest price first.
    pub asks: Vec<BookLevel>,
    /// Up to where it knows.
    pub position: Position,
}

/// A trade as everybody sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trade {
    /// Its id, `group.epoch.sequence.index`.
    #[schema(examples("0.1.1234.0"))]
    pub fill_id: String,
    /// The instrument.
    pub symbol: String,
    /// The price.
    pub price: DecimalText,
    /// How much.
    pub quantity: DecimalText,
    /// The side that took.
    pub taker_side: Side,
    /// When it was sequenced.
    pub traded_at: TimeText,
}

impl Trade {
    /// A trade of the command at `position`.
    pub fn new(trade: &types::Trade, position: TypesPosition, at: Timestamp, scale: &Scale) -> Self {
        let fill_id = FillId {
            position,
            index: trade.index,
        };
        Self {
            fill_id: fill_id.to_string(),
            symbol: scale.symbol.to_string(),
            price: scale.price(trade.price),
            quantity: scale.quantity(trade.quantity),
            taker_side: trade.taker_side.into(),
            traded_at: at.into(),
        }
    }
}

/// A page of trades, the newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Trades {
    /// The trades.
    pub trades: Vec<Trade>,
    /// Give this as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
    /// Up to where the page knows.
    pub position: Position,
}
