//! What is due when: orders' expiries, accounts' dead man's switches, and instruments whose book is being emptied.
//!
//! A command takes from here at most as many orders as the rules say; what is left stays due, so that the next command
//! (a clock command, if there is no other) goes on.

use std::collections::BTreeSet;

use types::{AccountId, InstrumentId, Sequence, Timestamp};

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines {
    orders: BTreeSet<(Timestamp, Sequence)>,
    accounts: BTreeSet<(Timestamp, AccountId)>,
    purges: BTreeSet<InstrumentId>,
    next: Timestamp,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Expire the order of this sequence.
    Order(Sequence),
    /// Cancel the account's orders.
    Account(AccountId),
    /// Cancel the instrument's orders.
    Purge(InstrumentId),
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            orders: BTreeSet::new(),
            accounts: BTreeSet::new(),
            purges: BTreeSet::new(),
            next: Timestamp::FAR_FUTURE,
        }
    }
}

impl Deadlines {
    /// When the first of them is due; [`Timestamp::FAR_FUTURE`] if there is none.
    #[inline]
    pub(crate) fn next(&self) -> Timestamp {
        self.next
    }

    /// What is due at this time and comes first.
    pub(crate) fn due(&self, now: Timestamp) -> Option<Due> {
        if let Some((deadline, sequence)) = self.orders.first()
            && *deadline <= now
        {
            return Some(Due::Order(*sequence));
        }
        if let Some((deadline, account)) = self.accounts.first()
            && *deadline <= now
        {
            return Some(Due::Account(*account));
        }
        self.purges.first().map(|instrument| Due::Purge(*instrument))
    }

    pub(crate) fn add_order(&mut self, deadline: Timestamp, sequence: Sequence) {
        self.orders.insert((deadline, sequence));
        self.next = self.next.min(deadline);
    }

    pub(crate) fn remove_order(&mut self, deadline: Timestamp, sequence: Sequence) {
        self.orders.remove(&(deadline, sequence));
        self.find_next();
    }

    /// Moves an account's switch; [`Timestamp::FAR_FUTURE`] is off.
    pub(crate) fn move_account(&mut self, account: AccountId, from: Timestamp, to: Timestamp) {
        self.accounts.remove(&(from, account));
        if to != Timestamp::FAR_FUTURE {
            self.accounts.insert((to, account));
        }
        self.find_next();
    }

    pub(crate) fn start_purge(&mut self, instrument: InstrumentId) {
        self.purges.insert(instrument);
        self.find_next();
    }

    pub(crate) fn end_purge(&mut self, instrument: InstrumentId) {
        self.purges.remove(&instrument);
        self.find_next();
    }

    fn find_next(&mut self) {
        let order = self.orders.first().map(|(deadline, _)| *deadline);
        let account = self.accounts.first().map(|(deadline, _)| *deadline);
        let purge = (!self.purges.is_empty()).then_some(Timestamp(0));
        let next = [order, account, purge].into_iter().flatten().min();
        self.next = next.unwrap_or(Timestamp::FAR_FUTURE);
    }
}
