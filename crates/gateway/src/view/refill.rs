//! What the view knows of the past after a start: read once from the event log, before the first batch is folded.

use std::collections::HashMap;

use types::{Event, FillSide, Order, OrderId, OrderStatus, Position, Sequence, Timestamp, Trade};

use crate::handle::{History, HistoryError};

use super::account::{StreamSet, add_fill};
use super::fold::{Folder, trades_of};
use super::levels::LevelChanges;
use super::{View, locked, write};

/// How many bytes are read from the event log at a time.
const READ_BYTES: usize = 1 << 20;

impl View {
    /// Fills the last trades, the closed orders and the index of the accounts' events from the event log. Blocks; to be
    /// called once, before the first `publish`, when the log reaches up to the view's position.
    pub fn refill(&self, history: &dyn History) -> Result<(), HistoryError> {
        let mut folder = locked(&self.folder);
        let last = folder.position().sequence;
        let oldest = Sequence(last.0.saturating_sub(self.limits.refill_commands) + 1);
        let first = history.first().max(oldest);
        let mut refill = Refill::new(self, &mut folder);
        let mut next = first;
        while next <= last {
            let batches = history.read(next, READ_BYTES)?;
            if batches.is_empty() {
                return Err(HistoryError::Rebuilding);
            }
            for batch in &batches {
                let skipped = usize::try_from(next.0 - batch.header.first_sequence.0).unwrap_or(usize::MAX);
                write(&self.epochs).learn(next, batch.header.epoch);
                for index in skipped..batch.commands.len() {
                    let position = batch.header.position(u32::try_from(index).expect("a batch is bounded"));
                    if position.sequence <= last {
                        refill.command(position, batch.header.sequenced_at, batch.events_of(index));
                    }
                }
                next = batch.header.last_sequence().next();
            }
        }
        refill.finish(Sequence(first.0 - 1));
        Ok(())
    }
}

/// A pass over the past.
struct Refill<'a> {
    view: &'a View,
    folder: &'a mut Folder,
    reference: super::Reference,
    changes: LevelChanges,
    /// Orders that were placed in the part that is read, and are open where the pass is.
    orders: HashMap<OrderId, Order>,
    /// The last command that changed each book.
    last_updates: Vec<Option<Position>>,
    touches: Vec<(types::AccountId, u32)>,
}

impl<'a> Refill<'a> {
    fn new(view: &'a View, folder: &'a mut Folder) -> Self {
        for slot in &folder.accounts {
            locked(&slot.state).index.start_after(Sequence(0));
        }
        for market in &folder.markets {
            locked(&market.state).trades.start_after(Sequence(0), None);
        }
        Self {
            reference: (**view.reference.load()).clone(),
            changes: LevelChanges::default(),
            orders: HashMap::new(),
            last_updates: vec![None; folder.markets.len()],
            touches: Vec::new(),
            view,
            folder,
        }
    }

    fn command(&mut self, position: Position, sequenced_at: Timestamp, events: &[Event]) {
        self.changes.clear();
        self.touches.clear();
        for (index, event) in events.iter().enumerate() {
            let index = u32::try_from(index).expect("the events of a command are bounded");
            self.changes.add(event);
            match event {
                Event::OrderPlaced(order) | Event::OrderReplaced { order, .. } => {
                    self.orders.insert(order.order_id, *order);
                }
                Event::Traded(trade) => {
                    self.touches.push((trade.maker.account, index));
                    self.touches.push((trade.taker.account, index));
                    for side in [&trade.maker, &trade.taker] {
                        self.fill(side, trade, position.sequence);
                    }
                }
                Event::OrderClosed { order, .. } => {
                    self.orders.remove(&order.order_id);
                    locked(&self.view.closed).push(order, position.sequence);
                }
                Event::InstrumentChanged(instrument) => {
                    self.reference.recall_instrument(*instrument, position.sequence);
                }
                _ => {}
            }
            if let Some(account) = event.account() {
                self.touches.push((account, index));
            }
        }
        for (key, _) in self.changes.sums() {
            self.last_updates[key.instrument.0 as usize] = Some(position);
        }
        for (id, trades) in trades_of(events, position, sequenced_at) {
            let mut state = locked(&self.folder.markets[id.0 as usize].state);
            state.add_trades(trades, position, sequenced_at, self.view.limits.trades_per_instrument);
        }
        self.index(position.sequence, events);
    }

    fn index(&mut self, sequence: Sequence, events: &[Event]) {
        self.touches.sort_by_key(|(account, _)| *account);
        for touched in self.touches.chunk_by(|left, right| left.0 == right.0) {
            let mut streams = StreamSet::default();
            for (_, index) in touched {
                streams.add(&events[*index as usize]);
            }
            if !streams.is_empty() {
                let id = touched[0].0;
                let slot = self.folder.account(self.view, id);
                locked(&slot.state).index.push(sequence, streams);
                self.folder.indexed.push_back(id);
            }
        }
        self.folder.trim(self.view);
    }

    fn fill(&mut self, side: &FillSide, trade: &Trade, sequence: Sequence) {
        let Some(order) = self.orders.get_mut(&side.order_id) else {
            return; // placed before the part that is read: its sums are not known
        };
        add_fill(order, trade, side.fee.0);
        if side.remaining.0 == 0 {
            order.status = OrderStatus::Filled;
            locked(&self.view.closed).push(order, sequence);
            self.orders.remove(&side.order_id);
        }
    }

    /// `before` is the last sequence of which nothing is known.
    fn finish(self, before: Sequence) {
        for slot in &self.folder.accounts {
            let mut state = locked(&slot.state);
            state.index.raise_start(before);
        }
        let present = self.folder.position().sequence;
        for (market, last) in self.folder.markets.iter().zip(self.last_updates) {
            let mut state = locked(&market.state);
            state.trades.raise_start(before);
            state.updates.start_after(present, last);
        }
        self.view.reference.store(std::sync::Arc::new(self.reference));
    }
}
