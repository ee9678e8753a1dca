//! What the seat is made of. A model of it is checked with other primitives of the same names.

pub(super) use std::sync::atomic::{AtomicUsize, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard, PoisonError};
