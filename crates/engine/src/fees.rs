//! Fees and holds of one order: pure arithmetic.
//!
//! **Rates.** An order keeps the maker's and the taker's rate under which it was placed, through every replace. So what
//! was held for its fees is always enough, whatever the operator changes meanwhile.
//!
//! **Fees** are cumulative. After each fill the order's whole fee is, in quote units,
//! `ceil((taken x taker rate + made x maker rate) / 10^6)`, and the fill is charged what is new of it. The one rounding is
//! against the customer, so what is collected is never below the exact sum, and an order in a thousand fills pays what it
//! would pay in one.
//!
//! **Rebates** are paid from the fee account and never by more than it holds: the rest is paid with the order's later
//! fills, as far as the account then can. As the two rates of an instrument are never negative in sum, this happens
//! only after the operator took collected fees out, or while orders of older rates rest.
//!
//! **Holds.** A resting buy order holds what remains at its limit and the most that its fees can still become, at the worse
//! of its two rates; what a fill at a better price or a lower rate did not need is released with it. A sell order holds
//! what remains of the base asset and pays fees from the proceeds, of which no rate takes more than a tenth.

use types::FeeRate;

/// The rates of an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) maker: FeeRate,
    pub(crate) taker: FeeRate,
}

const MILLION: i64 = 1_000_000;

impl Rates {
    /// The whole fee of an order that took and made as much, in quote units. `worst` more is counted at the worse rate.
    #[inline]
    pub(crate) fn fee(self, taken: i64, made: i64, worst: i64) -> i64 {
        let worse = self.maker.0.max(self.taker.0).max(0);
        let exact = i128::from(taken) * i128::from(self.taker.0)
            + i128::from(made) * i128::from(self.maker.0)
            + i128::from(worst) * i128::from(worse);
        ceil_of_millionths(exact)
    }

    /// What a buy order of which `remaining` (at its limit, in quote units) is left holds.
    #[inline]
    pub(crate) fn hold(self, taken: i64, made: i64, remaining: i64, charged: i64) -> i64 {
        remaining + (self.fee(taken, made, remaining) - charged).max(0)
    }
}

/// Rounded up, towards plus infinity.
#[inline]
fn ceil_of_millionths(exact: i128) -> i64 {
    if let Ok(small) = i64::try_from(exact) {
        return small.div_euclid(MILLION) + i64::from(small.rem_euclid(MILLION) != 0);
    }
    let million = i128::from(MILLION);
    let whole = exact.div_euclid(million) + i128::from(exact.rem_euclid(million) != 0);
    i64::try_from(whole).expect("amounts are at most 2^60 and rates at most a tenth")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_rounded_once_and_against_the_customer() {
        let rates = |maker, taker| Rates {
            maker: FeeRate(maker),
            taker: FeeRate(taker),
        };
        for (maker, taker, taken, made, fee) in [
            (0, 1000, 1, 0, 1),
            (0, 1000, 1000, 0, 1),
            (0, 1000, 1001, 0, 2),
            (-200, 1000, 0, 1, 0),
            (-200, 1000, 0, 4999, 0),
            (-200, 1000, 0, 5000, -1),
            (-200, 1000, 1000, 5000, 0),
            (-200, 1000, 0, 0, 0),
            (100_000, 100_000, 1 << 60, 0, 115_292_150_460_684_698),
        ] {
            assert_eq!(
                rates(maker, taker).fee(taken, made, 0),
                fee,
                "{maker} {taker} {taken} {made}"
            );
        }
    }

    #[test]
    fn no_fill_costs_more_than_it_releases() {
        let mut state = 3_u64;
        let mut next = |below: i64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as i64 % below
        };
        for _ in 0..20_000 {
            let maker = next(2_000) as i32 - 800;
            let taker = (next(3_000) as i32).max(-maker);
            let rates = Rates {
                maker: FeeRate(maker),
                taker: FeeRate(taker),
            };
            let (mut taken, mut made, mut charged, mut remaining) = (0, 0, 0, next(1 << 20) + 1);
            let mut held = rates.hold(taken, made, remaining, charged);
            while remaining > 0 {
                let at_limit = (next(1 << 12) + 1).min(remaining);
                let cost = at_limit - next(at_limit.min(3));
                remaining -= at_limit;
                if next(2) == 0 {
                    taken += cost
                } else {
                    made += cost
                }
                let whole = rates.fee(taken, made, 0);
                // Now and then the fee account can't pay a rebate.
                let fee = if whole < charged && next(3) == 0 {
                    0
                } else {
                    whole - charged
                };
                charged += fee;
                let holds = rates.hold(taken, made, remaining, charged);
                assert!(held - holds >= cost + fee, "{rates:?} {taken} {made} {remaining}");
                held = holds;
            }
            assert_eq!(held, 0);
        }
    }
}
