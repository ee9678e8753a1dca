//! Every way in which an open order ends without being filled: cancels, expiries, dead man's switches, emptied books.

use types::limits::CANCEL_AFTER_NS_MAX;
use types::{
    AccountId, CancelAfter, CancelAll, CloseReason, Command, Event, InstrumentId, InstrumentStatus, OrderId,
    OrderStatus, OrderTarget, RejectReason, RequestId, Side, Timestamp,
};

use crate::book::Book;
use crate::deadlines::Due;
use crate::exchange::{Exchange, client_order};
use crate::memory::Outcome;
use crate::placing::closed;
use crate::telling::tell;

/// Why a client order id names no open order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpen {
    /// Its order came to its end.
    Closed,
    /// It is the id of a request that made no order.
    NoOrder,
    /// It is burnt.
    Burnt,
    /// Nobody knows it.
    Unknown,
}

impl<B: Book> Exchange<B> {
    /// Cancels one order, or burns the id of one that is unknown.
    pub(crate) fn cancel(
        &mut self,
        command: &Command,
        target: &OrderTarget,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, RejectReason> {
        let account = command.account;
        let slot = match target {
            OrderTarget::OrderId(order_id) => self.find_order(account, *order_id)?,
            OrderTarget::ClientOrderId(client_order_id) => {
                let request = self.target_request(account, client_order_id);
                match self.find_requested(request) {
                    Ok(slot) => slot,
                    Err(NotOpen::Closed) => return Err(RejectReason::OrderClosed),
                    Err(NotOpen::NoOrder) => return Err(RejectReason::OrderUnknown),
                    Err(missing @ (NotOpen::Burnt | NotOpen::Unknown)) => {
                        events.push(Event::ClientOrderIdBurnt {
                            account,
                            client_order_id: *client_order_id,
                        });
                        if command.request_id == *client_order_id {
                            return Ok(Outcome::DoneAndBurnt);
                        }
                        if missing == NotOpen::Unknown {
                            self.burn(account, request);
                        }
                        return Ok(Outcome::Done);
                    }
                }
            }
        };
        self.check_alive(slot)?;
        self.close(slot, OrderStatus::Cancelled, CloseReason::Requested, events);
        Ok(Outcome::Done)
    }

    /// The slot of the account's open order that is to be replaced.
    pub(crate) fn find_own(&mut self, account: AccountId, target: &OrderTarget) -> Result<u32, RejectReason> {
        let slot = match target {
            OrderTarget::OrderId(order_id) => self.find_order(account, *order_id)?,
            OrderTarget::ClientOrderId(client_order_id) => {
                match self.find_requested(self.target_request(account, client_order_id)) {
                    Ok(slot) => slot,
                    Err(NotOpen::Closed) => return Err(RejectReason::OrderClosed),
                    Err(NotOpen::NoOrder | NotOpen::Burnt | NotOpen::Unknown) => {
                        return Err(RejectReason::OrderUnknown);
                    }
                }
            }
        };
        self.check_alive(slot)?;
        Ok(slot)
    }

    /// The hash of the client order id that the running command of this account names.
    fn target_request(&self, account: AccountId, client_order_id: &RequestId) -> [u64; 2] {
        let known = self.upcoming.target(client_order_id);
        known.unwrap_or_else(|| self.memory.request(account, client_order_id))
    }

    /// An order whose time is over counts as closed, and is closed now: the answer comes first, its end after it.
    fn check_alive(&mut self, slot: u32) -> Result<(), RejectReason> {
        if self.overdue && self.is_dead(slot) {
            let mut late = std::mem::take(&mut self.late);
            self.close_dead(slot, &mut late);
            self.late = late;
            return Err(RejectReason::OrderClosed);
        }
        Ok(())
    }

    fn find_order(&self, account: AccountId, order_id: OrderId) -> Result<u32, RejectReason> {
        if let Some(slot) = self.orders.find(order_id) {
            let own = self.orders.get(slot).account == account;
            return if own { Ok(slot) } else { Err(RejectReason::OrderUnknown) };
        }
        // Whether it is one of the account's that ended, only the memory of requests knows.
        let placed = self.memory.find_sequence(order_id.0.sequence).is_some_and(|entry| {
            entry.outcome == Outcome::Placed && entry.account == account && entry.epoch == order_id.0.epoch
        });
        Err(if placed {
            RejectReason::OrderClosed
        } else {
            RejectReason::OrderUnknown
        })
    }

    /// The slot of the account's open order of this client order id.
    pub(crate) fn find_client_order(&self, account: AccountId, id: &RequestId) -> Result<u32, NotOpen> {
        self.find_requested(self.memory.request(account, id))
    }

    /// The slot of the open order that this request placed.
    fn find_requested(&self, request: [u64; 2]) -> Result<u32, NotOpen> {
        if let Some(entry) = self.memory.find(request) {
            return match entry.outcome {
                Outcome::Placed => self.orders.find_sequence(entry.sequence).ok_or(NotOpen::Closed),
                Outcome::Done => Err(NotOpen::NoOrder),
                Outcome::Burnt | Outcome::DoneAndBurnt => Err(NotOpen::Burnt),
            };
        }
        self.orders.find_outlived(client_order(request)).ok_or(NotOpen::Unknown)
    }

    /// A client cancels all of its orders, or those of one instrument.
    pub(crate) fn cancel_all(
        &mut self,
        account: AccountId,
        all: &CancelAll,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, RejectReason> {
        self.check_instrument(all.instrument)?;
        self.close_all_of(account, all.instrument, CloseReason::Requested, events);
        Ok(Outcome::Done)
    }

    /// An operator cancels orders of an account, of an instrument, or of both together.
    pub(crate) fn cancel_all_for(
        &mut self,
        account: Option<AccountId>,
        instrument: Option<InstrumentId>,
        events: &mut Vec<Event>,
    ) -> Result<(), RejectReason> {
        self.check_instrument(instrument)?;
        match (account, instrument) {
            (Some(account), _) => {
                self.accounts.get(account).ok_or(RejectReason::AccountUnknown)?;
                self.close_all_of(account, instrument, CloseReason::Operator, events);
            }
            (None, Some(id)) => {
                let listing = &self.instruments[id.0 as usize];
                events.push(Event::AllCancelled {
                    account,
                    instrument,
                    count: u32::try_from(listing.book.len()).unwrap_or(u32::MAX),
                });
                if !listing.book.is_empty() {
                    self.start_purge(id);
                }
            }
            (None, None) => return Err(RejectReason::CombinationInvalid),
        }
        Ok(())
    }

    fn check_instrument(&self, instrument: Option<InstrumentId>) -> Result<(), RejectReason> {
        match instrument {
            Some(id) if id.0 as usize >= self.instruments.len() => Err(RejectReason::InstrumentUnknown),
            _ => Ok(()),
        }
    }

    fn close_all_of(
        &mut self,
        account: AccountId,
        instrument: Option<InstrumentId>,
        reason: CloseReason,
        events: &mut Vec<Event>,
    ) {
        let answer = events.len();
        events.push(Event::AllCancelled {
            account: Some(account),
            instrument,
            count: 0,
        });
        let closed = self.close_some_of(account, instrument, reason, usize::MAX, events);
        if let Event::AllCancelled { count, .. } = &mut events[answer] {
            *count = u32::try_from(closed).expect("open orders are bounded");
        }
    }

    /// Closes at most so many of an account's orders, in the order of placing, and tells how many.
    pub(crate) fn close_some_of(
        &mut self,
        account: AccountId,
        instrument: Option<InstrumentId>,
        reason: CloseReason,
        orders_max: usize,
        events: &mut Vec<Event>,
    ) -> usize {
        let record = self.accounts.record(account);
        let mut next = (record.open_orders > 0).then_some(record.first);
        let mut closed = 0;
        while let Some(slot) = next
            && closed < orders_max
        {
            next = self.orders.after(slot);
            if instrument.is_none_or(|id| self.orders.get(slot).instrument == id) {
                if self.orders.get(slot).deadline <= self.now {
                    self.close(slot, OrderStatus::Expired, CloseReason::Expired, events);
                } else {
                    self.close(slot, OrderStatus::Cancelled, reason, events);
                }
                closed += 1;
            }
        }
        closed
    }

    /// Sets, moves or switches off the account's dead man's switch.
    pub(crate) fn cancel_after(
        &mut self,
        account: AccountId,
        after: &CancelAfter,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, RejectReason> {
        if after.after_ns > CANCEL_AFTER_NS_MAX {
            return Err(RejectReason::DeadlineTooFar);
        }
        let deadline = match after.after_ns {
            0 => Timestamp::FAR_FUTURE,
            after_ns => self.now.plus_ns(after_ns),
        };
        self.set_switch(account, deadline);
        events.push(Event::CancelAfterSet {
            account,
            deadline: (deadline != Timestamp::FAR_FUTURE).then_some(deadline),
        });
        Ok(Outcome::Done)
    }

    fn set_switch(&mut self, account: AccountId, deadline: Timestamp) {
        let before = self.accounts.record(account).cancel_after;
        self.accounts.set_cancel_after(account, deadline);
        self.deadlines.move_account(account, before, deadline);
    }

    /// If the account's switch is due, its orders go before its command is executed, and are told of after it.
    pub(crate) fn fire_switch_first(&mut self, account: AccountId) {
        if self.overdue && self.accounts.record(account).cancel_after <= self.now {
            let mut late = std::mem::take(&mut self.late);
            self.fire_switch(account, usize::MAX, &mut late);
            self.late = late;
        }
    }

    /// Cancels at most so many orders of an account whose switch is due; once none is left, the switch is off.
    fn fire_switch(&mut self, account: AccountId, orders_max: usize, events: &mut Vec<Event>) -> usize {
        let closed = self.close_some_of(account, None, CloseReason::CancelAfter, orders_max, events);
        if self.accounts.record(account).open_orders == 0 {
            self.set_switch(account, Timestamp::FAR_FUTURE);
            events.push(Event::CancelAfterSet {
                account,
                deadline: None,
            });
        }
        closed
    }

    /// From now on the instrument takes no orders until all that it has are cancelled.
    pub(crate) fn start_purge(&mut self, instrument: InstrumentId) {
        self.set_purging(instrument, true);
        self.deadlines.start_purge(instrument);
    }

    fn set_purging(&mut self, instrument: InstrumentId, purging: bool) {
        let listing = &mut self.instruments[instrument.0 as usize];
        self.sum.remove(listing.item());
        listing.purging = purging;
        self.sum.add(listing.item());
    }

    /// Cancels at most so many orders of an instrument, best first; once none is left, it takes orders again.
    fn purge(&mut self, instrument: InstrumentId, orders_max: usize, events: &mut Vec<Event>) -> usize {
        let mut closed = 0;
        while closed < orders_max {
            let book = &self.instruments[instrument.0 as usize].book;
            let Some(order) = book.best(Side::Buy).or_else(|| book.best(Side::Sell)) else {
                break;
            };
            self.close(order.key.0, OrderStatus::Cancelled, CloseReason::Operator, events);
            closed += 1;
        }
        if self.instruments[instrument.0 as usize].book.is_empty() {
            self.set_purging(instrument, false);
            self.deadlines.end_purge(instrument);
        }
        closed
    }

    /// Does what is due, up to the rules' bound. See [`crate::deadlines`].
    pub(crate) fn sweep(&mut self, events: &mut Vec<Event>) {
        let mut left = self.rules.expiries_per_command_max as usize;
        while left > 0
            && let Some(due) = self.deadlines.due(self.now)
        {
            let closed = match due {
                Due::Order(sequence) => {
                    let slot = self
                        .orders
                        .find_sequence(sequence)
                        .expect("only open orders have deadlines");
                    self.close(slot, OrderStatus::Expired, CloseReason::Expired, events);
                    1
                }
                Due::Account(account) => self.fire_switch(account, left, events),
                Due::Purge(instrument) => self.purge(instrument, left, events),
            };
            // A switch without orders is work too.
            left = left.saturating_sub(closed.max(1));
        }
    }

    /// True if the order's time is over, though the sweep hasn't reached it yet.
    pub(crate) fn is_dead(&self, slot: u32) -> bool {
        let record = self.orders.get(slot);
        let account = self.accounts.get(record.account).expect("orders belong to accounts");
        record.deadline <= self.now || account.cancel_after <= self.now
    }

    /// Closes an order whose time is over.
    pub(crate) fn close_dead(&mut self, slot: u32, events: &mut Vec<Event>) {
        if self.orders.get(slot).deadline <= self.now {
            self.close(slot, OrderStatus::Expired, CloseReason::Expired, events);
        } else {
            self.close(slot, OrderStatus::Cancelled, CloseReason::CancelAfter, events);
        }
    }

    /// Takes an order out of the book, releases what it holds, forgets and tells it.
    pub(crate) fn close(&mut self, slot: u32, status: OrderStatus, reason: CloseReason, events: &mut Vec<Event>) {
        let record = self.orders.get(slot);
        self.instruments[record.instrument.0 as usize]
            .book
            .cancel(record.handle);
        self.ledger.change(record.held_cell(), record.hold, -record.hold);
        tell(events, || closed(record, status, reason));
        self.forget(slot);
    }

    /// Forgets an order that is in no book any more.
    pub(crate) fn forget(&mut self, slot: u32) {
        let record = self.orders.get(slot);
        if record.deadline != Timestamp::FAR_FUTURE {
            self.deadlines.remove_order(record.deadline, record.order_id.0.sequence);
        }
        let account = self.accounts.record(record.account);
        let memory = &self.memory;
        self.orders.remove(slot, account, |record| {
            client_order(memory.request(record.account, &record.client_order_id))
        });
    }

    /// What an instrument's new status means for its orders.
    pub(crate) fn close_instrument_if_final(&mut self, instrument: InstrumentId) {
        let listing = &self.instruments[instrument.0 as usize];
        if listing.info.status == InstrumentStatus::Closed && !listing.book.is_empty() {
            self.start_purge(instrument);
        }
    }
}
