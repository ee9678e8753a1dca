//! Each request executes once, however often it comes.

use engine::book::FastBook;
use types::*;

use crate::check::{NOON, World, check};

#[test]
fn the_same_request_gets_its_first_answer() {
    check(
        "
        alice buy 10@100 #a           -> placed a
        bob sell 4@100 #b             -> placed b; 4@100 with a
        alice buy 10@100 #a           -> repeat of 18 open 4/10
        alice buy 11@100 #a           -> rejected request_id_reused
        alice buy 10@100 #a ioc       -> rejected request_id_reused
        alice buy 10@100 #a valid-until:10 -> rejected request_id_reused
        alice cancel a #a             -> rejected request_id_reused
        // The id is the account's own.
        bob buy 10@99 #a              -> placed a
        bob sell 4@100 #b             -> repeat of 19
        alice buy 900@100 #c          -> rejected quantity_too_large
        alice buy 900@100 #c          -> repeat of 27 rejected quantity_too_large
        alice buy 90@100 #c           -> rejected request_id_reused
        alice replace a 5@_ #r        -> replaced a 5@100 kept
        alice replace a 5@_ #r        -> repeat of 30
        alice cancel a #x             -> a Cancelled Requested 1
        alice cancel a #x             -> repeat of 32
        alice cancel a #y             -> rejected order_closed
        alice buy 10@100 #a           -> repeat of 18
        book X: 10@99 |
        ",
    );
}

#[test]
fn a_cancel_of_an_unknown_id_burns_it() {
    check(
        "
        alice cancel late #x          -> burnt late
        alice buy 1@10 #late          -> rejected request_id_burnt
        alice buy 1@10 #late          -> rejected request_id_burnt
        alice cancel late #x          -> repeat of 18
        alice cancel late #y          -> burnt late
        alice cancel other #late      -> rejected request_id_reused
        bob buy 1@10 #late            -> placed late
        alice cancel self #self       -> burnt self
        alice buy 1@10 #self          -> rejected request_id_burnt
        alice cancel self #self       -> repeat of 25
        // An id that no order has, but a request.
        alice cancel x                -> rejected order_unknown
        alice replace never 1@10      -> rejected order_unknown
        alice buy 1@10 #never         -> placed never
        book X: 1@10 1@10 |
        ",
    );
}

#[test]
fn valid_until_is_checked_after_the_memory() {
    check(
        "
        alice buy 1@10 #a valid-until:10 -> placed a
        wait 10
        alice buy 1@10 #b valid-until:10 -> placed b
        wait 1
        alice buy 1@10 #a valid-until:10 -> repeat of 18 open 0/1
        alice buy 1@10 #c valid-until:10 -> rejected valid_until_passed
        alice buy 1@10 #c valid-until:10 -> repeat of 21 rejected valid_until_passed
        alice buy 1@10 #d valid-until:86411 -> placed d
        alice buy 1@10 #e valid-until:86412 -> rejected valid_until_too_far
        ",
    );
}

#[test]
fn an_id_is_free_again_after_the_window_unless_its_order_is_open() {
    check(
        "
        operator limits window=100    -> limits 2
        alice buy 1@10 #a             -> placed a
        alice buy 1@11 #b             -> placed b
        alice cancel b                -> b Cancelled Requested 1
        wait 100
        alice buy 1@10 #a             -> repeat of 19 open 0/1
        // These were made under a window of a day, and keep it.
        wait 86300
        bob buy 1@5 #c                -> placed c
        wait 1
        bob buy 1@6 #d                -> placed d
        bob buy 1@7 #e                -> placed e
        bob buy 1@8 #f                -> placed f
        ",
    );
    let mut world = World::<FastBook>::new();
    world.run("alice buy 1@10 #a -> placed a");
    world.run("alice buy 1@11 #b -> placed b");
    world.run("alice cancel b #x -> b Cancelled Requested 1");
    world.wait(Timestamp::DAY + 1);
    for index in 0..20 {
        world.run(&format!("bob buy 1@5 #n{index} -> placed n{index}"));
    }
    assert_eq!(
        world.exchange.request_memory().oldest,
        Some(Timestamp(NOON + Timestamp::DAY + 1))
    );
    // Its order is open, so it stays known, and its id is taken.
    world.run("alice buy 1@10 #a -> rejected request_id_reused");
    world.run("alice buy 1@11 #b -> placed b");
    world.restart();
    world.run("alice replace a 2@_ -> replaced a 2@10 lost");
    world.run("alice cancel a -> a Cancelled Requested 2");
    world.run("alice cancel a -> burnt a");
}

#[test]
fn when_the_memory_is_full_cancels_and_operators_still_work() {
    let mut world = World::<FastBook>::new();
    world.checks_each_command = false;
    world.run("operator limits memory=1048576 -> limits 2");
    world.run("alice buy 1@10 #mine -> placed mine");
    let room = world.exchange.request_memory().entries_max;
    let mut placed = 0;
    let mut ask = |world: &mut World<FastBook>, what: &str| {
        placed += 1;
        world.run_command(&format!("alice {what} #n{placed}"))
    };
    while ask(&mut world, "buy 1@1 ioc").ends_with("notional_too_small") {}
    assert_eq!(ask(&mut world, "buy 1@10"), "rejected request_memory_full");
    assert_eq!(world.exchange.request_memory().entries, room - 2 * (room / 16) - 1);
    // A refusal for want of room leaves the id free, and what is remembered stays so.
    world.run("alice buy 1@10 #mine -> repeat of 19 open 0/1");
    world.run("alice cancel mine #free -> mine Cancelled Requested 1");
    while ask(&mut world, "cancel-all") == "all cancelled 0" {}
    assert_eq!(ask(&mut world, "cancel-all"), "rejected request_memory_full");
    world.run("operator suspend bob -> account 3 Suspended");
    world.run("operator limits memory=2097152 -> limits 3");
    world.run("alice buy 1@10 #another -> placed another");
    // Entries go when their window is over, and not before.
    world.run("operator limits memory=1048576 -> limits 4");
    world.run("alice buy 1@10 #third -> rejected request_memory_full");
    world.wait(Timestamp::DAY);
    world.run("alice buy 1@10 #third -> rejected request_memory_full");
    world.wait(1);
    for _ in 0..100 {
        ask(&mut world, "buy 1@10");
    }
    world.run("alice buy 1@10 #third -> placed third");
    world.exchange.check_invariants();
    world.restart();
}

#[test]
fn a_quarantined_command_is_refused_and_remembered() {
    let mut world = World::<FastBook>::new();
    let order = world.parse("alice buy 1@10 #a");
    assert_eq!(world.quarantine(&order), "rejected quarantined");
    world.run("alice buy 1@10 #a -> repeat of 18 rejected quarantined");
    world.run("alice cancel a -> rejected order_unknown");
    assert_eq!(world.quarantine(&Command::clock(world.now())), "rejected quarantined");
}
