//! New orders: the checks, and what becomes of what doesn't trade at once.
//!
//! **Funds.** A limit order must be able to hold its whole worst case, see [`crate::fees`]. A market order never rests, and
//! a command sees a book that nobody else changes, so it is matched on paper first: what it would trade (up to the
//! collar, without its own account's orders) is what must be funded, for buys at the very prices of the fills, plus the
//! taker's fee. Nothing of it is ever held.

use types::{
    Command, Event, NewOrder, OrderId, OrderStatus, OrderType, Price, Quantity, RejectReason, SelfTradePrevention,
    Side, TimeInForce, Timestamp,
};

use crate::book::{Book, OrderHandle, OrderKey, OwnOrders, RestingOrder, crosses};
use crate::exchange::Exchange;
use crate::fees::Rates;
use crate::ledger::Cell;
use crate::matching::Stopped;
use crate::memory::Outcome;
use crate::orders::OrderRecord;
use crate::telling::tell;

/// What a taker could fill.
struct Liquidity {
    lots: i64,
    notional: i128,
}

impl<B: Book> Exchange<B> {
    /// Places an order.
    pub(crate) fn place(
        &mut self,
        command: &Command,
        order: &NewOrder,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, RejectReason> {
        let mut taker = self.check_new(command, order)?;
        let needed = self.check_against_book(&taker)?;
        self.open_cells(&mut taker);
        tell(events, || Event::OrderPlaced(taker.as_order(OrderStatus::Open)));
        let stopped = self.match_taker(&mut taker, events);
        if taker.remaining() == 0 {
            return Ok(Outcome::Placed);
        }
        match end_of_rest(&taker, stopped) {
            Some(reason) => tell(events, || closed(&taker, OrderStatus::Cancelled, reason)),
            None => {
                // Most orders meet nobody, and then what they hold is what they were checked to need.
                taker.hold = if taker.filled == 0 && taker.quantity == order.quantity.0 {
                    needed
                } else {
                    self.hold_of(&taker)
                };
                self.rest_new(&mut taker);
            }
        }
        Ok(Outcome::Placed)
    }

    /// An accepted order has a cell for what it pays with; for what it gets there may be none yet.
    fn open_cells(&mut self, taker: &mut OrderRecord) {
        let info = &self.instruments[taker.instrument.0 as usize].info;
        let (base, quote) = (info.base, info.quote);
        if taker.base == Cell::NONE {
            taker.base = self.ledger.open(taker.account, base);
        }
        if taker.quote == Cell::NONE {
            taker.quote = self.ledger.open(taker.account, quote);
        }
    }

    fn rest_new(&mut self, taker: &mut OrderRecord) {
        taker.identity = taker.identity_hash();
        self.ledger.change(taker.held_cell(), -taker.hold, taker.hold);
        let slot = self.orders.insert(taker, self.accounts.record(taker.account));
        self.join_book(slot);
        if taker.deadline != Timestamp::FAR_FUTURE {
            self.deadlines.add_order(taker.deadline, taker.order_id.0.sequence);
        }
    }

    /// Puts an order that is in the slab into the book, last of its price.
    pub(crate) fn join_book(&mut self, slot: u32) {
        let record = self.orders.get(slot);
        let resting = RestingOrder {
            key: OrderKey(slot),
            account: record.account,
            side: record.side,
            price: record.price,
            remaining: Quantity(record.remaining()),
        };
        let handle = self.instruments[record.instrument.0 as usize].book.insert(resting);
        self.orders.set_handle(slot, handle);
    }

    /// Sets aside what an order needs that rests from now on.
    pub(crate) fn hold(&mut self, record: &mut OrderRecord) {
        record.hold = self.hold_of(record);
        self.ledger.change(record.held_cell(), -record.hold, record.hold);
    }

    /// What an order holds once it rests.
    pub(crate) fn hold_of(&self, record: &OrderRecord) -> i64 {
        record.hold_at(self.instruments[record.instrument.0 as usize].scale)
    }

    /// The ladder of checks that need no look at the book.
    #[inline]
    fn check_new(&self, command: &Command, order: &NewOrder) -> Result<OrderRecord, RejectReason> {
        let listing = self
            .instruments
            .get(order.instrument.0 as usize)
            .ok_or(RejectReason::InstrumentUnknown)?;
        listing.check_open(order.scale_version)?;
        check_combination(order)?;
        let deadline = match order.time_in_force {
            TimeInForce::Gtd(until) if until <= self.now => return Err(RejectReason::ExpiryPassed),
            TimeInForce::Gtd(until) => until,
            TimeInForce::Day => self.now.end_of_day(),
            TimeInForce::Gtc | TimeInForce::Ioc | TimeInForce::Fok => Timestamp::FAR_FUTURE,
        };
        listing.check_quantity(order.quantity.0)?;
        let price = match order.order_type {
            OrderType::Limit => {
                listing.check_price(order.price)?;
                listing.check_notional(listing.scale.notional(order.price, order.quantity.0))?;
                order.price
            }
            OrderType::Market => listing.protection_price(order.side),
        };
        let rules = &listing.info.rules;
        let [near_base, near_quote] = self.upcoming.cells();
        let cell = |near, asset| {
            let found = self.ledger.find_near(near, command.account, asset);
            found.unwrap_or(Cell::NONE)
        };
        Ok(OrderRecord {
            quantity: order.quantity.0,
            filled: 0,
            filled_notional: 0,
            taken_notional: 0,
            fee: 0,
            hold: 0,
            identity: 0,
            item: 0,
            priority: self.position.sequence,
            price,
            order_id: OrderId(self.position),
            deadline,
            rates: Rates {
                maker: rules.maker_fee,
                taker: rules.taker_fee,
            },
            base: cell(near_base, listing.info.base),
            quote: cell(near_quote, listing.info.quote),
            account: command.account,
            instrument: order.instrument,
            handle: OrderHandle::default(),
            side: order.side,
            order_type: order.order_type,
            self_trade_prevention: order.self_trade_prevention,
            post_only: order.post_only,
            outlived: false,
            time_in_force: order.time_in_force,
            placed_at: self.now,
            client_order_id: command.request_id,
        })
    }

    /// The rest of the checks, and what the order needs: if it rests untouched, that is what it holds.
    fn check_against_book(&self, taker: &OrderRecord) -> Result<i64, RejectReason> {
        self.check_open_orders(taker)?;
        if taker.post_only && self.would_take(taker) {
            return Err(RejectReason::PostOnlyWouldTake);
        }
        self.check_funds_of_new(taker)
    }

    fn check_open_orders(&self, taker: &OrderRecord) -> Result<(), RejectReason> {
        if !may_rest(taker.time_in_force) {
            return Ok(());
        }
        let account = self.accounts.get(taker.account).ok_or(RejectReason::AccountUnknown)?;
        let full = account.open_orders >= self.rules.open_orders_per_account_max
            || self.orders.len() >= self.rules.open_orders_max as usize;
        if full {
            Err(RejectReason::OpenOrdersLimit)
        } else {
            Ok(())
        }
    }

    fn check_funds_of_new(&self, taker: &OrderRecord) -> Result<i64, RejectReason> {
        let listing = &self.instruments[taker.instrument.0 as usize];
        let needed = match taker.order_type {
            OrderType::Limit => {
                if taker.time_in_force == TimeInForce::Fok && self.fillable(taker) < taker.quantity {
                    return Err(RejectReason::FokNotFillable);
                }
                self.hold_of(taker)
            }
            OrderType::Market => {
                let found = self.liquidity(taker);
                if found.lots == 0 {
                    return Err(RejectReason::NoLiquidity);
                }
                if found.lots < taker.quantity && taker.time_in_force == TimeInForce::Fok {
                    return Err(RejectReason::FokNotFillable);
                }
                if found.notional > i128::from(listing.info.rules.notional_max) {
                    return Err(RejectReason::NotionalTooLarge);
                }
                if found.lots == taker.quantity {
                    listing.check_notional(found.notional)?;
                }
                match taker.side {
                    Side::Sell => found.lots * listing.scale.base_per_lot,
                    Side::Buy => {
                        let cost = bounded(found.notional);
                        cost + taker.rates.fee(cost, 0, 0).max(0)
                    }
                }
            }
        };
        let available = match taker.held_cell() {
            Cell::NONE => 0,
            cell => self.ledger.available(cell),
        };
        if available < needed {
            return Err(RejectReason::InsufficientFunds);
        }
        Ok(needed)
    }

    /// True if the order would meet one that is alive, whoever owns it.
    pub(crate) fn would_take(&self, taker: &OrderRecord) -> bool {
        let book = &self.instruments[taker.instrument.0 as usize].book;
        let makers = taker.side.opposite();
        if !self.overdue {
            return book
                .best_price(makers)
                .is_some_and(|price| crosses(makers, price, taker.price));
        }
        let mut crossing = book
            .orders(makers)
            .take_while(|(_, maker)| crosses(makers, maker.price, taker.price));
        crossing.any(|(_, maker)| !self.is_dead(maker.key.0))
    }

    /// How many lots the order would fill at once, after self-trade prevention.
    fn fillable(&self, taker: &OrderRecord) -> i64 {
        if self.overdue {
            return self.liquidity(taker).lots;
        }
        let own = match taker.self_trade_prevention {
            SelfTradePrevention::CancelOldest => OwnOrders::Skip(taker.account),
            // What is decremented is not filled.
            SelfTradePrevention::CancelNewest
            | SelfTradePrevention::CancelBoth
            | SelfTradePrevention::DecrementAndCancel => OwnOrders::StopAt(taker.account),
        };
        let book = &self.instruments[taker.instrument.0 as usize].book;
        book.fillable(taker.side.opposite(), taker.price, own, Quantity(taker.quantity))
            .0
    }

    /// What the order would trade at once: matching on paper.
    fn liquidity(&self, taker: &OrderRecord) -> Liquidity {
        let listing = &self.instruments[taker.instrument.0 as usize];
        let makers = taker.side.opposite();
        let mut found = Liquidity { lots: 0, notional: 0 };
        let mut wanted = taker.quantity;
        for (_, maker) in listing.book.orders(makers) {
            if found.lots >= wanted || !crosses(makers, maker.price, taker.price) {
                break;
            }
            if self.overdue && self.is_dead(maker.key.0) {
                continue;
            }
            if maker.account == taker.account {
                match taker.self_trade_prevention {
                    SelfTradePrevention::CancelOldest => continue,
                    SelfTradePrevention::CancelNewest | SelfTradePrevention::CancelBoth => break,
                    SelfTradePrevention::DecrementAndCancel => {
                        wanted -= maker.remaining.0;
                        continue;
                    }
                }
            }
            let lots = maker.remaining.0.min(wanted - found.lots);
            found.lots += lots;
            found.notional += listing.scale.notional(maker.price, lots);
        }
        found
    }
}

/// Whether what doesn't trade at once may rest.
fn may_rest(time_in_force: TimeInForce) -> bool {
    match time_in_force {
        TimeInForce::Gtc | TimeInForce::Gtd(_) | TimeInForce::Day => true,
        TimeInForce::Ioc | TimeInForce::Fok => false,
    }
}

fn check_combination(order: &NewOrder) -> Result<(), RejectReason> {
    let rests = may_rest(order.time_in_force);
    let valid = match order.order_type {
        OrderType::Limit => rests || !order.post_only,
        OrderType::Market => !rests && !order.post_only && order.price == Price(0),
    };
    if valid {
        Ok(())
    } else {
        Err(RejectReason::CombinationInvalid)
    }
}

/// Why the rest of an order is cancelled, if it doesn't rest.
pub(crate) fn end_of_rest(taker: &OrderRecord, stopped: Stopped) -> Option<types::CloseReason> {
    match stopped {
        Stopped::SelfTrade => Some(types::CloseReason::SelfTrade),
        Stopped::NothingLeft if may_rest(taker.time_in_force) => None,
        Stopped::NothingLeft => Some(types::CloseReason::Unfilled),
    }
}

/// The event of an order's end.
#[inline]
pub(crate) fn closed(record: &OrderRecord, status: OrderStatus, reason: types::CloseReason) -> Event {
    Event::OrderClosed {
        order: record.as_order(status),
        reason,
        cancelled_quantity: Quantity(record.remaining()),
    }
}

/// An amount that was checked at entry.
#[inline]
pub(crate) fn bounded(amount: i128) -> i64 {
    i64::try_from(amount).expect("price x quantity is bounded at entry")
}
