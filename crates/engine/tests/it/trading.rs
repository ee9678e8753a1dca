//! Orders meet: priority, lifetimes, self-trade prevention, replaces, cancels.

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
        balance bob ACME: 996 + 0
        alice cancel a                -> a Cancelled Requested 6
        balance alice USD: 9600 + 0
        book X: |
        alice buy 3@50 #c             -> placed c
        alice cancel order:21         -> c Cancelled Requested 3
        ",
    );
}

#[test]
fn the_better_price_comes_first_and_then_the_older_order() {
    check(
        "
        alice sell 5@101 #a1          -> placed a1
        bob sell 5@100 #b1            -> placed b1
        alice sell 5@100 #a2          -> placed a2
        book X: | 5@100 5@100 5@101
        carol buy 12@101 #c           -> placed c; 5@100 with b1 filled; 5@100 with a2 filled; 2@101 with a1
        book X: | 3@101
        // The price improvement is free at once.
        balance carol USD: 8798 + 0
        ",
    );
}

#[test]
fn what_a_taker_does_not_fill_depends_on_its_time_in_force() {
    check(
        "
        alice sell 5@100 #a           -> placed a
        bob buy 8@100 #ioc ioc        -> placed ioc; 5@100 with a filled; ioc Cancelled Unfilled 3
        alice sell 5@100 #a2          -> placed a2
        bob buy 6@100 #fok fok        -> rejected fok_not_fillable
        book X: | 5@100
        bob buy 5@100 #fok2 fok       -> placed fok2; 5@100 with a2 filled
        alice sell 5@100 #a3          -> placed a3
        bob buy 8 #market             -> placed market; 5@100 with a3 filled; market Cancelled Unfilled 3
        alice sell 5@100 #a4          -> placed a4
        bob buy 8 #market2 fok        -> rejected fok_not_fillable
        bob buy 4 #market3 fok        -> placed market3; 4@100 with a4
        bob buy 2@99 #rest post-only  -> placed rest
        bob buy 2@100 #take post-only -> rejected post_only_would_take
        book X: 2@99 | 1@100
        balance bob USD: 7902 + 198
        ",
    );
}

#[test]
fn a_fill_or_kill_counts_what_is_left_after_self_trade_prevention() {
    check(
        "
        alice sell 3@100 #a1          -> placed a1
        bob sell 3@101 #b1            -> placed b1
        carol sell 3@102 #c1          -> placed c1
        bob buy 4@102 #n fok          -> rejected fok_not_fillable
        bob buy 4@102 #b fok both     -> rejected fok_not_fillable
        bob buy 7@102 #o fok oldest   -> rejected fok_not_fillable
        book X: | 3@100 3@101 3@102
        bob buy 3@102 #n2 fok         -> placed n2; 3@100 with a1 filled
        alice sell 3@100 #a2          -> placed a2
        bob buy 5@102 #o2 fok oldest  -> placed o2; 3@100 with a2 filled; b1 Cancelled SelfTrade 3; 2@102 with c1
        book X: | 1@102
        ",
    );
}

#[test]
fn what_two_orders_of_an_account_share_is_taken_off_both() {
    check(
        "
        alice buy 1@90 decrement #no      -> rejected not_in_force
        alice buy 1@90 #no                -> rejected request_id_reused
        operator engine-version 1         -> rejected engine_version_not_higher
        operator engine-version 2         -> engine version 2
        operator engine-version 2         -> rejected engine_version_not_higher
        operator engine-version 3         -> rejected engine_version_not_higher
        // The taker is smaller: it ends, and the maker keeps its place with the rest.
        bob sell 5@100 #b                 -> placed b
        alice sell 5@100 #a               -> placed a
        bob buy 2@100 decrement #t1       -> placed t1; replaced b 3@100 kept; t1 Cancelled SelfTrade 2
        book X: | 3@100 5@100
        // Both are equal: both end.
        bob buy 3@100 decrement #t2       -> placed t2; b Cancelled SelfTrade 3; t2 Cancelled SelfTrade 3
        // The maker is smaller: it ends, and the taker goes on with the rest.
        alice sell 2@99 #a2               -> placed a2
        bob sell 3@99 #b2                 -> placed b2
        bob buy 9@100 decrement #t3       -> placed t3; 2@99 with a2 filled; b2 Cancelled SelfTrade 3; replaced t3 6@100 kept; 4@100 with a
        book X: | 1@100
        bob buy 2@98 decrement #r         -> placed r
        bob sell 3@98 ioc decrement #s    -> placed s; r Cancelled SelfTrade 2; replaced s 1@98 kept; s Cancelled Unfilled 1
        // What is taken off is not filled.
        bob sell 1@99 #b3                 -> placed b3
        bob buy 2@100 fok decrement #f    -> rejected fok_not_fillable
        bob buy 2 decrement #m            -> placed m; b3 Cancelled SelfTrade 1; replaced m 1@281474976710656 kept; 1@100 with a filled
        ",
    );
}

#[test]
fn an_account_never_trades_with_itself() {
    check(
        "
        alice sell 2@99 #a            -> placed a
        bob sell 5@100 #b             -> placed b
        bob buy 4@100 #newest         -> placed newest; 2@99 with a filled; newest Cancelled SelfTrade 2
        book X: | 5@100
        bob buy 4@100 #both both      -> placed both; b Cancelled SelfTrade 5; both Cancelled SelfTrade 4
        book X: |
        bob sell 5@100 #b2            -> placed b2
        bob buy 4@100 #oldest oldest  -> placed oldest; b2 Cancelled SelfTrade 5
        book X: 4@100 |
        bob sell 4 #market            -> rejected no_liquidity
        bob buy 1@101 post-only #p    -> placed p
        bob sell 1@100 post-only #q   -> rejected post_only_would_take
        book X: 1@101 4@100 |
        ",
    );
}

#[test]
fn a_market_order_is_funded_by_what_it_trades_and_stops_at_the_collar() {
    check(
        "
        operator rules collar=100000 reference=100 -> instrument X Trading scale 1
        alice sell 50@100 #a1         -> placed a1
        alice sell 50@110 #a2         -> placed a2
        alice sell 50@111             -> rejected price_outside_collar
        // 100 x 110 would be 11,000, but these are 10,500: still more than carol has.
        carol buy 100                 -> rejected insufficient_funds
        carol buy 95                  -> placed request-23; 50@100 with a1 filled; 45@110 with a2
        balance carol USD: 50 + 0
        // The reference is now 110, so the collar has moved.
        alice sell 5@121 #a3          -> placed a3
        bob sell 5@99 #b              -> placed b
        carol sell 5@98               -> rejected price_outside_collar
        bob buy 1@121 #b2             -> placed b2; b2 Cancelled SelfTrade 1
        carol sell 500                -> rejected no_liquidity
        bob cancel b                  -> b Cancelled Requested 5
        bob buy 9 #b3                 -> placed b3; 5@110 with a2 filled; 4@121 with a3
        ",
    );
}

#[test]
fn a_replace_is_checked_whole_and_keeps_priority_only_when_it_shrinks() {
    check(
        "
        alice buy 10@100 #a           -> placed a
        bob buy 10@100 #b             -> placed b
        alice replace a 4@_           -> replaced a 4@100 kept
        balance alice USD: 9600 + 400
        book X: 4@100 10@100 |
        alice replace a 5@_           -> replaced a 5@100 lost
        book X: 10@100 5@100 |
        alice replace a _@101         -> replaced a 5@101 lost
        book X: 5@101 10@100 |
        balance alice USD: 9495 + 505
        carol sell 2@101 #c           -> placed c; 2@101 with a
        alice replace a 2@_           -> rejected quantity_not_above_filled
        alice replace a 5@101         -> rejected nothing_to_change
        alice replace a 100@150       -> rejected insufficient_funds
        alice replace a 501@_         -> rejected quantity_too_large
        alice replace a 4@_           -> replaced a 4@101 kept
        book X: 2@101 10@100 |
        carol sell 5@102 #c2          -> placed c2
        alice replace a _@102 post-only -> rejected post_only_would_take
        book X: 2@101 10@100 | 5@102
        alice replace a 9@103         -> replaced a 9@103 lost; 5@102 with c2 filled
        book X: 2@103 10@100 |
        alice sell 3@104 #own         -> placed own
        alice replace own _@103       -> replaced own 3@103 lost; own Cancelled SelfTrade 3
        alice replace own _@105       -> rejected order_closed
        bob replace a 1@_             -> rejected order_unknown
        bob replace order:18 1@_      -> rejected order_unknown
        alice replace a 7@_           -> rejected quantity_not_above_filled
        alice replace a 8@_           -> replaced a 8@103 kept
        book X: 1@103 10@100 |
        ",
    );
}

#[test]
fn cancels_take_one_all_or_those_of_an_instrument() {
    check(
        "
        alice buy 1@10 #a1            -> placed a1
        alice sell 1@20 #a2           -> placed a2
        bob buy 1@10 #b1              -> placed b1
        bob cancel order:18           -> rejected order_unknown
        bob cancel a1                 -> burnt a1
        alice cancel-all X            -> all cancelled 2; a1 Cancelled Requested 1; a2 Cancelled Requested 1
        alice cancel-all              -> all cancelled 0
        alice cancel a1               -> rejected order_closed
        alice cancel order:18         -> rejected order_closed
        bob cancel order:18           -> rejected order_unknown
        alice cancel order:1000       -> rejected order_unknown
        alice cancel order:6          -> rejected order_unknown
        balance alice USD: 10000 + 0
        balance alice ACME: 1000 + 0
        book X: 1@10 |
        ",
    );
}
