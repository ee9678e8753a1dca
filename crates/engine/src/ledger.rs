//! Who holds how much of what, and the proof at the end of every command that no money came or went.
//!
//! A balance has a cell; cells are never removed, so an order keeps the numbers of its two cells and matching needs no
//! look-up. A command's first change of a cell notes what stood there. [`Ledger::settle`] at the command's end walks only
//! the cells that were touched: it asserts that nothing is negative and that the changes of each asset add up to exactly
//! what was deposited or withdrawn, updates the hash, and tells the new balances.

use types::{AccountId, Amount, AssetId, Balance, BalanceReason, Event};

use crate::flat_index::FlatIndex;
use crate::hash::{self, Kind, Sum};
use crate::prefetch::prefetch;

/// The number of a balance's cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell(pub(crate) u32);

impl Cell {
    /// Of an order that has none yet.
    pub(crate) const NONE: Self = Self(u32::MAX);
}

impl Default for Cell {
    fn default() -> Self {
        Self::NONE
    }
}

/// All balances and the supply of each asset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    cells: Vec<Held>,
    index: FlatIndex,
    /// What exists of each asset: deposits less withdrawals.
    supply: Vec<i64>,
    /// By how much the running command changed the supply, and the balances while they are added up.
    unsettled: Vec<i64>,
    touched: Vec<Touched>,
    sum: Sum,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    available: i64,
    held: i64,
    /// Its part of the state's hash, as of the last settlement.
    item: u64,
    account: AccountId,
    asset: AssetId,
    touched: bool,
}

#[derive(Clone, Copy, Debug)]
struct Touched {
    cell: u32,
    reason: BalanceReason,
    available: i64,
    held: i64,
}

impl Ledger {
    /// Makes room for one more asset, of which nothing exists.
    pub(crate) fn add_asset(&mut self) {
        self.supply.push(0);
        self.unsettled.push(0);
    }

    pub(crate) fn supply(&self, asset: AssetId) -> i64 {
        self.supply[usize::from(asset.0)]
    }

    /// The cell of a balance that was ever used.
    #[inline]
    pub(crate) fn find(&self, account: AccountId, asset: AssetId) -> Option<Cell> {
        let is_it = |place: u32| {
            let cell = &self.cells[place as usize];
            cell.account == account && cell.asset == asset
        };
        self.index.find(cell_hash(account, asset), is_it).map(Cell)
    }

    /// The same, if this is probably the cell.
    #[inline]
    pub(crate) fn find_near(&self, probably: Cell, account: AccountId, asset: AssetId) -> Option<Cell> {
        match self.cells.get(probably.0 as usize) {
            Some(cell) if cell.account == account && cell.asset == asset => Some(probably),
            _ => self.find(account, asset),
        }
    }

    /// Asks for the memory by which a balance is found.
    #[inline]
    pub(crate) fn prefetch_index(&self, account: AccountId, asset: AssetId) {
        self.index.prefetch(cell_hash(account, asset));
    }

    /// What is probably the balance's cell.
    #[inline]
    pub(crate) fn peek(&self, account: AccountId, asset: AssetId) -> Option<Cell> {
        self.index.peek(cell_hash(account, asset)).map(Cell)
    }

    /// Asks for the memory of a cell.
    #[inline]
    pub(crate) fn prefetch(&self, cell: Cell) {
        prefetch(&self.cells, cell.0 as usize);
    }

    /// The cell of a balance, made if there is none.
    pub(crate) fn open(&mut self, account: AccountId, asset: AssetId) -> Cell {
        if let Some(cell) = self.find(account, asset) {
            return cell;
        }
        let place = u32::try_from(self.cells.len()).expect("balances are fewer than 2^32");
        self.cells.push(Held {
            available: 0,
            held: 0,
            item: 0,
            account,
            asset,
            touched: false,
        });
        self.index.insert_sparsely(cell_hash(account, asset), place);
        Cell(place)
    }

    #[inline]
    pub(crate) fn available(&self, cell: Cell) -> i64 {
        self.cells[cell.0 as usize].available
    }

    pub(crate) fn balance(&self, cell: Cell) -> Balance {
        self.cells[cell.0 as usize].balance()
    }

    /// Changes what is available and what is held, for orders.
    #[inline]
    pub(crate) fn change(&mut self, cell: Cell, available: i64, held: i64) {
        self.change_for(cell, available, held, BalanceReason::Order);
    }

    /// Money comes in (positive) or goes out (negative).
    pub(crate) fn transfer(&mut self, cell: Cell, amount: i64) {
        let reason = if amount < 0 {
            BalanceReason::Withdrawal
        } else {
            BalanceReason::Deposit
        };
        let asset = usize::from(self.cells[cell.0 as usize].asset.0);
        self.supply[asset] += amount;
        self.unsettled[asset] -= amount;
        self.change_for(cell, amount, 0, reason);
    }

    #[inline]
    fn change_for(&mut self, cell: Cell, available: i64, held: i64, reason: BalanceReason) {
        let at = &mut self.cells[cell.0 as usize];
        if !at.touched {
            at.touched = true;
            self.touched.push(Touched {
                cell: cell.0,
                reason,
                available: at.available,
                held: at.held,
            });
        }
        at.available += available;
        at.held += held;
    }

    /// Ends a command: see the module.
    pub(crate) fn settle(&mut self, events: &mut Vec<Event>) {
        for touched in &self.touched {
            let cell = &mut self.cells[touched.cell as usize];
            cell.touched = false;
            if cell.available == touched.available && cell.held == touched.held {
                continue;
            }
            assert!(
                cell.available >= 0 && cell.held >= 0,
                "no balance is ever negative: {cell:?}"
            );
            let change = (cell.available + cell.held) - (touched.available + touched.held);
            self.unsettled[usize::from(cell.asset.0)] += change;
            self.sum.remove(cell.item);
            cell.item = cell.find_item();
            self.sum.add(cell.item);
            events.push(Event::BalanceChanged {
                balance: cell.balance(),
                reason: touched.reason,
            });
        }
        for touched in &self.touched {
            let asset = usize::from(self.cells[touched.cell as usize].asset.0);
            assert!(
                self.unsettled[asset] == 0,
                "money of asset {asset} came or went by {}",
                self.unsettled[asset]
            );
        }
        self.touched.clear();
    }

    /// The balances that are not zero, by account and asset.
    pub(crate) fn balances(&self) -> Vec<Balance> {
        let cells = self.cells.iter().filter(|cell| cell.available != 0 || cell.held != 0);
        let mut balances: Vec<Balance> = cells.map(Held::balance).collect();
        balances.sort_unstable_by_key(|balance| (balance.account, balance.asset));
        balances
    }

    /// Takes a balance and the supply that it is a part of from a snapshot.
    pub(crate) fn restore(&mut self, balance: &Balance) -> Result<(), String> {
        let (available, held) = (balance.available.0, balance.held.0);
        let known = self.find(balance.account, balance.asset);
        let stands_already =
            known.is_some_and(|cell| self.balance(cell).available.0 != 0 || self.balance(cell).held.0 != 0);
        if available < 0 || held < 0 || stands_already {
            return Err(format!("the balance {balance:?} is negative or stands there twice"));
        }
        let Some(supply) = self.supply.get_mut(usize::from(balance.asset.0)) else {
            return Err(format!("the balance {balance:?} is of an unknown asset"));
        };
        let grown = supply.checked_add(available).and_then(|sum| sum.checked_add(held));
        *supply = grown
            .filter(|sum| *sum <= types::limits::AMOUNT_MAX)
            .ok_or("the supply of an asset is above its bound")?;
        let cell = self.open(balance.account, balance.asset);
        let at = &mut self.cells[cell.0 as usize];
        (at.available, at.held) = (available, held);
        at.item = at.find_item();
        self.sum.add(at.item);
        Ok(())
    }

    pub(crate) fn hash(&self) -> u64 {
        self.sum.0
    }

    pub(crate) fn recompute_hash(&self) -> u64 {
        self.cells.iter().map(Held::find_item).collect::<Sum>().0
    }

    /// True if the balances of every asset add up to its supply. Walks everything; for tests and restores.
    pub(crate) fn is_conserved(&self) -> bool {
        let mut totals = vec![0_i64; self.supply.len()];
        for cell in &self.cells {
            totals[usize::from(cell.asset.0)] += cell.available + cell.held;
        }
        totals == self.supply
    }
}

impl Held {
    fn balance(&self) -> Balance {
        Balance {
            account: self.account,
            asset: self.asset,
            available: Amount(self.available),
            held: Amount(self.held),
        }
    }

    /// A balance of nothing is as good as none.
    #[inline]
    fn find_item(&self) -> u64 {
        if self.available == 0 && self.held == 0 {
            return 0;
        }
        let who = u64::from(self.account.0) << 16 | u64::from(self.asset.0);
        hash::item(Kind::Balance, [who, self.available as u64, self.held as u64])
    }
}

#[inline]
fn cell_hash(account: AccountId, asset: AssetId) -> u32 {
    let key = u64::from(account.0) << 16 | u64::from(asset.0);
    hash::fold(key ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93) as u32
}
