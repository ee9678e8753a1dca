//! Orders that rest where no load of ours trades.

use anyhow::{Result, bail, ensure};
use types::Side;
use types::limits::BATCH_REQUEST_ITEMS_MAX;

use super::fleet::{BatchSession, Tally};
use crate::load::Market;
use crate::protocol::request::{Kind, Names, OrderRequest};
use crate::random::Random;

/// Prices of resting orders in ticks, far enough from the middle of 100.00 that the load never reaches them, and within
/// the collar of half of it.
const BUYS_TICKS: (i64, i64) = (6_000, 8_900);
const SELLS_TICKS: (i64, i64) = (11_100, 14_000);
/// Threads that send.
const SENDERS: usize = 2;

/// Orders that rest, each with a number of its own.
pub struct RestingOrders {
    instruments: usize,
    /// How many were placed.
    pub count: u64,
}

impl RestingOrders {
    /// None yet, in so many instruments.
    pub fn new(instruments: usize) -> Self {
        Self { instruments, count: 0 }
    }

    /// The order of a number: the same every time.
    fn order(&self, number: u64) -> OrderRequest {
        let mut random = Random(number);
        let (side, (first, last)) = if random.percent(50) {
            (Side::Buy, BUYS_TICKS)
        } else {
            (Side::Sell, SELLS_TICKS)
        };
        OrderRequest {
            number,
            kind: Kind::Place,
            instrument: random.below(self.instruments as u64) as u16,
            side,
            price_ticks: random.between(first, last).unsigned_abs(),
            quantity_lots: 1,
        }
    }

    /// Places so many more, spread over the market's traders, in batches.
    ///
    /// # Errors
    /// If one is not placed.
    pub fn place(&mut self, market: &Market, names: &Names, more: u64) -> Result<()> {
        let traders = market.traders.len();
        let own = |trader: usize| {
            let first = self.count + more * trader as u64 / traders as u64;
            first..self.count + more * (trader as u64 + 1) / traders as u64
        };
        let this = &*self;
        let tally = std::thread::scope(|scope| -> Result<Tally> {
            let workers: Vec<_> = (0..SENDERS)
                .map(|worker| {
                    scope.spawn(move || -> Result<Tally> {
                        let mut all = Tally::default();
                        for trader in (worker..traders).step_by(SENDERS) {
                            let mut session = BatchSession::open(market, trader, names)?;
                            let orders: Vec<u64> = own(trader).collect();
                            for batch in orders.chunks(BATCH_REQUEST_ITEMS_MAX) {
                                let batch: Vec<OrderRequest> = batch.iter().map(|number| this.order(*number)).collect();
                                session.send(&batch)?;
                            }
                            let tally = session.finish()?;
                            all.executed += tally.executed;
                            all.rejected += tally.rejected;
                        }
                        Ok(all)
                    })
                })
                .collect();
            let mut all = Tally::default();
            for worker in workers {
                let Ok(tally) = worker.join() else {
                    bail!("a thread that sends panicked");
                };
                let tally = tally?;
                all.executed += tally.executed;
                all.rejected += tally.rejected;
            }
            Ok(all)
        })?;
        ensure!(
            (tally.executed, tally.rejected) == (more, 0),
            "of {more} orders {} were placed and {} refused",
            tally.executed,
            tally.rejected
        );
        self.count += more;
        Ok(())
    }
}
