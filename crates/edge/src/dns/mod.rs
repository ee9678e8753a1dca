//! The DNS answerer: authoritative for a few names that lead to the active region, and for nothing else (RFC 1034, RFC
//! 1035). It asks nobody.

mod answers;
mod rate;
mod serve;

pub use answers::{Answerer, Picture, Replied};
pub use rate::{Allowance, RateLimit, Verdict};
pub(crate) use serve::Server;

pub use crate::figures::DnsOutcome;
