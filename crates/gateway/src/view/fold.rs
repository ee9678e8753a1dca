//! The writer's side of the view: how each command's events change it.

use std::collections::VecDeque;
use std::sync::Arc;

use types::limits::BATCH_COMMANDS_MAX;
use types::{AccountId, AppliedBatch, Event, InstrumentId, Order, Position, Sequence, Timestamp};

use super::account::{AccountSlot, PrivateStream, StreamSet};
use super::levels::{LevelChange, LevelChanges};
use super::market::{Market, TradeRecord};
use super::{SequenceGap, View, ViewLimits, locked, write};

/// Room for what a batch adds before the oldest is dropped. More than that only costs a copy.
const EVENTS_OF_A_BATCH: usize = 2 * BATCH_COMMANDS_MAX;

/// What only the writer needs.
#[derive(Debug)]
pub(super) struct Folder {
    position: Position,
    /// The tables that the view shows to readers, here without a lock.
    pub(super) markets: Vec<Arc<Market>>,
    pub(super) accounts: Vec<Arc<AccountSlot>>,
    /// Whose index entries are the oldest of all.
    pub(super) indexed: VecDeque<AccountId>,
    /// Whose book updates are the oldest of all.
    updated: VecDeque<InstrumentId>,
    changes: LevelChanges,
    /// Accounts that a command concerns, with the index of the event.
    touches: Vec<(AccountId, u32)>,
    closed: Vec<Order>,
    /// Whom the batch concerns.
    rung_books: Vec<InstrumentId>,
    rung_trades: Vec<InstrumentId>,
    rung_accounts: Vec<(AccountId, PrivateStream)>,
}

impl Folder {
    pub(super) fn new(limits: &ViewLimits, position: Position) -> Self {
        Self {
            position,
            markets: Vec::new(),
            accounts: Vec::new(),
            // At their full size from the beginning: growing would copy all of it while orders wait for the processor.
            indexed: VecDeque::with_capacity(limits.indexed_events + EVENTS_OF_A_BATCH),
            updated: VecDeque::with_capacity(limits.book_updates + EVENTS_OF_A_BATCH),
            changes: LevelChanges::default(),
            touches: Vec::new(),
            closed: Vec::new(),
            rung_books: Vec::new(),
            rung_trades: Vec::new(),
            rung_accounts: Vec::new(),
        }
    }

    /// The last command that was folded.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Takes in the present state, told as events.
    pub(super) fn take_facts(&mut self, view: &View, facts: &[Event]) {
        self.fold_reference(view, facts, Sequence(0));
        for event in facts {
            match event {
                Event::OrderPlaced(order) => {
                    locked(&self.account(view, order.account).state).orders.insert(*order);
                    let change = LevelChange {
                        quantity: order.remaining().0,
                        order_count: 1,
                    };
                    let market = &self.markets[order.instrument.0 as usize];
                    locked(&market.state).levels.apply(order.side, order.price, change);
                }
                _ => {
                    if let Some(id) = event.account() {
                        locked(&self.account(view, id).state).apply(id, event);
                    }
                }
            }
        }
        for slot in &self.accounts {
            locked(&slot.state).index.start_after(self.position.sequence);
        }
        for market in &self.markets {
            let mut state = locked(&market.state);
            state.trades.start_after(self.position.sequence, None);
            state.updates.start_after(self.position.sequence, None);
        }
    }

    /// Folds the commands of a batch that are new.
    pub(super) fn fold(&mut self, view: &View, batch: &AppliedBatch) -> Result<(), SequenceGap> {
        let expected = self.position.sequence.next();
        let found = batch.header.first_sequence;
        if found > expected {
            return Err(SequenceGap { expected, found });
        }
        if batch.header.epoch != self.position.epoch {
            write(&view.epochs).learn(found, batch.header.epoch);
        }
        let known = usize::try_from(expected.0 - found.0).unwrap_or(usize::MAX);
        for index in known..batch.commands.len() {
            let position = batch.header.position(u32::try_from(index).expect("a batch is bounded"));
            self.fold_command(view, position, batch.header.sequenced_at, batch.events_of(index));
            self.position = position;
        }
        Ok(())
    }

    /// Rings the bells of those whom the folded batch concerns.
    pub(super) fn ring(&mut self, view: &View) {
        for rung in [&mut self.rung_books, &mut self.rung_trades] {
            rung.sort_unstable();
            rung.dedup();
        }
        self.rung_accounts.sort_unstable();
        self.rung_accounts.dedup();
        for id in self.rung_books.drain(..) {
            self.markets[id.0 as usize].book_listeners.ring();
        }
        for id in self.rung_trades.drain(..) {
            self.markets[id.0 as usize].trade_listeners.ring();
        }
        for (id, stream) in self.rung_accounts.drain(..) {
            self.accounts[id.0 as usize].listeners[stream as usize].ring();
        }
        self.trim(view);
    }

    fn fold_command(&mut self, view: &View, position: Position, sequenced_at: Timestamp, events: &[Event]) {
        self.changes.clear();
        self.touches.clear();
        let mut reference_changed = false;
        let mut traded = false;
        for (index, event) in events.iter().enumerate() {
            let index = u32::try_from(index).expect("the events of a command are bounded");
            self.changes.add(event);
            match event {
                Event::Traded(trade) => {
                    traded = true;
                    self.touches.push((trade.maker.account, index));
                    self.touches.push((trade.taker.account, index));
                }
                Event::OrderPlaced(_)
                | Event::OrderReplaced { .. }
                | Event::OrderClosed { .. }
                | Event::BalanceChanged { .. }
                | Event::CancelAfterSet { .. } => {
                    self.touches
                        .push((event.account().expect("it is of an account"), index));
                }
                Event::AccountChanged(account) => self.touches.push((account.id, index)),
                Event::AssetCreated(_)
                | Event::InstrumentChanged(_)
                | Event::KeyChanged(_)
                | Event::RulesChanged(_)
                | Event::EngineVersionChanged(_) => reference_changed = true,
                Event::ClockAdvanced
                | Event::Rejected { .. }
                | Event::Repeated { .. }
                | Event::AllCancelled { .. }
                | Event::ClientOrderIdBurnt { .. } => {}
            }
        }
        if reference_changed {
            self.fold_reference(view, events, position.sequence);
        }
        self.fold_accounts(view, position, events);
        self.fold_markets(view, position, sequenced_at, events, traded);
    }

    fn fold_reference(&mut self, view: &View, events: &[Event], at: Sequence) {
        let mut reference = (**view.reference.load()).clone();
        for event in events {
            match event {
                Event::AssetCreated(asset) => reference.add_asset(*asset),
                Event::InstrumentChanged(instrument) => {
                    reference.set_instrument(*instrument, at);
                    if self.markets.len() <= instrument.id.0 as usize {
                        let market = Arc::new(Market::default());
                        self.markets.push(Arc::clone(&market));
                        write(&view.markets).push(market);
                    }
                }
                Event::KeyChanged(key) => {
                    write(&view.keys).insert(key.id, Arc::new(key.clone()));
                }
                Event::RulesChanged(rules) => reference.set_rules(*rules),
                Event::EngineVersionChanged(version) => reference.set_engine_version(*version),
                _ => {}
            }
        }
        view.reference.store(Arc::new(reference));
    }

    fn fold_accounts(&mut self, view: &View, position: Position, events: &[Event]) {
        let mut touches = std::mem::take(&mut self.touches);
        touches.sort_by_key(|(account, _)| *account);
        for touched in touches.chunk_by(|left, right| left.0 == right.0) {
            let id = touched[0].0;
            let slot = Arc::clone(self.account(view, id));
            let mut streams = StreamSet::default();
            let mut state = locked(&slot.state);
            for (_, index) in touched {
                let event = &events[*index as usize];
                streams.add(event);
                self.closed.extend(state.apply(id, event));
            }
            state.touched = position;
            if streams.is_empty() {
                continue;
            }
            state.index.push(position.sequence, streams);
            drop(state);
            self.indexed.push_back(id);
            let rung = PrivateStream::ALL
                .into_iter()
                .filter(|stream| streams.contains(*stream));
            self.rung_accounts.extend(rung.map(|stream| (id, stream)));
        }
        self.touches = touches;
        if !self.closed.is_empty() {
            let mut closed = locked(&view.closed);
            for order in self.closed.drain(..) {
                closed.push(&order, position.sequence);
            }
        }
    }

    fn fold_markets(
        &mut self,
        view: &View,
        position: Position,
        sequenced_at: Timestamp,
        events: &[Event],
        traded: bool,
    ) {
        for changes in self
            .changes
            .sums()
            .chunk_by(|left, right| left.0.instrument == right.0.instrument)
        {
            let id = changes[0].0.instrument;
            let mut state = locked(&self.markets[id.0 as usize].state);
            state.change_levels(changes, position, sequenced_at);
            drop(state);
            self.updated.push_back(id);
            self.rung_books.push(id);
        }
        if !traded {
            return;
        }
        for (id, trades) in trades_of(events, position, sequenced_at) {
            let mut state = locked(&self.markets[id.0 as usize].state);
            state.add_trades(trades, position, sequenced_at, view.limits.trades_per_instrument);
            drop(state);
            self.rung_trades.push(id);
        }
    }

    /// Drops what is beyond the limits, the oldest first.
    pub(super) fn trim(&mut self, view: &View) {
        while self.indexed.len() > view.limits.indexed_events {
            let id = self.indexed.pop_front().expect("it is not empty");
            locked(&self.accounts[id.0 as usize].state).index.drop_oldest();
        }
        while self.updated.len() > view.limits.book_updates {
            let id = self.updated.pop_front().expect("it is not empty");
            locked(&self.markets[id.0 as usize].state).updates.drop_oldest();
        }
    }

    /// The slot of an account, made when it is first heard of.
    pub(super) fn account(&mut self, view: &View, id: AccountId) -> &Arc<AccountSlot> {
        let index = id.0 as usize;
        if self.accounts.len() <= index {
            let mut shown = write(&view.accounts);
            while self.accounts.len() <= index {
                let slot = Arc::new(AccountSlot::default());
                self.accounts.push(Arc::clone(&slot));
                shown.push(slot);
            }
        }
        &self.accounts[index]
    }
}

/// The trades of a command, by instrument.
pub(super) fn trades_of(
    events: &[Event],
    position: Position,
    sequenced_at: Timestamp,
) -> Vec<(InstrumentId, Vec<TradeRecord>)> {
    let mut by_instrument: Vec<(InstrumentId, Vec<TradeRecord>)> = Vec::new();
    for event in events {
        let Event::Traded(trade) = event else {
            continue;
        };
        let record = TradeRecord::new(trade, position, sequenced_at);
        match by_instrument.iter_mut().find(|(id, _)| *id == trade.instrument) {
            Some((_, trades)) => trades.push(record),
            None => by_instrument.push((trade.instrument, vec![record])),
        }
    }
    by_instrument
}
