//! An exchange in memory with a seeded flow of commands, and an event log of what came of them.

use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use engine::Exchange;
use gateway::handle::{History, HistoryError};
use gateway::view::{View, ViewLimits};
use types::*;

/// Noon of some day.
const NOON: u64 = 20_000 * Timestamp::DAY + Timestamp::DAY / 2;
/// The operator's key.
pub const ADMIN: KeyId = KeyId(1);
/// How many accounts trade.
pub const TRADERS: u32 = 4;
/// How many instruments there are.
pub const INSTRUMENTS: u32 = 2;

/// A small generator of numbers that look random (xorshift64*).
pub struct Random(u64);

impl Random {
    /// Numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

/// An exchange and what came of its commands.
pub struct World {
    /// The exchange.
    pub exchange: Exchange,
    /// What came of its commands.
    pub log: Arc<MemoryLog>,
    /// The epoch in which commands are sequenced.
    pub epoch: Epoch,
    random: Random,
    sequence: u64,
    now: u64,
    ids: u64,
}

impl World {
    /// Assets, instruments, accounts with money and keys: account 2 has key 2, and so on.
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            exchange: Exchange::default(),
            log: Arc::new(MemoryLog::default()),
            epoch: Epoch(1),
            random: Random::new(seed),
            sequence: 0,
            now: NOON,
            ids: 0,
        };
        let admin_key = NewKey {
            account: AccountId::OPERATOR,
            scopes: Scopes::ADMIN,
            material: public_key(1),
        };
        let mut setup = vec![(KeyId::SYSTEM, Action::CreateKey(admin_key))];
        let mut admin = |action| setup.push((ADMIN, action));
        for (symbol, decimals) in [("USD", 2), ("BTC", 8), ("ETH", 8)] {
            let symbol = symbol.parse().unwrap();
            admin(Action::CreateAsset { symbol, decimals });
        }
        for (index, symbol) in ["BTC-USD", "ETH-USD"].into_iter().enumerate() {
            let instrument = InstrumentId(u32::try_from(index).unwrap());
            admin(Action::CreateInstrument {
                symbol: symbol.parse().unwrap(),
                base: AssetId(u16::try_from(index + 1).unwrap()),
                quote: AssetId(0),
                rules: rules(Decimal::new(1, 2)),
            });
            let status = InstrumentStatus::Trading;
            admin(Action::SetInstrumentStatus { instrument, status });
        }
        for account in (0..TRADERS).map(|index| AccountId(AccountId::FIRST.0 + index)) {
            admin(Action::CreateAccount);
            admin(Action::CreateKey(NewKey {
                account,
                scopes: Scopes::READ.with(Scopes::TRADE),
                material: public_key(u8::try_from(account.0).unwrap()),
            }));
            for (asset, amount) in [(0, 100_000_000_000), (1, 10_000_000_000_000), (2, 10_000_000_000_000)] {
                admin(Action::Deposit(Transfer {
                    account,
                    asset: AssetId(asset),
                    amount: Amount(amount),
                }));
            }
        }
        for (key, action) in setup {
            let command = world.command(AccountId::OPERATOR, key, action);
            world.apply(&[command]);
        }
        world
    }

    /// A command with an id that was not used yet.
    pub fn command(&mut self, account: AccountId, key: KeyId, action: Action) -> Command {
        self.ids += 1;
        Command {
            account,
            key,
            request_id: format!("r-{}", self.ids).parse().unwrap(),
            valid_until: None,
            received_at: Timestamp(self.now),
            action,
        }
    }

    /// Applies commands as one batch.
    pub fn apply(&mut self, commands: &[Command]) -> Arc<AppliedBatch> {
        self.now += 1_000_000;
        let header = BatchHeader {
            epoch: self.epoch,
            incarnation: Incarnation(1),
            first_sequence: Sequence(self.sequence + 1),
            count: u32::try_from(commands.len()).unwrap(),
            sequenced_at: Timestamp(self.now),
            ..BatchHeader::default()
        };
        let mut batch = AppliedBatch {
            header,
            committed_at: None,
            commands: Vec::new(),
            events: Vec::new(),
        };
        for (index, command) in commands.iter().enumerate() {
            let position = header.position(u32::try_from(index).unwrap());
            StateMachine::apply(
                &mut self.exchange,
                position,
                header.sequenced_at,
                command,
                &mut batch.events,
            );
            batch.commands.push(AppliedCommand {
                received_at: command.received_at,
                events_end: u32::try_from(batch.events.len()).unwrap(),
            });
        }
        self.sequence = header.last_sequence().0;
        let batch = Arc::new(batch);
        self.log.push(&batch);
        batch
    }

    /// Applies a batch of a few seeded commands.
    pub fn trade(&mut self) -> Arc<AppliedBatch> {
        let count = 1 + self.random.below(8);
        let commands: Vec<Command> = (0..count).map(|_| self.seeded_command()).collect();
        self.apply(&commands)
    }

    /// The time of the last batch.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }

    /// The present state as facts, and its position.
    pub fn facts(&self) -> (Vec<Event>, Position) {
        let mut facts = Vec::new();
        self.exchange.facts(&mut facts);
        (facts, self.exchange.position())
    }

    fn seeded_command(&mut self) -> Command {
        let trader = u32::try_from(self.random.below(u64::from(TRADERS))).unwrap();
        let (account, key) = (AccountId(AccountId::FIRST.0 + trader), KeyId(2 + trader));
        let instrument = InstrumentId(u32::try_from(self.random.below(u64::from(INSTRUMENTS))).unwrap());
        let open: Vec<Order> = self.exchange.open_orders(account).collect();
        let random = &mut self.random;
        let action = match random.below(100) {
            0..60 => Action::Place(new_order(random, instrument)),
            60..75 if !open.is_empty() => {
                let order = &open[usize::try_from(random.below(open.len() as u64)).unwrap()];
                Action::Cancel(OrderTarget::ClientOrderId(order.client_order_id))
            }
            75..94 if !open.is_empty() => {
                let order = &open[usize::try_from(random.below(open.len() as u64)).unwrap()];
                Action::Replace(Replace {
                    target: OrderTarget::OrderId(order.order_id),
                    scale_version: self.exchange_scale(order.instrument),
                    price: Some(Price(price(&mut self.random))),
                    quantity: Some(Quantity(1 + i64::try_from(self.random.below(30)).unwrap())),
                    post_only: None,
                })
            }
            94 => Action::CancelAll(CancelAll {
                instrument: Some(instrument),
            }),
            95 => Action::CancelAfter(CancelAfter { after_ns: 20_000_000 }),
            96 => Action::Clock,
            _ => Action::Cancel(OrderTarget::ClientOrderId(
                format!("x-{}", random.below(50)).parse().unwrap(),
            )),
        };
        match action {
            Action::Clock => Command::clock(Timestamp(self.now)),
            action => self.command(account, key, action),
        }
    }

    fn exchange_scale(&self, instrument: InstrumentId) -> u32 {
        let (facts, _) = self.facts();
        let scale = facts.iter().find_map(|fact| match fact {
            Event::InstrumentChanged(found) if found.id == instrument => Some(found.scale_version),
            _ => None,
        });
        scale.unwrap()
    }
}

/// The key pair that a key of this number stands for.
pub fn key_pair(number: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[number; 32]).unwrap()
}

fn public_key(number: u8) -> KeyMaterial {
    KeyMaterial::Ed25519(key_pair(number).public_key().as_ref().try_into().unwrap())
}

/// The view of an exchange in which nothing has happened yet.
pub fn first_view(limits: ViewLimits) -> View {
    let mut facts = Vec::new();
    Exchange::<engine::book::FastBook>::default().facts(&mut facts);
    View::new(limits, &facts, Position::default())
}

fn price(random: &mut Random) -> i64 {
    9_990 + i64::try_from(random.below(20)).unwrap()
}

fn new_order(random: &mut Random, instrument: InstrumentId) -> NewOrder {
    let is_market = random.below(12) == 0;
    let time_in_force = match random.below(8) {
        _ if is_market => TimeInForce::Ioc,
        0 => TimeInForce::Ioc,
        1 => TimeInForce::Fok,
        2 => TimeInForce::Gtd(Timestamp(NOON + 1_000_000 * (1 + random.below(2_000)))),
        _ => TimeInForce::Gtc,
    };
    let stp = [
        SelfTradePrevention::CancelNewest,
        SelfTradePrevention::CancelOldest,
        SelfTradePrevention::CancelBoth,
    ];
    NewOrder {
        instrument,
        scale_version: 1,
        side: if random.below(2) == 0 { Side::Buy } else { Side::Sell },
        order_type: if is_market { OrderType::Market } else { OrderType::Limit },
        time_in_force,
        price: Price(if is_market { 0 } else { price(random) }),
        quantity: Quantity(1 + i64::try_from(random.below(20)).unwrap()),
        post_only: !is_market && time_in_force == TimeInForce::Gtc && random.below(6) == 0,
        self_trade_prevention: stp[usize::try_from(random.below(3)).unwrap()],
    }
}

/// Rules with a lot of 0.0001 and a tick.
pub fn rules(tick_size: Decimal) -> InstrumentRules {
    InstrumentRules {
        tick_size,
        lot_size: Decimal::new(1, 0),
        quantity_min: Quantity(1),
        quantity_max: Quantity(10_000),
        notional_min: 1,
        notional_max: 1 << 50,
        collar_ppm: 0,
        reference_price: Price(10_000),
        maker_fee: FeeRate(-100),
        taker_fee: FeeRate(500),
    }
}

/// An event log in memory, which can forget its oldest part and claim that reading it takes a disk.
#[derive(Default)]
pub struct MemoryLog(Mutex<LogState>);

#[derive(Default)]
struct LogState {
    batches: Vec<Arc<AppliedBatch>>,
    /// How many batches were retired.
    retired: usize,
    /// From which sequence on a read is said to be quick.
    recent_from: u64,
}

impl MemoryLog {
    fn push(&self, batch: &Arc<AppliedBatch>) {
        self.0.lock().unwrap().batches.push(Arc::clone(batch));
    }

    /// Forgets all batches before a sequence.
    pub fn retire(&self, before: Sequence) {
        let mut state = self.0.lock().unwrap();
        state.retired = state
            .batches
            .partition_point(|batch| batch.header.last_sequence() < before);
    }

    /// Says that what lies before a sequence is on a disk.
    pub fn set_recent(&self, from: Sequence) {
        self.0.lock().unwrap().recent_from = from.0;
    }

    /// All batches.
    pub fn batches(&self) -> Vec<Arc<AppliedBatch>> {
        self.0.lock().unwrap().batches.clone()
    }
}

impl History for MemoryLog {
    fn first(&self) -> Sequence {
        let state = self.0.lock().unwrap();
        state
            .batches
            .get(state.retired)
            .map_or(Sequence(1), |batch| batch.header.first_sequence)
    }

    fn last(&self) -> Sequence {
        let state = self.0.lock().unwrap();
        state
            .batches
            .last()
            .map_or(Sequence(0), |batch| batch.header.last_sequence())
    }

    fn read(&self, from: Sequence, bytes_max: usize) -> Result<Vec<Arc<AppliedBatch>>, HistoryError> {
        let first = self.first();
        if from < first {
            return Err(HistoryError::Retired { wanted: from, first });
        }
        let state = self.0.lock().unwrap();
        let start = state
            .batches
            .partition_point(|batch| batch.header.last_sequence() < from);
        let count = bytes_max.div_ceil(64 << 10).max(1);
        Ok(state.batches[start..].iter().take(count).cloned().collect())
    }

    fn is_recent(&self, from: Sequence) -> bool {
        from.0 >= self.0.lock().unwrap().recent_from
    }
}
