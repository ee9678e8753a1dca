//! Compares what clients were told with what they find afterwards.
//!
//! | promise | how it is checked |
//! | --- | --- |
//! | no acknowledged order, fill or cancel is lost | each executed answer is found again in orders and fills |
//! | nothing is doubled | each order and fill once; each fill of one executed request; no order that nobody asked for |
//! | an id executes once | [`History`] compares all answers of an id; places are distinct |
//! | a refused order never executes | no order under its id |
//! | trades have two sides | both are found, equal, opposite, once each |
//! | money is conserved | totals are deposits plus what the fills moved, to the last unit; held is what open orders need |

use std::collections::{BTreeMap, BTreeSet};

use types::Decimal;
use wire::json::{Balance, DecimalText, Fill, Order, OrderStatus, Role, Side};

use crate::history::{Account, Asked, Final, History, Request};

/// Decimal places that [`scaled`] keeps.
const PLACES: u8 = 18;

/// What clients find.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The asset that is traded.
    pub base: String,
    /// The asset that it is paid with.
    pub quote: String,
    /// The accounts that were asked, which between them are both sides of every trade.
    pub accounts: BTreeMap<Account, ObservedAccount>,
}

/// What the client of an account finds.
#[derive(Clone, Debug, Default)]
pub struct ObservedAccount {
    /// What was paid in, by asset.
    pub deposits: BTreeMap<String, DecimalText>,
    /// All its orders.
    pub orders: Vec<Order>,
    /// All its fills.
    pub fills: Vec<Fill>,
    /// Its balances.
    pub balances: Vec<Balance>,
}

/// A decimal text as a whole number of 10^-18.
///
/// # Panics
/// When the node sends what isn't a decimal number.
pub fn scaled(text: &DecimalText) -> i128 {
    let decimal: Decimal = text
        .decimal()
        .unwrap_or_else(|error| panic!("{text} is not a decimal: {error}"));
    i128::from(decimal.units) * 10_i128.pow(u32::from(PLACES - decimal.scale))
}

/// Everything that is wrong; empty if each promise was kept. All requests of the observed accounts must have a final
/// answer by now.
pub fn check(history: &History, observed: &Observed) -> Vec<String> {
    let mut faults: Vec<String> = history.faults().to_vec();
    let requests = || {
        history
            .requests()
            .filter(|request| observed.accounts.contains_key(&request.account))
    };
    for (account, found) in &observed.accounts {
        let prefix = format!("account {account}");
        let orders = by_client_order_id(&prefix, found, &mut faults);
        check_orders(&prefix, *account, history, &orders, &mut faults);
        check_fills(&prefix, *account, history, found, &orders, &mut faults);
        check_balances(&prefix, found, observed, &mut faults);
        for request in requests().filter(|request| request.account == *account) {
            check_request(&prefix, request, history, found, &orders, &mut faults);
        }
    }
    check_trades(observed, &mut faults);
    faults
}

fn by_client_order_id<'a>(
    prefix: &str,
    found: &'a ObservedAccount,
    faults: &mut Vec<String>,
) -> BTreeMap<&'a str, &'a Order> {
    let mut orders = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for order in &found.orders {
        if orders.insert(order.client_order_id.as_str(), order).is_some() {
            faults.push(format!("{prefix}: two orders are called {}", order.client_order_id));
        }
        if !ids.insert(order.order_id.as_str()) {
            faults.push(format!("{prefix}: two orders have the id {}", order.order_id));
        }
    }
    orders
}

/// Each order by itself, and that somebody asked for it and was told that it was executed.
fn check_orders(
    prefix: &str,
    account: Account,
    history: &History,
    orders: &BTreeMap<&str, &Order>,
    faults: &mut Vec<String>,
) {
    for (client_order_id, order) in orders {
        let name = format!("{prefix}, order {client_order_id}");
        match history.request(account, client_order_id) {
            Some(Request {
                asked: Asked::Place(_),
                answer: Some(Final::Executed(_)),
                ..
            }) => {}
            Some(Request { answer, .. }) => faults.push(format!("{name}: exists, but its answer was {answer:?}")),
            None => faults.push(format!("{name}: nobody asked for it")),
        }
        let (quantity, filled, remaining) = (
            scaled(&order.quantity),
            scaled(&order.filled_quantity),
            scaled(&order.remaining_quantity),
        );
        let consistent = match order.status {
            OrderStatus::Open => remaining > 0 && filled + remaining == quantity,
            OrderStatus::Filled => remaining == 0 && filled == quantity,
            OrderStatus::Cancelled | OrderStatus::Expired => remaining == 0 && filled < quantity,
        };
        if !consistent {
            faults.push(format!("{name}: contradicts itself: {order:?}"));
        }
    }
}

/// Each fill once, of a known order, made by an executed request; and the sums that the orders show.
fn check_fills(
    prefix: &str,
    account: Account,
    history: &History,
    found: &ObservedAccount,
    orders: &BTreeMap<&str, &Order>,
    faults: &mut Vec<String>,
) {
    let mut seen = BTreeSet::new();
    let mut sums: BTreeMap<&str, [i128; 3]> = BTreeMap::new();
    let mut takers: BTreeMap<String, Vec<&Fill>> = BTreeMap::new();
    for fill in &found.fills {
        let name = format!("{prefix}, fill {} of {}", fill.fill_id, fill.client_order_id);
        if !seen.insert((fill.fill_id.as_str(), fill.order_id.as_str())) {
            faults.push(format!("{name}: is there twice"));
        }
        if orders
            .get(fill.client_order_id.as_str())
            .is_none_or(|order| order.order_id != fill.order_id)
        {
            faults.push(format!("{name}: there is no such order"));
        }
        let sum = sums.entry(fill.client_order_id.as_str()).or_default();
        sum[0] += scaled(&fill.quantity);
        sum[1] += scaled(&fill.notional);
        sum[2] += scaled(&fill.fee);
        if fill.role == Role::Taker {
            let position = fill.fill_id.rsplit_once('.').map_or("", |(position, _)| position);
            takers.entry(position.to_owned()).or_default().push(fill);
        }
    }
    for (client_order_id, order) in orders {
        let expected = [&order.filled_quantity, &order.filled_notional, &order.fee].map(scaled);
        let sum = sums.get(client_order_id).copied().unwrap_or_default();
        if sum != expected {
            faults.push(format!(
                "{prefix}, order {client_order_id}: its fills sum up to {sum:?}, it says {expected:?}"
            ));
        }
    }
    // Each request that took was answered with exactly the fills that are found at its place.
    for request in history.requests().filter(|request| request.account == account) {
        let Some(Final::Executed(answer)) = &request.answer else {
            continue;
        };
        let position = format!(
            "{}.{}.{}",
            answer.position.group, answer.position.epoch, answer.position.sequence.0
        );
        let mut at_place = takers.remove(&position).unwrap_or_default();
        at_place.sort_by_key(|fill| fill_index(fill));
        if !at_place.iter().copied().eq(answer.fills.iter()) {
            let id = request.asked.request_id();
            faults.push(format!(
                "{prefix}, request {id}: answered fills {:?}, found {at_place:?}",
                answer.fills
            ));
        }
    }
    for (position, fills) in takers {
        faults.push(format!(
            "{prefix}: {} fill(s) taken at {position}, where no request of it is",
            fills.len()
        ));
    }
}

fn fill_index(fill: &Fill) -> u64 {
    fill.fill_id
        .rsplit_once('.')
        .and_then(|(_, index)| index.parse().ok())
        .unwrap_or(u64::MAX)
}

/// What the answer to a request promises.
fn check_request(
    prefix: &str,
    request: &Request,
    history: &History,
    found: &ObservedAccount,
    orders: &BTreeMap<&str, &Order>,
    faults: &mut Vec<String>,
) {
    let name = format!("{prefix}, request {}", request.asked.request_id());
    let order = orders.get(request.asked.client_order_id()).copied();
    let Some(answer) = &request.answer else {
        faults.push(format!("{name}: has no final answer"));
        return;
    };
    let Final::Executed(answer) = answer else {
        if matches!(request.asked, Asked::Place(_)) && order.is_some() {
            faults.push(format!("{name}: was refused, and yet there is {order:?}"));
        }
        return;
    };
    for fill in &answer.fills {
        if !found.fills.contains(fill) {
            faults.push(format!(
                "{name}: the acknowledged fill {} of {} is lost",
                fill.fill_id, fill.order_id
            ));
        }
    }
    if answer.client_order_id_burnt == Some(true) {
        if let Some(order) = order {
            faults.push(format!(
                "{name}: the client order id was burnt, and yet there is {order:?}"
            ));
        }
        return;
    }
    let Some(order) = order else {
        faults.push(format!(
            "{name}: the acknowledged order {} is lost",
            request.asked.client_order_id()
        ));
        return;
    };
    if let Some(told) = &answer.order {
        check_order_is_later(&name, told, order, faults);
    }
    match &request.asked {
        Asked::Cancel(_) => {
            if order.status == OrderStatus::Open {
                faults.push(format!("{name}: the acknowledged cancel is lost, the order is open"));
            }
        }
        Asked::Place(asked) => {
            if order.side != asked.side || order.order_type != asked.order_type || order.post_only != asked.post_only {
                faults.push(format!("{name}: asked for {asked:?}, and there is {order:?}"));
            }
            check_price_and_quantity(
                &name,
                request.account,
                asked.price.as_ref(),
                &asked.quantity,
                order,
                history,
                faults,
            );
        }
        Asked::Replace(_) => {}
    }
}

/// An order only moves on from what a client was told of it.
fn check_order_is_later(name: &str, told: &Order, now: &Order, faults: &mut Vec<String>) {
    if told.order_id != now.order_id {
        faults.push(format!("{name}: was order {}, and is {}", told.order_id, now.order_id));
    }
    if scaled(&told.filled_quantity) > scaled(&now.filled_quantity) {
        faults.push(format!(
            "{name}: {} was filled, and now {}",
            told.filled_quantity, now.filled_quantity
        ));
    }
    let was_closed = told.status != OrderStatus::Open;
    if was_closed && (told.status != now.status || told.filled_quantity != now.filled_quantity) {
        faults.push(format!("{name}: was closed as {told:?}, and is {now:?}"));
    }
}

/// The order has the price and quantity of the last executed replace, or else those that it was placed with.
fn check_price_and_quantity(
    name: &str,
    account: Account,
    placed_price: Option<&DecimalText>,
    placed_quantity: &DecimalText,
    order: &Order,
    history: &History,
    faults: &mut Vec<String>,
) {
    let mut replaces: Vec<_> = history
        .requests()
        .filter(|request| request.account == account)
        .filter_map(|request| match (&request.asked, &request.answer) {
            (Asked::Replace(replace), Some(Final::Executed(answer)))
                if replace.client_order_id.as_deref() == Some(order.client_order_id.as_str()) =>
            {
                Some((answer.position.sequence.number(), replace))
            }
            _ => None,
        })
        .collect();
    replaces.sort_by_key(|(sequence, _)| *sequence);
    let mut price = placed_price;
    let mut quantity = placed_quantity;
    for (_, replace) in &replaces {
        price = replace.price.as_ref().or(price);
        quantity = replace.quantity.as_ref().unwrap_or(quantity);
    }
    if scaled(quantity) != scaled(&order.quantity) {
        faults.push(format!(
            "{name}: should have the quantity {quantity}, and has {}",
            order.quantity
        ));
    }
    if let Some(price) = price
        && scaled(price) != scaled(&order.price)
    {
        faults.push(format!(
            "{name}: should have the price {price}, and has {}",
            order.price
        ));
    }
}

/// Each trade has a buyer and a seller, a maker and a taker, who see the same.
fn check_trades(observed: &Observed, faults: &mut Vec<String>) {
    let mut trades: BTreeMap<&str, Vec<(Account, &Fill)>> = BTreeMap::new();
    for (account, found) in &observed.accounts {
        for fill in &found.fills {
            trades.entry(fill.fill_id.as_str()).or_default().push((*account, fill));
        }
    }
    for (fill_id, sides) in trades {
        let [(_, one), (_, other)] = sides[..] else {
            faults.push(format!("trade {fill_id}: has {} side(s): {sides:?}", sides.len()));
            continue;
        };
        let same = one.price == other.price && one.quantity == other.quantity && one.notional == other.notional;
        if !same || one.side == other.side || one.role == other.role || one.traded_at != other.traded_at {
            faults.push(format!(
                "trade {fill_id}: its sides contradict each other: {one:?} {other:?}"
            ));
        }
    }
}

/// Totals are what was paid in and what the fills moved; what is held is what open orders need.
fn check_balances(prefix: &str, found: &ObservedAccount, observed: &Observed, faults: &mut Vec<String>) {
    let mut totals: BTreeMap<&str, i128> = found
        .deposits
        .iter()
        .map(|(asset, amount)| (asset.as_str(), scaled(amount)))
        .collect();
    for fill in &found.fills {
        let (quantity, notional) = (scaled(&fill.quantity), scaled(&fill.notional));
        let sign = if fill.side == Side::Buy { 1 } else { -1 };
        *totals.entry(observed.base.as_str()).or_default() += sign * quantity;
        *totals.entry(observed.quote.as_str()).or_default() -= sign * notional + scaled(&fill.fee);
    }
    let mut needed: BTreeMap<&str, i128> = BTreeMap::new();
    for order in found.orders.iter().filter(|order| order.status == OrderStatus::Open) {
        let remaining = scaled(&order.remaining_quantity);
        match order.side {
            Side::Sell => *needed.entry(observed.base.as_str()).or_default() += remaining,
            Side::Buy => {
                let one = 10_i128.pow(u32::from(PLACES));
                *needed.entry(observed.quote.as_str()).or_default() += scaled(&order.price) / one * remaining
                    + scaled(&order.price) % one * (remaining / 1_000_000_000) / 1_000_000_000;
            }
        }
    }
    for balance in &found.balances {
        let name = format!("{prefix}, {}", balance.asset);
        let (available, held, total) = (
            scaled(&balance.available),
            scaled(&balance.held),
            scaled(&balance.total),
        );
        let expected = totals.remove(balance.asset.as_str()).unwrap_or_default();
        if total != expected {
            faults.push(format!(
                "{name}: holds {total}, and should hold {expected} (in 10^-{PLACES})"
            ));
        }
        if available < 0 || held < 0 || available + held != total {
            faults.push(format!("{name}: contradicts itself: {balance:?}"));
        }
        let needed = needed.get(balance.asset.as_str()).copied().unwrap_or_default();
        let is_exact = balance.asset == observed.base || needed == 0;
        if held < needed || (is_exact && held != needed) {
            faults.push(format!(
                "{name}: {held} is held, and open orders need {needed} (in 10^-{PLACES})"
            ));
        }
    }
    for (asset, total) in totals.into_iter().filter(|(_, total)| *total != 0) {
        faults.push(format!(
            "{prefix}: should hold {total} of {asset} (in 10^-{PLACES}), and shows no balance of it"
        ));
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
