//! A small trade in which every promise is kept, and then each broken in turn: an oracle that finds nothing proves
//! nothing.

use wire::json::{
    AppliesTo, CancelItem, DurableIn, NewOrder, NumberText, OrderAnswer, OrderType, Outcome, Position, Problem,
    ReplaceItem, SelfTradePrevention, TimeInForce, TimeText, Times,
};

use super::*;

const SELLER: Account = 2;
const BUYER: Account = 3;

fn decimal(text: &str) -> DecimalText {
    DecimalText(text.to_owned())
}

fn position(sequence: u64) -> Position {
    Position {
        group: 0,
        epoch: 1,
        sequence: NumberText::from(sequence),
    }
}

fn new_order(id: &str, side: Side, price: &str, quantity: &str) -> NewOrder {
    NewOrder {
        client_order_id: id.to_owned(),
        symbol: "AAA-BBB".to_owned(),
        side,
        order_type: OrderType::Limit,
        time_in_force: None,
        expires_at: None,
        price: Some(decimal(price)),
        quantity: decimal(quantity),
        post_only: false,
        self_trade_prevention: None,
        valid_until: None,
        validate_only: false,
    }
}

/// `numbers`: quantity, filled, remaining, filled notional, fee.
fn order(asked: &NewOrder, sequence: u64, status: OrderStatus, numbers: [&str; 5]) -> Order {
    let [quantity, filled_quantity, remaining_quantity, filled_notional, fee] = numbers.map(decimal);
    Order {
        order_id: format!("0.1.{sequence}"),
        client_order_id: asked.client_order_id.clone(),
        symbol: asked.symbol.clone(),
        side: asked.side,
        order_type: asked.order_type,
        time_in_force: TimeInForce::Gtc,
        expires_at: None,
        price: asked.price.clone().expect("a limit order"),
        quantity,
        filled_quantity,
        remaining_quantity,
        filled_notional,
        fee,
        post_only: false,
        self_trade_prevention: SelfTradePrevention::CancelNewest,
        status,
        close_reason: None,
        placed_at: TimeText("1".to_owned()),
    }
}

fn fill(of: &Order, sequence: u64, role: Role, fee: &str) -> Fill {
    Fill {
        fill_id: format!("0.1.{sequence}.0"),
        order_id: of.order_id.clone(),
        client_order_id: of.client_order_id.clone(),
        symbol: of.symbol.clone(),
        side: of.side,
        role,
        price: decimal("10.00"),
        quantity: decimal("2"),
        notional: decimal("20.00"),
        fee: decimal(fee),
        fee_asset: "BBB".to_owned(),
        remaining_quantity: of.remaining_quantity.clone(),
        traded_at: TimeText("5".to_owned()),
    }
}

fn executed(sequence: u64, request_id: &str, order: Option<Order>, fills: Vec<Fill>) -> OrderAnswer {
    OrderAnswer {
        outcome: Outcome::Executed,
        applies_to: AppliesTo::Order,
        repeat: false,
        request_id: request_id.to_owned(),
        order,
        fills,
        cancelled_quantity: None,
        priority_kept: None,
        client_order_id_burnt: None,
        position: position(sequence),
        durable_in: DurableIn::Region,
        times: Times {
            received_at: TimeText("1".to_owned()),
            sequenced_at: TimeText("1".to_owned()),
            committed_at: None,
            clock_error_bound_ns: NumberText("0".to_owned()),
        },
    }
}

fn refused(sequence: u64) -> Problem {
    let mut problem = Problem::new(types::RejectReason::InsufficientFunds.into());
    problem.position = Some(position(sequence));
    problem
}

fn balance(asset: &str, available: &str, held: &str, total: &str) -> Balance {
    Balance {
        asset: asset.to_owned(),
        available: decimal(available),
        held: decimal(held),
        total: decimal(total),
    }
}

/// The seller offers 5 at 10.00; the buyer takes 2 of them, is refused another order, and has one cancelled; the seller
/// makes its offer smaller.
fn kept() -> (History, Observed) {
    let mut history = History::default();
    let offer = new_order("s1", Side::Sell, "10.00", "5");
    let take = new_order("b1", Side::Buy, "10.00", "2");
    let (poor, gone) = (
        new_order("b2", Side::Buy, "9.00", "1000000"),
        new_order("b3", Side::Buy, "9.00", "1"),
    );
    let smaller = ReplaceItem {
        request_id: "s2".to_owned(),
        client_order_id: Some("s1".to_owned()),
        quantity: Some(decimal("4")),
        ..ReplaceItem::default()
    };
    let cancel = CancelItem {
        request_id: "b4".to_owned(),
        client_order_id: Some("b3".to_owned()),
        ..CancelItem::default()
    };
    let offered = order(&offer, 10, OrderStatus::Open, ["5", "0", "5", "0", "0"]);
    let rests = order(&offer, 10, OrderStatus::Open, ["4", "2", "2", "20.00", "0.01"]);
    let taken = order(&take, 11, OrderStatus::Filled, ["2", "2", "0", "20.00", "0.02"]);
    let bid = order(&gone, 13, OrderStatus::Open, ["1", "0", "1", "0", "0"]);
    let cancelled = order(&gone, 13, OrderStatus::Cancelled, ["1", "0", "0", "0", "0"]);
    let (made, took) = (
        fill(&rests, 11, Role::Maker, "0.01"),
        fill(&taken, 11, Role::Taker, "0.02"),
    );
    let answers = [
        (
            SELLER,
            Asked::Place(offer),
            Final::Executed(executed(10, "s1", Some(offered), vec![])),
        ),
        (
            BUYER,
            Asked::Place(take),
            Final::Executed(executed(11, "b1", Some(taken.clone()), vec![took.clone()])),
        ),
        (BUYER, Asked::Place(poor), Final::Refused(refused(12))),
        (
            BUYER,
            Asked::Place(gone),
            Final::Executed(executed(13, "b3", Some(bid), vec![])),
        ),
        (
            BUYER,
            Asked::Cancel(cancel),
            Final::Executed(executed(14, "b4", Some(cancelled.clone()), vec![])),
        ),
        (
            SELLER,
            Asked::Replace(smaller),
            Final::Executed(executed(15, "s2", Some(rests.clone()), vec![])),
        ),
    ];
    for (account, asked, answer) in answers {
        let id = asked.request_id().to_owned();
        history.ask(account, asked);
        history.answer(account, &id, answer);
    }
    let deposits = || BTreeMap::from([("AAA".to_owned(), decimal("100")), ("BBB".to_owned(), decimal("100"))]);
    let seller = ObservedAccount {
        deposits: deposits(),
        orders: vec![rests],
        fills: vec![made],
        balances: vec![balance("AAA", "96", "2", "98"), balance("BBB", "119.99", "0", "119.99")],
    };
    let buyer = ObservedAccount {
        deposits: deposits(),
        orders: vec![taken, cancelled],
        fills: vec![took],
        balances: vec![balance("AAA", "102", "0", "102"), balance("BBB", "79.98", "0", "79.98")],
    };
    let observed = Observed {
        base: "AAA".to_owned(),
        quote: "BBB".to_owned(),
        accounts: BTreeMap::from([(SELLER, seller), (BUYER, buyer)]),
    };
    (history, observed)
}

/// Breaks something and expects a fault that says `wanted`.
fn broken(wanted: &str, breaks: impl FnOnce(&mut History, &mut Observed)) {
    let (mut history, mut observed) = kept();
    breaks(&mut history, &mut observed);
    let faults = check(&history, &observed);
    assert!(
        faults.iter().any(|fault| fault.contains(wanted)),
        "nothing of {wanted:?} in {faults:#?}"
    );
}

fn buyer(observed: &mut Observed) -> &mut ObservedAccount {
    observed.accounts.get_mut(&BUYER).expect("the buyer is there")
}

#[test]
fn kept_promises_pass() {
    let (history, observed) = kept();
    assert_eq!(check(&history, &observed), Vec::<String>::new());
}

#[test]
fn losses_are_found() {
    broken("acknowledged order b3 is lost", |_, observed| {
        buyer(observed).orders.remove(1);
    });
    broken("acknowledged fill 0.1.11.0 of 0.1.11 is lost", |_, observed| {
        buyer(observed).fills.clear()
    });
    broken("acknowledged cancel is lost", |_, observed| {
        let order = &mut buyer(observed).orders[1];
        order.status = OrderStatus::Open;
        order.remaining_quantity = decimal("1");
    });
    broken("should have the quantity 4", |_, observed| {
        let seller = observed.accounts.get_mut(&SELLER).expect("the seller is there");
        seller.orders[0].quantity = decimal("5");
    });
    broken("has 1 side(s)", |_, observed| {
        observed.accounts.remove(&SELLER);
    });
}

#[test]
fn doubles_are_found() {
    broken("two orders are called b1", |_, observed| {
        let mut again = buyer(observed).orders[0].clone();
        again.order_id = "0.1.99".to_owned();
        buyer(observed).orders.push(again);
    });
    broken("nobody asked for it", |_, observed| {
        buyer(observed).orders[0].client_order_id = "x".to_owned()
    });
    broken("is there twice", |_, observed| {
        let again = buyer(observed).fills[0].clone();
        buyer(observed).fills.push(again);
    });
    broken("where no request of it is", |_, observed| {
        let mut again = buyer(observed).fills[0].clone();
        again.fill_id = "0.1.12.0".to_owned();
        buyer(observed).fills.push(again);
    });
    broken("exists, but its answer was", |_, observed| {
        let mut order = buyer(observed).orders[1].clone();
        order.client_order_id = "b2".to_owned();
        order.order_id = "0.1.12".to_owned();
        buyer(observed).orders.push(order);
    });
}

#[test]
fn answers_that_contradict_each_other_are_found() {
    let again = |history: &History| match &history.request(BUYER, "b1").expect("it was asked").answer {
        Some(Final::Executed(answer)) => answer.clone(),
        other => panic!("it was executed, not {other:?}"),
    };
    let (mut history, observed) = kept();
    let mut repeated = again(&history);
    repeated.repeat = true;
    history.answer(BUYER, "b1", Final::Executed(repeated));
    assert_eq!(check(&history, &observed), Vec::<String>::new());
    broken("executed again", |history, _| {
        history.answer(BUYER, "b1", Final::Executed(again(history)))
    });
    broken("then at", |history, _| {
        let mut answer = again(history);
        answer.repeat = true;
        answer.position = position(77);
        history.answer(BUYER, "b1", Final::Executed(answer));
    });
    broken("as is account 3, request b1", |history, _| {
        let (asked, answer) = (new_order("b9", Side::Buy, "1.00", "1"), again(history));
        history.ask(BUYER, Asked::Place(asked));
        history.answer(BUYER, "b9", Final::Executed(answer));
    });
    broken("has no final answer", |history, _| {
        history.ask(BUYER, Asked::Place(new_order("b9", Side::Buy, "1.00", "1")));
    });
}

#[test]
fn money_that_appears_or_vanishes_is_found() {
    broken("holds", |_, observed| {
        buyer(observed).balances[1] = balance("BBB", "79.99", "0", "79.99")
    });
    broken("contradicts itself", |_, observed| {
        buyer(observed).balances[1] = balance("BBB", "79.98", "1", "79.98")
    });
    broken("open orders need", |_, observed| {
        let seller = observed.accounts.get_mut(&SELLER).expect("the seller is there");
        seller.balances[0] = balance("AAA", "97", "1", "98");
    });
    broken("its fills sum up to", |_, observed| {
        buyer(observed).fills[0].fee = decimal("0.03")
    });
    broken("shows no balance of it", |_, observed| {
        buyer(observed).balances.pop();
    });
}
