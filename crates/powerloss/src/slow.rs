//! Syncs that take their time: a thread of their own does them, one after the other, and all else goes on meanwhile.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuser::{INodeNo, ReplyEmpty, ReplyWrite};

use crate::mount::{errno, lock, reply_empty};
use crate::store::Store;

/// Syncs that wait for their turn. Whoever asks for one more waits.
const WAITING_MAX: usize = 256;

/// A sync, and who waits for it.
#[derive(Debug)]
pub(crate) enum Job {
    /// Of a file.
    File(INodeNo, ReplyEmpty),
    /// Of a folder.
    Folder(INodeNo, ReplyEmpty),
    /// Of what was just written to a file, so many bytes.
    Write(INodeNo, u32, ReplyWrite),
}

/// Does syncs: at once, or as slowly as it is told to.
#[derive(Clone, Debug)]
pub(crate) struct SlowSyncs {
    store: Arc<Mutex<Store>>,
    takes_ns: Arc<AtomicU64>,
    waiting: SyncSender<(Duration, Job)>,
}

impl SlowSyncs {
    pub fn new(store: Arc<Mutex<Store>>) -> io::Result<Self> {
        let (waiting, jobs) = sync_channel(WAITING_MAX);
        let of_thread = Arc::clone(&store);
        // It ends with the last of those who could give it something to do.
        std::thread::Builder::new()
            .name("slow-syncs".to_owned())
            .spawn(move || run(&of_thread, &jobs))?;
        Ok(Self {
            store,
            takes_ns: Arc::default(),
            waiting,
        })
    }

    pub fn set_takes(&self, takes: Duration) {
        let takes = u64::try_from(takes.as_nanos()).unwrap_or(u64::MAX);
        self.takes_ns.store(takes, Ordering::Release);
    }

    pub fn sync(&self, job: Job) {
        let takes = Duration::from_nanos(self.takes_ns.load(Ordering::Acquire));
        if takes.is_zero() {
            return job.run(&self.store);
        }
        // The thread lives as long as this does.
        let _ = self.waiting.send((takes, job));
    }
}

fn run(store: &Mutex<Store>, jobs: &Receiver<(Duration, Job)>) {
    for (takes, job) in jobs {
        std::thread::sleep(takes);
        job.run(store);
    }
}

impl Job {
    fn run(self, store: &Mutex<Store>) {
        match self {
            Self::File(inode, reply) => {
                let synced = lock(store).sync_file(inode.0);
                reply_empty(reply, synced);
            }
            Self::Folder(inode, reply) => {
                let synced = lock(store).sync_folder(inode.0);
                reply_empty(reply, synced);
            }
            Self::Write(inode, bytes, reply) => {
                let synced = lock(store).sync_file(inode.0);
                match synced {
                    Ok(()) => reply.written(bytes),
                    Err(error) => reply.error(errno(error)),
                }
            }
        }
    }
}
