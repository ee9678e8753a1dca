//! Money without floating point.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A price in ticks of its instrument, at least 1 in an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Price(pub i64);

/// A quantity in lots of its instrument, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Quantity(pub i64);

/// An amount in the smallest units of its asset. Negative only where a doc comment says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Amount(pub i64);

/// A fee in parts per million of the notional; negative is a rebate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FeeRate(pub i32);

/// An exact decimal number: `units` / 10^`scale`. At most [`Decimal::SCALE_MAX`] digits after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decimal {
    /// The number without its point.
    pub units: i64,
    /// Digits after the point.
    pub scale: u8,
}

/// Why a text or a number was refused as a decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// Not of the form `[-]digits[.digits]`.
    Syntax,
    /// More digits than fit.
    TooLarge,
    /// It is not a whole multiple of the step (tick, lot or smallest unit).
    NotAMultiple,
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "it is not a decimal number such as 12.50",
            Self::TooLarge => "it has more digits than fit",
            Self::NotAMultiple => "it is not a whole multiple of the step",
        })
    }
}

impl std::error::Error for DecimalError {}

impl Decimal {
    /// The most digits after the point.
    pub const SCALE_MAX: u8 = 18;

    /// A whole number of units at a scale.
    pub const fn new(units: i64, scale: u8) -> Self {
        Self { units, scale }
    }

    /// The step of which 10^`decimals` make 1: an asset's smallest unit.
    pub const fn unit(decimals: u8) -> Self {
        Self {
            units: 1,
            scale: decimals,
        }
    }

    /// How many whole `step`s this is.
    pub fn in_steps(self, step: Self) -> Result<i64, DecimalError> {
        let common = self.scale.max(step.scale);
        let number = i128::from(self.units) * power_of_ten(common - self.scale);
        let step = i128::from(step.units) * power_of_ten(common - step.scale);
        if step <= 0 || number % step != 0 {
            return Err(DecimalError::NotAMultiple);
        }
        i64::try_from(number / step).map_err(|_| DecimalError::TooLarge)
    }

    /// `steps` times this step.
    pub fn times(self, steps: i64) -> Result<Self, DecimalError> {
        let units = self.units.checked_mul(steps).ok_or(DecimalError::TooLarge)?;
        Ok(Self {
            units,
            scale: self.scale,
        })
    }
}

/// 10^`exponent` for exponents up to 36.
pub(crate) fn power_of_ten(exponent: u8) -> i128 {
    10_i128.pow(u32::from(exponent))
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let well_formed = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !well_formed(whole) || !well_formed(fraction) {
            return Err(DecimalError::Syntax);
        }
        let fraction = fraction.trim_end_matches('0');
        let scale = u8::try_from(fraction.len())
            .ok()
            .filter(|scale| *scale <= Self::SCALE_MAX);
        let scale = scale.ok_or(DecimalError::TooLarge)?;
        let mut units: i64 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            let digit = i64::from(byte - b'0');
            units = units
                .checked_mul(10)
                .and_then(|units| units.checked_add(digit))
                .ok_or(DecimalError::TooLarge)?;
        }
        Ok(Self {
            units: if negative { -units } else { units },
            scale,
        })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 { "-" } else { "" };
        let magnitude = self.units.unsigned_abs();
        if self.scale == 0 {
            return f.pad(&format!("{sign}{magnitude}"));
        }
        let divisor = 10_u64.checked_pow(u32::from(self.scale)).unwrap_or(u64::MAX);
        let width = usize::from(self.scale);
        f.pad(&format!(
            "{sign}{}.{:0width$}",
            magnitude / divisor,
            magnitude % divisor
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, units, scale, shown) in [
            ("50000.00", 50000, 0, "50000"),
            ("0.10", 1, 1, "0.1"),
            ("-1.5", -15, 1, "-1.5"),
            ("0", 0, 0, "0"),
            ("007", 7, 0, "7"),
            ("0.000000000000000001", 1, 18, "0.000000000000000001"),
        ] {
            let decimal: Decimal = text.parse().unwrap();
            assert_eq!(decimal, Decimal { units, scale }, "{text}");
            assert_eq!(decimal.to_string(), shown);
        }
        for text in [
            "", "-", ".", "1.", ".5", "1e3", "+1", "1,000", " 1", "1.2.3", "--1", "NaN",
        ] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::Syntax), "{text}");
        }
        for text in ["9223372036854775808", "0.0000000000000000001"] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::TooLarge), "{text}");
        }
    }

    #[test]
    fn steps_are_whole_or_refused() {
        let tick = Decimal::new(25, 2);
        assert_eq!("10.50".parse::<Decimal>().unwrap().in_steps(tick), Ok(42));
        assert_eq!(
            "10.51".parse::<Decimal>().unwrap().in_steps(tick),
            Err(DecimalError::NotAMultiple)
        );
        assert_eq!(
            "9223372036854775807".parse::<Decimal>().unwrap().in_steps(tick),
            Err(DecimalError::TooLarge)
        );
    }
}
