//! Orders meet.

use crate::check::check;

#[test]
fn orders_rest_trade_and_are_cancelled() {
    check(
        "
        alice buy 10@100 #a           -> placed a
        bob sell 4@100 #b             -> placed b; 4@100 with a
        book X: 6@100 |
        balance alice USD: 9000 + 600
        balance alice ACME: 1004 + 0
        balance bob USD: 10400 + 0
        alice cancel a                -> a Cancelled Requested 6
        balance alice USD: 9600 + 0
        book X: |
        ",
    );
}
