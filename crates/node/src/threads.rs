//! The threads behind the core, and what shows when one of them panics.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use metrics::gauge;

/// A thread behind the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It writes the event log and tells the gateway.
    Publisher,
    /// It makes snapshots.
    Snapshots,
    /// It watches the disk.
    Disk,
    /// It keeps the links to the other nodes of the group.
    Peers,
    /// It votes on which region is active.
    Lease,
}

impl Role {
    /// The thread's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Snapshots => "snapshots",
            Self::Disk => "disk",
            Self::Peers => "peers",
            Self::Lease => "lease",
        }
    }

    /// True if nothing that comes here can be answered without it.
    pub fn is_vital(self) -> bool {
        matches!(self, Self::Publisher | Self::Peers)
    }

    /// What is lost without it, and what to do.
    pub fn lost(self) -> &'static str {
        match self {
            Self::Publisher => {
                "The publisher panicked: streams and queries no longer follow what is executed. Keep the log for the \
                 developers and restart the node."
            }
            Self::Snapshots => {
                "The thread that makes snapshots panicked: the journal grows until the disk is full. Keep the log for \
                 the developers and restart the node."
            }
            Self::Disk => {
                "The thread that watches the disk panicked: nobody notices when it is full. Keep the log for the \
                 developers and restart the node."
            }
            Self::Peers => {
                "A thread of the links between the nodes panicked: this node may not hear of the others or they of it. \
                 Keep the log for the developers and restart the node."
            }
            Self::Lease => {
                "A thread of the lease voter panicked: the other two go on without it. Keep the log for the developers and \
                 restart the node."
            }
        }
    }
}

/// Which threads have panicked.
#[derive(Debug, Default)]
pub struct Threads {
    panicked: Mutex<Vec<Role>>,
}

impl Threads {
    /// Starts a thread. Its panic is logged at once, counted in the metrics, and shown by the health checks.
    pub fn spawn(self: &Arc<Self>, role: Role, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        // Some roles have several threads, and a later one must not cover up the panic of an earlier one.
        if !self.panicked().contains(&role) {
            gauge!("meridian_thread_panicked", "thread" => role.name()).set(0.0);
        }
        let guard = Guard {
            threads: Arc::clone(self),
            role,
        };
        std::thread::Builder::new().name(role.name().to_owned()).spawn(move || {
            let _guard = guard;
            work();
        })
    }

    /// The threads that have panicked: the vital ones first.
    pub fn panicked(&self) -> Vec<Role> {
        let mut panicked = self.panicked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        panicked.sort_by_key(|role| !role.is_vital());
        panicked
    }
}

/// Dropped at the thread's end.
struct Guard {
    threads: Arc<Threads>,
    role: Role,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let role = self.role;
        let mut panicked = self.threads.panicked.lock().unwrap_or_else(PoisonError::into_inner);
        panicked.push(role);
        drop(panicked);
        gauge!("meridian_thread_panicked", "thread" => role.name()).set(1.0);
        tracing::error!(thread = role.name(), "{}", role.lost());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_shows_and_an_end_does_not() {
        let threads = Arc::new(Threads::default());
        threads.spawn(Role::Disk, || {}).unwrap().join().unwrap();
        assert_eq!(threads.panicked(), []);
        for role in [Role::Snapshots, Role::Publisher] {
            threads
                .spawn(role, || panic!("on purpose"))
                .unwrap()
                .join()
                .unwrap_err();
        }
        assert_eq!(threads.panicked(), [Role::Publisher, Role::Snapshots]);
    }
}
