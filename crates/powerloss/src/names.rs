//! The names in a folder: durable, and what was done to them since.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// The number of a file or folder.
pub(crate) type Inode = u64;

/// The names in a folder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// As processes see them.
    pub current: BTreeMap<OsString, Inode>,
    pub durable: BTreeMap<OsString, Inode>,
    pub pending: Vec<Change>,
}

/// A name got another meaning, or none.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Which operation made it: both halves of a rename have the same number. Later ones have higher numbers.
    pub operation: u64,
    pub name: OsString,
    pub to: Option<Inode>,
}

impl Names {
    pub fn set(&mut self, operation: u64, name: &OsStr, to: Option<Inode>) {
        put(&mut self.current, name, to);
        self.pending.push(Change {
            operation,
            name: name.to_owned(),
            to,
        });
    }

    /// Makes all pending changes durable; their operations are returned, so that the other halves of renames follow.
    pub fn sync(&mut self) -> Vec<u64> {
        let mut operations = Vec::new();
        for change in self.pending.drain(..) {
            put(&mut self.durable, &change.name, change.to);
            operations.push(change.operation);
        }
        operations
    }

    /// Makes durable what of these operations is pending here.
    pub fn sync_operations(&mut self, operations: &[u64]) {
        let Some(last) = self
            .pending
            .iter()
            .rposition(|change| operations.contains(&change.operation))
        else {
            return;
        };
        // What came before it is in the same log of the file system, so it is durable too.
        for change in self.pending.drain(..=last) {
            put(&mut self.durable, &change.name, change.to);
        }
    }
}

pub(crate) fn put(names: &mut BTreeMap<OsString, Inode>, name: &OsStr, to: Option<Inode>) {
    match to {
        Some(inode) => names.insert(name.to_owned(), inode),
        None => names.remove(name),
    };
}
