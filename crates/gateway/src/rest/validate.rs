//! Orders that are only to be validated: what the exchange would say of them as things are now.
//!
//! The exchange alone decides. This repeats its cheap checks on the view, and leaves out what depends on matching
//! (fill-or-kill, post-only, self-trades).

use types::{
    AccountStatus, Action, Command, Instrument, InstrumentStatus, NewOrder, OrderType, RejectReason, Side, TimeInForce,
};
use wire::errors::{ErrorCode, Refusal};
use wire::json::{self, AppliesTo, Freshness, Outcome};

use crate::auth::Caller;
use crate::failure::Failure;
use crate::freshness::Answered;
use crate::gateway::Shared;

/// Says whether a new order would be taken.
pub(crate) async fn new_order(
    shared: &Shared,
    caller: &Caller,
    command: &Command,
    instrument: &Instrument,
) -> Result<Answered<json::ValidationAnswer>, Failure> {
    let Action::Place(order) = &command.action else {
        return Err(Refusal::InternalError.into());
    };
    let freshness = Freshness::Linearizable;
    shared.be_fresh(caller, freshness).await?;
    let position = shared.view_position();
    if let Some(reason) = reason_against(shared, command, order, instrument) {
        let mut problem = Failure::new(ErrorCode::from(reason)).into_problem();
        // It was not sequenced: the id is as good as before.
        problem.applies_to = AppliesTo::Attempt;
        return Err(problem.into());
    }
    let notional = match order.order_type {
        OrderType::Market => None,
        OrderType::Limit => Some(
            super::market::scale_of(shared, instrument)?
                .amount(types::Amount(notional(order, instrument, shared).unwrap_or(i64::MAX))),
        ),
    };
    let body = json::ValidationAnswer {
        outcome: Outcome::NotExecuted,
        applies_to: AppliesTo::Attempt,
        valid: true,
        notional,
    };
    Ok(Answered {
        body,
        position,
        freshness,
    })
}

fn reason_against(
    shared: &Shared,
    command: &Command,
    order: &NewOrder,
    instrument: &Instrument,
) -> Option<RejectReason> {
    use RejectReason as R;
    let rules = &instrument.rules;
    let now = shared.core.now();
    match command.valid_until {
        Some(until) if until < now => return Some(R::ValidUntilPassed),
        Some(until) if until.since_ns(now) > shared.view.reference().rules().request_window_ns => {
            return Some(R::ValidUntilTooFar);
        }
        _ => {}
    }
    match shared.view.account(command.account).map(|account| account.status) {
        Some(AccountStatus::Active) => {}
        Some(AccountStatus::CancelOnly) => return Some(R::AccountCancelOnly),
        Some(AccountStatus::Suspended) => return Some(R::AccountSuspended),
        None => return Some(R::AccountUnknown),
    }
    match instrument.status {
        InstrumentStatus::Trading => {}
        InstrumentStatus::Halted => return Some(R::InstrumentHalted),
        InstrumentStatus::Closed => return Some(R::InstrumentClosed),
    }
    let is_market = order.order_type == OrderType::Market;
    let rests = !matches!(order.time_in_force, TimeInForce::Ioc | TimeInForce::Fok);
    // A market order never rests, and what never rests can't be post-only.
    if matches!((is_market, rests, order.post_only), (true, true, _) | (_, false, true)) {
        return Some(R::CombinationInvalid);
    }
    if matches!(order.time_in_force, TimeInForce::Gtd(time) if time <= now) {
        return Some(R::ExpiryPassed);
    }
    if order.quantity < rules.quantity_min {
        return Some(R::QuantityTooSmall);
    }
    if order.quantity > rules.quantity_max {
        return Some(R::QuantityTooLarge);
    }
    if is_market {
        return None;
    }
    if order.price.0 < 1 || order.price.0 > types::limits::PRICE_TICKS_MAX {
        return Some(R::PriceOutOfRange);
    }
    let notional = notional(order, instrument, shared).filter(|notional| *notional <= rules.notional_max);
    let Some(notional) = notional else {
        return Some(R::NotionalTooLarge);
    };
    if notional < rules.notional_min {
        return Some(R::NotionalTooSmall);
    }
    outside_collar(shared, order, instrument)
        .then_some(R::PriceOutsideCollar)
        .or_else(|| is_short_of_funds(shared, command, order, instrument, notional).then_some(R::InsufficientFunds))
}

/// Price x quantity in smallest units of the quote asset.
fn notional(order: &NewOrder, instrument: &Instrument, shared: &Shared) -> Option<i64> {
    let quote = shared.view.reference().asset(instrument.quote)?;
    let rules = &instrument.rules;
    let scale = i32::from(quote.decimals) - i32::from(rules.tick_size.scale) - i32::from(rules.lot_size.scale);
    let units = i128::from(rules.tick_size.units).checked_mul(i128::from(rules.lot_size.units))?;
    let power = 10_i128.checked_pow(scale.unsigned_abs())?;
    // Tick x lot is a whole number of the quote asset's units: the instrument's rules were checked for it.
    let unit = if scale >= 0 {
        units.checked_mul(power)?
    } else {
        units / power
    };
    let steps = i128::from(order.price.0).checked_mul(i128::from(order.quantity.0))?;
    i64::try_from(steps.checked_mul(unit)?).ok()
}

fn outside_collar(shared: &Shared, order: &NewOrder, instrument: &Instrument) -> bool {
    let rules = &instrument.rules;
    let last = shared.view.trades(instrument.id, None, 1);
    let last = last.and_then(|page| page.items.first().map(|trade| trade.price.0));
    let reference = i128::from(last.unwrap_or(rules.reference_price.0));
    if rules.collar_ppm == 0 || reference == 0 {
        return false;
    }
    let distance = (i128::from(order.price.0) - reference).abs();
    distance * 1_000_000 > reference * i128::from(rules.collar_ppm)
}

fn is_short_of_funds(
    shared: &Shared,
    command: &Command,
    order: &NewOrder,
    instrument: &Instrument,
    notional: i64,
) -> bool {
    let rules = &instrument.rules;
    let (asset, needed) = match order.side {
        Side::Buy => {
            let fee_ppm = i128::from(rules.taker_fee.0.max(rules.maker_fee.0).max(0));
            let fee = (i128::from(notional) * fee_ppm + 999_999) / 1_000_000;
            (instrument.quote, Some(i128::from(notional) + fee))
        }
        Side::Sell => {
            let base = shared.view.reference().asset(instrument.base);
            let lot = base.and_then(|base| rules.lot_size.in_steps(types::Decimal::unit(base.decimals)).ok());
            let needed = lot.map(|lot| i128::from(lot) * i128::from(order.quantity.0));
            (instrument.base, needed)
        }
    };
    let (_, balances) = shared.view.balances(command.account);
    let available = balances.iter().find(|balance| balance.asset == asset);
    let available = available.map_or(0, |balance| i128::from(balance.available.0));
    needed.is_none_or(|needed| needed > available)
}
