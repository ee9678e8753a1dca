//! What a request asks, boiled down: its fingerprint, the scope that it needs, and how urgent its memory is.
//!
//! The fingerprint covers everything that makes two requests the same: the action and `valid_until`, but neither when it
//! was received nor a sealed secret (which differs each time that the same secret is sealed).

use types::{
    Action, Command, InstrumentId, InstrumentRules, KeyMaterial, NewOrder, OrderTarget, Replace, Rules, Scopes,
    TimeInForce, Transfer,
};

use crate::hash::{Kind, Mixer};
use crate::memory::Urgency;

/// Which scope a key must have to ask for it.
pub(crate) fn scope(action: &Action) -> Scopes {
    match urgency(action) {
        Urgency::Order | Urgency::Cancel => Scopes::TRADE,
        Urgency::Operator => Scopes::ADMIN,
    }
}

/// Who gives way first when the memory of requests is short.
pub(crate) fn urgency(action: &Action) -> Urgency {
    match action {
        Action::Place(_) | Action::Replace(_) => Urgency::Order,
        Action::Cancel(_) | Action::CancelAll(_) | Action::CancelAfter(_) => Urgency::Cancel,
        Action::Clock
        | Action::CreateAsset { .. }
        | Action::CreateInstrument { .. }
        | Action::SetInstrumentRules { .. }
        | Action::SetInstrumentStatus { .. }
        | Action::CreateAccount
        | Action::SetAccountStatus { .. }
        | Action::Deposit(_)
        | Action::Withdraw(_)
        | Action::CreateKey(_)
        | Action::RevokeKey { .. }
        | Action::CancelAllFor { .. }
        | Action::SetRules(_)
        | Action::SetEngineVersion { .. } => Urgency::Operator,
    }
}

/// What was asked, in 64 bits, never 0.
pub(crate) fn fingerprint(command: &Command) -> u64 {
    let mut mixer = Mixer::new(Kind::Content);
    match command.valid_until {
        None => mixer.word(0),
        Some(until) => mixer.pair(1, until.0),
    };
    match &command.action {
        Action::Place(order) => place(&mut mixer, order),
        Action::Cancel(target) => order_target(mixer.word(3), target),
        Action::Replace(replace) => change(&mut mixer, replace),
        Action::CancelAll(all) => option(mixer.word(4), all.instrument.map(|id| u64::from(id.0))),
        Action::CancelAfter(after) => {
            mixer.word(5).word(after.after_ns);
        }
        other => operator(&mut mixer, other),
    }
    mixer.finish().max(1)
}

fn operator(mixer: &mut Mixer, action: &Action) {
    match action {
        Action::CreateAsset { symbol, decimals } => {
            mixer.word(6).bytes(symbol.as_bytes()).word(u64::from(*decimals));
        }
        Action::CreateInstrument {
            symbol,
            base,
            quote,
            rules,
        } => {
            mixer
                .word(7)
                .bytes(symbol.as_bytes())
                .word(u64::from(base.0))
                .word(u64::from(quote.0));
            instrument_rules(mixer, rules);
        }
        Action::SetInstrumentRules { instrument, rules } => {
            mixer.word(8).word(u64::from(instrument.0));
            instrument_rules(mixer, rules);
        }
        Action::SetInstrumentStatus { instrument, status } => {
            mixer.word(9).word(u64::from(instrument.0)).word(*status as u64);
        }
        Action::CreateAccount => {
            mixer.word(10);
        }
        Action::SetAccountStatus { account, status } => {
            mixer.word(11).word(u64::from(account.0)).word(*status as u64);
        }
        Action::Deposit(transfer) => money(mixer.word(12), transfer),
        Action::Withdraw(transfer) => money(mixer.word(13), transfer),
        Action::CreateKey(key) => {
            mixer
                .word(14)
                .word(u64::from(key.account.0))
                .word(u64::from(key.scopes.0));
            match &key.material {
                KeyMaterial::Ed25519(public) => mixer.word(0).bytes(public),
                KeyMaterial::HmacSha256 { .. } => mixer.word(1),
            };
        }
        Action::RevokeKey { key } => {
            mixer.word(15).word(u64::from(key.0));
        }
        Action::CancelAllFor { account, instrument } => {
            option(mixer.word(16), account.map(|id| u64::from(id.0)));
            option(mixer, instrument.map(|InstrumentId(id)| u64::from(id)));
        }
        Action::SetRules(rules) => limits(mixer.word(17), rules),
        Action::SetEngineVersion { version } => {
            mixer.word(18).word(u64::from(version.0));
        }
        Action::Clock
        | Action::Place(_)
        | Action::Replace(_)
        | Action::Cancel(_)
        | Action::CancelAll(_)
        | Action::CancelAfter(_) => {}
    }
}

#[inline]
fn place(mixer: &mut Mixer, order: &NewOrder) {
    let small = 1
        | time_in_force(order.time_in_force) << 8
        | (order.side as u64) << 16
        | (order.order_type as u64) << 24
        | (order.self_trade_prevention as u64) << 32
        | u64::from(order.post_only) << 40;
    let where_ = u64::from(order.instrument.0) << 32 | u64::from(order.scale_version);
    mixer
        .pair(small, where_)
        .pair(order.price.0 as u64, order.quantity.0 as u64);
    if let TimeInForce::Gtd(until) = order.time_in_force {
        mixer.word(until.0);
    }
}

/// A number for each, whatever the time of [`TimeInForce::Gtd`].
#[inline]
pub(crate) fn time_in_force(time_in_force: TimeInForce) -> u64 {
    match time_in_force {
        TimeInForce::Gtc => 0,
        TimeInForce::Ioc => 1,
        TimeInForce::Fok => 2,
        TimeInForce::Gtd(_) => 3,
        TimeInForce::Day => 4,
    }
}

fn change(mixer: &mut Mixer, replace: &Replace) {
    mixer.word(2).word(u64::from(replace.scale_version));
    option(mixer, replace.price.map(|price| price.0 as u64));
    option(mixer, replace.quantity.map(|quantity| quantity.0 as u64));
    option(mixer, replace.post_only.map(u64::from));
    order_target(mixer, &replace.target);
}

fn order_target(mixer: &mut Mixer, target: &OrderTarget) {
    match target {
        OrderTarget::OrderId(id) => {
            let position = id.0;
            let where_ = u64::from(position.epoch.0) << 16 | u64::from(position.group.0);
            mixer.pair(where_, position.sequence.0)
        }
        OrderTarget::ClientOrderId(id) => mixer.word(u64::MAX).request_id(id),
    };
}

fn option(mixer: &mut Mixer, value: Option<u64>) {
    match value {
        None => mixer.word(0),
        Some(value) => mixer.word(1).word(value),
    };
}

fn money(mixer: &mut Mixer, transfer: &Transfer) {
    let of = u64::from(transfer.account.0) << 16 | u64::from(transfer.asset.0);
    mixer.word(of).signed(transfer.amount.0);
}

/// An instrument's rules, every field.
pub(crate) fn instrument_rules(mixer: &mut Mixer, rules: &InstrumentRules) {
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
    for step in [tick_size, lot_size] {
        mixer.signed(step.units).word(u64::from(step.scale));
    }
    for number in [
        quantity_min.0,
        quantity_max.0,
        *notional_min,
        *notional_max,
        reference_price.0,
    ] {
        mixer.signed(number);
    }
    mixer
        .word(u64::from(*collar_ppm))
        .signed(maker_fee.0.into())
        .signed(taker_fee.0.into());
}

/// The limits, every field.
pub(crate) fn limits(mixer: &mut Mixer, rules: &Rules) {
    let Rules {
        version,
        request_window_ns,
        request_memory_bytes_max,
        open_orders_per_account_max,
        open_orders_max,
        accounts_max,
        instruments_max,
        keys_per_account_max,
        expiries_per_command_max,
    } = rules;
    mixer
        .word(u64::from(*version))
        .word(*request_window_ns)
        .word(*request_memory_bytes_max);
    for number in [
        open_orders_per_account_max,
        open_orders_max,
        accounts_max,
        instruments_max,
        keys_per_account_max,
        expiries_per_command_max,
    ] {
        mixer.word(u64::from(*number));
    }
}
