//! Says how far a step is while it runs, from a thread that wakes once a second.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::driver::Progress;

/// How often it says something.
const EVERY: Duration = Duration::from_secs(1);

/// Says how far a step is until it is dropped. It is silent where nobody watches.
pub struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Of a step of so many requests a second, and so many messages.
    pub fn start(per_second: f64, messages: u64, progress: Arc<Progress>) -> Self {
        let (stop, stopped) = channel();
        let thread = std::io::stderr().is_terminal().then(|| {
            std::thread::spawn(move || {
                while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                    let due = progress.due.load(Ordering::Relaxed);
                    let waiting = due.saturating_sub(progress.answered.load(Ordering::Relaxed));
                    let percent = due * 100 / messages.max(1);
                    eprint!("\r  {per_second:.0}/s  {percent:>3}%  {waiting} without an answer\x1b[K");
                    let _ = std::io::stderr().flush();
                }
                eprint!("\r\x1b[K");
            })
        });
        Self {
            stop: Some(stop),
            thread,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It ends by itself, and a panic there concerns only what it says.
            let _ = thread.join();
        }
    }
}
