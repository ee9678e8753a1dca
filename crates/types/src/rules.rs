//! Limits that `apply` reads. They are state: only a sequenced command changes them.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The limits that `apply` reads, with a version that each change raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Raised by each change.
    pub version: u32,
    /// How long a request id is remembered at least, in nanoseconds.
    pub request_window_ns: u64,
    /// How many bytes the memory of request ids may take.
    pub request_memory_bytes_max: u64,
    /// How many orders an account may have open.
    pub open_orders_per_account_max: u32,
    /// How many orders may be open in the whole group.
    pub open_orders_max: u32,
    /// How many accounts there may be.
    pub accounts_max: u32,
    /// How many instruments there may be.
    pub instruments_max: u32,
    /// How many active keys an account may have.
    pub keys_per_account_max: u32,
    /// How many orders one command may expire or cancel on its way; the rest follows with the next command.
    pub expiries_per_command_max: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            version: 1,
            request_window_ns: Timestamp::DAY,
            request_memory_bytes_max: 1 << 30,
            open_orders_per_account_max: 100_000,
            open_orders_max: 8_000_000,
            accounts_max: 2_000_000,
            instruments_max: 10_000,
            keys_per_account_max: 20,
            expiries_per_command_max: 1_000,
        }
    }
}
