//! What trades cost.

use crate::check::check;

#[test]
fn fees_add_up_to_what_one_fill_would_have_cost() {
    check(
        "
        operator rules maker=1000 taker=2000 -> instrument X Trading scale 1
        // 10 x 100 and the worse rate: 2.
        alice buy 10@100 #a           -> placed a
        balance alice USD: 8998 + 1002
        // 0.1 is rounded up once and then nothing is due until 1 is exceeded.
        bob sell 1@100 #b1            -> placed b1; 1@100 with a fees 1 1
        bob sell 1@100 #b2            -> placed b2; 1@100 with a fees 0 1
        balance alice USD: 8998 + 801
        bob sell 8@100 #b3            -> placed b3; 8@100 with a filled fees 0 2
        balance alice USD: 8999 + 0
        balance bob USD: 10996 + 0
        balance fees USD: 5 + 0
        ",
    );
}

#[test]
fn a_fee_is_never_above_the_hold() {
    check(
        "
        operator rules taker=100000 -> instrument X Trading scale 1
        alice sell 50@100 #a1         -> placed a1
        alice sell 50@101 #a2         -> placed a2
        bob buy 91@100                -> rejected insufficient_funds
        bob buy 90@100 #b             -> placed b; 50@100 with a1 filled fees 0 500
        balance bob USD: 100 + 4400
        // 40 x 101 and a tenth of it is 4,444.
        bob replace b 90@101          -> replaced b 90@101 lost; 40@101 with a2 fees 0 404
        balance bob USD: 56 + 0
        alice sell 100@100 #a3        -> placed a3
        carol buy 91                  -> rejected insufficient_funds
        carol buy 90 #c               -> placed c; 90@100 with a3 fees 0 900
        balance carol USD: 100 + 0
        ",
    );
}

#[test]
fn a_rebate_is_paid_from_what_was_collected_and_not_beyond() {
    check(
        "
        operator rules maker=-1000 taker=1000 -> instrument X Trading scale 1
        alice sell 100@100 #a         -> placed a
        bob buy 10@100 #b1            -> placed b1; 10@100 with a fees -1 1
        balance fees USD: 0 + 0
        // The taker's fee is rounded up, so the account has one more than it must pay.
        bob buy 5@100 #b2             -> placed b2; 5@100 with a fees 0 1
        balance fees USD: 1 + 0
        operator withdraw fees USD 1  -> Withdrawal 0 + 0
        // The orders of old rates still get their rebate, now out of nothing.
        operator rules maker=0 taker=0 -> instrument X Trading scale 1
        bob buy 15@100 #b3            -> placed b3; 15@100 with a
        operator deposit fees USD 1   -> Deposit 1 + 0
        bob buy 10@100 #b4            -> placed b4; 10@100 with a fees -1 0
        operator deposit fees USD 50  -> Deposit 50 + 0
        // What was short is made good as soon as it can be.
        bob buy 10@100 #b5            -> placed b5; 10@100 with a fees -3 0
        balance fees USD: 47 + 0
        ",
    );
}

#[test]
fn an_order_keeps_the_rates_under_which_it_was_placed() {
    check(
        "
        alice buy 10@100 #a           -> placed a
        operator rules maker=50000 taker=50000 -> instrument X Trading scale 1
        bob sell 5@100 #b             -> placed b; 5@100 with a fees 0 25
        alice replace a 20@_          -> replaced a 20@100 lost
        balance alice USD: 8000 + 1500
        bob sell 15@100 #b2           -> placed b2; 15@100 with a filled fees 0 75
        balance alice USD: 8000 + 0
        ",
    );
}
