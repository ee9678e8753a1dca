//! Exit codes. Scripts tell by them what became of a request.
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | it was done |
//! | 1 | the command line, the configuration or this machine is at fault |
//! | 2 | the exchange refused it: it was not executed |
//! | 3 | it may have been executed: ask again with the same id; or it was taken up and is not done yet |
//! | 4 | the exchange does not answer, and nothing was changed |
//! | 5 | a replay found a difference |

use std::fmt;

use client::ClientError;

/// A replay found a difference; what it is was shown.
#[derive(Debug)]
pub struct Difference;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the replay found a difference")
    }
}

impl std::error::Error for Difference {}

/// What was asked was taken up, and was not done within the time for which it was waited.
#[derive(Debug, thiserror::Error)]
#[error("it was taken up and is not done yet: {0}")]
pub struct NotDoneYet(pub String);

/// What the help says of exit codes.
pub const HELP: &str = "Exit codes: 0 done; 1 the command line, the configuration or this machine is at fault; \
2 refused, not executed; 3 it may have been executed, ask again with the same id; 4 the exchange does not answer, \
nothing was changed; 5 a replay found a difference.";

/// The exit code of an error.
pub fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<Difference>() {
        return 5;
    }
    if error.is::<NotDoneYet>() {
        return 3;
    }
    match error.downcast_ref::<ClientError>() {
        None | Some(ClientError::Usage(_)) => 1,
        Some(ClientError::Refused(_)) => 2,
        Some(ClientError::Unknown { .. } | ClientError::NotUnderstood(_)) => 3,
        Some(ClientError::Unavailable(_)) => 4,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn each_outcome_has_its_code() {
        let of = |error: ClientError| code_of(&Err::<(), _>(error).context("place the order").unwrap_err());
        let unknown = ClientError::Unknown {
            request_id: "r".into(),
            why: "x".into(),
        };
        assert_eq!(code_of(&anyhow!("x")), 1);
        assert_eq!(of(ClientError::Usage("x".into())), 1);
        assert_eq!(of(unknown), 3);
        assert_eq!(of(ClientError::Unavailable("x".into())), 4);
        assert_eq!(code_of(&Difference.into()), 5);
        assert_eq!(code_of(&NotDoneYet("x".into()).into()), 3);
    }
}
