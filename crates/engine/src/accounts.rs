//! Accounts: whether each may trade, its dead man's switch, and the list of its open orders' ends.

use types::{Account, AccountId, AccountStatus, Timestamp};

use crate::hash::{self, Kind, Sum};
use crate::prefetch::prefetch;

/// No order.
pub(crate) const NIL: u32 = u32::MAX;

/// All accounts, by id; there are always the operator's and the one of the fees.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    records: Vec<AccountRecord>,
    sum: Sum,
}

/// One account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccountRecord {
    pub(crate) status: AccountStatus,
    /// How many keys of it are active.
    pub(crate) keys_active: u32,
    /// Its open orders: how many, the one that was placed first and the one that was placed last.
    pub(crate) open_orders: u32,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// When its dead man's switch fires; [`Timestamp::FAR_FUTURE`] if it is off.
    pub(crate) cancel_after: Timestamp,
}

impl AccountRecord {
    fn new(status: AccountStatus, cancel_after: Timestamp) -> Self {
        Self {
            status,
            keys_active: 0,
            open_orders: 0,
            first: NIL,
            last: NIL,
            cancel_after,
        }
    }
}

impl Default for Accounts {
    fn default() -> Self {
        let mut accounts = Self {
            records: Vec::new(),
            sum: Sum::default(),
        };
        for _ in 0..AccountId::FIRST.0 {
            accounts.add(AccountStatus::Active, Timestamp::FAR_FUTURE);
        }
        accounts
    }
}

impl Accounts {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn get(&self, account: AccountId) -> Option<&AccountRecord> {
        self.records.get(account.0 as usize)
    }

    /// Asks for the memory of an account's record.
    #[inline]
    pub(crate) fn prefetch(&self, account: AccountId) {
        prefetch(&self.records, account.0 as usize);
    }

    /// The record of an account that is there. Status and deadline are changed through the setters, which keep the hash.
    pub(crate) fn record(&mut self, account: AccountId) -> &mut AccountRecord {
        &mut self.records[account.0 as usize]
    }

    /// Adds the account of the next id.
    pub(crate) fn add(&mut self, status: AccountStatus, cancel_after: Timestamp) -> AccountId {
        let account = AccountId(u32::try_from(self.records.len()).expect("accounts are fewer than 2^32"));
        let record = AccountRecord::new(status, cancel_after);
        self.sum.add(item(account, &record));
        self.records.push(record);
        account
    }

    pub(crate) fn set_status(&mut self, account: AccountId, status: AccountStatus) {
        self.update(account, |record| record.status = status);
    }

    pub(crate) fn set_cancel_after(&mut self, account: AccountId, deadline: Timestamp) {
        self.update(account, |record| record.cancel_after = deadline);
    }

    fn update(&mut self, account: AccountId, change: impl FnOnce(&mut AccountRecord)) {
        let record = &mut self.records[account.0 as usize];
        self.sum.remove(item(account, record));
        change(record);
        self.sum.add(item(account, record));
    }

    /// All accounts with their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Account, &AccountRecord)> {
        self.records.iter().zip(0..).map(|(record, id)| {
            let account = Account {
                id: AccountId(id),
                status: record.status,
            };
            (account, record)
        })
    }

    pub(crate) fn hash(&self) -> u64 {
        self.sum.0
    }

    pub(crate) fn recompute_hash(&self) -> u64 {
        self.iter()
            .map(|(account, record)| item(account.id, record))
            .collect::<Sum>()
            .0
    }
}

fn item(account: AccountId, record: &AccountRecord) -> u64 {
    let words = [u64::from(account.0), record.status as u64, record.cancel_after.0];
    hash::item(Kind::Account, words)
}
