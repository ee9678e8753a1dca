//! The reference client of Meridian: what a good client does, in code.

mod backoff;
mod credentials;
mod random;

pub use backoff::Backoff;
pub use credentials::{Credentials, CredentialsError, Secret};
pub use random::Random;
