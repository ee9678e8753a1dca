//! The whole exchange: accounts, risk, fees and the memory of requests, on one thread.
//!
//! Commands come in batches, as from the sequencer. Only `apply` of a batch is measured; making the next batch and
//! reading what came of the last one (which orders are open) is not.

use std::collections::HashMap;

use anyhow::ensure;
use engine::Exchange;
use engine::book::{Book, FastBook, PlainBook};
use types::*;

use super::EngineArguments;
use super::book::{Row, Which};
use crate::clock::{Taken, measure};
use crate::random::Random;

/// Commands of one batch.
const BATCH: usize = 256;
/// The price around which the flow trades, in ticks.
const MIDDLE: i64 = 50_000;

/// How big the exchange is, and what it is asked.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// What it is called in the report.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Customers' accounts.
    pub accounts: u32,
    /// Instruments.
    pub instruments: u32,
    /// Orders that are open throughout, about.
    pub open_orders: usize,
    /// Requests that are remembered when the measurement begins.
    pub remembered: usize,
    /// How wide new orders are spread, in ticks.
    pub spread: i64,
    /// Out of 100 commands: places that rest, places that take, replaces; the others cancel.
    pub mix: [u64; 3],
}

/// The shapes that are measured.
pub const SHAPES: [Shape; 3] = [
    Shape {
        name: "exchange realistic",
        about: "1,000 accounts, 10 instruments, 10,000 open orders: 48% rest, 6% take, 6% replace, 40% cancel",
        accounts: 1_000,
        instruments: 10,
        open_orders: 10_000,
        remembered: 1_000_000,
        spread: 50,
        mix: [48, 6, 6],
    },
    Shape {
        name: "exchange takers",
        about: "1,000 accounts, 10 instruments, 10,000 open orders: 50% rest, 35% take, 5% replace, 10% cancel",
        accounts: 1_000,
        instruments: 10,
        open_orders: 10_000,
        remembered: 1_000_000,
        spread: 20,
        mix: [50, 35, 5],
    },
    Shape {
        name: "exchange large",
        about: "100,000 accounts, 1,000 instruments, 1,000,000 open orders, 10,000,000 remembered ids; the realistic mix",
        accounts: 100_000,
        instruments: 1_000,
        open_orders: 1_000_000,
        remembered: 10_000_000,
        spread: 200,
        mix: [48, 6, 6],
    },
];

/// Measures every shape that was asked for.
pub fn measure_all(arguments: &EngineArguments) -> anyhow::Result<Vec<Row>> {
    let wanted = arguments.shape.as_deref().unwrap_or("");
    let mut rows = Vec::new();
    for shape in SHAPES.iter().filter(|shape| shape.name.contains(wanted)) {
        let mut of_shape = Vec::new();
        for book in [Which::Plain, Which::FastBatched] {
            if arguments.book.is_none_or(|only| only == book) {
                of_shape.push(match book {
                    Which::Plain => measure_shape::<PlainBook>(arguments, shape, book),
                    Which::Fast | Which::FastBatched => measure_shape::<FastBook>(arguments, shape, book),
                });
            }
        }
        let same = of_shape.iter().all(|row| row.checksum == of_shape[0].checksum);
        ensure!(same, "the books differ on {}", shape.name);
        rows.extend(of_shape);
    }
    Ok(rows)
}

/// What the table of these rows is about.
pub fn about(arguments: &EngineArguments) -> String {
    let wanted = arguments.shape.as_deref().unwrap_or("");
    let mut text = format!(
        "\nThe whole exchange, one thread: accounts, risk, fees, request memory, events; batches of {BATCH} commands.\n"
    );
    for shape in SHAPES.iter().filter(|shape| shape.name.contains(wanted)) {
        text += &format!("{}: {}\n", shape.name, shape.about);
    }
    text
}

/// All rounds run on in the same exchange. The checksum is the hash of its state at the end.
fn measure_shape<B: Book>(arguments: &EngineArguments, shape: &Shape, book: Which) -> Row {
    let mut market = Market::<B>::new(shape, arguments.seed);
    market.fill_up();
    let resting = market.exchange.open_orders_len();
    let batches = (arguments.commands as usize).div_ceil(BATCH);
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds {
        let mut round = Taken::default();
        for _ in 0..batches {
            let taken = market.run_batch();
            round.wall += taken.wall;
            round.processor += taken.processor;
        }
        rounds.push(round);
    }
    Row {
        shape: shape.name,
        book,
        commands: batches * BATCH,
        resting,
        rounds,
        checksum: market.exchange.state_hash(),
    }
}

/// The exchange, and what the flow knows of it.
struct Market<B: Book> {
    exchange: Exchange<B>,
    shape: Shape,
    random: Random,
    sequence: u64,
    now: u64,
    batch: Vec<Command>,
    events: Vec<Event>,
    live: Vec<Live>,
    places: HashMap<u64, usize>,
}

#[derive(Clone, Copy)]
struct Live {
    account: AccountId,
    order_id: OrderId,
    client_order_id: RequestId,
    price: Price,
    side: Side,
}

impl<B: Book> Market<B> {
    fn new(shape: &Shape, seed: u64) -> Self {
        let mut market = Self {
            exchange: Exchange::default(),
            shape: *shape,
            random: Random(seed),
            sequence: 0,
            now: 20_000 * Timestamp::DAY,
            batch: Vec::with_capacity(BATCH),
            events: Vec::with_capacity(BATCH * 8),
            live: Vec::new(),
            places: HashMap::new(),
        };
        market.set_up();
        market
    }

    fn set_up(&mut self) {
        let key = |account, scopes| {
            Action::CreateKey(NewKey {
                account,
                scopes,
                material: KeyMaterial::Ed25519([1; 32]),
            })
        };
        self.operate(KeyId::SYSTEM, key(AccountId::OPERATOR, Scopes::ADMIN));
        let rules = Rules {
            version: 2,
            keys_per_account_max: 10,
            ..Rules::default()
        };
        self.operate(KeyId(1), Action::SetRules(rules));
        for index in 0..=self.shape.instruments {
            let symbol = format!("A{index}").parse().expect("a symbol");
            self.operate(KeyId(1), Action::CreateAsset { symbol, decimals: 8 });
        }
        for index in 0..self.shape.instruments {
            self.operate(KeyId(1), instrument(index));
            self.operate(
                KeyId(1),
                Action::SetInstrumentStatus {
                    instrument: InstrumentId(index),
                    status: InstrumentStatus::Trading,
                },
            );
        }
        for index in 0..self.shape.accounts {
            self.operate(KeyId(1), Action::CreateAccount);
            let account = AccountId(AccountId::FIRST.0 + index);
            self.operate(KeyId(1), key(account, Scopes::TRADE));
            self.deposit(account, AssetId(0));
            // Each account trades ten instruments.
            for nth in 0..10 {
                self.deposit(account, self.base_of(account, nth));
            }
        }
    }

    fn base_of(&self, account: AccountId, nth: u32) -> AssetId {
        AssetId((1 + account.0.wrapping_mul(7).wrapping_add(nth) % self.shape.instruments) as u16)
    }

    fn deposit(&mut self, account: AccountId, asset: AssetId) {
        self.operate(
            KeyId(1),
            Action::Deposit(Transfer {
                account,
                asset,
                amount: Amount(10_i64.pow(12)),
            }),
        );
    }

    fn operate(&mut self, key: KeyId, action: Action) {
        self.sequence += 1;
        let command = Command {
            account: AccountId::OPERATOR,
            key,
            request_id: format!("setup-{}", self.sequence).parse().expect("an id"),
            valid_until: None,
            received_at: Timestamp(self.now),
            action,
        };
        self.events.clear();
        self.exchange
            .apply(position(self.sequence), Timestamp(self.now), &command, &mut self.events);
        let refused = matches!(self.events[0], Event::Rejected { .. });
        assert!(!refused, "{command:?}: {:?}", self.events);
    }

    /// Brings the exchange to its size.
    fn fill_up(&mut self) {
        let mix = self.shape.mix;
        while self.live.len() < self.shape.open_orders {
            self.shape.mix = [100, 0, 0];
            self.run_batch();
        }
        self.shape.mix = mix;
        while self.exchange.request_memory().entries < self.shape.remembered {
            self.run_batch();
        }
    }

    /// Makes a batch, applies it, and tells how long only that took.
    fn run_batch(&mut self) -> Taken {
        self.make_batch();
        let first = self.sequence + 1;
        let (exchange, events, batch, now) = (&mut self.exchange, &mut self.events, &self.batch, self.now);
        let ((), taken) = measure(|| {
            let mut coming = batch.iter();
            for command in coming.by_ref().take(Exchange::<B>::PREPARED_COMMANDS) {
                exchange.prepare(command);
            }
            for (command, sequence) in batch.iter().zip(first..) {
                if let Some(command) = coming.next() {
                    exchange.prepare(command);
                }
                exchange.apply(position(sequence), Timestamp(now), command, events);
            }
        });
        self.sequence += batch.len() as u64;
        self.learn();
        taken
    }

    fn make_batch(&mut self) {
        self.now += 1_000_000;
        self.batch.clear();
        self.events.clear();
        for index in 0..BATCH as u64 {
            let command = self.make_command(self.sequence + 1 + index);
            self.batch.push(command);
        }
    }

    fn make_command(&mut self, sequence: u64) -> Command {
        let [rest, take, replace] = self.shape.mix;
        let roll = self.random.below(100);
        let short = self.live.len() < self.shape.open_orders / 2;
        let many = self.live.len() > self.shape.open_orders + self.shape.open_orders / 20;
        let takes = roll >= rest && roll < rest + take;
        if short || takes || roll < rest && !many {
            return self.place(sequence, takes && !short);
        }
        let live = self.live[self.random.below(self.live.len() as u64) as usize];
        let target = if self.random.percent(50) {
            OrderTarget::OrderId(live.order_id)
        } else {
            OrderTarget::ClientOrderId(live.client_order_id)
        };
        let action = if (rest + take..rest + take + replace).contains(&roll) {
            let away = match live.side {
                Side::Buy => -1,
                Side::Sell => 1,
            };
            Action::Replace(Replace {
                target,
                scale_version: 1,
                price: Some(Price(live.price.0 + away)),
                quantity: None,
                post_only: None,
            })
        } else {
            Action::Cancel(target)
        };
        self.command(sequence, live.account, action)
    }

    fn place(&mut self, sequence: u64, takes: bool) -> Command {
        let account = AccountId(AccountId::FIRST.0 + self.random.below(u64::from(self.shape.accounts)) as u32);
        let nth = self.random.below(10) as u32;
        let base = self.base_of(account, nth);
        let side = if self.random.percent(50) { Side::Buy } else { Side::Sell };
        let distance = 1 + self.random.mostly_small(self.shape.spread / 5);
        let passive = (takes as i64) * -2 * distance + distance;
        let price = match side {
            Side::Buy => MIDDLE - passive,
            Side::Sell => MIDDLE + passive,
        };
        let order = NewOrder {
            instrument: InstrumentId(u32::from(base.0) - 1),
            scale_version: 1,
            side,
            order_type: OrderType::Limit,
            time_in_force: if takes { TimeInForce::Ioc } else { TimeInForce::Gtc },
            price: Price(price),
            quantity: Quantity(self.random.between(1, 100)),
            post_only: false,
            self_trade_prevention: SelfTradePrevention::CancelOldest,
        };
        self.command(sequence, account, Action::Place(order))
    }

    fn command(&self, sequence: u64, account: AccountId, action: Action) -> Command {
        Command {
            account,
            key: KeyId(account.0),
            request_id: request_id(sequence),
            valid_until: Some(Timestamp(self.now + 60 * Timestamp::SECOND)),
            received_at: Timestamp(self.now),
            action,
        }
    }

    /// Reads the last batch's events: which orders are open now.
    fn learn(&mut self) {
        for index in 0..self.events.len() {
            match self.events[index] {
                Event::OrderPlaced(order) if order.time_in_force == TimeInForce::Gtc => {
                    self.places.insert(order.order_id.0.sequence.0, self.live.len());
                    self.live.push(Live {
                        account: order.account,
                        order_id: order.order_id,
                        client_order_id: order.client_order_id,
                        price: order.price,
                        side: order.side,
                    });
                }
                Event::OrderReplaced { order, .. } => {
                    if let Some(place) = self.places.get(&order.order_id.0.sequence.0) {
                        self.live[*place].price = order.price;
                    }
                }
                Event::OrderClosed { order, .. } => self.close(order.order_id),
                Event::Traded(trade) => {
                    for side in [trade.maker, trade.taker] {
                        if side.remaining.0 == 0 {
                            self.close(side.order_id);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn close(&mut self, order_id: OrderId) {
        let Some(place) = self.places.remove(&order_id.0.sequence.0) else {
            return;
        };
        self.live.swap_remove(place);
        if let Some(moved) = self.live.get(place) {
            self.places.insert(moved.order_id.0.sequence.0, place);
        }
    }
}

fn instrument(index: u32) -> Action {
    Action::CreateInstrument {
        symbol: format!("A{}-A0", index + 1).parse().expect("a symbol"),
        base: AssetId((index + 1) as u16),
        quote: AssetId(0),
        rules: InstrumentRules {
            tick_size: Decimal::new(1, 2),
            lot_size: Decimal::new(1, 6),
            quantity_min: Quantity(1),
            quantity_max: Quantity(1_000_000),
            notional_min: 1,
            notional_max: 1 << 50,
            collar_ppm: 100_000,
            reference_price: Price(MIDDLE),
            maker_fee: FeeRate(100),
            taker_fee: FeeRate(500),
        },
    }
}

fn position(sequence: u64) -> Position {
    Position {
        group: GroupId(0),
        epoch: Epoch(1),
        sequence: Sequence(sequence),
    }
}

/// Sixteen characters, as of a client that counts.
fn request_id(sequence: u64) -> RequestId {
    let mut text = *b"client-000000000";
    let mut rest = sequence;
    for digit in text[7..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    std::str::from_utf8(&text).expect("ASCII").parse().expect("an id")
}
