//! Brings the event log to the disk in small portions.
//!
//! Nobody waits for the event log to be on the disk. But left alone, the system gathers for half a minute what was written
//! and then sends hundreds of megabytes at once, and each sync of the journal must wait until the disk has taken its share
//! of them: for 20 to 70 ms, several times in a row. A portion at a time costs a sync next to nothing.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

/// The bytes of a portion.
const PORTION_BYTES: usize = 512 << 10;

/// A thread that syncs what was written. It ends with its sender.
#[derive(Debug)]
pub(super) struct Writeback {
    files: Sender<Arc<File>>,
    /// Bytes that were written since the thread was last asked.
    written: usize,
}

impl Writeback {
    pub(super) fn start() -> io::Result<Self> {
        // One portion under way and one that waits: on a disk that is slower, portions get larger.
        let (files, received) = bounded(1);
        std::thread::Builder::new()
            .name("events-sync".into())
            .spawn(move || work(&received))?;
        Ok(Self { files, written: 0 })
    }

    /// So many bytes were written to a file.
    pub(super) fn wrote(&mut self, file: &Arc<File>, bytes: usize) {
        self.written += bytes;
        if self.written >= PORTION_BYTES && self.files.try_send(Arc::clone(file)).is_ok() {
            self.written = 0;
        }
    }
}

fn work(files: &Receiver<Arc<File>>) {
    for file in files {
        // Whoever must know that it is on the disk syncs it, and hears of errors there.
        if let Err(error) = file.sync_data() {
            tracing::warn!(%error, "event log: a portion of it could not be brought to the disk yet");
        }
    }
}
