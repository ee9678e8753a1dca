//! The one helper of these tests: a short text of commands, each with what must come of it.
//!
//! ```text
//! alice buy 10@100 #a              -> placed a; ...            one command and all of its events
//! book X: 10@100 |                                             bids, best first, then asks
//! balance alice USD: 9000 + 1000                               available + held
//! ```
//!
//! The world has the assets USD and ACME (no decimals), the instrument X = ACME for USD (tick 1, lot 1), and the accounts
//! alice, bob and carol, each with a key and with 10,000 USD and 1,000 ACME.

use engine::Exchange;
use engine::book::{Book, FastBook, PlainBook};
use types::*;

/// An exchange, and what the commands' words mean in it.
pub struct World<B: Book> {
    /// The exchange.
    pub exchange: Exchange<B>,
    /// The events of the last command.
    pub events: Vec<Event>,
    /// Whether the whole state is checked after each command.
    pub checks_each_command: bool,
    sequence: u64,
    now: u64,
}

/// The operator's key.
pub const ADMIN: KeyId = KeyId(1);
/// Where the world's time starts: noon of some day.
pub const NOON: u64 = 20_000 * Timestamp::DAY + Timestamp::DAY / 2;

const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// The rules of the instrument X.
pub fn rules() -> InstrumentRules {
    InstrumentRules {
        tick_size: Decimal::new(1, 0),
        lot_size: Decimal::new(1, 0),
        quantity_min: Quantity(1),
        quantity_max: Quantity(500),
        notional_min: 5,
        notional_max: 20_000,
        collar_ppm: 0,
        reference_price: Price(0),
        maker_fee: FeeRate(0),
        taker_fee: FeeRate(0),
    }
}

impl<B: Book> World<B> {
    /// An exchange without anything.
    pub fn empty() -> Self {
        Self {
            exchange: Exchange::default(),
            events: Vec::new(),
            checks_each_command: true,
            sequence: 0,
            now: NOON,
        }
    }

    /// The world of the module's comment.
    pub fn new() -> Self {
        let mut world = Self::empty();
        let system = world.command(
            AccountId::OPERATOR,
            KeyId::SYSTEM,
            "init",
            new_key(AccountId::OPERATOR, Scopes::ADMIN),
        );
        world.apply(&system);
        world.operate(Action::CreateAsset {
            symbol: "USD".parse().unwrap(),
            decimals: 0,
        });
        world.operate(Action::CreateAsset {
            symbol: "ACME".parse().unwrap(),
            decimals: 0,
        });
        world.operate(Action::CreateInstrument {
            symbol: "X".parse().unwrap(),
            base: AssetId(1),
            quote: AssetId(0),
            rules: rules(),
        });
        world.operate(Action::SetInstrumentStatus {
            instrument: InstrumentId(0),
            status: InstrumentStatus::Trading,
        });
        for name in PEOPLE {
            world.operate(Action::CreateAccount);
            let account = account(name);
            world.operate(new_key(account, Scopes::READ.with(Scopes::TRADE)));
            for (asset, amount) in [(0, 10_000), (1, 1_000)] {
                world.operate(Action::Deposit(Transfer {
                    account,
                    asset: AssetId(asset),
                    amount: Amount(amount),
                }));
            }
        }
        world
    }

    /// A command at the next position.
    pub fn command(&self, account: AccountId, key: KeyId, request_id: &str, action: Action) -> Command {
        Command {
            account,
            key,
            request_id: request_id.parse().unwrap(),
            valid_until: None,
            received_at: Timestamp(self.now),
            action,
        }
    }

    /// Executes an operator's action under a new id.
    pub fn operate(&mut self, action: Action) -> String {
        let id = format!("operator-{}", self.sequence + 1);
        let command = self.command(AccountId::OPERATOR, ADMIN, &id, action);
        self.apply(&command)
    }

    /// Lets time pass.
    pub fn wait(&mut self, nanoseconds: u64) {
        self.now += nanoseconds;
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }

    /// Applies the command at the next position, checks what must always hold, and tells the events in words.
    pub fn apply(&mut self, command: &Command) -> String {
        let position = self.next_position();
        self.exchange
            .apply(position, Timestamp(self.now), command, &mut self.events);
        assert!(!self.events.is_empty(), "every command has an answer");
        if self.checks_each_command {
            self.exchange.check_invariants();
        }
        self.told()
    }

    /// Has the command refused at the next position, as one that was quarantined.
    pub fn quarantine(&mut self, command: &Command) -> String {
        let position = self.next_position();
        self.exchange
            .apply_quarantined(position, Timestamp(self.now), command, &mut self.events);
        self.exchange.check_invariants();
        self.told()
    }

    /// Goes on with an exchange restored from a snapshot of this one.
    pub fn restart(&mut self) {
        let restored = Exchange::restore(self.exchange.snapshot(), self.exchange.engine_version()).unwrap();
        assert_eq!(restored.state_hash(), self.exchange.state_hash());
        self.exchange = restored;
        self.exchange.check_invariants();
    }

    fn next_position(&mut self) -> Position {
        self.sequence += 1;
        self.events.clear();
        Position {
            group: GroupId(0),
            epoch: Epoch(1),
            sequence: Sequence(self.sequence),
        }
    }

    fn told(&self) -> String {
        let words: Vec<String> = self.events.iter().filter_map(words).collect();
        words.join("; ")
    }

    fn book(&self) -> String {
        let book = self.exchange.book(InstrumentId(0)).unwrap();
        let side = |side| -> String {
            let orders = book.orders(side);
            let orders = orders.map(|(_, order)| format!("{}@{}", order.remaining.0, order.price.0));
            orders.collect::<Vec<_>>().join(" ")
        };
        format!("{} | {}", side(Side::Buy), side(Side::Sell)).trim().to_string()
    }

    /// Runs one line and checks what it says.
    pub fn run(&mut self, line: &str) {
        if let Some(expected) = line.strip_prefix("book X:") {
            assert_eq!(self.book(), expected.trim(), "{line}");
        } else if let Some(rest) = line.strip_prefix("balance ") {
            let (whose, expected) = rest.split_once(':').unwrap();
            let (name, asset) = whose.split_once(' ').unwrap();
            let asset = AssetId(u16::from(asset != "USD"));
            let balance = self.exchange.balance(account(name), asset);
            let shown = format!("{} + {}", balance.available.0, balance.held.0);
            assert_eq!(shown, expected.trim(), "{line}");
        } else {
            let (command, expected) = line.split_once("->").unwrap_or((line, ""));
            let outcome = self.run_command(command.trim());
            assert_eq!(outcome, expected.trim(), "{line}");
        }
    }

    /// Runs a command without expectations, and tells its events in words.
    pub fn run_command(&mut self, text: &str) -> String {
        let mut tokens: Vec<&str> = text.split_whitespace().collect();
        let name = tokens.remove(0);
        match name {
            "wait" => {
                self.wait(tokens[0].parse::<u64>().unwrap() * Timestamp::SECOND);
                String::new()
            }
            "clock" => {
                let clock = Command::clock(Timestamp(self.now));
                self.apply(&clock)
            }
            "operator" => {
                let action = self.operator_action(&tokens);
                self.operate(action)
            }
            _ => {
                let command = self.parse(text);
                self.apply(&command)
            }
        }
    }

    /// A client's command at the next position.
    pub fn parse(&self, text: &str) -> Command {
        let mut tokens: Vec<&str> = text.split_whitespace().collect();
        let name = tokens.remove(0);
        let (request_id, valid_until, action) = self.client_action(&tokens);
        let mut command = self.command(account(name), key(name), &request_id, action);
        command.valid_until = valid_until;
        command
    }

    fn operator_action(&self, tokens: &[&str]) -> Action {
        let instrument = InstrumentId(0);
        let status = |status| Action::SetInstrumentStatus { instrument, status };
        let transfer = || Transfer {
            account: account(tokens[1]),
            asset: AssetId(u16::from(tokens[2] != "USD")),
            amount: Amount(tokens[3].parse().unwrap()),
        };
        match tokens {
            ["halt"] => status(InstrumentStatus::Halted),
            ["trade"] => status(InstrumentStatus::Trading),
            ["close"] => status(InstrumentStatus::Closed),
            ["suspend", name] => account_status(name, AccountStatus::Suspended),
            ["restrict", name] => account_status(name, AccountStatus::CancelOnly),
            ["activate", name] => account_status(name, AccountStatus::Active),
            ["deposit", ..] => Action::Deposit(transfer()),
            ["withdraw", ..] => Action::Withdraw(transfer()),
            ["cancel-all", name] => Action::CancelAllFor {
                account: Some(account(name)),
                instrument: None,
            },
            ["purge"] => Action::CancelAllFor {
                account: None,
                instrument: Some(instrument),
            },
            ["rules", changes @ ..] => {
                let mut changed = rules();
                for change in changes {
                    change_rule(&mut changed, change);
                }
                Action::SetInstrumentRules {
                    instrument,
                    rules: changed,
                }
            }
            ["engine-version", version] => Action::SetEngineVersion {
                version: EngineVersion(version.parse().unwrap()),
            },
            ["limits", changes @ ..] => {
                let mut limits = *self.exchange.rules();
                limits.version += 1;
                for change in changes {
                    change_limit(&mut limits, change);
                }
                Action::SetRules(limits)
            }
            _ => panic!("what does the operator mean by {tokens:?}?"),
        }
    }

    /// `buy 10@100 #id [words]`, `replace TARGET 5@101 #id`, `cancel TARGET #id`, `cancel-all #id`, `cancel-after 30 #id`;
    /// a target is a client order id, or `order:SEQUENCE`.
    fn client_action(&self, tokens: &[&str]) -> (String, Option<Timestamp>, Action) {
        let id = tokens.iter().find_map(|token| token.strip_prefix('#'));
        let id = id.map_or_else(|| format!("request-{}", self.sequence + 1), str::to_string);
        let later = |seconds: &str| Timestamp(NOON + seconds.parse::<u64>().unwrap() * Timestamp::SECOND);
        let valid_until = tokens
            .iter()
            .find_map(|token| token.strip_prefix("valid-until:"))
            .map(later);
        let rest = tokens
            .iter()
            .copied()
            .filter(|token| !token.starts_with('#') && !token.starts_with("valid-until:"));
        let rest: Vec<&str> = rest.collect();
        let action = match rest.as_slice() {
            [side @ ("buy" | "sell"), what, words @ ..] => Action::Place(new_order(side, what, words, later)),
            ["replace", target, what, words @ ..] => {
                let (quantity, price) = what.split_once('@').unwrap();
                Action::Replace(Replace {
                    target: order_target(target),
                    scale_version: version(words),
                    price: price.parse().ok().map(Price),
                    quantity: quantity.parse().ok().map(Quantity),
                    post_only: words.contains(&"post-only").then_some(true),
                })
            }
            ["cancel", target] => Action::Cancel(order_target(target)),
            ["cancel-all"] => Action::CancelAll(CancelAll { instrument: None }),
            ["cancel-all", "X"] => Action::CancelAll(CancelAll {
                instrument: Some(InstrumentId(0)),
            }),
            ["cancel-after", seconds] => Action::CancelAfter(CancelAfter {
                after_ns: seconds.parse::<u64>().unwrap() * Timestamp::SECOND,
            }),
            _ => panic!("what does {tokens:?} mean?"),
        };
        (id, valid_until, action)
    }
}

/// Runs the text over both books.
pub fn check(text: &str) {
    run::<PlainBook>(text);
    run::<FastBook>(text);
}

fn run<B: Book>(text: &str) {
    let mut world = World::<B>::new();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
    {
        world.run(line);
    }
}

/// The account of a name.
pub fn account(name: &str) -> AccountId {
    match PEOPLE.iter().position(|known| *known == name) {
        Some(index) => AccountId(AccountId::FIRST.0 + index as u32),
        None if name == "fees" => AccountId::FEES,
        None => AccountId(99),
    }
}

/// The key of a name.
pub fn key(name: &str) -> KeyId {
    KeyId(account(name).0)
}

/// The action that makes a key.
pub fn new_key(account: AccountId, scopes: Scopes) -> Action {
    Action::CreateKey(NewKey {
        account,
        scopes,
        material: KeyMaterial::Ed25519([7; 32]),
    })
}

fn account_status(name: &str, status: AccountStatus) -> Action {
    Action::SetAccountStatus {
        account: account(name),
        status,
    }
}

fn version(words: &[&str]) -> u32 {
    words
        .iter()
        .find_map(|word| word.strip_prefix("scale:"))
        .map_or(1, |version| version.parse().unwrap())
}

fn order_target(text: &str) -> OrderTarget {
    match text.strip_prefix("order:") {
        Some(sequence) => OrderTarget::OrderId(OrderId(Position {
            group: GroupId(0),
            epoch: Epoch(1),
            sequence: Sequence(sequence.parse().unwrap()),
        })),
        None => OrderTarget::ClientOrderId(text.parse().unwrap()),
    }
}

fn new_order(side: &str, what: &str, words: &[&str], later: impl Fn(&str) -> Timestamp) -> NewOrder {
    let (quantity, price) = what.split_once('@').unwrap_or((what, "0"));
    let market = !what.contains('@');
    let mut order = NewOrder {
        instrument: InstrumentId(u32::from(words.contains(&"of-Y"))),
        scale_version: version(words),
        side: if side == "buy" { Side::Buy } else { Side::Sell },
        order_type: if market { OrderType::Market } else { OrderType::Limit },
        time_in_force: if market { TimeInForce::Ioc } else { TimeInForce::Gtc },
        price: Price(price.parse().unwrap()),
        quantity: Quantity(quantity.parse().unwrap()),
        post_only: words.contains(&"post-only"),
        self_trade_prevention: SelfTradePrevention::CancelNewest,
    };
    for word in words {
        match *word {
            "gtc" => order.time_in_force = TimeInForce::Gtc,
            "ioc" => order.time_in_force = TimeInForce::Ioc,
            "fok" => order.time_in_force = TimeInForce::Fok,
            "day" => order.time_in_force = TimeInForce::Day,
            "oldest" => order.self_trade_prevention = SelfTradePrevention::CancelOldest,
            "decrement" => order.self_trade_prevention = SelfTradePrevention::DecrementAndCancel,
            "both" => order.self_trade_prevention = SelfTradePrevention::CancelBoth,
            word => {
                if let Some(seconds) = word.strip_prefix("gtd:") {
                    order.time_in_force = TimeInForce::Gtd(later(seconds));
                }
            }
        }
    }
    order
}

fn change_rule(rules: &mut InstrumentRules, change: &str) {
    let (name, value) = change.split_once('=').unwrap();
    match name {
        "maker" => rules.maker_fee = FeeRate(value.parse().unwrap()),
        "taker" => rules.taker_fee = FeeRate(value.parse().unwrap()),
        "collar" => rules.collar_ppm = value.parse().unwrap(),
        "reference" => rules.reference_price = Price(value.parse().unwrap()),
        "tick" => rules.tick_size = value.parse().unwrap(),
        "lot" => rules.lot_size = value.parse().unwrap(),
        "notional-max" => rules.notional_max = value.parse().unwrap(),
        "quantity-max" => rules.quantity_max = Quantity(value.parse().unwrap()),
        _ => panic!("no such rule: {name}"),
    }
}

fn change_limit(limits: &mut Rules, change: &str) {
    let (name, value) = change.split_once('=').unwrap();
    let number = value.parse().unwrap();
    match name {
        "expiries" => limits.expiries_per_command_max = number,
        "open" => limits.open_orders_per_account_max = number,
        "open-all" => limits.open_orders_max = number,
        "accounts" => limits.accounts_max = number,
        "instruments" => limits.instruments_max = number,
        "keys" => limits.keys_per_account_max = number,
        "window" => limits.request_window_ns = u64::from(number) * Timestamp::SECOND,
        "memory" => limits.request_memory_bytes_max = u64::from(number),
        "version" => limits.version = number,
        _ => panic!("no such limit: {name}"),
    }
}

fn words(event: &Event) -> Option<String> {
    let words = match event {
        Event::ClockAdvanced => "clock".into(),
        Event::Rejected { reason, .. } => format!("rejected {}", reason.code()),
        Event::Repeated {
            original,
            reason,
            order,
            ..
        } => {
            let reason = reason.map_or(String::new(), |reason| format!(" rejected {}", reason.code()));
            let order = order.map_or(String::new(), |order| {
                format!(" open {}/{}", order.filled.0, order.quantity.0)
            });
            format!("repeat of {}{reason}{order}", original.sequence)
        }
        Event::OrderPlaced(order) => format!("placed {}", order.client_order_id),
        Event::OrderReplaced {
            order, priority_kept, ..
        } => {
            let kept = if *priority_kept { "kept" } else { "lost" };
            format!(
                "replaced {} {}@{} {kept}",
                order.client_order_id, order.quantity.0, order.price.0
            )
        }
        Event::Traded(trade) => {
            let fees = if trade.maker.fee.0 == 0 && trade.taker.fee.0 == 0 {
                String::new()
            } else {
                format!(" fees {} {}", trade.maker.fee.0, trade.taker.fee.0)
            };
            let filled = if trade.maker.remaining.0 == 0 { " filled" } else { "" };
            format!(
                "{}@{} with {}{filled}{fees}",
                trade.quantity.0, trade.price.0, trade.maker.client_order_id
            )
        }
        Event::OrderClosed {
            order,
            reason,
            cancelled_quantity,
        } => {
            format!(
                "{} {:?} {reason:?} {}",
                order.client_order_id, order.status, cancelled_quantity.0
            )
        }
        Event::AllCancelled { count, .. } => format!("all cancelled {count}"),
        Event::ClientOrderIdBurnt { client_order_id, .. } => format!("burnt {client_order_id}"),
        Event::CancelAfterSet { deadline, .. } => match deadline {
            Some(deadline) => format!("cancel after {}", (deadline.0 - NOON) / Timestamp::SECOND),
            None => "cancel after off".into(),
        },
        Event::BalanceChanged {
            reason: BalanceReason::Order,
            ..
        } => return None,
        Event::BalanceChanged { balance, reason } => format!("{reason:?} {} + {}", balance.available.0, balance.held.0),
        Event::AssetCreated(asset) => format!("asset {}", asset.symbol),
        Event::InstrumentChanged(instrument) => {
            format!(
                "instrument {} {:?} scale {}",
                instrument.symbol, instrument.status, instrument.scale_version
            )
        }
        Event::AccountChanged(account) => format!("account {} {:?}", account.id, account.status),
        Event::KeyChanged(key) => format!("key {} {}", key.id, if key.active { "active" } else { "revoked" }),
        Event::RulesChanged(rules) => format!("limits {}", rules.version),
        Event::EngineVersionChanged(version) => format!("engine version {version}"),
    };
    Some(words)
}
