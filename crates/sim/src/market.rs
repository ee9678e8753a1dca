//! The exchange under test as it is when a run begins, and what its clients ask.

use std::cell::RefCell;
use std::sync::OnceLock;

use engine::{ENGINE_VERSION, Exchange, Snapshot};
use replica::{Applied, SnapshotPoint};
use types::{
    AccountId, Action, Amount, AssetId, CancelAfter, CancelAll, Command, Decimal, EngineVersion, Epoch, Event, FeeRate,
    GroupId, InstrumentId, InstrumentRules, InstrumentStatus, KeyId, KeyMaterial, NewKey, NewOrder, OrderId,
    OrderTarget, OrderType, Position, Price, Quantity, RejectReason, Replace, RequestId, Rules, Scopes,
    SelfTradePrevention, Sequence, Side, StateMachine, TimeInForce, Timestamp, Transfer,
};
use wire::journal::{Chain, LogIndex, NodeId, Term};
use wire::membership::Membership;

use crate::random::Dice;

/// How many clients trade; each has an account.
pub(crate) const TRADERS: u32 = 8;
/// What every clock shows when a run begins: noon of some day.
pub(crate) const NOON: u64 = 20_000 * Timestamp::DAY + Timestamp::DAY / 2;
/// The epoch of all that is sequenced.
pub(crate) const EPOCH: Epoch = Epoch(1);

const ADMIN: KeyId = KeyId(1);
const ASSETS: u16 = 2;
const INSTRUMENTS: u32 = 1;

/// What came of a command, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was executed.
    Executed,
    /// It was refused.
    Rejected(RejectReason),
    /// It was executed, or refused, at this place before.
    Repeated(Sequence, Option<RejectReason>),
}

/// A command that a node applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Executed {
    pub(crate) sequence: Sequence,
    pub(crate) epoch: Epoch,
    pub(crate) sequenced_at: Timestamp,
    pub(crate) account: AccountId,
    pub(crate) request_id: RequestId,
    pub(crate) outcome: Outcome,
    /// Of all of its events.
    pub(crate) digest: u32,
    /// What it paid in, or out, of which asset.
    pub(crate) paid_in: Option<(AssetId, i64)>,
    pub(crate) expired: bool,
}

/// The exchange of production, with a look at each command that it executes.
#[derive(Debug, Default)]
pub(crate) struct Market {
    pub(crate) exchange: Exchange,
    executed: RefCell<Vec<Executed>>,
}

impl Market {
    pub(crate) fn over(exchange: Exchange) -> Self {
        let executed = RefCell::default();
        Self { exchange, executed }
    }

    /// As a program of an earlier release runs it.
    pub(crate) fn of_release(mut self, reads: EngineVersion) -> Self {
        self.exchange = self.exchange.of_release(reads);
        self
    }

    /// What was executed since this was asked last.
    pub(crate) fn take_executed(&self) -> Vec<Executed> {
        self.executed.take()
    }

    fn note(&self, position: Position, sequenced_at: Timestamp, command: &Command, events: &[Event]) {
        let outcome = match events.first() {
            Some(Event::Rejected { reason, .. }) => Outcome::Rejected(*reason),
            Some(Event::Repeated { original, reason, .. }) => Outcome::Repeated(original.sequence, *reason),
            _ => Outcome::Executed,
        };
        let mut digest = 0;
        let mut scratch = [0; 512];
        for event in events {
            let bytes = postcard::to_slice(event, &mut scratch).map_or(&[][..], |bytes| bytes);
            digest = crc32c::crc32c_append(digest, bytes);
        }
        let paid_in = match &command.action {
            _ if outcome != Outcome::Executed => None,
            Action::Deposit(transfer) => Some((transfer.asset, transfer.amount.0)),
            Action::Withdraw(transfer) => Some((transfer.asset, -transfer.amount.0)),
            _ => None,
        };
        let expired = |event: &Event| matches!(event, Event::OrderClosed { reason, .. } if *reason == types::CloseReason::Expired);
        self.executed.borrow_mut().push(Executed {
            sequence: position.sequence,
            epoch: position.epoch,
            sequenced_at,
            account: command.account,
            request_id: command.request_id,
            outcome,
            digest,
            paid_in,
            expired: events.iter().any(expired),
        });
    }
}

impl StateMachine for Market {
    type Command = Command;
    type Event = Event;
    type Snapshot = Snapshot;

    const PREPARED_COMMANDS: usize = <Exchange as StateMachine>::PREPARED_COMMANDS;

    fn apply(&mut self, position: Position, at: Timestamp, command: &Command, events: &mut Vec<Event>) {
        let before = events.len();
        self.exchange.apply(position, at, command, events);
        self.note(position, at, command, &events[before..]);
    }

    fn prepare(&mut self, command: &Command) {
        self.exchange.prepare(command);
    }

    fn apply_quarantined(&mut self, position: Position, at: Timestamp, command: &Command, events: &mut Vec<Event>) {
        let before = events.len();
        self.exchange.apply_quarantined(position, at, command, events);
        self.note(position, at, command, &events[before..]);
    }

    fn state_hash(&self) -> u64 {
        self.exchange.state_hash()
    }

    fn recompute_state_hash(&self) -> u64 {
        self.exchange.recompute_state_hash()
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        self.exchange.next_deadline()
    }

    fn received_at(command: &Command) -> Timestamp {
        command.received_at
    }

    fn clock_command(now: Timestamp) -> Command {
        Command::clock(now)
    }

    fn snapshot(&self) -> Snapshot {
        self.exchange.snapshot()
    }

    const ENGINE_VERSION: EngineVersion = ENGINE_VERSION;

    fn engine_version(&self) -> EngineVersion {
        self.exchange.engine_version()
    }

    fn engine_version_max(&self) -> EngineVersion {
        self.exchange.engine_version_max()
    }

    fn sets_engine_version(command: &Command) -> Option<EngineVersion> {
        Exchange::<engine::book::FastBook>::sets_engine_version(command)
    }

    fn restore(snapshot: Snapshot, engine_version: EngineVersion) -> Result<Self, String> {
        Exchange::restore(snapshot, engine_version).map(Self::over)
    }
}

/// The state that a run begins with, which every voter of the first group has as a snapshot.
pub(crate) struct Genesis {
    pub(crate) snapshot: Snapshot,
    sequence: Sequence,
    pub(crate) supply: Vec<i64>,
}

impl Genesis {
    /// The same in every run.
    pub(crate) fn get() -> &'static Self {
        static GENESIS: OnceLock<Genesis> = OnceLock::new();
        GENESIS.get_or_init(open_the_market)
    }

    /// Where it stands.
    pub(crate) fn point(&self, voters: impl IntoIterator<Item = NodeId>) -> SnapshotPoint {
        SnapshotPoint {
            applied: Applied {
                index: LogIndex(1),
                term: Term(1),
                epoch: EPOCH,
                sequence: self.sequence,
                sequenced_at: Timestamp(NOON),
                chain: Chain([1; 32]),
            },
            membership: Membership::of_voters(voters),
        }
    }

    pub(crate) fn sequence(&self) -> Sequence {
        self.sequence
    }
}

fn instrument_rules() -> InstrumentRules {
    InstrumentRules {
        tick_size: Decimal::new(1, 0),
        lot_size: Decimal::new(1, 0),
        quantity_min: Quantity(1),
        quantity_max: Quantity(500),
        notional_min: 5,
        notional_max: 10_000_000,
        collar_ppm: 0,
        reference_price: Price(0),
        maker_fee: FeeRate(-100),
        taker_fee: FeeRate(2_000),
    }
}

fn open_the_market() -> Genesis {
    let mut exchange: Exchange = Exchange::default();
    let mut sequence = 0;
    let mut operate = |action: Action| {
        sequence += 1;
        let is_first = sequence == 1;
        let command = Command {
            account: AccountId::OPERATOR,
            key: if is_first { KeyId::SYSTEM } else { ADMIN },
            request_id: format!("open-{sequence}").parse().expect("it is an id"),
            valid_until: None,
            received_at: Timestamp(NOON),
            action,
        };
        let position = Position {
            group: GroupId(0),
            epoch: EPOCH,
            sequence: Sequence(sequence),
        };
        let mut events = Vec::new();
        exchange.apply(position, Timestamp(NOON), &command, &mut events);
        assert!(
            !matches!(events[0], Event::Rejected { .. }),
            "the market opens: {events:?}"
        );
    };
    let key = |account, scopes| {
        let material = KeyMaterial::Ed25519([7; 32]);
        Action::CreateKey(NewKey {
            account,
            scopes,
            material,
        })
    };
    operate(key(AccountId::OPERATOR, Scopes::ADMIN));
    operate(Action::SetRules(Rules {
        version: 2,
        request_memory_bytes_max: 1 << 20,
        ..Rules::default()
    }));
    for symbol in ["USD", "ACME"] {
        let symbol = symbol.parse().expect("it is a symbol");
        operate(Action::CreateAsset { symbol, decimals: 2 });
    }
    operate(Action::CreateInstrument {
        symbol: "ACME-USD".parse().expect("it is a symbol"),
        base: AssetId(1),
        quote: AssetId(0),
        rules: instrument_rules(),
    });
    operate(Action::SetInstrumentStatus {
        instrument: InstrumentId(0),
        status: InstrumentStatus::Trading,
    });
    for trader in 0..TRADERS {
        let account = account(trader);
        operate(Action::CreateAccount);
        operate(key(account, Scopes::READ.with(Scopes::TRADE)));
        for asset in 0..ASSETS {
            operate(Action::Deposit(Transfer {
                account,
                asset: AssetId(asset),
                amount: Amount(50_000_000),
            }));
        }
    }
    let supply = (0..ASSETS).map(|asset| exchange.supply(AssetId(asset)).map_or(0, |amount| amount.0));
    Genesis {
        supply: supply.collect(),
        snapshot: exchange.snapshot(),
        sequence: Sequence(sequence),
    }
}

fn account(trader: u32) -> AccountId {
    AccountId(AccountId::FIRST.0 + trader)
}

/// The operator's request to switch on the newest behaviour.
pub(crate) fn switch_on(utc: Timestamp) -> Command {
    Command {
        account: AccountId::OPERATOR,
        key: ADMIN,
        request_id: "switch-on".parse().expect("it is an id"),
        valid_until: None,
        received_at: utc,
        action: Action::SetEngineVersion {
            version: ENGINE_VERSION,
        },
    }
}

/// What a client knows of its own orders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) requests: u32,
    /// Places of late answers, and how the request was called.
    pub(crate) orders: Vec<(Sequence, RequestId)>,
}

/// The next request of a client; the one behind the last trader is the operator.
pub(crate) fn next_command(client: u32, asked: &mut Asked, utc: Timestamp, dice: &mut Dice) -> Command {
    asked.requests += 1;
    let is_operator = client >= TRADERS;
    let request_id = format!("c{client}-{}", asked.requests).parse().expect("it is an id");
    let action = if is_operator {
        operators_action(dice)
    } else {
        traders_action(client, asked, utc, dice)
    };
    let valid = dice
        .one_in(3)
        .then(|| utc.plus_ns(dice.between(1, 60) * Timestamp::SECOND));
    Command {
        account: if is_operator {
            AccountId::OPERATOR
        } else {
            account(client)
        },
        key: if is_operator { ADMIN } else { KeyId(2 + client) },
        request_id,
        valid_until: valid,
        received_at: utc,
        action,
    }
}

fn operators_action(dice: &mut Dice) -> Action {
    let trader = u32::try_from(dice.below(u64::from(TRADERS))).expect("it is small");
    let transfer = Transfer {
        account: account(trader),
        asset: AssetId(u16::try_from(dice.below(u64::from(ASSETS))).expect("it is small")),
        amount: Amount(i64::try_from(dice.between(1, 5_000)).expect("it is small")),
    };
    match dice.below(3) {
        0 => Action::Withdraw(transfer),
        _ => Action::Deposit(transfer),
    }
}

fn number(dice: &mut Dice, low: u64, high: u64) -> i64 {
    i64::try_from(dice.between(low, high)).expect("it is small")
}

fn traders_action(client: u32, asked: &Asked, utc: Timestamp, dice: &mut Dice) -> Action {
    let target = |dice: &mut Dice| {
        let late = asked.orders.len().min(20) as u64;
        if late > 0 && !dice.one_in(8) {
            let (sequence, request) = asked.orders[asked.orders.len() - 1 - dice.below(late) as usize];
            return if dice.one_in(2) {
                OrderTarget::ClientOrderId(request)
            } else {
                OrderTarget::OrderId(OrderId(Position {
                    group: GroupId(0),
                    epoch: EPOCH,
                    sequence,
                }))
            };
        }
        let request = u64::from(asked.requests) + dice.below(4);
        let name = format!("c{client}-{}", request.saturating_sub(dice.below(4)));
        OrderTarget::ClientOrderId(name.parse().expect("it is an id"))
    };
    match dice.below(100) {
        0..65 => Action::Place(new_order(utc, dice)),
        65..77 => Action::Replace(Replace {
            target: target(dice),
            scale_version: 1,
            price: dice.one_in(2).then(|| Price(number(dice, 90, 110))),
            quantity: dice.one_in(2).then(|| Quantity(number(dice, 1, 50))),
            post_only: None,
        }),
        77..95 => Action::Cancel(target(dice)),
        95..97 => Action::CancelAll(CancelAll {
            instrument: dice.one_in(2).then_some(InstrumentId(INSTRUMENTS - 1)),
        }),
        _ => Action::CancelAfter(CancelAfter {
            after_ns: dice.below(4) * Timestamp::SECOND,
        }),
    }
}

fn new_order(utc: Timestamp, dice: &mut Dice) -> NewOrder {
    let is_market = dice.one_in(10);
    let lives = [
        TimeInForce::Gtc,
        TimeInForce::Gtc,
        TimeInForce::Day,
        TimeInForce::Ioc,
        TimeInForce::Fok,
        TimeInForce::Gtd(utc.plus_ns(dice.between(100, 3_000) * 1_000_000)),
    ];
    NewOrder {
        instrument: InstrumentId(0),
        scale_version: 1,
        side: dice.pick(&[Side::Buy, Side::Sell]),
        order_type: if is_market { OrderType::Market } else { OrderType::Limit },
        time_in_force: if is_market { TimeInForce::Ioc } else { dice.pick(&lives) },
        price: if is_market {
            Price(0)
        } else {
            Price(number(dice, 90, 110))
        },
        quantity: Quantity(number(dice, 1, 50)),
        post_only: false,
        self_trade_prevention: dice.pick(&[
            SelfTradePrevention::CancelNewest,
            SelfTradePrevention::CancelOldest,
            SelfTradePrevention::CancelBoth,
        ]),
    }
}
