//! Instruments: their rules checked, their scale worked out, their books.

use types::limits::{AMOUNT_MAX, FEE_PPM_MAX, PRICE_TICKS_MAX, QUANTITY_LOTS_MAX};
use types::{Asset, Decimal, Instrument, InstrumentRules, InstrumentStatus, Price, RejectReason, Side};

use crate::book::Book;
use crate::hash::{self, Kind, Mixer};
use crate::ledger::Cell;
use crate::request;

/// The widest collar, in parts per million: ten times the reference price.
const COLLAR_PPM_MAX: u32 = 10_000_000;

/// An instrument and its book.
#[derive(Clone, Debug)]
pub(crate) struct Listing<B> {
    pub(crate) info: Instrument,
    pub(crate) scale: Scale,
    /// The price of the last trade; 0 before the first.
    pub(crate) last_price: Price,
    /// True while its orders are being cancelled; no orders are taken meanwhile.
    pub(crate) purging: bool,
    /// The cell of the fee account's balance of the quote asset.
    pub(crate) fees: Cell,
    pub(crate) book: B,
}

/// What a tick and a lot are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Quote units of one lot at a price of one tick.
    pub(crate) quote_per_tick_lot: i64,
    /// Base units of one lot.
    pub(crate) base_per_lot: i64,
}

impl Scale {
    /// Price x quantity in quote units.
    #[inline]
    pub(crate) fn notional(self, price: Price, lots: i64) -> i128 {
        i128::from(price.0) * i128::from(lots) * i128::from(self.quote_per_tick_lot)
    }
}

impl<B: Book> Listing<B> {
    pub(crate) fn new(info: Instrument, scale: Scale, fees: Cell) -> Self {
        Self {
            info,
            scale,
            last_price: Price(0),
            purging: false,
            fees,
            book: B::default(),
        }
    }

    /// Whether orders are taken at this scale.
    pub(crate) fn check_open(&self, scale_version: u32) -> Result<(), RejectReason> {
        match self.info.status {
            InstrumentStatus::Closed => Err(RejectReason::InstrumentClosed),
            InstrumentStatus::Halted => Err(RejectReason::InstrumentHalted),
            InstrumentStatus::Trading if self.purging => Err(RejectReason::InstrumentHalted),
            InstrumentStatus::Trading if scale_version != self.info.scale_version => {
                Err(RejectReason::InstrumentScaleChanged)
            }
            InstrumentStatus::Trading => Ok(()),
        }
    }

    /// Whether an order may have this whole quantity, in lots.
    pub(crate) fn check_quantity(&self, lots: i64) -> Result<(), RejectReason> {
        if lots < self.info.rules.quantity_min.0 {
            return Err(RejectReason::QuantityTooSmall);
        }
        if lots > self.info.rules.quantity_max.0 {
            return Err(RejectReason::QuantityTooLarge);
        }
        Ok(())
    }

    /// Whether an order may be worth as much.
    pub(crate) fn check_notional(&self, notional: i128) -> Result<(), RejectReason> {
        if notional < i128::from(self.info.rules.notional_min) {
            return Err(RejectReason::NotionalTooSmall);
        }
        if notional > i128::from(self.info.rules.notional_max) {
            return Err(RejectReason::NotionalTooLarge);
        }
        Ok(())
    }

    /// Whether an order may have this limit.
    pub(crate) fn check_price(&self, price: Price) -> Result<(), RejectReason> {
        if price.0 < 1 || price.0 > PRICE_TICKS_MAX {
            return Err(RejectReason::PriceOutOfRange);
        }
        let Some(reference) = self.collar_reference() else {
            return Ok(());
        };
        let distance = i128::from(price.0.abs_diff(reference.0)) * 1_000_000;
        if distance > i128::from(reference.0) * i128::from(self.info.rules.collar_ppm) {
            return Err(RejectReason::PriceOutsideCollar);
        }
        Ok(())
    }

    /// The price beyond which a market order does not trade.
    pub(crate) fn protection_price(&self, side: Side) -> Price {
        let bound = match side {
            Side::Buy => PRICE_TICKS_MAX,
            Side::Sell => 1,
        };
        let Some(reference) = self.collar_reference() else {
            return Price(bound);
        };
        let collar = i128::from(reference.0) * i128::from(self.info.rules.collar_ppm) / 1_000_000;
        let collar = i64::try_from(collar).expect("a price times at most ten");
        match side {
            Side::Buy => Price((reference.0 + collar).min(bound)),
            Side::Sell => Price((reference.0 - collar).max(bound)),
        }
    }

    fn collar_reference(&self) -> Option<Price> {
        let reference = match self.last_price {
            Price(0) => self.info.rules.reference_price,
            last => last,
        };
        (self.info.rules.collar_ppm != 0 && reference.0 != 0).then_some(reference)
    }

    pub(crate) fn item(&self) -> u64 {
        let Instrument {
            id,
            symbol,
            base,
            quote,
            rules,
            scale_version,
            status,
        } = &self.info;
        let mut mixer = Mixer::new(Kind::Instrument);
        mixer.word(u64::from(id.0)).bytes(symbol.as_bytes());
        mixer
            .word(u64::from(base.0) << 16 | u64::from(quote.0))
            .word(u64::from(*scale_version));
        mixer.word((*status as u64) << 1 | u64::from(self.purging));
        request::instrument_rules(&mut mixer, rules);
        mixer.finish()
    }

    #[inline]
    pub(crate) fn last_price_item(&self) -> u64 {
        hash::item(Kind::LastPrice, [u64::from(self.info.id.0), self.last_price.0 as u64])
    }
}

/// Checks an instrument's rules, and works out what a tick and a lot are worth.
pub(crate) fn scale_of(rules: &InstrumentRules, base: &Asset, quote: &Asset) -> Result<Scale, RejectReason> {
    let InstrumentRules {
        tick_size,
        lot_size,
        quantity_min,
        quantity_max,
        notional_min,
        notional_max,
        collar_ppm,
        reference_price,
        maker_fee,
        taker_fee,
    } = rules;
    let fee_range = -FEE_PPM_MAX..=FEE_PPM_MAX;
    let well_formed = (1..=QUANTITY_LOTS_MAX).contains(&quantity_min.0)
        && (quantity_min.0..=QUANTITY_LOTS_MAX).contains(&quantity_max.0)
        && (0..=AMOUNT_MAX).contains(notional_min)
        && (1.max(*notional_min)..=AMOUNT_MAX).contains(notional_max)
        && *collar_ppm <= COLLAR_PPM_MAX
        && (0..=PRICE_TICKS_MAX).contains(&reference_price.0)
        && fee_range.contains(&maker_fee.0)
        && fee_range.contains(&taker_fee.0)
        && maker_fee.0 + taker_fee.0 >= 0;
    if !well_formed {
        return Err(RejectReason::RulesInvalid);
    }
    let base_per_lot = units(&[lot_size], base.decimals).ok_or(RejectReason::RulesInvalid)?;
    let quote_per_tick_lot = units(&[tick_size, lot_size], quote.decimals).ok_or(RejectReason::RulesInvalid)?;
    if i128::from(base_per_lot) * i128::from(quantity_max.0) > i128::from(AMOUNT_MAX) {
        return Err(RejectReason::RulesInvalid);
    }
    Ok(Scale {
        quote_per_tick_lot,
        base_per_lot,
    })
}

/// The product of the factors in units of 10^-`decimals`, if all are positive and it is a whole number within bounds.
fn units(factors: &[&Decimal], decimals: u8) -> Option<i64> {
    let mut number = 1_i128;
    let mut scale = 0_u32;
    for factor in factors {
        if factor.units <= 0 || factor.scale > Decimal::SCALE_MAX {
            return None;
        }
        number = number.checked_mul(i128::from(factor.units))?;
        scale += u32::from(factor.scale);
    }
    let decimals = u32::from(decimals);
    if decimals >= scale {
        number = number.checked_mul(10_i128.pow(decimals - scale))?;
    } else {
        let divisor = 10_i128.pow(scale - decimals);
        if number % divisor != 0 {
            return None;
        }
        number /= divisor;
    }
    i64::try_from(number).ok().filter(|number| *number <= AMOUNT_MAX)
}

/// True if both are the same number.
pub(crate) fn is_same_number(left: Decimal, right: Decimal) -> bool {
    let scale = u32::from(left.scale.max(right.scale));
    let number = |decimal: Decimal| {
        let factor = 10_i128.checked_pow(scale.saturating_sub(u32::from(decimal.scale)));
        factor.and_then(|factor| factor.checked_mul(i128::from(decimal.units)))
    };
    number(left) == number(right)
}
