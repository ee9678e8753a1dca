//! The exchange: one command in, its events out.
//!
//! ```text
//!   apply(position, time, command)
//!     admit      key, scope ──> memory of requests ──> room in it           refused: the id stays free
//!                                    │ the same again: Repeated
//!     execute    valid_until, the account's status, then what is asked      refused: the id is used
//!     remember   hash, fingerprint, where, why not
//!     sweep      deadlines that are due, at most so many
//!     settle     no balance negative, no money made or lost; new balances told
//! ```
//!
//! **Which refusals use up the id.** Those of `admit` do not, as [`RejectReason::uses_request_id`] says: somebody whose key
//! does not hold must not write into an account's memory, and what can't be remembered must not be promised. All others
//! are final answers.
//!
//! **Deadlines.** An order whose deadline is due never trades, whether or not the sweep has reached it: matching, counting
//! liquidity and looking for a post-only order's counterpart all pass over it. An account whose dead man's switch is due
//! loses its orders before its own next command is executed, whole; elsewhere the sweep takes the rules'
//! `expiries_per_command_max`. Work on one account's orders at once (cancel all, suspension, its switch at its own command)
//! is bounded by the rules' `open_orders_per_account_max`. Emptying an instrument's book takes as many commands as it
//! needs; meanwhile the instrument takes no orders, and clock commands follow as its work stays due.

use std::ops::Range;

use types::{
    AccountId, AccountStatus, Action, Asset, AssetId, Balance, Command, EngineVersion, Event, InstrumentId, KeyId,
    Order, OrderId, OrderStatus, Position, RejectReason, RequestId, Rules, StateMachine, Timestamp,
};

use crate::accounts::Accounts;
use crate::ahead::Upcoming;
use crate::book::{Book, FastBook};
use crate::deadlines::Deadlines;
use crate::hash::{self, Kind, Mixer, Sum};
use crate::instruments::Listing;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::memory::{Entry, Outcome, RequestMemory};
use crate::orders::Orders;
use crate::request;
use crate::snapshot::Snapshot;

/// The newest version of its behaviour that this program knows.
pub const ENGINE_VERSION: EngineVersion = EngineVersion::DECREMENT_AND_CANCEL;

/// How many old entries of the request memory a command may drop to make room.
const DROPS_FOR_ROOM_MAX: usize = 64;

/// The exchange's whole state, over one kind of book. See the module.
#[derive(Clone, Debug)]
pub struct Exchange<B: Book = FastBook> {
    pub(crate) rules: Rules,
    /// Which behaviour is in force.
    pub(crate) engine_version: EngineVersion,
    /// The newest that it knows: no state, but what this program is.
    pub(crate) engine_version_max: EngineVersion,
    /// Where the running, or else the last, command stands, and its stamp.
    pub(crate) position: Position,
    pub(crate) now: Timestamp,
    /// True if some deadline was due when the running command began.
    pub(crate) overdue: bool,
    pub(crate) assets: Vec<Asset>,
    pub(crate) instruments: Vec<Listing<B>>,
    pub(crate) accounts: Accounts,
    pub(crate) keys: Keys,
    pub(crate) ledger: Ledger,
    pub(crate) orders: Orders,
    pub(crate) memory: RequestMemory,
    pub(crate) deadlines: Deadlines,
    /// The hashes of rules, assets and instruments.
    pub(crate) sum: Sum,
    /// The commands that come next: no state, but hints.
    pub(crate) upcoming: Upcoming,
    /// Events of the running command that come after its own.
    pub(crate) late: Vec<Event>,
}

/// A request that may be executed.
struct Admitted {
    request: [u64; 2],
    fingerprint: u64,
}

impl<B: Book> Default for Exchange<B> {
    fn default() -> Self {
        let rules = Rules::default();
        let mut exchange = Self {
            memory: RequestMemory::new(rules.request_memory_bytes_max, rules.request_window_ns),
            rules,
            engine_version: EngineVersion::FIRST,
            engine_version_max: ENGINE_VERSION,
            position: Position::default(),
            now: Timestamp(0),
            overdue: false,
            assets: Vec::new(),
            instruments: Vec::new(),
            accounts: Accounts::default(),
            keys: Keys::default(),
            ledger: Ledger::default(),
            orders: Orders::default(),
            deadlines: Deadlines::default(),
            sum: Sum::default(),
            upcoming: Upcoming::default(),
            late: Vec::new(),
        };
        exchange.sum.add(rules_item(&exchange.rules));
        exchange
    }
}

impl<B: Book> StateMachine for Exchange<B> {
    type Command = Command;
    type Event = Event;
    type Snapshot = Snapshot;

    fn apply(&mut self, position: Position, sequenced_at: Timestamp, command: &Command, events: &mut Vec<Event>) {
        self.begin(position, sequenced_at, command);
        match command.action {
            Action::Clock => events.push(Event::ClockAdvanced),
            _ => self.answer(command, events, Self::execute),
        }
        if !self.late.is_empty() {
            events.append(&mut self.late);
        }
        if self.deadlines.next() <= sequenced_at {
            self.sweep(events);
        }
        self.ledger.settle(events);
    }

    fn prepare(&mut self, command: &Command) {
        self.look_ahead(command);
    }

    fn apply_quarantined(
        &mut self,
        position: Position,
        sequenced_at: Timestamp,
        command: &Command,
        events: &mut Vec<Event>,
    ) {
        self.begin(position, sequenced_at, command);
        match command.action {
            Action::Clock => events.push(rejected(command, RejectReason::Quarantined)),
            _ => self.answer(command, events, |_, _, _| Err(RejectReason::Quarantined)),
        }
        self.ledger.settle(events);
    }

    fn state_hash(&self) -> u64 {
        self.sum
            .0
            .wrapping_add(self.accounts.hash())
            .wrapping_add(self.keys.hash())
            .wrapping_add(self.ledger.hash())
            .wrapping_add(self.orders.hash())
            .wrapping_add(self.memory.hash())
            .wrapping_add(self.place_item())
            .wrapping_add(self.engine_version_item())
    }

    const ENGINE_VERSION: EngineVersion = ENGINE_VERSION;

    fn engine_version(&self) -> EngineVersion {
        self.engine_version
    }

    fn engine_version_max(&self) -> EngineVersion {
        self.engine_version_max
    }

    fn sets_engine_version(command: &Command) -> Option<EngineVersion> {
        match command.action {
            Action::SetEngineVersion { version } => Some(version),
            _ => None,
        }
    }

    fn recompute_state_hash(&self) -> u64 {
        let mut sum = Sum::default();
        sum.add(rules_item(&self.rules));
        for asset in &self.assets {
            sum.add(asset_item(asset));
        }
        for listing in &self.instruments {
            sum.add(listing.item());
            sum.add(listing.last_price_item());
        }
        // The books decide which orders there are; an order that only one of the two knows shows as a difference.
        for listing in &self.instruments {
            for side in [types::Side::Buy, types::Side::Sell] {
                for (_, resting) in listing.book.orders(side) {
                    sum.add(self.orders.get(resting.key.0).recomputed_item());
                }
            }
        }
        sum.add(self.accounts.recompute_hash());
        sum.add(self.keys.recompute_hash());
        sum.add(self.ledger.recompute_hash());
        sum.add(self.memory.recompute_hash());
        sum.add(self.place_item());
        sum.add(self.engine_version_item());
        sum.0
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let next = self.deadlines.next();
        (next != Timestamp::FAR_FUTURE).then(|| next.max(self.now))
    }

    fn received_at(command: &Command) -> Timestamp {
        command.received_at
    }

    fn clock_command(now: Timestamp) -> Command {
        Command::clock(now)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::of(self)
    }

    fn restore(snapshot: Snapshot, engine_version: EngineVersion) -> Result<Self, String> {
        snapshot.restore(engine_version)
    }
}

impl<B: Book> Exchange<B> {
    fn begin(&mut self, position: Position, sequenced_at: Timestamp, command: &Command) {
        assert!(
            position.sequence > self.position.sequence && position.epoch >= self.position.epoch,
            "positions only grow: {position} after {}",
            self.position
        );
        assert!(sequenced_at >= self.now, "time never runs backwards");
        self.position = position;
        self.now = sequenced_at;
        self.overdue = self.deadlines.next() <= sequenced_at;
        self.upcoming.start(command);
    }

    /// Admits, executes and remembers. `execute` appends its events only once it can't be refused any more.
    fn answer(
        &mut self,
        command: &Command,
        events: &mut Vec<Event>,
        execute: impl FnOnce(&mut Self, &Command, &mut Vec<Event>) -> Result<Outcome, RejectReason>,
    ) {
        let Some(mut admitted) = self.admit(command, events) else {
            return;
        };
        let (outcome, reason) = match self
            .check_valid_until(command)
            .and_then(|()| execute(self, command, events))
        {
            Ok(outcome) => (outcome, None),
            Err(reason) => {
                events.push(rejected(command, reason));
                (Outcome::Done, Some(reason))
            }
        };
        if matches!(command.action, Action::CreateKey(_)) {
            // The first operator key gives the memory's hash its key.
            self.upcoming.clear();
            admitted.request = self.memory.request(command.account, &command.request_id);
        }
        if reason.is_none_or(RejectReason::uses_request_id) {
            self.remember(command.account, admitted, outcome, reason);
        }
    }

    /// Checks what must hold before a request may touch the memory, and looks there. If there is none, it was answered.
    fn admit(&mut self, command: &Command, events: &mut Vec<Event>) -> Option<Admitted> {
        if let Err(reason) = self.check_key(command) {
            events.push(rejected(command, reason));
            return None;
        }
        let known = self.upcoming.request();
        let request = known.unwrap_or_else(|| self.memory.request(command.account, &command.request_id));
        let fingerprint = request::fingerprint(command);
        if let Some(entry) = self.memory.find(request) {
            events.push(self.answer_again(command, entry, fingerprint));
            return None;
        }
        if self.orders.find_outlived(client_order(request)).is_some() {
            events.push(rejected(command, RejectReason::RequestIdReused));
            return None;
        }
        if !self.make_room(command) {
            events.push(rejected(command, RejectReason::RequestMemoryFull));
            return None;
        }
        Some(Admitted { request, fingerprint })
    }

    /// Drops entries whose window is over: two for each new one, so that a burst is forgotten as fast as it came, and more
    /// if that makes room.
    fn make_room(&mut self, command: &Command) -> bool {
        if self.memory.has_expired(self.now) {
            self.drop_expired();
            self.drop_expired();
        }
        let urgency = request::urgency(&command.action);
        let mut drops = 0;
        // A cancel may burn its target's id besides, which makes two entries.
        while !self.memory.has_room(urgency, 2) {
            if drops == DROPS_FOR_ROOM_MAX || !self.drop_expired() {
                return false;
            }
            drops += 1;
        }
        true
    }

    fn check_key(&self, command: &Command) -> Result<(), RejectReason> {
        if command.key == KeyId::SYSTEM {
            let makes_key = matches!(command.action, Action::CreateKey(_));
            let allowed = makes_key && command.account == AccountId::OPERATOR;
            return if allowed { Ok(()) } else { Err(RejectReason::KeyUnknown) };
        }
        self.keys
            .check(command.key, command.account, request::scope(&command.action))
    }

    fn answer_again(&self, command: &Command, entry: &Entry, fingerprint: u64) -> Event {
        if entry.fingerprint != fingerprint {
            let burnt = matches!(entry.outcome, Outcome::Burnt | Outcome::DoneAndBurnt);
            let reason = if burnt && matches!(command.action, Action::Place(_)) {
                RejectReason::RequestIdBurnt
            } else {
                RejectReason::RequestIdReused
            };
            return rejected(command, reason);
        }
        let original = Position {
            group: self.position.group,
            epoch: entry.epoch,
            sequence: entry.sequence,
        };
        let order = match entry.outcome {
            Outcome::Placed => self.order(OrderId(original)),
            Outcome::Done | Outcome::Burnt | Outcome::DoneAndBurnt => None,
        };
        Event::Repeated {
            account: command.account,
            request_id: command.request_id,
            original,
            original_sequenced_at: entry.sequenced_at,
            reason: entry.reason,
            order,
        }
    }

    /// Forgets the oldest request if its window is over. An order that it placed and that is still open stays known.
    fn drop_expired(&mut self) -> bool {
        let Some(entry) = self.memory.drop_expired(self.now) else {
            return false;
        };
        if entry.outcome == Outcome::Placed
            && let Some(slot) = self.orders.find_sequence(entry.sequence)
        {
            self.orders.outlive(slot, client_order(entry.request));
        }
        true
    }

    fn check_valid_until(&self, command: &Command) -> Result<(), RejectReason> {
        let Some(valid_until) = command.valid_until else {
            return Ok(());
        };
        if valid_until < self.now {
            return Err(RejectReason::ValidUntilPassed);
        }
        if valid_until.since_ns(self.now) > self.rules.request_window_ns {
            return Err(RejectReason::ValidUntilTooFar);
        }
        Ok(())
    }

    fn remember(&mut self, account: AccountId, admitted: Admitted, outcome: Outcome, reason: Option<RejectReason>) {
        self.memory.remember(Entry {
            request: admitted.request,
            fingerprint: admitted.fingerprint,
            sequence: self.position.sequence,
            sequenced_at: self.now,
            epoch: self.position.epoch,
            account,
            reason,
            outcome,
        });
    }

    /// Notes that no order under this client order id will ever execute.
    pub(crate) fn burn(&mut self, account: AccountId, request: [u64; 2]) {
        self.memory.remember(Entry {
            request,
            fingerprint: 0,
            sequence: self.position.sequence,
            sequenced_at: self.now,
            epoch: self.position.epoch,
            account,
            reason: None,
            outcome: Outcome::Burnt,
        });
    }

    fn execute(&mut self, command: &Command, events: &mut Vec<Event>) -> Result<Outcome, RejectReason> {
        let action = &command.action;
        if request::scope(action) == types::Scopes::ADMIN {
            self.operate(command.key, action, events)?;
            return Ok(Outcome::Done);
        }
        let status = self
            .accounts
            .get(command.account)
            .ok_or(RejectReason::AccountUnknown)?
            .status;
        if status == AccountStatus::Suspended {
            return Err(RejectReason::AccountSuspended);
        }
        if command.needs_engine_version() > self.engine_version {
            return Err(RejectReason::NotInForce);
        }
        self.fire_switch_first(command.account);
        match action {
            Action::Place(_) | Action::Replace(_) if status != AccountStatus::Active => {
                Err(RejectReason::AccountCancelOnly)
            }
            Action::Place(order) => self.place(command, order, events),
            Action::Replace(replace) => self.replace(command.account, replace, events),
            Action::Cancel(target) => self.cancel(command, target, events),
            Action::CancelAll(all) => self.cancel_all(command.account, all, events),
            Action::CancelAfter(after) => self.cancel_after(command.account, after, events),
            _ => unreachable!("every other action needs an operator's key"),
        }
    }

    /// Nothing while the first version is in force, so that programs that know no other come to the same hash.
    fn engine_version_item(&self) -> u64 {
        match self.engine_version {
            EngineVersion::FIRST => 0,
            version => hash::item(Kind::EngineVersion, [u64::from(version.0)]),
        }
    }

    fn place_item(&self) -> u64 {
        let Position { group, epoch, sequence } = self.position;
        let whose = u64::from(group.0) << 32 | u64::from(epoch.0);
        hash::item(Kind::Place, [whose, sequence.0, self.now.0])
    }
}

/// What tools, tests and the bootstrap of followers read.
impl<B: Book> Exchange<B> {
    /// The same as a program of an earlier release, which knows no newer behaviour than this. For tests.
    #[must_use]
    pub fn of_release(mut self, engine_version_max: EngineVersion) -> Self {
        assert!(self.engine_version <= engine_version_max && engine_version_max <= ENGINE_VERSION);
        self.engine_version_max = engine_version_max;
        self
    }

    /// The position of the last command that was applied; sequence 0 if there was none.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The stamp of the last command that was applied.
    pub fn time(&self) -> Timestamp {
        self.now
    }

    /// The limits.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The book of an instrument.
    pub fn book(&self, instrument: InstrumentId) -> Option<&B> {
        self.instruments.get(instrument.0 as usize).map(|listing| &listing.book)
    }

    /// The open order of this id.
    pub fn order(&self, order_id: OrderId) -> Option<Order> {
        let slot = self.orders.find(order_id)?;
        Some(self.orders.get(slot).as_order(OrderStatus::Open))
    }

    /// The open order that the account calls so.
    pub fn order_by_client_order_id(&self, account: AccountId, client_order_id: &RequestId) -> Option<Order> {
        let slot = self.find_client_order(account, client_order_id).ok()?;
        Some(self.orders.get(slot).as_order(OrderStatus::Open))
    }

    /// The account's open orders in the order of placing.
    pub fn open_orders(&self, account: AccountId) -> impl Iterator<Item = Order> + '_ {
        let slots = self.accounts.get(account).map(|record| self.orders.of_account(record));
        let slots = slots.into_iter().flatten();
        slots.map(|slot| self.orders.get(slot).as_order(OrderStatus::Open))
    }

    /// How many orders are open in all.
    pub fn open_orders_len(&self) -> usize {
        self.orders.len()
    }

    /// What the account holds of the asset.
    pub fn balance(&self, account: AccountId, asset: AssetId) -> Balance {
        match self.ledger.find(account, asset) {
            Some(cell) => self.ledger.balance(cell),
            None => Balance {
                account,
                asset,
                available: types::Amount(0),
                held: types::Amount(0),
            },
        }
    }

    /// How much of the asset exists: deposits less withdrawals.
    pub fn supply(&self, asset: AssetId) -> Option<types::Amount> {
        let known = usize::from(asset.0) < self.assets.len();
        known.then(|| types::Amount(self.ledger.supply(asset)))
    }

    /// Walks the whole state and panics unless it agrees with itself: money is conserved, what is held is what the open
    /// orders need, the books and the orders are the same, and the hash is that of the state. For tests and tools.
    pub fn check_invariants(&self) {
        assert!(
            self.ledger.is_conserved(),
            "the balances of each asset add up to its supply"
        );
        let mut needed = std::collections::BTreeMap::new();
        let mut resting = 0;
        for listing in &self.instruments {
            for side in [types::Side::Buy, types::Side::Sell] {
                for (handle, order) in listing.book.orders(side) {
                    let record = self.orders.get(order.key.0);
                    assert_eq!(record.handle, handle, "an order knows what its book calls it");
                    assert_eq!((record.side, record.price), (side, order.price));
                    assert_eq!((record.account, record.remaining()), (order.account, order.remaining.0));
                    assert_eq!(record.hold, self.hold_of(record), "an order holds what it needs");
                    *needed.entry(record.held_cell().0).or_insert(0) += record.hold;
                    resting += 1;
                }
            }
        }
        assert_eq!(resting, self.orders.len(), "each open order rests in one book");
        let chained: usize = self
            .accounts
            .iter()
            .map(|(_, record)| self.orders.of_account(record).count())
            .sum();
        assert_eq!(resting, chained, "each open order is in its account's chain");
        for balance in self.ledger.balances() {
            let cell = self.ledger.find(balance.account, balance.asset).expect("it has a cell");
            let needed = needed.get(&cell.0).copied().unwrap_or(0);
            assert_eq!(
                balance.held.0, needed,
                "what is held is what the orders need: {balance:?}"
            );
        }
        assert_eq!(
            self.state_hash(),
            self.recompute_state_hash(),
            "the hash is that of the state"
        );
    }

    /// Where its largest table is: nearly any command comes upon a page of it that none has come upon before.
    pub fn largest_table(&self) -> Range<*const u8> {
        let table = self.memory.index_memory();
        table.start.cast()..table.end.cast()
    }

    /// How full the memory of requests is.
    pub fn request_memory(&self) -> RequestMemoryUse {
        RequestMemoryUse {
            entries: self.memory.len(),
            entries_max: self.memory.capacity(),
            oldest: self.memory.oldest(),
        }
    }
}

/// How full the memory of requests is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestMemoryUse {
    /// How many requests are remembered.
    pub entries: usize,
    /// How many may be.
    pub entries_max: usize,
    /// When the oldest of them was sequenced.
    pub oldest: Option<Timestamp>,
}

/// The refusal of a command.
fn rejected(command: &Command, reason: RejectReason) -> Event {
    Event::Rejected {
        account: command.account,
        request_id: command.request_id,
        reason,
    }
}

/// The hash of account and client order id as one number.
pub(crate) fn client_order(request: [u64; 2]) -> u128 {
    u128::from(request[1]) << 64 | u128::from(request[0])
}

pub(crate) fn rules_item(rules: &Rules) -> u64 {
    let mut mixer = Mixer::new(Kind::Rules);
    request::limits(&mut mixer, rules);
    mixer.finish()
}

pub(crate) fn asset_item(asset: &Asset) -> u64 {
    let mut mixer = Mixer::new(Kind::Asset);
    mixer
        .word(u64::from(asset.id.0))
        .bytes(asset.symbol.as_bytes())
        .word(u64::from(asset.decimals));
    mixer.finish()
}
