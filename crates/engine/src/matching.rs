//! Matching: an incoming order against the book, best price first, oldest first.
//!
//! Both sides settle at each fill: the base changes hands, the quote less or plus the fees, and the fees' account takes
//! or pays the difference. The taker pays from what is available (the checks saw to it that it can), the maker from what it
//! holds, of which each fill releases what is no longer needed.

use types::{Amount, CloseReason, Event, FillSide, OrderStatus, Price, Quantity, SelfTradePrevention, Side, Trade};

use crate::book::{Book, Maker, crosses};
use crate::exchange::Exchange;
use crate::ledger::{Cell, Ledger};
use crate::orders::OrderRecord;
use crate::placing::bounded;
use crate::replacing::replaced;
use crate::telling::tell;

/// Why matching ended before the taker was filled (if it wasn't).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// There is nothing more to trade with at its price.
    NothingLeft,
    /// It met an order of its own account, and its rest is to be cancelled.
    SelfTrade,
}

/// The two sides' part of one fill, in quote units.
struct Fees {
    taker: i64,
    maker: i64,
}

/// What a fill moves, in smallest units.
struct Fill {
    base: i64,
    notional: i64,
    /// What the maker no longer needs to hold.
    released: i64,
    fees: Fees,
}

impl<B: Book> Exchange<B> {
    /// Matches an order that is not in the book.
    pub(crate) fn match_taker(&mut self, taker: &mut OrderRecord, events: &mut Vec<Event>) -> Stopped {
        let at = taker.instrument.0 as usize;
        let makers = taker.side.opposite();
        let mut fills = 0;
        while taker.remaining() > 0 {
            let Some(maker) = self.instruments[at].book.best(makers) else {
                break;
            };
            if !crosses(makers, maker.price, taker.price) {
                break;
            }
            if self.overdue && self.is_dead(maker.key.0) {
                self.close_dead(maker.key.0, events);
                continue;
            }
            if maker.account == taker.account {
                match taker.self_trade_prevention {
                    SelfTradePrevention::CancelNewest => return Stopped::SelfTrade,
                    SelfTradePrevention::CancelOldest => {
                        self.close(maker.key.0, OrderStatus::Cancelled, CloseReason::SelfTrade, events);
                        continue;
                    }
                    SelfTradePrevention::CancelBoth => {
                        self.close(maker.key.0, OrderStatus::Cancelled, CloseReason::SelfTrade, events);
                        return Stopped::SelfTrade;
                    }
                    SelfTradePrevention::DecrementAndCancel => {
                        if self.decrement(taker, &maker, events) {
                            return Stopped::SelfTrade;
                        }
                        continue;
                    }
                }
            }
            self.trade(taker, &maker, fills, events);
            fills += 1;
        }
        Stopped::NothingLeft
    }

    /// Takes the smaller one's remaining quantity off both orders of an account that meet. True if nothing remains of the
    /// taker, which then ends with the rest that it had.
    fn decrement(&mut self, taker: &mut OrderRecord, maker: &Maker, events: &mut Vec<Event>) -> bool {
        let (slot, rests) = (maker.key.0, maker.remaining.0);
        if taker.remaining() >= rests {
            self.close(slot, OrderStatus::Cancelled, CloseReason::SelfTrade, events);
            if taker.remaining() == rests {
                return true;
            }
            let before = *taker;
            taker.quantity -= rests;
            tell(events, || replaced(&before, taker, true));
            return false;
        }
        let before = *self.orders.get(slot);
        let mut after = before;
        after.quantity -= taker.remaining();
        self.reduce(slot, &before, after, events);
        true
    }

    fn trade(&mut self, taker: &mut OrderRecord, maker: &Maker, index: u32, events: &mut Vec<Event>) {
        let at = taker.instrument.0 as usize;
        let slot = maker.key.0;
        let lots = taker.remaining().min(maker.remaining.0);
        let scale = self.instruments[at].scale;
        let notional = bounded(scale.notional(maker.price, lots));
        let resting = self.orders.get(slot);
        let fees = self.fees_of(taker, resting, notional);
        let held = resting.hold;

        taker.filled += lots;
        taker.filled_notional += notional;
        taker.taken_notional += notional;
        taker.fee += fees.taker;
        let resting = self.orders.change(slot, |record| {
            record.filled += lots;
            record.filled_notional += notional;
            record.fee += fees.maker;
            record.hold = record.hold_at(scale);
        });
        let fill = Fill {
            base: lots * scale.base_per_lot,
            notional,
            released: held - resting.hold,
            fees,
        };
        fill.settle(&mut self.ledger, taker, resting, self.instruments[at].fees);
        tell(events, || {
            Event::Traded(Trade {
                instrument: taker.instrument,
                index,
                price: maker.price,
                quantity: Quantity(lots),
                notional: Amount(notional),
                taker_side: taker.side,
                maker: side_of(resting, fill.fees.maker),
                taker: side_of(taker, fill.fees.taker),
            })
        });
        let (side, filled) = (resting.side, resting.remaining() == 0);
        self.set_last_price(at, maker.price);
        self.instruments[at].book.fill_best(side, Quantity(lots));
        if filled {
            self.forget(slot);
        }
    }

    /// What is new of both sides' fees; a rebate that the fees' account can't pay is paid as far as it can.
    fn fees_of(&self, taker: &OrderRecord, maker: &OrderRecord, notional: i64) -> Fees {
        let made = |record: &OrderRecord| record.filled_notional - record.taken_notional;
        let mut fees = Fees {
            taker: taker.rates.fee(taker.taken_notional + notional, made(taker), 0) - taker.fee,
            maker: maker.rates.fee(maker.taken_notional, made(maker) + notional, 0) - maker.fee,
        };
        if fees.taker < 0 || fees.maker < 0 {
            let account = self.instruments[taker.instrument.0 as usize].fees;
            let mut short = -(self.ledger.available(account) + fees.taker + fees.maker).min(0);
            for fee in [&mut fees.maker, &mut fees.taker] {
                let cut = short.min((-*fee).max(0));
                *fee += cut;
                short -= cut;
            }
        }
        fees
    }

    fn set_last_price(&mut self, at: usize, price: Price) {
        let listing = &mut self.instruments[at];
        if listing.last_price != price {
            self.sum.remove(listing.last_price_item());
            listing.last_price = price;
            self.sum.add(listing.last_price_item());
        }
    }
}

impl Fill {
    /// Moves the money.
    fn settle(&self, ledger: &mut Ledger, taker: &OrderRecord, maker: &OrderRecord, fees_account: Cell) {
        let Self {
            base,
            notional,
            released,
            ref fees,
        } = *self;
        match maker.side {
            Side::Sell => {
                ledger.change(maker.base, 0, -base);
                ledger.change(maker.quote, notional - fees.maker, 0);
                ledger.change(taker.base, base, 0);
                ledger.change(taker.quote, -notional - fees.taker, 0);
            }
            Side::Buy => {
                let spent = notional + fees.maker;
                assert!(released >= spent, "a fill never costs more than it releases");
                ledger.change(maker.quote, released - spent, -released);
                ledger.change(maker.base, base, 0);
                ledger.change(taker.base, -base, 0);
                ledger.change(taker.quote, notional - fees.taker, 0);
            }
        }
        if fees.taker + fees.maker != 0 {
            ledger.change(fees_account, fees.taker + fees.maker, 0);
        }
    }
}

fn side_of(record: &OrderRecord, fee: i64) -> FillSide {
    FillSide {
        order_id: record.order_id,
        account: record.account,
        client_order_id: record.client_order_id,
        fee: Amount(fee),
        remaining: Quantity(record.remaining()),
    }
}
