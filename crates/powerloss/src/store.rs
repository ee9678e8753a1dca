//! The whole file system as plain data: no kernel, no disk, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::data::{Choice, Data};
use crate::names::{Inode, Names, put};
use crate::random::Random;

/// The root folder.
pub(crate) const ROOT: Inode = 1;

/// What fsync and fdatasync do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syncs {
    /// What they promise.
    #[default]
    Honest,
    /// Nothing for files, though they say they did: as if the program left them out, or the disk lied.
    IgnoredForFiles,
    /// Nothing at all, though they say they did.
    Ignored,
    /// They fail with an I/O error, and what was pending stays so.
    Failing,
}

/// Why an operation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No such file or folder.
    NotFound,
    /// There is one of that name.
    Exists,
    /// It is a file.
    NotAFolder,
    /// It is a folder.
    IsAFolder,
    /// The folder isn't empty.
    NotEmpty,
    /// The capacity is used up.
    Full,
    /// The sync failed, as it was told to.
    SyncFailed,
}

/// What a cut did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutReport {
    /// Files that had changes pending.
    pub files_pending: usize,
    /// Files of which something was lost.
    pub files_changed: usize,
    /// Names that are missing, are back, or mean something else than processes saw.
    pub names_changed: usize,
}

/// A file system in memory that knows what is durable.
#[derive(Clone, Debug)]
pub struct Store {
    nodes: BTreeMap<Inode, Node>,
    next_inode: Inode,
    next_operation: u64,
    syncs: Syncs,
    bytes_max: Option<usize>,
    sync_count: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub mode: u16,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    File(Data),
    Folder(Names),
}

impl Default for Store {
    fn default() -> Self {
        let root = Node {
            mode: 0o755,
            kind: Kind::Folder(Names::default()),
        };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next_inode: ROOT + 1,
            next_operation: 1,
            syncs: Syncs::Honest,
            bytes_max: None,
            sync_count: 0,
        }
    }
}

impl Store {
    /// Sets what fsync and fdatasync do from now on.
    pub fn set_syncs(&mut self, syncs: Syncs) {
        self.syncs = syncs;
    }

    /// Sets how many bytes all files together may have; a write beyond fails as on a full disk.
    pub fn set_bytes_max(&mut self, bytes_max: Option<usize>) {
        self.bytes_max = bytes_max;
    }

    /// How many bytes all files together may have, if there is a limit.
    pub fn bytes_max(&self) -> Option<usize> {
        self.bytes_max
    }

    /// How many syncs of files were asked for.
    pub fn sync_count(&self) -> u64 {
        self.sync_count
    }

    /// How many bytes all files together have.
    pub fn bytes(&self) -> usize {
        let sizes = self.nodes.values().map(|node| match &node.kind {
            Kind::File(data) => data.current.len(),
            Kind::Folder(_) => 0,
        });
        sizes.sum()
    }

    /// The power goes. The process that used the files must be dead. What is durable stays; of what is pending, a choice
    /// that the seed makes:
    ///
    /// - a file has its durable bytes and size, all pending ones, those of some moment, or any mixture of the versions
    ///   that each 512-byte sector, and the size, had since the last sync;
    /// - a name means what it meant durably or at any moment since; the two halves of a rename go their own ways, but a
    ///   durable file or folder that was not deleted keeps at least one of its names.
    pub fn cut(&mut self, seed: u64) -> CutReport {
        let mut random = Random::new(seed);
        let mut report = CutReport::default();
        self.cut_names(&mut random, &mut report);
        self.forget_unreachable();
        for node in self.nodes.values_mut() {
            if let Kind::File(data) = &mut node.kind
                && data.is_pending()
            {
                report.files_pending += 1;
                report.files_changed += usize::from(data.cut(Choice::random(&mut random), &mut random));
            }
        }
        report
    }

    /// Copies all files into an empty folder of a real disk, as evidence.
    ///
    /// # Errors
    /// What the disk says.
    pub fn export(&self, to: &Path) -> std::io::Result<()> {
        self.export_folder(ROOT, to)
    }

    fn export_folder(&self, folder: Inode, to: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(to)?;
        for (name, inode) in self.names(folder).into_iter().flat_map(|names| &names.current) {
            match self.nodes.get(inode).map(|node| &node.kind) {
                Some(Kind::File(data)) => std::fs::write(to.join(name), &data.current)?,
                Some(Kind::Folder(_)) => self.export_folder(*inode, &to.join(name))?,
                None => {}
            }
        }
        Ok(())
    }

    fn cut_names(&mut self, random: &mut Random, report: &mut CutReport) {
        let durable: BTreeSet<Inode> = self.reachable(|names| &names.durable);
        let wanted: BTreeMap<Inode, (Inode, OsString)> = self
            .reachable_names(|names| &names.current)
            .into_iter()
            .filter(|(_, _, inode)| durable.contains(inode))
            .map(|(folder, name, inode)| (inode, (folder, name)))
            .collect();
        let how = random.below(4);
        let last = self.next_operation;
        let moment = random.number() % (last + 1);
        for names in self.nodes.values_mut().filter_map(|node| node.kind.names_mut()) {
            for change in std::mem::take(&mut names.pending) {
                let keep = match how {
                    0 => false,
                    1 => true,
                    2 => change.operation <= moment,
                    _ => random.percent(50),
                };
                if keep {
                    put(&mut names.durable, &change.name, change.to);
                }
            }
        }
        // A durable file that was renamed and has lost both names gets the one that processes saw. Each pass makes at
        // least one more name what they saw, so it ends.
        loop {
            let present = self.reachable(|names| &names.durable);
            let Some((inode, (folder, name))) = wanted.iter().find(|(inode, _)| !present.contains(inode)) else {
                break;
            };
            let mut folder = *folder;
            let mut name = name.clone();
            let mut inode = *inode;
            // The folder itself may be the one that is missing.
            while !present.contains(&folder)
                && let Some((parent, own_name)) = wanted.get(&folder)
            {
                (inode, folder, name) = (folder, *parent, own_name.clone());
            }
            let Some(names) = self.nodes.get_mut(&folder).and_then(|node| node.kind.names_mut()) else {
                break;
            };
            if names.durable.get(&name) == Some(&inode) {
                // Its folder is new and was lost with everything in it.
                break;
            }
            put(&mut names.durable, &name, Some(inode));
        }
        for names in self.nodes.values_mut().filter_map(|node| node.kind.names_mut()) {
            let all: BTreeSet<&OsString> = names.current.keys().chain(names.durable.keys()).collect();
            report.names_changed += all
                .iter()
                .filter(|name| names.current.get(**name) != names.durable.get(**name))
                .count();
            names.current.clone_from(&names.durable);
        }
    }

    fn forget_unreachable(&mut self) {
        let reachable = self.reachable(|names| &names.current);
        self.nodes.retain(|inode, _| reachable.contains(inode));
        let nodes: BTreeSet<Inode> = self.nodes.keys().copied().collect();
        for names in self.nodes.values_mut().filter_map(|node| node.kind.names_mut()) {
            names.current.retain(|_, inode| nodes.contains(inode));
            names.durable.clone_from(&names.current);
        }
    }

    fn reachable(&self, which: fn(&Names) -> &BTreeMap<OsString, Inode>) -> BTreeSet<Inode> {
        let mut found: BTreeSet<Inode> = self
            .reachable_names(which)
            .into_iter()
            .map(|(_, _, inode)| inode)
            .collect();
        found.insert(ROOT);
        found
    }

    fn reachable_names(&self, which: fn(&Names) -> &BTreeMap<OsString, Inode>) -> Vec<(Inode, OsString, Inode)> {
        let mut found = Vec::new();
        let mut folders = vec![ROOT];
        let mut seen = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            if !seen.insert(folder) {
                continue;
            }
            for (name, inode) in self.names(folder).map(which).into_iter().flatten() {
                found.push((folder, name.clone(), *inode));
                folders.push(*inode);
            }
        }
        found
    }
}

/// What the kernel asks for.
impl Store {
    pub(crate) fn node(&self, inode: Inode) -> Result<&Node, StoreError> {
        self.nodes.get(&inode).ok_or(StoreError::NotFound)
    }

    pub(crate) fn lookup(&self, folder: Inode, name: &OsStr) -> Result<Inode, StoreError> {
        let Kind::Folder(names) = &self.node(folder)?.kind else {
            return Err(StoreError::NotAFolder);
        };
        names.current.get(name).copied().ok_or(StoreError::NotFound)
    }

    pub(crate) fn list(&self, folder: Inode) -> Result<Vec<(OsString, Inode, bool)>, StoreError> {
        let Kind::Folder(names) = &self.node(folder)?.kind else {
            return Err(StoreError::NotAFolder);
        };
        let entry = |(name, inode): (&OsString, &Inode)| {
            let is_folder = self.names(*inode).is_some();
            (name.clone(), *inode, is_folder)
        };
        Ok(names.current.iter().map(entry).collect())
    }

    pub(crate) fn create(
        &mut self,
        folder: Inode,
        name: &OsStr,
        mode: u16,
        is_folder: bool,
    ) -> Result<Inode, StoreError> {
        if self.lookup(folder, name).is_ok() {
            return Err(StoreError::Exists);
        }
        let inode = self.next_inode;
        self.set_name(folder, name, Some(inode))?;
        self.next_inode += 1;
        self.next_operation += 1;
        let kind = if is_folder {
            Kind::Folder(Names::default())
        } else {
            Kind::File(Data::default())
        };
        self.nodes.insert(inode, Node { mode, kind });
        Ok(inode)
    }

    pub(crate) fn remove(&mut self, folder: Inode, name: &OsStr, is_folder: bool) -> Result<(), StoreError> {
        let inode = self.lookup(folder, name)?;
        match (self.names(inode), is_folder) {
            (Some(_), false) => return Err(StoreError::IsAFolder),
            (None, true) => return Err(StoreError::NotAFolder),
            (Some(names), true) if !names.current.is_empty() => return Err(StoreError::NotEmpty),
            _ => {}
        }
        self.set_name(folder, name, None)?;
        self.next_operation += 1;
        Ok(())
    }

    pub(crate) fn rename(
        &mut self,
        (folder, name): (Inode, &OsStr),
        (to_folder, to_name): (Inode, &OsStr),
        may_replace: bool,
    ) -> Result<(), StoreError> {
        let inode = self.lookup(folder, name)?;
        if let Ok(old) = self.lookup(to_folder, to_name) {
            if !may_replace {
                return Err(StoreError::Exists);
            }
            if old == inode {
                return Ok(());
            }
            if self.names(old).is_some_and(|names| !names.current.is_empty()) {
                return Err(StoreError::NotEmpty);
            }
        }
        self.set_name(to_folder, to_name, Some(inode))?;
        self.set_name(folder, name, None)?;
        self.next_operation += 1;
        Ok(())
    }

    pub(crate) fn set_mode(&mut self, inode: Inode, mode: u16) -> Result<(), StoreError> {
        self.nodes.get_mut(&inode).ok_or(StoreError::NotFound)?.mode = mode;
        Ok(())
    }

    pub(crate) fn read(&self, inode: Inode, offset: usize, size: usize) -> Result<&[u8], StoreError> {
        let Kind::File(data) = &self.node(inode)?.kind else {
            return Err(StoreError::IsAFolder);
        };
        let start = offset.min(data.current.len());
        let end = start.saturating_add(size).min(data.current.len());
        Ok(&data.current[start..end])
    }

    pub(crate) fn write(&mut self, inode: Inode, offset: usize, bytes: &[u8]) -> Result<(), StoreError> {
        self.check_room(inode, offset + bytes.len())?;
        self.data_mut(inode)?.write(offset, bytes);
        Ok(())
    }

    pub(crate) fn resize(&mut self, inode: Inode, size: usize) -> Result<(), StoreError> {
        self.check_room(inode, size)?;
        self.data_mut(inode)?.resize(size);
        Ok(())
    }

    pub(crate) fn sync_file(&mut self, inode: Inode) -> Result<(), StoreError> {
        self.sync_count += 1;
        match self.syncs {
            Syncs::Honest => self.data_mut(inode)?.sync(),
            Syncs::IgnoredForFiles | Syncs::Ignored => {}
            Syncs::Failing => return Err(StoreError::SyncFailed),
        }
        Ok(())
    }

    pub(crate) fn sync_folder(&mut self, inode: Inode) -> Result<(), StoreError> {
        match self.syncs {
            Syncs::Ignored => return Ok(()),
            Syncs::Failing => return Err(StoreError::SyncFailed),
            Syncs::Honest | Syncs::IgnoredForFiles => {}
        }
        let names = self
            .nodes
            .get_mut(&inode)
            .and_then(|node| node.kind.names_mut())
            .ok_or(StoreError::NotAFolder)?;
        // The other half of a rename is in the same transaction of any journaling file system.
        let operations = names.sync();
        for names in self.nodes.values_mut().filter_map(|node| node.kind.names_mut()) {
            names.sync_operations(&operations);
        }
        Ok(())
    }

    fn names(&self, inode: Inode) -> Option<&Names> {
        match &self.nodes.get(&inode)?.kind {
            Kind::Folder(names) => Some(names),
            Kind::File(_) => None,
        }
    }

    fn data_mut(&mut self, inode: Inode) -> Result<&mut Data, StoreError> {
        match &mut self.nodes.get_mut(&inode).ok_or(StoreError::NotFound)?.kind {
            Kind::File(data) => Ok(data),
            Kind::Folder(_) => Err(StoreError::IsAFolder),
        }
    }

    fn set_name(&mut self, folder: Inode, name: &OsStr, to: Option<Inode>) -> Result<(), StoreError> {
        let operation = self.next_operation;
        let node = self.nodes.get_mut(&folder).ok_or(StoreError::NotFound)?;
        node.kind
            .names_mut()
            .ok_or(StoreError::NotAFolder)?
            .set(operation, name, to);
        Ok(())
    }

    fn check_room(&self, inode: Inode, size: usize) -> Result<(), StoreError> {
        let Some(bytes_max) = self.bytes_max else { return Ok(()) };
        let Kind::File(data) = &self.node(inode)?.kind else {
            return Err(StoreError::IsAFolder);
        };
        let more = size.saturating_sub(data.current.len());
        if more > 0 && self.bytes() + more > bytes_max {
            return Err(StoreError::Full);
        }
        Ok(())
    }
}

impl Kind {
    fn names_mut(&mut self) -> Option<&mut Names> {
        match self {
            Self::Folder(names) => Some(names),
            Self::File(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
