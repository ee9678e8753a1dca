//! What time does to orders.

use types::{StateMachine, Timestamp};

use crate::check::{NOON, World, check};

#[test]
fn orders_expire_when_their_time_is_reached() {
    check(
        "
        alice buy 1@10 #gtd gtd:60    -> placed gtd
        alice buy 2@10 #day day       -> placed day
        alice buy 3@10 #gtc           -> placed gtc
        wait 59
        clock                         -> clock
        wait 1
        clock                         -> clock; gtd Expired Expired 1
        wait 43139
        clock                         -> clock
        wait 1
        bob buy 1@9 #b                -> placed b; day Expired Expired 2
        book X: 3@10 1@9 |
        alice cancel gtd              -> rejected order_closed
        balance alice USD: 9970 + 30
        ",
    );
}

#[test]
fn an_order_whose_time_is_over_never_trades_even_if_the_sweep_is_behind() {
    check(
        "
        operator limits expiries=1    -> limits 2
        alice sell 1@100 #a1 gtd:60   -> placed a1
        alice sell 2@100 #a2 gtd:60   -> placed a2
        alice sell 3@100 #a3 gtd:60   -> placed a3
        alice sell 4@100 #a4 gtd:60   -> placed a4
        carol sell 9@100 #c           -> placed c
        carol buy 1@50 #c2 gtd:60     -> placed c2
        wait 60
        // It counts as gone for those who look, is told of where it is met, and the sweep takes one more.
        bob buy 10@100 fok            -> rejected fok_not_fillable; a1 Expired Expired 1
        bob sell 1@50 post-only #p    -> placed p; c2 Expired Expired 1; a2 Expired Expired 2
        bob cancel p                  -> p Cancelled Requested 1; a3 Expired Expired 3
        alice cancel a4               -> rejected order_closed; a4 Expired Expired 4
        bob buy 9@100 fok #b          -> placed b; 9@100 with c filled
        ",
    );
    check(
        "
        operator limits expiries=1    -> limits 2
        alice sell 1@100 #a1 gtd:60   -> placed a1
        alice sell 2@100 #a2 gtd:60   -> placed a2
        alice sell 3@101 #a3          -> placed a3
        wait 60
        bob buy 4 #b                  -> placed b; a1 Expired Expired 1; a2 Expired Expired 2; 3@101 with a3 filled; b Cancelled Unfilled 1
        ",
    );
}

#[test]
fn the_dead_mans_switch_cancels_all() {
    check(
        "
        alice cancel-after 30         -> cancel after 30
        alice buy 1@10 #a1            -> placed a1
        alice sell 1@20 #a2           -> placed a2
        wait 20
        alice cancel-after 30         -> cancel after 50
        wait 29
        bob buy 1@5 #b                -> placed b
        wait 1
        clock                         -> clock; a1 Cancelled CancelAfter 1; a2 Cancelled CancelAfter 1; cancel after off
        alice cancel-after 5          -> cancel after 55
        alice cancel-after 0          -> cancel after off
        wait 100
        alice buy 1@10 #a3            -> placed a3
        clock                         -> clock
        alice cancel-after 86401      -> rejected deadline_too_far
        ",
    );
}

#[test]
fn a_switch_that_is_due_fires_before_its_accounts_next_command() {
    check(
        "
        operator limits expiries=1    -> limits 2
        alice cancel-after 30         -> cancel after 30
        alice buy 1@10 #a1            -> placed a1
        alice buy 990@10 #big         -> rejected quantity_too_large
        alice buy 500@9 #a2           -> placed a2
        alice buy 500@8 #a3           -> placed a3
        wait 30
        // They have no price for others any more.
        bob sell 1@10 post-only #b    -> placed b; a1 Cancelled CancelAfter 1; a2 Cancelled CancelAfter 500
        // Alice has all of her money again.
        alice buy 100@100 #a4         -> placed a4; 1@10 with b filled; a3 Cancelled CancelAfter 500; cancel after off
        balance alice USD: 90 + 9900
        alice cancel-all              -> all cancelled 1; a4 Cancelled Requested 99
        ",
    );
}

#[test]
fn an_instruments_book_is_emptied_in_steps_and_takes_no_orders_meanwhile() {
    check(
        "
        operator limits expiries=2    -> limits 2
        alice buy 1@10 #a1            -> placed a1
        alice buy 1@11 #a2            -> placed a2
        bob buy 1@12 #b1              -> placed b1
        bob sell 1@20 #b2             -> placed b2
        bob sell 1@21 #b3             -> placed b3
        operator purge                -> all cancelled 5; b1 Cancelled Operator 1; a2 Cancelled Operator 1
        carol buy 1@10                -> rejected instrument_halted; a1 Cancelled Operator 1; b2 Cancelled Operator 1
        bob cancel b3                 -> b3 Cancelled Requested 1
        carol buy 1@10 #c             -> placed c
        operator close                -> instrument X Closed scale 1; c Cancelled Operator 1
        carol buy 1@10                -> rejected instrument_closed
        operator trade                -> rejected instrument_closed
        balance alice USD: 10000 + 0
        balance bob ACME: 1000 + 0
        ",
    );
}

#[test]
fn the_next_deadline_is_known() {
    let mut world = World::<engine::book::FastBook>::new();
    let seconds = |seconds: u64| Some(Timestamp(NOON + seconds * Timestamp::SECOND));
    assert_eq!(world.exchange.next_deadline(), None);
    world.run("alice buy 1@10 #a gtd:60 -> placed a");
    assert_eq!(world.exchange.next_deadline(), seconds(60));
    world.run("bob cancel-after 30 -> cancel after 30");
    assert_eq!(world.exchange.next_deadline(), seconds(30));
    world.run("bob cancel-after 0 -> cancel after off");
    world.run("alice cancel a -> a Cancelled Requested 1");
    assert_eq!(world.exchange.next_deadline(), None);
    world.run("operator limits expiries=1 -> limits 2");
    world.run("alice buy 1@10 #a1 -> placed a1");
    world.run("alice buy 1@10 #a2 -> placed a2");
    world.run("operator purge -> all cancelled 2; a1 Cancelled Operator 1");
    assert_eq!(
        world.exchange.next_deadline(),
        seconds(0),
        "what is left is due at once"
    );
    world.run("clock -> clock; a2 Cancelled Operator 1");
    assert_eq!(world.exchange.next_deadline(), None);
}
