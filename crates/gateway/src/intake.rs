//! From JSON to commands: names become ids, decimals become ticks, lots and units. REST and WebSocket share it.

use std::sync::Arc;

use types::{
    Action, Amount, Asset, Command, Decimal, DecimalError, Instrument, NewOrder, OrderTarget, Price, Quantity, Replace,
    RequestId, SelfTradePrevention, TimeInForce, Timestamp,
};
use wire::errors::Refusal;
use wire::json::{self, CancelRef, DecimalText, NewOrderRef, ReplaceRef, TimeText};

use crate::auth::Caller;
use crate::failure::Failure;
use crate::gateway::Shared;
use crate::incoming::parse_request_id;

/// A command of a caller.
pub(crate) fn command(
    caller: &Caller,
    request_id: RequestId,
    valid_until: Option<Timestamp>,
    received_at: Timestamp,
    action: Action,
) -> Command {
    Command {
        account: caller.account,
        key: caller.key,
        request_id,
        valid_until,
        received_at,
        action,
    }
}

/// The command of a new order, and the instrument that it is for.
pub(crate) async fn place(
    shared: &Shared,
    caller: &Caller,
    order: &NewOrderRef<'_>,
    received_at: Timestamp,
) -> Result<(Command, Arc<Instrument>), Failure> {
    let client_order_id = parse_request_id(order.client_order_id, "client_order_id")?;
    let instrument = instrument(shared, order.symbol).await?;
    let command = place_in(&instrument, caller, client_order_id, order, received_at)?;
    check_in_force(shared, &command)?;
    Ok((command, instrument))
}

/// Refuses what is dormant still: an older program of the group could not read it.
fn check_in_force(shared: &Shared, command: &Command) -> Result<(), Failure> {
    let (needed, in_force) = (command.needs_engine_version(), shared.view.reference().engine_version());
    if needed <= in_force {
        return Ok(());
    }
    let detail = format!("It needs engine version {needed}, and version {in_force} is in force.");
    Err(Failure::new(Refusal::EngineVersionNotInForce).detail(detail))
}

/// The command of a new order of an instrument.
pub(crate) fn place_in(
    instrument: &Instrument,
    caller: &Caller,
    client_order_id: RequestId,
    order: &NewOrderRef<'_>,
    received_at: Timestamp,
) -> Result<Command, Failure> {
    let is_market = order.order_type == json::OrderType::Market;
    let price = match (order.price, is_market) {
        (Some(price), false) => price_ticks(price, instrument)?,
        (None, true) => Price(0),
        (None, false) => return Err(contradiction("price", "a limit order needs a price")),
        (Some(_), true) => return Err(contradiction("price", "a market order takes no price")),
    };
    let new_order = NewOrder {
        instrument: instrument.id,
        scale_version: instrument.scale_version,
        side: order.side.into(),
        order_type: order.order_type.into(),
        time_in_force: time_in_force(order, is_market)?,
        price,
        quantity: quantity_lots(order.quantity, instrument)?,
        post_only: order.post_only,
        self_trade_prevention: order
            .self_trade_prevention
            .map_or(SelfTradePrevention::CancelNewest, Into::into),
    };
    let valid_until = optional_time(order.valid_until, "valid_until")?;
    let action = Action::Place(new_order);
    Ok(command(caller, client_order_id, valid_until, received_at, action))
}

fn time_in_force(order: &NewOrderRef<'_>, is_market: bool) -> Result<TimeInForce, Failure> {
    let expires_at = optional_time(order.expires_at, "expires_at")?;
    let default = if is_market {
        json::TimeInForce::Ioc
    } else {
        json::TimeInForce::Gtc
    };
    match (order.time_in_force.unwrap_or(default), expires_at) {
        (json::TimeInForce::Gtd, Some(time)) => Ok(TimeInForce::Gtd(time)),
        (json::TimeInForce::Gtd, None) => Err(contradiction("expires_at", "a gtd order needs it")),
        (_, Some(_)) => Err(contradiction("expires_at", "only a gtd order takes it")),
        (json::TimeInForce::Gtc, None) => Ok(TimeInForce::Gtc),
        (json::TimeInForce::Ioc, None) => Ok(TimeInForce::Ioc),
        (json::TimeInForce::Fok, None) => Ok(TimeInForce::Fok),
        (json::TimeInForce::Day, None) => Ok(TimeInForce::Day),
    }
}

/// The command of a change of an order. It needs the order's instrument to read the numbers.
pub(crate) async fn replace(
    shared: &Shared,
    caller: &Caller,
    target: OrderTarget,
    change: &ReplaceRef<'_>,
    received_at: Timestamp,
) -> Result<Command, Failure> {
    let request_id = parse_request_id(change.request_id, "request_id")?;
    let instrument = match change.symbol {
        Some(symbol) => instrument(shared, symbol).await?,
        None => instrument_of_order(shared, caller, &target).await?,
    };
    replace_in(&instrument, caller, request_id, target, change, received_at)
}

/// The command of a change of an order of an instrument.
pub(crate) fn replace_in(
    instrument: &Instrument,
    caller: &Caller,
    request_id: RequestId,
    target: OrderTarget,
    change: &ReplaceRef<'_>,
    received_at: Timestamp,
) -> Result<Command, Failure> {
    let price = change.price.map(|price| price_ticks(price, instrument));
    let quantity = change.quantity.map(|quantity| quantity_lots(quantity, instrument));
    let action = Action::Replace(Replace {
        target,
        scale_version: instrument.scale_version,
        price: price.transpose()?,
        quantity: quantity.transpose()?,
        post_only: change.post_only,
    });
    let valid_until = optional_time(change.valid_until, "valid_until")?;
    Ok(command(caller, request_id, valid_until, received_at, action))
}

/// The instrument of an order of the caller, open or closed.
async fn instrument_of_order(
    shared: &Shared,
    caller: &Caller,
    target: &OrderTarget,
) -> Result<Arc<Instrument>, Failure> {
    let mut order = shared.view.open_order(caller.account, target);
    if order.is_none() {
        shared.be_latest().await?;
        order = shared.order_now(caller.account, target).await?.map(|(order, _)| order);
    }
    let order = order.ok_or_else(|| Failure::new(Refusal::OrderNotFound))?;
    let reference = shared.view.reference();
    let instrument = reference.instrument(order.instrument).cloned();
    instrument.ok_or_else(|| Failure::new(Refusal::SymbolUnknown))
}

/// The command of a cancel.
pub(crate) fn cancel(
    caller: &Caller,
    target: OrderTarget,
    cancel: &CancelRef<'_>,
    received_at: Timestamp,
) -> Result<Command, Failure> {
    let request_id = parse_request_id(cancel.request_id, "request_id")?;
    let valid_until = optional_time(cancel.valid_until, "valid_until")?;
    let action = Action::Cancel(target);
    Ok(command(caller, request_id, valid_until, received_at, action))
}

/// Which order is meant: exactly one of the two is given.
pub(crate) fn target(order_id: Option<&str>, client_order_id: Option<&str>) -> Result<OrderTarget, Failure> {
    match (order_id, client_order_id) {
        (Some(order_id), None) => match order_id.parse() {
            Ok(order_id) => Ok(OrderTarget::OrderId(order_id)),
            Err(_) => Err(Failure::new(Refusal::OrderNotFound)
                .field("order_id")
                .detail("it is not of the form group.epoch.sequence")),
        },
        (None, Some(client_order_id)) => {
            parse_request_id(client_order_id, "client_order_id").map(OrderTarget::ClientOrderId)
        }
        _ => Err(contradiction(
            "order_id",
            "exactly one of order_id and client_order_id is given",
        )),
    }
}

/// The instrument of a name. One that isn't known yet may have been made a moment ago.
pub(crate) async fn instrument(shared: &Shared, symbol: &str) -> Result<Arc<Instrument>, Failure> {
    if let Some(instrument) = shared.view.reference().instrument_by_symbol(symbol) {
        return Ok(Arc::clone(instrument));
    }
    shared.be_latest().await?;
    known_instrument(shared, symbol)
}

/// The instrument of a name that the view knows.
pub(crate) fn known_instrument(shared: &Shared, symbol: &str) -> Result<Arc<Instrument>, Failure> {
    let reference = shared.view.reference();
    let instrument = reference.instrument_by_symbol(symbol).cloned();
    instrument.ok_or_else(|| Failure::new(Refusal::SymbolUnknown).field("symbol"))
}

/// The asset of a name.
pub(crate) async fn asset(shared: &Shared, symbol: &str, field: &str) -> Result<Asset, Failure> {
    if let Some(asset) = shared.view.reference().asset_by_symbol(symbol) {
        return Ok(asset);
    }
    shared.be_latest().await?;
    let asset = shared.view.reference().asset_by_symbol(symbol);
    asset.ok_or_else(|| Failure::new(Refusal::SymbolUnknown).field(field))
}

/// A price in ticks.
pub(crate) fn price_ticks(price: &str, instrument: &Instrument) -> Result<Price, Failure> {
    steps(price, instrument.rules.tick_size, "price", Refusal::PriceOffTick).map(Price)
}

/// A quantity in lots.
pub(crate) fn quantity_lots(quantity: &str, instrument: &Instrument) -> Result<Quantity, Failure> {
    steps(quantity, instrument.rules.lot_size, "quantity", Refusal::QuantityOffLot).map(Quantity)
}

/// An amount in smallest units.
pub(crate) fn amount_units(amount: &DecimalText, decimals: u8, field: &str) -> Result<Amount, Failure> {
    steps(&amount.0, Decimal::unit(decimals), field, Refusal::AmountOffUnit).map(Amount)
}

/// A decimal in whole steps.
pub(crate) fn steps(text: &str, step: Decimal, field: &str, off_step: Refusal) -> Result<i64, Failure> {
    let steps = text.parse().and_then(|decimal: Decimal| decimal.in_steps(step));
    steps.map_err(|error| match error {
        DecimalError::NotAMultiple => Failure::new(off_step)
            .field(field)
            .detail(format!("the step is {step}")),
        DecimalError::Syntax | DecimalError::TooLarge => decimal_failure(field, error),
    })
}

/// A decimal of any scale.
pub(crate) fn decimal(text: &DecimalText, field: &str) -> Result<Decimal, Failure> {
    text.decimal().map_err(|error| decimal_failure(field, error))
}

fn decimal_failure(field: &str, error: DecimalError) -> Failure {
    Failure::new(Refusal::DecimalInvalid)
        .field(field)
        .detail(error.to_string())
}

/// A time that may be left out.
pub(crate) fn optional_time(text: Option<&str>, field: &str) -> Result<Option<Timestamp>, Failure> {
    match text {
        None => Ok(None),
        Some(text) => match TimeText::read(text) {
            Some(time) => Ok(Some(time)),
            None => Err(Failure::new(Refusal::NumberInvalid).field(field)),
        },
    }
}

pub(crate) fn contradiction(field: &str, detail: &str) -> Failure {
    Failure::new(Refusal::FieldsContradict).field(field).detail(detail)
}
