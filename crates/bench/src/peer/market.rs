//! What is traded at the peer, and what an open order holds: the rules that `harness::Operator::new_instrument` gives to
//! Meridian's instruments, so that the same orders are taken and refused at both.

use types::{Decimal, InstrumentId, Price, Quantity, Side, Symbol};
use wire::json::Scale;

/// The step of prices.
pub(super) const TICK_SIZE: Decimal = Decimal::new(1, 2);
/// The step of quantities.
pub(super) const LOT_SIZE: Decimal = Decimal::new(1, 1);
/// Digits after the point of both assets.
pub(super) const DECIMALS: u8 = 8;
/// The taker's fee, which an open buy order holds besides its cost, in parts per million.
pub(super) const FEE_PPM: i64 = 173;
/// The largest quantity of an order, in lots.
const QUANTITY_MAX: Quantity = Quantity(10_000_000);
/// The most that an order may be worth, 100 million, as ticks times lots.
pub(super) const PRICE_TIMES_QUANTITY_MAX: i64 = 100_000_000_000;

/// Smallest units of the base asset in a lot.
pub(super) const BASE_PER_LOT: i64 = 10_000_000;
/// Smallest units of the quote asset in a lot at a price of one tick.
pub(super) const QUOTE_PER_LOT_TICK: i64 = 100_000;
const MILLION: i64 = 1_000_000;

/// The number of the quote asset, which all instruments share, in the table of balances.
pub(super) const QUOTE_ASSET: i16 = 0;

/// Why an order can't be taken, whatever its account owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutOfRange {
    /// The price is below one tick.
    Price,
    /// The quantity is below one lot.
    QuantityTooSmall,
    /// The quantity is above the largest one.
    QuantityTooLarge,
    /// It is worth more than an order may be.
    Notional,
}

/// What an order holds while it is open, in smallest units of [`held_asset`]: a sell order its quantity, a buy order its
/// cost at the limit and the taker's fee on that, rounded up.
pub(super) fn hold(side: Side, price: Price, quantity: Quantity) -> Result<i64, OutOfRange> {
    if price.0 < 1 {
        return Err(OutOfRange::Price);
    }
    if quantity.0 < 1 {
        return Err(OutOfRange::QuantityTooSmall);
    }
    if quantity > QUANTITY_MAX {
        return Err(OutOfRange::QuantityTooLarge);
    }
    let product = price.0.checked_mul(quantity.0);
    let product = product.filter(|product| *product <= PRICE_TIMES_QUANTITY_MAX);
    let cost = product.ok_or(OutOfRange::Notional)? * QUOTE_PER_LOT_TICK;
    Ok(match side {
        Side::Sell => quantity.0 * BASE_PER_LOT,
        Side::Buy => cost + (cost * FEE_PPM + MILLION - 1) / MILLION,
    })
}

/// The asset that an order pays with. Each instrument has a base asset of its own, which has the instrument's number.
pub(super) fn held_asset(side: Side, instrument: InstrumentId) -> i16 {
    match side {
        Side::Buy => QUOTE_ASSET,
        Side::Sell => i16::try_from(instrument.0).expect("instruments have the table's numbers"),
    }
}

/// What turns an instrument's ticks and lots into text.
pub(super) fn scale(symbol: Symbol) -> Scale {
    Scale {
        symbol,
        // No answer of the peer names the quote asset: there are no fills.
        quote: Symbol::default(),
        quote_decimals: DECIMALS,
        tick_size: TICK_SIZE,
        lot_size: LOT_SIZE,
        version: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_its_worst_case() {
        let rows = [
            // A sell order holds what it sells, whatever the price.
            (Side::Sell, 1, 1, Ok(10_000_000)),
            (Side::Sell, 12_345, 30, Ok(300_000_000)),
            // 100.00 x 0.1 = 10, and 0.000173 of that.
            (Side::Buy, 10_000, 1, Ok(1_000_000_000 + 173_000)),
            // 0.01 x 0.1 = 0.001 = 100,000 units, whose fee of 17.3 units is rounded up.
            (Side::Buy, 1, 1, Ok(100_000 + 18)),
            (Side::Buy, 0, 1, Err(OutOfRange::Price)),
            (Side::Sell, -1, 1, Err(OutOfRange::Price)),
            (Side::Buy, 1, 0, Err(OutOfRange::QuantityTooSmall)),
            (Side::Buy, 1, 10_000_001, Err(OutOfRange::QuantityTooLarge)),
            (
                Side::Buy,
                10_000,
                10_000_000,
                Ok(10_000_000_000_000_000 + 1_730_000_000_000),
            ),
            (Side::Buy, 10_001, 10_000_000, Err(OutOfRange::Notional)),
            (Side::Buy, i64::MAX, 10_000_000, Err(OutOfRange::Notional)),
        ];
        for (side, price, quantity, held) in rows {
            assert_eq!(
                hold(side, Price(price), Quantity(quantity)),
                held,
                "{side:?} {price} {quantity}"
            );
        }
    }
}
