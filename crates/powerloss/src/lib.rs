//! A file system in memory that keeps what was synced apart from what wasn't, and can lose the rest: what a power cut
//! does to a disk, for tests of code that must survive one.
//!
//! ```text
//!  process under test ── write, fsync, rename ──> kernel ── FUSE ──> Store: durable + pending
//!  the test ── kill the process, then cut(seed) ───────────────────────^  what is pending is kept, dropped, torn, reordered
//!  the test ── start the process again on what is left
//! ```
//!
//! Data and size of a file become durable by fsync or fdatasync of the file; names become durable by fsync of the folder
//! that holds them, and a new file's or folder's name is no exception. See [`Store::cut`] for what a cut may do.
//!
//! It needs `/dev/fuse`, and root or fusermount3: [`unavailable`] says what is missing. Tests only, never production.

mod data;
mod mount;
mod names;
mod random;
mod slow;
mod store;

pub use mount::{Mounted, unavailable, unmount_left_behind};
pub use random::Random;
pub use store::{CutReport, Store, StoreError, Syncs};
