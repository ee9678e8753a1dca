//! The store as a mounted file system.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::slow::{Job, SlowSyncs};
use crate::store::{CutReport, Kind, ROOT, Store, StoreError, Syncs};

/// The kernel keeps nothing: every question comes to the store.
const CACHED_FOR: Duration = Duration::ZERO;
/// Open for synchronous writes (`O_DSYNC` of Linux, which `O_SYNC` contains).
const O_DSYNC: i32 = 0o10000;
/// Reported as the size of the disk when no limit is set.
const BYTES_UNLIMITED: usize = 1 << 40;
const BLOCK_BYTES: u32 = 4096;
/// What the mounts of a process are called, before its id.
const NAME: &str = "powerloss-";
/// Where the kernel lists what is mounted: what, where, and more.
const MOUNTS: &str = "/proc/self/mounts";

/// A mounted store; it is unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    store: Arc<Mutex<Store>>,
    slow: SlowSyncs,
    session: Option<BackgroundSession>,
}

/// Why nothing can be mounted here; none if it can.
pub fn unavailable() -> Option<&'static str> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    REASON.get_or_init(probe).as_deref()
}

fn probe() -> Option<String> {
    if !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse".to_owned());
    }
    let folder = std::env::temp_dir().join(format!("powerloss-probe-{}", std::process::id()));
    let result = std::fs::create_dir_all(&folder).and_then(|()| Mounted::new(Store::default(), &folder));
    let reason = result
        .err()
        .map(|error| format!("FUSE can't be mounted (root or fusermount3 is needed): {error}"));
    // Left behind, an empty folder does no harm.
    let _ = std::fs::remove_dir(&folder);
    reason
}

/// Unmounts what processes left behind that were killed. What belongs to one that still runs is left alone.
///
/// # Errors
/// If what is mounted can't be read.
pub fn unmount_left_behind() -> io::Result<()> {
    for line in std::fs::read_to_string(MOUNTS)?.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(at)) = (words.next(), words.next()) else {
            continue;
        };
        let process = name.strip_prefix(NAME).and_then(|process| process.parse::<u32>().ok());
        if process.is_none_or(|process| Path::new(&format!("/proc/{process}")).exists()) {
            continue;
        }
        // Nobody answers there any more, so it is taken out of sight; who is still in it may be as long as he likes.
        let mut unmount = Command::new("umount");
        let _ = unmount.args(["--lazy", at]).stderr(Stdio::null()).status();
    }
    Ok(())
}

impl Mounted {
    /// Mounts the store at an existing folder.
    ///
    /// # Errors
    /// What the kernel or fusermount3 says.
    pub fn new(store: Store, at: &Path) -> io::Result<Self> {
        let store = Arc::new(Mutex::new(store));
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName(format!("{NAME}{}", std::process::id())),
            MountOption::NoSuid,
            MountOption::NoDev,
        ];
        let slow = SlowSyncs::new(Arc::clone(&store))?;
        let files = Files {
            store: Arc::clone(&store),
            slow: slow.clone(),
        };
        let session = fuser::spawn_mount(files, at, &config)?;
        Ok(Self {
            store,
            slow,
            session: Some(session),
        })
    }

    /// The store, locked: nobody reads or writes a file meanwhile.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// Sets what fsync and fdatasync do from now on.
    pub fn set_syncs(&self, syncs: Syncs) {
        self.store().set_syncs(syncs);
    }

    /// Sets how long each sync takes from now on, one after the other; all else goes on meanwhile. What is under way keeps
    /// to what was set before.
    pub fn set_sync_takes(&self, takes: Duration) {
        self.slow.set_takes(takes);
    }

    /// The power goes: see [`Store::cut`]. The process that used the files must be dead.
    pub fn cut(&self, seed: u64) -> CutReport {
        self.store().cut(seed)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // A mount that is in use stays until the process ends; nothing can be done about it here.
            let _ = session.umount_and_join();
        }
    }
}

pub(crate) fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Files {
    store: Arc<Mutex<Store>>,
    slow: SlowSyncs,
}

impl Files {
    fn attributes(store: &Store, inode: u64, request: &Request) -> Result<FileAttr, StoreError> {
        let node = store.node(inode)?;
        let (kind, size) = match &node.kind {
            Kind::File(data) => (FileType::RegularFile, data.current.len() as u64),
            Kind::Folder(_) => (FileType::Directory, 0),
        };
        Ok(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: node.mode,
            nlink: 1,
            uid: request.uid(),
            gid: request.gid(),
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }

    fn make(
        &self,
        request: &Request,
        (parent, name): (INodeNo, &OsStr),
        mode: u32,
        is_folder: bool,
    ) -> Result<FileAttr, StoreError> {
        let mut store = lock(&self.store);
        let inode = store.create(parent.0, name, (mode & 0o7777) as u16, is_folder)?;
        Self::attributes(&store, inode, request)
    }
}

pub(crate) fn errno(error: StoreError) -> Errno {
    match error {
        StoreError::NotFound => Errno::ENOENT,
        StoreError::Exists => Errno::EEXIST,
        StoreError::NotAFolder => Errno::ENOTDIR,
        StoreError::IsAFolder => Errno::EISDIR,
        StoreError::NotEmpty => Errno::ENOTEMPTY,
        StoreError::Full => Errno::ENOSPC,
        StoreError::SyncFailed => Errno::EIO,
    }
}

pub(crate) fn reply_empty(reply: ReplyEmpty, result: Result<(), StoreError>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn reply_entry(reply: ReplyEntry, result: Result<FileAttr, StoreError>) {
    match result {
        Ok(attributes) => reply.entry(&CACHED_FOR, &attributes, Generation(0)),
        Err(error) => reply.error(errno(error)),
    }
}

fn reply_attributes(reply: ReplyAttr, result: Result<FileAttr, StoreError>) {
    match result {
        Ok(attributes) => reply.attr(&CACHED_FOR, &attributes),
        Err(error) => reply.error(errno(error)),
    }
}

impl Filesystem for Files {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let store = lock(&self.store);
        let result = store
            .lookup(parent.0, name)
            .and_then(|inode| Self::attributes(&store, inode, request));
        reply_entry(reply, result);
    }

    fn getattr(&self, request: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let store = lock(&self.store);
        reply_attributes(reply, Self::attributes(&store, inode.0, request));
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut store = lock(&self.store);
        let resized = size.map_or(Ok(()), |size| store.resize(inode.0, size as usize));
        let moded = resized.and_then(|()| mode.map_or(Ok(()), |mode| store.set_mode(inode.0, (mode & 0o7777) as u16)));
        reply_attributes(reply, moded.and_then(|()| Self::attributes(&store, inode.0, request)));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        reply_entry(reply, self.make(request, (parent, name), mode & !umask, true));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        reply_entry(reply, self.make(request, (parent, name), mode & !umask, false));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(request, (parent, name), mode & !umask, false) {
            Ok(attributes) => {
                reply.created(
                    &CACHED_FOR,
                    &attributes,
                    Generation(0),
                    FileHandle(0),
                    FopenFlags::FOPEN_DIRECT_IO,
                );
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, lock(&self.store).remove(parent.0, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(reply, lock(&self.store).remove(parent.0, name, true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to_parent: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.intersects(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_WHITEOUT) {
            return reply.error(Errno::EINVAL);
        }
        let may_replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        reply_empty(
            reply,
            lock(&self.store).rename((parent.0, name), (to_parent.0, to_name), may_replace),
        );
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match lock(&self.store).node(inode.0) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match lock(&self.store).read(inode.0, offset as usize, size as usize) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = lock(&self.store).write(inode.0, offset as usize, bytes);
        match written {
            Ok(()) if flags.0 & O_DSYNC != 0 => self.slow.sync(Job::Write(inode, bytes.len() as u32, reply)),
            Ok(()) => reply.written(bytes.len() as u32),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.slow.sync(Job::File(inode, reply));
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.slow.sync(Job::Folder(inode, reply));
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let entries = match lock(&self.store).list(inode.0) {
            Ok(entries) => entries,
            Err(error) => return reply.error(errno(error)),
        };
        let dots = [(".".into(), inode.0, true), ("..".into(), ROOT, true)];
        for (index, (name, inode, is_folder)) in dots.into_iter().chain(entries).enumerate().skip(offset as usize) {
            let kind = if is_folder {
                FileType::Directory
            } else {
                FileType::RegularFile
            };
            if reply.add(INodeNo(inode), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let mut store = lock(&self.store);
        let end = (offset + length) as usize;
        let result = match store.node(inode.0).map(|node| &node.kind) {
            Ok(Kind::File(data)) if data.current.len() >= end => Ok(()),
            _ => store.resize(inode.0, end),
        };
        reply_empty(reply, result);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let store = lock(&self.store);
        let block = BLOCK_BYTES as usize;
        let total = store.bytes_max().unwrap_or(BYTES_UNLIMITED);
        let free = total.saturating_sub(store.bytes());
        let blocks = |bytes: usize| (bytes / block) as u64;
        reply.statfs(
            blocks(total),
            blocks(free),
            blocks(free),
            1 << 20,
            1 << 20,
            BLOCK_BYTES,
            255,
            BLOCK_BYTES,
        );
    }
}
