//! Seeded flows of everything at once, over both books, with everything checked that must always hold.

use engine::Exchange;
use engine::book::{FastBook, PlainBook};
use types::*;

use crate::check::{ADMIN, NOON, World, rules};

/// A small generator (PCG's multiplier); the seed is all that a failure needs.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// A flow of commands of three accounts and the operator.
struct Flow {
    dice: Dice,
    sequence: u64,
    now: u64,
    sent: Vec<Command>,
    rules_version: u32,
    /// What is open.
    open: Vec<Order>,
}

impl Flow {
    fn command(&mut self, version: u32) -> Command {
        self.sequence += 1;
        if self.dice.one_in(3) {
            self.now += self.dice.below(4) * Timestamp::SECOND;
        }
        if self.dice.one_in(2_000) {
            self.now += self.dice.below(Timestamp::DAY);
        }
        if self.dice.one_in(30) && !self.sent.is_empty() {
            let back = self.dice.below(self.sent.len().min(200) as u64) as usize;
            return self.sent[self.sent.len() - 1 - back].clone();
        }
        let operator = self.dice.one_in(40);
        let account = if operator {
            AccountId::OPERATOR
        } else {
            AccountId(2 + self.dice.below(3) as u32)
        };
        let action = if operator {
            self.operators_action()
        } else {
            self.clients_action(account, version)
        };
        let command = Command {
            account,
            key: if operator { ADMIN } else { KeyId(account.0) },
            request_id: format!("r{}", self.sequence).parse().unwrap(),
            valid_until: self
                .dice
                .one_in(4)
                .then(|| Timestamp(self.now + self.dice.below(3) * Timestamp::SECOND)),
            received_at: Timestamp(self.now),
            action,
        };
        self.sent.push(command.clone());
        command
    }

    /// Mostly an open order of the account, at times any id of late.
    fn target(&mut self, account: AccountId) -> OrderTarget {
        let own: Vec<&Order> = self.open.iter().filter(|order| order.account == account).collect();
        if !own.is_empty() && !self.dice.one_in(5) {
            let order = *self.dice.pick(&own);
            return if self.dice.one_in(2) {
                OrderTarget::OrderId(order.order_id)
            } else {
                OrderTarget::ClientOrderId(order.client_order_id)
            };
        }
        let sequence = self.sequence.saturating_sub(self.dice.below(60));
        if self.dice.one_in(2) {
            OrderTarget::ClientOrderId(format!("r{sequence}").parse().unwrap())
        } else {
            OrderTarget::OrderId(OrderId(Position {
                group: GroupId(0),
                epoch: Epoch(1),
                sequence: Sequence(sequence + self.dice.below(3)),
            }))
        }
    }

    fn clients_action(&mut self, account: AccountId, scale_version: u32) -> Action {
        match self.dice.below(100) {
            0..60 => Action::Place(self.new_order(scale_version)),
            60..75 => Action::Replace(Replace {
                target: self.target(account),
                scale_version,
                price: self.dice.one_in(2).then(|| Price(90 + self.dice.below(20) as i64)),
                quantity: self.dice.one_in(2).then(|| Quantity(1 + self.dice.below(50) as i64)),
                post_only: self.dice.one_in(4).then_some(true),
            }),
            75..94 => Action::Cancel(self.target(account)),
            94..96 => Action::CancelAll(CancelAll {
                instrument: self.dice.one_in(2).then_some(InstrumentId(0)),
            }),
            _ => Action::CancelAfter(CancelAfter {
                after_ns: self.dice.below(30) * Timestamp::SECOND,
            }),
        }
    }

    fn new_order(&mut self, scale_version: u32) -> NewOrder {
        let market = self.dice.one_in(8);
        let until = Timestamp(self.now + self.dice.below(60) * Timestamp::SECOND);
        let lives = [
            TimeInForce::Gtc,
            TimeInForce::Gtc,
            TimeInForce::Ioc,
            TimeInForce::Fok,
            TimeInForce::Day,
        ];
        NewOrder {
            instrument: InstrumentId(0),
            scale_version,
            side: self.dice.pick(&[Side::Buy, Side::Sell]),
            order_type: if market { OrderType::Market } else { OrderType::Limit },
            time_in_force: if market {
                self.dice.pick(&[TimeInForce::Ioc, TimeInForce::Fok])
            } else if self.dice.one_in(6) {
                TimeInForce::Gtd(until)
            } else {
                self.dice.pick(&lives)
            },
            price: if market {
                Price(0)
            } else {
                Price(90 + self.dice.below(20) as i64)
            },
            quantity: Quantity(1 + self.dice.below(40) as i64),
            post_only: !market && self.dice.one_in(10),
            self_trade_prevention: self.dice.pick(&[
                SelfTradePrevention::CancelNewest,
                SelfTradePrevention::CancelOldest,
                SelfTradePrevention::CancelBoth,
                SelfTradePrevention::DecrementAndCancel,
            ]),
        }
    }

    fn operators_action(&mut self) -> Action {
        let account = AccountId(1 + self.dice.below(4) as u32);
        let transfer = Transfer {
            account,
            asset: AssetId(self.dice.below(2) as u16),
            amount: Amount(self.dice.below(3_000) as i64),
        };
        match self.dice.below(12) {
            0..3 => Action::Deposit(transfer),
            3..6 => Action::Withdraw(transfer),
            6 | 7 => {
                let maker = self.dice.below(2_000) as i32 - 1_000;
                Action::SetInstrumentRules {
                    instrument: InstrumentId(0),
                    rules: InstrumentRules {
                        maker_fee: FeeRate(maker),
                        taker_fee: FeeRate((self.dice.below(3_000) as i32).max(-maker)),
                        collar_ppm: self.dice.pick(&[0, 0, 60_000]),
                        ..rules()
                    },
                }
            }
            8 => Action::SetAccountStatus {
                account,
                status: self.dice.pick(&[
                    AccountStatus::Suspended,
                    AccountStatus::Active,
                    AccountStatus::CancelOnly,
                ]),
            },
            9 => Action::CancelAllFor {
                account: self.dice.one_in(2).then_some(account),
                instrument: self.dice.one_in(2).then_some(InstrumentId(0)),
            },
            10 => Action::SetInstrumentStatus {
                instrument: InstrumentId(0),
                status: self.dice.pick(&[InstrumentStatus::Halted, InstrumentStatus::Trading]),
            },
            _ => {
                self.rules_version += 1;
                Action::SetRules(Rules {
                    version: self.rules_version,
                    request_window_ns: (5 + self.dice.below(100)) * Timestamp::SECOND,
                    expiries_per_command_max: 1 + self.dice.below(3) as u32,
                    open_orders_per_account_max: 1 + self.dice.below(40) as u32,
                    request_memory_bytes_max: 1 << 20,
                    ..Rules::default()
                })
            }
        }
    }
}

#[test]
fn both_books_and_a_restarted_exchange_do_the_same() {
    for seed in 1..=8 {
        run(seed, 6_000);
    }
}

fn run(seed: u64, commands: u64) {
    let mut plain = World::<PlainBook>::new().exchange;
    let mut fast: Exchange<FastBook> = World::new().exchange;
    let mut flow = Flow {
        dice: Dice(seed),
        sequence: plain.position().sequence.0,
        now: NOON,
        sent: Vec::new(),
        rules_version: 1,
        open: Vec::new(),
    };
    let (mut told_by_plain, mut told_by_fast) = (Vec::new(), Vec::new());
    let (mut trades, mut replaces, mut repeats, mut rejects, mut expiries) = (0, 0, 0, 0, 0);
    for step in 0..commands {
        flow.open.clear();
        for account in 2..5 {
            flow.open.extend(plain.open_orders(AccountId(account)));
        }
        // Newer behaviour is switched on in the middle, and trading goes on again after what the operator did.
        let command = match step % 50 {
            48 if step > commands / 4 && plain.engine_version() == EngineVersion::FIRST => switch_on(&flow),
            49 => revive(&mut flow, step),
            _ => flow.command(1),
        };
        flow.rules_version = plain.rules().version;
        let position = plain.position();
        let position = Position {
            epoch: Epoch(1),
            sequence: position.sequence.next(),
            ..position
        };
        flow.sequence = flow.sequence.max(position.sequence.0);
        told_by_plain.clear();
        told_by_fast.clear();
        plain.apply(position, Timestamp(flow.now), &command, &mut told_by_plain);
        // A hint, at times a wrong one, changes nothing.
        if let Some(other) = flow.sent.last().filter(|_| step % 7 == 0) {
            fast.prepare(other);
        }
        if step % 3 == 0 {
            fast.prepare(&command);
        }
        fast.apply(position, Timestamp(flow.now), &command, &mut told_by_fast);
        assert_eq!(told_by_plain, told_by_fast, "seed {seed}, step {step}: {command:?}");
        assert_eq!(
            plain.state_hash(),
            fast.state_hash(),
            "seed {seed}, step {step}: {command:?}"
        );
        check_events(&told_by_fast, &command);
        if step % 10 == 0 {
            fast.check_invariants();
        }
        if step % 500 == 499 {
            let snapshot = fast.snapshot();
            fast = Exchange::restore(snapshot, plain.engine_version())
                .unwrap_or_else(|wrong| panic!("seed {seed}, step {step}: {wrong}"));
            assert_eq!(
                plain.state_hash(),
                fast.state_hash(),
                "seed {seed}, step {step}: restored"
            );
            assert_eq!(plain.next_deadline(), fast.next_deadline());
        }
        for event in &told_by_fast {
            match event {
                Event::Traded(_) => trades += 1,
                Event::OrderReplaced { .. } => replaces += 1,
                Event::Repeated { .. } => repeats += 1,
                Event::Rejected { .. } => rejects += 1,
                Event::OrderClosed {
                    reason: CloseReason::Expired | CloseReason::CancelAfter,
                    ..
                } => expiries += 1,
                _ => {}
            }
        }
    }
    let enough = trades > 300 && replaces > 30 && repeats > 30 && rejects < commands && expiries > 100;
    assert!(
        enough,
        "seed {seed}: {trades} trades, {replaces} replaces, {repeats} repeats, {rejects} rejects, {expiries} expiries"
    );
}

/// The newest behaviour comes into force.
fn switch_on(flow: &Flow) -> Command {
    Command {
        account: AccountId::OPERATOR,
        key: ADMIN,
        request_id: "switch-on".parse().unwrap(),
        valid_until: None,
        received_at: Timestamp(flow.now),
        action: Action::SetEngineVersion {
            version: engine::ENGINE_VERSION,
        },
    }
}

/// Whatever was suspended or halted goes on.
fn revive(flow: &mut Flow, step: u64) -> Command {
    flow.sequence += 1;
    let action = match step / 50 % 4 {
        0 => Action::SetInstrumentStatus {
            instrument: InstrumentId(0),
            status: InstrumentStatus::Trading,
        },
        account => Action::SetAccountStatus {
            account: AccountId(1 + account as u32),
            status: AccountStatus::Active,
        },
    };
    Command {
        account: AccountId::OPERATOR,
        key: ADMIN,
        request_id: format!("revive-{step}").parse().unwrap(),
        valid_until: None,
        received_at: Timestamp(flow.now),
        action,
    }
}

/// What holds for the events of every command.
fn check_events(events: &[Event], command: &Command) {
    let Some(first) = events.first() else {
        panic!("no answer to {command:?}");
    };
    let answers = matches!(
        (&command.action, first),
        (_, Event::Rejected { .. } | Event::Repeated { .. })
            | (Action::Place(_), Event::OrderPlaced(_))
            | (Action::Replace(_), Event::OrderReplaced { .. })
            | (
                Action::Cancel(_),
                Event::OrderClosed { .. } | Event::ClientOrderIdBurnt { .. }
            )
            | (
                Action::CancelAll(_) | Action::CancelAllFor { .. },
                Event::AllCancelled { .. }
            )
            | (Action::CancelAfter(_), Event::CancelAfterSet { .. })
            | (Action::Deposit(_) | Action::Withdraw(_), Event::BalanceChanged { .. })
            | (
                Action::SetInstrumentRules { .. } | Action::SetInstrumentStatus { .. },
                Event::InstrumentChanged(_)
            )
            | (Action::SetAccountStatus { .. }, Event::AccountChanged(_))
            | (Action::SetRules(_), Event::RulesChanged(_))
            | (Action::SetEngineVersion { .. }, Event::EngineVersionChanged(_))
    );
    assert!(answers, "the answer comes first: {command:?} {events:?}");
    let mut indexes = 0;
    let mut balances = std::collections::BTreeSet::new();
    for event in events {
        match event {
            Event::Traded(trade) => {
                assert_eq!(trade.index, indexes, "fills are counted");
                assert_ne!(trade.maker.account, trade.taker.account, "nobody trades with himself");
                indexes += 1;
            }
            Event::BalanceChanged { balance, reason } => {
                let once = balances.insert((balance.account, balance.asset, *reason == BalanceReason::Order));
                assert!(once, "each balance is told once: {events:?}");
            }
            _ => {}
        }
    }
}
