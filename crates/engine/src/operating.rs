//! What operators ask: assets, instruments, accounts, keys, money in and out, limits.

use types::limits::{AMOUNT_MAX, ASSET_DECIMALS_MAX};
use types::{
    Account, AccountId, AccountStatus, Action, Asset, AssetId, CloseReason, EngineVersion, Event, Instrument,
    InstrumentId, InstrumentRules, InstrumentStatus, Key, KeyId, NewKey, Price, RejectReason, Rules, StateMachine as _,
    Symbol, Timestamp, Transfer,
};

use crate::book::Book;
use crate::exchange::{Exchange, asset_item, rules_item};
use crate::instruments::{Listing, is_same_number, scale_of};
use crate::{keys, memory};

/// The shortest and the longest window of the request memory: a second and thirty days.
const WINDOW_NS: std::ops::RangeInclusive<u64> = Timestamp::SECOND..=30 * Timestamp::DAY;
/// The most orders that one command may be told to expire.
const EXPIRIES_MAX: u32 = 100_000;
/// The most open orders, accounts and instruments: their numbers are of 32 bits, with room to spare.
const ITEMS_MAX: u32 = 1 << 30;

impl<B: Book> Exchange<B> {
    /// Executes an operator's action.
    pub(crate) fn operate(&mut self, key: KeyId, action: &Action, events: &mut Vec<Event>) -> Result<(), RejectReason> {
        match action {
            Action::CreateAsset { symbol, decimals } => self.create_asset(*symbol, *decimals, events),
            Action::CreateInstrument {
                symbol,
                base,
                quote,
                rules,
            } => self.create_instrument(*symbol, *base, *quote, rules, events),
            Action::SetInstrumentRules { instrument, rules } => self.set_instrument_rules(*instrument, rules, events),
            Action::SetInstrumentStatus { instrument, status } => {
                self.set_instrument_status(*instrument, *status, events)
            }
            Action::CreateAccount => self.create_account(events),
            Action::SetAccountStatus { account, status } => self.set_account_status(*account, *status, events),
            Action::Deposit(transfer) => self.deposit(transfer, events),
            Action::Withdraw(transfer) => self.withdraw(transfer, events),
            Action::CreateKey(new) => self.create_key(key, new, events),
            Action::RevokeKey { key } => self.revoke_key(*key, events),
            Action::CancelAllFor { account, instrument } => self.cancel_all_for(*account, *instrument, events),
            Action::SetRules(rules) => self.set_rules(rules, events),
            Action::SetEngineVersion { version } => self.set_engine_version(*version, events),
            Action::Clock
            | Action::Place(_)
            | Action::Replace(_)
            | Action::Cancel(_)
            | Action::CancelAll(_)
            | Action::CancelAfter(_) => unreachable!("these are not the operator's"),
        }
    }

    fn create_asset(&mut self, symbol: Symbol, decimals: u8, events: &mut Vec<Event>) -> Result<(), RejectReason> {
        if symbol.is_empty() || decimals > ASSET_DECIMALS_MAX {
            return Err(RejectReason::RulesInvalid);
        }
        if self.assets.iter().any(|asset| asset.symbol == symbol) {
            return Err(RejectReason::SymbolTaken);
        }
        let id = u16::try_from(self.assets.len()).map_err(|_| RejectReason::LimitReached)?;
        let asset = Asset {
            id: AssetId(id),
            symbol,
            decimals,
        };
        self.add_asset(asset);
        events.push(Event::AssetCreated(asset));
        Ok(())
    }

    pub(crate) fn add_asset(&mut self, asset: Asset) {
        self.sum.add(asset_item(&asset));
        self.assets.push(asset);
        self.ledger.add_asset();
    }

    fn create_instrument(
        &mut self,
        symbol: Symbol,
        base: AssetId,
        quote: AssetId,
        rules: &InstrumentRules,
        events: &mut Vec<Event>,
    ) -> Result<(), RejectReason> {
        self.find_asset(base)?;
        self.find_asset(quote)?;
        if symbol.is_empty() || base == quote {
            return Err(RejectReason::RulesInvalid);
        }
        if self.instruments.iter().any(|listing| listing.info.symbol == symbol) {
            return Err(RejectReason::SymbolTaken);
        }
        if self.instruments.len() >= self.rules.instruments_max as usize {
            return Err(RejectReason::LimitReached);
        }
        let instrument = Instrument {
            id: InstrumentId(u32::try_from(self.instruments.len()).expect("instruments are bounded")),
            symbol,
            base,
            quote,
            rules: *rules,
            scale_version: 1,
            status: InstrumentStatus::Halted,
        };
        self.add_instrument(instrument, Price(0), false)?;
        events.push(Event::InstrumentChanged(instrument));
        Ok(())
    }

    /// Adds an instrument whose assets are there, if its rules are valid.
    pub(crate) fn add_instrument(
        &mut self,
        instrument: Instrument,
        last_price: Price,
        purging: bool,
    ) -> Result<(), RejectReason> {
        let base = *self.find_asset(instrument.base)?;
        let quote = *self.find_asset(instrument.quote)?;
        let scale = scale_of(&instrument.rules, &base, &quote)?;
        let fees = self.ledger.open(AccountId::FEES, quote.id);
        let mut listing = Listing::new(instrument, scale, fees);
        listing.last_price = last_price;
        listing.purging = purging;
        self.sum.add(listing.item());
        self.sum.add(listing.last_price_item());
        self.instruments.push(listing);
        Ok(())
    }

    fn set_instrument_rules(
        &mut self,
        instrument: InstrumentId,
        rules: &InstrumentRules,
        events: &mut Vec<Event>,
    ) -> Result<(), RejectReason> {
        let listing = self.find_listing(instrument)?;
        let info = listing.info;
        let scale = scale_of(rules, self.find_asset(info.base)?, self.find_asset(info.quote)?)?;
        let same_scale = is_same_number(info.rules.tick_size, rules.tick_size)
            && is_same_number(info.rules.lot_size, rules.lot_size);
        if !same_scale && (info.status != InstrumentStatus::Halted || !listing.book.is_empty()) {
            return Err(RejectReason::NotHaltedAndEmpty);
        }
        self.change_listing(instrument, events, |listing| {
            listing.info.rules = *rules;
            listing.scale = scale;
            if !same_scale {
                // The last price was in other ticks.
                listing.last_price = Price(0);
                listing.info.scale_version += 1;
            }
        });
        Ok(())
    }

    fn set_instrument_status(
        &mut self,
        instrument: InstrumentId,
        status: InstrumentStatus,
        events: &mut Vec<Event>,
    ) -> Result<(), RejectReason> {
        self.find_listing(instrument)?;
        self.change_listing(instrument, events, |listing| listing.info.status = status);
        self.close_instrument_if_final(instrument);
        Ok(())
    }

    /// The instrument, if it isn't closed.
    fn find_listing(&self, instrument: InstrumentId) -> Result<&Listing<B>, RejectReason> {
        let listing = self
            .instruments
            .get(instrument.0 as usize)
            .ok_or(RejectReason::InstrumentUnknown)?;
        if listing.info.status == InstrumentStatus::Closed {
            return Err(RejectReason::InstrumentClosed);
        }
        Ok(listing)
    }

    fn change_listing(
        &mut self,
        instrument: InstrumentId,
        events: &mut Vec<Event>,
        change: impl FnOnce(&mut Listing<B>),
    ) {
        let listing = &mut self.instruments[instrument.0 as usize];
        self.sum.remove(listing.item());
        self.sum.remove(listing.last_price_item());
        change(listing);
        self.sum.add(listing.item());
        self.sum.add(listing.last_price_item());
        events.push(Event::InstrumentChanged(listing.info));
    }

    fn find_asset(&self, asset: AssetId) -> Result<&Asset, RejectReason> {
        self.assets.get(usize::from(asset.0)).ok_or(RejectReason::AssetUnknown)
    }

    fn create_account(&mut self, events: &mut Vec<Event>) -> Result<(), RejectReason> {
        if self.accounts.len() >= self.rules.accounts_max as usize {
            return Err(RejectReason::LimitReached);
        }
        let status = AccountStatus::Active;
        let id = self.accounts.add(status, Timestamp::FAR_FUTURE);
        events.push(Event::AccountChanged(Account { id, status }));
        Ok(())
    }

    fn set_account_status(
        &mut self,
        account: AccountId,
        status: AccountStatus,
        events: &mut Vec<Event>,
    ) -> Result<(), RejectReason> {
        if account < AccountId::FIRST || self.accounts.get(account).is_none() {
            return Err(RejectReason::AccountUnknown);
        }
        self.accounts.set_status(account, status);
        events.push(Event::AccountChanged(Account { id: account, status }));
        if status == AccountStatus::Suspended {
            self.close_some_of(account, None, CloseReason::Operator, usize::MAX, events);
        }
        Ok(())
    }

    /// Money comes in: for customers, or for the fees' account to pay rebates from.
    fn deposit(&mut self, transfer: &Transfer, events: &mut Vec<Event>) -> Result<(), RejectReason> {
        self.check_transfer(transfer)?;
        if self.ledger.supply(transfer.asset) + transfer.amount.0 > AMOUNT_MAX {
            return Err(RejectReason::AmountOutOfRange);
        }
        let cell = self.ledger.open(transfer.account, transfer.asset);
        self.ledger.transfer(cell, transfer.amount.0);
        // The new balance is the answer, so it can't wait for the command's end.
        self.ledger.settle(events);
        Ok(())
    }

    fn withdraw(&mut self, transfer: &Transfer, events: &mut Vec<Event>) -> Result<(), RejectReason> {
        self.check_transfer(transfer)?;
        let cell = self.ledger.find(transfer.account, transfer.asset);
        let cell = cell.ok_or(RejectReason::InsufficientFunds)?;
        if self.ledger.available(cell) < transfer.amount.0 {
            return Err(RejectReason::InsufficientFunds);
        }
        self.ledger.transfer(cell, -transfer.amount.0);
        self.ledger.settle(events);
        Ok(())
    }

    fn check_transfer(&self, transfer: &Transfer) -> Result<(), RejectReason> {
        if transfer.account == AccountId::OPERATOR || self.accounts.get(transfer.account).is_none() {
            return Err(RejectReason::AccountUnknown);
        }
        self.find_asset(transfer.asset)?;
        if transfer.amount.0 < 1 || transfer.amount.0 > AMOUNT_MAX {
            return Err(RejectReason::AmountOutOfRange);
        }
        Ok(())
    }

    /// The system's own key makes an operator's key only while there is none: at the very beginning, or after all of them
    /// were revoked.
    fn create_key(&mut self, by: KeyId, new: &NewKey, events: &mut Vec<Event>) -> Result<(), RejectReason> {
        if by == KeyId::SYSTEM && self.keys.has_admin() {
            return Err(RejectReason::InitialisedAlready);
        }
        if by == KeyId::SYSTEM && new.account != AccountId::OPERATOR {
            return Err(RejectReason::KeyInvalid);
        }
        let account = self.accounts.get(new.account).ok_or(RejectReason::AccountUnknown)?;
        if !keys::is_valid(new.account, new.scopes, &new.material) {
            return Err(RejectReason::KeyInvalid);
        }
        if account.keys_active >= self.rules.keys_per_account_max {
            return Err(RejectReason::LimitReached);
        }
        let id = u32::try_from(self.keys.len() + 1).map_err(|_| RejectReason::LimitReached)?;
        let key = Key {
            id: KeyId(id),
            account: new.account,
            scopes: new.scopes,
            material: new.material.clone(),
            active: true,
        };
        self.memory.take_hash_key(&key.material);
        self.add_key(key.clone());
        events.push(Event::KeyChanged(key));
        Ok(())
    }

    pub(crate) fn add_key(&mut self, key: Key) {
        self.accounts.record(key.account).keys_active += u32::from(key.active);
        self.keys.add(key);
    }

    fn revoke_key(&mut self, key: KeyId, events: &mut Vec<Event>) -> Result<(), RejectReason> {
        let known = self.keys.get(key).ok_or(RejectReason::KeyUnknown)?;
        if !known.active {
            return Err(RejectReason::KeyRevoked);
        }
        let revoked = self.keys.revoke(key);
        self.accounts.record(revoked.account).keys_active -= 1;
        events.push(Event::KeyChanged(revoked.clone()));
        Ok(())
    }

    fn set_rules(&mut self, rules: &Rules, events: &mut Vec<Event>) -> Result<(), RejectReason> {
        if !is_valid(rules) || Some(rules.version) != self.rules.version.checked_add(1) {
            return Err(RejectReason::RulesInvalid);
        }
        self.sum.remove(rules_item(&self.rules));
        self.rules = *rules;
        self.sum.add(rules_item(rules));
        self.memory
            .set_limits(rules.request_memory_bytes_max, rules.request_window_ns, self.now);
        events.push(Event::RulesChanged(*rules));
        Ok(())
    }
}

impl<B: Book> Exchange<B> {
    /// Whoever applies the log stops at a version that this program doesn't know, so none such comes here.
    fn set_engine_version(&mut self, version: EngineVersion, events: &mut Vec<Event>) -> Result<(), RejectReason> {
        if version <= self.engine_version || version > self.engine_version_max() {
            return Err(RejectReason::EngineVersionNotHigher);
        }
        self.engine_version = version;
        events.push(Event::EngineVersionChanged(version));
        Ok(())
    }
}

/// True if the limits lie within their ranges and agree with each other.
pub(crate) fn is_valid(rules: &Rules) -> bool {
    WINDOW_NS.contains(&rules.request_window_ns)
        && (memory::BYTES_MIN..=memory::BYTES_MAX).contains(&rules.request_memory_bytes_max)
        && (1..=rules.open_orders_max).contains(&rules.open_orders_per_account_max)
        && (1..=ITEMS_MAX).contains(&rules.open_orders_max)
        && (1..=ITEMS_MAX).contains(&rules.accounts_max)
        && (1..=ITEMS_MAX).contains(&rules.instruments_max)
        && rules.keys_per_account_max >= 1
        && (1..=EXPIRIES_MAX).contains(&rules.expiries_per_command_max)
}
